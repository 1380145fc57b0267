"""A task that is cancelled inside a transaction never leaks it into the next one of the same connection."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from document_service.database import APP_ROLE, Address, open_database, tenant_transaction
from document_service.postgres import connection_info
from running_service import Service


async def test_a_cancelled_transaction_is_not_continued_by_the_next(service: Service, tenant: str) -> None:
    info = connection_info(service.data_dir)
    address = Address(str(info.socket_dir), info.port, info.user, info.password, info.database)
    database = await open_database(address)
    try:
        for delay in (0.0, 0.001, 0.003, 0.01, 0.02):
            task = asyncio.create_task(_write_slowly(database.app, tenant))
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises((asyncio.CancelledError, Exception)):
                await task
            async with tenant_transaction(database.app, tenant) as connection:
                assert await connection.fetchval("SELECT count(*) FROM changes WHERE entity_id = 'cancelled'") == 0
        open_ones = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND state LIKE 'idle in transaction%'"
        owner = await asyncpg.connect(**address.connect_arguments())
        try:
            assert await owner.fetchval(open_ones, APP_ROLE) == 0
        finally:
            await owner.close()
    finally:
        await database.close()


async def _write_slowly(pool: asyncpg.Pool, tenant: str) -> None:
    async with tenant_transaction(pool, tenant) as connection:
        await connection.execute(
            "INSERT INTO changes (tenant_id, kind, entity_id) VALUES ($1, 'job', 'cancelled')", tenant
        )
        await connection.execute("SELECT pg_sleep(5)")
