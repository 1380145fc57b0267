"""Widths of columns and heights of rows, worked out before the engine sees them.

Typst lays every cell of a row of unknown height out twice, shaping its text again, and of an ``auto`` column three
times; on a one-page form that is a third of the whole render. Most cells hold one line, and that can be known from
the advance widths of their characters. Where an upper bound says that everything in a row fits on one line, the row
gets the height of a line; where it does not, or where nothing can be said, the engine decides as before.
The bound errs on the wide side only, so a row of fixed height never holds text that needs a second line.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fontTools.ttLib import TTFont

from document_service.typesetting.fonts import STEERING, font_paths

MM = 72 / 25.4

# Width and height in points (ISO 216, ANSI); the names are those of definitions, in small letters.
PAPER = {
    "a4": (210 * MM, 297 * MM),
    "a5": (148 * MM, 210 * MM),
    "a6": (105 * MM, 148 * MM),
    "letter": (612.0, 792.0),
}

# Semibold Noto Sans and bold Amiri are up to a tenth wider than their regular cuts.
STRONG = 1.12

# Ligatures, marks and joined forms keep within this of the summed advances (asserted by tests on real text).
MARGIN = 1.04

# A character that no table knows is refused before; the widest that is drawn is under two em.
WIDEST = 2.0

# An auto column that asks for more than this share of the table is left to the engine, which can wrap it.
AUTO_SHARE = 0.45


class Advances(dict[str, float]):
    """The upper bound of the width of each character, in em of the font that draws it."""

    def __missing__(self, character: str) -> float:
        self[character] = 0.0 if character in STEERING else WIDEST
        return self[character]

    def width(self, text: str) -> float:
        """The width of a line of ``text`` in em, at most."""
        return sum(map(self.__getitem__, text)) * MARGIN


def load_advances() -> dict[str, Advances]:
    """Read the fonts' tables: one set of advances for ``ltr``, where Noto Sans comes first, one for ``rtl``."""
    noto, amiri, amiri_bold, open_sans = (_font_advances(TTFont(path, lazy=True)) for path in font_paths())
    arabic = {c: max(w, amiri_bold.get(c, 0.0) / STRONG) for c, w in amiri.items()}
    steering = dict.fromkeys(STEERING, 0.0)
    return {
        "ltr": Advances(open_sans | arabic | noto | steering),
        "rtl": Advances(open_sans | noto | arabic | steering),
    }


def _font_advances(font: TTFont) -> dict[str, float]:
    """Each character's advance in em: the widest of its glyph and of the forms it takes inside a word."""
    advances = {name: advance for name, (advance, _) in font["hmtx"].metrics.items()}
    forms: dict[str, set[str]] = {}
    table = font["GSUB"].table
    wanted = {"init", "medi", "fina", "isol", "rlig", "calt"}
    lookups = {i for f in table.FeatureList.FeatureRecord if f.FeatureTag in wanted for i in f.Feature.LookupListIndex}
    for index in lookups:
        for subtable in table.LookupList.Lookup[index].SubTable:
            single = getattr(subtable, "ExtSubTable", subtable)
            if single.LookupType == 1:
                for glyph, form in single.mapping.items():
                    forms.setdefault(glyph, set()).add(form)
    em = font["head"].unitsPerEm
    return {
        chr(code): max(advances[g] for g in {glyph, *forms.get(glyph, ())}) / em
        for code, glyph in font.getBestCmap().items()
    }


def fitted(model: dict[str, Any], look: dict[str, Any], advances: Advances) -> dict[str, Any]:
    """The page model with ``paper`` and, on tables and field grids, ``fit``: ``columns``, ``rows`` in points or None.

    Raises KeyError, TypeError, ValueError: the model does not have its shape.
    """
    page = model["page"]
    size = PAPER[page["size"].lower()]
    width, height = reversed(size) if page["orientation"] == "landscape" else size
    content = width - (page["margins"]["left"] + page["margins"]["right"]) * MM
    sections = []
    for section in model["sections"]:
        if section["type"] == "table":
            section = section | {"fit": _fit_table(section, content, look, advances)}
        elif section["type"] == "fieldGrid":
            section = section | {"fit": _fit_fields(section, content, look, advances)}
        sections.append(section)
    return model | {"sections": sections, "paper": [round(width, 3), round(height, 3)]}


def _fit_table(section: dict[str, Any], content: float, look: dict[str, Any], advances: Advances) -> dict[str, Any]:
    width, size, caption = advances.width, look["table"], look["caption"] * STRONG
    labels = [width(column["label"]) * caption for column in section["columns"]]
    cells = [[width(cell) * size for cell in row] for row in section["rows"]]
    sides = 2 * look["cellSide"]
    columns = _column_widths(section["columns"], labels, cells, content, sides)
    line = look["top"] + look["bottom"]
    one_line = line * look["table"] + 2 * look["cellInset"]
    header = line * look["caption"] + 2 * look["cellInset"]
    inner = [0.0] * len(labels) if columns is None else [w - sides for w in columns]
    rows: list[float | None] = [header if _all_fit(labels, inner) else None]
    for texts, widths in zip(section["rows"], cells, strict=True):
        rows.append(one_line if _all_fit(widths, inner) and not _broken(texts) else None)
    return {"columns": columns and _rounded(columns), "rows": _rounded(rows)}


def _column_widths(
    columns: list[dict[str, Any]], labels: list[float], cells: list[list[float]], content: float, sides: float
) -> list[float] | None:
    """Points for every column: ``mm`` as said, ``auto`` as wide as its widest cell, ``fr`` shares of the rest.

    None when an ``auto`` column is too wide or nothing is left to share: the engine then decides by the same words.
    """
    taken: list[float] = []
    shares: list[float] = []
    for index, column in enumerate(columns):
        width = column.get("width", "1fr")
        share, points = 0.0, 0.0
        if width.endswith("fr"):
            share = float(width[:-2])
        elif width.endswith("mm"):
            points = float(width[:-2]) * MM
        else:
            points = max([labels[index], *(row[index] for row in cells)]) + sides
            if points > content * AUTO_SHARE:
                return None
        taken.append(points)
        shares.append(share)
    rest, whole = content - sum(taken), sum(shares)
    if rest <= 0:
        return None
    return [rest * share / whole if share else points for points, share in zip(taken, shares, strict=True)]


def _fit_fields(section: dict[str, Any], content: float, look: dict[str, Any], advances: Advances) -> dict[str, Any]:
    count, gutter = section["columns"], look["fieldGutter"]
    column = (content - gutter * (count - 1)) / count
    line = look["top"] + look["bottom"]
    two_lines = line * (look["caption"] + look["size"]) + look["leading"] + 2 * look["fieldInset"]
    rows: list[float | None] = []
    at = count
    for field in section["fields"]:
        span = min(field.get("span", 1), count)
        if at + span > count:
            rows.append(two_lines)
            at = 0
        at += span
        room = column * span + gutter * (span - 1)
        size = look["size"] * (STRONG if field.get("strong") else 1.0)
        fits = (
            advances.width(field["label"]) * look["caption"] <= room and advances.width(field["value"]) * size <= room
        )
        if not fits or _broken((field["label"], field["value"])):
            rows[-1] = None
    return {"rows": _rounded(rows)}


def _all_fit(widths: Iterable[float], rooms: Iterable[float]) -> bool:
    return all(width <= room for width, room in zip(widths, rooms, strict=True))


def _broken(texts: Iterable[str]) -> bool:
    return any("\n" in text for text in texts)


def _rounded(points: Iterable[float | None]) -> list[float | None]:
    return [None if point is None else round(point, 3) for point in points]
