"""The sync engine: one cycle as a pure state machine (contract §4).

    begin ──> drain ──> changes ──> versions ──> downloads ──> audit ──> (new work? drain again) ──> end
                │          │                         │            │
                └──────────┴──── a reason to stop ───┴────────────┘──────────────────────────────> end

``cycle`` is a generator: it yields effects (``effects``) and is sent their outcomes; it opens no file and no socket,
and reads time and randomness only through what it is given. Dropping it between any two effects is a crash, and loses
nothing: every promise is on the disk before the next effect. An epoch that changed interrupts the drain: the device
asks which acknowledged requests the restored server still knows, and offers the others again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from .answers import Answer, Transfer
from .effects import (
    Acknowledge,
    ApplyPage,
    Began,
    BeginRun,
    Claim,
    Complete,
    CountDue,
    CountQueued,
    DropParts,
    Effect,
    EndRun,
    FailDelivery,
    Fetch,
    Get,
    Item,
    MarkEvents,
    Post,
    Postpone,
    PutBack,
    Quarantine,
    ReadCursor,
    ReadEvents,
    ReadListTag,
    ReadMissingVersions,
    ReadPromised,
    ReadWanted,
    Reconcile,
    RefreshToken,
    Renew,
    SaveEpoch,
    SaveTemplates,
    SaveVersion,
    SettleLookup,
    StartFeedAgain,
    TouchTemplates,
    Wanted,
)
from .feed import looks_like_page
from .reactions import Judged, Verdict, backoff, epoch_of, judge, judge_request, server_time

Steps = Generator[Effect, Any, None]

# Contract §4: two different requests without a connection, three with a failing server, and the run stops.
SILENT_ITEMS = 2
FAILING_ITEMS = 3
# Contract §4: then the request is quarantined SERVER_KEEPS_FAILING.
MOST_FAILURES = 20
# Contract §2: a lookup takes up to 500 ids.
LOOKUP_SIZE = 500
# A cut download is resumed at once this often while it makes progress; then the network is taken to be gone.
RESUMES = 5
# Work that people add while a cycle runs is sent in the same cycle, but a cycle ends some time.
MOST_ROUNDS = 5


@dataclass(slots=True)
class Report:
    """What a cycle did. ``stopped`` is a code; ``success`` is true after a whole cycle without any error."""

    busy: bool = False
    success: bool = False
    stopped: str | None = None
    detail: str = ""
    sent: int = 0
    acknowledged: int = 0
    quarantined: int = 0
    postponed: int = 0
    offered_again: int = 0
    pages: int = 0
    downloaded: int = 0
    confirmed: int = 0
    bytes_received: int = 0
    done: int = 0
    events_sent: int = 0
    events_refused: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Cycle:
    """The state of one run, and what is handed in: ``clock`` (seconds), ``random`` in [0, 1), the byte budget."""

    clock: Callable[[], float]
    random: Callable[[], float]
    budget: int | None = None
    report: Report = field(default_factory=Report)
    epoch: str | None = None
    seen_epoch: str | None = None
    refreshed: bool = False
    tried: list[str] = field(default_factory=list)
    silent: int = 0
    failing: int = 0

    def stop(self, code: str, detail: str = "") -> None:
        """Stop the run for a reason that concerns everything, not one request."""
        self.report.stopped = self.report.stopped or code
        self.report.detail = self.report.detail or detail
        self.report.errors.append(code)

    @property
    def stopped(self) -> bool:
        """Whether the run has a reason to stop."""
        return self.report.stopped is not None


def run_cycle(cycle: Cycle) -> Steps:
    """Run one whole cycle; ``cycle.report`` says afterwards what happened."""
    began: Began | None = yield BeginRun()
    if began is None:
        cycle.report.busy = True
        return
    cycle.epoch = began.epoch
    for _ in range(MOST_ROUNDS):
        yield from _round(cycle, began)
        if cycle.stopped or not (yield CountDue(cycle.tried)):
            break
    left: int = 0 if cycle.stopped else (yield CountQueued())
    success = not cycle.report.errors and not left
    cycle.report.success = success
    yield EndRun(success, cycle.report.stopped)


def _round(cycle: Cycle, began: Began) -> Steps:
    stages = (_drain, _pull_changes, _pull_versions, _download, _send_audit)
    for stage in stages:
        if stage is _pull_versions and not began.has_catalogue:
            yield from _pull_templates(cycle)
        yield from stage(cycle)
        if cycle.stopped:
            return


# --- Sending requests -----------------------------------------------------------------------------------------


def _drain(cycle: Cycle) -> Steps:
    """Send every due request once."""
    while not cycle.stopped:
        item: Item | None = yield Claim(tuple(cycle.tried))
        if item is None:
            return
        cycle.tried.append(item.cmid)
        yield from _send(cycle, item)
        yield from _heed_epoch(cycle)


def _send(cycle: Cycle, item: Item) -> Steps:
    path = "/v1/documents/render-jobs"
    content = item.body
    if item.operation == "retry" and item.job_id:
        path, content = f"{path}/{quote(item.job_id, safe='')}/retry", b"{}"
    answer: Answer = yield Post(path, content, item.cmid)
    cycle.report.sent += 1
    judged = judge_request(answer, item.cmid, cycle.clock())
    if judged.verdict is Verdict.SIGN_IN and not cycle.refreshed:
        cycle.refreshed = True
        if (yield RefreshToken()):
            answer = yield Post(path, content, item.cmid)
            judged = judge_request(answer, item.cmid, cycle.clock())
    cycle.seen_epoch = epoch_of(answer) or cycle.seen_epoch
    yield from _settle(cycle, item, answer, judged)


def _settle(cycle: Cycle, item: Item, answer: Answer, judged: Judged) -> Steps:
    """Carry out one row of the reaction table."""
    verdict = judged.verdict
    cycle.silent = cycle.silent + 1 if verdict is Verdict.NO_CONNECTION else 0
    cycle.failing = cycle.failing + 1 if verdict is Verdict.SERVER_FAILED else 0
    if verdict is Verdict.ACCEPTED:
        yield Acknowledge(item.cmid, answer.body, epoch_of(answer) or cycle.epoch)
        cycle.report.acknowledged += 1
    elif verdict is Verdict.REFUSED and item.operation == "retry" and judged.code == "JOB_STATE_CONFLICT":
        # The earlier attempt to retry had arrived: only its answer was lost. Replaying the request tells the state.
        yield Acknowledge(
            item.cmid, {"id": item.job_id, "clientMutationId": item.cmid, "status": "queued"}, cycle.epoch
        )
        cycle.report.acknowledged += 1
    elif verdict is Verdict.REFUSED:
        yield Quarantine(item.cmid, judged.code, judged.title)
        cycle.report.quarantined += 1
    elif verdict is Verdict.NO_CONNECTION:
        yield from _postpone(cycle, item, counted=False, wait=None)
        if cycle.silent >= SILENT_ITEMS:
            cycle.stop("NO_CONNECTION", answer.detail)
    elif verdict is Verdict.WAIT:
        yield from _postpone(cycle, item, counted=False, wait=judged.wait)
        if judged.busy:
            cycle.stop("SERVER_BUSY", judged.title)
    elif verdict is Verdict.SERVER_FAILED:
        yield from _count_failure(cycle, item)
    else:
        yield PutBack(item.cmid)
        _stop_for(cycle, judged, answer)


def _count_failure(cycle: Cycle, item: Item) -> Steps:
    if item.failures + 1 >= MOST_FAILURES:
        yield Quarantine(item.cmid, "SERVER_KEEPS_FAILING", "The service failed on this request twenty times.")
        cycle.report.quarantined += 1
    else:
        yield from _postpone(cycle, item, counted=True, wait=None)
    if cycle.failing >= FAILING_ITEMS:
        cycle.stop("SERVER_FAILING")


def _postpone(cycle: Cycle, item: Item, *, counted: bool, wait: float | None) -> Steps:
    delay = backoff(item.tries, cycle.random()) if wait is None else wait
    yield Postpone(item.cmid, cycle.clock() + delay, counted, wait is not None)
    cycle.report.postponed += 1
    cycle.report.errors.append("POSTPONED")


def _stop_for(cycle: Cycle, judged: Judged, answer: Answer) -> None:
    codes = {
        Verdict.NOT_OURS: "NOT_THE_SERVICE",
        Verdict.ELSEWHERE: "NOT_THE_SERVICE",
        Verdict.TLS: "TLS_FAILED",
        Verdict.SIGN_IN: "SIGN_IN",
        Verdict.NO_CONNECTION: "NO_CONNECTION",
        Verdict.WAIT: "SERVER_BUSY",
        Verdict.SERVER_FAILED: "SERVER_FAILING",
        Verdict.REFUSED: "SERVER_REFUSED",
        Verdict.ACCEPTED: "NOT_THE_SERVICE",
    }
    cycle.stop(
        codes[judged.verdict], judged.code or answer.detail or (f"HTTP {answer.status}" if answer.status else "")
    )


def _heed_epoch(cycle: Cycle) -> Steps:
    """After a restore of the server: ask which promises it still knows, and offer the others again."""
    seen = cycle.seen_epoch
    if seen is None or seen == cycle.epoch or cycle.stopped:
        return
    promised: list[str] = yield ReadPromised(seen)
    for start in range(0, len(promised), LOOKUP_SIZE):
        asked = promised[start : start + LOOKUP_SIZE]
        content = json.dumps({"clientMutationIds": asked}).encode()
        answer: Answer = yield from _exchange(cycle, Post("/v1/documents/render-jobs/lookup", content))
        judged = judge(answer, cycle.clock())
        accepted = judged.verdict is Verdict.ACCEPTED and isinstance(answer.body, dict)
        items: Any = answer.body.get("items") if accepted else None
        if not _answers_all(items, asked):
            _stop_for(cycle, judged, answer)
            return
        again: int = yield SettleLookup(items, seen)
        cycle.report.offered_again += again
        if again:
            offered = {str(i["clientMutationId"]) for i in items if not i["known"]}
            cycle.tried = [cmid for cmid in cycle.tried if cmid not in offered]
    yield SaveEpoch(seen)
    cycle.epoch = seen


def _answers_all(items: Any, asked: list[str]) -> bool:
    if not isinstance(items, list) or not all(isinstance(i, dict) and isinstance(i.get("known"), bool) for i in items):
        return False
    # An answer that leaves one out would look like a server that lost it.
    return {i.get("clientMutationId") for i in items} == set(asked) and all(
        isinstance(i.get("job"), dict) for i in items if i["known"]
    )


def _exchange(cycle: Cycle, effect: Post | Get) -> Generator[Effect, Any, Answer]:
    """Make an exchange that is not about one request; a 401 is answered once by refreshing the token."""
    answer: Answer = yield effect
    if judge(answer, cycle.clock()).verdict is Verdict.SIGN_IN and not cycle.refreshed:
        cycle.refreshed = True
        if (yield RefreshToken()):
            answer = yield effect
    cycle.seen_epoch = epoch_of(answer) or cycle.seen_epoch
    return answer


# --- Receiving ------------------------------------------------------------------------------------------------


def _pull_changes(cycle: Cycle) -> Steps:
    restarted = False
    while True:
        cursor: str = yield ReadCursor()
        answer = yield from _exchange(cycle, Get(f"/v1/documents/changes?cursor={quote(cursor, safe='')}"))
        yield from _heed_epoch(cycle)
        if cycle.stopped:
            return
        judged = judge(answer, cycle.clock())
        if answer.status == 410 and judged.verdict is Verdict.REFUSED and not restarted:
            restarted = True
            yield StartFeedAgain()
            continue
        if judged.verdict is not Verdict.ACCEPTED or not looks_like_page(answer.body):
            _stop_for(cycle, judged, answer)
            return
        yield ApplyPage(answer.body, server_time(answer))
        cycle.report.pages += 1
        if not answer.body["more"]:
            break
        if answer.body["cursor"] == cursor:
            # A page that says "more" but does not move would be read for ever.
            cycle.stop("NOT_THE_SERVICE", "the change feed does not move")
            return
    if cycle.epoch != cycle.seen_epoch:
        yield from _heed_epoch(cycle)
    # Requests offered again because of a new epoch are sent by the next round.
    cycle.report.done += yield Reconcile()


def run_refresh(cycle: Cycle) -> Steps:
    """Bring the catalogue up to date, and nothing else."""
    yield from _pull_templates(cycle)
    if not cycle.stopped:
        yield from _pull_versions(cycle)


def run_downloads(cycle: Cycle) -> Steps:
    """Fetch the wanted documents, and nothing else."""
    wanted: list[Wanted] = yield ReadWanted()
    for document in wanted:
        yield from _fetch(cycle, document)
        if cycle.stopped:
            return


def _pull_templates(cycle: Cycle) -> Steps:
    """Fetch the whole catalogue; afterwards the change feed keeps it up to date."""
    items: list[dict[str, Any]] = []
    known: str | None = yield ReadListTag()
    query = "limit=100"
    while True:
        answer = yield from _exchange(cycle, Get(f"/v1/document-templates?{query}", None if items else known))
        judged = judge(answer, cycle.clock())
        if answer.kind == "answer" and answer.status == 304 and known and not items:
            yield TouchTemplates(answer.headers.get("cache-control", ""))
            return
        listed = (
            answer.body.get("items") if judged.verdict is Verdict.ACCEPTED and isinstance(answer.body, dict) else None
        )
        if not isinstance(listed, list):
            _stop_for(cycle, judged, answer)
            return
        # The tag of a first page says nothing about the pages after it.
        etag = answer.headers.get("etag") if not items and not answer.body.get("nextCursor") else None
        items += listed
        if not answer.body.get("nextCursor"):
            break
        query = f"limit=100&cursor={quote(str(answer.body['nextCursor']), safe='')}"
    yield SaveTemplates(items, etag, answer.headers.get("cache-control", ""))


def _pull_versions(cycle: Cycle) -> Steps:
    missing: list[tuple[str, str]] = yield ReadMissingVersions()
    for template_id, version_id in missing:
        answer = yield from _exchange(cycle, Get(f"/v1/document-templates/{template_id}/versions/{version_id}"))
        judged = judge(answer, cycle.clock())
        if judged.verdict is Verdict.REFUSED:
            # One template that this user may not read must not keep the others away.
            continue
        if judged.verdict is not Verdict.ACCEPTED or not _is_version(answer.body, version_id):
            _stop_for(cycle, judged, answer)
            return
        yield SaveVersion(template_id, answer.body, answer.headers.get("etag"))


def _is_version(body: Any, version_id: str) -> bool:
    return isinstance(body, dict) and body.get("id") == version_id and isinstance(body.get("definition"), dict)


def _download(cycle: Cycle) -> Steps:
    wanted: list[Wanted] = yield ReadWanted()
    for document in wanted:
        cost = 0 if document.here else document.size - document.received
        if cycle.budget is not None and cost > cycle.budget:
            continue
        yield from _fetch(cycle, document)
        if cycle.stopped:
            return
    cycle.report.done += yield Reconcile()


def _fetch(cycle: Cycle, document: Wanted) -> Steps:
    """Fetch or confirm one document, resuming what is cut; the signed URL is asked for just before use."""
    document_id = document.document_id
    for _ in range(RESUMES):
        path = f"/v1/documents/{quote(document_id, safe='')}/download-url"
        answer = yield from _exchange(cycle, Post(path, b"{}"))
        judged = judge(answer, cycle.clock())
        if judged.verdict is Verdict.REFUSED and answer.status in (404, 409, 410):
            yield FailDelivery(document_id, judged.code, judged.title)
            return
        url = answer.body.get("url") if judged.verdict is Verdict.ACCEPTED and isinstance(answer.body, dict) else None
        if not isinstance(url, str):
            _stop_for(cycle, judged, answer)
            return
        transfer: Transfer = yield Fetch(url, document)
        cycle.report.bytes_received += transfer.received
        if cycle.budget is not None:
            cycle.budget -= transfer.received
        if transfer.kind == "confirmed":
            yield Renew(document_id)
            cycle.report.confirmed += 1
            return
        if transfer.kind == "complete":
            if (yield Complete(document_id)):
                cycle.report.downloaded += 1
                return
        elif transfer.kind == "restart":
            yield DropParts(document_id)
        elif transfer.kind == "answered" and transfer.answer is not None:
            yield from _refused_bytes(cycle, document_id, transfer.answer)
            return
        elif transfer.received == 0:
            cycle.stop("NO_CONNECTION", "the download was cut")
            return
        document = _without_bytes(document, transfer)
    cycle.report.errors.append("DOWNLOAD_FAILED")


def _without_bytes(document: Wanted, transfer: Transfer) -> Wanted:
    """Return the document as it is to be asked for next; the driver reads afresh how much has arrived."""
    received = document.received + transfer.received if transfer.kind == "cut" else 0
    return Wanted(document.document_id, document.size, document.sha256, False, received)


def _refused_bytes(cycle: Cycle, document_id: str, answer: Answer) -> Steps:
    judged = judge(answer, cycle.clock())
    if judged.verdict is Verdict.REFUSED and answer.status in (404, 410):
        yield FailDelivery(document_id, judged.code, judged.title)
    elif judged.verdict is Verdict.REFUSED:
        cycle.report.errors.append(judged.code)
    else:
        _stop_for(cycle, judged, answer)


# --- Audit ----------------------------------------------------------------------------------------------------


def _send_audit(cycle: Cycle) -> Steps:
    while True:
        events: list[dict[str, Any]] = yield ReadEvents()
        if not events:
            return
        answer = yield from _exchange(
            cycle, Post("/v1/documents/audit-events", json.dumps({"events": events}).encode())
        )
        judged = judge(answer, cycle.clock())
        results = _audit_results(answer.body) if judged.verdict is Verdict.ACCEPTED else None
        asked = {event["eventId"] for event in events}
        if results is None or {event_id for event_id, _ in results} != asked:
            if judged.verdict is Verdict.REFUSED:
                # The evidence stays; everything else of this cycle was done.
                cycle.report.errors.append(judged.code)
            else:
                _stop_for(cycle, judged, answer)
            return
        yield MarkEvents(results)
        refused = sum(status == "refused" for _, status in results)
        cycle.report.events_refused += refused
        cycle.report.events_sent += len(results) - refused


def _audit_results(body: Any) -> list[tuple[str, str]] | None:
    """Return (event id, result) pairs, or None when the answer does not have the shape of contract §6."""
    items = body.get("items") if isinstance(body, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    results = [(item.get("eventId"), item.get("result")) for item in items]
    known = ("accepted", "duplicate", "refused")
    return results if all(isinstance(i, str) and result in known for i, result in results) else None
