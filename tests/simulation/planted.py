"""Bugs put into the rules on purpose, one for each lesson that applies: the simulation must find every one.

Each is a small patch of one rule for as long as its search runs, never in the product. Rules of the engine
(``document_client.sync``, ``cycle``, ``receiving``, ``reactions``, ``clock``) are patched where they are; rules of the
tables in their double (``memory``, ``memory_disk``), whose equality with the tables is tested; one in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from document_client import cycle, reactions, receiving, sync
from document_client import effects as fx
from document_client.answers import Transfer
from document_client.clock import Highest, Reading, to_text
from document_client.reactions import Judged, Verdict

from . import memory, memory_disk, memory_home, server
from .memory_disk import MemoryDisk

Patch = tuple[Any, str, Any]
BUGS: dict[str, tuple[str, Callable[[], list[Patch]]]] = {}


def bug(lesson: str) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    """Register a planted bug with the lesson it repeats."""

    def register(plant: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        BUGS[plant.__name__] = (lesson, plant)
        return plant

    return register


def handler(kind: type, function: Any) -> Patch:
    """Replace what the disk does for one effect."""
    return (memory_disk._HANDLERS, kind, function)  # type: ignore[return-value]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a bug."""
    undo: list[Callable[[], None]] = []
    try:
        for owner, member, value in BUGS[name][1]():
            if isinstance(owner, dict):
                before = owner[member]
                undo.append(lambda o=owner, m=member, b=before: o.__setitem__(m, b))
                owner[member] = value
            else:
                before = getattr(owner, member)
                undo.append(lambda o=owner, m=member, b=before: setattr(o, m, b))
                setattr(owner, member, value)
        yield
    finally:
        for step in reversed(undo):
            step()


# --- The engine -----------------------------------------------------------------------------------------------


@bug("android-fhir #1649: 'sync complete' after a failed run")
def success_after_an_error() -> list[Patch]:
    return [(sync, "EndRun", lambda whole, stopped: fx.EndRun(True, stopped))]


@bug("cht-core #6299: work entered during a sync, then 'all synced'")
def success_with_work_left() -> list[Patch]:
    def end_run(disk: MemoryDisk, effect: fx.EndRun) -> bool:
        MemoryDisk.end_run(disk, effect)
        return effect.whole

    return [handler(fx.EndRun, end_run)]


@bug("cht-core #11306: 403 on push, silent")
def refused_counts_as_sent() -> list[Patch]:
    def judge_request(answer: Any, cmid: str, now: float) -> Judged:
        judged = reactions.judge_request(answer, cmid, now)
        return Judged(Verdict.ACCEPTED) if judged.verdict is Verdict.REFUSED else judged

    return [(sync, "judge_request", judge_request)]


@bug("cht-core #11306: 403 tried for ever, nobody is told")
def refused_is_tried_for_ever() -> list[Patch]:
    def judge_request(answer: Any, cmid: str, now: float) -> Judged:
        judged = reactions.judge_request(answer, cmid, now)
        return Judged(Verdict.NO_CONNECTION) if judged.code == "TEMPLATE_VERSION_RETIRED" else judged

    return [(sync, "judge_request", judge_request)]


@bug("cht-core #8093: server restored; acknowledged work never offered again")
def epoch_is_ignored() -> list[Patch]:
    def heed(cycle_: Any) -> Any:
        return iter(())

    return [(sync, "heed_epoch", heed), (receiving, "heed_epoch", heed)]


@bug("pouchdb #6308: the epoch is remembered before the look-up is settled")
def epoch_is_saved_too_early() -> list[Patch]:
    plain = cycle.heed_epoch

    def heed(run: Any) -> Any:
        if run.seen_epoch is not None and run.seen_epoch != run.epoch and not run.stopped:
            yield fx.SaveEpoch(run.seen_epoch)
        yield from plain(run)

    return [(sync, "heed_epoch", heed), (receiving, "heed_epoch", heed)]


@bug("a look-up answer that leaves ids out is believed")
def half_a_lookup_is_enough() -> list[Patch]:
    return [(cycle, "_answers_all", lambda items, asked: isinstance(items, list))]


@bug("Workbox #2599: any 2xx is success")
def portal_counts_as_accepted() -> list[Patch]:
    def judge_request(answer: Any, cmid: str, now: float) -> Judged:
        if answer.kind == "answer" and 200 <= answer.status < 300:
            return Judged(Verdict.ACCEPTED)
        return reactions.judge_request(answer, cmid, now)

    def acknowledge(disk: MemoryDisk, effect: fx.Acknowledge) -> None:
        job = effect.job if isinstance(effect.job, dict) else {}
        MemoryDisk.acknowledge(disk, fx.Acknowledge(effect.cmid, job, effect.epoch))

    return [(sync, "judge_request", judge_request), handler(fx.Acknowledge, acknowledge)]


@bug("success without the echoed id")
def echo_is_not_looked_at() -> list[Patch]:
    def judge_request(answer: Any, cmid: str, now: float) -> Judged:
        judged = reactions.judge(answer, now)
        fits = judged.verdict is not Verdict.ACCEPTED or isinstance(answer.body, dict)
        return judged if fits else Judged(Verdict.NOT_OURS)

    return [(sync, "judge_request", judge_request)]


@bug("amplify-js #10013: signed out (401), mutations dropped")
def unauthorised_is_dropped() -> list[Patch]:
    def put_back(disk: MemoryDisk, effect: fx.PutBack) -> None:
        disk.fence()
        if disk.process.cycle.refreshed:
            disk.queue.rows.pop(effect.cmid, None)

    return [handler(fx.PutBack, put_back)]


@bug("a run without a connection is tried twenty times, then given up")
def no_connection_counts_as_an_attempt() -> list[Patch]:
    def judge_request(answer: Any, cmid: str, now: float) -> Judged:
        judged = reactions.judge_request(answer, cmid, now)
        return Judged(Verdict.REFUSED, "GAVE_UP") if judged.verdict is Verdict.NO_CONNECTION else judged

    def retry(home: Any, account: Any, cmid: str) -> None:
        if account.queue.rows[cmid].reason_code != "GAVE_UP":
            plain(home, account, cmid)

    plain = memory_home.MemoryHome.retry
    return [(sync, "judge_request", judge_request), (memory_home.MemoryHome, "retry", retry)]


@bug("android-fhir: a run goes on without a connection, one time-out for each request")
def silence_stops_nothing() -> list[Patch]:
    return [(sync, "SILENT_ITEMS", 99)]


@bug("a service that fails on everything is asked about everything")
def failing_stops_nothing() -> list[Patch]:
    return [(sync, "FAILING_ITEMS", 99)]


@bug("a service that says 429 is sent the rest of the queue")
def busy_stops_nothing() -> list[Patch]:
    def judge_request(answer: Any, cmid: str, now: float) -> Judged:
        return replace(reactions.judge_request(answer, cmid, now), busy=False)

    return [(sync, "judge_request", judge_request)]


@bug("Workbox #597: a request that failed is tried again at once, for ever")
def nothing_backs_off() -> list[Patch]:
    return [(sync, "backoff", lambda tries, random: 0.0)]


@bug("an answer from before a restore says that the service has the evidence")
def late_answers_count() -> list[Patch]:
    def mark(disk: MemoryDisk, effect: fx.MarkEvents) -> Any:
        return MemoryDisk.mark_events(disk, fx.MarkEvents(effect.results, disk.audit.offers))

    return [handler(fx.MarkEvents, mark)]


@bug("Retry-After is not kept")
def retry_after_is_ignored() -> list[Patch]:
    return [(memory_disk, "due", lambda row, now, eager, skip: row.state == "queued" and row.cmid not in skip)]


@bug("evidence counts as sent whatever the service said")
def events_are_marked_unread() -> list[Patch]:
    def read(disk: MemoryDisk, effect: fx.ReadEvents) -> Any:
        found = MemoryDisk.read_events(disk, effect)
        for entry in disk.audit.events:
            entry[1] = "sent"
        disk.audit.pending = 0
        return found

    return [handler(fx.ReadEvents, read)]


# --- The queue ------------------------------------------------------------------------------------------------


@bug("Workbox #1984: the request is removed before the reply")
def claimed_is_removed() -> list[Patch]:
    def claim(disk: MemoryDisk, effect: fx.Claim) -> Any:
        item = MemoryDisk.claim(disk, effect)
        if item is not None:
            del disk.queue.rows[item.cmid]
        return item

    return [handler(fx.Claim, claim)]


@bug("Workbox #597: a failed replay is never scheduled again")
def postponed_for_ever() -> list[Patch]:
    def postpone(disk: MemoryDisk, effect: fx.Postpone) -> None:
        MemoryDisk.postpone(disk, fx.Postpone(effect.cmid, effect.not_before, effect.counted, effect.server_said))
        row = disk.queue.rows.get(effect.cmid)
        if row is not None:
            row.user = ""

    plain = memory_disk.due
    return [
        handler(fx.Postpone, postpone),
        (memory_disk, "due", lambda row, now, eager, skip: bool(row.user) and plain(row, now, eager, skip)),
    ]


@bug("a wait written under a wrong clock holds for ever")
def wrong_clock_waits_hold() -> list[Patch]:
    def due(row: Any, now: float, eager: bool, skip: Any) -> bool:
        waits = row.not_before > now and (row.server_said or not eager)
        return row.state == "queued" and not waits and row.cmid not in skip

    return [(memory_disk, "due", due)]


@bug("TanStack Query #6825: one failing mutation blocks the rest")
def head_of_line_blocks() -> list[Patch]:
    def claim(disk: MemoryDisk, effect: fx.Claim) -> Any:
        if any(row.failures for row in disk.queue.rows.values()):
            disk.fence()
            return None
        return MemoryDisk.claim(disk, effect)

    return [handler(fx.Claim, claim)]


@bug("Replicache 9: mutations of a closed process are lost")
def sending_is_not_taken_up_again() -> list[Patch]:
    def take(queue: Any, owner: str, now: float, *, dead: bool) -> int | None:
        kept = [row for row in queue.rows.values() if row.state == "sending"]
        token = plain(queue, owner, now, dead=dead)
        for row in kept:
            row.state = "sending"
        return token

    plain = memory_disk.take_lease
    return [(memory_disk, "take_lease", take)]


@bug("android-fhir #2361: two sync workers at once, without a fence")
def no_fence() -> list[Patch]:
    def fence(disk: MemoryDisk) -> None:
        disk.hook()

    return [(MemoryDisk, "fence", fence)]


@bug("persist-queue #89: another one's acknowledgement removes your item")
def acknowledged_by_position() -> list[Patch]:
    def acknowledge(disk: MemoryDisk, effect: fx.Acknowledge) -> None:
        MemoryDisk.acknowledge(disk, effect)
        for row in disk.queue.rows.values():
            if row.state == "queued":
                row.state = "acknowledged"
                return

    return [handler(fx.Acknowledge, acknowledge)]


@bug("CommCare #1781: what was sent is deleted before its document is here")
def acknowledged_is_deleted() -> list[Patch]:
    def acknowledge(disk: MemoryDisk, effect: fx.Acknowledge) -> None:
        MemoryDisk.acknowledge(disk, effect)
        disk.queue.rows.pop(effect.cmid, None)

    return [handler(fx.Acknowledge, acknowledge)]


@bug("gbrain #2253: a dead job blocks its key for ever")
def failed_job_is_only_replayed() -> list[Patch]:
    def retry(home: Any, account: Any, cmid: str) -> None:
        plain(home, account, cmid)
        account.queue.rows[cmid].operation = "submit"

    plain = memory_home.MemoryHome.retry
    return [(memory_home.MemoryHome, "retry", retry)]


@bug("Survey123 #389: check-then-insert, a duplicate becomes a second document")
def no_dedup() -> list[Patch]:
    def submit(model: Any, caller: Any, body: Any, header_id: Any) -> Any:
        known = model.state.dedup.pop((caller.tenant, body["clientMutationId"]), None)
        if known is not None and model.state.jobs[known["job"]]["status"] == "failed":
            model.state.dedup[caller.tenant, body["clientMutationId"]] = known
        return plain(model, caller, body, header_id)

    plain = server.Server.submit
    return [(server.Server, "submit", submit)]


@bug("the retry gets another id and becomes another request")
def retried_bytes_differ() -> list[Patch]:
    def claim(disk: MemoryDisk, effect: fx.Claim) -> Any:
        item = MemoryDisk.claim(disk, effect)
        if item is not None and item.tries:
            body = item.body.replace(b'"locale":"en"', b'"locale":"ps"')
            return fx.Item(item.cmid, body, item.operation, item.job_id, item.tries, item.failures)
        return item

    return [handler(fx.Claim, claim)]


@bug("ground-android #1683: user A's writes are sent as user B")
def sent_as_whoever_is_signed_in() -> list[Patch]:
    def post(disk: MemoryDisk, effect: fx.Post) -> Any:
        signed_in = disk.process.world.session
        if signed_in is not None:
            disk.process.session = signed_in
            disk.process.caller = server.Caller(*signed_in)
        return MemoryDisk.post(disk, effect)

    return [handler(fx.Post, post), (memory_home.MemoryHome, "stop_drain", lambda home, account: None)]


@bug("a drain that was sending it puts a request back that was taken back meanwhile")
def taken_back_is_put_back() -> list[Patch]:
    def put_back(disk: MemoryDisk, effect: fx.PutBack) -> None:
        disk.fence()
        row = disk.queue.rows.get(effect.cmid)
        if row is not None and row.reason_code != memory.WITHDRAWN:
            row.state, row.lease = "queued", None

    def postpone(disk: MemoryDisk, effect: fx.Postpone) -> None:
        put_back(disk, fx.PutBack(effect.cmid))
        row = disk.queue.rows.get(effect.cmid)
        if row is not None:
            row.not_before, row.server_said = effect.not_before, effect.server_said

    return [handler(fx.PutBack, put_back), handler(fx.Postpone, postpone)]


@bug("a request that may have left is taken back for good, and its document comes as a surprise")
def taken_back_without_the_servers_word() -> list[Patch]:
    def give_up(row: Any, now: float, replaced_by: str | None = None) -> None:
        row.offered = False
        plain(row, now, replaced_by)

    plain = memory.give_up
    return [(memory, "give_up", give_up), (memory, "hear_of_job", lambda row, status, now: None)]


@bug("a look-up before the bytes arrived is believed for ever")
def early_lookup_is_believed() -> list[Patch]:
    def hear(row: Any, status: str, now: float) -> None:
        if row.state != "discarded":
            plain(row, status, now)

    plain = memory.hear_of_job
    return [(memory, "hear_of_job", hear)]


@bug("a restored server is offered what was taken back")
def taken_back_is_offered_again() -> list[Patch]:
    return [(memory, "settle_unknown", lambda row, now: None)]


@bug("a document that was withdrawn, or not given, keeps its request waiting for ever")
def withdrawn_is_not_told() -> list[Patch]:
    return [(memory, "fail_delivery", lambda queue, document_id, code, now: None), handler(fx.Reconcile, _reconcile)]


def _reconcile(disk: MemoryDisk, effect: fx.Reconcile) -> int:
    disk.fence()
    present, now, done = set(disk.cache.blobs), disk.now(), 0
    for row in disk.queue.rows.values():
        if row.state == "acknowledged" and row.document_id in present:
            row.state, row.changed_at = "done", now
            done += 1
    return done


@bug("done before the document is here")
def done_without_a_document() -> list[Patch]:
    def reconcile(disk: MemoryDisk, effect: fx.Reconcile) -> int:
        done = MemoryDisk.reconcile(disk, effect)
        for row in disk.queue.rows.values():
            if row.state == "acknowledged" and row.job_status == "completed":
                row.state = "done"
        return done

    return [handler(fx.Reconcile, reconcile)]


# --- The cache ------------------------------------------------------------------------------------------------


@bug("huggingface_hub #4143: a resumed download is not verified")
def bytes_are_not_verified() -> list[Patch]:
    def complete(cache: Any, document_id: str, now: float) -> bool:
        doc = cache.documents.get(document_id)
        if doc is None:
            return False
        cache.blobs[document_id] = b"".join(part for _, part in cache.parts.pop(document_id, ()))
        memory.renew(cache, document_id, now)
        return True

    return [(memory, "complete", complete)]


@bug("httrack #428: what does not continue is appended all the same")
def restart_is_taken_for_complete() -> list[Patch]:
    plain = memory_disk.download

    def download(process: Any, url: str, **details: Any) -> Transfer:
        transfer = plain(process, url, **details)
        return Transfer("confirmed") if transfer.kind == "restart" else transfer

    return [(memory_disk, "download", download)]


@bug("WatermelonDB #1374: the cursor is stored apart from its rows")
def cursor_before_rows() -> list[Patch]:
    def apply(disk: MemoryDisk, effect: fx.ApplyPage) -> None:
        disk.cache.cursor = effect.page["cursor"]
        MemoryDisk.apply_page(disk, replace(effect, asked_from=disk.cache.cursor))

    return [handler(fx.ApplyPage, apply)]


@bug("WatermelonDB #1374: what was deleted comes back")
def revocations_are_forgotten() -> list[Patch]:
    def revoke(cache: Any, revocations: Any) -> None:
        for revocation in revocations:
            cache.revocations[revocation["documentId"]] = "noted, not done"

    return [(memory, "revoke", revoke)]


@bug("a revoked device keeps its copies")
def revoked_device_keeps_its_copies() -> list[Patch]:
    return [handler(fx.PurgeCopies, lambda disk, effect: 0)]


@bug("the time to live is counted by the wall clock alone")
def wall_clock_is_trusted() -> list[Patch]:
    def read_clock(source: Any, contact: Any, highest: Any) -> Reading:
        wall = source.wall()
        return Reading(wall, contact.server_time if contact else None, "unverified", wall, wall)

    return [(memory, "read_clock", read_clock)]


@bug("a clock that is set back on a device without contact stops the time")
def time_stands_still() -> list[Patch]:
    plain = memory.read_clock
    return [(memory, "read_clock", lambda source, contact, seen: plain(source, contact, Highest(seen.time, 0.0, "")))]


@bug("a life begins at the device's time, which may be a year ahead")
def life_begins_at_the_wall_clock() -> list[Patch]:
    plain = memory.renew

    def renew(cache: Any, document_id: str, now: float) -> None:
        plain(cache, document_id, max(now, cache.highest.time))

    return [(memory, "renew", renew)]


@bug("a life begins by a clock read before another program heard what time it is")
def life_begins_before_the_first_contact() -> list[Patch]:
    def complete(disk: MemoryDisk, effect: Any) -> bool:
        fetched_at = disk.account.clock().birth
        disk.hook()
        if not memory.complete(disk.cache, effect.document_id, fetched_at):
            return False
        memory.keep_quota(disk.cache)
        return True

    return [handler(fx.Complete, complete)]


class _Whatever:
    """Equal to everything."""

    def __ne__(self, other: object) -> bool:
        return False


@bug("a page from before another program's page brings an older policy back")
def older_policy_comes_back() -> list[Patch]:
    def apply_page(disk: MemoryDisk, effect: Any) -> None:
        disk.pages = _Whatever()  # type: ignore[assignment]
        MemoryDisk.apply_page(disk, effect)

    return [handler(fx.ApplyPage, apply_page)]


@bug("a sleep between the service's answer and its storing is added to a copy's life")
def life_begins_when_it_is_stored() -> list[Patch]:
    return [(MemoryDisk, "born", lambda disk, asked: disk.account.clock().birth)]


@bug("a sleep between the first answer after a restart and its storing is added to the lives of what was here")
def contact_begins_when_it_is_stored() -> list[Patch]:
    plain = memory.make_contact
    return [(memory, "make_contact", lambda source, said, before, asked, heard: plain(source, said, before, asked))]


@bug("what a restored service has forgotten is revoked here for ever")
def revocations_outlive_a_listing() -> list[Patch]:
    plain = memory.revoke
    return [(memory, "revoke", lambda cache, revocations, *, whole=False: plain(cache, revocations))]


@bug("a list of forms that is on its way replaces what another program heard meanwhile")
def older_list_replaces_newer_forms() -> list[Patch]:
    def save_templates(disk: MemoryDisk, effect: Any) -> None:
        disk.hook()
        disk.cache.templates = {item["id"]: (dict(item), 0) for item in effect.items}
        disk.cache.refreshed_at = disk.born(disk.asked_listing)

    return [handler(fx.SaveTemplates, save_templates)]


@bug("a list of forms that was fetched by a clock ahead looks fresh when it is old")
def forms_are_dated_by_the_wall_clock() -> list[Patch]:
    plain = memory.apply_page

    def apply_page(cache: Any, page: Any, now: float) -> None:
        plain(cache, page, max(now, cache.highest.time))

    return [(memory, "apply_page", apply_page)]


@bug("a list of forms that was fetched before the device knew the time stays fresh, a year too long")
def forms_are_never_ended() -> list[Patch]:
    plain = memory.end_lives

    def end_lives(cache: Any, now: float) -> None:
        refreshed = cache.refreshed_at
        plain(cache, now)
        cache.refreshed_at = refreshed

    return [(memory, "end_lives", end_lives)]


@bug("a life that began before the device knew the time goes on, a year too long")
def first_contact_ends_nothing() -> list[Patch]:
    return [(memory, "end_lives", lambda cache, now: None)]


@bug("a shorter policy does not reach copies that are here")
def policy_at_fetch_is_kept() -> list[Patch]:
    def expires_at(doc: Any, policy: Any) -> float | None:
        return None if doc.fetched_at is None else doc.fetched_at + doc.ttl_at_fetch

    return [(memory, "expires_at", expires_at)]


@bug("one slip of the clock expires a clinic for ever")
def highest_is_never_reset() -> list[Patch]:
    def apply(disk: MemoryDisk, effect: fx.ApplyPage) -> None:
        highest = disk.cache.highest
        MemoryDisk.apply_page(disk, effect)
        if highest.time > disk.cache.highest.time:
            disk.cache.highest = highest
            disk.cache.read_at = -1

    return [handler(fx.ApplyPage, apply)]


@bug("a policy that nobody signed is believed")
def forged_policy_is_believed() -> list[Patch]:
    return [(memory, "policy_of", lambda wire, tenant: memory.parse_policy(wire))]


@bug("a policy of another tenant is believed, for the service did sign it")
def policy_of_another_tenant_is_believed() -> list[Patch]:
    def policy_of(wire: Any, tenant: str) -> Any:
        tenants = (tenant, "elsewhere")
        return next((found for found in (plain(wire, name) for name in tenants) if found), None)

    plain = memory.policy_of
    return [(memory, "policy_of", policy_of)]


@bug("a policy is believed for the name of its key")
def name_of_a_key_is_enough() -> list[Patch]:
    def policy_of(wire: Any, tenant: str) -> Any:
        return memory.parse_policy(wire) if wire["signature"].startswith("model-1.") else None

    return [(memory, "policy_of", policy_of)]


@bug("a clock that is a year ahead empties the queue of what may have to be offered again")
def done_is_purged_by_the_wall_clock() -> list[Patch]:
    def reconcile(disk: MemoryDisk, effect: fx.Reconcile) -> int:
        done = MemoryDisk.reconcile(disk, effect)
        before = disk.now() - memory.KEEP_DONE_SECONDS
        for row in [r for r in disk.queue.rows.values() if r.state == "done" and r.changed_at < before]:
            del disk.queue.rows[row.cmid]
        return done

    return [handler(fx.Reconcile, reconcile)]


@bug("what was done by a clock that is a year behind looks old, and is purged")
def done_is_purged_by_its_own_clock() -> list[Patch]:
    def purge_done(rows: Any, now: float, counted: float) -> None:
        before = now - memory.KEEP_DONE_SECONDS
        for row in [r for r in rows.values() if r.state in ("done", "discarded") and r.changed_at < before]:
            del rows[row.cmid]

    return [(memory_disk, "purge_done", purge_done)]


@bug("evidence of a clock that is a year behind looks old, and is purged")
def evidence_is_purged_by_its_own_clock() -> list[Patch]:
    def purge_sent(outbox: Any, now: float, counted: float) -> None:
        last, before = outbox.events[-1:], to_text(now - memory.KEEP_EVENTS)
        outbox.events = [e for e in outbox.events[:-1] if e[1] != "sent" or e[0]["occurredAt"] >= before] + last

    return [(memory_disk, "purge_sent", purge_sent)]


@bug("a restored server never gets the evidence again that it had acknowledged")
def evidence_is_not_offered_again() -> list[Patch]:
    def save_epoch(disk: MemoryDisk, effect: fx.SaveEpoch) -> None:
        disk.hook()
        disk.fence()
        disk.queue.facts["epoch"] = effect.epoch

    return [handler(fx.SaveEpoch, save_epoch)]


@bug("two programs write to one chain and fork it")
def chain_forks() -> list[Patch]:
    plain = memory.record

    def record(outbox: Any, *values: Any, **more: Any) -> None:
        last = outbox.events.pop() if len(outbox.events) > 1 else None
        plain(outbox, *values, **more)
        if last is not None:
            outbox.events.insert(-1, last)

    return [(memory, "record", record)]


# --- What comes before anybody asks ---------------------------------------------------------------------------


def _with_rule(change: Callable[[Any], Any]) -> list[Patch]:
    """Let the device read another rule out of the policy than was signed."""
    plain = memory.read_beforehand

    def read(cache: Any, now: float) -> list[fx.Wanted]:
        policy = cache.policy
        if policy.prefetch is None:
            return []
        cache.policy = replace(policy, prefetch=change(policy.prefetch))
        try:
            return plain(cache, now)
        finally:
            cache.policy = policy

    return [(memory, "read_beforehand", read)]


@bug("documents come beforehand that are of no category of the rule")
def category_of_the_rule_is_ignored() -> list[Patch]:
    return _with_rule(lambda rule: replace(rule, categories=()))


@bug("documents come beforehand that are older than the rule allows")
def age_of_the_rule_is_ignored() -> list[Patch]:
    return _with_rule(lambda rule: replace(rule, days=10_000.0))


@bug("more comes beforehand than the rule allows")
def bytes_of_the_rule_are_ignored() -> list[Patch]:
    return _with_rule(lambda rule: replace(rule, most_bytes=10**9))


@bug("what is named by the rule never comes")
def rule_is_never_followed() -> list[Patch]:
    return [(memory, "read_beforehand", lambda cache, now: [])]


@bug("what comes beforehand pushes out the oldest own documents")
def prefetch_pushes_out_own_documents() -> list[Patch]:
    def keep_quota(cache: Any) -> None:
        own = {i: d.wanted for i, d in cache.documents.items()}
        for doc in cache.documents.values():
            doc.wanted = True
        plain(cache)
        for document_id, doc in cache.documents.items():
            doc.wanted = own[document_id]

    def read(cache: Any, now: float) -> list[fx.Wanted]:
        policy = cache.policy
        cache.policy = replace(policy, quota=10**9)
        try:
            return plan(cache, now)
        finally:
            cache.policy = policy

    plain, plan = memory.keep_quota, memory.read_beforehand
    return [(memory, "keep_quota", keep_quota), (memory, "read_beforehand", read)]


@bug("what comes beforehand is fetched to its end while a request waits")
def prefetch_does_not_look_at_the_queue() -> list[Patch]:
    def fetch(run: Any) -> Any:
        steps, outcome = receiving.fetch_beforehand(run), None
        while True:
            try:
                effect = steps.send(outcome)
            except StopIteration:
                return
            outcome = 0 if isinstance(effect, fx.CountDue) else (yield effect)

    return [(sync, "fetch_beforehand", fetch)]


@bug("what comes beforehand is fetched before own documents")
def prefetch_goes_first() -> list[Patch]:
    return [(sync, "download", receiving.fetch_beforehand), (sync, "fetch_beforehand", receiving.download)]


@bug("a document that nobody asked for is refused, and stops the run")
def refused_prefetch_stops_the_run() -> list[Patch]:
    plain = receiving._fetch
    return [(receiving, "_fetch", lambda run, document, beforehand=False: plain(run, document))]


def _leave_refused(are_left: Callable[[Any], bool]) -> list[Patch]:
    """Leave some of the documents that were refused as they are when they replace an own copy."""
    plain = memory.apply_page

    def apply_page(cache: Any, page: Any, now: float) -> None:
        left = {i for i, d in cache.documents.items() if d.evicted and d.fetched_at is None and are_left(d)}
        plain(cache, page, now)
        for document_id in left.intersection(cache.documents):
            cache.documents[document_id].evicted = True

    return [(memory, "apply_page", apply_page)]


@bug("what was refused beforehand is not fetched when it replaces an own copy")
def refused_prefetch_is_never_wanted() -> list[Patch]:
    return _leave_refused(lambda doc: True)


@bug("what replaces an own copy is given up for ever when the service once does not give it")
def refused_replacement_is_given_up() -> list[Patch]:
    return _leave_refused(lambda doc: doc.wanted)


@bug("a download that came to nothing is begun again beyond the budget of bytes")
def budget_is_asked_once() -> list[Patch]:
    def fits(run: Any, document: Any) -> bool:
        begun = run.report.bytes_received > 0
        return begun or plain(run, document)

    plain = receiving._fits_budget
    return [(receiving, "_fits_budget", fits)]
