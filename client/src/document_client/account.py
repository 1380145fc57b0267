"""The files of the person who is signed in: who that is, and the three encrypted databases opened with their keys.

    home/vault.json                     wrapped keys            (vault)
    home/session.json                   server, tenant, user    (no secret: the token is in the vault)
    home/accounts/<id>/queue.db         requests                one per (tenant, user)
    home/accounts/<id>/cache.db         what may be fetched again
    home/outboxes/<id>/audit.db         audit events            one per tenant on this device

A cache that cannot be opened is deleted and fetched again. A queue or an outbox that cannot be opened is set aside,
never deleted, and every later `status` says so (contract §4).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import apsw

from . import audit, cache, feed, requests, templates
from .clock import Reading, TimeSource, make_contact, read_clock, see, to_text
from .errors import LocalFileUnreadable, QueueSetAside, SignInNeeded, StorageProblem
from .files import exclusive, make_folder, sync_folder, write_private
from .localdb import has_moved, is_readable, name_aside, open_sealed, remove_files, set_aside, transaction
from .policy import CachePolicy
from .vault import Vault

if TYPE_CHECKING:
    from .answers import Answer


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in, where, and the server's pinned policy keys (kid to base64url).

    ``cache_ttl`` (seconds): how long at most copies may be read here, where the person said so at sign-in.
    """

    server: str
    tenant: str
    user: str
    policy_keys: dict[str, str]
    signed_in_at: str
    cache_ttl: float | None = None

    @property
    def account_id(self) -> str:
        """A name for files: a digest, so that nobody reads who worked here from a folder."""
        return _digest(self.tenant, self.user)

    @property
    def outbox_id(self) -> str:
        """The name of the tenant's audit outbox."""
        return _digest(self.tenant)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def read_session(home: Path) -> Session | None:
    """Return the session of this home folder, or None."""
    try:
        content = json.loads((home / "session.json").read_bytes())
        return Session(
            content["server"],
            content["tenant"],
            content["user"],
            content["policyKeys"],
            content["signedInAt"],
            None if content.get("cacheTtl") is None else float(content["cacheTtl"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise SignInNeeded("the session file is damaged; sign in again, the queue is not touched") from failure


def write_session(home: Path, session: Session | None) -> None:
    """Write or remove the session file."""
    path = home / "session.json"
    if session is None:
        path.unlink(missing_ok=True)
        return
    content = {
        "server": session.server,
        "tenant": session.tenant,
        "user": session.user,
        "policyKeys": session.policy_keys,
        "signedInAt": session.signed_in_at,
        "cacheTtl": session.cache_ttl,
    }
    write_private(path, json.dumps(content, indent=1).encode())


@dataclass(slots=True)
class Account:
    """The opened files of one (tenant, user) on this device. Use ``open_account``; close it after use."""

    home: Path
    vault: Vault
    session: Session
    time: TimeSource
    queue: apsw.Connection
    cache: apsw.Connection
    audit: apsw.Connection
    notices: list[str] = field(default_factory=list)
    closed: bool = False
    takes_batches: bool = True
    heard: tuple[str, Answer, float] | None = None

    def close(self) -> None:
        """Close the databases."""
        self.closed = True
        for conn in (self.queue, self.cache, self.audit):
            conn.close()

    @property
    def folder(self) -> Path:
        """The folder of this user's files."""
        return self.home / "accounts" / self.session.account_id

    def is_replaced(self) -> bool:
        """Return whether another program set a file aside, or removed it, while it was open here."""
        return has_moved(self.queue) or has_moved(self.audit) or has_moved(self.cache)

    def token(self) -> str | None:
        """Return the session's bearer token."""
        sealed = self.vault.key(f"token/{self.session.account_id}", create=False)
        return sealed.decode() if sealed else None

    def clock(self) -> Reading:
        """Return the time by the rule of contract §4, and remember the highest time seen."""
        return self.terms()[0]

    def terms(self) -> tuple[Reading, CachePolicy]:
        """Return what decides whether a copy may be shown: the time, as ``clock`` has it, and the policy in force."""
        contact, highest, policy = feed.read_terms(self.cache)
        reading = read_clock(self.time, contact, highest)
        seen = see(self.time, reading.now, highest)
        if seen is not None and self.cache.in_transaction:
            feed.save_highest(self.cache, seen)
        elif seen is not None:
            # A clock that cannot be remembered because the disk is full must not keep anybody from reading.
            try:
                with transaction(self.cache):
                    feed.save_highest(self.cache, seen)
            except StorageProblem:
                pass
        return reading, policy

    def policy(self) -> CachePolicy:
        """Return the cache policy in force."""
        return feed.read_policy(self.cache)

    def is_locked(self, reading: Reading, policy: CachePolicy) -> bool:
        """Return whether the cache is locked: no contact for longer than the lease."""
        return reading.confirmed is not None and reading.now - reading.confirmed > policy.lease

    def note_contact(self, server_time: float, asked: float | None, heard: float | None) -> None:
        """Record an authenticated server time, asked for and heard at monotonic readings; inside a transaction of the
        cache."""
        before, _ = feed.read_contact(self.cache)
        if before is None:
            cache.end_lives(self.cache, server_time)
            templates.end_freshness(self.cache, server_time)
        feed.save_contact(self.cache, *make_contact(self.time, server_time, before, asked, heard))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Deal with a database that turns out unreadable in the middle of work; raises QueueSetAside for the queue."""
        try:
            yield
        except LocalFileUnreadable as failure:
            self._put_away(str(failure.detail), failure)
        except (apsw.CorruptError, apsw.NotADBError) as failure:
            # The error does not say which file; the check of every page does.
            for conn in (self.queue, self.audit, self.cache):
                if not is_readable(conn):
                    self._put_away(Path(conn.filename).name, failure)
            raise StorageProblem("a database could not be read; run the command again") from failure

    def _put_away(self, name: str, failure: Exception) -> NoReturn:
        account_id, outbox_id = self.session.account_id, self.session.outbox_id
        conn, folder, key_name = {
            "queue.db": (self.queue, self.folder, f"queue/{account_id}"),
            "audit.db": (self.audit, self.home / "outboxes" / outbox_id, f"audit/{outbox_id}"),
            "cache.db": (self.cache, self.folder, ""),
        }[name]
        path = folder / name
        with deciding_on(path):
            moved = has_moved(conn)
            self.close()
            if moved:
                # Another program has met the damage before: the file of that name is a healthy one by now, and in use.
                raise StorageProblem(f"{name} was set aside by another program; run the command again") from failure
            if name == "cache.db":
                remove_files(path)
                cleared = "the cache was damaged and has been cleared; run the command again, and sync to fill it"
                raise LocalFileUnreadable(cleared) from failure
            target = _set_aside(path, self.vault, key_name)
        raise QueueSetAside(f"kept as {target}") from failure


def open_account(home: Path, vault: Vault, session: Session, time: TimeSource) -> Account:
    """Open the databases of ``session``, making what is not there yet."""
    folder = home / "accounts" / session.account_id
    outbox = home / "outboxes" / session.outbox_id
    make_folder(folder)
    make_folder(outbox)
    notices: list[str] = []
    queue = open_kept(folder / "queue.db", vault, f"queue/{session.account_id}", requests.SCHEMA, notices)
    events = open_kept(outbox / "audit.db", vault, f"audit/{session.outbox_id}", audit.SCHEMA, notices)
    revoked = requests.read_fact(queue, "last_stop") == "DEVICE_REVOKED"
    cache = open_cache(folder / "cache.db", vault, f"cache/{session.account_id}", notices, revoked=revoked)
    if session.cache_ttl is not None and feed.read_local_ttl(cache) != session.cache_ttl:
        # The cache is a new one: what shortens a life here outlives the copies.
        with transaction(cache):
            feed.save_local_ttl(cache, session.cache_ttl)
    return Account(home, vault, session, time, queue, cache, events, notices)


def open_kept(path: Path, vault: Vault, key_name: str, schema: Any, notices: list[str]) -> apsw.Connection:
    """Open a database whose content exists nowhere else, made when it is not there; what is unreadable is set aside."""
    with deciding_on(path):
        if _mark_of(path).exists():
            # A program was killed while it set the file aside.
            notices.append(f"{path.name} cannot be read. It was kept as {_set_aside(path, vault, key_name)}.")
        key = vault.key(key_name, create=False)
        if key is None and path.exists():
            notices.append(f"The key of {path.name} is lost. The file was kept as {_set_aside(path, vault, key_name)}.")
        if key is not None:
            try:
                return open_sealed(path, key, schema, durable=True)
            except LocalFileUnreadable:
                notices.append(f"{path.name} cannot be read. It was kept as {_set_aside(path, vault, key_name)}.")
        fresh = vault.key(key_name)
        assert fresh is not None
        return open_sealed(path, fresh, schema, durable=True)


def open_as_it_is(path: Path, vault: Vault, key_name: str, schema: Any) -> apsw.Connection | None:
    """Open a queue or an outbox that no session here speaks for; None where it is not there or cannot be opened.

    Nothing is made and nothing set aside: the next session of its owner does that, and says so.
    """
    with deciding_on(path):
        key = vault.key(key_name, create=False)
        if key is None or not path.exists() or _mark_of(path).exists():
            return None
        try:
            return open_sealed(path, key, schema, durable=True)
        except StorageProblem:
            return None


def open_cache(
    path: Path, vault: Vault, key_name: str, notices: list[str], *, revoked: bool = False
) -> apsw.Connection:
    """Open the cache; what cannot be read is deleted, because it can be fetched again.

    ``revoked``: the last sync ended with the service's word that this device was revoked.
    """
    with deciding_on(path):
        key = vault.key(key_name, create=False)
        if key is not None:
            try:
                return open_sealed(path, key, feed.SCHEMA, durable=False)
            except LocalFileUnreadable:
                notices.append("The cache could not be read and was cleared; the next sync fills it again.")
        elif path.exists():
            # The word of the service destroyed the key (``purging``); otherwise it was lost.
            cause = "The service revoked this device" if revoked else "The key of the cache is lost"
            notices.append(f"{cause}, so the cache was cleared; the next sync that is taken fills it again.")
        remove_files(path)
        fresh = vault.key(key_name)
        assert fresh is not None
        return open_sealed(path, fresh, feed.SCHEMA, durable=False)


def deciding_on(path: Path) -> AbstractContextManager[None]:
    """Be the only program that opens ``path`` or sets it aside: a second one would set the new file aside."""
    return exclusive(path.with_name("opening.lock"))


def _mark_of(path: Path) -> Path:
    """The file that stands beside ``path`` while it is set aside, and says under which stamp."""
    return path.with_name(f"{path.name}.setting-aside")


def _set_aside(path: Path, vault: Vault, key_name: str) -> Path:
    """Give a file, its journal, its envelope and its key the names of a moment; returns the file's. Inside the lock.

    A kill at any step leaves the mark, and whoever opens the file next goes on under the same stamp. The file itself is
    renamed last: while it stands here nothing has taken its place, and once it is there nothing is left to rename.
    """
    import time

    mark = _mark_of(path)
    if not mark.exists():
        write_private(mark, to_text(time.time()).replace(":", "").replace(".", "").encode())
    stamp = mark.read_text()
    target = name_aside(path, stamp)
    if not target.exists():
        # The key stays beside it in the vault: a damaged file may be read by a person who knows how.
        vault.rename(key_name, f"set-aside/{target.name}/{key_name}")
        set_aside(path, stamp)
        sync_folder(path.parent)
    mark.unlink()
    return target


def find_set_aside(home: Path) -> list[str]:
    """Return the files that were set aside and are still there."""
    found = [
        path
        for pattern in ("accounts/*/*.set-aside-*", "outboxes/*/*.set-aside-*")
        for path in home.glob(pattern)
        if not path.name.endswith(("-wal", "-shm", ".envelope"))
    ]
    return sorted(os.fspath(path) for path in found)
