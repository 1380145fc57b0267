"""The audit outbox: what was opened, saved, exported, printed or discarded on this device, until the server has it.

One sealed database per (device, tenant). Events are chained by hash: ``hash`` is the SHA-256 of the RFC 8785 form of
the event without ``hash``, and names its predecessor; the first predecessor is 64 zeros (contract §6). Any session of
the tenant sends them. State of an event: pending → sent, or refused (could not be parsed; kept and shown).

Events that were taken back from an outbox that was set aside (``recovery``) stand before the chain, under numbers below
one: they belong to a chain that is over. They are sent as they were written, with ``recovered`` beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from .clock import Reading, to_text
from .localdb import snapshot

FIRST_HASH = "0" * 64
# The server takes batches; a hundred events are about 60 KB, one round trip on a slow link.
BATCH = 100
# As long as the requests they belong to.
KEEP_SENT_SECONDS = 60 * 86_400.0

SCHEMA = (
    """
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL UNIQUE,
        event TEXT NOT NULL,
        hash TEXT NOT NULL,
        action TEXT NOT NULL,
        document_id TEXT,
        state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending','sent','refused')),
        occurred REAL NOT NULL
    );
    CREATE INDEX events_by_state ON events (state, sequence);
    """,
    # ``occurred`` is the device's own time, which may have been years behind; the server's time, once it is known.
    "ALTER TABLE events ADD COLUMN kept_from REAL",
    # How often everything was offered again: an answer to an earlier offer says nothing about a restored server.
    """
    CREATE TABLE offers (only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL);
    INSERT INTO offers VALUES (1, 0);
    """,
)


@dataclass(frozen=True, slots=True)
class Happening:
    """What happened: an action word, the document and its hash, and for a print the copy and the printer."""

    action: str
    user_id: str
    document_id: str | None = None
    document_sha256: str | None = None
    copy: int | None = None
    printer: str | None = None
    client_mutation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One event as it is kept: its place, its text as it was written, and what became of it."""

    sequence: int
    event_id: str
    event: str
    hash: str
    action: str
    document_id: str | None
    state: str
    occurred: float


def record(conn: apsw.Connection, event_id: str, device_id: str, happening: Happening, when: Reading) -> dict[str, Any]:
    """Append the event to the chain inside the caller's transaction, and return it as it will be sent."""
    last = conn.execute(
        "SELECT sequence, hash FROM events WHERE sequence > 0 ORDER BY sequence DESC LIMIT 1"
    ).fetchone()
    sequence, previous = (int(last[0]) + 1, str(last[1])) if last else (1, FIRST_HASH)
    event: dict[str, Any] = {
        "eventId": event_id,
        "deviceId": device_id,
        "userId": happening.user_id,
        "sequence": sequence,
        "action": happening.action,
        "documentId": happening.document_id,
        "documentSha256": happening.document_sha256,
        "occurredAt": to_text(when.now),
        "clock": when.confidence,
        "previousHash": previous,
    }
    if happening.copy is not None:
        event["copy"] = happening.copy
    if happening.printer is not None:
        event["printer"] = happening.printer
    if happening.client_mutation_id is not None:
        event["clientMutationId"] = happening.client_mutation_id
    event["hash"] = hash_event(event)
    conn.execute(
        "INSERT INTO events (sequence, event_id, event, hash, action, document_id, occurred) VALUES (?,?,?,?,?,?,?)",
        (sequence, event_id, json.dumps(event), event["hash"], happening.action, happening.document_id, when.now),
    )
    return event


def hash_event(event: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of the canonical form of an event without its own hash."""
    import rfc8785

    return hashlib.sha256(rfc8785.dumps({k: v for k, v in event.items() if k != "hash"})).hexdigest()


def read_pending(conn: apsw.Connection, limit: int = BATCH) -> list[dict[str, Any]]:
    """Return the oldest events that the server does not have, as they are sent."""
    rows = conn.execute(
        "SELECT sequence, event FROM events WHERE state = 'pending' ORDER BY sequence LIMIT ?", (limit,)
    )
    # Beside the event and not in it: its hash is the one that it was written with.
    return [json.loads(event) | ({"recovered": True} if sequence < 1 else {}) for sequence, event in rows]


def read_offer(conn: apsw.Connection) -> tuple[int, list[dict[str, Any]]]:
    """Return how often everything was offered again, and what is to be sent; an answer counts for that offer only."""
    with snapshot(conn):
        return _count_offers(conn), read_pending(conn)


def _count_offers(conn: apsw.Connection) -> int:
    return int(conn.execute("SELECT number FROM offers").get)


def read_row(conn: apsw.Connection, sequence: int) -> Row | None:
    """Return one event as it is kept, or None."""
    columns = "sequence, event_id, event, hash, action, document_id, state, occurred"
    found = conn.execute(f"SELECT {columns} FROM events WHERE sequence = ?", (sequence,)).fetchone()
    return None if found is None else Row(*found)


def take_back(conn: apsw.Connection, rows: Sequence[Row]) -> int:
    """Put the events of another outbox before the chain, to be sent; returns how many are new here.

    What had been sent is offered again: the server may have been restored since, and takes what it has only once.
    """
    least = int(conn.execute("SELECT min(coalesce(min(sequence), 1), 1) FROM events").get)
    count = 0
    for place, row in enumerate(rows, least - len(rows)):
        state = "refused" if row.state == "refused" else "pending"
        conn.execute(
            "INSERT INTO events (sequence, event_id, event, hash, action, document_id, state, occurred)"
            " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (event_id) DO NOTHING",
            (place, row.event_id, row.event, row.hash, row.action, row.document_id, state, row.occurred),
        )
        count += conn.changes()
    return count


def mark(conn: apsw.Connection, results: Sequence[tuple[str, str]], offer: int) -> bool:
    """Record the server's answer for each event: accepted and duplicate are sent, refused is kept and shown.

    ``offer`` is the number that ``read_offer`` gave with the events. When all was offered again since, the answer may
    be that of a server which was restored afterwards: nothing is recorded, and the events are sent once more. Returns
    whether the answer counted.
    """
    if _count_offers(conn) != offer:
        return False
    for event_id, status in results:
        state = {"accepted": "sent", "duplicate": "sent", "refused": "refused"}.get(status)
        if state is not None:
            conn.execute("UPDATE events SET state = ? WHERE event_id = ?", (state, event_id))
    return True


def offer_again(conn: apsw.Connection) -> None:
    """Make what was sent pending again: a restored server may have lost it, and takes what it has only once."""
    conn.execute("UPDATE events SET state = 'pending', kept_from = NULL WHERE state = 'sent'")
    conn.execute("UPDATE offers SET number = number + 1")


def count_copies(conn: apsw.Connection, document_id: str) -> int:
    """Return how many copies of a document this device meant to print so far."""
    rows = conn.execute("SELECT event FROM events WHERE document_id = ? AND action = 'print.intent'", (document_id,))
    return max((int(json.loads(row[0]).get("copy") or 0) for row in rows), default=0)


def read_prints(conn: apsw.Connection) -> list[dict[str, Any]]:
    """Return the kept print events, oldest first."""
    rows = conn.execute("SELECT event FROM events WHERE action LIKE 'print.%' ORDER BY sequence")
    return [json.loads(row[0]) for row in rows]


def count_states(conn: apsw.Connection) -> dict[str, int]:
    """Return how many events are pending, sent and refused."""
    return {str(state): int(n) for state, n in conn.execute("SELECT state, count(*) FROM events GROUP BY state")}


def read_all(conn: apsw.Connection) -> list[dict[str, Any]]:
    """Return every kept event with its ``state``, oldest first."""
    rows = conn.execute("SELECT event, state FROM events ORDER BY sequence")
    return [{**json.loads(event), "state": state} for event, state in rows]


def purge_sent(conn: apsw.Connection, heard: float, counted: float) -> None:
    """Remove events sent long ago; never the last one, which the next event names, nor prints (copy numbers).

    ``heard`` is the server's time when it was last heard, ``counted`` what it is now. How long an event is kept counts
    from when it is first seen here as sent.
    """
    conn.execute("UPDATE events SET kept_from = ? WHERE state = 'sent' AND kept_from IS NULL", (counted,))
    conn.execute(
        "DELETE FROM events WHERE state = 'sent' AND kept_from < ? AND action NOT LIKE 'print.%'"
        " AND sequence < (SELECT max(sequence) FROM events)",
        (heard - KEEP_SENT_SECONDS,),
    )
