"""The sync engine: one cycle as a pure state machine (contract §4).

    begin ──> withdrawals ──> drain ──> changes ──> versions ──> downloads ──> audit ──> prefetch ──> (new work? again)
                   │            │          │                         │           │          │                   │
                   └────────────┴──────────┴──── a reason to stop ───┴───────────┴──────────┴─────────> end <───┘

``cycle`` is a generator: it yields effects (``effects``) and is sent their outcomes; it opens no file and no socket,
and reads time and randomness only through what it is given. Dropping it between any two effects is a crash, and loses
nothing: every promise is on the disk before the next effect. An epoch that changed interrupts the drain: the device
asks which acknowledged requests the restored server still knows, and offers the others again.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

from .answers import Answer
from .cycle import Cycle, Steps, exchange, heed_epoch, settle_withdrawals, stop_for
from .effects import (
    Acknowledge,
    Began,
    BeginRun,
    Claim,
    CountDue,
    Effect,
    EndRun,
    Item,
    MarkEvents,
    Offer,
    Post,
    Postpone,
    PostSigned,
    PurgeCopies,
    PutBack,
    Quarantine,
    ReadEvents,
    RefreshToken,
)
from .reactions import Judged, Verdict, backoff, epoch_of, judge, judge_request
from .receiving import download, fetch_beforehand, pull_changes, pull_templates, pull_versions

JOBS = "/v1/documents/render-jobs"
# Contract §2: up to 50 full requests. The bytes are half of what the service takes in one body; at 64 kbit/s they are
# thirty seconds on the link, which is the time limit of an exchange.
BATCH_ITEMS = 50
BATCH_BYTES = 240 * 1024
# Contract §4: two different requests without a connection, three with a failing server, and the run stops.
SILENT_ITEMS = 2
FAILING_ITEMS = 3
# Contract §4: then the request is quarantined SERVER_KEEPS_FAILING.
MOST_FAILURES = 20
# Work that people add while a cycle runs is sent in the same cycle, but a cycle ends some time.
MOST_ROUNDS = 5


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
    if cycle.report.stopped == "DEVICE_REVOKED":
        yield PurgeCopies()
    # Nor does a person who lost every role keep what was printed from the trail.
    if cycle.report.stopped in ("DEVICE_REVOKED", "SIGN_IN", "SERVER_REFUSED"):
        yield from send_evidence(cycle)
    cycle.report.success = yield EndRun(not cycle.report.errors, cycle.report.stopped)


def _round(cycle: Cycle, began: Began) -> Steps:
    stages = (settle_withdrawals, drain, pull_changes, pull_versions, download, send_audit, fetch_beforehand)
    for stage in stages:
        if stage is pull_versions and not began.has_catalogue:
            yield from pull_templates(cycle)
        yield from stage(cycle)
        if cycle.stopped:
            return


# --- Sending requests ------------------------------------------------------------------------------------------


def drain(cycle: Cycle) -> Steps:
    """Send every due request once: up to fifty in one exchange where several are due and the service takes batches."""
    while not cycle.stopped:
        item: Item | None = yield Claim(tuple(cycle.tried))
        if item is None:
            return
        cycle.tried.append(item.cmid)
        together, alone = [item], None
        if cycle.batching and item.operation == "submit":
            together, alone = yield from _claim_more(cycle, item)
        if len(together) > 1:
            yield from _send_batch(cycle, together)
        else:
            yield from _send(cycle, item)
        yield from heed_epoch(cycle)
        if alone is not None:
            yield from _send_after(cycle, alone)


def _send_after(cycle: Cycle, item: Item) -> Steps:
    """Send a claimed request alone, unless what went before it stopped the run."""
    if cycle.stopped:
        yield PutBack(item.cmid)
    else:
        yield from _send(cycle, item)
        yield from heed_epoch(cycle)


def _claim_more(cycle: Cycle, first: Item) -> Generator[Effect, Any, tuple[list[Item], Item | None]]:
    """Claim what fits into one batch with ``first``; also the claimed request that must go alone, if there was one."""
    together, size = [first], len(first.body)
    while len(together) < BATCH_ITEMS and size < BATCH_BYTES:
        item: Item | None = yield Claim(tuple(cycle.tried))
        if item is None:
            break
        cycle.tried.append(item.cmid)
        if item.operation != "submit" or size + len(item.body) > BATCH_BYTES:
            return together, item
        together.append(item)
        size += len(item.body)
    return together, None


def _send_batch(cycle: Cycle, items: list[Item]) -> Steps:
    """Send several requests in one exchange; each answer is judged as if it had come alone.

    The single POST stays canonical. A service that does not take batches, a batch that is refused or fails as a whole,
    and a link that does not carry it: the requests go one by one for the rest of the run.
    """
    content = b'{"items":[' + b",".join(item.body for item in items) + b"]}"
    answer = yield from exchange(cycle, Post(f"{JOBS}/batch", content))
    judged = judge(answer, cycle.clock())
    if judged.verdict is Verdict.ACCEPTED:
        answers = _batch_answers(answer, [item.cmid for item in items])
        if answers is not None:
            cycle.report.offered += len(items)
            # All of them, whatever one of them says about the run: what the service took must be noted.
            for item in items:
                given = answers[item.cmid]
                yield from _settle(cycle, item, given, judge_request(given, item.cmid, cycle.clock()))
            return
        judged = Judged(Verdict.NOT_OURS)
    if judged.verdict in (Verdict.REFUSED, Verdict.SERVER_FAILED, Verdict.NO_CONNECTION):
        cycle.batching = False
        cycle.older_service = answer.status in (404, 405, 501)
        if judged.verdict is Verdict.NO_CONNECTION:
            # It counts as one request that met no connection; the next one alone decides whether the run stops.
            first, *items = items
            yield from _settle(cycle, first, answer, judged)
        for item in items:
            yield PutBack(item.cmid)
            cycle.tried.remove(item.cmid)
        return
    for item in items:
        if judged.verdict is Verdict.WAIT:
            yield from _settle(cycle, item, answer, judged)
        else:
            yield PutBack(item.cmid)
    if judged.verdict is not Verdict.WAIT:
        stop_for(cycle, judged, answer)


def _batch_answers(answer: Answer, cmids: list[str]) -> dict[str, Answer] | None:
    """Return each request's own answer, or None when the body does not answer exactly these requests (contract §6)."""
    listed = answer.body.get("items") if isinstance(answer.body, dict) else None
    if answer.status != 200 or not isinstance(listed, list) or len(listed) != len(cmids):
        return None
    found: dict[str, Answer] = {}
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("status"), int):
            return None
        body = entry.get("job") if entry["status"] < 400 else entry.get("problem")
        # A wait that the envelope names holds for every request in it.
        found[str(entry.get("clientMutationId"))] = Answer("answer", entry["status"], answer.headers, body, True)
    return found if set(found) == set(cmids) else None


def _send(cycle: Cycle, item: Item) -> Steps:
    path, content = JOBS, item.body
    if item.operation == "retry" and item.job_id:
        path, content = f"{path}/{quote(item.job_id, safe='')}/retry", b"{}"
    answer: Answer = yield Post(path, content, item.cmid)
    cycle.report.offered += 1
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
        yield Quarantine(item.cmid, judged.code, judged.told)
        cycle.report.quarantined += 1
    elif verdict is Verdict.NO_CONNECTION:
        yield from _postpone(cycle, item, counted=False, wait=None)
        if cycle.silent >= SILENT_ITEMS:
            cycle.stop("NO_CONNECTION", answer.detail)
    elif verdict is Verdict.WAIT:
        yield from _postpone(cycle, item, counted=False, wait=judged.wait)
        if judged.busy:
            cycle.stop("SERVER_BUSY", judged.told)
    elif verdict is Verdict.SERVER_FAILED:
        yield from _count_failure(cycle, item)
    else:
        yield PutBack(item.cmid)
        stop_for(cycle, judged, answer)


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


# --- Audit ----------------------------------------------------------------------------------------------------


def send_audit(cycle: Cycle) -> Steps:
    while True:
        offer: Offer = yield ReadEvents()
        if not offer.events:
            return
        answer = yield from exchange(cycle, Post("/v1/documents/audit-events", _written(offer)))
        judged = judge(answer, cycle.clock())
        results = _audit_results(answer.body) if judged.verdict is Verdict.ACCEPTED else None
        if results is None or not _answers(offer, results):
            if judged.verdict is Verdict.REFUSED:
                # The evidence stays; everything else of this cycle was done.
                cycle.report.errors.append(judged.code)
            else:
                stop_for(cycle, judged, answer)
            return
        yield from _mark(cycle, results, offer)


def send_evidence(cycle: Cycle) -> Steps:
    """Send what is in the outbox by the device's signature; what is not taken stays for another time."""
    while True:
        offer: Offer = yield ReadEvents()
        if not offer.events:
            return
        answer: Answer = yield PostSigned("/v1/documents/audit-events", _written(offer))
        accepted = judge(answer, cycle.clock()).verdict is Verdict.ACCEPTED
        results = _audit_results(answer.body) if accepted else None
        if results is None or not _answers(offer, results):
            return
        yield from _mark(cycle, results, offer)


def _written(offer: Offer) -> bytes:
    return json.dumps({"events": offer.events}).encode()


def _answers(offer: Offer, results: list[tuple[str, str]]) -> bool:
    return {event_id for event_id, _ in results} == {event["eventId"] for event in offer.events}


def _mark(cycle: Cycle, results: list[tuple[str, str]], offer: Offer) -> Steps:
    if not (yield MarkEvents(results, offer.number)):
        return
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
