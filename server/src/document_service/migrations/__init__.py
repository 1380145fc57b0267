"""The database's migrations: plain SQL, in order, run by Alembic as the owner role."""

from __future__ import annotations

from pathlib import Path

from alembic import op


def run_sql_beside(python_file: str) -> None:
    """Execute the ``.sql`` file of the same name as a migration; it may hold many statements.

    asyncpg runs many statements only by its simple protocol, so the text goes to the driver directly.
    """
    run_sql(Path(python_file).with_suffix(".sql").read_text(encoding="utf-8"))


def run_sql(sql: str) -> None:
    """Execute SQL text of one or more statements on the migration's connection."""
    driver = op.get_bind().connection.dbapi_connection
    assert driver is not None
    driver.run_async(lambda connection: connection.execute(sql))
