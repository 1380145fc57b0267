"""What only works while connected: generating a document now, and uploading a scan. Offline both are refused at once.

Nothing is queued or kept on the device when they fail: a scan must pass the malware scanner of the service, and a
document to be read now must be made from live data.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import cache
from .account import Account
from .answers import Answer
from .cycle import Cycle, Report
from .documents import Documents
from .driver import Driver, Observer, Progress
from .errors import (
    DeviceRevoked,
    FileUnreadable,
    NotNow,
    NotTheService,
    OnlineOnly,
    ServerRefused,
    TlsFailed,
    TokenRefused,
    UsageProblem,
)
from .http import Connection
from .ids import new_mutation_id
from .inputs import check_reference, to_bytes
from .localdb import transaction
from .purging import purge_if_stopped
from .queueing import Wish, prepare
from .reactions import Judged, Verdict, judge
from .receiving import run_downloads

# The service answers within 5 s or says 504; after this long the document is left to the next sync.
GENERATE_SECONDS = 60.0
# Small enough to lose little when a link drops, large enough for few round trips.
UPLOAD_PIECE_BYTES = 256 * 1024
# A scan takes seconds; a longer one goes on at the service and shows up with the changes.
SCAN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Prefetched:
    """What ``prefetch`` did: the run's report, and how many current ``documents`` the patients have.

    ``already_here`` of them could be read here before. ``without`` names the patients for whom the service has no
    current document: nobody made one, or the id is wrong; the service cannot tell which.
    """

    report: Report
    documents: int
    already_here: int
    without: list[str]


_MADE_PERHAPS = "it may have been made all the same; sync, and look for it before asking again"


def generate(account: Account, connection: Connection, wish: Wish) -> dict[str, Any]:
    """Render a document now and keep it on the device; returns what ``Documents.show`` returns.

    ``state`` says whether its bytes are here: a link that went away after the service had made the document leaves it
    to the next sync. Raises OnlineOnly, ServerRefused, NotNow, TokenRefused, NotTheService or DocumentRevoked.
    """
    prepared = prepare(account, wish)
    key = new_mutation_id()
    content = to_bytes(prepared.body)
    deadline, lost, begun = time.monotonic() + GENERATE_SECONDS, False, False
    while True:
        answer = _send(connection, "POST", "/v1/documents/generate", content=content, headers={"Idempotency-Key": key})
        if answer.kind == "no_connection":
            if lost:
                raise OnlineOnly(_MADE_PERHAPS)
            # Its answer may be what was lost: the same key asks for the same document.
            lost = begun = True
            continue
        # 504: the job lives on; the same key asks for its document.
        if answer.kind == "answer" and answer.status == 504 and answer.is_json:
            begun = True
            if time.monotonic() < deadline:
                time.sleep(1.0)
                continue
        break
    if begun and judge(answer, 0.0).verdict not in (Verdict.ACCEPTED, Verdict.REFUSED, Verdict.REVOKED):
        # Another command would ask under another key, and be given a second document.
        raise OnlineOnly(_MADE_PERHAPS)
    document = _good(answer)
    if not isinstance(document.get("id"), str):
        raise NotTheService()
    with transaction(account.cache):
        generation = int(account.cache.execute("SELECT generation FROM feed").get)
        cache.save_document(account.cache, document, generation)
        cache.want(account.cache, document["id"])
    driver = Driver(account, connection)
    purge_if_stopped(account, driver.run(Cycle(clock=driver.now, random=lambda: 0.5), run_downloads))
    return Documents(lambda: account).show(document["id"])


def prefetch(
    account: Account,
    connection: Connection,
    patients: Sequence[str],
    *,
    budget: int | None = None,
    observe: Observer | None = None,
) -> Prefetched:
    """Want the current documents of these patients here, and fetch them: own requests first, then the smallest.

    ``budget`` limits the bytes of this call; what it leaves comes with the next syncs. Raises OnlineOnly,
    ServerRefused, ServerBusy, TokenRefused or NotTheService.
    """
    current: dict[str, set[str]] = {}
    already: set[str] = set()
    for patient in patients:
        reference = check_reference(patient, "Patient")
        named = current.setdefault(reference, set())
        for documents in _list_current(connection, reference):
            named |= {str(document["id"]) for document in documents}
            already |= _want(account, documents)
    driver = Driver(account, connection, observe=observe)
    cycle = Cycle(clock=driver.now, random=lambda: 0.5, budget=budget)
    report = purge_if_stopped(account, driver.run(cycle, run_downloads))
    without = [reference for reference, named in current.items() if not named]
    return Prefetched(report, len(set().union(*current.values())), len(already), without)


def _list_current(connection: Connection, reference: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the current documents of a patient, page by page."""
    cursor = ""
    while True:
        route = f"/v1/documents?patientId={quote(reference, safe='')}&limit=100{cursor}"
        page = _good(_send(connection, "GET", route))
        listed = page.get("items")
        if not isinstance(listed, list):
            raise NotTheService()
        yield [document for document in listed if document.get("status") == "current"]
        if not page.get("nextCursor"):
            return
        cursor = f"&cursor={quote(str(page['nextCursor']), safe='')}"


def _want(account: Account, documents: Sequence[dict[str, Any]]) -> set[str]:
    """Keep what is known of documents and want their bytes; returns the ids of those that can be read here already."""
    known = {str(document["id"]) for document in documents}
    here = {d["id"] for d in Documents(lambda: account).list() if d["state"] == "available"} & known
    with transaction(account.cache):
        generation = int(account.cache.execute("SELECT generation FROM feed").get)
        for document in documents:
            cache.save_document(account.cache, document, generation)
            cache.want(account.cache, str(document["id"]))
    return here


def save_draft(connection: Connection, template_id: str, definition: bytes) -> dict[str, Any]:
    """Save the draft definition of a template (JSON bytes); returns the template with ``problems``.

    The draft is only replaced as it was read a moment before. Raises OnlineOnly, UsageProblem or ServerRefused.
    """
    try:
        json.loads(definition)
    except ValueError:
        raise UsageProblem("the definition is not valid JSON") from None
    route = f"/v1/document-templates/{quote(template_id, safe='')}"
    found = _send(connection, "GET", route)
    _good(found)
    headers = {"If-Match": found.headers.get("etag", "")}
    return _good(_send(connection, "PUT", f"{route}/draft", content=definition, headers=headers))


def upload(
    account: Account,
    connection: Connection,
    path: Path,
    *,
    patient: str,
    encounter: str | None = None,
    category: str = "scanned_record",
    title: str | None = None,
    observe: Observer | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Send a scanned file and wait for the scanner's verdict; returns ``{id, status, documentId?, reason?}``."""
    content = read_file(path)
    body: dict[str, Any] = {
        "fileName": path.name,
        "contentType": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "patientId": check_reference(patient, "Patient"),
        "category": category,
        "title": title or path.stem,
    }
    if encounter:
        body["encounterId"] = check_reference(encounter, "Encounter")
    created = _good(_send(connection, "POST", "/v1/documents/uploads", content=to_bytes(body)))
    route = f"/v1/documents/uploads/{quote(str(created.get('id')), safe='')}"
    _send_pieces(connection, route, content, int(created.get("offset") or 0), observe)
    state = _finalize(connection, route)
    deadline = time.monotonic() + SCAN_SECONDS
    while state.get("status") in ("receiving", "scanning") and time.monotonic() < deadline:
        sleep(0.5)
        answer = _send(connection, "GET", route)
        if judge(answer, 0.0).verdict in (Verdict.NO_CONNECTION, Verdict.WAIT, Verdict.SERVER_FAILED):
            # The file is there and is scanned, whether or not somebody hears of it.
            continue
        state = _good(answer)
    return state


def _finalize(connection: Connection, route: str) -> dict[str, Any]:
    """End an upload; a lost answer is asked for again under the same key."""
    key = {"Idempotency-Key": new_mutation_id()}
    answer = _send(connection, "POST", f"{route}/finalize", content=b"{}", headers=key)
    if answer.kind == "no_connection":
        answer = _send(connection, "POST", f"{route}/finalize", content=b"{}", headers=key)
        if answer.kind == "no_connection":
            raise OnlineOnly("the file may have been taken all the same; look for it before sending it again")
    return _good(answer)


def read_file(path: Path) -> bytes:
    """Return a file's content; raises FileUnreadable."""
    try:
        return path.read_bytes()
    except OSError as failure:
        raise FileUnreadable(f"{path}: {failure.strerror}") from failure


def _send_pieces(connection: Connection, route: str, content: bytes, offset: int, observe: Observer | None) -> None:
    """Send the file from ``offset`` on; after a cut, ask how much arrived and go on from there, once for each piece."""
    cut_at = -1
    while offset < len(content):
        piece = content[offset : offset + UPLOAD_PIECE_BYTES]
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        answer = _send(connection, "PATCH", route, content=piece, headers=headers)
        if answer.kind == "answer" and answer.status == 204:
            offset = int(answer.headers.get("upload-offset") or offset + len(piece))
            if observe:
                observe(Progress("upload", "", offset, len(content)))
            continue
        if answer.kind != "no_connection" or cut_at == offset:
            _good(answer)
        cut_at = offset
        head = _send(connection, "HEAD", route)
        if head.kind != "answer" or "upload-offset" not in head.headers:
            raise OnlineOnly("the connection was lost during the upload")
        offset = int(head.headers["upload-offset"])


def _send(connection: Connection, method: str, path: str, **sent: Any) -> Answer:
    """Make one exchange; a token that was refused is renewed once."""
    answer = connection.send(method, path, **sent)
    if judge(answer, 0.0).verdict is Verdict.SIGN_IN and connection.renew():
        answer = connection.send(method, path, **sent)
    return answer


def _good(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of a good answer, or raise the error that fits a command which needs the service now."""
    judged = judge(answer, 0.0)
    if judged.verdict is Verdict.ACCEPTED and isinstance(answer.body, dict):
        return answer.body
    raise _error_for(judged, answer)


def _error_for(judged: Judged, answer: Answer) -> Exception:
    if judged.verdict is Verdict.NO_CONNECTION:
        return OnlineOnly()
    if judged.verdict is Verdict.TLS:
        return TlsFailed(answer.detail)
    if judged.verdict is Verdict.SIGN_IN:
        return TokenRefused(judged.told, reason=judged.code)
    if judged.verdict is Verdict.WAIT:
        return NotNow(judged.told or None, reason=judged.code)
    if judged.verdict is Verdict.REVOKED:
        return DeviceRevoked(judged.told, reason=judged.code)
    if judged.verdict in (Verdict.REFUSED, Verdict.SERVER_FAILED):
        return ServerRefused(judged.told, reason=judged.code)
    return NotTheService()
