"""What ``document-service doctor`` looks at: every part the service needs, with the remedy for what is missing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from document_service import __version__
from document_service.database import open_database
from document_service.errors import ServiceError
from document_service.keys import KeyStore
from document_service.runtime import open_address, prepare_database
from document_service.scanner import Scanner
from document_service.settings import Settings
from document_service.store import open_store

#: Below this much free space PostgreSQL and the store may stop in the middle of a day's work.
LOW_DISK_BYTES = 1024**3

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


async def examine(settings: Settings) -> list[Finding]:
    """Look at every part; nothing is changed but what a start would create."""
    findings = [Finding("version", "ok", f"document-service {__version__}")]
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(settings.data_dir).free
    low = free < LOW_DISK_BYTES
    remedy = "free some space" if low else None
    findings.append(Finding("disk", "note" if low else "ok", f"{free // 2**20} MB free for the data folder", remedy))
    keys = None
    try:
        keys = KeyStore.open(settings.keys)
        findings.append(Finding("keys", "ok", "the master key opens"))
    except (ServiceError, OSError, ValueError) as error:
        findings.append(Finding("keys", "missing", str(error), "restore the key folder from its own backup"))
    findings.append(await _examine_database(settings))
    if keys is not None:
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
        return Finding("scanner", "note", "no virus scanner: uploads answer 503", "set DOCUMENT_SERVICE_CLAMD")
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


async def _examine_database(settings: Settings) -> Finding:
    where = "embedded" if settings.database_url is None else "external"
    try:
        async with open_address(settings, stays=False) as address:
            await prepare_database(address)
            database = await open_database(address)
            try:
                # LISTEN must survive the transaction: a pooler in transaction mode would swallow notifications.
                async with database.system.acquire() as connection:
                    await connection.execute("LISTEN doctor")
                    kept = await connection.fetchval("SELECT count(*) FROM pg_listening_channels()")
                    version = await connection.fetchval("SHOW server_version")
            finally:
                await database.close()
    except (ServiceError, OSError) as error:
        return Finding("database", "missing", f"{where}: {error}", "see the log in the data folder, or DATABASE_URL")
    if not kept:
        return Finding("database", "missing", "LISTEN is lost between transactions", "use session pooling")
    return Finding("database", "ok", f"{where} PostgreSQL {version}")
