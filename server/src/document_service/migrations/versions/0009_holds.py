"""Legal holds refuse a shred and the destruction of quarantined files too, whoever asks."""

from document_service.migrations import run_sql_beside

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_sql_beside(__file__)
