"""The marks by which a restored database is noticed, and the fence of the orphan sweep."""

from document_service.migrations import run_sql_beside

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_sql_beside(__file__)
