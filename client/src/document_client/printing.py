"""Print a document from memory by the system's spooler, and say honestly what became of it.

The spooler is CUPS, spoken to by IPP over its domain socket or its port (``ipp``); where it wants encryption or a
password, the system's ``lp`` carries the bytes through its standard input instead. No file is written here.

    Create-Job ──refused──────────────────────────────────────────────► failed
        │ job id known before the first byte of the document is sent
    Send-Document ──refused, or cut and nothing arrived (cancelled)───► failed
        │           cut and the spooler is gone──────────────────────► unknown
    Get-Job-Attributes until the time is over
        ├── completed ───────────────────────────────────────────────► completed
        ├── cancelled, aborted ──────────────────────────────────────► failed
        ├── waiting, held, printing, stopped at the time-out ────────► submitted
        └── not answered, or forgotten by the spooler ───────────────► unknown

The caller writes its audit event before it calls ``print_document`` (contract §4). A virtual printer makes a file,
so the caller records printing to one as an export. Texts here hold printer names and CUPS' own keywords, never
anything of the document.
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from document_client import ipp
from document_client.ipp import IppError, Spooler, SpoolerRefused
from document_client.printers import (
    CALL_SECONDS,
    Printer,
    SpoolerReport,
    choose_printer,
    find_spooler,
    printers,
    run_command,
    spooler_report,
)

__all__ = [
    "PrintOutcome",
    "Printer",
    "SpoolerReport",
    "choose_printer",
    "job_title",
    "print_document",
    "printers",
    "spooler_report",
]

PrintState = Literal["submitted", "completed", "failed", "unknown"]

# Looked at quickly at first, since a one-page job is through in about 0.3 s, then once a second.
_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 1.0
# The most that CUPS offers as copies-supported.
_MOST_COPIES: Final = 9999

# A number or an id: one word with a digit in it. A patient's name with its space cannot pass.
_PLAIN_TITLE: Final = re.compile(r"(?=.*\d)[A-Za-z0-9._:-]{1,64}")
_NEUTRAL_TITLE: Final = "document"

# RFC 8011 appendix B: what a refusal means for the person who prints.
_REFUSALS: Final = {
    0x0401: "this user may not print here; choose another printer",
    0x0402: "it wants a password; choose another printer",
    0x0403: "this user may not print here; choose another printer",
    0x0406: "the printer is not there any more; choose another one",
    0x0506: "the printer takes no jobs now; choose another one, or let it accept jobs again",
    0x0507: "the spooler is busy; try again later",
}

# RFC 8011 section 5.3.7: job-state.
_COMPLETED: Final = 9
_ENDED_BADLY: Final = {7: "cancelled", 8: "aborted by the spooler"}
_WAITING: Final = {3: "waiting", 4: "held", 5: "printing", 6: "stopped"}


@dataclass(frozen=True, slots=True)
class PrintOutcome:
    """What became of one print; ``detail`` is a sentence for a person and for the audit event.

    ``kept_by_spooler`` says whether the spooler still holds the document after printing (None: not known).
    """

    state: PrintState
    printer: str
    job_id: int | None
    detail: str
    kept_by_spooler: bool | None = None


def print_document(pdf: bytes, *, title: str, printer: str | None, copies: int, timeout_seconds: float) -> PrintOutcome:
    """Hand ``pdf`` to the spooler from memory and follow the job for at most ``timeout_seconds``.

    ``title`` is shown in print queues and logs: give a document number or id. Anything that could be a name (not
    one word with a digit in it) is replaced by "document".

    Raises:
        PrinterUnavailable: no spooler or no such printer; nothing was handed over.
        ValueError: ``copies`` below 1 or above 9999.
    """
    if not 1 <= copies <= _MOST_COPIES:
        raise ValueError(f"copies must be 1 to {_MOST_COPIES}")
    deadline = time.monotonic() + timeout_seconds
    chosen = choose_printer(printer)
    shown_title = job_title(title)
    spooler = find_spooler()
    try:
        job = _create_job(spooler, chosen.name, shown_title, copies)
    except SpoolerRefused:
        return _print_by_lp(pdf, chosen.name, shown_title, copies, timeout_seconds)
    except IppError as error:
        return PrintOutcome("failed", chosen.name, None, f"No job was created: {error}.")
    if isinstance(job, str):
        return PrintOutcome("failed", chosen.name, None, job)
    not_sent = _send_document(spooler, chosen.name, job, shown_title, pdf)
    if not_sent is not None:
        return not_sent
    return _follow(spooler, chosen.name, job, deadline)


def job_title(title: str) -> str:
    """Return ``title`` if it is a number or an id, else the word "document": queues and logs show titles."""
    return title if _PLAIN_TITLE.fullmatch(title) else _NEUTRAL_TITLE


def _for_job(printer: str, job: int, *more: tuple[int, str, ipp.Value]) -> tuple[tuple[int, str, ipp.Value], ...]:
    return (
        (ipp.URI, "printer-uri", _printer_uri(printer)),
        (ipp.INTEGER, "job-id", job),
        (ipp.NAME, "requesting-user-name", ipp.user_name()),
        *more,
    )


def _path(printer: str) -> str:
    # CUPS looks classes up under /printers too, so one path serves both.
    return f"/printers/{quote(printer, safe='')}"


def _printer_uri(printer: str) -> str:
    return f"ipp://localhost{_path(printer)}"


def _create_job(spooler: Spooler, printer: str, title: str, copies: int) -> int | str:
    """Create an empty job: its id, or the sentence of the refusal."""
    answer = spooler.call(
        _path(printer),
        ipp.Request(
            ipp.CREATE_JOB,
            (
                (ipp.URI, "printer-uri", _printer_uri(printer)),
                (ipp.NAME, "requesting-user-name", ipp.user_name()),
                (ipp.NAME, "job-name", title),
            ),
            ((ipp.INTEGER, "copies", copies),),
        ),
        timeout=CALL_SECONDS,
    )
    jobs = answer.of(ipp.JOB_GROUP)
    job = jobs[0].get("job-id", [None])[0] if jobs else None
    if not answer.ok or not isinstance(job, int):
        why = _REFUSALS.get(answer.status, f"status 0x{answer.status:04x}")
        return f"The spooler refused the job: {why}."
    return job


def _send_document(spooler: Spooler, printer: str, job: int, title: str, pdf: bytes) -> PrintOutcome | None:
    """Send the bytes into the job; None when the spooler has them, else the outcome (the job is cancelled)."""
    request = ipp.Request(
        ipp.SEND_DOCUMENT,
        _for_job(
            printer,
            job,
            (ipp.NAME, "document-name", title),
            (ipp.MIME_TYPE, "document-format", "application/pdf"),
            (ipp.BOOLEAN, "last-document", True),
        ),
    )
    path = _path(printer)
    try:
        answer = spooler.call(path, request, document=pdf, timeout=CALL_SECONDS)
        if answer.ok:
            return None
        why = f"The spooler refused the document (status 0x{answer.status:04x})"
    except IppError:
        # The answer was lost, not necessarily the document: the spooler knows.
        attributes = _job_attributes(spooler, printer, job)
        if attributes is None:
            return PrintOutcome("unknown", printer, job, "The connection to the spooler was lost while sending.")
        if "number-of-documents" not in attributes:
            # It may have printed the job and forgotten it since.
            gone = "The connection to the spooler was lost while sending, and it does not know the job any more."
            return PrintOutcome("unknown", printer, job, gone)
        if attributes["number-of-documents"][0]:
            return None
        why = "The connection to the spooler was lost while sending"
    try:
        spooler.call(path, ipp.Request(ipp.CANCEL_JOB, _for_job(printer, job)), timeout=CALL_SECONDS)
    except IppError:
        # An empty job prints nothing; CUPS itself drops it after MultipleOperationTimeout (15 min).
        return PrintOutcome("failed", printer, job, f"{why}; nothing was printed.")
    return PrintOutcome("failed", printer, job, f"{why}; nothing was printed and the job was cancelled.")


def _job_attributes(spooler: Spooler, printer: str, job: int) -> ipp.Attributes | None:
    """What the spooler knows of the job: None without an answer, empty when it has forgotten it."""
    wanted = ("job-state", "job-state-reasons", "number-of-documents", "job-preserved")
    request = ipp.Request(
        ipp.GET_JOB_ATTRIBUTES,
        _for_job(printer, job, *((ipp.KEYWORD, "requested-attributes", name) for name in wanted)),
    )
    try:
        answer = spooler.call(_path(printer), request, timeout=CALL_SECONDS)
    except IppError:
        return None
    groups = answer.of(ipp.JOB_GROUP)
    return groups[0] if answer.ok and groups else {}


def _follow(spooler: Spooler, printer: str, job: int, deadline: float) -> PrintOutcome:
    """Look at the job until it has ended or ``deadline`` (monotonic seconds) has passed; at least once."""
    wait = _FIRST_WAIT_SECONDS
    while True:
        attributes = _job_attributes(spooler, printer, job)
        ended = _ended(attributes, printer, job)
        if ended is not None:
            return ended
        if time.monotonic() + wait > deadline:
            break
        time.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
    if attributes is None:
        return PrintOutcome("unknown", printer, job, "The spooler took the document and answers no more.")
    state = _WAITING.get(_state_number(attributes), "in the queue")
    detail = f"The spooler has the document; the job is {state}{_reasons(attributes)}."
    return PrintOutcome("submitted", printer, job, detail, kept_by_spooler=True)


def _state_number(attributes: ipp.Attributes) -> int:
    state = attributes.get("job-state", [None])[0]
    return state if isinstance(state, int) else 0


def _ended(attributes: ipp.Attributes | None, printer: str, job: int) -> PrintOutcome | None:
    if attributes is None:
        return None
    if not attributes:
        # A spooler with `PreserveJobHistory No` forgets every ended job, printed or cancelled.
        detail = "The spooler took the document and has forgotten the job, so its end is not known."
        return PrintOutcome("unknown", printer, job, detail, kept_by_spooler=False)
    state = _state_number(attributes)
    kept = attributes.get("job-preserved", [None])[0]
    kept_by_spooler = kept if isinstance(kept, bool) else None
    if state == _COMPLETED:
        more = " The spooler still keeps the file." if kept_by_spooler else ""
        return PrintOutcome("completed", printer, job, f"Printed.{more}", kept_by_spooler)
    if state in _ENDED_BADLY:
        detail = f"The job was {_ENDED_BADLY[state]}{_reasons(attributes)}."
        return PrintOutcome("failed", printer, job, detail, kept_by_spooler)
    return None


def _reasons(attributes: ipp.Attributes) -> str:
    """The spooler's own keywords for a state, such as ``job-stopped``; free text of filters is left out."""
    words = [str(word) for word in attributes.get("job-state-reasons", []) if word not in (None, "none")]
    return f" ({', '.join(words)})" if words else ""


def _print_by_lp(pdf: bytes, printer: str, title: str, copies: int, timeout_seconds: float) -> PrintOutcome:
    """Print by ``lp`` from its standard input; the job is not followed, so the best outcome is "submitted"."""
    command = ["lp", "-d", printer, "-n", str(copies), "-t", title, "-"]
    try:
        done = run_command(command, max(timeout_seconds, CALL_SECONDS), pdf)
    except subprocess.TimeoutExpired:
        return PrintOutcome("unknown", printer, None, "`lp` did not come back in time.")
    job = re.search(rb"request id is \S+-(\d+) ", done.stdout)
    if done.returncode != 0:
        return PrintOutcome("failed", printer, None, f"`lp` refused the document (exit {done.returncode}).")
    return PrintOutcome("submitted", printer, int(job[1]) if job else None, "The spooler has the document.")
