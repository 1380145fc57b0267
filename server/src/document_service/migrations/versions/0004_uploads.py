"""Uploads of scanned paper, and their queue entries."""

from document_service.migrations import run_sql_beside

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql_beside(__file__)
