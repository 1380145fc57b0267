"""A scan remembers how often it was begun and never heard of again."""

from document_service.migrations import run_sql_beside

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_sql_beside(__file__)
