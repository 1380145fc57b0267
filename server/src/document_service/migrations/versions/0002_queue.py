"""The queue engine's own tables in a schema of their own, and our functions around them."""

from pgqueuer.adapters.persistence import qb

from document_service.migrations import run_sql, run_sql_beside
from document_service.queue import ENGINE_SETTINGS

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql(qb.QueryBuilderEnvironment(settings=ENGINE_SETTINGS).build_install_query(create_schema=True))
    run_sql_beside(__file__)
