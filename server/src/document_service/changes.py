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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from document_service import access
from document_service.database import Connection
from document_service.errors import FeedReset, InvalidCursor
from document_service.tokens import Caller

#: Entities on one page; a page stays below 100 KB, which is 13 s on a 64 kbit/s line.
PAGE_SIZE = 100

#: A keyed hash of a tenant: tenant, purpose and data (``KeyStore.mac``).
Mac = Callable[[str, str, bytes], bytes]

#: Sequence numbers are bigint; transaction ids have one bit more and will not reach it.
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the feed: the last (transaction, sequence) seen."""

    xid: int
    seq: int


@dataclass(frozen=True, slots=True)
class Page:
    """Ids of what changed after a position, each once, and every revocation up to now.

    ``position`` is where the next page begins: on the last page the newest change of the tenant, also when the caller
    may not see that one, so that what was passed over is not looked at again.
    """

    position: Position
    more: bool
    templates: list[str]
    jobs: list[str]
    documents: list[str]
    revocations: list[tuple[str, str]]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.more or self.templates or self.jobs or self.documents or self.revocations)


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


def recorded_from(source: str, kind: str, entity_id: str, facility_ids: str, user_id: str = "NULL") -> str:
    """SQL that appends one change for every row of ``source``; the others are expressions over its columns.

    It goes into the statement that writes the rows, which saves a round trip for each of them.
    """
    return f"""INSERT INTO changes (tenant_id, kind, entity_id, facility_ids, user_id)
        SELECT tenant_id, {kind}, {entity_id}, {facility_ids}, {user_id} FROM {source}"""


def rights(caller: Caller) -> str:
    """A short hash of what the caller may see; a cursor made under other rights starts anew."""
    facilities = None if caller.facilities is None else sorted(caller.facilities)
    text = json.dumps([caller.tenant, caller.user, sorted(caller.roles), facilities])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


async def row_at(connection: Connection, tenant_id: str, position: Position) -> str:
    """A short hash of the change at a position, "" when there is none (always at the beginning)."""
    entity = await connection.fetchval(
        "SELECT entity_id FROM changes WHERE tenant_id = $1 AND xid = $2::text::xid8 AND seq = $3",
        tenant_id,
        str(position.xid),
        position.seq,
    )
    return "" if entity is None else hashlib.sha256(entity.encode()).hexdigest()[:8]


def encode_cursor(epoch: str, caller: Caller, position: Position, row: str, mac: Mac) -> str:
    """The opaque cursor of a page that ended at ``position``, whose change has the short hash ``row``."""
    parts = [epoch, rights(caller), position.xid, position.seq, row]
    text = json.dumps([*parts, _proof(parts, caller, mac)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _proof(parts: list[Any], caller: Caller, mac: Mac) -> str:
    # 64 bits: a wrong guess costs a request of a signed-in user, and a right one a needless look-up.
    return mac(caller.tenant, "feed-cursor", json.dumps(parts).encode())[:8].hex()


def decode_cursor(cursor: str, epoch: str, caller: Caller, mac: Mac) -> tuple[Position, str]:
    """Read a cursor back: its position and the short hash of the change there; an empty one is the beginning.

    A cursor that passes was made by this service in this epoch, so the change that it names was committed.

    Raises:
        InvalidCursor: it is not one of ours.
        FeedReset: it was made before a restore, or under other rights.
    """
    if not cursor:
        return Position(0, 0), ""
    try:
        made_in, made_for, xid, seq, row, proof = json.loads(
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        )
    except (ValueError, TypeError, RecursionError, binascii.Error) as reason:
        raise InvalidCursor() from reason
    if not all(type(number) is int and 0 <= number <= _MOST for number in (xid, seq)):
        raise InvalidCursor()
    if made_in != epoch or made_for != rights(caller):
        raise FeedReset()
    if proof != _proof([made_in, made_for, xid, seq, row], caller, mac):
        raise InvalidCursor()
    return Position(xid, seq), row


_VISIBLE = """tenant_id = $1 AND (xid, seq) > ($2::text::xid8, $3) AND xid < $6::text::xid8
    AND (user_id IS NULL OR user_id = $4)
    AND (facility_ids IS NULL OR $5::text[] IS NULL OR facility_ids && $5)"""


async def _newest_below(connection: Connection, tenant_id: str, horizon: str) -> Position:
    row = await connection.fetchrow(
        """SELECT c.xid::text, seq FROM changes c WHERE tenant_id = $1 AND xid < $2::text::xid8
           ORDER BY c.xid DESC, seq DESC LIMIT 1""",
        tenant_id,
        horizon,
    )
    return Position(0, 0) if row is None else Position(int(row["xid"]), row["seq"])


async def newest(connection: Connection, tenant_ids: list[str]) -> dict[str, Position]:
    """The newest change of each tenant that readers may take already. System role."""
    rows = await connection.fetch(
        """SELECT t.tenant_id, c.xid::text AS xid, c.seq FROM unnest($1::text[]) AS t (tenant_id), LATERAL (
               SELECT xid, seq FROM changes c WHERE c.tenant_id = t.tenant_id
                 AND c.xid < pg_snapshot_xmin(pg_current_snapshot())
               ORDER BY c.xid DESC, c.seq DESC LIMIT 1) c""",
        tenant_ids,
    )
    return {row["tenant_id"]: Position(int(row["xid"]), row["seq"]) for row in rows}


async def read(connection: Connection, caller: Caller, after: Position) -> Page:
    """The changes after ``after`` that the caller may see, at most ``PAGE_SIZE`` rows of the feed."""
    # ORDER BY names the column: a bare xid would be the text that is selected, in which 1000 comes before 999.
    # Both queries stop at one horizon: a row that becomes visible between them must not be passed over.
    horizon = await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    arguments = (caller.tenant, str(after.xid), after.seq, caller.user, access.facilities_of(caller), horizon)
    rows = await connection.fetch(
        f"""SELECT c.xid::text, seq, kind, entity_id FROM changes c WHERE {_VISIBLE} AND kind <> 'revocation'
            ORDER BY c.xid, seq LIMIT {PAGE_SIZE + 1}""",
        *arguments,
    )
    revoked = await connection.fetch(
        f"""SELECT entity_id, reason FROM changes c WHERE {_VISIBLE} AND kind = 'revocation'
            ORDER BY c.xid, seq""",
        *arguments,
    )
    more = len(rows) > PAGE_SIZE
    rows = rows[:PAGE_SIZE]
    if more:
        reached = Position(int(rows[-1]["xid"]), rows[-1]["seq"])
    else:
        reached = max(after, await _newest_below(connection, caller.tenant, horizon))
    ids: dict[str, list[str]] = {"template": [], "job": [], "document": []}
    for kind, entity in dict.fromkeys((row["kind"], row["entity_id"]) for row in rows):
        ids[kind].append(entity)
    return Page(
        reached,
        more,
        ids["template"],
        ids["job"],
        ids["document"],
        [(row["entity_id"], row["reason"] or "withdrawn") for row in revoked],
    )
