"""The driver on files in memory: one function for each effect, in the transactions of ``document_client.driver``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from document_client import effects as fx
from document_client.answers import Answer, Transfer
from document_client.feed import MARK_CHARACTERS, ROUTE
from document_client.pieces import Pieces
from document_client.requests import LONGEST_WAIT_SECONDS
from document_client.withdrawals import WITHDRAWAL_ASKED

from . import memory as m
from .memory import MemoryAccount, OutboxFile, QueueFile, Row
from .network import download, exchange

if TYPE_CHECKING:
    from .world import Process


def take_lease(queue: QueueFile, owner: str, now: float, *, dead: bool) -> int | None:
    """``lease.take``."""
    held = bool(queue.owner) and queue.owner != owner and now < queue.until <= now + m.LEASE_SECONDS + m._AHEAD_SECONDS
    if held and not dead:
        return None
    queue.token += 1
    queue.owner, queue.until = owner, now + m.LEASE_SECONDS
    for row in queue.rows.values():
        if row.state == "sending":
            row.state, row.lease = "queued", None
    return queue.token


def due(row: Row, now: float, eager: bool, skip: Any) -> bool:
    """The condition of ``requests._DUE``."""
    until = row.not_before
    waits = now < until <= now + LONGEST_WAIT_SECONDS and (row.server_said or not eager)
    return row.state == "queued" and not waits and row.cmid not in skip


def purge_done(rows: dict[str, Row], heard: float, counted: float) -> None:
    """``requests.purge_done``."""
    old: list[str] = []
    before = heard - m.KEEP_DONE_SECONDS
    for row in rows.values():
        if row.state in ("done", "discarded"):
            if row.kept_from is None:
                row.kept_from = counted
            elif row.kept_from < before:
                old.append(row.cmid)
    for cmid in old:
        del rows[cmid]


def purge_sent(outbox: OutboxFile, heard: float, counted: float) -> None:
    """``audit.purge_sent``."""
    old, before = False, heard - m.KEEP_EVENTS
    for entry in outbox.events:
        if entry[1] == "sent":
            if entry[2] is None:
                entry[2] = counted
            old = old or entry[2] < before
    if old:
        last = outbox.events[-1]
        outbox.events = [
            e
            for e in outbox.events
            if e is last or e[1] != "sent" or e[2] >= before or e[0]["action"].startswith("print.")
        ]


class MemoryDisk:
    """Carries out the effects of one run."""

    def __init__(self, process: Process, account: MemoryAccount, owner: str, eager: bool) -> None:
        """Bind to the process that runs and to its opened files."""
        self.process, self.account, self.owner, self.eager = process, account, owner, eager
        self.queue, self.cache, self.audit = account.queue, account.cache, account.audit
        self.hook = process.hook
        self.token = 0
        #: When each kind of thing was asked for, and what was known here then (``asking.Questions``).
        self.asked: float | None = None
        self.heard: float | None = None
        self.asked_content: float | None = None
        self.asked_listing: float | None = None
        self.pages = 0
        self.cursor = ""

    def perform(self, effect: Any) -> Any:
        """Carry out one effect and return its outcome."""
        return _HANDLERS[effect.__class__](self, effect)

    def release(self) -> None:
        """Let go of the lease as a run does that ends by an error."""
        if self.token and self.queue.token == self.token:
            self.queue.owner, self.queue.until = "", 0.0

    def now(self) -> float:
        """Return the device's now."""
        return self.account.clock().now

    def born(self, asked: float | None) -> float:
        """``asking.Questions.born``."""
        birth = self.account.clock().birth
        return birth if asked is None else birth - max(self.account.time.monotonic() - asked, 0.0)

    def fence(self) -> None:
        """Begin a write of the drain: renew the lease under its token, or be stopped."""
        process, queue = self.process, self.queue
        # ``Process.hook``, written out: no line is passed more often.
        process.point += 1
        if process.point == process.plan:
            process.act()
        if queue.token != self.token or not queue.owner:
            raise m.LeaseLost()
        queue.until = process.world.wall() + m.LEASE_SECONDS

    # --- queue ---

    def begin_run(self, effect: fx.BeginRun) -> fx.Began | None:
        self.hook()
        queue = self.queue
        token = take_lease(
            queue, self.owner, self.account.time.wall(), dead=not self.process.world.is_alive(queue.owner)
        )
        if token is None:
            return None
        self.token = token
        queue.facts["last_attempt"] = self.now()
        return fx.Began(queue.facts.get("epoch"), self.cache.refreshed_at is not None)

    def claim(self, effect: fx.Claim) -> fx.Item | None:
        self.fence()
        now, skip = self.now(), effect.skip
        row: Row | None = None
        for waiting in self.queue.rows.values():
            if waiting.state == "queued" and due(waiting, now, self.eager, skip):
                if waiting.failures == 0:
                    row = waiting
                    break
                row = row or waiting
        if row is None:
            return None
        row.state, row.offered, row.lease = "sending", True, self.token
        return fx.Item(row.cmid, row.body, row.operation, row.job_id, row.tries, row.failures)

    def acknowledge(self, effect: fx.Acknowledge) -> None:
        self.fence()
        now = self.now()
        row = self.queue.rows.get(effect.cmid)
        if row is not None and row.state in ("queued", "sending"):
            row.state, row.operation, row.lease, row.tries, row.failures = "acknowledged", "submit", None, 0, 0
            row.not_before, row.server_said, row.reason_code = 0.0, False, None
            row.epoch, row.changed_at = effect.epoch, now
        m.apply_job(self.queue, dict(effect.job), now, effect.cmid)

    def postpone(self, effect: fx.Postpone) -> None:
        self.fence()
        row = self.queue.rows.get(effect.cmid)
        if row is not None and row.state in ("queued", "sending"):
            row.state, row.lease, row.tries = "queued", None, row.tries + 1
            row.failures += effect.counted
            row.not_before, row.server_said = effect.not_before, effect.server_said

    def put_back(self, effect: fx.PutBack) -> None:
        self.fence()
        row = self.queue.rows.get(effect.cmid)
        if row is not None and row.state == "sending":
            row.state, row.lease = "queued", None

    def quarantine(self, effect: fx.Quarantine) -> None:
        self.fence()
        row, now = self.queue.rows.get(effect.cmid), self.now()
        if row is not None and row.state in ("queued", "sending"):
            row.state, row.lease, row.reason_code, row.changed_at = "quarantined", None, effect.code, now

    def read_promised(self, effect: fx.ReadPromised) -> list[str]:
        return [
            row.cmid
            for row in self.queue.rows.values()
            if row.state in ("acknowledged", "done", "failed") and row.epoch != effect.epoch
        ]

    def read_withdrawn(self, effect: fx.ReadWithdrawn) -> list[str]:
        asked = ("quarantined", WITHDRAWAL_ASKED)
        return [row.cmid for row in self.queue.rows.values() if (row.state, row.reason_code) == asked]

    def settle_lookup(self, effect: fx.SettleLookup) -> int:
        now, rows, again = self.now(), self.queue.rows, 0
        self.fence()
        lost = [
            rows[item["clientMutationId"]].document_id
            for item in effect.items
            if not item["known"] and item["clientMutationId"] in rows
        ]
        self.hook()
        for document_id in lost:
            if document_id in self.cache.documents:
                self.cache.documents[document_id].server_lost = True
        self.process.world.reached_the_disk(self.process.session)
        self.fence()
        for item in effect.items:
            row = rows.get(item["clientMutationId"])
            if item["known"]:
                if row is not None:
                    row.epoch = effect.epoch
                m.apply_job(self.queue, item["job"], now, item["clientMutationId"])
                continue
            if row is None:
                continue
            m.settle_unknown(row, now)
            if row.state in ("acknowledged", "done", "failed"):
                again += 1
                row.state, row.operation, row.epoch, row.not_before = "queued", "submit", None, 0.0
                row.server_said, row.job_id, row.job_status, row.document_id = False, None, None, None
                row.reason_code, row.changed_at, row.kept_from = None, now, None
        return again

    def save_epoch(self, effect: fx.SaveEpoch) -> None:
        self.hook()
        for entry in self.audit.events:
            if entry[1] == "sent":
                entry[1:] = "pending", None
                self.audit.pending += 1
        self.audit.offers += 1
        self.fence()
        self.queue.facts["epoch"] = effect.epoch

    def count_due(self, effect: fx.CountDue) -> int:
        now = self.now()
        return sum(due(row, now, self.eager, effect.skip) for row in self.queue.rows.values())

    def reconcile(self, effect: fx.Reconcile) -> int:
        documents, revoked = self.cache.documents.items(), list(self.cache.revocations)
        present = [i for i, d in documents if d.fetched_at is not None]
        given_up = [i for i, d in documents if d.evicted and d.fetched_at is None]
        reading = self.account.clock()
        self.fence()
        now, done, rows = reading.now, 0, self.queue.rows
        for row in rows.values():
            if row.state != "acknowledged":
                continue
            if row.document_id in revoked:
                row.state, row.reason_code, row.changed_at = "failed", "DOCUMENT_WITHDRAWN", now
            elif row.document_id in given_up:
                row.state, row.reason_code, row.changed_at = "failed", "NOT_DELIVERED", now
            elif row.document_id in present:
                row.state, row.changed_at = "done", now
                done += 1
        if reading.confirmed is None:
            return done
        purge_done(rows, reading.confirmed, reading.estimate)
        return done

    def end_run(self, effect: fx.EndRun) -> bool:
        self.hook()
        reading = self.account.clock()
        m.purge_expired(self.cache, reading.estimate, reading.confirmed)
        m.keep_quota(self.cache)
        self.hook()
        if reading.confirmed is not None:
            purge_sent(self.audit, reading.confirmed, reading.estimate)
        self.fence()
        facts = self.queue.facts
        facts["last_stop"] = effect.stopped
        success = effect.whole and not any(r.state in ("queued", "sending") for r in self.queue.rows.values())
        if success:
            facts["last_success"] = reading.now
        self.queue.owner, self.queue.until = "", 0.0
        self.token = 0
        return success

    # --- cache ---

    def read_cursor(self, effect: fx.ReadCursor) -> str:
        return self.cache.cursor

    def apply_page(self, effect: fx.ApplyPage) -> None:
        page, cache = effect.page, self.cache
        wire = page.get("cachePolicy")
        policy = m.policy_of(wire, self.account.tenant) if wire else None
        self.hook()
        if self.pages != cache.pages or cache.cursor != effect.asked_from:
            raise m.LeaseLost()
        cache.pages += 1
        if effect.server_time is not None:
            if cache.contact is None:
                m.end_lives(cache, effect.server_time)
            cache.contact, cache.highest = m.make_contact(
                self.account.time, effect.server_time, cache.contact, self.asked, self.heard
            )
            cache.read_at = -1
        if wire and policy is not None:
            cache.policy, cache.mark = policy, wire["signature"][-MARK_CHARACTERS:]
        m.revoke(cache, page["revocations"], whole=not effect.asked_from)
        now = self.now()
        self.fence()
        for job in page["jobs"]:
            m.apply_job(self.queue, job, now, None)
        for revocation in page["revocations"]:
            m.fail_delivery(self.queue, revocation["documentId"], "DOCUMENT_WITHDRAWN", now)
        self.hook()
        if cache.cursor != effect.asked_from:
            raise m.LeaseLost()
        m.apply_page(cache, page, self.born(self.asked))

    def start_feed_again(self, effect: fx.StartFeedAgain) -> None:
        self.hook()
        self.cache.cursor, self.cache.sweeping = "", True
        self.cache.generation += 1

    def read_missing_versions(self, effect: fx.ReadMissingVersions) -> list[tuple[str, str]]:
        return sorted(
            (template_id, body["currentVersionId"])
            for template_id, (body, _) in self.cache.templates.items()
            if body["status"] == "published" and body["currentVersionId"] not in self.cache.versions
        )

    def save_version(self, effect: fx.SaveVersion) -> None:
        self.hook()
        self.cache.versions.add(effect.version["id"])

    def save_templates(self, effect: fx.SaveTemplates) -> None:
        self.hook()
        if self.cache.cursor == self.cursor:
            generation = self.cache.generation
            self.cache.templates = {item["id"]: (dict(item), generation) for item in effect.items}
            self.cache.refreshed_at = self.born(self.asked_listing)

    def read_list_tag(self, effect: fx.ReadListTag) -> str | None:
        self.asked_listing, self.cursor = self.account.time.monotonic(), self.cache.cursor
        return None

    def read_wanted(self, effect: fx.ReadWanted) -> list[fx.Wanted]:
        return m.read_wanted(self.cache, self.account.clock().estimate)

    def read_beforehand(self, effect: fx.ReadBeforehand) -> list[fx.Wanted]:
        return m.read_beforehand(self.cache, self.account.clock().estimate)

    def complete(self, effect: fx.Complete) -> bool:
        self.hook()
        whole = m.complete(self.cache, effect.document_id, self.born(self.asked_content))
        if whole:
            m.keep_quota(self.cache)
        self.process.world.reached_the_disk(self.process.session)
        return whole

    def renew(self, effect: fx.Renew) -> None:
        self.hook()
        m.renew(self.cache, effect.document_id, self.born(self.asked_content))

    def drop_parts(self, effect: fx.DropParts) -> None:
        self.hook()
        self.cache.parts.pop(effect.document_id, None)

    def fail_delivery(self, effect: fx.FailDelivery) -> None:
        self.keep_lease()
        self.hook()
        if effect.withdrawn:
            m.revoke(self.cache, [{"documentId": effect.document_id, "reason": effect.code}])
        elif effect.document_id in self.cache.documents:
            self.cache.documents[effect.document_id].evicted = True
        self.fence()
        m.fail_delivery(self.queue, effect.document_id, effect.code, self.now())

    # --- audit ---

    def read_events(self, effect: fx.ReadEvents) -> fx.Offer:
        if not self.audit.pending:
            return fx.Offer(self.audit.offers, [])
        waiting = [entry[0] for entry in self.audit.events if entry[1] == "pending"]
        return fx.Offer(self.audit.offers, waiting[: m.BATCH])

    def mark_events(self, effect: fx.MarkEvents) -> bool:
        self.hook()
        if self.audit.offers != effect.offer:
            return False
        marks = dict(effect.results)
        for entry in self.audit.events:
            status = marks.get(entry[0]["eventId"])
            if status is not None:
                self.audit.pending -= entry[1] == "pending"
                entry[1] = "refused" if status == "refused" else "sent"
        return True

    def purge_copies(self, effect: fx.PurgeCopies) -> int:
        world, held = self.process.world, len(self.cache.blobs)
        if held:
            number = world.next_number()
            m.record(self.audit, number, world.device_id, "cache.purged", self.account.user, self.account.clock())
            world.wrote(self.process.session[0], number)
        self.hook()
        self.cache.blobs, self.cache.parts, self.cache.documents = {}, {}, {}
        world.home.drop_caches()
        world.cache_copy = None
        return held

    # --- network ---

    def keep_lease(self) -> None:
        if self.token:
            self.fence()

    def post_signed(self, effect: fx.PostSigned) -> Answer:
        self.keep_lease()
        return exchange(self.process, "POST", effect.path, effect.content, None, True)

    def post(self, effect: fx.Post) -> Answer:
        self.keep_lease()
        if effect.path.endswith("/download-url"):
            self.asked_content = self.account.time.monotonic()
        return exchange(self.process, "POST", effect.path, effect.content, effect.cmid, False)

    def get(self, effect: fx.Get) -> Answer:
        self.keep_lease()
        path, cache = effect.path, self.cache
        if path.startswith(ROUTE):
            self.asked = self.account.time.monotonic()
            self.pages = cache.pages
        if cache.mark and cache.cursor and path.startswith(ROUTE):
            path += f"&policy={cache.mark}"
        answer = exchange(self.process, "GET", path, b"", None, False)
        self.heard = self.account.time.monotonic()
        return answer

    def refresh_token(self, effect: fx.RefreshToken) -> bool:
        return self.process.refresh_token()

    def fetch(self, effect: fx.Fetch) -> Transfer:
        document, cache = effect.document, self.cache
        offset = 0 if document.here else m.read_received(cache, document.document_id)
        if offset >= document.size and not document.here and offset:
            return Transfer("complete")
        self.asked_content = self.account.time.monotonic()

        def store(start: int, content: bytes) -> None:
            self.hook()
            if start == 0:
                cache.parts.pop(document.document_id, None)
            parts = [p for p in cache.parts.get(document.document_id, ()) if p[0] != start]
            if document.document_id in cache.documents:
                cache.parts[document.document_id] = sorted([*parts, (start, content)])
            self.keep_lease()

        pieces = Pieces(offset, store)
        etag, here = document.sha256, document.here
        transfer = download(
            self.process, effect.url, offset=offset, size=document.size, etag=etag, have_all=here, keep=pieces.keep
        )
        pieces.write()
        return transfer


_HANDLERS: dict[type, Callable[[MemoryDisk, Any], Any]] = {
    fx.BeginRun: MemoryDisk.begin_run,
    fx.Claim: MemoryDisk.claim,
    fx.Acknowledge: MemoryDisk.acknowledge,
    fx.Postpone: MemoryDisk.postpone,
    fx.PutBack: MemoryDisk.put_back,
    fx.Quarantine: MemoryDisk.quarantine,
    fx.ReadPromised: MemoryDisk.read_promised,
    fx.ReadWithdrawn: MemoryDisk.read_withdrawn,
    fx.SettleLookup: MemoryDisk.settle_lookup,
    fx.SaveEpoch: MemoryDisk.save_epoch,
    fx.CountDue: MemoryDisk.count_due,
    fx.Reconcile: MemoryDisk.reconcile,
    fx.EndRun: MemoryDisk.end_run,
    fx.ReadCursor: MemoryDisk.read_cursor,
    fx.ApplyPage: MemoryDisk.apply_page,
    fx.StartFeedAgain: MemoryDisk.start_feed_again,
    fx.ReadMissingVersions: MemoryDisk.read_missing_versions,
    fx.SaveVersion: MemoryDisk.save_version,
    fx.SaveTemplates: MemoryDisk.save_templates,
    fx.ReadListTag: MemoryDisk.read_list_tag,
    fx.ReadWanted: MemoryDisk.read_wanted,
    fx.ReadBeforehand: MemoryDisk.read_beforehand,
    fx.Complete: MemoryDisk.complete,
    fx.Renew: MemoryDisk.renew,
    fx.DropParts: MemoryDisk.drop_parts,
    fx.FailDelivery: MemoryDisk.fail_delivery,
    fx.ReadEvents: MemoryDisk.read_events,
    fx.MarkEvents: MemoryDisk.mark_events,
    fx.PurgeCopies: MemoryDisk.purge_copies,
    fx.PostSigned: MemoryDisk.post_signed,
    fx.Post: MemoryDisk.post,
    fx.Get: MemoryDisk.get,
    fx.Fetch: MemoryDisk.fetch,
    fx.RefreshToken: MemoryDisk.refresh_token,
}
