"""The doors into the queue open to a named tenant only, and only to its own entries."""

from document_service.migrations import run_sql_beside

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql_beside(__file__)
