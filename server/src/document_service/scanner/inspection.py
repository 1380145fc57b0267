"""Everything that can be said about a file without clamd; runs in the child process, on bytes that may be
hostile.
"""

from __future__ import annotations

from typing import Final, cast

import yara_x

from document_service.scanner.filetype import kind_by_content, kind_by_declaration
from document_service.scanner.image_pdf import image_to_pdf
from document_service.scanner.images import ImageTooLarge, ImageUnreadable, count_pages
from document_service.scanner.signatures import Signatures
from document_service.scanner.structure import walk_pdf
from document_service.scanner.verdict import Kind, Verdict, verdict_of

# The smallest file that shows that rules, PDF and image parts all work, made at start before any right is given up.
_ONE_PIXEL: Final = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU"
    b"\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
)


def inspect(data: bytes, content_type: str, file_name: str, signatures: Signatures) -> Verdict:
    """Return the verdict of type, rules and structure; never raises for what is in the file, MemoryError
    apart.
    """
    kind = kind_by_content(data)
    codes: set[str] = set()
    findings: list[str] = []
    if not data:
        codes.add("FILE_UNREADABLE")
    elif kind is None or kind != kind_by_declaration(content_type, file_name):
        codes.add("FILE_TYPE_MISMATCH")
    try:
        for match in signatures.scan(data, kind or ""):
            codes.add(match.code)
            findings.append(f"yara:{match.rule}")
    except (yara_x.TimeoutError, yara_x.ScanError):
        codes.add("FILE_TOO_COMPLEX")
    pages: int | None = None
    if kind == "pdf":
        walked = walk_pdf(data, signatures)
        codes |= walked.codes
        findings += sorted(walked.names)
        pages = walked.pages
    elif kind is not None:
        try:
            pages = count_pages(data, kind)
        except ImageTooLarge:
            codes.add("IMAGE_TOO_LARGE")
        except ImageUnreadable as error:
            codes.add("FILE_UNREADABLE")
            findings.append(f"image:{error}")
    return verdict_of(codes, kind, pages, tuple(findings))


def prove_ready(signatures: Signatures) -> None:
    """Run every part once, so that nothing is imported later and a scanner that finds nothing is noticed.

    Raises RuntimeError when a part does not do what it must.
    """
    test_file = b"X5O!P%@AP[4" + b"\\PZX54(P^)7CC)7}" + b"$EICAR"
    if inspect(test_file, "application/pdf", "a.pdf", signatures).code != "MALWARE_FOUND":
        raise RuntimeError("the rules do not find the test signature")
    pdf, pages = image_to_pdf(_ONE_PIXEL, "png")
    verdict = inspect(pdf, "application/pdf", "a.pdf", signatures)
    if pages != 1 or verdict.state != "accepted":
        raise RuntimeError(f"a page of our own making is not accepted: {verdict.code} {verdict.findings}")
    if inspect(_ONE_PIXEL, "image/png", "a.png", signatures).state != "accepted":
        raise RuntimeError("a picture of one pixel is not accepted")


def convert(data: bytes) -> tuple[bytes, int]:
    """Make the PDF of an image whose kind its bytes tell. Raises ImageUnreadable, ImageTooLarge."""
    kind = kind_by_content(data)
    if kind is None or kind == "pdf":
        raise ImageUnreadable("not an image")
    return image_to_pdf(data, cast(Kind, kind))
