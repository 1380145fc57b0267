"""Who issued a document, in the words of its own letterhead: what the verification page tells to compare with."""

from document_service.migrations import run_sql_beside

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_sql_beside(__file__)
