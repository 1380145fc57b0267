"""Numbers of documents: one counter for each tenant and year, and where each number went.

A number is printed on the page, so it is taken before the page is typeset, and a job that then fails has taken it: the
numbers have gaps. Each gap has an account here: the job that holds the number, and the trail's event of a failure,
which stays when the job is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from document_service.database import Connection

#: The next number of a tenant's year, e.g. 2025-000017; a part of a statement, or one of its own.
NEXT_NUMBER = """INSERT INTO document_numbers AS n (tenant_id, year, last) SELECT {tenant}, {year}::integer, 1 {source}
    ON CONFLICT (tenant_id, year) DO UPDATE SET last = n.last + 1
    RETURNING year || '-' || lpad(last::text, greatest(6, length(last::text)), '0') AS text"""


async def next_number(connection: Connection, tenant_id: str) -> str:
    """Take the tenant's next document number; when the transaction rolls back, nobody took it."""
    number: str = await connection.fetchval(
        NEXT_NUMBER.format(tenant="$1", year="$2", source=""), tenant_id, datetime.now(UTC).year
    )
    return number


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers without a document, from ``first`` to ``last``.

    ``state`` is that of the job which holds the number (``queued``, ``running``, ``failed``); ``failed`` with no job
    left where only the trail knows; ``skipped`` for the thousands passed over when the database was restored, so that
    no number is printed twice; ``unknown`` when neither row nor trail knows it.
    """

    first: str
    last: str
    state: str
    job_id: str | None = None
    code: str | None = None
    at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The gap for ``--json``."""
        at = None if self.at is None else self.at.isoformat().replace("+00:00", "Z")
        return {
            "first": self.first,
            "last": self.last,
            "state": self.state,
            "jobId": self.job_id,
            "code": self.code,
            "at": at,
        }


#: A restored database goes on at the next multiple of this (renew_epoch in the migrations).
_SKIP = 10_000

#: Every number that a document does not have, with what is known of it. Runs of unknown ones are one row: a restore
#: passes over thousands.
_GAPS = r"""WITH numbers AS (
        SELECT n, $2::text || '-' || lpad(n::text, greatest(6, length(n::text)), '0') AS number
        FROM document_numbers c, generate_series(1, c.last) n WHERE c.tenant_id = $1 AND c.year = $2::integer),
    missing AS (
        SELECT n, number FROM numbers
        WHERE NOT EXISTS (SELECT FROM documents d WHERE d.tenant_id = $1 AND d.number = numbers.number)),
    told AS (
        SELECT DISTINCT ON (detail->>'number') detail->>'number' AS number, job_id, detail->>'code' AS code, recorded_at
        FROM audit_events WHERE tenant_id = $1 AND action = 'document.generate' AND outcome = 'failure'
            AND detail ? 'number' ORDER BY detail->>'number', seq DESC),
    known AS (
        SELECT m.n, m.number, coalesce(j.status, CASE WHEN t.number IS NOT NULL THEN 'failed' END) AS state,
            coalesce(j.id, t.job_id) AS job_id, coalesce(j.error_code, t.code) AS code,
            coalesce(j.finished_at, t.recorded_at) AS at
        FROM missing m
        LEFT JOIN document_render_jobs j ON j.tenant_id = $1 AND j.document_number = m.number
        LEFT JOIN told t ON t.number = m.number),
    runs AS (
        SELECT *, CASE WHEN state IS NULL THEN n - row_number() OVER (PARTITION BY state IS NULL ORDER BY n) ELSE -n END
            AS run FROM known)
    SELECT min(number COLLATE "C") AS first, max(number COLLATE "C") AS last, max(n) AS end, min(state) AS state,
        min(job_id) AS job_id, min(code) AS code, min(at) AS at
    FROM runs GROUP BY run ORDER BY min(n)"""


async def gaps(connection: Connection, tenant_id: str, year: int) -> list[Gap]:
    """The numbers of a year that no document has, in order. Owner role."""
    rows = await connection.fetch(_GAPS, tenant_id, str(year))
    return [
        Gap(
            row["first"],
            row["last"],
            row["state"] or ("skipped" if row["end"] % _SKIP == 0 else "unknown"),
            row["job_id"],
            row["code"],
            row["at"],
        )
        for row in rows
    ]
