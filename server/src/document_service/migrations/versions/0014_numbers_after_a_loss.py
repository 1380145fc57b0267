"""Numbers behind a gap after a loss, also where the copy has no counter yet."""

from document_service.migrations import run_sql_beside

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_sql_beside(__file__)
