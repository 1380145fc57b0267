"""The same home folder with the real driver on the real tables: in-memory databases of the client's own schema.

Used to prove that ``memory`` never differs from it, and for planted bugs of the record functions. Crashes come inside
transactions here: before a statement of it, which rolls it back, as the power would.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from document_client import audit, cache, driver, feed, lease, requests, templates, withdrawals
from document_client import effects as fx
from document_client.account import Account, Session
from document_client.audit import Happening
from document_client.cache import Entry
from document_client.clock import TimeSource
from document_client.policy import CachePolicy

from . import network
from .memory import Ticks
from .server import POLICY_KEYS

if TYPE_CHECKING:
    from .world import Process

Key = tuple[str, str]


class Device:
    """What the account needs of a vault."""

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id


def _database(schema: Any) -> apsw.Connection:
    conn = apsw.Connection(":memory:")
    conn.pragma("foreign_keys", 1)
    for script in schema:
        conn.execute(script)
    return conn


class RealDisk(driver.Driver):
    """The real driver; only what leaves the device, and what spans all accounts, is the simulation's."""

    def __init__(self, process: Process, account: Account, owner: str, eager: bool) -> None:
        super().__init__(account, Wire(process), eager=eager)  # type: ignore[arg-type]
        self.process = process
        self._owner = owner
        self.owner = owner

    def perform(self, effect: fx.Effect) -> Any:
        """Carry out one effect, with the hooks of this process before each transaction."""
        _Running.process = self.process
        try:
            return super().perform(effect)
        finally:
            _Running.process = None

    def release(self) -> None:
        """What ``Driver.run`` does at its end."""
        if self._lease:
            with driver.transaction(self._account.queue):
                lease.release(self._account.queue, self._lease)

    def _on_RefreshToken(self, effect: fx.RefreshToken) -> bool:
        return self.process.refresh_token()

    def _on_PostSigned(self, effect: fx.PostSigned) -> Any:
        self._keep_lease()
        return network.exchange(self.process, "POST", effect.path, effect.content, None, True)

    def _on_PurgeCopies(self, effect: fx.PurgeCopies) -> int:
        account, world = self._account, self.process.world
        held = int(account.cache.execute("SELECT count(*) FROM blobs").get)
        if held:
            number = world.next_number()
            world.home.record(account, number, "cache.purged")
            world.wrote(self.process.session[0], number)
        with driver.transaction(account.cache):
            for table in ("blobs", "parts", "documents"):
                account.cache.execute(f"DELETE FROM {table}")
        world.home.drop_caches()
        world.cache_copy = None
        return held


class Wire:
    """The connection: the simulation's network."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def send(self, method: str, path: str, *, content: bytes = b"", headers: Any = None, **rest: Any) -> Any:
        """Make one exchange."""
        cmid = (headers or {}).get("X-Client-Mutation-Id")
        return network.exchange(self.process, method, path, content, cmid, False)

    def download(self, url: str, **details: Any) -> Any:
        """Fetch bytes."""
        return network.download(self.process, url, **details)


class _Running:
    process: Process | None = None


@contextmanager
def hooked() -> Iterator[None]:
    """Let every transaction of the driver begin with the hook of the process that runs it."""
    plain, alive, on_disk = driver.transaction, driver.is_alive, driver.on_the_disk

    @contextmanager
    def transaction(conn: apsw.Connection) -> Iterator[None]:
        process = _Running.process
        if process is None:
            with plain(conn):
                yield
            return
        crash = process.point + 1 == process.plan and process.what == "crash"
        if not crash:
            process.hook()
            _Running.process = process
            with plain(conn):
                yield
            return
        # The statement before which the process dies; a later one than there are is the COMMIT.
        left = [process.world.steps % 4]

        def before(cursor: Any, sql: str, values: Any) -> bool:
            if left[0] == 0 or sql == "COMMIT":
                conn.exec_trace = None
                process.hook()
            left[0] -= 1
            return True

        conn.exec_trace = before
        try:
            with plain(conn):
                yield
        finally:
            conn.exec_trace = None

    @contextmanager
    def on_the_disk(conn: apsw.Connection) -> Iterator[None]:
        process = _Running.process
        yield
        if process is not None:
            process.world.reached_the_disk(process.session)

    driver.transaction, driver.on_the_disk = transaction, on_the_disk  # type: ignore[assignment]
    driver.is_alive = lambda owner: _Running.process is not None and _Running.process.world.is_alive(owner)
    try:
        yield
    finally:
        driver.transaction, driver.is_alive, driver.on_the_disk = plain, alive, on_disk


class RealHome:
    """The interface of ``MemoryHome`` on real tables and the client's own record functions."""

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id
        self.ticks = Ticks()
        self.queues: dict[Key, apsw.Connection] = {}
        self.caches: dict[Key, apsw.Connection] = {}
        self.outboxes: dict[str, apsw.Connection] = {}
        self._all: list[apsw.Connection] = []

    def _new(self, schema: Any) -> apsw.Connection:
        conn = _database(schema)
        self._all.append(conn)
        return conn

    def open(self, session: Key, time: TimeSource) -> Account:
        if session not in self.queues:
            self.queues[session] = self._new(requests.SCHEMA)
        if session not in self.caches:
            self.caches[session] = self._new(feed.SCHEMA)
        if session[0] not in self.outboxes:
            self.outboxes[session[0]] = self._new(audit.SCHEMA)
        vault: Any = Device(self.device_id)
        signed_in = Session("https://s", session[0], session[1], POLICY_KEYS, "")
        return Account(
            Path("."), vault, signed_in, time, self.queues[session], self.caches[session], self.outboxes[session[0]]
        )

    def disk(self, process: Process, account: Account, owner: str, eager: bool) -> RealDisk:
        return RealDisk(process, account, owner, eager)

    def close(self) -> None:
        for conn in self._all:
            conn.close()

    # --- the cache as a whole ---

    def drop_cache(self, session: Key) -> None:
        self.caches.pop(session, None)

    def drop_caches(self) -> None:
        self.caches.clear()

    def is_cache_of(self, session: Key, account: Account) -> bool:
        return self.caches.get(session) is account.cache

    def copy_cache(self, session: Key) -> apsw.Connection | None:
        cached = self.caches.get(session)
        if cached is None:
            return None
        copy = apsw.Connection(":memory:")
        copy.pragma("foreign_keys", 1)
        with copy.backup("main", cached, "main") as running:
            running.step()
        self._all.append(copy)
        return copy

    def put_cache(self, session: Key, copy: apsw.Connection) -> None:
        self.caches[session] = copy

    # --- requests ---

    def ask(self, account: Account, cmid: str, body: bytes, version: str, patient: str, replaces: str | None) -> None:
        now = account.clock().now
        with account_transaction(account.queue):
            requests.insert(
                account.queue,
                client_mutation_id=cmid,
                tenant_id=account.session.tenant,
                user_id=account.session.user,
                body=body,
                template_name="form",
                template_version_id=version,
                patient_id=patient,
                requested_at=now,
            )
            if replaces is not None:
                withdrawals.give_up(account.queue, replaces, now, replaced_by=cmid)

    def discard(self, account: Account, cmid: str) -> None:
        now = account.clock().now
        with account_transaction(account.queue):
            withdrawals.give_up(account.queue, cmid, now)

    def retry(self, account: Account, cmid: str) -> None:
        request = requests.read(account.queue, cmid)
        assert request is not None
        if request.document_id is not None:
            self.want(account, request.document_id)
        now = account.clock().now
        with account_transaction(account.queue):
            requests.retry(account.queue, request, now)

    def rows(self, account: Account) -> list[tuple[Any, ...]]:
        sql = "SELECT client_mutation_id, state, document_id, reason_code, job_status, user_id FROM requests"
        return list(account.queue.execute(sql + " ORDER BY sequence"))

    def next_due(self, account: Account) -> float | None:
        return requests.next_due(account.queue)

    def fact(self, account: Account, name: str) -> Any:
        return requests.read_fact(account.queue, name)

    def holder(self, account: Account) -> str:
        return lease.read_owner(account.queue)

    def stop_drain(self, account: Account) -> None:
        with account_transaction(account.queue):
            token = lease.take(account.queue, "sign-out", account.time.wall(), owner_is_dead=True)
            assert token is not None
            lease.release(account.queue, token)

    # --- documents ---

    def readable(self, account: Account) -> dict[str, bytes]:
        reading, policy = account.clock(), account.policy()
        locked = account.is_locked(reading, policy)
        found = {}
        order = "SELECT document_id FROM blobs ORDER BY rowid"
        for (document_id,) in account.cache.execute(order).fetchall():
            entry = cache.read_entry(account.cache, document_id)
            assert entry is not None
            if entry.state(policy, reading.now, locked=locked) == "available":
                content = cache.read_bytes(account.cache, document_id)
                assert content is not None
                found[document_id] = content
        return found

    def held(self, account: Account, document_id: str) -> bytes | None:
        return cache.read_bytes(account.cache, document_id)

    def mark_opened(self, account: Account, document_id: str) -> None:
        now = account.clock().now
        with account_transaction(account.cache):
            cache.mark_opened(account.cache, document_id, now)

    def want(self, account: Account, document_id: str) -> None:
        with account_transaction(account.cache):
            cache.want(account.cache, document_id)

    def owners(self, account: Account) -> list[tuple[str, str | None]]:
        sql = "SELECT document_id, job_id FROM documents JOIN blobs USING (document_id) ORDER BY blobs.rowid"
        return list(account.cache.execute(sql))

    def cursor(self, account: Account) -> str:
        return feed.read_cursor(account.cache)

    def ttl(self, account: Account) -> tuple[float, float]:
        policy: CachePolicy = account.policy()
        return policy.ttl, policy.lease

    def policy(self, account: Account) -> CachePolicy:
        return account.policy()

    def marks(self, account: Account) -> dict[str, tuple[bool, bool, bool]]:
        sql = "SELECT document_id, wanted, evicted, opened_at IS NOT NULL FROM documents"
        return {i: (bool(w), bool(e), bool(o)) for i, w, e, o in account.cache.execute(sql)}

    def replacements(self, account: Account) -> list[str]:
        sql = "SELECT replaced_by FROM withdrawn WHERE replaced_by IS NOT NULL ORDER BY 1"
        return [str(newer) for (newer,) in account.cache.execute(sql)]

    def age(self, account: Account) -> float | None:
        return templates.read_catalogue(account.cache, account.clock().now).age

    def forms(self, account: Account) -> dict[str, tuple[str, str]]:
        rows = account.cache.execute("SELECT template_id, body FROM templates").fetchall()
        return {i: (json.loads(body)["status"], json.loads(body)["currentVersionId"]) for i, body in rows}

    def contact(self, account: Account) -> Any:
        return feed.read_contact(account.cache)[0]

    # --- evidence ---

    def record(self, account: Account, number: int, action: str, **more: Any) -> None:
        happening = Happening(action, account.session.user, **more)
        reading = account.clock()
        with account_transaction(account.audit):
            audit.record(account.audit, f"evt_{number:026d}", self.device_id, happening, reading)

    def chain(self, tenant: str) -> list[tuple[dict[str, Any], str]]:
        conn = self.outboxes.get(tenant)
        if conn is None:
            return []
        rows = conn.execute("SELECT event, state FROM events ORDER BY sequence")
        return [(json.loads(event), state) for event, state in rows]

    def dump(self) -> Any:
        return (
            {key: _dump_queue(conn) for key, conn in self.queues.items()},
            {key: _dump_cache(conn) for key, conn in self.caches.items()},
            {key: _dump_outbox(conn) for key, conn in self.outboxes.items()},
        )


def account_transaction(conn: apsw.Connection) -> Any:
    """Return the client's own transaction, without hooks: a person's command is not one of the runs."""
    from document_client.localdb import transaction

    return transaction(conn)


def _dump_queue(conn: apsw.Connection) -> Any:
    offered = {cmid for (cmid,) in conn.execute("SELECT client_mutation_id FROM requests WHERE offered")}
    rows = [
        (
            r.client_mutation_id,
            r.user_id,
            r.state,
            r.operation,
            r.tries,
            r.failures,
            r.not_before,
            r.client_mutation_id in offered,
            r.reason_code,
            r.epoch,
            r.job_id,
            r.job_status,
            r.document_id,
            r.changed_at,
            r.replaced_by,
        )
        for r in requests._rows(conn, "ORDER BY sequence")
    ]
    token, owner = conn.execute("SELECT token, owner FROM drain").fetchall()[0]
    facts: dict[str, Any] = dict(conn.execute("SELECT name, value FROM facts").fetchall())
    for name in ("last_attempt", "last_success"):
        if name in facts:
            facts[name] = float(facts[name])
    kept = [since for (since,) in conn.execute("SELECT kept_from FROM requests ORDER BY sequence").fetchall()]
    return rows, token, owner, facts, kept


def _dump_outbox(conn: apsw.Connection) -> Any:
    rows = conn.execute("SELECT event, state, kept_from FROM events ORDER BY sequence")
    return [(json.loads(event), state, kept_from) for event, state, kept_from in rows]


def _dump_cache(conn: apsw.Connection) -> Any:
    entries: list[Entry] = cache._entries(conn, "ORDER BY d.document_id")
    more = {
        i: (job, generation)
        for i, job, generation in conn.execute("SELECT document_id, job_id, generation FROM documents")
    }
    cursor, generation, sweeping = conn.execute("SELECT cursor, generation, sweeping FROM feed").fetchall()[0]
    return (
        {
            e.document_id: (
                e.size,
                e.sha256,
                *more[e.document_id],
                e.wanted,
                e.fetched_at,
                e.ttl_at_fetch,
                e.evicted,
                e.server_lost,
            )
            for e in entries
        },
        dict(conn.execute("SELECT document_id, content FROM blobs").fetchall()),
        {i: cache.read_received(conn, i) for (i,) in conn.execute("SELECT DISTINCT document_id FROM parts").fetchall()},
        dict(conn.execute("SELECT document_id, reason FROM revocations").fetchall()),
        dict(conn.execute("SELECT document_id, replaced_by FROM withdrawn").fetchall()),
        {i: (d, s) for i, d, s in conn.execute("SELECT job_id, document_id, status FROM jobs")},
        sorted(i for (i,) in conn.execute("SELECT template_id FROM templates")),
        sorted(i for (i,) in conn.execute("SELECT version_id FROM versions")),
        (
            cursor,
            generation,
            bool(sweeping),
            conn.execute("SELECT refreshed_at FROM catalogue").get,
            feed.read_policy(conn).ttl,
        ),
        feed.read_contact(conn)[1],
    )


assert templates is not None
