"""What a transaction sends with its commit: done with it, or not at all."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pgqueuer.ports.repository import EntrypointExecutionParameter

from document_service import changes, queue
from document_service.database import Database, at_commit, open_database, tenant_transaction
from raw_database import Connection, address_of, connected
from running_service import Service


@pytest.fixture
async def database(service: Service) -> AsyncIterator[Database]:
    opened = await open_database(address_of(service))
    yield opened
    await opened.close()


@pytest.fixture
async def owner(service: Service) -> AsyncIterator[Connection]:
    async with connected(service, role=None) as connection:
        yield connection


@pytest.fixture
def tenant(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


async def left(owner: Connection, tenant: str) -> tuple[int, int]:
    """How many changes of jobs and how many rows of slots the tenant has."""
    return (
        await owner.fetchval("SELECT count(*) FROM changes WHERE tenant_id = $1 AND kind = 'job'", tenant),
        await owner.fetchval("SELECT count(*) FROM queue.render_slots WHERE tenant_id = $1", tenant),
    )


async def test_an_entry_goes_with_the_commit(database: Database, owner: Connection, tenant: str) -> None:
    async with tenant_transaction(database.app, tenant) as connection:
        await changes.record(connection, tenant, "job", "rjob_x")
        await queue.enqueue(connection, tenant, "rjob_x", 1, "normal")
        assert await left(owner, tenant) == (0, 0)
    assert await left(owner, tenant) == (1, 1)


async def record_and_enqueue(database: Database, tenant: str, enqueued_for: str, *, fails: bool = False) -> None:
    async with tenant_transaction(database.app, tenant) as connection:
        await changes.record(connection, tenant, "job", "rjob_x")
        await queue.enqueue(connection, enqueued_for, "rjob_x", 1, "normal")
        if fails:
            raise LookupError


async def test_an_entry_that_cannot_be_made_undoes_the_rest(database: Database, owner: Connection, tenant: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await record_and_enqueue(database, tenant, "elsewhere")
    assert await left(owner, tenant) == (0, 0)
    # The connection was given back clean.
    async with tenant_transaction(database.app, tenant) as connection:
        await changes.record(connection, tenant, "job", "rjob_x")
    assert await left(owner, tenant) == (1, 0)


async def test_an_act_that_fails_leaves_no_entry(database: Database, owner: Connection, tenant: str) -> None:
    with pytest.raises(LookupError):
        await record_and_enqueue(database, tenant, tenant, fails=True)
    assert await left(owner, tenant) == (0, 0)
    async with tenant_transaction(database.app, tenant) as connection:
        await changes.record(connection, tenant, "job", "rjob_x")
    assert await left(owner, tenant) == (1, 0)


async def test_an_operators_transaction_calls_at_once(owner: Connection, tenant: str) -> None:
    async with owner.transaction():
        await owner.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
        await queue.enqueue(owner, tenant, "rjob_x", 1, "normal")
        assert await left(owner, tenant) == (0, 1)


@pytest.mark.parametrize("argument", ["x'", "a b", "", "a;b"])
async def test_only_ids_and_numbers_are_written_into_a_call(database: Database, tenant: str, argument: str) -> None:
    async with tenant_transaction(database.app, tenant) as connection:
        with pytest.raises(ValueError, match="ids and numbers"):
            await at_commit(connection, "document.release_slot", tenant, argument)


async def test_the_claim_of_entries_is_planned_once(database: Database) -> None:
    """Planned for its values each time, it costs PostgreSQL three times what it does."""
    driver = queue._Driver(database)
    queries = queue.engine_queries(driver)
    for _ in range(8):
        claimed = await queries.dequeue(
            batch_size=1,
            entrypoints={"nothing": EntrypointExecutionParameter(concurrency_limit=0)},
            queue_manager_id=uuid.uuid4(),
            global_concurrency_limit=None,
            heartbeat_timeout=queue.HEARTBEAT_TIMEOUT,
        )
        assert claimed == []
    plans = await driver.fetch(
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE $1", "%next_queued%"
    )
    assert plans == [{"generic_plans": 8, "custom_plans": 0}]
