"""The database and the store behind a running service: what they hold and refuse, whatever the API says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from document_service.database import APP_ROLE, SYSTEM_ROLE, Address
from document_service.postgres import connection_info
from running_service import Service

Connection = asyncpg.Connection


def address_of(service: Service) -> Address:
    """How to reach the service's own PostgreSQL."""
    info = connection_info(service.data_dir)
    return Address(str(info.socket_dir), info.port, info.user, info.password, info.database)


@asynccontextmanager
async def connected(service: Service, role: str | None = APP_ROLE) -> AsyncIterator[Connection]:
    """One connection as a role of ours; None is the owner."""
    connection = await asyncpg.connect(
        **address_of(service).connect_arguments(role), server_settings={"search_path": "document"}
    )
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def as_tenant(service: Service, tenant: str) -> AsyncIterator[Connection]:
    """An open transaction of the application role in this tenant; it is rolled back unless it was committed."""
    async with connected(service) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
        try:
            yield connection
        finally:
            if connection.is_in_transaction():
                await transaction.rollback()


async def tenant_tables(connection: Connection) -> list[str]:
    """Every table of the service's schema that has a tenant_id."""
    rows = await connection.fetch(
        """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
           WHERE c.relnamespace = 'document'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1"""
    )
    return [row["relname"] for row in rows]


async def stored(service: Service, tenant: str) -> dict[str, Any]:
    """How much there is of a tenant: rows of each table, queue entries, files of the store.

    The links of the audit chain are left out: they follow the events, which are counted, by up to two seconds.
    """
    async with connected(service, role=None) as connection:
        held: dict[str, Any] = {
            table: await connection.fetchval(f"SELECT count(*) FROM document.{table} WHERE tenant_id = $1", tenant)
            for table in await tenant_tables(connection)
            if table != "audit_chain"
        }
        held["queue"] = await connection.fetchval(
            "SELECT count(*) FROM queue.pgqueuer WHERE convert_from(payload, 'UTF8')::jsonb->>'tenant' = $1", tenant
        )
    files = (service.data_dir / "objects").rglob("*")
    held["objects"] = sum(path.is_file() and tenant in str(path) for path in files)
    return held


__all__ = ["APP_ROLE", "SYSTEM_ROLE", "as_tenant", "connected", "stored", "tenant_tables"]
