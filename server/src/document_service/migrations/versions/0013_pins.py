"""Pinned versions of platform forms, and versions that become current at their effectiveFrom."""

from document_service.migrations import run_sql_beside

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_sql_beside(__file__)
