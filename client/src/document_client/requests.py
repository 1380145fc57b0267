"""The request queue: what a person asked for, kept until the document is on the device (contract §4).

State chart of one request:

    enqueue ──> queued ──claim──> sending ──202/200──> acknowledged ──verified on the device──> done
                  ^  ^              │ │                  │     ^
                  │  └──postponed───┘ └──refused──┐      │     └──(retry of a job)
                  │                               v      v
                  └────────retry───────────── quarantined  failed ──discard/edit──> discarded

A request that waits can be taken back as well: ``withdrawals`` tells how.

``sending`` carries the fencing token of the drain lease that claimed it; whoever takes the lease next puts it back to
``queued``. The bytes in ``body`` are written once, before the person sees "queued", and are the bytes sent, every time.
Nothing is deleted before the server's word; ``done`` and ``discarded`` rows are kept 60 days.

Every function takes the connection of the queue database and runs inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import apsw

from . import withdrawals
from .errors import join_detail

State = Literal["queued", "sending", "acknowledged", "done", "quarantined", "failed", "discarded"]
PENDING: tuple[State, ...] = ("queued", "sending")
ATTENTION: tuple[State, ...] = ("quarantined", "failed")

# Contract §4: the request is kept 60 days after it was done.
KEEP_DONE_SECONDS = 60 * 86_400.0

SCHEMA = (
    """
    CREATE TABLE requests (
        sequence INTEGER PRIMARY KEY,
        client_mutation_id TEXT NOT NULL UNIQUE,
        tenant_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        body_version INTEGER NOT NULL,
        body BLOB NOT NULL,
        template_name TEXT NOT NULL,
        template_version_id TEXT NOT NULL,
        patient_id TEXT NOT NULL,
        requested_at REAL NOT NULL,
        state TEXT NOT NULL DEFAULT 'queued' CHECK (state IN
            ('queued','sending','acknowledged','done','quarantined','failed','discarded')),
        operation TEXT NOT NULL DEFAULT 'submit' CHECK (operation IN ('submit','retry')),
        lease INTEGER,
        tries INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        not_before REAL NOT NULL DEFAULT 0,
        server_said INTEGER NOT NULL DEFAULT 0,
        reason_code TEXT,
        reason_title TEXT,
        epoch TEXT,
        job_id TEXT,
        job_status TEXT,
        document_id TEXT,
        job TEXT,
        changed_at REAL NOT NULL,
        replaced_by TEXT
    );
    CREATE INDEX requests_by_state ON requests (state, sequence);
    CREATE TABLE drain (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        token INTEGER NOT NULL, owner TEXT NOT NULL, until REAL NOT NULL
    );
    INSERT INTO drain VALUES (1, 0, '', 0);
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    """,
    # ``changed_at`` is the device's own time, which may have been years behind; the server's time, once it is known.
    "ALTER TABLE requests ADD COLUMN kept_from REAL",
    # Whether a drain ever claimed the request: its bytes may have left. Of older rows nobody knows, so they may have.
    """
    ALTER TABLE requests ADD COLUMN offered INTEGER NOT NULL DEFAULT 0;
    UPDATE requests SET offered = 1;
    """,
)


@dataclass(frozen=True, slots=True)
class Request:
    """One row of the queue. Instants are seconds since 1970; ``body`` is the exact JSON that is sent."""

    sequence: int
    client_mutation_id: str
    tenant_id: str
    user_id: str
    body: bytes
    template_name: str
    template_version_id: str
    patient_id: str
    requested_at: float
    state: State
    operation: Literal["submit", "retry"]
    tries: int
    failures: int
    not_before: float
    reason_code: str | None
    reason_title: str | None
    epoch: str | None
    job_id: str | None
    job_status: str | None
    document_id: str | None
    changed_at: float
    replaced_by: str | None


_COLUMNS = (
    "sequence, client_mutation_id, tenant_id, user_id, body, template_name, template_version_id, patient_id,"
    " requested_at, state, operation, tries, failures, not_before, reason_code, reason_title, epoch, job_id,"
    " job_status, document_id, changed_at, replaced_by"
)


def _rows(conn: apsw.Connection, where: str, values: Sequence[Any] = ()) -> list[Request]:
    return [Request(*row) for row in conn.execute(f"SELECT {_COLUMNS} FROM requests {where}", values)]


def insert(
    conn: apsw.Connection,
    *,
    client_mutation_id: str,
    tenant_id: str,
    user_id: str,
    body: bytes,
    template_name: str,
    template_version_id: str,
    patient_id: str,
    requested_at: float,
) -> None:
    """Add a queued request; durable when the caller's transaction commits (``synchronous=FULL``)."""
    conn.execute(
        "INSERT INTO requests (client_mutation_id, tenant_id, user_id, body_version, body, template_name,"
        " template_version_id, patient_id, requested_at, changed_at) VALUES (?,?,?,1,?,?,?,?,?,?)",
        (
            client_mutation_id,
            tenant_id,
            user_id,
            body,
            template_name,
            template_version_id,
            patient_id,
            requested_at,
            requested_at,
        ),
    )


def read_all(conn: apsw.Connection, *, given_up: bool = False) -> list[Request]:
    """Return every kept request, oldest first; with ``given_up`` those that were discarded too."""
    return _rows(conn, "WHERE ? OR state <> 'discarded' ORDER BY sequence", (given_up,))


def read(conn: apsw.Connection, client_mutation_id: str) -> Request | None:
    """Return one request, or None."""
    found = _rows(conn, "WHERE client_mutation_id = ?", (client_mutation_id,))
    return found[0] if found else None


# --- What a drain writes --------------------------------------------------------------------------------------


# No wait is longer than a day (``reactions``): one that ends further ahead was written under a wrong clock.
LONGEST_WAIT_SECONDS = 86_400.0
_DUE = (
    "state = 'queued' AND tenant_id = ? AND user_id = ?"
    f" AND (not_before <= ?3 OR not_before > ?3 + {LONGEST_WAIT_SECONDS} OR (? AND NOT server_said))"
    " AND client_mutation_id NOT IN (SELECT value FROM json_each(?))"
)


def claim(
    conn: apsw.Connection, token: int, now: float, *, tenant_id: str, user_id: str, skip: Sequence[str], eager: bool
) -> Request | None:
    """Mark the next due request as ``sending`` and return it, or None when nothing is due.

    Only the user's own requests; never those in ``skip`` (tried in this run). ``eager`` (a person asked for the sync)
    passes over our own backoff, not over a wait that the server asked for. Those with failures go behind the others.
    """
    found = _rows(
        conn,
        f"WHERE {_DUE} ORDER BY failures > 0, sequence LIMIT 1",
        (tenant_id, user_id, now, eager, json.dumps(list(skip))),
    )
    if not found:
        return None
    conn.execute(
        "UPDATE requests SET state = 'sending', offered = 1, lease = ? WHERE sequence = ?", (token, found[0].sequence)
    )
    return found[0]


def count_due(
    conn: apsw.Connection, now: float, *, tenant_id: str, user_id: str, skip: Sequence[str], eager: bool
) -> int:
    """Return how many requests ``claim`` could still return."""
    values = (tenant_id, user_id, now, eager, json.dumps(list(skip)))
    return int(conn.execute(f"SELECT count(*) FROM requests WHERE {_DUE}", values).get)


def acknowledge(conn: apsw.Connection, cmid: str, job: dict[str, Any], epoch: str | None, now: float) -> None:
    """Record the server's word for a request: its job as it is now."""
    conn.execute(
        "UPDATE requests SET state = 'acknowledged', operation = 'submit', lease = NULL, tries = 0, failures = 0,"
        " not_before = 0, server_said = 0, reason_code = NULL, reason_title = NULL, epoch = ?, changed_at = ?"
        " WHERE client_mutation_id = ? AND state IN ('queued','sending')",
        (epoch, now, cmid),
    )
    apply_job(conn, job, now, client_mutation_id=cmid)


def postpone(conn: apsw.Connection, cmid: str, not_before: float, *, counted: bool, server_said: bool) -> None:
    """Put a request back to wait; ``counted`` when the server answered with a failure of its own.

    A person may have taken it back and tried it again while it was being sent: the wait holds for what is queued, too.
    """
    conn.execute(
        "UPDATE requests SET state = 'queued', lease = NULL, tries = tries + 1, failures = failures + ?,"
        " not_before = ?, server_said = ? WHERE client_mutation_id = ? AND state IN ('queued','sending')",
        (int(counted), not_before, int(server_said), cmid),
    )


def put_back(conn: apsw.Connection, cmid: str) -> None:
    """Put a request back unchanged: the network, not the request, was at fault."""
    conn.execute(
        "UPDATE requests SET state = 'queued', lease = NULL WHERE client_mutation_id = ? AND state = 'sending'", (cmid,)
    )


def quarantine(conn: apsw.Connection, cmid: str, code: str, title: str, now: float) -> None:
    """Keep a refused request with the server's reason (``title`` with its detail) until a person decides."""
    conn.execute(
        "UPDATE requests SET state = 'quarantined', lease = NULL, reason_code = ?, reason_title = ?, changed_at = ?"
        " WHERE client_mutation_id = ? AND state IN ('queued','sending')",
        (code, title, now, cmid),
    )


def apply_job(conn: apsw.Connection, job: dict[str, Any], now: float, *, client_mutation_id: str | None = None) -> None:
    """Bring a request up to what the server says about its job; unknown jobs (of other devices) change nothing."""
    cmid = client_mutation_id or job.get("clientMutationId")
    status = str(job.get("status", ""))
    error = job.get("error") or {}
    if job.get("purgedAt") and not job.get("documentId"):
        # Only its tombstone is left: what was never fetched will not come, and the person must know.
        status, error = "failed", {"code": "JOB_PURGED", "title": "The service no longer keeps this document."}
    withdrawals.hear_of_job(conn, cmid, status, now)
    if status != "failed":
        # The job was retried; a document that could not be had (its job had not failed) stays the person's to decide.
        conn.execute(
            "UPDATE requests SET state = 'acknowledged', reason_code = NULL, reason_title = NULL, changed_at = ?"
            " WHERE client_mutation_id = ? AND state = 'failed' AND job_status = 'failed' AND reason_code IS NOT ?",
            (now, cmid, withdrawals.ALREADY_SENT),
        )
    conn.execute(
        "UPDATE requests SET job_id = ?, job_status = ?, document_id = coalesce(?, document_id), job = ?"
        " WHERE client_mutation_id = ? AND state NOT IN ('discarded')",
        (job.get("id"), status, job.get("documentId"), json.dumps(job), cmid),
    )
    if status == "failed":
        title = error.get("title") or "The document could not be made."
        conn.execute(
            "UPDATE requests SET state = 'failed', reason_code = ?, reason_title = ?, changed_at = ?"
            " WHERE client_mutation_id = ? AND state = 'acknowledged'",
            (error.get("code") or "FAILED", join_detail(title, error.get("detail")), now, cmid),
        )


def fail_undelivered(conn: apsw.Connection, document_ids: Sequence[str], code: str, title: str, now: float) -> None:
    """Bring requests to the person's attention whose documents were withdrawn, or refused, before they arrived."""
    conn.execute(
        "UPDATE requests SET state = 'failed', reason_code = ?, reason_title = ?, changed_at = ?"
        " WHERE state = 'acknowledged' AND document_id IN (SELECT value FROM json_each(?))",
        (code, title, now, json.dumps(list(document_ids))),
    )


def finish(conn: apsw.Connection, document_ids: Sequence[str], now: float) -> int:
    """Mark requests as done whose document was verified on the device; returns how many."""
    conn.execute(
        "UPDATE requests SET state = 'done', changed_at = ? WHERE state = 'acknowledged'"
        " AND document_id IN (SELECT value FROM json_each(?))",
        (now, json.dumps(list(document_ids))),
    )
    return conn.changes()


def read_promised(conn: apsw.Connection, epoch: str) -> list[str]:
    """Return the ids that a server before ``epoch`` had acknowledged."""
    return [
        str(row[0])
        for row in conn.execute(
            "SELECT client_mutation_id FROM requests WHERE state IN ('acknowledged','done','failed')"
            " AND epoch IS NOT ? ORDER BY sequence",
            (epoch,),
        )
    ]


def offer_again(conn: apsw.Connection, cmid: str, now: float) -> bool:
    """Queue a request again that the server does not know, but for one that was taken back; whether it is queued."""
    withdrawals.settle_unknown(conn, cmid, now)
    conn.execute(
        "UPDATE requests SET state = 'queued', operation = 'submit', epoch = NULL, not_before = 0, server_said = 0,"
        " job_id = NULL, job_status = NULL, document_id = NULL, job = NULL, reason_code = NULL, reason_title = NULL,"
        " changed_at = ?, kept_from = NULL WHERE client_mutation_id = ? AND state IN ('acknowledged','done','failed')",
        (now, cmid),
    )
    return conn.changes() > 0


def confirm(conn: apsw.Connection, cmid: str, job: dict[str, Any], epoch: str | None, now: float) -> None:
    """Record that the server of a new epoch still knows the request, with its job."""
    conn.execute("UPDATE requests SET epoch = ? WHERE client_mutation_id = ?", (epoch, cmid))
    apply_job(conn, job, now, client_mutation_id=cmid)


def purge_done(conn: apsw.Connection, heard: float, counted: float) -> int:
    """Remove requests that were done or discarded 60 days ago; returns how many.

    ``heard`` is the server's time when it was last heard, ``counted`` what it is now. The 60 days count from when a
    request is first seen here as done.
    """
    done = "state IN ('done','discarded')"
    conn.execute(f"UPDATE requests SET kept_from = ? WHERE {done} AND kept_from IS NULL", (counted,))
    conn.execute(f"DELETE FROM requests WHERE {done} AND kept_from < ?", (heard - KEEP_DONE_SECONDS,))
    return conn.changes()


# --- What a person decides ------------------------------------------------------------------------------------


def retry(conn: apsw.Connection, request: Request, now: float) -> None:
    """Queue a request again under the same id: a failed job as a new attempt, anything else as a replay."""
    new_attempt = request.state == "failed" and request.job_status == "failed" and request.job_id is not None
    conn.execute(
        "UPDATE requests SET state = 'queued', operation = ?, tries = 0, failures = 0, not_before = 0,"
        " server_said = 0, reason_code = NULL, reason_title = NULL, changed_at = ? WHERE sequence = ?",
        ("retry" if new_attempt else "submit", now, request.sequence),
    )


# --- Facts ----------------------------------------------------------------------------------------------------


def count_states(conn: apsw.Connection) -> dict[str, int]:
    """Return how many requests are in each state."""
    return {str(state): int(n) for state, n in conn.execute("SELECT state, count(*) FROM requests GROUP BY state")}


def read_locale(conn: apsw.Connection, document_id: str) -> str | None:
    """Return the language in which a document was asked for here, or None when it was not."""
    row = conn.execute("SELECT body FROM requests WHERE document_id = ?", (document_id,)).fetchone()
    return None if row is None else json.loads(row[0]).get("locale")


def count_awaiting(conn: apsw.Connection, document_ids: Sequence[str]) -> int:
    """Return how many acknowledged requests wait for one of these documents."""
    return int(
        conn.execute(
            "SELECT count(*) FROM requests WHERE state = 'acknowledged'"
            " AND document_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(document_ids)),),
        ).get
    )


def next_due(conn: apsw.Connection) -> float | None:
    """Return when the next queued request may be sent, or None when nothing is queued."""
    value = conn.execute("SELECT min(not_before) FROM requests WHERE state = 'queued'").get
    return None if value is None else float(value)


def read_fact(conn: apsw.Connection, name: str) -> str | None:
    """Return a remembered fact of the sync (its last attempt, its last success, the known epoch), or None."""
    row = conn.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def write_fact(conn: apsw.Connection, name: str, value: str | None) -> None:
    """Remember or forget a fact."""
    if value is None:
        conn.execute("DELETE FROM facts WHERE name = ?", (name,))
    else:
        conn.execute(
            "INSERT INTO facts VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
        )
