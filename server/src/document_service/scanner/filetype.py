"""What kind of file it is, by its first bytes, its name and what was declared: all three must agree."""

from __future__ import annotations

from typing import Final

from document_service.scanner.verdict import Kind

CONTENT_TYPES: Final[dict[str, Kind]] = {
    "application/pdf": "pdf",
    "image/jpeg": "jpeg",
    "image/png": "png",
    "image/tiff": "tiff",
}
EXTENSIONS: Final[dict[str, Kind]] = {
    ".pdf": "pdf",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
}
# At offset 0 and nowhere else: a file that begins with something else is also a file of another type.
_MAGIC: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"%PDF-", "pdf"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)


def kind_by_content(data: bytes) -> Kind | None:
    """The kind that the first bytes show, None for any other."""
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def kind_by_declaration(content_type: str, file_name: str) -> Kind | None:
    """The kind on which declared type and file name agree, None when they differ or are not accepted.

    ``content_type`` may carry parameters; only the name's last extension counts, in any case.
    """
    declared = CONTENT_TYPES.get(content_type.partition(";")[0].strip().lower())
    name = file_name.strip().lower()
    extension = name[name.rfind(".") :] if "." in name else ""
    return declared if declared is not None and EXTENSIONS.get(extension) == declared else None
