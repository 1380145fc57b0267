"""The home folder in memory: the files of every account, and what a person does with them without a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from document_client.clock import TimeSource
from document_client.policy import CachePolicy

from . import memory as m
from .memory import CacheFile, MemoryAccount, OutboxFile, QueueFile, Row, Ticks
from .memory_disk import MemoryDisk, take_lease

if TYPE_CHECKING:
    from .world import Process

Session = tuple[str, str]
PENDING = ("queued", "sending")
ATTENTION = ("quarantined", "failed")


class MemoryHome:
    """Files by (tenant, user) and by tenant. What is read here is what ``status``, ``queue`` and ``list`` show."""

    def __init__(self, device_id: str) -> None:
        """Begin as a new installation."""
        self.device_id = device_id
        self.ticks = Ticks()
        self.queues: dict[Session, QueueFile] = {}
        self.caches: dict[Session, CacheFile] = {}
        self.outboxes: dict[str, OutboxFile] = {}
        #: The files that are open, until one of them is another one.
        self.accounts: dict[Session, MemoryAccount] = {}

    def open(self, session: Session, time: TimeSource) -> MemoryAccount:
        """Open the files of a person, making what is not there."""
        account = self.accounts.get(session)
        if account is not None and account.time is time:
            return account
        queue = self.queues.get(session)
        if queue is None:
            queue = self.queues[session] = QueueFile()
        cache = self.caches.get(session)
        if cache is None:
            cache = self.caches[session] = CacheFile()
        outbox = self.outboxes.get(session[0])
        if outbox is None:
            outbox = self.outboxes[session[0]] = OutboxFile()
        account = MemoryAccount(session[0], session[1], queue, cache, outbox, time, self.ticks)
        self.accounts[session] = account
        return account

    def disk(self, process: Process, account: MemoryAccount, owner: str, eager: bool) -> MemoryDisk:
        """Return what carries out the effects of one run."""
        return MemoryDisk(process, account, owner, eager)

    def close(self) -> None:
        """Nothing is held open."""

    # --- the cache as a whole ---

    def drop_cache(self, session: Session) -> None:
        """Destroy a cache's key: a program that has it open keeps a file that nobody can open again."""
        self.caches.pop(session, None)
        self.accounts.pop(session, None)

    def drop_caches(self) -> None:
        """Destroy the keys of all caches."""
        self.caches.clear()
        self.accounts.clear()

    def is_cache_of(self, session: Session, account: MemoryAccount) -> bool:
        """Return whether the cache that a program has open is still the one that others would open."""
        return self.caches.get(session) is account.cache

    def copy_cache(self, session: Session) -> CacheFile | None:
        """Return the cache as a power cut may leave it."""
        cache = self.caches.get(session)
        return cache.copy() if cache else None

    def put_cache(self, session: Session, copy: CacheFile) -> None:
        """Let a cache be what it was."""
        self.caches[session] = copy
        self.accounts.pop(session, None)

    # --- requests ---

    def ask(
        self, account: MemoryAccount, cmid: str, body: bytes, version: str, patient: str, replaces: str | None
    ) -> None:
        """Queue a request, in place of another one or not."""
        now = account.clock().now
        rows = account.queue.rows
        rows[cmid] = Row(cmid, account.tenant, account.user, body, now)
        if replaces is not None:
            m.give_up(rows[replaces], now, cmid)

    def discard(self, account: MemoryAccount, cmid: str) -> None:
        """Give a request up, or take it back."""
        m.give_up(account.queue.rows[cmid], account.clock().now)

    def retry(self, account: MemoryAccount, cmid: str) -> None:
        """Queue a request again."""
        row = account.queue.rows[cmid]
        if row.document_id is not None:
            self.want(account, row.document_id)
        new_attempt = row.state == "failed" and row.job_status == "failed" and row.job_id is not None
        row.operation = "retry" if new_attempt else "submit"
        row.state, row.tries, row.failures, row.not_before, row.server_said = "queued", 0, 0, 0.0, False
        row.reason_code, row.changed_at = None, account.clock().now

    def rows(self, account: MemoryAccount) -> list[tuple[str, str, str | None, str | None, str | None, str]]:
        """Return (id, state, document, reason, job status, user) of every kept request."""
        return [
            (r.cmid, r.state, r.document_id, r.reason_code, r.job_status, r.user) for r in account.queue.rows.values()
        ]

    def next_due(self, account: MemoryAccount) -> float | None:
        """Return when the next queued request may be sent."""
        return min((r.not_before for r in account.queue.rows.values() if r.state == "queued"), default=None)

    def fact(self, account: MemoryAccount, name: str) -> Any:
        """Return a remembered fact."""
        return account.queue.facts.get(name)

    def holder(self, account: MemoryAccount) -> str:
        """Return who holds the drain lease."""
        return account.queue.owner

    def stop_drain(self, account: MemoryAccount) -> None:
        """Take the drain lease whoever holds it, and let go of it."""
        take_lease(account.queue, "sign-out", account.time.wall(), dead=True)
        account.queue.owner, account.queue.until = "", 0.0

    # --- documents ---

    def readable(self, account: MemoryAccount) -> dict[str, bytes]:
        """Return the bytes that could be shown now, by document."""
        cache, reading = account.cache, account.clock()
        if account.locked(reading):
            return {}
        found = {}
        for document_id, content in cache.blobs.items():
            expires = m.expires_at(cache.documents[document_id], cache.policy)
            if expires is not None and reading.now < expires:
                found[document_id] = content
        return found

    def held(self, account: MemoryAccount, document_id: str) -> bytes | None:
        """Return a document's bytes, whether they may be shown or not."""
        return account.cache.blobs.get(document_id)

    def mark_opened(self, account: MemoryAccount, document_id: str) -> None:
        """Note the use of a copy."""
        account.cache.documents[document_id].opened_at = account.clock().now

    def want(self, account: MemoryAccount, document_id: str) -> None:
        """Ask for a document that is not here."""
        doc = account.cache.documents.get(document_id)
        if doc is not None:
            doc.wanted, doc.evicted = True, False

    def owners(self, account: MemoryAccount) -> list[tuple[str, str | None]]:
        """Return (document, its job) of all copies."""
        return [(i, account.cache.documents[i].job_id) for i in account.cache.blobs]

    def cursor(self, account: MemoryAccount) -> str:
        """Return where the feed was read to."""
        return account.cache.cursor

    def ttl(self, account: MemoryAccount) -> tuple[float, float]:
        """Return time to live and lease of the policy in force."""
        return account.cache.policy.ttl, account.cache.policy.lease

    def policy(self, account: MemoryAccount) -> CachePolicy:
        """Return the policy in force."""
        return account.cache.policy

    def marks(self, account: MemoryAccount) -> dict[str, tuple[bool, bool, bool]]:
        """Return of every document whether somebody wants it, whether it was given up, whether it was opened."""
        documents = account.cache.documents.items()
        return {i: (d.wanted, d.evicted, d.opened_at is not None) for i, d in documents}

    def replacements(self, account: MemoryAccount) -> list[str]:
        """Return the documents that replace copies which were here."""
        return sorted(newer for newer in account.cache.withdrawn.values() if newer)

    def age(self, account: MemoryAccount) -> float | None:
        """Return how old the list of templates is said to be; None when it was never fetched."""
        refreshed = account.cache.refreshed_at
        return None if refreshed is None else max(account.clock().now - refreshed, 0.0)

    def forms(self, account: MemoryAccount) -> dict[str, tuple[str, str]]:
        """Return status and current version of every template."""
        return {i: (body["status"], body["currentVersionId"]) for i, (body, _) in account.cache.templates.items()}

    def contact(self, account: MemoryAccount) -> Any:
        """Return the last contact."""
        return account.cache.contact

    # --- evidence ---

    def record(self, account: MemoryAccount, number: int, action: str, **more: Any) -> None:
        """Write an audit event."""
        m.record(account.audit, number, self.device_id, action, account.user, account.clock(), **more)

    def chain(self, tenant: str) -> list[tuple[dict[str, Any], str]]:
        """Return the outbox of a tenant: (event, state), oldest first."""
        outbox = self.outboxes.get(tenant)
        return [(e[0], e[1]) for e in outbox.events] if outbox else []

    def dump(self) -> Any:
        """Return everything, for the comparison with the real files."""
        return (
            {
                key: (
                    [r.shown() for r in q.rows.values()],
                    q.token,
                    q.owner,
                    {n: v for n, v in q.facts.items() if v is not None},
                    [r.kept_from for r in q.rows.values()],
                )
                for key, q in self.queues.items()
            },
            {key: _dump_cache(c) for key, c in self.caches.items()},
            {key: [tuple(entry) for entry in outbox.events] for key, outbox in self.outboxes.items()},
        )


def _dump_cache(cache: CacheFile) -> Any:
    return (
        {
            i: (
                d.size,
                d.sha256,
                d.job_id,
                d.generation,
                d.wanted,
                d.fetched_at,
                d.ttl_at_fetch,
                d.evicted,
                d.server_lost,
            )
            for i, d in cache.documents.items()
        },
        dict(cache.blobs),
        {i: m.read_received(cache, i) for i in cache.parts},
        dict(cache.revocations),
        dict(cache.withdrawn),
        dict(cache.jobs),
        sorted(cache.templates),
        sorted(cache.versions),
        (cache.cursor, cache.generation, cache.sweeping, cache.refreshed_at, cache.policy.ttl),
        cache.highest,
    )
