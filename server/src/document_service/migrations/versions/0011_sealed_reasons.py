"""Reasons of withdrawn versions are sealed; indexes for the devices' chains and the senders' quotas."""

from document_service.migrations import run_sql_beside

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_sql_beside(__file__)
