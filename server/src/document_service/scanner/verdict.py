"""What a scan says: accepted, quarantined or failed, with one stable code.

A file may break several rules. The verdict carries the gravest, in the order of ``REASONS``: what may harm
comes before what merely cannot be used, so that malware inside a file of the wrong type is quarantined as
malware.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

State = Literal["accepted", "quarantined", "failed"]
Kind = Literal["pdf", "jpeg", "png", "tiff"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a file is not accepted: the upload's state and a title that its sender can act on."""

    state: State
    title: str


REASONS: Final[Mapping[str, Reason]] = MappingProxyType(
    {
        "MALWARE_FOUND": Reason("quarantined", "The file contains malware; do not open it, and tell your IT support."),
        "ACTIVE_CONTENT": Reason(
            "quarantined",
            "The file contains scripts, programs, attached files or links to other files; print it to a new PDF "
            "and upload that.",
        ),
        "POLYGLOT": Reason(
            "quarantined", "The file is also a file of another type; scan the paper again and upload the new file."
        ),
        "FILE_TOO_LARGE": Reason("failed", "The file is larger than 25 MB; scan it with a lower resolution."),
        "FILE_TYPE_MISMATCH": Reason(
            "failed", "Content, name and declared type do not agree; upload a PDF, JPEG, PNG or TIFF as what it is."
        ),
        "FILE_ENCRYPTED": Reason("failed", "The PDF is protected by a password; upload it without protection."),
        "IMAGE_TOO_LARGE": Reason("failed", "The image has too many pixels or pages; scan it with a lower resolution."),
        "FILE_UNREADABLE": Reason("failed", "The file is damaged or empty; scan the paper again."),
        "FILE_TOO_COMPLEX": Reason("failed", "The file could not be examined within the limits; scan the paper again."),
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one scan.

    ``findings`` names every rule that the file broke, for the audit trail and the operator; it holds rule and
    signature names only, never content or file names.
    """

    state: State
    code: str | None
    title: str | None
    kind: Kind | None
    pages: int | None
    findings: tuple[str, ...] = ()


def verdict_of(codes: Iterable[str], kind: Kind | None, pages: int | None, findings: tuple[str, ...] = ()) -> Verdict:
    """Return the verdict for all broken rules; accepted when there are none and the kind is known."""
    broken = set(codes)
    if kind is None and not broken:
        broken.add("FILE_TYPE_MISMATCH")
    for code, reason in REASONS.items():
        if code in broken:
            return Verdict(reason.state, code, reason.title, kind, pages, findings)
    if broken:
        # A rule with a code that nobody listed must not let its file through.
        raise KeyError(f"no reason is listed for {sorted(broken)}")
    return Verdict("accepted", None, None, kind, pages, findings)
