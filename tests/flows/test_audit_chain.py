"""The chain over the audit trail: what the owner of the database can do to it, and how it shows (design §6)."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from document_service import audit_chain, sequencing
from document_service.audit_chain import Finding
from document_service.keys import KeyStore
from document_service.runtime import Runtime, open_runtime
from document_service.settings import load
from document_service.store import open_store
from raw_database import Connection, connected
from running_service import Service

#: Two seconds by design; a loaded CI machine gets time to spare.
CHAINED_WITHIN = 15.0


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@asynccontextmanager
async def opened(service: Service) -> AsyncIterator[Runtime]:
    """The parts of a second process on the same folder."""
    settings, _ = load({}, {"data_dir": str(service.data_dir)})
    async with open_runtime(settings, typesetting=False) as runtime:
        yield runtime


async def act(service: Service, tenant: str, times: int) -> None:
    """Do something that leaves ``times`` events."""

    def search() -> None:
        with service.caller(tenant) as api:
            for _ in range(times):
                assert api.get("/v1/documents", params={"patientId": "p1"}).status_code == 200

    await asyncio.to_thread(search)


async def chained(service: Service, tenant: str) -> list[Any]:
    """The chain when every event of the tenant has its link."""
    deadline = time.monotonic() + CHAINED_WITHIN
    async with connected(service, role=None) as owner:
        while True:
            waiting = await owner.fetchval(
                """SELECT count(*) FROM audit_events e WHERE tenant_id = $1 AND NOT EXISTS
                   (SELECT FROM audit_chain c WHERE c.tenant_id = e.tenant_id AND c.event_id = e.id)""",
                tenant,
            )
            if not waiting:
                return list(
                    await owner.fetch("SELECT * FROM audit_chain WHERE tenant_id = $1 ORDER BY chain_seq", tenant)
                )
            assert time.monotonic() < deadline, f"{waiting} events wait for their link"
            await asyncio.sleep(0.1)


async def verified(service: Service, tenant: str) -> list[Finding]:
    """What ``document-service audit verify`` finds in the trail of one tenant."""
    keys = KeyStore.open(service.data_dir / "keys")
    store = open_store(service.data_dir.resolve() / "objects", keys)
    async with connected(service, role=None) as owner, owner.transaction():
        found, _ = await sequencing.verify_trail(owner, keys, store, tenant)
    return found


@asynccontextmanager
async def tampering(service: Service) -> AsyncIterator[Connection]:
    """A transaction of the owner with the triggers out of the way."""
    async with connected(service, role=None) as owner, owner.transaction():
        for table in ("audit_events", "audit_chain"):
            await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER immutable")
        yield owner
        for table in ("audit_events", "audit_chain"):
            await owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER immutable")


def kinds(found: list[Finding]) -> set[str]:
    return {finding.kind for finding in found}


async def test_every_event_is_chained_in_feed_order_and_the_chain_is_whole(service: Service, clinic: str) -> None:
    await asyncio.gather(*(act(service, clinic, 10) for _ in range(4)))
    links = await chained(service, clinic)
    assert [row["chain_seq"] for row in links] == list(range(1, len(links) + 1))
    places = [(int(row["xid"]), row["seq"]) for row in links]
    assert places == sorted(places)
    assert all(after["previous_hash"] == before["hash"] for before, after in itertools.pairwise(links))
    told = await asyncio.to_thread(service.command, "audit", "verify", "--tenant", clinic, "--json")
    assert json.loads(told) == {"whole": True, "tenants": {clinic: len(links)}, "findings": []}


async def test_a_changed_row_shows_even_with_recomputed_hashes(service: Service, fhir_url: str) -> None:
    tenant = await asyncio.to_thread(service.create_tenant, fhir_url)
    await act(service, tenant, 12)
    links = await chained(service, tenant)
    target = links[5]
    async with tampering(service) as owner:
        await owner.execute("UPDATE audit_events SET actor = 'somebody' WHERE id = $1", target["event_id"])
    told = await asyncio.to_thread(service.command, "audit", "verify", "--tenant", tenant, check=False)
    assert told.startswith(f"altered    {tenant}: event {target['event_id']} (link 6) was changed")
    assert kinds(await verified(service, tenant)) == {"altered"}
    # The owner knows the code but not the key: links made anew with any other key do not agree.
    async with tampering(service) as owner:
        previous = links[4]["hash"]
        for row in links[5:]:
            event = await owner.fetchrow(
                "SELECT *, xid::text AS xid, detail::text AS detail FROM audit_events WHERE id = $1", row["event_id"]
            )
            made = audit_chain.link(bytes(32), previous, dict(event))
            await owner.execute(
                "UPDATE audit_chain SET previous_hash = $3, hash = $4 WHERE tenant_id = $1 AND chain_seq = $2",
                tenant,
                row["chain_seq"],
                previous,
                made,
            )
            previous = made
    found = await verified(service, tenant)
    # A head that was signed in between is contradicted too; whether there is one depends on the minute.
    assert len([finding for finding in found if finding.text.endswith("was changed")]) == len(links) - 5


async def test_a_cut_tail_shows_by_the_signed_head_and_stays_shown(service: Service, fhir_url: str) -> None:
    tenant = await asyncio.to_thread(service.create_tenant, fhir_url)
    await act(service, tenant, 15)
    links = await chained(service, tenant)
    async with opened(service) as runtime:
        await sequencing.sign_heads(runtime)
        assert await verified(service, tenant) == []
        async with tampering(service) as owner:
            for row in links[-10:]:
                await owner.execute(
                    "DELETE FROM audit_chain WHERE tenant_id = $1 AND event_id = $2", tenant, row["event_id"]
                )
                await owner.execute(
                    "DELETE FROM audit_events WHERE tenant_id = $1 AND id = $2", tenant, row["event_id"]
                )
        found = await verified(service, tenant)
        assert kinds(found) == {"cut"}
        assert f"ends at {len(links) - 10}" in found[0].text
        # Work goes on over the gap: the new links reach past the head, which is not given up for that.
        await act(service, tenant, 12)
        await chained(service, tenant)
        await sequencing.sign_heads(runtime)
        assert kinds(await verified(service, tenant)) == {"altered"}


async def test_missing_and_smuggled_rows_show(service: Service, fhir_url: str) -> None:
    tenant = await asyncio.to_thread(service.create_tenant, fhir_url)
    await act(service, tenant, 9)
    links = await chained(service, tenant)
    async with tampering(service) as owner:
        await owner.execute("DELETE FROM audit_events WHERE tenant_id = $1 AND id = $2", tenant, links[2]["event_id"])
        await owner.execute("DELETE FROM audit_chain WHERE tenant_id = $1 AND chain_seq = 5", tenant)
        # Put in under an old transaction, a row looks as if it had always been there, and never gets a link.
        await owner.execute(
            """INSERT INTO audit_events (tenant_id, id, xid, recorded_at, occurred_at, action, actor)
               VALUES ($1, 'aud_smuggled', '5', now() - interval '1 day', now() - interval '1 day', 'x', 'y')""",
            tenant,
        )
    texts = [(finding.kind, finding.text) for finding in await verified(service, tenant)]
    assert ("missing", f"event {links[2]['event_id']} (link 3) is gone") in texts
    assert ("missing", "links 5 to 5 are gone") in texts
    assert ("unchained", "event aud_smuggled has no link") in texts


async def test_the_applications_own_roles_can_neither_change_nor_chain(service: Service, clinic: str) -> None:
    import asyncpg

    for role in ("document_service_app", "document_service_system"):
        async with connected(service, role=role) as connection:
            for statement in (
                "UPDATE audit_events SET actor = 'x'",
                "DELETE FROM audit_events",
                "TRUNCATE audit_events",
                "UPDATE audit_chain SET hash = ''",
                "DELETE FROM audit_chain",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
    async with connected(service, role=None) as owner:
        for statement in ("TRUNCATE audit_chain", "TRUNCATE audit_events CASCADE", "DELETE FROM audit_chain"):
            with pytest.raises(asyncpg.RestrictViolationError):
                await owner.execute(statement)


async def test_a_head_that_was_forged_is_refused(service: Service, fhir_url: str) -> None:
    tenant = await asyncio.to_thread(service.create_tenant, fhir_url)
    await act(service, tenant, 3)
    await chained(service, tenant)
    async with opened(service) as runtime:
        await sequencing.sign_heads(runtime)
        name = audit_chain.head_name(tenant)
        mark = json.loads(await runtime.store.read_mark(name) or b"{}")
        mark["heads"][0]["chainSeq"] = 1
        await runtime.store.write_mark(name, json.dumps(mark).encode())
    assert kinds(await verified(service, tenant)) == {"head"}


async def test_an_earlier_epochs_head_is_a_note_after_a_restore() -> None:
    earlier = audit_chain.Head("before", 900, "00" * 32, "2026-11-22T08:00:00+00:00")
    sealed = audit_chain.write_heads([earlier], "t1", lambda purpose, data: ("k", b"x"))
    with pytest.raises(ValueError, match="signature"):
        audit_chain.read_heads(sealed, "t1", [])

    class Empty:
        async def fetchval(self, query: str, *arguments: Any) -> Any:
            return 0 if "max(" in query else None

    (finding,) = await audit_chain.verify_heads(Empty(), "t1", [earlier], "now")  # type: ignore[arg-type]
    assert (finding.kind, finding.is_broken) == ("note", False)
    (finding,) = await audit_chain.verify_heads(Empty(), "t1", [earlier], "before")  # type: ignore[arg-type]
    assert (finding.kind, finding.is_broken) == ("cut", True)
