"""Bringing the database's schema and roles to this version; apart from `database`, because it loads much more."""

from __future__ import annotations

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, text
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import create_async_engine

from document_service.database import APP_ROLE, SYSTEM_ROLE, Address
from document_service.errors import DatabaseUnavailable


async def migrate(address: Address) -> None:
    """Bring the schema to this version and set our roles' passwords, in one transaction under one lock.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    url = URL.create("postgresql+asyncpg", address.user, address.password, address.host, address.port, address.database)
    if address.host.startswith("/"):
        url = URL.create(
            "postgresql+asyncpg",
            address.user,
            address.password,
            database=address.database,
            query={"host": address.host, "port": str(address.port)},
        )
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_migrate, address)
    except (OSError, asyncpg.PostgresConnectionError) as reason:
        raise DatabaseUnavailable(str(reason)) from reason
    finally:
        await engine.dispose()


def _migrate(connection: SyncConnection, address: Address) -> None:
    # The same key as in migrations/env.py: roles are cluster-wide and are altered under the same lock.
    connection.execute(text("SELECT pg_advisory_xact_lock(3020001)"))
    for role in (APP_ROLE, SYSTEM_ROLE):
        known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :r"), {"r": role}).first()
        verb = "ALTER" if known else "CREATE"
        # Role names are our constants and the password is hexadecimal; neither can be bound in this statement.
        connection.execute(
            text(
                f"{verb} ROLE {role} LOGIN NOBYPASSRLS NOSUPERUSER NOCREATEDB NOCREATEROLE "
                f"PASSWORD '{address.role_password(role)}'"
            )
        )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
