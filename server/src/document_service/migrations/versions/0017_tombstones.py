"""An index of the tombstones that may be forgotten; a round would read every job that ever made a document."""

from document_service.migrations import run_sql_beside

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_sql_beside(__file__)
