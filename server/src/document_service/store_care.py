"""Looking after the object store: is everything there that rows name, and nothing for long that no row names.

``verify`` reads every object that a row names, opens it and compares size and SHA-256 with the row.

``sweep`` deletes objects that no row names: what losing attempts, refused pieces and crashes between storing and
committing left. It cannot delete a live object, whatever the clocks say and however long a worker slept:

    1  candidates: older than seven days, and named by no row
    2  claim: their names are committed to ``swept_objects``; from here a trigger refuses every new row that names one
    3  wait until every transaction that was running then has ended: one of them may have passed the trigger before
    4  look again: names that a row has after all are released, the others are deleted

A database that went back to an older state names less than the store holds. So nothing is swept for seven days after
a new epoch, a tenant that the database does not know is left alone, and a sweep that would take most of a tenant's
objects does not happen but is reported.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from document_service import uploads
from document_service.database import Connection, Database, system_transaction
from document_service.errors import ObjectCorrupt, ObjectNotFound
from document_service.keys import KeyStore
from document_service.store import ObjectStore
from document_service.telemetry import log

#: Attempts end within minutes; a week leaves time to notice a mistake and put a database back (contract §3).
KEPT_UNNAMED: Final = timedelta(days=7)

#: Listing a bucket of a million objects takes a thousand requests; an orphan that waits a day longer harms nobody.
SWEEP_EVERY: Final = timedelta(days=1)

#: Up to so many orphans nothing looks wrong; beyond them, more orphans than named objects look like a wrong database.
MOST_UNQUESTIONED: Final = 100

#: A transaction that is still running after this long keeps the sweep waiting; it is tried again the next day.
WAIT_SECONDS: Final = 60.0

#: Rows read at a time: about 1 MB.
PAGE: Final = 2000

#: Objects opened at a time by ``verify``: sealed bytes are opened in threads, and a bucket answers in parallel.
AT_ONCE: Final = 4


# --- verify -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as its row says: the row's tenant and id, what of it, and how it differs."""

    tenant: str
    id: str
    part: str
    problem: str


@dataclass(slots=True)
class Report:
    """What ``verify`` saw; ``shredded`` are tenants whose objects nobody can open, and so nobody checked."""

    objects: int = 0
    bytes: int = 0
    shredded: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The report for ``--json``."""
        return {**asdict(self), "ok": not self.faults}


@dataclass(frozen=True, slots=True)
class _Named:
    """An object that a row names; ``size`` and ``sha256`` where the row knows them."""

    tenant: str
    id: str
    part: str
    object: str
    size: int | None
    sha256: str | None


async def verify(
    connection: Connection, store: ObjectStore, keys: KeyStore, tell: Callable[[int], None] = lambda _: None
) -> Report:
    """Compare every object that a row names with its row; ``tell`` is given the number of objects done. Owner role.

    Raises:
        StoreUnavailable: the store went away; what was seen until then says nothing about the rest.
    """
    report = Report()
    usable = await _usable_tenants(connection, keys, report)
    together: list[_Named] = []
    async for named in _named_objects(connection, usable):
        together.append(named)
        if len(together) == AT_ONCE:
            await asyncio.gather(*(_check(store, one, report) for one in together))
            together.clear()
            tell(report.objects)
    await asyncio.gather(*(_check(store, one, report) for one in together))
    tell(report.objects)
    missing = [fault for fault in report.faults if fault.problem == "missing"]
    if missing:
        await _drop_those_that_went(connection, report, missing)
    report.faults.sort(key=lambda fault: (fault.tenant, fault.id, fault.part))
    return report


async def _usable_tenants(connection: Connection, keys: KeyStore, report: Report) -> list[str]:
    usable = []
    for row in await connection.fetch("SELECT tenant_id, shredded_at FROM document.tenants ORDER BY 1"):
        tenant = row["tenant_id"]
        if keys.has_tenant(tenant):
            usable.append(tenant)
        elif row["shredded_at"] is not None:
            report.shredded.append(tenant)
        elif await connection.fetchval("SELECT EXISTS (SELECT FROM document.documents WHERE tenant_id = $1)", tenant):
            report.faults.append(Fault(tenant, tenant, "key", "missing from the key folder"))
    return usable


async def _check(store: ObjectStore, named: _Named, report: Report) -> None:
    size, digest = 0, hashlib.sha256()
    problem = None
    try:
        async for piece in store.read(named.tenant, named.object):
            size += len(piece)
            digest.update(piece)
    except ObjectNotFound:
        problem = "missing"
    except ObjectCorrupt:
        problem = "damaged: it does not open"
    else:
        if named.size is not None and size != named.size:
            problem = f"{size} bytes instead of {named.size}"
        elif named.sha256 is not None and digest.hexdigest() != named.sha256:
            problem = "another SHA-256 than its row's"
    report.objects += 1
    report.bytes += size
    if problem is not None:
        report.faults.append(Fault(named.tenant, named.id, named.part, problem))


async def _drop_those_that_went(connection: Connection, report: Report, missing: list[Fault]) -> None:
    """An object that was deleted in order while we read is not missed: its row does not name it any more."""
    tenants = sorted({fault.tenant for fault in missing})
    still = {(named.tenant, named.id, named.part) async for named in _named_objects(connection, tenants)}
    report.faults = [
        fault for fault in report.faults if fault.problem != "missing" or (fault.tenant, fault.id, fault.part) in still
    ]


_DOCUMENTS: Final = """
    SELECT tenant_id, id, size, sha256, object_name, snapshot_name, original_name, original_sha256
    FROM document.documents WHERE tenant_id = $1 AND id > $2 AND purged_at IS NULL ORDER BY id LIMIT $3
"""

#: Pieces of an upload that is decided are on their way out.
_PIECES: Final = """
    SELECT p.upload_id AS id, p.start, p.size, p.object_name FROM document.upload_pieces p
    JOIN document.uploads u ON u.tenant_id = p.tenant_id AND u.id = p.upload_id
    WHERE p.tenant_id = $1 AND (u.status IN ('receiving', 'scanning', 'quarantined')
        OR u.reason_code = ANY ($2))
    ORDER BY 1, 2
"""


async def _named_objects(connection: Connection, tenants: Iterable[str]) -> AsyncIterator[_Named]:
    for tenant in tenants:
        async for row in _pages(connection, _DOCUMENTS, tenant):
            name = row["id"]
            yield _Named(tenant, name, "document", row["object_name"], row["size"], row["sha256"])
            if row["snapshot_name"] is not None:
                yield _Named(tenant, name, "snapshot", row["snapshot_name"], None, None)
            if row["original_name"] is not None:
                yield _Named(tenant, name, "original", row["original_name"], None, row["original_sha256"])
        for row in await connection.fetch(_PIECES, tenant, list(uploads.WAITING_CODES)):
            yield _Named(tenant, row["id"], f"piece at {row['start']}", row["object_name"], row["size"], None)


async def _pages(connection: Connection, query: str, tenant: str) -> AsyncIterator[Any]:
    after = ""
    while True:
        rows = await connection.fetch(query, tenant, after, PAGE)
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        after = rows[-1]["id"]


# --- sweep --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sweep:
    """What one sweep saw and did: objects in the store, those that no row names, those deleted, tenants refused."""

    objects: int = 0
    unnamed: int = 0
    deleted: int = 0
    refused: int = 0


async def sweep_when_due(database: Database, store: ObjectStore) -> Sweep | None:
    """Sweep once a day, in whichever process asks first; None when it is not due, or too soon after a new epoch."""
    async with system_transaction(database) as connection:
        due = await connection.fetchval(
            """INSERT INTO document.service_state AS s (key, value)
               SELECT 'store_sweep', '{}' FROM document.service_state e
               WHERE e.key = 'sync_epoch' AND e.updated_at < now() - $1::interval
               ON CONFLICT (key) DO UPDATE SET updated_at = now() WHERE s.updated_at < now() - $2::interval
               RETURNING true""",
            KEPT_UNNAMED,
            SWEEP_EVERY,
        )
    if not due:
        return None
    done = await sweep(database, store)
    async with system_transaction(database) as connection:
        before = json.loads(
            await connection.fetchval("SELECT value FROM document.service_state WHERE key = 'store_sweep'")
        )
        result = asdict(done) | {"deletedEver": before.get("deletedEver", 0) + done.deleted}
        await connection.execute(
            "UPDATE document.service_state SET value = $1 WHERE key = 'store_sweep'", json.dumps(result)
        )
    if done.deleted or done.refused:
        log.info("store.swept", deleted=done.deleted, unnamed=done.unnamed, objects=done.objects)
    return done


async def last_sweep(connection: Connection) -> dict[str, int]:
    """What the last sweep of any process said, for /metrics; empty before the first."""
    found = await connection.fetchval("SELECT value FROM document.service_state WHERE key = 'store_sweep'")
    return dict(json.loads(found or "{}"))


async def sweep(database: Database, store: ObjectStore, older_than: timedelta = KEPT_UNNAMED) -> Sweep:
    """Delete the objects that no row names and that are older than ``older_than``; see the module for why it is safe.

    Raises:
        StoreUnavailable, DatabaseUnavailable: it ended early; what was deleted was an orphan.
    """
    result = Sweep()
    async with system_transaction(database) as connection:
        tenants = [row["tenant_id"] for row in await connection.fetch("SELECT tenant_id FROM document.tenants")]
    for tenant in tenants:
        await _sweep_tenant(database, store, tenant, datetime.now(UTC) - older_than, result)
    return result


async def _sweep_tenant(database: Database, store: ObjectStore, tenant: str, before: datetime, result: Sweep) -> None:
    found = [stat async for stat in store.list(tenant)]
    result.objects += len(found)
    # Read after the list: an object that is listed and named later is too young for the sweep anyway.
    async with system_transaction(database) as connection:
        unnamed = await _not_named(connection, tenant, {stat.name for stat in found})
    result.unnamed += len(unnamed)
    orphans = {stat.name for stat in found if stat.name in unnamed and stat.modified <= before}
    if len(orphans) > max(MOST_UNQUESTIONED, len(found) - len(unnamed)):
        result.refused += 1
        log.warning("store.sweep-refused", tenant=tenant, unnamed=len(orphans), objects=len(found))
        return
    if orphans:
        for name in await _claim(database, tenant, orphans):
            await store.delete(tenant, name)
            result.deleted += 1


async def _not_named(connection: Connection, tenant: str, names: set[str]) -> set[str]:
    rest = set(names)
    async for row in _pages(
        connection,
        """SELECT id, object_name, snapshot_name, original_name FROM document.documents
           WHERE tenant_id = $1 AND id > $2 AND purged_objects_at IS NULL ORDER BY id LIMIT $3""",
        tenant,
    ):
        # What was purged names nothing: a restore may bring its objects back from an older copy of the store.
        rest.difference_update((row["object_name"], row["snapshot_name"], row["original_name"]))
    for row in await connection.fetch("SELECT object_name FROM document.upload_pieces WHERE tenant_id = $1", tenant):
        rest.discard(row["object_name"])
    return rest


async def _claim(database: Database, tenant: str, names: set[str]) -> set[str]:
    """Make sure that no row can name these any more; those that none names (steps 2 to 4 of the module)."""
    async with system_transaction(database) as connection:
        await connection.execute(
            """INSERT INTO document.swept_objects (tenant_id, name) SELECT $1, unnest($2::text[])
               ON CONFLICT DO NOTHING""",
            tenant,
            sorted(names),
        )
    orphans = await _not_named_for_good(database, tenant, names)
    released = names - orphans
    if released:
        async with system_transaction(database) as connection:
            await connection.execute(
                "DELETE FROM document.swept_objects WHERE tenant_id = $1 AND name = ANY ($2)", tenant, sorted(released)
            )
    return orphans


async def _not_named_for_good(database: Database, tenant: str, names: set[str]) -> set[str]:
    async with system_transaction(database) as connection:
        horizon = await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        async with system_transaction(database) as connection:
            oldest = await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            if oldest >= horizon:
                return await _not_named(connection, tenant, names)
        if time.monotonic() > deadline:
            log.warning("store.sweep-waits", tenant=tenant, meaning="a transaction runs for too long")
            return set()
        await asyncio.sleep(0.2)
