"""The receiving half of a cycle: changes, catalogue, documents. Pure, as ``sync`` is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

from .answers import Answer, Transfer, looks_like_page
from .cycle import Cycle, Steps, exchange, heed_epoch, stop_for
from .effects import (
    ApplyPage,
    Complete,
    CountDue,
    DropParts,
    FailDelivery,
    Fetch,
    Get,
    Post,
    ReadBeforehand,
    ReadCursor,
    ReadListTag,
    ReadMissingVersions,
    ReadWanted,
    Reconcile,
    Renew,
    SaveTemplates,
    SaveVersion,
    StartFeedAgain,
    TouchTemplates,
    Wanted,
)
from .reactions import Verdict, epoch_of, judge, server_time

# A cut download is resumed at once this often while it makes progress; then the network is taken to be gone.
RESUMES = 5
# The service's word that a document is gone for good; any other refusal may be taken back.
WITHDRAWN = "DOCUMENT_WITHDRAWN"


_NOTHING_NEW: dict[str, Any] = {"more": False, "revocations": [], "templates": [], "jobs": [], "documents": []}


def pull_changes(cycle: Cycle) -> Steps:
    restarted = False
    while True:
        cursor: str = yield ReadCursor()
        answer = yield from exchange(cycle, Get(f"/v1/documents/changes?cursor={quote(cursor, safe='')}"))
        yield from heed_epoch(cycle)
        if cycle.stopped:
            return
        if cursor and answer.status == 204 and epoch_of(answer):
            # Nothing is new, and the policy is the one that is here; a portal's 204 has no epoch.
            answer = replace(answer, status=200, is_json=True, body=dict(_NOTHING_NEW, cursor=cursor))
        judged = judge(answer, cycle.clock())
        if answer.status == 410 and judged.verdict is Verdict.REFUSED and not restarted:
            restarted = True
            yield StartFeedAgain()
            continue
        if judged.verdict is not Verdict.ACCEPTED or not looks_like_page(answer.body):
            stop_for(cycle, judged, answer)
            return
        yield ApplyPage(answer.body, server_time(answer), cursor)
        cycle.report.pages += 1
        if not answer.body["more"]:
            break
        if answer.body["cursor"] == cursor:
            # A page that says "more" but does not move would be read for ever.
            cycle.stop("NOT_THE_SERVICE", "the change feed does not move")
            return
    if cycle.epoch != cycle.seen_epoch:
        yield from heed_epoch(cycle)
    # Requests offered again because of a new epoch are sent by the next round.
    cycle.report.done += yield Reconcile()


def run_refresh(cycle: Cycle) -> Steps:
    """Bring the catalogue up to date, and nothing else."""
    yield from pull_templates(cycle)
    if not cycle.stopped:
        yield from pull_versions(cycle)


def run_downloads(cycle: Cycle) -> Steps:
    """Fetch the wanted documents, and nothing else."""
    wanted: list[Wanted] = yield ReadWanted()
    for document in wanted:
        yield from _fetch(cycle, document)
        if cycle.stopped:
            return


def _fits_budget(cycle: Cycle, document: Wanted) -> bool:
    cost = 0 if document.here else document.size - document.received
    return cycle.budget is None or cost <= cycle.budget


def pull_templates(cycle: Cycle) -> Steps:
    """Fetch the whole catalogue; afterwards the change feed keeps it up to date."""
    items: list[dict[str, Any]] = []
    known: str | None = yield ReadListTag()
    query = "limit=100"
    while True:
        answer = yield from exchange(cycle, Get(f"/v1/document-templates?{query}", None if items else known))
        judged = judge(answer, cycle.clock())
        if answer.kind == "answer" and answer.status == 304 and known and not items:
            yield TouchTemplates(answer.headers.get("cache-control", ""))
            return
        listed = (
            answer.body.get("items") if judged.verdict is Verdict.ACCEPTED and isinstance(answer.body, dict) else None
        )
        if not isinstance(listed, list):
            stop_for(cycle, judged, answer)
            return
        # The tag of a first page says nothing about the pages after it.
        etag = answer.headers.get("etag") if not items and not answer.body.get("nextCursor") else None
        items += listed
        if not answer.body.get("nextCursor"):
            break
        query = f"limit=100&cursor={quote(str(answer.body['nextCursor']), safe='')}"
    yield SaveTemplates(items, etag, answer.headers.get("cache-control", ""))


def pull_versions(cycle: Cycle) -> Steps:
    missing: list[tuple[str, str]] = yield ReadMissingVersions()
    for template_id, version_id in missing:
        answer = yield from exchange(cycle, Get(f"/v1/document-templates/{template_id}/versions/{version_id}"))
        judged = judge(answer, cycle.clock())
        if judged.verdict is Verdict.REFUSED:
            # One template that this user may not read must not keep the others away.
            continue
        if judged.verdict is not Verdict.ACCEPTED or not _is_version(answer.body, version_id):
            stop_for(cycle, judged, answer)
            return
        yield SaveVersion(template_id, answer.body, answer.headers.get("etag"))


def _is_version(body: Any, version_id: str) -> bool:
    return isinstance(body, dict) and body.get("id") == version_id and isinstance(body.get("definition"), dict)


def download(cycle: Cycle) -> Steps:
    wanted: list[Wanted] = yield ReadWanted()
    for document in wanted:
        yield from _fetch(cycle, document)
        if cycle.stopped:
            return
    cycle.report.done += yield Reconcile()


def fetch_beforehand(cycle: Cycle) -> Steps:
    """Fetch what the policy wants here before anybody asks, last of all: what people add meanwhile goes first."""
    planned: list[Wanted] = yield ReadBeforehand()
    for document in planned:
        if (yield CountDue(tuple(cycle.tried))):
            return
        yield from _fetch(cycle, document, beforehand=True)
        if cycle.stopped:
            return


def _fetch(cycle: Cycle, document: Wanted, *, beforehand: bool = False) -> Steps:
    """Fetch or confirm one document, resuming what is cut; the signed URL is asked for just before its use.

    ``beforehand``: nobody asked for it, so that any refusal of it is its end here and no reason to stop.
    """
    document_id = document.document_id
    url: str | None = None
    for _ in range(RESUMES):
        if not _fits_budget(cycle, document):
            # Bytes that came and were worth nothing are spent all the same.
            return
        if url is None:
            path = f"/v1/documents/{quote(document_id, safe='')}/download-url"
            answer = yield from exchange(cycle, Post(path, b"{}"))
            judged = judge(answer, cycle.clock())
            if judged.verdict is Verdict.REFUSED and (beforehand or answer.status in (404, 409, 410)):
                yield FailDelivery(document_id, judged.code, judged.told, judged.code == WITHDRAWN)
                return
            body = answer.body if judged.verdict is Verdict.ACCEPTED and isinstance(answer.body, dict) else {}
            if not isinstance(body.get("url"), str):
                stop_for(cycle, judged, answer)
                return
            url = body["url"]
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
        if transfer.kind != "cut":
            # A resumption follows within seconds, for which the same URL is good; another try begins with a fresh one.
            url = None
        document = _without_bytes(document, transfer)
    cycle.report.errors.append("DOWNLOAD_FAILED")


def _without_bytes(document: Wanted, transfer: Transfer) -> Wanted:
    """Return the document as it is to be asked for next; the driver reads afresh how much has arrived."""
    received = document.received + transfer.received if transfer.kind == "cut" else 0
    return Wanted(document.document_id, document.size, document.sha256, False, received)


def _refused_bytes(cycle: Cycle, document_id: str, answer: Answer) -> Steps:
    judged = judge(answer, cycle.clock())
    if judged.verdict is Verdict.REFUSED and answer.status in (404, 410):
        yield FailDelivery(document_id, judged.code, judged.told, judged.code == WITHDRAWN)
    elif judged.verdict is Verdict.REFUSED:
        cycle.report.errors.append(judged.code)
    else:
        stop_for(cycle, judged, answer)
