"""The chain over the audit trail: what makes a changed, missing or cut-off row visible, to whoever has the keys.

Rows commit unchained in the transaction of their act; one sequencer appends to ``audit_chain`` afterwards, in feed
order (transaction, sequence) and below the oldest running transaction, so that no row is passed over. Each link is

    hash = HMAC-SHA256(key of the tenant, previous hash + canonical JSON of the event)

The key is not in the database, so its owner can edit a row but not the links behind it. What a chain alone cannot show
is a tail that was cut off; for that a head (sequence, hash) signed with the service's own key goes to the object store
every minute. Heads are kept per sync epoch: a database that was restored from a backup continues a shorter chain, and
the head of the epoch before says how much is missing.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from document_service.database import Connection

#: What the first link of a tenant refers to.
FIRST_HASH = bytes(32)

#: Events chained in one transaction: some tens of milliseconds, so that a backlog is worked off in small steps.
BATCH = 1000

#: An event that has no link after this long was passed over or put in afterwards; the sequencer takes two seconds.
UNCHAINED_AFTER = timedelta(seconds=10)

#: Heads of earlier epochs that are kept in a tenant's mark; a service is not restored more often in its life.
EPOCHS_KEPT = 20

#: Any numbers will do as long as every version of the service takes the same.
SEQUENCER_LOCK = 3_020_003
HEADS_LOCK = 3_020_004

_EVENT = (
    "id",
    "recorded_at",
    "occurred_at",
    "action",
    "outcome",
    "actor",
    "device_id",
    "document_id",
    "job_id",
    "template_id",
    "upload_id",
    "patient_id",
    "request_id",
    "device_event_id",
)
_EVENT_COLUMNS = ", ".join(f"e.{name}" for name in _EVENT)

Mac = Callable[[str, str, bytes], bytes]


def chain_key(mac: Mac, tenant_id: str) -> bytes:
    """The tenant's key of the chain; deriving it once makes a link cost one HMAC."""
    return mac(tenant_id, "audit-chain", b"key v1")


def link(key: bytes, previous_hash: bytes, row: Any) -> bytes:
    """The hash of the link of one event, from its row with ``xid``, ``seq`` and ``detail`` as text."""
    event: dict[str, Any] = {name: row[name] for name in _EVENT}
    for name in ("recorded_at", "occurred_at"):
        event[name] = event[name].astimezone(UTC).isoformat()
    event |= {"xid": str(row["xid"]), "seq": str(row["seq"]), "tenant_id": row["tenant_id"], "detail": row["detail"]}
    return hmac.digest(key, previous_hash + _canonical(event), "sha256")


def _canonical(texts: dict[str, Any]) -> bytes:
    """The RFC 8785 form of an object that holds text and nulls only, where it leaves no more than the order of members.

    The library's writer, which takes numbers and nesting too, needs five times as long: half of what a link costs.
    """
    return json.dumps(texts, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Tail:
    """The last link of a tenant's chain."""

    tenant_id: str
    chain_seq: int
    hash: bytes
    xid: str
    seq: int


async def take_lock(connection: Connection, key: int) -> bool:
    """Whether this transaction is the only one that holds ``key``."""
    taken: bool = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", key)
    return taken


async def tails(connection: Connection, *, unchained_only: bool = False) -> list[Tail]:
    """The tail of every tenant that is not shredded; only those with events that wait for a link. System role."""
    rows = await connection.fetch(
        """SELECT t.tenant_id, coalesce(c.chain_seq, 0) AS chain_seq, c.hash, coalesce(c.xid, '0'::xid8)::text AS xid,
               coalesce(c.seq, 0) AS seq
           FROM tenants t LEFT JOIN LATERAL (SELECT * FROM audit_chain c WHERE c.tenant_id = t.tenant_id
               ORDER BY chain_seq DESC LIMIT 1) c ON true
           WHERE t.shredded_at IS NULL AND (NOT $1 OR EXISTS (SELECT FROM audit_events e
               WHERE e.tenant_id = t.tenant_id AND (e.xid, e.seq) > (coalesce(c.xid, '0'::xid8), coalesce(c.seq, 0))
                 AND e.xid < pg_snapshot_xmin(pg_current_snapshot())))""",
        unchained_only,
    )
    return [Tail(**{**dict(row), "hash": row["hash"] or FIRST_HASH}) for row in rows]


async def append(connection: Connection, tail: Tail, key: bytes) -> Tail:
    """Chain the next events after ``tail``, at most ``BATCH``; the new tail. System role, under the lock."""
    rows = await connection.fetch(
        f"""SELECT e.tenant_id, {_EVENT_COLUMNS}, e.xid::text AS xid, e.seq, e.detail::text AS detail
            FROM audit_events e WHERE e.tenant_id = $1 AND (e.xid, e.seq) > ($2::text::xid8, $3)
              AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
            ORDER BY e.xid, e.seq LIMIT {BATCH}""",
        tail.tenant_id,
        tail.xid,
        tail.seq,
    )
    links = []
    for row in rows:
        made = link(key, tail.hash, row)
        tail_before, tail = tail, Tail(tail.tenant_id, tail.chain_seq + 1, made, row["xid"], row["seq"])
        links.append((tail.tenant_id, tail.chain_seq, row["id"], row["xid"], row["seq"], tail_before.hash, made))
    await connection.executemany(
        """INSERT INTO audit_chain (tenant_id, chain_seq, event_id, xid, seq, previous_hash, hash)
           VALUES ($1, $2, $3, $4::text::xid8, $5, $6, $7)""",
        links,
    )
    return tail


async def hash_at(connection: Connection, tenant_id: str, chain_seq: int) -> bytes | None:
    """The hash of one link, None when the chain does not reach so far."""
    found: bytes | None = await connection.fetchval(
        "SELECT hash FROM audit_chain WHERE tenant_id = $1 AND chain_seq = $2", tenant_id, chain_seq
    )
    return found


# --- heads -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stood at an instant, in one sync epoch; ``hash`` in hex."""

    epoch: str
    chain_seq: int
    hash: str
    at: str


def head_name(tenant_id: str) -> str:
    """The name of the tenant's mark in the object store."""
    return f"audit-head.{tenant_id}"


def write_heads(heads: list[Head], tenant_id: str, sign: Callable[[str, bytes], tuple[str, bytes]]) -> bytes:
    """The mark: the heads of the last epochs, the current one last, under one signature."""
    listed = [{"epoch": h.epoch, "chainSeq": h.chain_seq, "hash": h.hash, "at": h.at} for h in heads[-EPOCHS_KEPT:]]
    content: dict[str, Any] = {"tenant": tenant_id, "heads": listed}
    kid, signature = sign("audit-head", rfc8785.dumps(content))
    return json.dumps({**content, "kid": kid, "signature": signature.hex()}).encode()


def read_heads(mark: bytes | None, tenant_id: str, public_keys: list[dict[str, str]]) -> list[Head]:
    """The heads of a mark, oldest epoch first; empty when there is none yet. ``public_keys`` as the key store's.

    Raises:
        ValueError: the mark is not one of ours, or of another tenant.
    """
    if mark is None:
        return []
    try:
        record = json.loads(mark)
        content = {"tenant": record["tenant"], "heads": record["heads"]}
        _check(record["kid"], bytes.fromhex(record["signature"]), rfc8785.dumps(content), public_keys)
        heads = [Head(h["epoch"], int(h["chainSeq"]), h["hash"], h["at"]) for h in record["heads"]]
    except (KeyError, TypeError, ValueError, StopIteration, InvalidSignature) as reason:
        raise ValueError("the mark has another form, or its signature is not the service's") from reason
    if record["tenant"] != tenant_id:
        raise ValueError("the mark is another tenant's")
    return heads


def _check(kid: str, signature: bytes, content: bytes, public_keys: list[dict[str, str]]) -> None:
    key = next(key["publicKey"] for key in public_keys if key["kid"] == kid)
    raw = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, b"document-service audit-head v1\n" + content)


# --- verification ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the chain shows: ``altered``, ``missing``, ``unchained``, ``cut`` or ``head``; or a ``note``."""

    kind: str
    tenant_id: str
    text: str

    @property
    def is_broken(self) -> bool:
        """Whether evidence was lost or changed; a note tells what an operator did on purpose."""
        return self.kind != "note"


async def count_anew(connection: Connection) -> None:
    """Let the planner know how long the trails are; owner role, in a transaction of its own.

    Right after a busy hour the statistics are from before it, and ``verify_links`` took 49 s for 20,000 events. Inside
    its transaction this would give that an id, and nothing is told by the change feed before the oldest id has ended.
    """
    await connection.execute("ANALYZE document.audit_events, document.audit_chain")


async def verify_links(connection: Connection, tenant_id: str, key: bytes) -> AsyncIterator[Finding | int]:
    """Compute every link of a tenant again; findings as they come, and last the number of events that are whole.

    Owner role, inside a transaction; rows are read through a cursor, so a trail of years fits in memory.
    """
    # A cursor is planned for its first rows by default, which led to a nested loop over the tenant's whole trail.
    await connection.execute("SET LOCAL cursor_tuple_fraction = 1")
    expected, previous, whole = 1, FIRST_HASH, 0
    query = f"""SELECT c.chain_seq, c.event_id, c.previous_hash, c.hash, c.xid::text AS chain_xid, c.seq AS chain_row,
               e.tenant_id, {_EVENT_COLUMNS}, e.xid::text AS xid, e.seq, e.detail::text AS detail
           FROM document.audit_chain c
           LEFT JOIN document.audit_events e ON e.tenant_id = c.tenant_id AND e.id = c.event_id
           WHERE c.tenant_id = $1 ORDER BY c.chain_seq"""
    async for row in connection.cursor(query, tenant_id, prefetch=BATCH):
        if row["chain_seq"] != expected:
            yield Finding("missing", tenant_id, f"links {expected} to {row['chain_seq'] - 1} are gone")
        elif row["previous_hash"] != previous:
            yield Finding("altered", tenant_id, f"link {row['chain_seq']} does not follow the one before it")
        if row["id"] is None:
            yield Finding("missing", tenant_id, f"event {row['event_id']} (link {row['chain_seq']}) is gone")
        elif link(key, row["previous_hash"], row) != row["hash"]:
            yield Finding("altered", tenant_id, f"event {row['event_id']} (link {row['chain_seq']}) was changed")
        else:
            whole += 1
        expected, previous = row["chain_seq"] + 1, row["hash"]
    late = await connection.fetch(
        """SELECT e.id FROM document.audit_events e WHERE e.tenant_id = $1 AND e.recorded_at < now() - $2::interval
             AND NOT EXISTS (SELECT FROM document.audit_chain c WHERE c.tenant_id = e.tenant_id AND c.event_id = e.id)
           ORDER BY e.id""",
        tenant_id,
        UNCHAINED_AFTER,
    )
    for row in late:
        yield Finding("unchained", tenant_id, f"event {row['id']} has no link")
    yield whole


async def verify_heads(connection: Connection, tenant_id: str, heads: list[Head], epoch: str) -> list[Finding]:
    """Compare the chain with its signed heads. Owner role."""
    findings = []
    for head in heads:
        found = await connection.fetchval(
            "SELECT hash FROM document.audit_chain WHERE tenant_id = $1 AND chain_seq = $2", tenant_id, head.chain_seq
        )
        if found is not None and found.hex() == head.hash:
            continue
        last = await connection.fetchval(
            "SELECT coalesce(max(chain_seq), 0) FROM document.audit_chain WHERE tenant_id = $1", tenant_id
        )
        if head.epoch != epoch:
            text = f"the head {head.chain_seq} of {head.at} is of an earlier epoch: the database was restored since"
            findings.append(Finding("note", tenant_id, text))
        elif found is None:
            text = f"the chain ends at {last}, before the signed head {head.chain_seq} of {head.at}"
            findings.append(Finding("cut", tenant_id, text))
        else:
            text = f"link {head.chain_seq} differs from the signed head of {head.at}"
            findings.append(Finding("altered", tenant_id, text))
    return findings


def now_text() -> str:
    """The instant of a head."""
    return datetime.now(UTC).isoformat(timespec="seconds")
