"""What a person does with documents on this device, offline: list, read, open, save, print. Each is audited first.

The audit event is durable before the first byte leaves: before a viewer, a file or the spooler has it. A print writes
``print.intent`` for every copy, then ``print.submitted``, ``print.failed`` or ``print.unknown`` (contract §4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from . import audit, cache, recalls, requests
from .account import Account, open_account
from .audit import Happening
from .cache import Entry
from .clock import Reading, to_text
from .errors import (
    CacheLocked,
    ClientError,
    DocumentExpired,
    DocumentNotHere,
    DocumentRevoked,
    DocumentUnknown,
    UsageProblem,
)
from .files import exclusive_if_free, shared, write_private
from .ids import new_id
from .localdb import snapshot, transaction
from .policy import CachePolicy

# A print that has no outcome after this long was cut off: the process that printed it is gone.
OUTCOME_SECONDS = 600.0
# Nobody prints more copies of one form at once on purpose.
MOST_COPIES = 99

# Named here because ``Documents.list`` hides the built-in name inside the class.
_Shown = list[dict[str, Any]]
_Numbers = list[int]
_Parts = list[tuple[Callable[[], bytes], list[int]]]
# What the trail says for each state of a print job.
_OUTCOMES = {"submitted": "submitted", "completed": "submitted", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A document's bytes with what the device knows about it."""

    document: dict[str, Any]
    content: bytes


@dataclass(frozen=True, slots=True)
class Printed:
    """What became of a print: submitted, completed, failed or unknown; and the numbers of the copies.

    ``superseded_by``: the document that replaces the printed one, where the service has said so; ``server_lost``: the
    service was restored from a backup and does not know the document any more.
    """

    state: str
    printer: str
    job_id: str | None
    detail: str
    copies: list[int]
    superseded_by: str | None = None
    server_lost: bool = False


def count_only_copies(conn: Any) -> int:
    """Return how many documents can be read here that the restored service does not know: nobody has them but we."""
    lost = "SELECT count(*) FROM documents d WHERE d.server_lost AND EXISTS"
    return int(conn.execute(f"{lost} (SELECT 1 FROM blobs b WHERE b.document_id = d.document_id)").get)


class Documents:
    """The cached documents of the signed-in user. Reached as ``DocumentClient.documents``."""

    def __init__(self, account: Callable[[], Account]) -> None:
        """Bind to a function that returns the opened account."""
        self._account = account

    def list(self) -> _Shown:
        """Return every document that is, was or should be here: its metadata with fetchedAt, expiresAt and state.

        Last come those whose copy was here until they were *withdrawn*: id, number, category, why (``status``) and what
        replaces them are all that is left.
        """
        account = self._account()
        with account.watched():
            reading, policy = account.terms()
            locked = account.is_locked(reading, policy)
            entries = [_shown(e, policy, reading, locked=locked) for e in cache.read_entries(account.cache)]
            return entries + [_withdrawn(known) for known in recalls.read_all(account.cache)]

    def show(self, document_id: str) -> dict[str, Any]:
        """Return one document's metadata by id or number; raises DocumentUnknown or DocumentRevoked."""
        account = self._account()
        with account.watched():
            reading, policy = account.terms()
            entry = _find(account, document_id)
            return _shown(entry, policy, reading, locked=account.is_locked(reading, policy))

    def read(self, document_id: str, *, action: str = "document.opened") -> Opened:
        """Return a document's verified bytes after writing the audit event ``action``.

        Raises DocumentUnknown, DocumentRevoked, DocumentExpired, CacheLocked or DocumentNotHere.
        """
        account = self._account()
        with account.watched():
            opened, reading = _take(account, document_id)
            _write(account, reading, Happening(action, account.session.user, *_named(opened)))
            with transaction(account.cache):
                cache.mark_opened(account.cache, opened.document["id"], reading.now)
        return opened

    def open(self, document_id: str, *, viewer: str | None = None, on_stdin: bool = False) -> dict[str, Any]:
        """Show a document in a viewer that gets the bytes by a one-shot loopback URL or on standard input.

        Raises UsageProblem for ``on_stdin`` without a ``viewer``: only a program that was named reads standard input.
        """
        from .viewing import feed_viewer, show_once

        if on_stdin and not viewer:
            raise UsageProblem("--stdin needs the program to give the bytes to: --viewer COMMAND")
        opened = self.read(document_id)
        if on_stdin and viewer:
            feed_viewer(opened.content, viewer)
        else:
            show_once(opened.content, str(opened.document.get("number") or "document"), viewer)
        return opened.document

    def save(self, document_id: str, path: Path, *, replace: bool = False) -> dict[str, Any]:
        """Write a copy to ``path`` (mode 0600, whole or not at all); raises UsageProblem when the file is there."""
        if path.is_dir():
            raise UsageProblem(f"{path} is a folder; name a file")
        if path.exists() and not replace:
            raise UsageProblem(f"{path} exists; choose another name or --replace")
        if not path.parent.is_dir():
            raise UsageProblem(f"the folder {path.parent} does not exist")
        opened = self.read(document_id, action="document.saved")
        write_private(path, opened.content)
        return opened.document

    def print(
        self, document_id: str, *, printer: str | None = None, copies: int = 1, timeout_seconds: float = 60.0
    ) -> Printed:
        """Print from memory; the intent is durable before the spooler sees a byte. Raises PrinterUnavailable."""
        if not 1 <= copies <= MOST_COPIES:
            raise UsageProblem(f"--copies must be from 1 to {MOST_COPIES}")
        account = self._account()
        with account.watched():
            settle_cut_off_prints(account)
        with shared(_print_lock(account)), _opened_again(account) as own:
            return _print(own, document_id, printer, copies, timeout_seconds)

    def pin(self, document_id: str, *, pinned: bool = True) -> None:
        """Keep a copy when room is needed, or stop keeping it."""
        account = self._account()
        entry = _find(account, document_id)
        with account.watched(), transaction(account.cache):
            account.cache.execute(
                "UPDATE documents SET pinned = ? WHERE document_id = ?", (int(pinned), entry.document_id)
            )


def _opened_again(account: Account) -> closing[Account]:
    """Return the same person's files, opened for one print.

    The client closes its own when it is closed or somebody else signs in, which may be while the spooler works.
    """
    return closing(open_account(account.home, account.vault, account.session, account.time))


def _print(account: Account, document_id: str, printer: str | None, copies: int, timeout_seconds: float) -> Printed:
    """Print, and write each step under ``account``, whoever is signed in by then."""
    from .printing import choose_printer, print_document

    with account.watched():
        opened, reading = _take(account, document_id)
        refusal: ClientError | None = None
        is_export = False
        try:
            chosen = choose_printer(printer)
            printer, is_export = chosen.name, chosen.is_virtual
        except ClientError as failure:
            refusal = failure
        numbers = _intend(account, opened, copies, printer)
        if is_export:
            # A printer that makes a file is a way to carry the document off.
            record(account, Happening("document.exported", account.session.user, *_named(opened), printer=printer))
        with transaction(account.cache):
            cache.mark_opened(account.cache, opened.document["id"], reading.now)
    parts = _print_parts(account, opened, numbers)
    # The spooler's job list is readable by others: the title is the document's number, no name.
    title = str(opened.document.get("number") or opened.document["id"])
    left, taken = [*numbers], 0
    try:
        if refusal is not None:
            raise refusal
        for content, some in parts:
            outcome = print_document(
                content(), title=title, printer=printer, copies=len(some), timeout_seconds=timeout_seconds
            )
            action, taken = _OUTCOMES.get(outcome.state, "unknown"), len(some)
            _write_print(account, f"print.{action}", opened, some, outcome.printer)
            left, taken = left[len(some) :], 0
            if action != "submitted":
                break
    except ClientError:
        # What the spooler took and could not be written down did not fail: it is told as unknown by a later sync.
        _write_print(account, "print.failed", opened, left[taken:], printer)
        raise
    except BaseException:
        _write_print(account, "print.unknown", opened, left, printer)
        raise
    if left:
        # A copy before these failed, so they were never handed over.
        _write_print(account, "print.failed", opened, left, printer)
    replaced_by, lost = opened.document.get("supersededBy"), bool(opened.document.get("serverLost"))
    job_id = None if outcome.job_id is None else str(outcome.job_id)
    return Printed(outcome.state, outcome.printer, job_id, outcome.detail, numbers, replaced_by, lost)


def _print_parts(account: Account, opened: Opened, numbers: _Numbers) -> _Parts:
    """Return what goes to the spooler, and for which copies: all in one job, or one job for each stamped copy."""
    if not account.policy().stamp_prints:
        return [(lambda: opened.content, numbers)]
    from .stamping import stamp

    document = opened.document
    as_of = document.get("dataAsOf") or document.get("fetchedAt")
    locale = requests.read_locale(account.queue, document["id"])
    return [(partial(stamp, opened.content, copy=n, as_of=as_of, locale=locale), [n]) for n in numbers]


def _intend(account: Account, opened: Opened, copies: int, printer: str | None) -> _Numbers:
    """Write ``print.intent`` for the next copies and return their numbers; two prints at once share no number."""
    reading = account.clock()
    with transaction(account.audit):
        first = audit.count_copies(account.audit, opened.document["id"]) + 1
        numbers = [*range(first, first + copies)]
        _append(account, reading, _prints("print.intent", account, opened, numbers, printer))
    return numbers


def _write_print(account: Account, action: str, opened: Opened, copies: _Numbers, printer: str | None) -> None:
    _write(account, account.clock(), *_prints(action, account, opened, copies, printer))


def _take(account: Account, document_id: str) -> tuple[Opened, Reading]:
    """Return the bytes of a document that may be shown now, with what is known about it."""
    reading, policy = account.terms()
    entry, content = _read_copy(account, document_id, reading, policy)
    return Opened(_shown(entry, policy, reading, locked=False), content), reading


def _read_copy(account: Account, document_id: str, reading: Reading, policy: CachePolicy) -> tuple[Entry, bytes]:
    # A sync beside this one may withdraw or replace the document between the look at its state and its bytes.
    with snapshot(account.cache):
        entry = _find(account, document_id)
        state = entry.state(policy, reading.now, locked=account.is_locked(reading, policy))
        content = cache.read_bytes(account.cache, entry.document_id) if state == "available" else None
    if content is not None:
        return entry, content
    if state == "locked":
        raise CacheLocked()
    if state == "too large":
        raise DocumentNotHere(f"it has {entry.size} bytes; the policy lets this device keep {policy.quota}")
    # Also one that has expired: its bytes may have made room, and then only being wanted brings them back.
    with transaction(account.cache):
        cache.want(account.cache, entry.document_id)
    if state == "expired":
        raise DocumentExpired()
    raise DocumentNotHere()


def _prints(action: str, account: Account, opened: Opened, copies: _Numbers, printer: str | None) -> list[Happening]:
    user = account.session.user
    return [Happening(action, user, *_named(opened), copy=n, printer=printer) for n in copies]


def settle_cut_off_prints(account: Account) -> int:
    """Write ``print.unknown`` for copies whose print has no outcome because its process died; returns how many.

    While any print is followed nothing is settled: how long it takes, and what the clock says, prove no death.
    """
    with exclusive_if_free(_print_lock(account)) as nobody_prints:
        return _settle(account) if nobody_prints else 0


def _print_lock(account: Account) -> Path:
    return account.home / "prints.lock"


def _settle(account: Account) -> int:
    from .clock import from_text

    reading = account.clock()
    # Two programs that settle at once must not both write what they found.
    with transaction(account.audit):
        open_prints: dict[tuple[str, int], dict[str, Any]] = {}
        for event in audit.read_prints(account.audit):
            copy = (event["documentId"], event["copy"])
            if event["action"] == "print.intent":
                open_prints[copy] = event
            else:
                open_prints.pop(copy, None)
        cut = [e for e in open_prints.values() if from_text(e["occurredAt"]) < reading.now - OUTCOME_SECONDS]
        _append(account, reading, [_unknown(event) for event in cut])
    return len(cut)


def _unknown(intent: dict[str, Any]) -> Happening:
    named = intent["userId"], intent["documentId"], intent["documentSha256"]
    return Happening("print.unknown", *named, copy=intent["copy"], printer=intent.get("printer"))


def record(account: Account, *happenings: Happening) -> None:
    """Write audit events durably, at the device's time."""
    _write(account, account.clock(), *happenings)


def _write(account: Account, reading: Reading, *happenings: Happening) -> None:
    with transaction(account.audit):
        _append(account, reading, happenings)


def _append(account: Account, reading: Reading, happenings: Sequence[Happening]) -> None:
    for happening in happenings:
        audit.record(account.audit, new_id("evt_"), account.vault.device_id, happening, reading)


def _named(opened: Opened) -> tuple[str, str]:
    return opened.document["id"], opened.document["sha256"]


def _find(account: Account, document_id: str) -> Entry:
    entry = cache.read_entry(account.cache, document_id)
    if entry is not None:
        return entry
    if _is_purged(account, document_id):
        raise DocumentUnknown("the service does not keep it any more: the time for which it is kept has ended")
    if recalls.is_named(account.cache, document_id):
        newer = recalls.read_replacement(account.cache, document_id)
        raise DocumentRevoked(f"It was replaced by {newer}." if newer else None)
    raise DocumentUnknown(f"{document_id} is not known here")


def _is_purged(account: Account, document_id: str) -> bool:
    """Return whether a document ended with its retention, and was not withdrawn from this device before that."""
    ended = cache.read_revocation(account.cache, document_id) == "purged"
    return ended and all(document_id != withdrawn["id"] for withdrawn in recalls.read_all(account.cache))


# A Document (contract §2) as ``list`` shows it, so that a program finds each member whatever the state.
_MEMBERS = (
    "id number kind status category title patientId encounterId facilityId contentType size sha256 originalSha256"
    " pages templateVersionId renderJobId requestedAt renderedAt dataAsOf supersedes supersededBy"
)
# What stays visible of a document while the whole cache is locked: enough to ask for it again.
_LOCKED_FIELDS = ("id", "number", "kind", "status", "category", "contentType", "size", "sha256", "pages")


def _withdrawn(known: dict[str, Any]) -> dict[str, Any]:
    rest = {"size": 0, "fetchedAt": None, "expiresAt": None, "state": "withdrawn", "serverLost": False, "pinned": False}
    return {**dict.fromkeys(_MEMBERS.split()), **known, "patientId": None, **rest}


def _shown(entry: Entry, policy: CachePolicy, reading: Reading, *, locked: bool) -> dict[str, Any]:
    expires = entry.expires_at(policy)
    body = entry.body
    if locked:
        body = {name: value if name in _LOCKED_FIELDS else None for name, value in body.items()}
    return {
        **body,
        "fetchedAt": to_text(entry.fetched_at) if entry.fetched_at is not None else None,
        "expiresAt": to_text(expires) if expires is not None else None,
        "state": entry.state(policy, reading.now, locked=locked),
        "serverLost": entry.server_lost,
        "pinned": entry.pinned,
    }
