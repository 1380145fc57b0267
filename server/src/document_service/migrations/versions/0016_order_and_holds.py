"""One order of locks for the slots of a tenant; a scan of what was in quarantine destroys nothing under a hold."""

from document_service.migrations import run_sql_beside

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_sql_beside(__file__)
