"""Stamp a copy that is about to be printed: "printed offline, copy n, as of …" (contract §3 and §4).

The stored bytes are never changed: the stamp is put on the copy in memory, at the head of every page, and the audit
event carries the original's hash. Its letters are outlines (``stamp_glyphs.json``), so that no printer and no viewer
needs a font for them, in Dari and Pashto neither; it is marked as an artifact, which is not part of the text.

What counts stands in one line of Latin letters and digits; under a locale written from right to left its words follow
in that script without any number, so that nothing can be reordered.
"""

from __future__ import annotations

import io
import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from .errors import StampFailed

# In PDF points of 1/72 inch: legible on paper, and inside the 18 mm that the forms leave free at the head.
_SIZE = 7.0
_FROM_TOP = 16.0
_FROM_SIDE = 28.0
_PADDING = 2.5


def stamp_text(copy: int, as_of: str | None) -> str:
    """Return the line for copy number ``copy`` with data as of the RFC 3339 instant ``as_of``."""
    # Down to the minute, and with its zone: the page itself has the exact instant.
    when = f", AS OF {as_of[:16].replace('T', ' ')} UTC" if as_of else ""
    return f"PRINTED OFFLINE, COPY {copy}{when}"


def stamp(pdf: bytes, *, copy: int, as_of: str | None, locale: str | None = None) -> bytes:
    """Return ``pdf`` with the stamp on every page; raises StampFailed when it is no PDF that can be stamped."""
    import pikepdf

    try:
        with pikepdf.open(io.BytesIO(pdf)) as document:
            for page in document.pages:
                drawn = _draw(page, stamp_text(copy, as_of), locale)
                # What the page leaves behind in the graphics state must not move the stamp.
                page.contents_add(b"q\n", prepend=True)
                page.contents_add(b"\nQ\n" + drawn)
            made = io.BytesIO()
            # The same copy has the same bytes, so that a test and a dispute can compare them.
            document.save(made, deterministic_id=True)
            return made.getvalue()
    except (pikepdf.PdfError, ValueError, KeyError) as failure:
        raise StampFailed(type(failure).__name__) from failure


def _draw(page: Any, text: str, locale: str | None) -> bytes:
    """Return the content that draws the stamp at the head of a page as it is looked at, turned or not."""
    left, bottom, right, top = (float(edge) for edge in page.cropbox)
    turn = int(page.obj.get("/Rotate", 0)) % 360
    width, height = (top - bottom, right - left) if turn in (90, 270) else (right - left, top - bottom)
    place = {
        0: (1, 0, 0, 1, left, bottom),
        90: (0, 1, -1, 0, right, bottom),
        180: (-1, 0, 0, -1, right, top),
        270: (0, -1, 1, 0, left, top),
    }.get(turn, (1, 0, 0, 1, left, bottom))
    runs = [_shape(text)]
    words = _glyphs()["words"].get(locale or "")
    if words:
        runs.append((words["advance"], [(0.0, words["path"])]))
    scale = _SIZE / _glyphs()["em"]
    long = max(advance for advance, _ in runs) * scale
    # A page narrower than the stamp gets a smaller one, never one that runs off the paper.
    shrink = min(1.0, (width - 2 * _PADDING) / (long + 2 * _PADDING))
    scale, size, long = scale * shrink, _SIZE * shrink, long * shrink
    x = max(_PADDING, width - _FROM_SIDE - long)
    y = height - _FROM_TOP
    box_height = size * (1.4 * len(runs)) + _PADDING
    out = [
        "/Artifact BMC q",
        " ".join(f"{number:.3f}" for number in place) + " cm",
        # White behind it, so that it can be read on whatever the page has there.
        f"1 g {x - _PADDING:.2f} {y + size - box_height:.2f} {long + 2 * _PADDING:.2f} {box_height:.2f} re f 0 g",
    ]
    for line, (_, pieces) in enumerate(runs):
        for at, path in pieces:
            if path:
                across, up = x + at * scale, y - line * size * 1.4
                out.append(f"q {scale:.6f} 0 0 {scale:.6f} {across:.3f} {up:.3f} cm {path} f Q")
    out.append("Q EMC")
    return "\n".join(out).encode("ascii")


def _shape(text: str) -> tuple[float, list[tuple[float, str]]]:
    """Return a line's advance and its outlines with their places, in glyph units."""
    characters = _glyphs()["characters"]
    at, pieces = 0.0, []
    for character in text:
        glyph = characters[character]
        pieces.append((at, str(glyph["path"])))
        at += float(glyph["advance"])
    return at, pieces


@lru_cache(maxsize=1)
def _glyphs() -> Any:
    return json.loads(files("document_client").joinpath("stamp_glyphs.json").read_bytes())
