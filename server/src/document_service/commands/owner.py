"""The owner's transaction that operators' commands run in; it works while ``serve`` runs, and without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from document_service.database import Address, Connection
from document_service.settings import Settings


@asynccontextmanager
async def owner_database(settings: Settings) -> AsyncIterator[tuple[Address, Connection]]:
    """Where a database is that is up to date, and a connection of the owner role to it.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    from document_service import runtime

    settings.make_data_dir()
    async with runtime.open_address(settings, stays=False) as address:
        await runtime.prepare_database(address)
        async with runtime.owner_connection(address) as connection:
            yield address, connection


@asynccontextmanager
async def owner_connection(settings: Settings) -> AsyncIterator[Connection]:
    """The connection of ``owner_database`` alone, without a transaction around it."""
    async with owner_database(settings) as (_, connection):
        yield connection


@asynccontextmanager
async def owner_transaction(settings: Settings, tenant_id: str = "") -> AsyncIterator[Connection]:
    """One transaction of the owner role on a database that is up to date.

    With a tenant it sees what that tenant has of its own beside shared rows, such as its pins; it is not limited to it.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    async with owner_connection(settings) as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant_id)
        yield connection
