"""Is everything there that rows name, and does nothing go that a row names or may still name."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import httpx2
import pytest

from document_service import store_care
from document_service.database import Database, open_database
from document_service.keys import KeyStore
from document_service.store import ObjectStore, open_store
from raw_database import Connection, address_of, connected
from running_service import Api, Service, request_for

AT_ONCE = timedelta(0)


@dataclass
class Place:
    """The parts behind the running service, as housekeeping has them."""

    service: Service
    keys: KeyStore
    store: ObjectStore
    database: Database
    owner: Connection

    def file(self, tenant: str, name: str) -> Path:
        return self.service.data_dir / "objects/objects" / tenant / name

    async def faults(self, tenant: str) -> list[tuple[str, str, str]]:
        report = await store_care.verify(self.owner, self.store, self.keys)
        return [(fault.id, fault.part, fault.problem) for fault in report.faults if fault.tenant == tenant]

    async def names(self, tenant: str) -> set[str]:
        return {stat.name async for stat in self.store.list(tenant)}


def run_command(service: Service, *arguments: str) -> tuple[int, str]:
    """Exit code and standard output of a command that may fail."""
    done = subprocess.run(
        [sys.executable, "-m", "document_service", *arguments, "--data-dir", str(service.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture
async def place(service: Service) -> AsyncIterator[Place]:
    keys = KeyStore.open(service.data_dir / "keys")
    database = await open_database(address_of(service))
    async with connected(service, role=None) as owner:
        yield Place(service, keys, open_store(service.data_dir / "objects", keys), database, owner)
    await database.close()


@pytest.fixture
def document(api: Api) -> str:
    job = api.render(request_for(api.platform_version()))
    return str(job["documentId"])


async def test_every_way_in_which_an_object_can_differ_is_named(
    place: Place, tenant: str, api: Api, document: str
) -> None:
    assert await place.faults(tenant) == []
    row = await place.owner.fetchrow("SELECT * FROM document.documents WHERE id = $1", document)
    file, snapshot = place.file(tenant, row["object_name"]), place.file(tenant, row["snapshot_name"])
    whole = file.read_bytes()

    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    file.write_bytes(flipped)
    assert await place.faults(tenant) == [(document, "document", "damaged: it does not open")]
    file.write_bytes(whole[:-1])
    assert await place.faults(tenant) == [(document, "document", "damaged: it does not open")]
    file.write_bytes(whole)

    hidden = snapshot.read_bytes()
    snapshot.unlink()
    code, said = await asyncio.to_thread(run_command, place.service, "store", "verify", "--json")
    told = json.loads(said)
    assert (code, told["ok"]) == (1, False)
    assert {"tenant": tenant, "id": document, "part": "snapshot", "problem": "missing"} in told["faults"]
    snapshot.write_bytes(hidden)

    await place.owner.execute("UPDATE document.documents SET size = size + 1 WHERE id = $1", document)
    assert await place.faults(tenant) == [(document, "document", f"{row['size']} bytes instead of {row['size'] + 1}")]
    await place.owner.execute(
        "UPDATE document.documents SET size = size - 1, sha256 = $2 WHERE id = $1", document, "0" * 64
    )
    assert await place.faults(tenant) == [(document, "document", "another SHA-256 than its row's")]
    await place.owner.execute("UPDATE document.documents SET sha256 = $2 WHERE id = $1", document, row["sha256"])
    assert await place.faults(tenant) == []


async def test_a_tenant_whose_key_is_gone_is_one_fault(place: Place, tenant: str, document: str) -> None:
    key = place.service.data_dir / "keys/tenants" / f"{tenant}.key"
    content = key.read_bytes()
    key.rename(key.with_suffix(".away"))
    try:
        assert await place.faults(tenant) == [(tenant, "key", "missing from the key folder")]
    finally:
        key.with_suffix(".away").rename(key)
    assert key.read_bytes() == content


async def test_orphans_go_when_they_are_old_and_nothing_else_does(
    place: Place, tenant: str, api: Api, document: str
) -> None:
    live = await place.names(tenant)
    orphan = await place.store.put(tenant, "2026/01/obj_orphan", b"left by an attempt that lost")
    assert (await store_care.sweep(place.database, place.store)).deleted == 0, "younger than a week"
    assert await place.names(tenant) == live | {orphan.name}
    assert (await store_care.sweep(place.database, place.store, AT_ONCE)).deleted >= 1
    assert await place.names(tenant) == live
    assert api.content(document).status_code == 200


async def copy_of(owner: Connection, document: str, object_name: str) -> None:
    """Insert a row beside ``document`` that names another object, as an attempt that finishes late would."""
    await owner.execute(
        """INSERT INTO document.documents (tenant_id, id, number, kind, category, title_sealed, patient_id,
               content_type, size, sha256, object_name, created_by)
           SELECT tenant_id, id || 'B', number || 'B', 'uploaded', category, title_sealed, patient_id, content_type,
               size, sha256, $2, created_by FROM document.documents WHERE id = $1""",
        document,
        object_name,
    )


@pytest.mark.parametrize("commits", [True, False])
async def test_the_sweep_waits_for_whoever_may_have_named_the_object(
    place: Place, tenant: str, document: str, commits: bool
) -> None:
    late = await place.store.put(tenant, "2026/01/obj_late", b"stored long ago, committed now")
    transaction = place.owner.transaction()
    await transaction.start()
    await copy_of(place.owner, document, late.name)
    sweep = asyncio.create_task(store_care.sweep(place.database, place.store, AT_ONCE))
    await asyncio.sleep(0.7)
    assert not sweep.done()
    assert late.name in await place.names(tenant)
    await (transaction.commit() if commits else transaction.rollback())
    await sweep
    assert (late.name in await place.names(tenant)) is commits
    held = await place.owner.fetchval("SELECT count(*) FROM document.swept_objects WHERE name = $1", late.name)
    assert held == (0 if commits else 1)


async def test_no_row_can_name_an_object_that_was_swept(place: Place, tenant: str, document: str) -> None:
    gone = await place.store.put(tenant, "2026/01/obj_gone", b"its worker slept for a week")
    await store_care.sweep(place.database, place.store, AT_ONCE)
    with pytest.raises(asyncpg.RestrictViolationError, match="swept"):
        await copy_of(place.owner, document, gone.name)


async def test_a_sweep_that_would_take_most_of_a_store_is_refused(place: Place, tenant: str, document: str) -> None:
    before = await place.names(tenant)
    for number in range(store_care.MOST_UNQUESTIONED + 1):
        await place.store.put(tenant, f"2026/01/obj_{number:03d}", b"")
    done = await store_care.sweep(place.database, place.store, AT_ONCE)
    assert done.refused == 1
    assert len(await place.names(tenant)) == len(before) + store_care.MOST_UNQUESTIONED + 1


async def test_the_daily_sweep_is_done_once_and_told_in_the_metrics(place: Place, tenant: str) -> None:
    assert await store_care.sweep_when_due(place.database, place.store) is None, "a week after a new epoch"
    old = "UPDATE document.service_state SET updated_at = now() - $2::interval WHERE key = $1"
    await place.owner.execute(old, "sync_epoch", timedelta(days=8))
    await place.owner.execute("DELETE FROM document.service_state WHERE key = 'store_sweep'")
    done = await store_care.sweep_when_due(place.database, place.store)
    assert done is not None
    assert await store_care.sweep_when_due(place.database, place.store) is None
    await place.owner.execute(old, "store_sweep", timedelta(days=2))
    assert await store_care.sweep_when_due(place.database, place.store) is not None
    metrics = httpx2.get(f"{place.service.url}/metrics").text
    assert f"document_service_store_objects {float(done.objects)}" in metrics
    assert "document_service_store_unnamed_objects " in metrics
    assert "document_service_store_swept_objects " in metrics
    await place.owner.execute(old, "sync_epoch", timedelta(0))
