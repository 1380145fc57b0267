"""Documents kept on this device: sealed copies that can be read offline until they expire (contract §4).

State of an entry, derived from its row and the time, never remembered:

    wanted ──bytes verified──> available ──expiry──> expired ──server time confirms, or 72 h──> expired, bytes gone
                                  │  └──quota──> evicted        (connect: refreshed, and available again)
                                  └──revocation──> gone at once;   no contact for the lease: locked, as a whole

A document that is larger than the whole quota is *too large*: it is not fetched until the policy gives more room.

Bytes arrive in ``parts`` (a download can be resumed after a crash) and become visible in ``blobs`` only when length
and SHA-256 agree. Functions take the connection of the cache database and run inside the caller's transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import apsw

from . import recalls
from .clock import to_text
from .ids import made_at
from .localdb import snapshot
from .policy import CachePolicy

EntryState = Literal["available", "expired", "evicted", "locked", "waiting", "too large"]

# Contract §4: without the server's word, bytes outlive their expiry by 72 hours at most.
GRACE_SECONDS = 72 * 3600.0
# A copy is refreshed when less than a fifth of its life is left, so that a weekly visit keeps a clinic readable.
REFRESH_SHARE = 0.2

SCHEMA = """
    CREATE TABLE documents (
        document_id TEXT PRIMARY KEY,
        body TEXT NOT NULL,
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        job_id TEXT,
        generation INTEGER NOT NULL,
        wanted INTEGER NOT NULL DEFAULT 0,
        pinned INTEGER NOT NULL DEFAULT 0,
        fetched_at REAL,
        ttl_at_fetch REAL,
        opened_at REAL,
        evicted INTEGER NOT NULL DEFAULT 0,
        server_lost INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE blobs (document_id TEXT PRIMARY KEY REFERENCES documents ON DELETE CASCADE, content BLOB NOT NULL);
    CREATE TABLE parts (
        document_id TEXT NOT NULL REFERENCES documents ON DELETE CASCADE,
        start INTEGER NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (document_id, start)
    ) WITHOUT ROWID;
    CREATE TABLE revocations (document_id TEXT PRIMARY KEY, reason TEXT NOT NULL);
    CREATE TABLE jobs (job_id TEXT PRIMARY KEY, document_id TEXT, status TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One known document: its metadata as the server last said, and what this device has of it."""

    document_id: str
    body: dict[str, Any]
    size: int
    sha256: str
    fetched_at: float | None
    ttl_at_fetch: float | None
    opened_at: float | None
    evicted: bool
    wanted: bool
    server_lost: bool
    pinned: bool
    here: bool

    @property
    def made(self) -> str:
        """When it was rendered, as an instant; a scan was not, and its id says when it was taken in."""
        return str(self.body.get("renderedAt") or to_text(made_at(self.document_id) or 0.0))

    def expires_at(self, policy: CachePolicy) -> float | None:
        """Return when the copy expires: the shorter of the policy when it was fetched and the policy now."""
        if self.fetched_at is None or self.ttl_at_fetch is None:
            return None
        return self.fetched_at + min(self.ttl_at_fetch, policy.ttl)

    def state(self, policy: CachePolicy, now: float, *, locked: bool) -> EntryState:
        """Return what can be done with the entry now."""
        expires = self.expires_at(policy)
        if expires is None:
            return "too large" if self.size > policy.quota else "waiting"
        if locked:
            return "locked"
        if now >= expires:
            return "expired"
        if self.here:
            return "available"
        if self.size > policy.quota:
            return "too large"
        return "evicted" if self.evicted else "waiting"


_ENTRY = (
    "SELECT d.document_id, d.body, d.size, d.sha256, d.fetched_at, d.ttl_at_fetch, d.opened_at, d.evicted, d.wanted,"
    " d.server_lost, d.pinned, EXISTS (SELECT 1 FROM blobs b WHERE b.document_id = d.document_id) FROM documents d "
)


def _entries(conn: apsw.Connection, where: str, values: Sequence[Any] = ()) -> list[Entry]:
    return [
        Entry(i, json.loads(b), size, sha, fetched, ttl, opened, *map(bool, flags))
        for i, b, size, sha, fetched, ttl, opened, *flags in conn.execute(_ENTRY + where, values)
    ]


def read_entries(conn: apsw.Connection) -> list[Entry]:
    """Return the documents that are on this device, were, or are meant to be; newest first."""
    found = _entries(conn, "WHERE d.wanted OR d.fetched_at IS NOT NULL")
    return sorted(found, key=lambda e: (e.made, e.document_id), reverse=True)


def read_entry(conn: apsw.Connection, document_id: str) -> Entry | None:
    """Return one entry by document id or by its number, or None."""
    found = _entries(conn, "WHERE d.document_id = ?", (document_id,))
    if not found:
        # No index helps here: the numbers are read only when the text is no id.
        found = _entries(conn, "WHERE json_extract(d.body, '$.number') = ?", (document_id,))
    return found[0] if found else None


def read_revocation(conn: apsw.Connection, document_id: str) -> str | None:
    """Return why a document was revoked, or None."""
    row = conn.execute("SELECT reason FROM revocations WHERE document_id = ?", (document_id,)).fetchone()
    return None if row is None else str(row[0])


def read_revoked(conn: apsw.Connection) -> list[str]:
    """Return the ids of all documents known to be revoked."""
    return [str(row[0]) for row in conn.execute("SELECT document_id FROM revocations")]


def read_given_up(conn: apsw.Connection) -> list[str]:
    """Return the ids of documents that the server refused to give and that were never here."""
    return [
        str(row[0]) for row in conn.execute("SELECT document_id FROM documents WHERE evicted AND fetched_at IS NULL")
    ]


def read_oversized(conn: apsw.Connection, policy: CachePolicy) -> dict[str, int]:
    """Return the documents, with their sizes in bytes, that will not come: each is larger than the whole quota."""
    sql = "SELECT document_id, size FROM documents WHERE fetched_at IS NULL AND size > ?"
    return {str(document_id): int(size) for document_id, size in conn.execute(sql, (policy.quota,))}


def save_document(conn: apsw.Connection, body: Mapping[str, Any], generation: int) -> None:
    """Insert or replace a document's metadata; other bytes than before make the copy here worthless."""
    document_id, sha256 = str(body["id"]), str(body.get("sha256") or "")
    if read_revocation(conn, document_id) is not None:
        recalls.note_replacement(conn, document_id, body.get("supersededBy"))
        return
    if body.get("status") == "entered-in-error":
        revoke(conn, [{"documentId": document_id, "reason": "entered-in-error"}])
        return
    conn.execute("DELETE FROM withdrawn WHERE document_id = ?", (document_id,))
    conn.execute(
        "DELETE FROM blobs WHERE document_id = ?1 AND (SELECT sha256 FROM documents WHERE document_id = ?1) <> ?2",
        (document_id, sha256),
    )
    conn.execute(
        "INSERT INTO documents (document_id, body, size, sha256, job_id, generation) VALUES (?,?,?,?,?,?)"
        " ON CONFLICT (document_id) DO UPDATE SET body = excluded.body, size = excluded.size,"
        " sha256 = excluded.sha256, job_id = excluded.job_id, generation = excluded.generation, server_lost = 0",
        (document_id, json.dumps(body), int(body.get("size") or 0), sha256, body.get("renderJobId"), generation),
    )


def save_job(conn: apsw.Connection, job: Mapping[str, Any]) -> None:
    """Remember a job of this user: its document is wanted here."""
    conn.execute(
        "INSERT INTO jobs VALUES (?,?,?) ON CONFLICT (job_id) DO UPDATE SET document_id = excluded.document_id,"
        " status = excluded.status",
        (job["id"], job.get("documentId"), str(job.get("status"))),
    )


def want_own(conn: apsw.Connection) -> None:
    """Want what own jobs made, even if refused or evicted beforehand, and what replaces a copy, until it has come."""
    conn.execute(
        "UPDATE documents SET wanted = 1, evicted = 0 WHERE NOT wanted AND job_id IN (SELECT job_id FROM jobs)"
        " OR (NOT wanted OR fetched_at IS NULL) AND document_id IN (SELECT replaced_by FROM withdrawn)"
    )


def want(conn: apsw.Connection, document_id: str) -> None:
    """Mark one document as wanted, evicted or not."""
    conn.execute("UPDATE documents SET wanted = 1, evicted = 0 WHERE document_id = ?", (document_id,))


def give_up(conn: apsw.Connection, document_id: str) -> None:
    """Stop fetching a document that the server does not give, until a person wants it again or it replaces a copy."""
    conn.execute("UPDATE documents SET evicted = 1 WHERE document_id = ?", (document_id,))


def revoke(conn: apsw.Connection, revocations: Sequence[Mapping[str, Any]], *, whole: bool = False) -> None:
    """Remove revoked documents with their bytes, at once; ``whole``: no other one is revoked (any more)."""
    if whole:
        conn.execute("DELETE FROM revocations")
    for revocation in revocations:
        document_id, reason = str(revocation["documentId"]), str(revocation.get("reason") or "")
        conn.execute("INSERT OR REPLACE INTO revocations VALUES (?,?)", (document_id, reason))
        recalls.note(conn, document_id, reason)
        conn.execute("DELETE FROM documents WHERE document_id = ?", (document_id,))


def sweep(conn: apsw.Connection, generation: int) -> None:
    """Remove documents that a whole listing did not name, except those whose job a restored server lost."""
    conn.execute("DELETE FROM documents WHERE generation <> ? AND NOT server_lost", (generation,))


def mark_server_lost(conn: apsw.Connection, document_id: str) -> None:
    """Keep a copy although a restored server does not know its job, and say so."""
    conn.execute("UPDATE documents SET server_lost = 1 WHERE document_id = ?", (document_id,))


# --- Downloads ------------------------------------------------------------------------------------------------


def read_wanted(conn: apsw.Connection, policy: CachePolicy, now: float) -> list[Entry]:
    """Return what should be fetched or refreshed: missing before old, own before others, then smallest first."""
    own = {str(row[0]) for row in conn.execute("SELECT job_id FROM jobs")}
    chosen = []
    for entry in _entries(conn, "WHERE d.wanted AND NOT d.evicted AND NOT d.server_lost AND d.sha256 <> ''"):
        if entry.size <= policy.quota and (not entry.here or _is_old(entry, policy, now)):
            chosen.append(entry)
    return sorted(chosen, key=lambda e: (e.here, e.body.get("renderJobId") not in own, e.size, e.document_id))


def read_beforehand(conn: apsw.Connection, policy: CachePolicy, now: float) -> list[Entry]:
    """Return what the policy's prefetch rule wants fetched or confirmed, newest first: current, young, small enough.

    Never more together than the rule allows, nor than own documents leave room for: they are not evicted for it.
    """
    rule = policy.prefetch
    if rule is None:
        return []
    oldest = now - rule.days * 86_400.0
    found = _entries(
        conn,
        "WHERE NOT d.wanted AND NOT d.evicted AND NOT d.server_lost AND d.sha256 <> ''"
        " AND json_extract(d.body, '$.status') = 'current' AND (?1 = '[]' OR json_extract(d.body, '$.category') IN"
        " (SELECT value FROM json_each(?1))) AND coalesce(json_extract(d.body, '$.renderedAt'), ?2) >= ?2",
        (json.dumps(rule.categories), to_text(oldest)),
    )
    found.sort(key=lambda e: (e.made, e.document_id), reverse=True)
    listed = [entry for entry in found if entry.made >= to_text(oldest)]
    held = sum(entry.size for entry in listed if entry.here)
    room = min(rule.most_bytes, policy.quota - (count_bytes(conn) - held))
    chosen = []
    for entry in listed:
        if entry.size <= room:
            room -= entry.size
            if not entry.here or _is_old(entry, policy, now):
                chosen.append(entry)
    return chosen


def _is_old(entry: Entry, policy: CachePolicy, now: float) -> bool:
    """Return whether so little of a copy's life is left that it is to be confirmed or fetched again."""
    expires = entry.expires_at(policy)
    life = min(entry.ttl_at_fetch or policy.ttl, policy.ttl)
    return expires is not None and expires - now < life * REFRESH_SHARE


def read_received(conn: apsw.Connection, document_id: str) -> int:
    """Return how many bytes of an unfinished download are here, without a gap from the start."""
    end = 0
    for start, length in conn.execute(
        "SELECT start, length(content) FROM parts WHERE document_id = ? ORDER BY start", (document_id,)
    ):
        if start != end:
            break
        end += length
    return end


def add_part(conn: apsw.Connection, document_id: str, start: int, content: bytes) -> None:
    """Keep a piece of a download, unless the document was revoked while it came."""
    conn.execute(
        "INSERT OR REPLACE INTO parts SELECT document_id, ?, ? FROM documents WHERE document_id = ?",
        (start, content, document_id),
    )


def drop_parts(conn: apsw.Connection, document_id: str) -> None:
    """Forget an unfinished download."""
    conn.execute("DELETE FROM parts WHERE document_id = ?", (document_id,))


def complete(conn: apsw.Connection, document_id: str, policy: CachePolicy, now: float) -> bool:
    """Make a finished download visible if its length and SHA-256 agree; otherwise drop it and return False."""
    row = conn.execute("SELECT size, sha256 FROM documents WHERE document_id = ?", (document_id,)).fetchone()
    if row is None:
        return False
    parts = conn.execute("SELECT content FROM parts WHERE document_id = ? ORDER BY start", (document_id,))
    content = b"".join(part for (part,) in parts)
    drop_parts(conn, document_id)
    if len(content) != row[0] or hashlib.sha256(content).hexdigest() != row[1]:
        return False
    conn.execute("INSERT OR REPLACE INTO blobs VALUES (?,?)", (document_id, content))
    renew(conn, document_id, policy, now)
    return True


def renew(conn: apsw.Connection, document_id: str, policy: CachePolicy, now: float) -> None:
    """Start an entry's life anew: its bytes were fetched, or the server confirmed them."""
    conn.execute(
        "UPDATE documents SET fetched_at = ?, ttl_at_fetch = ?, evicted = 0 WHERE document_id = ?",
        (now, policy.ttl, document_id),
    )


def end_lives(conn: apsw.Connection, now: float) -> None:
    """End every life at ``now``, the first time of the server that is known here.

    What was fetched before began its life by a clock that nobody had checked and that may have been a year ahead. The
    same run asks the server to confirm these copies, which starts their lives anew.
    """
    conn.execute("UPDATE documents SET fetched_at = ? - ttl_at_fetch WHERE fetched_at IS NOT NULL", (now,))


def read_present(conn: apsw.Connection) -> list[str]:
    """Return the ids of documents whose verified bytes are here, or were until room was needed or they expired."""
    return [str(row[0]) for row in conn.execute("SELECT document_id FROM documents WHERE fetched_at IS NOT NULL")]


def read_bytes(conn: apsw.Connection, document_id: str) -> bytes | None:
    """Return a document's bytes, or None; whether they may be shown is the caller's look at the entry's state."""
    # One copy in memory less than by SELECT; in one state, for the row's number may be another document's later.
    with snapshot(conn):
        row = conn.execute("SELECT rowid FROM blobs WHERE document_id = ?", (document_id,)).get
        if row is not None:
            with conn.blob_open("main", "blobs", "content", row, False) as blob:
                return bytes(blob.read())
    return None


def mark_opened(conn: apsw.Connection, document_id: str, now: float) -> None:
    """Note the use of an entry; the least recently used go first when the quota is reached."""
    conn.execute("UPDATE documents SET opened_at = ? WHERE document_id = ?", (now, document_id))


# --- Making room ----------------------------------------------------------------------------------------------


def purge_expired(conn: apsw.Connection, policy: CachePolicy, now: float, confirmed: float | None) -> int:
    """Delete the bytes of copies whose expiry server time confirms, or that expired 72 h ago; returns how many."""
    gone = 0
    grace = 0.0 if policy.on_expiry == "delete" else GRACE_SECONDS
    for entry in _entries(conn, "WHERE d.fetched_at IS NOT NULL"):
        expires = entry.expires_at(policy)
        if expires is None or not entry.here:
            continue
        if (confirmed is not None and confirmed >= expires) or now >= expires + grace:
            conn.execute("DELETE FROM blobs WHERE document_id = ?", (entry.document_id,))
            gone += 1
    return gone


def keep_quota(conn: apsw.Connection, policy: CachePolicy) -> int:
    """Evict the least recently used copies that are not pinned until the rest fits; returns how many.

    What came beforehand and nobody has opened goes first.
    """
    total = count_bytes(conn)
    evicted = 0
    rows: list[tuple[Any, ...]] = conn.execute(
        "SELECT d.document_id, length(b.content) FROM documents d JOIN blobs b USING (document_id) WHERE NOT d.pinned"
        " ORDER BY d.wanted OR d.opened_at IS NOT NULL, max(coalesce(d.opened_at, 0), d.fetched_at), d.document_id"
    ).fetchall()
    for document_id, size in rows:
        if total <= policy.quota:
            break
        conn.execute("DELETE FROM blobs WHERE document_id = ?", (document_id,))
        conn.execute("UPDATE documents SET evicted = 1 WHERE document_id = ?", (document_id,))
        total -= size
        evicted += 1
    return evicted


def count_bytes(conn: apsw.Connection) -> int:
    """Return the size of all copies together, in bytes."""
    return int(conn.execute("SELECT coalesce(sum(length(content)), 0) FROM blobs").get)
