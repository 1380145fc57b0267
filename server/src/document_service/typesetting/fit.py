"""Widths of columns and heights of rows, worked out before the engine sees them.

Typst lays every cell of a row of unknown height out twice, shaping its text again, and of an ``auto`` column three
times; on a one-page form that is a third of the whole render. Most cells hold one line, and that can be known from
the advance widths of their characters and, for joined script, of its words. Where an upper bound says that everything
in a row fits on one line, the row gets the height of a line; where it does not, or where nothing can be said, the
engine decides as before. The bound errs on the wide side only, so a row of fixed height never holds text that needs a
second line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import uharfbuzz as harfbuzz
from fontTools.ttLib import TTFont

from document_service.errors import Problem, RenderTooLarge
from document_service.typesetting.column_widths import MM, auto_width, column_widths, roomier
from document_service.typesetting.fonts import STEERING, font_files
from document_service.typesetting.label_sheet import LabelOverflow, fit_labels
from document_service.typesetting.line_counts import cells_height, taken_lines
from document_service.typesetting.single_rows import single_row
from document_service.typesetting.word_breaks import stretches, with_breaks

# Width and height in points (ISO 216, ANSI); the names are those of definitions, in small letters.
PAPER = {
    "a4": (210 * MM, 297 * MM),
    "a5": (148 * MM, 210 * MM),
    "a6": (105 * MM, 148 * MM),
    "letter": (612.0, 792.0),
}

# Semibold Document Sans and bold Amiri are up to a seventh wider than their regular cuts.
STRONG = 1.15

# The engine's own sum differs by less than this, as where a space is drawn by the neighbour's font (asserted by tests).
MARGIN = 1.04

# A character that no table knows is refused before; the widest that is drawn is under two em.
WIDEST = 2.0

# A word of joined script, with the joiners inside it.
_ARABIC = re.compile("[\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff\u200c\u200d]+")

ArabicWidths = Callable[[str], float]

# A row that may be lower than this share of the paper does not go on over the page: half of a medicine on one sheet
# is read as the whole. A higher row breaks, for one that is taller than a page would be cut off.
KEPT_WHOLE = 1 / 3

# Labels, names of tests and units come again in every document: this many texts of a line's length take 2 MB.
MOST_REMEMBERED = 8192
MOST_LETTERS = 120


class Advances(dict[str, float]):
    """The width of each character, in em of the font that draws it; joined script is measured word by word."""

    def __init__(self, arabic: ArabicWidths, *tables: dict[str, float]) -> None:
        """Take each character from the first of ``tables`` that has it."""
        for table in reversed(tables):
            self.update(table)
        self.update(dict.fromkeys(STEERING, 0.0))
        self._arabic = arabic
        self._remembered = lru_cache(maxsize=MOST_REMEMBERED)(self._measured)

    def __missing__(self, character: str) -> float:
        self[character] = 0.0 if character in STEERING else WIDEST
        return self[character]

    def width(self, text: str) -> float:
        """The width of a line of ``text`` in em, at most."""
        return self._remembered(text) if len(text) <= MOST_LETTERS else self._measured(text)

    def _measured(self, text: str) -> float:
        if _ARABIC.search(text) is None:
            return sum(map(self.__getitem__, text)) * MARGIN
        plain = sum(map(self.__getitem__, _ARABIC.sub("", text)))
        return (plain + sum(map(self._arabic, _ARABIC.findall(text)))) * MARGIN

    def longest(self, text: str) -> float:
        """The width in em of the widest stretch of ``text`` in which no line may end."""
        return max(map(self.width, stretches(text)))

    def breakable(self, text: str, room: float, hyphens: bool = True) -> str:
        """``text`` in which every word fits ``room`` em, where need be by hyphens at line ends (``word_breaks``).

        Raises:
            _Overflow: a word that must not be broken, as a number or a unit must not, is wider than the room; or any
                word of medicine's length is, where there are to be no ``hyphens``.
        """
        if self.width(text) / MARGIN <= room:
            return text
        broken = with_breaks(text, room, self.width, MARGIN, hyphens)
        if broken is None:
            raise _Overflow
        return broken


class _Overflow(Exception):
    """A word is wider than its column; the text is the place inside the section, or empty."""


def arabic_widths(path: Path) -> ArabicWidths:
    """A function that gives the width of one word in em, shaped as the engine shapes it, and remembers it."""
    font = harfbuzz.Font(harfbuzz.Face(harfbuzz.Blob(path.read_bytes())))
    em: int = font.face.upem

    @lru_cache(maxsize=20_000)  # Labels and test names come again in every document; 20,000 words take 3 MB.
    def width(word: str) -> float:
        buffer = harfbuzz.Buffer()
        buffer.add_str(word)
        buffer.direction, buffer.script, buffer.language = "rtl", "Arab", "fa"
        harfbuzz.shape(font, buffer, {"kern": False})
        advance: int = sum(position.x_advance for position in buffer.glyph_positions)
        return advance / em

    return width


def load_advances() -> dict[str, Advances]:
    """Read the fonts' tables: the advances for ``ltr``, where the sans comes first, and for ``rtl``."""
    paths = font_files()
    sans, naskh = _font_advances(paths.sans), _font_advances(paths.naskh)
    arabic = arabic_widths(paths.naskh)
    return {"ltr": Advances(arabic, sans, naskh), "rtl": Advances(arabic, naskh, sans)}


def _font_advances(path: Path) -> dict[str, float]:
    with TTFont(path, lazy=True) as font:
        metrics, em = font["hmtx"].metrics, font["head"].unitsPerEm
        return {chr(code): metrics[glyph][0] / em for code, glyph in font.getBestCmap().items()}


def fitted(
    model: dict[str, Any],
    look: dict[str, Any],
    advances: Advances,
    codes: Mapping[int, tuple[int, int]] = MappingProxyType({}),
    logo: float | None = None,
) -> dict[str, Any]:
    """The page model with ``paper``, ``tall`` (more than a page for sure) and, on tables, grids and labels, ``fit``.

    ``codes`` are the sizes in modules of the barcodes of label sheets, by the number of their section; ``logo`` is that
    picture's width over its height, where it is known.

    Raises:
        RenderTooLarge: a word is wider than its column; it would be printed over its neighbour.
        KeyError, TypeError, ValueError: the model does not have its shape.
    """
    page = model["page"]
    size = PAPER[page["size"].lower()]
    width, height = reversed(size) if page["orientation"] == "landscape" else size
    margins = page["margins"]
    content = width - (margins["left"] + margins["right"]) * MM
    line = (look["top"] + look["bottom"]) * look["size"]
    sections, rows_height = [], 0.0
    for index, section in enumerate(model["sections"]):
        try:
            if section["type"] == "table":
                section = _fit_table(section, content, height * KEPT_WHOLE, look, advances)
            elif section["type"] == "fieldGrid":
                section = _fit_fields(section, content, look, advances)
            elif section["type"] == "paragraphs":
                room = content / look["size"]
                items = [
                    _wrapped(item, advances, room, f"items/{number}") for number, item in enumerate(section["items"])
                ]
                section = section | {"items": items}
            elif section["type"] == "labels":
                section = fit_labels(section, look, advances, codes.get(index))
            elif section["type"] in ("header", "signature"):
                section = section | {"fit": {"row": single_row(model, index, content, look, advances, STRONG, logo)}}
        except LabelOverflow as overflow:
            raise RenderTooLarge(
                f"a label of section {index + 1} does not hold its content: {overflow}",
                errors=(Problem(f"/sections/{index}", "OVERFLOW", "Choose larger labels or fewer lines."),),
            ) from None
        except _Overflow as overflow:
            pointer = f"/sections/{index}/{overflow}"
            raise RenderTooLarge(
                f"a word in section {index + 1} ({section['type']}) at {pointer} is wider than its column",
                errors=(Problem(pointer, "OVERFLOW", "Widen the column, or shorten the value in the record."),),
            ) from None
        rows_height += sum(height or 2 * line for height in section.get("fit", {}).get("rows", ()))
        sections.append(section)
    return model | {
        "sections": sections,
        "paper": [round(width, 3), round(height, 3)],
        "footInLine": _foot_width(model, advances) * look["caption"] < content,
        "tall": rows_height > height - (margins["top"] + margins["bottom"]) * MM,
    }


def _foot_width(model: dict[str, Any], advances: Advances) -> float:
    """The width in em of the foot's second line with the tenant's own words at its end."""
    provenance = "  ·  ".join(f"{label} {value}" for label, value in model["identity"]["items"][1:])
    return advances.width(f"{provenance}    {model['tenant'].get('footer') or ''}")


@dataclass(frozen=True, slots=True)
class _Measured:
    """A table's labels and cells in points, at most, with the size of each column's letters (larger where bold)."""

    labels: list[float]
    sizes: list[float]
    cells: list[list[float]]


def _fit_table(
    section: dict[str, Any], content: float, most: float, look: dict[str, Any], advances: Advances
) -> dict[str, Any]:
    """``fit`` of a table: widths of columns, heights of rows, and the rows kept ``whole``, below ``most``."""
    width = advances.width
    caption: float = look["caption"] * STRONG
    labels = [width(column["label"]) * caption for column in section["columns"]]
    sizes = [look["table"] * (STRONG if column.get("strong") else 1.0) for column in section["columns"]]
    cells = [[width(cell) * points for cell, points in zip(row, sizes, strict=True)] for row in section["rows"]]
    sides: float = 2 * look["cellSide"]

    def least(index: int) -> float:
        """Points of a column that is as wide as its longest word."""
        words: list[float] = [advances.longest(row[index]) * sizes[index] for row in section["rows"]]
        return sides + max([advances.longest(section["columns"][index]["label"]) * caption, *words])

    asked = [
        auto_width(
            sides + max([labels[index], *(_widest(row[index], width) * sizes[index] for row in section["rows"])]),
            partial(least, index),
            content,
        )
        if column.get("width") == "auto"
        else 0.0
        for index, column in enumerate(section["columns"])
    ]
    columns = column_widths(section["columns"], asked, content)
    measured = _Measured(labels, sizes, cells)
    if columns is None:
        return _fit_rows(section, measured, None, content, most, look, advances)
    try:
        return _fit_rows(section, measured, columns, content, most, look, advances, hyphens=False)
    except _Overflow:
        columns = roomier(section["columns"], columns, [least(index) for index in range(len(columns))], content)
        return _fit_rows(section, measured, columns, content, most, look, advances)


def _fit_rows(
    section: dict[str, Any],
    measured: _Measured,
    columns: list[float] | None,
    content: float,
    most: float,
    look: dict[str, Any],
    advances: Advances,
    hyphens: bool = True,
) -> dict[str, Any]:
    """The table with its columns' widths known, or left to the engine where ``columns`` is None."""
    labels, sizes, cells = measured.labels, measured.sizes, measured.cells
    size = look["table"]
    line = look["top"] + look["bottom"]
    one_line = line * size + 2 * look["cellInset"]
    header = line * look["caption"] + 2 * look["cellInset"]
    inner = [0.0] * len(labels) if columns is None else [w - 2 * look["cellSide"] for w in columns]
    rooms = [content] * len(labels) if columns is None else inner
    heights: list[float | None] = [header if _all_fit(labels, inner) else None]
    rows, whole = [], []
    for number, (texts, widths) in enumerate(zip(section["rows"], cells, strict=True)):
        if _all_fit(widths, inner) and not _broken(texts):
            heights.append(one_line)
        else:
            texts = [
                _wrapped(text, advances, room / points, f"rows/{number}/{at}", hyphens)
                for at, (text, room, points) in enumerate(zip(texts, rooms, sizes, strict=True))
            ]
            heights.append(
                None if columns is None else cells_height(texts, widths, rooms, sizes, look, advances, MARGIN)
            )
            lines = max(map(_lines, texts, widths, rooms))
            if columns is not None and heights[-1] is None and lines * (line * size + look["leading"]) < most:
                whole.append(number)
        rows.append(texts)
    fit = {"columns": columns and _rounded(columns), "rows": _rounded(heights), "whole": whole}
    return section | {"rows": rows, "fit": fit}


def _widest(text: str, width: Callable[[str], float]) -> float:
    """The width in em of the longest line: a column of short lines is as wide as one of them."""
    return max(map(width, text.split("\n"))) if "\n" in text else width(text)


def _lines(text: str, width: float, room: float) -> float:
    """The most lines that a cell takes: two that follow each other are never both at most half full."""
    return 2 * width / room + 1 + text.count("\n")


def _wrapped(text: str, advances: Advances, room: float, place: str, hyphens: bool = True) -> str:
    try:
        return advances.breakable(text, room, hyphens)
    except _Overflow:
        raise _Overflow(place) from None


def _fit_fields(section: dict[str, Any], content: float, look: dict[str, Any], advances: Advances) -> dict[str, Any]:
    count, gutter = section["columns"], look["fieldGutter"]
    column = (content - gutter * (count - 1)) / count
    line = look["top"] + look["bottom"]
    two_lines = line * (look["caption"] + look["size"]) + look["leading"] + 2 * look["fieldInset"]
    rooms = [column * span + gutter * (span - 1) for span in range(1, count + 1)]
    sizes = [look["size"] * (STRONG if field.get("strong") else 1.0) for field in section["fields"]]
    spans = _spans(section["fields"], sizes, rooms, advances)
    heights: list[float | None] = []
    fields = []
    at = count
    for number, (field, size, span) in enumerate(zip(section["fields"], sizes, spans, strict=True)):
        if at + span > count:
            heights.append(two_lines)
            at = 0
        at += span
        room = rooms[span - 1]
        label, value = advances.width(field["label"]) * look["caption"], advances.width(field["value"]) * size
        if label > room or value > room or _broken((field["label"], field["value"])):
            wrapped = _wrapped(field["value"], advances, room / size, f"fields/{number}/value")
            lines = taken_lines(wrapped, room / size, room / look["size"], advances, MARGIN)
            if heights[-1] is not None and lines is not None and label <= room and "\n" not in field["label"]:
                heights[-1] = max(heights[-1], two_lines + (lines - 1) * (line * look["size"] + look["leading"]))
            else:
                heights[-1] = None
            field = field | {"value": wrapped}
        fields.append(field | {"span": span})
    return section | {"fields": fields, "fit": {"rows": _rounded(heights)}}


def _spans(fields: list[dict[str, Any]], sizes: list[float], rooms: list[float], advances: Advances) -> list[int]:
    """The columns of each field: more than it asks for where a number or a word needs them; together whole rows.

    A long patient number or telephone takes its neighbour's place rather than fail the whole document.
    """
    count = len(rooms)
    spans: list[int] = []
    taken = 0
    for field, size in zip(fields, sizes, strict=True):
        span = min(field.get("span", 1), count)
        # Most values are short as a whole; only of the others the longest word has to be known.
        if advances.width(field["value"]) / MARGIN * size > rooms[span - 1]:
            needed = advances.longest(field["value"]) / MARGIN * size
            while span < count and needed > rooms[span - 1]:
                span += 1
        if taken + span > count:
            # The engine takes no row whose last field does not end it.
            spans[-1] += count - taken
            taken = 0
        spans.append(span)
        taken = (taken + span) % count
    if taken:
        spans[-1] += count - taken
    return spans


def _all_fit(widths: Iterable[float], rooms: Iterable[float]) -> bool:
    return all(width <= room for width, room in zip(widths, rooms, strict=True))


def _broken(texts: Iterable[str]) -> bool:
    return any("\n" in text for text in texts)


def _rounded(points: Iterable[float | None]) -> list[float | None]:
    return [None if point is None else round(point, 3) for point in points]
