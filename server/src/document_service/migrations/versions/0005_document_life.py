"""The life of a document after it was made: devices that hold copies, the audit chain, retention and holds."""

from document_service.migrations import run_sql_beside

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql_beside(__file__)
