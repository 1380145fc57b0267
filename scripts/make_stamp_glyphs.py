"""Write client/src/document_client/stamp_glyphs.json: the outlines of what may be stamped on a printed copy.

The client has no font library and no shaping engine: the few characters of a stamp, and its words in Dari and Pashto,
are shaped here by HarfBuzz and kept as outlines in PDF path operators. Run it when a word changes; the file is
committed. Noto Sans and Amiri are under the SIL Open Font License, which lets outlines be embedded in documents.

    .venv/bin/python scripts/make_stamp_glyphs.py
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import uharfbuzz as hb
from fontTools.pens.basePen import BasePen
from fontTools.pens.transformPen import TransformPen
from fontTools.ttLib import TTFont

TARGET = Path(__file__).parents[1] / "client" / "src" / "document_client" / "stamp_glyphs.json"
CHARACTERS = " ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-:.,/"
# "Printed without a connection, a copy of a stored document": translations that no native speaker has reviewed yet.
WORDS = {"fa-AF": "چاپ آفلاین از نسخهٔ ذخیره‌شده", "ps-AF": "آفلاین چاپ د خوندي شوې نسخې څخه"}
# All outlines are scaled to this many units for one em.
EM = 1000


class _PdfPen(BasePen):  # type: ignore[misc]
    """Collects an outline as PDF path operators; BasePen turns quadratic curves into cubic ones."""

    def __init__(self, glyphs: Any) -> None:
        super().__init__(glyphs)
        self.parts: list[str] = []

    def _moveTo(self, point: tuple[float, float]) -> None:
        self.parts.append(f"{point[0]:.0f} {point[1]:.0f} m")

    def _lineTo(self, point: tuple[float, float]) -> None:
        self.parts.append(f"{point[0]:.0f} {point[1]:.0f} l")

    def _curveToOne(self, *points: tuple[float, float]) -> None:
        self.parts.append(" ".join(f"{x:.0f} {y:.0f}" for x, y in points) + " c")

    def _closePath(self) -> None:
        self.parts.append("h")


def outline(path: Path, text: str, direction: str) -> dict[str, Any]:
    """Shape ``text`` and return its advance and its outline, both in thousandths of an em."""
    font = TTFont(path)
    scale = EM / font["head"].unitsPerEm
    glyphs, order = font.getGlyphSet(), font.getGlyphOrder()
    buffer = hb.Buffer()
    buffer.add_str(text)
    buffer.direction = direction
    buffer.guess_segment_properties()
    hb.shape(hb.Font(hb.Face(hb.Blob.from_file_path(str(path)))), buffer)
    pen = _PdfPen(glyphs)
    at = 0.0
    for info, place in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
        if info.codepoint == 0:
            raise ValueError(f"the font lacks a glyph of {text!r}")
        moved = TransformPen(pen, (scale, 0, 0, scale, at + place.x_offset * scale, place.y_offset * scale))
        glyphs[order[info.codepoint]].draw(moved)
        at += place.x_advance * scale
    return {"advance": round(at), "path": " ".join(pen.parts)}


def main() -> None:
    """Write the file."""
    noto = Path(str(files("fontpkg_noto_sans") / "files" / "NotoSans[wdth,wght].ttf"))
    amiri = Path(str(files("fontpkg_amiri") / "files" / "Amiri-Regular.ttf"))
    made = {
        "em": EM,
        "characters": {character: outline(noto, character, "ltr") for character in CHARACTERS},
        "words": {locale: outline(amiri, text, "rtl") for locale, text in WORDS.items()},
    }
    TARGET.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
