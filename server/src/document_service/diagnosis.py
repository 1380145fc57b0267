"""What ``document-service doctor`` looks at: every part the service needs, with the remedy for what is missing."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from document_service import __version__, running
from document_service.database import open_database
from document_service.errors import KeyStoreUnusable, ServiceError
from document_service.keys import KeyStore
from document_service.runtime import (
    hidden_loss,
    lacks_keys,
    open_address,
    owner_connection,
    prepare_database,
    refuse_absent_store,
)
from document_service.scanner import Scanner
from document_service.settings import SettingError, Settings
from document_service.store import lacks_objects, open_store
from document_service.tenants import Tenant, list_all

#: Below this much free space PostgreSQL and the store may stop in the middle of a day's work.
LOW_DISK_BYTES = 1024**3

#: So many tenants' FHIR servers are asked at once, and so many tenants are named in a line.
TENANTS_ASKED, TENANTS_NAMED = 32, 5

#: A service on this machine answers in milliseconds; a loaded one gets time to spare.
READY_SECONDS = 5.0

#: Without the proxies of the environment, as the service itself goes to a FHIR server.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

#: freshclam asks several times a day; a week without an answer means that it does not run.
OLD_SIGNATURES = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: ``state`` is ``ok``, ``note`` (works, but…) or ``missing`` (cannot serve)."""

    part: str
    state: str
    detail: str
    remedy: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The finding for ``--json``."""
        return {"part": self.part, "state": self.state, "detail": self.detail, "remedy": self.remedy}


async def examine(settings: Settings, folder: str, *, begun: bool) -> list[Finding]:
    """Look at every part; ``folder`` is what the data folder is called.

    Where nothing has begun yet, nothing is begun: a folder that is thrown away shows whether a start would succeed.
    """
    version = Finding("version", "ok", f"document-service {__version__}")
    loss = hidden_loss(settings)
    if loss is not None:
        return [version, await _examine_processes(settings), Finding("database", "missing", *loss)]
    if begun:
        here = Finding("data folder", "ok", folder)
        return [version, here, await _examine_processes(settings), *await _examine_parts(settings, begun=True)]
    nothing = Finding(
        "data folder",
        "note",
        f"there is nothing in {folder} yet",
        "`serve` begins it; if your data are elsewhere, name the folder with --data-dir or DOCUMENT_SERVICE_DATA_DIR",
    )
    with tempfile.TemporaryDirectory(prefix="document-service-doctor-") as trial:
        instead = replace(settings, data_dir=Path(trial), key_dir=settings.keys if settings.keys.exists() else None)
        return [version, nothing, await _examine_processes(settings), *await _examine_parts(instead, begun=False)]


async def _examine_processes(settings: Settings) -> Finding:
    """Never ``missing``: the doctor says whether the service can serve, running or not."""
    found = running.processes(settings.data_dir)
    workers = sum(one.kind == "worker" for one in found)
    beside = f"; {workers} {'worker' if workers == 1 else 'workers'} beside it" if workers else ""
    for one in found:
        if one.url is not None:
            told = await asyncio.to_thread(_readiness, one.url)
            return Finding("serve", "ok", f"process {one.pid} on {one.url}, {told}{beside}")
    return Finding(
        "serve",
        "note",
        f"no `serve` runs on this folder on this machine{beside}",
        f"document-service serve --data-dir {settings.data_dir.absolute()}",
    )


def _readiness(url: str) -> str:
    try:
        with _DIRECTLY.open(f"{url}/health/ready", timeout=READY_SECONDS):
            return "ready"
    except urllib.error.HTTPError as refused:
        parts = json.load(refused)["components"]
        return f"not ready: {', '.join(name for name, state in parts.items() if state == 'down')} down"
    except OSError:
        return "which does not answer"


async def _examine_parts(settings: Settings, *, begun: bool) -> list[Finding]:
    findings = []
    free = shutil.disk_usage(settings.data_dir).free
    low = free < LOW_DISK_BYTES
    remedy = "free some space" if low else None
    findings.append(Finding("disk", "note" if low else "ok", f"{free // 2**20} MB free for the data folder", remedy))
    database, tenants = await _examine_database(settings, begun=begun)
    keys = None
    remedy = "mount it, or restore the key folder from its own backup"
    try:
        if begun and lacks_keys(settings.keys) and (tenants or database.state != "ok"):
            # Opening would begin new keys where the others belong.
            raise KeyStoreUnusable(f"there are no keys in {settings.keys.absolute()}")
        keys = KeyStore.open(settings.keys)
        findings.append(Finding("keys", "ok", "the master key opens"))
    except (ServiceError, OSError, ValueError) as error:
        findings.append(Finding("keys", "missing", str(error), remedy))
    findings.append(database)
    if keys is not None:
        findings += await _examine_tenants(tenants, keys)
    if keys is not None and not (begun and database.state != "ok" and lacks_objects(settings.objects)):
        # Where the database says that objects are missing, opening would begin a store where another belongs.
        try:
            await open_store(settings.objects, keys).probe()
            findings.append(Finding("store", "ok", "objects can be written"))
        except (ServiceError, OSError, ValueError) as error:
            findings.append(Finding("store", "missing", str(error), "check DOCUMENT_SERVICE_OBJECT_STORE_URL"))
    if settings.oidc_issuer is None:
        findings.append(
            Finding("identity", "note", "the local issuer is in use", "set DOCUMENT_SERVICE_OIDC_ISSUER in production")
        )
    else:
        findings.append(Finding("identity", "ok", "tokens come from the configured issuer"))
    findings.append(await _examine_scanner(settings.clamd))
    return findings


async def _examine_scanner(clamd: str | None) -> Finding:
    """Never ``missing``: without a scanner the service serves everything but uploads."""
    if clamd is None:
        remedy = "set DOCUMENT_SERVICE_CLAMD, on Debian to unix:/run/clamav/clamd.ctl"
        return Finding("scanner", "note", "no virus scanner: uploads answer 503", remedy)
    scanner = Scanner(clamd)
    state = await scanner.state()
    if not state.available:
        return Finding("scanner", "note", f"uploads answer 503: {state.problem}", "start clamd, or mend its address")
    try:
        if not await scanner.tells_of_limits():
            return Finding(
                "scanner",
                "note",
                "clamd calls a file clean that is beyond its limits",
                "set AlertExceedsMax yes in clamd.conf and restart clamd",
            )
    except ServiceError as error:
        return Finding("scanner", "note", str(error), "see clamd's log")
    if state.signatures_at is None:
        return Finding("scanner", "note", f"ClamAV {state.engine}, signatures without a date", "run freshclam")
    age = datetime.now(UTC) - state.signatures_at
    told = (
        f"ClamAV {state.engine}, signatures {state.signatures} of {state.signatures_at:%Y-%m-%d}, {age.days} days old"
    )
    if age > OLD_SIGNATURES:
        return Finding("scanner", "note", told, "run freshclam, and see why it does not run by itself")
    return Finding("scanner", "ok", told)


async def _examine_tenants(tenants: list[Tenant], keys: KeyStore) -> list[Finding]:
    """Whose keys are missing, and whose FHIR server does not answer; what it answers is no matter here."""
    without = [tenant.tenant_id for tenant in tenants if not keys.has_tenant(tenant.tenant_id)]
    if without:
        back = "put back the copy of the key folder that belongs to this database, or name it with KEY_DIR"
        return [Finding("tenants", "missing", f"no key is here for {_listed(without)}", back)]
    if not tenants:
        return [Finding("tenants", "note", "there is none yet", "document-service tenant create T --fhir-url URL")]
    found = [Finding("tenants", "ok", f"{len(tenants)}, each with its key")]
    asked = [tenant for tenant in tenants if tenant.fhir_url is not None][:TENANTS_ASKED]
    answers = await asyncio.gather(*(asyncio.to_thread(_answers, str(tenant.fhir_url)) for tenant in asked))
    silent = [tenant.tenant_id for tenant, answer in zip(asked, answers, strict=True) if not answer]
    unset = [tenant.tenant_id for tenant in tenants if tenant.fhir_url is None]
    for which, told in ((silent, "does not answer for"), (unset, "is not named for")):
        if which:
            name = "name it with `tenant create T --fhir-url URL`; until it answers no document of theirs is made"
            found.append(Finding("FHIR server", "note", f"{told} {_listed(which)}", name))
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:TENANTS_NAMED]) + (f" and {len(names) - TENANTS_NAMED} more" * (len(names) > TENANTS_NAMED))


def _answers(url: str) -> bool:
    try:
        with _DIRECTLY.open(f"{url.rstrip('/')}/metadata", timeout=READY_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


async def _examine_database(settings: Settings, *, begun: bool) -> tuple[Finding, list[Tenant]]:
    where = "embedded" if settings.database_url is None else "external"
    try:
        async with open_address(settings, stays=False) as address:
            await prepare_database(address)
            async with owner_connection(address) as owner:
                if begun:
                    await refuse_absent_store(settings, owner)
                found = [tenant for tenant in await list_all(owner) if tenant.shredded_at is None]
            database = await open_database(address)
            try:
                # LISTEN must survive the transaction: a pooler in transaction mode would swallow notifications.
                async with database.system.acquire() as connection:
                    await connection.execute("LISTEN doctor")
                    kept = await connection.fetchval("SELECT count(*) FROM pg_listening_channels()")
                    version = await connection.fetchval("SHOW server_version")
            finally:
                await database.close()
    except SettingError as error:
        return Finding("database", "missing", str(error), "mount or name the store's folder"), []
    except (ServiceError, OSError) as error:
        remedy = "see the log in the data folder, or DATABASE_URL"
        return Finding("database", "missing", f"{where}: {error}", remedy), []
    if not kept:
        return Finding("database", "missing", "LISTEN is lost between transactions", "use session pooling"), found
    return Finding("database", "ok", f"{where} PostgreSQL {version}"), found
