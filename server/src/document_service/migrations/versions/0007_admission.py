"""Fair admission to the queue, bulk requests, and the public verification of a printed document."""

from document_service.migrations import run_sql_beside

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql_beside(__file__)
