"""Slots for each lane of a tenant, and the count of starts that nobody answered for."""

from document_service.migrations import run_sql_beside

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_sql_beside(__file__)
