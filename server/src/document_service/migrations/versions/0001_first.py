"""The first schema: tenants, templates, jobs, documents, audit and the change feed."""

from document_service.migrations import run_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql_beside(__file__)
