"""Render jobs: one request, one document, however often and however concurrently it is asked for.

State chart of a job:

    queued ──start──▶ running ──finish──▶ completed
      ▲               │  │  │
      │  may pass, or │  │  └──fail──▶ failed ──retry (same id, next generation)──▶ queued
      │  large lane   │  │
      └───────────────┘  └──start: its worker is lost and another takes it over──▶ running, or failed: WORKERS_LOST

A lost worker counts against the job that it had in hand, for the job may be what kills them. A worker that was lost
together with PostgreSQL does not: the power went, and whatever was in hand is innocent (``SERVICE_LOST``).

A job begins in the ordinary lane. It moves to the large one, once and under its id, when its data turn out to be
large or when an attempt exceeded the ordinary lane's limits of time or memory; there it may take a minute. Failures
that may pass are tried three times in all, with a pause; each attempt that ended otherwise than with the document
leaves its cause (an error's code, never its data) in ``attempt_causes``.

Deduplication is the unique constraint on (tenant_id, client_mutation_id) and one INSERT … ON CONFLICT; the queue entry
commits in the same transaction (contract §3). Every start counts an attempt, and the number fences it: an attempt whose
worker was thought dead cannot finish a job that another attempt has taken over. A purged job stays as a tombstone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from document_service import access, changes, identifiers
from document_service.access import Subject
from document_service.database import Connection, began_before_a_cut
from document_service.errors import (
    ClientMutationIdConflict,
    ClientMutationIdReused,
    JobStateConflict,
    NotFound,
    ServiceError,
)
from document_service.numbering import NEXT_NUMBER
from document_service.render_requests import RenderRequest
from document_service.tokens import Caller

#: Whoever waits for a synchronous job listens here; the payload is its id. Asynchronous jobs are not announced: a
#: notification makes commits wait for each other.
FINISHED_CHANNEL = "render_finished"

#: The way `fingerprint` is computed today; rows keep theirs, so that old requests stay comparable.
FINGERPRINT_VERSION = 1

#: A failure that may pass is tried this often in all (contract §3).
TRIES = 3

#: Seconds before the second and the third try: a dropped connection passes in the first pause and a restart of a FHIR
#: server mostly in the second. A nurse who waits learns within half a minute that a person is needed.
BACKOFF = (2.0, 15.0)

#: Jobs that failed together do not come back together: each pause is up to this share shorter or longer.
JITTER = 0.25

#: A server may ask for a longer pause (Retry-After); for more than this it is taken to be down, and the tries go on.
LONGEST_PAUSE = 60.0

#: Starts that end without any answer (the worker was killed each time) before a job is taken for poison. Eight are
#: more than the restarts of a bad day, and at a takeover in 15 s the job ends within two minutes.
STARTS_LIMIT = 8

#: Starts in a row that ended with the whole service. Fifty power cuts in the milliseconds of the same page are not
#: believable; a container that is killed whole because this page needs its memory comes back as if from one, and must
#: not do so for ever.
CUTS_LIMIT = 50

#: The cause of an attempt whose worker was never heard of again.
WORKER_LOST = "WORKER_LOST"

#: The cause of an attempt that was lost with the whole service, its database included.
SERVICE_LOST = "SERVICE_LOST"

#: Whether a job that is found running was lost with the whole service.
_CUT_OFF = f"(status = 'running' AND {began_before_a_cut('started_at')})"


@dataclass(frozen=True, slots=True)
class Job:
    """One row of ``document_render_jobs``, without its sealed request."""

    tenant_id: str
    id: str
    client_mutation_id: str
    fingerprint: bytes
    fingerprint_version: int
    kind: str
    lane: str
    status: str
    template_tenant_id: str
    template_version_id: str
    patient_id: str
    encounter_id: str | None
    locale: str
    facility_ids: list[str] | None
    requested_at: datetime
    not_after: datetime | None
    created_at: datetime
    created_by: str
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    transient_failures: int
    generation: int
    document_number: str | None
    document_id: str | None
    error_code: str | None
    error_title: str | None
    error_detail: str | None
    bulk_id: str | None
    purged_at: datetime | None
    attempt_causes: list[dict[str, Any]]

    def visible_to(self, caller: Caller) -> bool:
        """The access rule of jobs: who asked, and whoever may see the facility that it belongs to."""
        facilities = None if self.facility_ids is None else tuple(self.facility_ids)
        return self.created_by == caller.user or access.permits(caller, Subject(self.patient_id, facilities))


_COLUMNS = ", ".join(name for name in Job.__dataclass_fields__)

#: Puts the row of the CTE ``job`` into the feed, in the statement that writes it.
_ANNOUNCE = changes.recorded_from("job", "'job'", "id", "facility_ids", "created_by")


def _from_row(row: Any) -> Job:
    values = {name: row[name] for name in Job.__dataclass_fields__}
    values["client_mutation_id"] = str(values["client_mutation_id"])
    values["attempt_causes"] = json.loads(values["attempt_causes"])
    return Job(**values)


async def find(connection: Connection, client_mutation_id: str) -> Job | None:
    """The job of this clientMutationId in the transaction's tenant."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM document_render_jobs WHERE tenant_id = current_tenant() AND client_mutation_id = $1",
        client_mutation_id,
    )
    return _from_row(row) if row else None


def check_replay(job: Job, caller: Caller, fingerprint: bytes) -> Job:
    """Decide whether a request with a known id is a replay of its job.

    Raises:
        ClientMutationIdConflict: the caller may not see the job.
        ClientMutationIdReused: the content differs.
    """
    if not job.visible_to(caller):
        raise ClientMutationIdConflict()
    if job.fingerprint != fingerprint:
        raise ClientMutationIdReused()
    return job


async def insert(
    connection: Connection,
    caller: Caller,
    *,
    client_mutation_id: str,
    request: RenderRequest,
    fingerprint: bytes,
    sealed: bytes,
    template_tenant_id: str,
    requested_at: datetime,
    kind: str = "async",
    lane: str = "normal",
    bulk_id: str | None = None,
) -> Job | None:
    """Insert the job, or None when its clientMutationId is taken. The caller enqueues in the same transaction."""
    facilities = None if caller.facilities is None else sorted(caller.facilities)
    row = await connection.fetchrow(
        f"""WITH job AS (
                INSERT INTO document_render_jobs (tenant_id, id, client_mutation_id, fingerprint, fingerprint_version,
                    kind, lane, template_tenant_id, template_version_id, patient_id, encounter_id, locale,
                    request_sealed, facility_ids, requested_at, not_after, created_by, bulk_id)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
                ON CONFLICT (tenant_id, client_mutation_id) DO NOTHING RETURNING {_COLUMNS}),
            announced AS ({_ANNOUNCE})
            SELECT {_COLUMNS} FROM job""",
        caller.tenant,
        identifiers.new("job"),
        client_mutation_id,
        fingerprint,
        FINGERPRINT_VERSION,
        kind,
        lane,
        template_tenant_id,
        request.template_version_id,
        request.patient_id,
        request.encounter_id,
        request.locale,
        sealed,
        facilities,
        requested_at,
        request.not_after,
        caller.user,
        bulk_id,
    )
    return None if row is None else _from_row(row)


async def show(connection: Connection, caller: Caller, job_id: str, *, for_update: bool = False) -> Job:
    """Read a job that the caller may see.

    Raises:
        NotFound: there is none such.
    """
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM document_render_jobs WHERE id = $1 {'FOR UPDATE' if for_update else ''}", job_id
    )
    if row is None or not _from_row(row).visible_to(caller):
        raise NotFound()
    return _from_row(row)


async def list_mine(
    connection: Connection, caller: Caller, status: str | None, after_id: str | None, limit: int
) -> list[Job]:
    """The caller's own jobs, newest first."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM document_render_jobs WHERE tenant_id = $1 AND created_by = $2
              AND ($3::text IS NULL OR status = $3) AND ($4::text IS NULL OR id < $4)
            ORDER BY id DESC LIMIT $5""",
        caller.tenant,
        caller.user,
        status,
        after_id,
        limit,
    )
    return [_from_row(row) for row in rows]


async def list_by_ids(connection: Connection, caller: Caller, ids: list[str]) -> list[Job]:
    """The jobs of these ids that the caller may see."""
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM document_render_jobs WHERE id = ANY ($1)", ids)
    return [job for job in map(_from_row, rows) if job.visible_to(caller)]


async def lookup(connection: Connection, caller: Caller, client_mutation_ids: list[str]) -> dict[str, Job]:
    """Those of the given clientMutationIds that have a job which the caller may see."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM document_render_jobs WHERE tenant_id = $1 AND client_mutation_id = ANY ($2::uuid[])",
        caller.tenant,
        client_mutation_ids,
    )
    return {job.client_mutation_id: job for job in map(_from_row, rows) if job.visible_to(caller)}


async def count_failed(connection: Connection, tenant_id: str, since: datetime) -> dict[str, int]:
    """How many jobs of a tenant failed since then and are failed still, by the code of the cause; the most first."""
    rows = await connection.fetch(
        """SELECT error_code, count(*) AS number FROM document_render_jobs
           WHERE tenant_id = $1 AND status = 'failed' AND purged_at IS NULL AND finished_at >= $2
           GROUP BY error_code ORDER BY number DESC, error_code""",
        tenant_id,
        since,
    )
    return {row["error_code"]: row["number"] for row in rows}


async def list_failed(
    connection: Connection, tenant_id: str, code: str, since: datetime
) -> list[tuple[str, str | None]]:
    """The jobs of a tenant that failed with ``code`` since then, oldest first, each with why it is not tried again.

    GIVEN_UP: its requester discarded or replaced the request, and the device's event of that has arrived. ASKED_AGAIN:
    the same was asked for since, under another id with equal content, which waits, is done, or failed for the same
    cause; of equal requests only the newest may be tried again, or a patient would have the same document twice.
    """
    rows = await connection.fetch(
        """SELECT id, CASE WHEN EXISTS (
                   SELECT FROM audit_events a
                   WHERE a.tenant_id = j.tenant_id AND a.action = 'device.request.discarded'
                       AND a.detail->'event'->>'clientMutationId' = j.client_mutation_id::text) THEN 'GIVEN_UP'
               WHEN EXISTS (
                   SELECT FROM document_render_jobs newer
                   WHERE newer.tenant_id = j.tenant_id AND newer.fingerprint = j.fingerprint
                       AND newer.fingerprint_version = j.fingerprint_version AND newer.id > j.id
                       AND (newer.status <> 'failed' OR newer.error_code = $2)) THEN 'ASKED_AGAIN' END AS unwanted
           FROM document_render_jobs j
           WHERE tenant_id = $1 AND status = 'failed' AND error_code = $2 AND purged_at IS NULL AND finished_at >= $3
           ORDER BY id""",
        tenant_id,
        code,
        since,
    )
    return [(row["id"], row["unwanted"]) for row in rows]


async def lock(connection: Connection, tenant_id: str, job_id: str) -> Job:
    """Read a job for update, whoever asks. Owner role.

    Raises:
        NotFound: the tenant has none such.
    """
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM document_render_jobs WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant_id, job_id
    )
    if row is None:
        raise NotFound()
    return _from_row(row)


async def retry(connection: Connection, job: Job) -> Job:
    """Start the next generation of a failed job that was read for update; the caller enqueues it.

    Raises:
        JobStateConflict: the job is not failed, or it was purged.
    """
    if job.status != "failed" or job.purged_at is not None:
        raise JobStateConflict()
    row = await connection.fetchrow(
        f"""UPDATE document_render_jobs SET status = 'queued', kind = 'async', generation = generation + 1,
                transient_failures = 0, unanswered_starts = 0, error_code = NULL, error_title = NULL,
                error_detail = NULL, finished_at = NULL
            WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}""",
        job.tenant_id,
        job.id,
    )
    await _announce(connection, _from_row(row))
    return _from_row(row)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a worker holds while it renders: the job, the fencing number and the sealed request.

    ``unanswered`` counts this start and those before it of which nothing was heard since, but for those that ended
    with the whole service.
    """

    job: Job
    number: int
    request_sealed: bytes
    unanswered: int = 1

    @property
    def is_poison(self) -> bool:
        """Whether so many workers were lost over this job that no other should try it."""
        lost = list(takewhile(_is_loss, reversed(self.job.attempt_causes)))
        cuts = sum(cause["code"] == SERVICE_LOST for cause in lost)
        return self.unanswered > STARTS_LIMIT or cuts >= CUTS_LIMIT


def _is_loss(cause: Mapping[str, Any]) -> bool:
    return cause["code"] in (WORKER_LOST, SERVICE_LOST)


async def start(connection: Connection, job_id: str) -> Attempt | None:
    """Begin the next attempt of an unfinished job; None when there is nothing to do.

    A start that finds the job running takes it over from a worker that is lost, and says so in the job's causes. The
    document number is taken once per job, at its first attempt, from the tenant's counter of the year.
    """
    # The row is locked before the number is taken: of two starts at once the later sees the number of the earlier.
    number = NEXT_NUMBER.format(tenant="current_tenant()", year="$2", source="FROM unfinished WHERE unnumbered")
    row = await connection.fetchrow(
        f"""WITH unfinished AS (
                SELECT id AS job_id, document_number IS NULL AS unnumbered FROM document_render_jobs
                WHERE tenant_id = current_tenant() AND id = $1 AND status IN ('queued', 'running') FOR UPDATE),
            number AS ({number})
            UPDATE document_render_jobs SET status = 'running', attempts = attempts + 1, started_at = now(),
                unanswered_starts = unanswered_starts + CASE WHEN {_CUT_OFF} THEN 0 ELSE 1 END,
                attempt_causes = CASE status WHEN 'running' THEN attempt_causes || jsonb_build_object(
                    'attempt', attempts, 'code', CASE WHEN {_CUT_OFF} THEN $4::text ELSE $3::text END, 'seconds',
                    round(extract(epoch FROM now() - started_at), 3)) ELSE attempt_causes END,
                document_number = coalesce(document_number, (SELECT text FROM number))
            FROM unfinished WHERE tenant_id = current_tenant() AND id = job_id
            RETURNING {_COLUMNS}, request_sealed, unanswered_starts""",
        job_id,
        datetime.now(UTC).year,
        WORKER_LOST,
        SERVICE_LOST,
    )
    if row is None:
        return None
    job = _from_row(row)
    return Attempt(job, job.attempts, row["request_sealed"], row["unanswered_starts"])


async def finish(
    connection: Connection, attempt: Attempt, document_id: str, facility_id: str | None, *, announce: bool
) -> bool:
    """Record that this attempt's document counts; ``announce`` tells processes where somebody may wait for it.

    False when another attempt has taken the job over, or when the version was withdrawn meanwhile as dangerous.
    """
    row = await connection.fetchrow(
        f"""WITH job AS (
                UPDATE document_render_jobs SET status = 'completed', document_id = $4, finished_at = now(),
                    facility_ids = $5, error_code = NULL, error_title = NULL, error_detail = NULL
                WHERE tenant_id = $1 AND id = $2 AND attempts = $3 AND status = 'running' AND NOT EXISTS (
                    SELECT FROM template_versions v WHERE v.tenant_id = template_tenant_id
                    AND v.id = template_version_id AND v.withdrawn_at IS NOT NULL)
                    RETURNING tenant_id, id, facility_ids, created_by),
            announced AS ({_ANNOUNCE})
            SELECT CASE WHEN $6 THEN pg_notify($7, id) END FROM job""",
        attempt.job.tenant_id,
        attempt.job.id,
        attempt.number,
        document_id,
        None if facility_id is None else [facility_id],
        announce and attempt.job.kind == "sync",
        FINISHED_CHANNEL,
    )
    return row is not None


async def _wake(connection: Connection, attempt: Attempt) -> None:
    if attempt.job.kind == "sync":
        await connection.execute("SELECT pg_notify($1, $2)", FINISHED_CHANNEL, attempt.job.id)


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of a failed attempt: not recorded when another had taken the job over; tried again, or final."""

    recorded: bool
    again_after: timedelta | None = None

    @property
    def final(self) -> bool:
        """Whether the job is finished by this failure."""
        return self.recorded and self.again_after is None


async def fail(connection: Connection, attempt: Attempt, error: ServiceError, finished_after: float) -> Failure:
    """Record how this attempt failed.

    ``finished_after`` is the attempt's duration in seconds, kept with its cause.
    """
    # Somebody waits for a synchronous render: it fails at once. The row says so, not what it was when the attempt
    # started, because whoever waited may have gone meanwhile (let_live_on).
    may_pass = error.retryable and attempt.job.transient_failures + 1 < TRIES
    row = await connection.fetchrow(
        f"""UPDATE document_render_jobs SET
                status = CASE WHEN $4 AND kind <> 'sync' THEN 'queued' ELSE 'failed' END,
                transient_failures = transient_failures + $5, unanswered_starts = 0,
                attempt_causes = attempt_causes || $6::jsonb,
                finished_at = CASE WHEN $4 AND kind <> 'sync' THEN NULL ELSE now() END,
                error_code = CASE WHEN $4 AND kind <> 'sync' THEN NULL ELSE $7 END,
                error_title = CASE WHEN $4 AND kind <> 'sync' THEN NULL ELSE $8 END,
                error_detail = CASE WHEN $4 AND kind <> 'sync' THEN NULL ELSE $9 END
            WHERE tenant_id = $1 AND id = $2 AND attempts = $3 AND status = 'running'
            RETURNING {_COLUMNS}""",
        attempt.job.tenant_id,
        attempt.job.id,
        attempt.number,
        may_pass,
        1 if error.retryable else 0,
        _cause(attempt, error.code, finished_after),
        error.code,
        error.title,
        error.detail,
    )
    if row is None:
        return Failure(recorded=False)
    if row["status"] == "queued":
        return Failure(recorded=True, again_after=pause_before_next(error, attempt.job.transient_failures))
    await _announce(connection, _from_row(row))
    await _wake(connection, attempt)
    return Failure(recorded=True)


def pause_before_next(error: ServiceError, failures: int) -> timedelta:
    """How long to wait before the next try, after ``failures`` earlier ones."""
    seconds = BACKOFF[min(failures, len(BACKOFF) - 1)] * random.uniform(1 - JITTER, 1 + JITTER)
    asked = error.headers.get("Retry-After", "")
    if asked.isascii() and asked.isdigit():
        seconds = max(seconds, min(float(asked), LONGEST_PAUSE))
    return timedelta(seconds=seconds)


def _cause(attempt: Attempt, code: str, seconds: float) -> str:
    return json.dumps([{"attempt": attempt.number, "code": code, "seconds": round(seconds, 3)}])


async def move_to_large_lane(connection: Connection, attempt: Attempt, cause: str, seconds: float) -> Job | None:
    """Queue the job again for the large lane, as its next generation; None when another attempt has taken it over.

    ``cause`` is the code of what this attempt met after ``seconds``. The caller releases the ordinary lane's slot and
    enqueues the job. A synchronous one moves too: whoever waits gets the document if it is ready within their time.
    """
    row = await connection.fetchrow(
        f"""UPDATE document_render_jobs SET status = 'queued', lane = 'large', generation = generation + 1,
                unanswered_starts = 0, attempt_causes = attempt_causes || $4::jsonb
            WHERE tenant_id = $1 AND id = $2 AND attempts = $3 AND status = 'running' AND lane = 'normal'
            RETURNING {_COLUMNS}""",
        attempt.job.tenant_id,
        attempt.job.id,
        attempt.number,
        _cause(attempt, cause, seconds),
    )
    return None if row is None else _from_row(row)


async def fail_all(connection: Connection, tenant_id: str, error: ServiceError) -> int:
    """End every unfinished job of a tenant that is no more, and drop the requests; their number. Owner role."""
    result = await connection.execute(
        """UPDATE document.document_render_jobs SET request_sealed = NULL,
               status = CASE WHEN status IN ('queued', 'running') THEN 'failed' ELSE status END,
               finished_at = coalesce(finished_at, now()),
               error_code = CASE WHEN status IN ('queued', 'running') THEN $2 ELSE error_code END,
               error_title = CASE WHEN status IN ('queued', 'running') THEN $3 ELSE error_title END
           WHERE tenant_id = $1 AND request_sealed IS NOT NULL""",
        tenant_id,
        error.code,
        error.title,
    )
    return int(result.split()[-1])


async def let_live_on(connection: Connection, job: Job) -> bool:
    """From now on this synchronous job is retried like any other; False when it was taken away meanwhile."""
    result = await connection.execute(
        "UPDATE document_render_jobs SET kind = 'async' WHERE tenant_id = $1 AND id = $2", job.tenant_id, job.id
    )
    return bool(result == "UPDATE 1")


async def discard(connection: Connection, job: Job) -> bool:
    """Delete a job that stored nothing: a synchronous request that ended in an error does not consume its id.

    False when it is not such a job any more: it was tried again, or another request was answered by it.
    """
    result = await connection.execute(
        "DELETE FROM document_render_jobs WHERE tenant_id = $1 AND id = $2 AND status = 'failed' AND kind = 'sync'",
        job.tenant_id,
        job.id,
    )
    return bool(result == "DELETE 1")


async def purge_finished(connection: Connection, older_than: timedelta) -> int:
    """Make tombstones of jobs finished longer ago than ``older_than``; their number. System role."""
    result = await connection.execute(
        """UPDATE document_render_jobs SET purged_at = now(), request_sealed = NULL, attempt_causes = '[]'
           WHERE purged_at IS NULL AND finished_at < now() - $1::interval""",
        older_than,
    )
    return int(result.split()[-1])


async def forget_tombstones(connection: Connection, window: timedelta) -> int:
    """Delete tombstones older than the dedup window, counted from the later of createdAt and requestedAt.

    A job that made a document stays with it. The first two conditions and the third are those of an index: jobs with
    documents are never deleted, and a round that read them all would get longer for ever.
    """
    result = await connection.execute(
        """DELETE FROM document_render_jobs j WHERE purged_at IS NOT NULL AND document_id IS NULL
               AND created_at < now() - $1::interval AND requested_at < now() - $1::interval
               AND NOT EXISTS (SELECT FROM documents d WHERE d.tenant_id = j.tenant_id AND d.render_job_id = j.id)""",
        window,
    )
    return int(result.split()[-1])


async def _announce(connection: Connection, job: Job) -> None:
    await changes.record(
        connection, job.tenant_id, "job", job.id, facility_ids=job.facility_ids, user_id=job.created_by
    )
