"""The change feed: what changed for a caller, in commit order (design §2).

A plain sequence loses changes: a transaction that commits after its successor is never seen by a reader that has
passed its number. So every row keeps the id of its transaction, readers take only rows of transactions older than
the oldest one still running, and the order is (transaction, sequence).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

from document_service.database import Connection
from document_service.errors import FeedReset, InvalidCursor
from document_service.tokens import Caller

#: Entities on one page; a page stays below 100 KB, which is 13 s on a 64 kbit/s line.
PAGE_SIZE = 100

#: Sequence numbers are bigint; transaction ids have one bit more and will not reach it.
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the feed: the last (transaction, sequence) seen."""

    xid: int
    seq: int


@dataclass(frozen=True, slots=True)
class Page:
    """Ids of what changed after a position, each once, and every revocation up to now."""

    position: Position
    more: bool
    templates: list[str]
    jobs: list[str]
    documents: list[str]
    revocations: list[tuple[str, str]]


async def record(
    connection: Connection,
    tenant_id: str,
    kind: str,
    entity_id: str,
    *,
    facility_ids: list[str] | None = None,
    user_id: str | None = None,
    reason: str | None = None,
) -> None:
    """Append one change in the transaction that made it."""
    await connection.execute(
        """INSERT INTO changes (tenant_id, kind, entity_id, facility_ids, user_id, reason)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        tenant_id,
        kind,
        entity_id,
        facility_ids,
        user_id,
        reason,
    )


def rights(caller: Caller) -> str:
    """A short hash of what the caller may see; a cursor made under other rights starts anew."""
    facilities = None if caller.facilities is None else sorted(caller.facilities)
    text = json.dumps([caller.tenant, caller.user, sorted(caller.roles), facilities])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def encode_cursor(epoch: str, caller: Caller, position: Position) -> str:
    """The opaque cursor of a page."""
    text = json.dumps([epoch, rights(caller), position.xid, position.seq], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, epoch: str, caller: Caller) -> Position:
    """Read a cursor back; an empty one is the beginning.

    Raises:
        InvalidCursor: it is not one of ours.
        FeedReset: it was made before a restore, or under other rights.
    """
    if not cursor:
        return Position(0, 0)
    try:
        made_in, made_for, xid, seq = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, RecursionError, binascii.Error) as reason:
        raise InvalidCursor() from reason
    if not all(type(number) is int and 0 <= number <= _MOST for number in (xid, seq)):
        raise InvalidCursor()
    if made_in != epoch or made_for != rights(caller):
        raise FeedReset()
    return Position(xid, seq)


_VISIBLE = """tenant_id = $1 AND (xid, seq) > ($2::text::xid8, $3) AND xid < $6::text::xid8
    AND (user_id IS NULL OR user_id = $4)
    AND (facility_ids IS NULL OR $5::text[] IS NULL OR facility_ids && $5)"""


async def read(connection: Connection, caller: Caller, after: Position) -> Page:
    """The changes after ``after`` that the caller may see, at most ``PAGE_SIZE`` rows of the feed."""
    facilities = None if caller.facilities is None else sorted(caller.facilities)
    # Both queries stop at one horizon: a row that becomes visible between them must not be passed over.
    horizon = await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    arguments = (caller.tenant, str(after.xid), after.seq, caller.user, facilities, horizon)
    rows = await connection.fetch(
        f"""SELECT xid::text, seq, kind, entity_id FROM changes WHERE {_VISIBLE} AND kind <> 'revocation'
            ORDER BY xid, seq LIMIT {PAGE_SIZE + 1}""",
        *arguments,
    )
    revoked = await connection.fetch(
        f"""SELECT xid::text, seq, entity_id, reason FROM changes WHERE {_VISIBLE} AND kind = 'revocation'
            ORDER BY xid, seq""",
        *arguments,
    )
    more = len(rows) > PAGE_SIZE
    rows = rows[:PAGE_SIZE]
    reached = rows if more else [*rows, *revoked]
    last = max(((int(row["xid"]), row["seq"]) for row in reached), default=(after.xid, after.seq))
    ids: dict[str, list[str]] = {"template": [], "job": [], "document": []}
    for kind, entity in dict.fromkeys((row["kind"], row["entity_id"]) for row in rows):
        ids[kind].append(entity)
    return Page(
        Position(*last),
        more,
        ids["template"],
        ids["job"],
        ids["document"],
        [(row["entity_id"], row["reason"] or "withdrawn") for row in revoked],
    )
