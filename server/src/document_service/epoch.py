"""The sync epoch: a random id that every answer carries, and that changes when the database lost commits (contract §3).

How a loss is noticed. Every few seconds a random token is committed to ``sync_marks``, and after the commit it is
written to the object store, signed: the mark. A commit that was acknowledged before the token's is in every state of
the database that holds the token. So whoever finds a token in the store that the database does not hold knows that
acknowledged commits are gone: the database was restored, and devices have to ask what became of their requests.

    look ──▶ no mark, no token in the database ──▶ first start: write one
         ──▶ the database holds the mark's token ──▶ nothing lost; write the next one when it is due
         ──▶ it does not, or the mark is gone or unreadable ──▶ new epoch, then write

Tokens, not numbers: a restored database that has gone on since may have passed the lost transaction ids again, but it
never draws the same token. A crash loses no commit, so it changes nothing. A look at every start, one every few
seconds while running (the database may be exchanged under a running service) and one at the end. What this cannot
see: a copy that was made in the last seconds before the loss, after the last mark, and a folder whose store was put
back together with its database. The embedded database's files tell by themselves that they are a copy
(postgres/identity.py); elsewhere devices bear witness: a cursor of the feed is signed, and one that names a change
which the database does not hold proves a loss (``refute``). `epoch renew` is for what nobody saw
(docs/runbooks/restore.md).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from document_service.database import Connection, Database, system_transaction
from document_service.errors import ServiceError
from document_service.keys import KeyStore
from document_service.store import ObjectStore
from document_service.telemetry import log

#: Whoever answers devices listens here; the payload is the new epoch.
CHANNEL: Final = "sync_epoch"

#: Every process looks this often, and a mark younger than this is young enough: so the newest one is never older
#: than 10 s (contract §3), whichever process writes it.
LOOK_EVERY: Final = timedelta(seconds=5)

#: One process at a time reads the mark, decides and writes; any number will do that no other lock of ours has.
_LOCK: Final = 3_020_005

#: The last mark of a service that stops must not hold the stop up when the store is away.
_FINISH_SECONDS: Final = 5.0

#: A running process renews at most this often: two databases that are copies of each other and write to one store
#: would otherwise send every device to look up everything every few seconds.
_CONTEST_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What the store holds: the token, and for the operator's log which epoch and transaction it was written in."""

    token: str
    epoch: str
    xid: int
    at: str


class MarkUnreadable(Exception):
    """What stands in the mark's place was not written by this service's keys."""


def encode_mark(mark: Mark, keys: KeyStore) -> bytes:
    """The mark as it is stored: JSON with a signature of the service's key."""
    kid, signature = keys.sign("commit-mark", rfc8785.dumps(asdict(mark)))
    return json.dumps(asdict(mark) | {"kid": kid, "signature": base64.b64encode(signature).decode()}).encode()


def decode_mark(content: bytes, keys: KeyStore) -> Mark:
    """Read a mark back.

    Raises:
        MarkUnreadable: it is damaged, or signed by another key.
    """
    try:
        stored = json.loads(content)
        kid, signature = stored.pop("kid"), base64.b64decode(stored.pop("signature"))
        mark = Mark(**stored)
        [public] = [entry["publicKey"] for entry in keys.public_keys() if entry["kid"] == kid]
        key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(public + "=" * (-len(public) % 4)))
        key.verify(signature, b"document-service commit-mark v1\n" + rfc8785.dumps(asdict(mark)))
    except (ValueError, TypeError, KeyError, AttributeError, InvalidSignature) as error:
        raise MarkUnreadable from error
    return mark


async def current(connection: Connection) -> str:
    """The epoch in force."""
    epoch: str = await connection.fetchval("SELECT value FROM document.service_state WHERE key = 'sync_epoch'")
    return epoch


async def renew(connection: Connection, reason: str) -> str:
    """Draw a new epoch in the caller's transaction; running processes hear of it. Owner or system role."""
    epoch: str = await connection.fetchval("SELECT document.renew_epoch()")
    log.warning("epoch.renewed", reason=reason, meaning="devices look up what they were promised at their next sync")
    return epoch


class EpochWatch:
    """The epoch as this process knows it; see the module for what a look does."""

    def __init__(self, database: Database, store: ObjectStore, keys: KeyStore) -> None:
        """Use ``begin`` before ``value`` is served."""
        self.value = ""
        #: Whether the mark was read in this life of the process; before that nobody knows whether commits were lost.
        self.decided = False
        self._database = database
        self._store = store
        self._keys = keys
        self._renewed_at: float | None = None

    async def begin(self, *, copied: bool = False) -> bool:
        """Look at the start, before anything is answered; always leaves a mark, so that older copies are noticed.

        ``copied`` says that the database's files are a copy, which may be older than what it is a copy of. False when
        the store is away: that does not stop the start, and the next look that reaches it decides.
        """
        try:
            await self._look(starting=True, copied=copied)
        except ServiceError as error:
            log.warning("epoch.unchecked", code=error.code)
            async with system_transaction(self._database) as connection:
                self.value = await current(connection)
            return False
        return True

    async def look(self) -> None:
        """Notice a database that was exchanged, another process's new epoch, and write the next mark when it is due.

        Raises:
            StoreUnavailable, DatabaseUnavailable: nothing could be decided; the next look does.
        """
        await self._look(starting=False)

    def heard(self, epoch: str) -> None:
        """Take over the epoch that another process announced."""
        self.value = epoch

    async def refute(self, reason: str) -> None:
        """Renew on evidence from outside that commits are lost; at most once in ten minutes, as for any evidence.

        Raises:
            DatabaseUnavailable: nothing was renewed.
        """
        known = self.value
        async with system_transaction(self._database) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            self.value = await current(connection)
            if self.value != known:
                return
            if not self._may_renew(starting=False):
                log.warning("epoch.contested", meaning="evidence of lost commits again, soon after the last")
                return
            self.value = await renew(connection, reason)

    async def finish(self) -> None:
        """Leave a mark of the last commit before a stop, as far as store and database answer."""
        with contextlib.suppress(ServiceError, TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._look(starting=False)

    async def _look(self, *, starting: bool, copied: bool = False) -> None:
        # The lock has a connection of its own: what it guards is committed before the mark is written.
        async with system_transaction(self._database) as guard:
            if starting:
                await guard.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            elif not await guard.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                self.value = await current(guard)
                return
            name = f"commit-high-water-{await guard.fetchval(_DATABASE_ID)}"
            found = await self._read(name)
            mark = await self._commit_next(found, starting=starting, copied=copied)
            if mark is not None:
                await self._store.write_mark(name, encode_mark(mark, self._keys))
        self.decided = True

    async def _read(self, name: str) -> Mark | MarkUnreadable | None:
        content = await self._store.read_mark(name)
        if content is None:
            return None
        try:
            return decode_mark(content, self._keys)
        except MarkUnreadable as unreadable:
            return unreadable

    async def _commit_next(self, found: Mark | MarkUnreadable | None, *, starting: bool, copied: bool) -> Mark | None:
        """Compare, renew when commits were lost, and commit the next token; None when no mark is due."""
        known = found.token if isinstance(found, Mark) else None
        async with system_transaction(self._database) as connection:
            state = await connection.fetchrow(_STATE, known, LOOK_EVERY * 0.8)
            self.value = state["epoch"]
            reason = _loss(found, state) or ("the database's files are a copy" if copied else None)
            if reason is not None:
                if not self._may_renew(starting):
                    log.warning("epoch.contested", meaning="another copy of this database writes to the same store")
                    return None
                marked = found.xid if isinstance(found, Mark) else None
                log.warning("epoch.database-is-behind", reason=reason, markXid=marked, databaseXid=state["xid"])
                self.value = await renew(connection, reason)
                known = None
            elif not starting and known == state["token"] and state["young"]:
                return None
            token = secrets.token_hex(16)
            if not await connection.fetchval("SELECT document.record_sync_mark($1, $2)", token, known):
                return None
        return Mark(token, self.value, state["xid"], datetime.now(UTC).isoformat(timespec="seconds"))

    def _may_renew(self, starting: bool) -> bool:
        now = time.monotonic()
        if not starting and self._renewed_at is not None and now - self._renewed_at < _CONTEST_SECONDS:
            return False
        self._renewed_at = now
        return True


_DATABASE_ID: Final = "SELECT value FROM document.service_state WHERE key = 'database_id'"

_STATE: Final = """
    SELECT (SELECT value FROM document.service_state WHERE key = 'sync_epoch') AS epoch,
        EXISTS (SELECT FROM document.sync_marks WHERE token = $1) AS holds_mark,
        newest.token AS token, newest.at > clock_timestamp() - $2::interval AS young,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid
    FROM (SELECT) AS one LEFT JOIN (SELECT * FROM document.sync_marks ORDER BY xid DESC LIMIT 1) AS newest ON true
"""


def _loss(found: Mark | MarkUnreadable | None, state: Any) -> str | None:
    """Why it must be feared that commits were lost, or None. Where it cannot be known, a look-up costs less."""
    if isinstance(found, MarkUnreadable):
        return "the mark in the store cannot be read"
    if found is None:
        return None if state["token"] is None else "the store has lost its mark"
    return None if state["holds_mark"] else "the database does not hold the commit that the store's mark names"
