"""The structure walk of a PDF: every object is looked at, those in object streams too (OWASP, design §7).

Refused is what acts or carries something else when the document is opened: scripts, launching, forms that
send, attached files, XFA, media, and references to files outside, which make a viewer contact another
machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

import pikepdf

from document_service.scanner.signatures import Signatures

FORBIDDEN_KEYS: Final = frozenset(
    {
        *("/JS", "/JavaScript", "/XFA", "/EmbeddedFiles", "/EF", "/Collection"),
        *("/RichMediaContent", "/RichMediaSettings"),
    }
)
FORBIDDEN_ACTIONS: Final = frozenset(
    {
        *("/JavaScript", "/Launch", "/ImportData", "/SubmitForm", "/GoToR", "/GoToE"),
        *("/Rendition", "/RichMediaExecute", "/Movie", "/Sound"),
    }
)
FORBIDDEN_SUBTYPES: Final = frozenset(
    {"/RichMedia", "/Movie", "/Sound", "/Screen", "/3D", "/FileAttachment", "/EmbeddedFile"}
)
MAX_OBJECTS: Final = 500_000  # A scanned book has 20,000; at 10 µs each this takes 5 s of the 20 s.
MAX_PAGES: Final = 5_000  # 25 MB at 5 KB a page, less than any scan takes.
MAX_ATTACHMENT_BYTES: Final = 100_000_000  # Attachments are refused in any case; this is only to name malware.


@dataclass(slots=True)
class PdfFindings:
    """What the walk found: codes of broken rules, their names, and the number of pages."""

    codes: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    pages: int | None = None


def walk_pdf(data: bytes, signatures: Signatures) -> PdfFindings:
    """Walk the PDF in ``data``. Never raises for what is in the file, except MemoryError and RecursionError."""
    findings = PdfFindings()
    try:
        # Without recovery: every viewer mends a broken file in its own way, so what is found in one reading of it
        # says nothing about another; and a page that got lost would be missed in a record.
        with pikepdf.open(BytesIO(data), suppress_warnings=True, attempt_recovery=False) as pdf:
            if pdf.is_encrypted:
                findings.codes.add("FILE_ENCRYPTED")
            _walk_objects(pdf, findings, signatures)
            findings.pages = len(pdf.pages)
            if not findings.pages:
                findings.codes.add("FILE_UNREADABLE")
            elif findings.pages > MAX_PAGES:
                findings.codes.add("FILE_TOO_COMPLEX")
    except pikepdf.PasswordError:
        findings.codes.add("FILE_ENCRYPTED")
    except (pikepdf.PdfError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        # pikepdf answers a malformed object with several of Python's errors; a file that it cannot read is not
        # readable for the purposes of a record either.
        findings.codes.add("FILE_UNREADABLE")
        findings.names.add(f"pdf:{type(error).__name__}")
    return findings


def _walk_objects(pdf: pikepdf.Pdf, findings: PdfFindings, signatures: Signatures) -> None:
    _look_at_tree(pdf.trailer, findings)
    for count, item in enumerate(pdf.objects):
        if count >= MAX_OBJECTS:
            findings.codes.add("FILE_TOO_COMPLEX")
            return
        _look_at_tree(item, findings)
        if isinstance(item, pikepdf.Stream) and _is_attachment(item):
            _scan_attachment(item, findings, signatures)


def _look_at_tree(root: pikepdf.Object, findings: PdfFindings) -> None:
    """Look at an object and all direct ones in it; indirect ones have their own turn."""
    pending = [root]
    while pending:
        item = pending.pop()
        if isinstance(item, (pikepdf.Dictionary, pikepdf.Stream)):
            _look_at_dictionary(item, findings)
            entries = item.stream_dict if isinstance(item, pikepdf.Stream) else item
            pending.extend(_direct(value for _, value in entries.items()))
        elif isinstance(item, pikepdf.Array):
            pending.extend(_direct(iter(item)))


def _direct(values: Iterator[object]) -> Iterator[pikepdf.Object]:
    for value in values:
        if isinstance(value, (pikepdf.Dictionary, pikepdf.Array)) and not value.is_indirect:
            yield value


def _look_at_dictionary(item: pikepdf.Object, findings: PdfFindings) -> None:
    keys = set(item.keys())
    found = keys & FORBIDDEN_KEYS
    for key, forbidden in (("/S", FORBIDDEN_ACTIONS), ("/Subtype", FORBIDDEN_SUBTYPES)):
        if key in keys and isinstance(item[key], pikepdf.Name) and str(item[key]) in forbidden:
            found.add(str(item[key]))
    if isinstance(item, pikepdf.Stream):
        if _is_attachment(item):
            found.add("/EmbeddedFile")
        if keys & {"/F", "/FFilter"}:
            # The stream's bytes lie in a file outside; a viewer that obeys would fetch it.
            found.add("/F")
    if found:
        findings.codes.add("ACTIVE_CONTENT")
        findings.names.update(f"pdf:{name}" for name in found)


def _is_attachment(stream: pikepdf.Stream) -> bool:
    return str(stream.get("/Type", "")) == "/EmbeddedFile"


def _scan_attachment(stream: pikepdf.Stream, findings: PdfFindings, signatures: Signatures) -> None:
    """Name known malware in an attachment, which a compressed stream hides from the rules on raw bytes."""
    try:
        content = stream.read_bytes()
    except (pikepdf.PdfError, ValueError, RuntimeError):
        return
    for match in signatures.scan(content[:MAX_ATTACHMENT_BYTES], "attachment"):
        if match.code == "MALWARE_FOUND":
            findings.codes.add(match.code)
            findings.names.add(f"yara:{match.rule}")
