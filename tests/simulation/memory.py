"""The device's disk in memory: what the real driver does on its tables, on plain dictionaries, forty times as fast.

Every function here stands for one of ``requests``, ``cache``, ``feed``, ``templates``, ``audit``, ``lease`` or
``driver``, and keeps the same transactions in the same order: ``hook`` is called before each, and a process may die
there. That this double and the real driver never differ is itself tested (tests/simulation/test_simulation.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from document_client import effects as fx
from document_client.audit import BATCH, FIRST_HASH
from document_client.audit import KEEP_SENT_SECONDS as KEEP_EVENTS
from document_client.cache import GRACE_SECONDS, REFRESH_SHARE
from document_client.clock import NEVER, Contact, Reading, TimeSource, make_contact, read_clock, see, to_text
from document_client.errors import LeaseLost
from document_client.lease import _AHEAD_SECONDS, LEASE_SECONDS
from document_client.policy import CachePolicy, parse_policy, verify_policy
from document_client.requests import KEEP_DONE_SECONDS
from document_client.withdrawals import ALREADY_SENT, WITHDRAWAL_ASKED, WITHDRAWN

from .server import POLICY_KEYS, hash_event

DEFAULT_POLICY = CachePolicy()
#: How old the list of templates may be, by the service of the simulation: five minutes, and a day of being shown.
LIST_AGE_SECONDS = 300.0 + 86_400.0
#: What was verified once, by tenant and content: a signature takes longer to check than a whole run.
_POLICIES: dict[tuple[Any, ...], CachePolicy | None] = {}


class Row:
    """One request of the queue."""

    __slots__ = (
        "body",
        "changed_at",
        "cmid",
        "document_id",
        "epoch",
        "failures",
        "job_id",
        "job_status",
        "kept_from",
        "lease",
        "not_before",
        "offered",
        "operation",
        "reason_code",
        "replaced_by",
        "server_said",
        "state",
        "tenant",
        "tries",
        "user",
    )

    def __init__(self, cmid: str, tenant: str, user: str, body: bytes, at: float) -> None:
        self.cmid, self.tenant, self.user, self.body, self.changed_at = cmid, tenant, user, body, at
        self.state = "queued"
        self.operation = "submit"
        self.tries = self.failures = 0
        self.not_before = 0.0
        self.server_said = self.offered = False
        self.lease: int | None = None
        self.kept_from: float | None = None
        self.reason_code: str | None = None
        self.epoch: str | None = None
        self.job_id: str | None = None
        self.job_status: str | None = None
        self.document_id: str | None = None
        self.replaced_by: str | None = None

    def shown(self) -> tuple[Any, ...]:
        """Return what the real table holds, for comparisons."""
        return (
            self.cmid,
            self.user,
            self.state,
            self.operation,
            self.tries,
            self.failures,
            self.not_before,
            self.offered,
            self.reason_code,
            self.epoch,
            self.job_id,
            self.job_status,
            self.document_id,
            self.changed_at,
            self.replaced_by,
        )


class QueueFile:
    """The queue database of one (tenant, user)."""

    __slots__ = ("facts", "owner", "rows", "token", "until")

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.token, self.owner, self.until = 0, "", 0.0
        self.facts: dict[str, Any] = {}


class Doc:
    """One document of the cache."""

    __slots__ = (
        "body",
        "evicted",
        "fetched_at",
        "generation",
        "job_id",
        "opened_at",
        "server_lost",
        "sha256",
        "size",
        "ttl_at_fetch",
        "wanted",
    )

    def __init__(self) -> None:
        self.body: dict[str, Any] = {}
        self.size, self.sha256, self.generation = 0, "", 0
        self.job_id: str | None = None
        self.fetched_at: float | None = None
        self.ttl_at_fetch: float | None = None
        self.opened_at: float | None = None
        self.evicted = self.wanted = self.server_lost = False

    def copy(self) -> Doc:
        new = Doc()
        new.body, new.size, new.sha256, new.generation = self.body, self.size, self.sha256, self.generation
        new.job_id, new.fetched_at, new.ttl_at_fetch = self.job_id, self.fetched_at, self.ttl_at_fetch
        new.opened_at, new.evicted = self.opened_at, self.evicted
        new.wanted, new.server_lost = self.wanted, self.server_lost
        return new


class CacheFile:
    """The cache database of one (tenant, user)."""

    def __init__(self) -> None:
        self.documents: dict[str, Doc] = {}
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, list[tuple[int, bytes]]] = {}
        self.revocations: dict[str, str] = {}
        #: Copies that were withdrawn, with what replaces them.
        self.withdrawn: dict[str, str | None] = {}
        self.jobs: dict[str, tuple[str | None, str]] = {}
        self.templates: dict[str, tuple[dict[str, Any], int]] = {}
        self.versions: set[str] = set()
        self.refreshed_at: float | None = None
        self.cursor = ""
        self.pages = 0
        self.generation = 1
        self.sweeping = False
        self.policy = DEFAULT_POLICY
        self.mark = ""
        self.contact: Contact | None = None
        self.highest = NEVER
        self.read_at = -1
        self.reading: Any = None

    def copy(self) -> CacheFile:
        """Return what a power cut may leave: an earlier state, whole."""
        new = CacheFile()
        new.documents = {key: doc.copy() for key, doc in self.documents.items()}
        new.blobs, new.jobs, new.templates = dict(self.blobs), dict(self.jobs), dict(self.templates)
        new.revocations, new.withdrawn = dict(self.revocations), dict(self.withdrawn)
        new.parts = {key: list(parts) for key, parts in self.parts.items()}
        new.versions = set(self.versions)
        new.refreshed_at, new.cursor, new.generation = self.refreshed_at, self.cursor, self.generation
        new.sweeping, new.policy, new.mark = self.sweeping, self.policy, self.mark
        new.contact, new.highest, new.pages = self.contact, self.highest, self.pages
        return new

    def drop_document(self, document_id: str) -> bool:
        """Remove a document with everything that hangs on it."""
        self.blobs.pop(document_id, None)
        self.parts.pop(document_id, None)
        return self.documents.pop(document_id, None) is not None


class OutboxFile:
    """The audit outbox of one tenant: events with their states and from when they are kept, oldest first."""

    __slots__ = ("events", "offers", "pending")

    def __init__(self) -> None:
        self.events: list[list[Any]] = []
        self.offers = self.pending = 0


class Ticks:
    """Counts the changes of any clock."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class MemoryAccount:
    """The opened files of one person, as ``account.Account`` has them."""

    __slots__ = ("audit", "cache", "queue", "tenant", "ticks", "time", "user")

    def __init__(
        self,
        tenant: str,
        user: str,
        queue: QueueFile,
        cache: CacheFile,
        audit: OutboxFile,
        time: TimeSource,
        ticks: Ticks,
    ) -> None:
        self.ticks = ticks
        self.tenant, self.user, self.queue, self.cache, self.audit, self.time = tenant, user, queue, cache, audit, time

    def clock(self) -> Reading:
        """Return the time by the client's own rule, and remember the highest."""
        cache = self.cache
        if cache.read_at == self.ticks.count:
            # No clock has moved and no contact was made since: the rule would answer the same.
            return cache.reading
        reading = read_clock(self.time, cache.contact, cache.highest)
        cache.highest = see(self.time, reading.now, cache.highest) or cache.highest
        cache.read_at, cache.reading = self.ticks.count, reading
        return reading

    def locked(self, reading: Reading) -> bool:
        """Return whether the lease of the whole cache has run out."""
        contact = self.cache.contact
        return contact is not None and reading.now - contact.server_time > self.cache.policy.lease


def apply_job(queue: QueueFile, job: dict[str, Any], now: float, cmid: str | None) -> None:
    """``requests.apply_job``."""
    row = queue.rows.get(cmid or job.get("clientMutationId") or "")
    if row is None:
        return
    status, error, document_id = str(job.get("status", "")), job.get("error") or {}, job.get("documentId")
    if job.get("purgedAt") and not document_id:
        status, error = "failed", {"code": "JOB_PURGED"}
    hear_of_job(row, status, now)
    retried = status != "failed" and row.state == "failed" and row.job_status == "failed"
    if retried and row.reason_code != ALREADY_SENT:
        row.state, row.reason_code, row.changed_at = "acknowledged", None, now
    if row.state != "discarded":
        row.job_id, row.job_status = job.get("id"), status
        if document_id is not None:
            row.document_id = document_id
    if status == "failed" and row.state == "acknowledged":
        row.state, row.reason_code, row.changed_at = "failed", error.get("code") or "FAILED", now


_SETTLED_BY_UNKNOWN = frozenset({("quarantined", WITHDRAWAL_ASKED), ("failed", ALREADY_SENT)})
_TAKEN_BACK = _SETTLED_BY_UNKNOWN | {("discarded", WITHDRAWN)}


def hear_of_job(row: Row, status: str, now: float) -> None:
    """``withdrawals.hear_of_job``."""
    state, reason = ("discarded", WITHDRAWN) if status == "failed" else ("failed", ALREADY_SENT)
    if row.reason_code != reason and (row.state, row.reason_code) in _TAKEN_BACK:
        row.state, row.reason_code, row.changed_at, row.kept_from = state, reason, now, None


def give_up(row: Row, now: float, replaced_by: str | None = None) -> None:
    """``withdrawals.give_up``."""
    waits = row.state in ("queued", "sending")
    if not waits and row.state not in ("quarantined", "failed"):
        return
    if waits and not row.offered:
        row.state, row.reason_code = "discarded", WITHDRAWN
    elif waits or row.reason_code in ("SERVER_KEEPS_FAILING", WITHDRAWAL_ASKED):
        row.state, row.reason_code = "quarantined", WITHDRAWAL_ASKED
    else:
        row.state = "discarded"
    row.lease, row.changed_at, row.replaced_by = None, now, replaced_by or row.replaced_by


def settle_unknown(row: Row, now: float) -> None:
    """``withdrawals.settle_unknown``."""
    if (row.state, row.reason_code) in _SETTLED_BY_UNKNOWN:
        row.state, row.reason_code, row.changed_at = "discarded", WITHDRAWN, now


def fail_delivery(queue: QueueFile, document_id: str, code: str, now: float) -> None:
    """``requests.fail_delivery``."""
    for row in queue.rows.values():
        if row.document_id == document_id and row.state == "acknowledged":
            row.state, row.reason_code, row.changed_at = "failed", code, now


def expires_at(doc: Doc, policy: CachePolicy) -> float | None:
    """``Entry.expires_at``."""
    if doc.fetched_at is None or doc.ttl_at_fetch is None:
        return None
    return doc.fetched_at + min(doc.ttl_at_fetch, policy.ttl)


def revoke(cache: CacheFile, revocations: list[dict[str, Any]], *, whole: bool = False) -> None:
    """``cache.revoke``."""
    if whole:
        cache.revocations.clear()
    for revocation in revocations:
        document_id = str(revocation["documentId"])
        cache.revocations[document_id] = str(revocation.get("reason") or "")
        doc = cache.documents.get(document_id)
        if doc is not None and doc.fetched_at is not None:
            cache.withdrawn.setdefault(document_id, None)
        cache.drop_document(document_id)


def save_document(cache: CacheFile, body: dict[str, Any], generation: int) -> None:
    """``cache.save_document``."""
    document_id, sha256 = body["id"], str(body.get("sha256") or "")
    if document_id in cache.revocations:
        if document_id in cache.withdrawn:
            cache.withdrawn[document_id] = body.get("supersededBy") or cache.withdrawn[document_id]
        return
    if body.get("status") == "entered-in-error":
        revoke(cache, [{"documentId": document_id, "reason": "entered-in-error"}])
        return
    cache.withdrawn.pop(document_id, None)
    doc = cache.documents.get(document_id)
    if doc is None:
        doc = cache.documents[document_id] = Doc()
    elif doc.sha256 != sha256:
        cache.blobs.pop(document_id, None)
    doc.body, doc.size, doc.sha256 = body, int(body.get("size") or 0), sha256
    doc.job_id, doc.generation, doc.server_lost = body.get("renderJobId"), generation, False


def apply_page(cache: CacheFile, page: Mapping[str, Any], now: float) -> None:
    """``feed.apply_page``."""
    revoke(cache, page["revocations"])
    generation = cache.generation
    for template in page["templates"]:
        cache.templates[template["id"]] = (template, generation)
    for job in page["jobs"]:
        cache.jobs[job["id"]] = (job.get("documentId"), str(job.get("status")))
    for document in page["documents"]:
        save_document(cache, document, generation)
    newer = set(cache.withdrawn.values()) if cache.withdrawn else ()
    for document_id, doc in cache.documents.items():
        replaces = document_id in newer and (not doc.wanted or doc.fetched_at is None)
        if replaces or (not doc.wanted and doc.job_id in cache.jobs):
            doc.wanted, doc.evicted = True, False
    cache.cursor = page["cursor"]
    if not page["more"]:
        if cache.sweeping:
            for document_id in [
                k for k, d in cache.documents.items() if d.generation != generation and not d.server_lost
            ]:
                cache.drop_document(document_id)
            for template_id in [k for k, (_, g) in cache.templates.items() if g != generation]:
                del cache.templates[template_id]
            cache.sweeping = False
        cache.refreshed_at = now


def read_wanted(cache: CacheFile, now: float) -> list[fx.Wanted]:
    """``cache.read_wanted`` and ``cache.read_received``."""
    policy = cache.policy
    chosen = []
    for document_id, doc in cache.documents.items():
        if not doc.wanted or doc.evicted or doc.server_lost or not doc.sha256:
            continue
        here = document_id in cache.blobs
        if here and not is_old(doc, policy, now):
            continue
        if doc.size <= policy.quota:
            chosen.append((here, doc.job_id not in cache.jobs, doc.size, document_id, doc.sha256))
    chosen.sort()
    return [fx.Wanted(i, size, sha, here, read_received(cache, i)) for here, _, size, i, sha in chosen]


def is_old(doc: Doc, policy: CachePolicy, now: float) -> bool:
    """``cache._is_old``."""
    expires = expires_at(doc, policy)
    life = min(doc.ttl_at_fetch or policy.ttl, policy.ttl)
    return expires is not None and expires - now < life * REFRESH_SHARE


def read_beforehand(cache: CacheFile, now: float) -> list[fx.Wanted]:
    """``cache.read_beforehand`` and ``cache.read_received``."""
    policy = cache.policy
    rule = policy.prefetch
    if rule is None:
        return []
    oldest, listed = to_text(now - rule.days * 86_400.0), []
    for document_id, doc in cache.documents.items():
        body = doc.body
        if doc.wanted or doc.evicted or doc.server_lost or not doc.sha256 or body["status"] != "current":
            continue
        if (not rule.categories or body["category"] in rule.categories) and body["renderedAt"] >= oldest:
            listed.append((body["renderedAt"], document_id, doc))
    listed.sort(key=lambda found: found[:2], reverse=True)
    held = sum(doc.size for _, document_id, doc in listed if document_id in cache.blobs)
    room = min(rule.most_bytes, policy.quota - (sum(map(len, cache.blobs.values())) - held))
    chosen = []
    for _, document_id, doc in listed:
        if doc.size <= room:
            room -= doc.size
            here = document_id in cache.blobs
            if not here or is_old(doc, policy, now):
                received = read_received(cache, document_id)
                chosen.append(fx.Wanted(document_id, doc.size, doc.sha256, here, received))
    return chosen


def read_received(cache: CacheFile, document_id: str) -> int:
    """``cache.read_received``."""
    end = 0
    for start, content in cache.parts.get(document_id, ()):
        if start != end:
            break
        end += len(content)
    return end


def complete(cache: CacheFile, document_id: str, now: float) -> bool:
    """``cache.complete``."""
    doc = cache.documents.get(document_id)
    if doc is None:
        return False
    content = b"".join(part for _, part in cache.parts.pop(document_id, ()))
    if len(content) != doc.size or hashlib.sha256(content).hexdigest() != doc.sha256:
        return False
    cache.blobs[document_id] = content
    renew(cache, document_id, now)
    return True


def renew(cache: CacheFile, document_id: str, now: float) -> None:
    """``cache.renew``."""
    doc = cache.documents.get(document_id)
    if doc is not None:
        doc.fetched_at, doc.ttl_at_fetch, doc.evicted = now, cache.policy.ttl, False


def end_lives(cache: CacheFile, now: float) -> None:
    """``cache.end_lives`` and ``templates.end_freshness``."""
    if cache.refreshed_at is not None:
        cache.refreshed_at = min(cache.refreshed_at, now - LIST_AGE_SECONDS)
    for doc in cache.documents.values():
        if doc.fetched_at is not None and doc.ttl_at_fetch is not None:
            doc.fetched_at = now - doc.ttl_at_fetch


def purge_expired(cache: CacheFile, now: float, confirmed: float | None) -> None:
    """``cache.purge_expired``."""
    policy = cache.policy
    grace = 0.0 if policy.on_expiry == "delete" else GRACE_SECONDS
    for document_id in list(cache.blobs):
        expires = expires_at(cache.documents[document_id], policy)
        if expires is not None and ((confirmed is not None and confirmed >= expires) or now >= expires + grace):
            del cache.blobs[document_id]


def keep_quota(cache: CacheFile) -> None:
    """``cache.keep_quota``."""
    total = sum(map(len, cache.blobs.values()))
    if total <= cache.policy.quota:
        return
    order = []
    for document_id in cache.blobs:
        doc = cache.documents[document_id]
        used = max(doc.opened_at or 0, doc.fetched_at or 0)
        order.append((doc.wanted or doc.opened_at is not None, used, document_id))
    for _, _, document_id in sorted(order):
        if total <= cache.policy.quota:
            break
        total -= len(cache.blobs.pop(document_id))
        cache.documents[document_id].evicted = True


def record(
    outbox: OutboxFile, number: int, device_id: str, action: str, user: str, reading: Reading, **more: Any
) -> None:
    """``audit.record``; ``number`` makes the event's id."""
    if outbox.events:
        last = outbox.events[-1][0]
        sequence, previous = last["sequence"] + 1, last["hash"]
    else:
        sequence, previous = 1, FIRST_HASH
    event = {
        "eventId": f"evt_{number:026d}",
        "deviceId": device_id,
        "userId": user,
        "sequence": sequence,
        "action": action,
        "documentId": more.pop("document_id", None),
        "documentSha256": more.pop("document_sha256", None),
        "occurredAt": to_text(reading.now),
        "clock": reading.confidence,
        "previousHash": previous,
    }
    cmid = more.pop("client_mutation_id", None)
    event |= more
    if cmid is not None:
        event["clientMutationId"] = cmid
    event["hash"] = hash_event(event)
    outbox.events.append([event, "pending", None])
    outbox.pending += 1


def policy_of(wire: dict[str, Any], tenant: str) -> CachePolicy | None:
    """Return the policy of a wire object, or None when it is not signed for ``tenant`` by a key known since sign-in."""
    key = (tenant, *wire.values())
    if key not in _POLICIES:
        _POLICIES[key] = parse_policy(wire) if verify_policy(wire, tenant, POLICY_KEYS) else None
    return _POLICIES[key]


Hook = Callable[[], None]
__all__ = [
    "BATCH",
    "KEEP_DONE_SECONDS",
    "KEEP_EVENTS",
    "LEASE_SECONDS",
    "_AHEAD_SECONDS",
    "CacheFile",
    "Doc",
    "LeaseLost",
    "MemoryAccount",
    "OutboxFile",
    "QueueFile",
    "Row",
    "make_contact",
]
