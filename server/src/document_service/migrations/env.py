"""Alembic's entry: runs the migrations on the connection that ``database.migrate`` hands over.

The advisory lock comes first: without it, two of three services that start at once fail on the same statement.
It is held until the transaction of ``database.migrate`` ends.
"""

from alembic import context
from sqlalchemy import text

#: Any number will do as long as every version of the service takes the same.
MIGRATION_LOCK = 3_020_001

connection = context.config.attributes["connection"]
connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
context.configure(
    connection=connection,
    version_table="schema_version",
    transaction_per_migration=False,
    target_metadata=None,
)
context.run_migrations()
