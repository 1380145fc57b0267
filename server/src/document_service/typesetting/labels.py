"""What can be said of a form's page before anything is rendered: letters no font has, words no column holds, headings
out of order. All are the author's to mend, and all are said at once, with the pointer of the label or its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from document_service.errors import Problem
from document_service.formatting.locales import direction
from document_service.typesetting.column_widths import MM
from document_service.typesetting.fit import MARGIN, PAPER, Advances, load_advances
from document_service.typesetting.fonts import drawable
from document_service.typesetting.layout_files import LAYOUT_DIR

# Where a line of a label may break. Joiners and isolates stay inside their word.
_BREAKS = re.compile(r"[\s\-–/،,;:؛]+")


@cache
def _advances() -> dict[str, Advances]:
    return load_advances()


@cache
def _looks() -> Any:
    return json.loads((LAYOUT_DIR / "look.json").read_text(encoding="utf-8"))


def page_problems(definition: Mapping[str, Any]) -> list[Problem]:
    """Every such problem of a definition that ``definitions.check`` found good."""
    return [*_glyphs(definition), *_widths(definition), *_headings(definition), *_sheets(definition)]


def undrawable(text: str) -> list[str]:
    """The code points of a text (``U+4E2D``) that no font of the service draws, each once, at most five."""
    return [f"U+{ord(character):04X}" for character in sorted(set(text) - drawable())[:5]]


def _glyphs(definition: Mapping[str, Any]) -> Iterator[Problem]:
    for locale, words in definition["labels"].items():
        for key, text in words.items():
            missing = ", ".join(undrawable(text))
            if missing:
                at = f"/labels/{locale}/{key}"
                yield Problem(at, "GLYPH_MISSING", f"Replace {missing}: no font of the service draws it.")


def _widths(definition: Mapping[str, Any]) -> Iterator[Problem]:
    content = content_width(definition)
    if content <= 0:
        yield Problem("/page/margins", "OVERFLOW", "Make the margins smaller: they leave no room on this paper.")
        return
    for locale in definition["locales"]:
        for at, key, room, points in _places(definition, direction(locale), content):
            text = definition["labels"][locale].get(key, "")
            width = max((_width(word, direction(locale)) for word in _BREAKS.split(text)), default=0.0) * points
            if width > room:
                has = f"is about {width / MM:.0f} mm wide and has {max(0.0, room) / MM:.0f} mm"
                title = f"In {locale} a word of the label {key} {has}: widen the column or shorten the word."
                yield Problem(at, "OVERFLOW", title)


def _headings(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """PDF/UA-1: the first heading is of level 1, which is the title of the header."""
    titled = False
    for index, section in enumerate(definition["sections"]):
        if section["type"] == "header" and titled:
            title = "Move the header before the sections that have a title, so that headings are read in order."
            yield Problem(f"/sections/{index}", "HEADER_NOT_FIRST", title)
            return
        if section["type"] == "header":
            return
        titled = titled or "title" in section


def _sheets(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """Label sheets whose grid leaves the paper, or reaches into the foot that stands on every page."""
    across, along = paper_size(definition)
    foot = float(definition.get("page", {}).get("margins", {}).get("bottom", 18)) * MM
    # Three lines of the foot in the larger letters, as document.typ keeps free below every page.
    foot += 3 * max(look["caption"] for look in _looks().values())
    for index, section in enumerate(definition["sections"]):
        if section["type"] != "labels":
            continue
        for start, size, gap, count, room, word in (
            ("left", "width", "columnGap", "columns", across, "right edge of the paper"),
            ("top", "height", "rowGap", "rows", along - foot, "foot of the page"),
        ):
            many = section[count]
            end = float(section[start]) + many * float(section[size]) + (many - 1) * float(section.get(gap, 0))
            if end * MM > room:
                yield Problem(f"/sections/{index}/{count}", "OVERFLOW", f"The labels reach beyond the {word}.")


def _width(word: str, side: str) -> float:
    """The width of a word in em, without the margin that keeps fitted rows on the safe side."""
    return _advances()[side].width(word) / MARGIN


def paper_size(definition: Mapping[str, Any]) -> tuple[float, float]:
    """Width and height of the paper as it lies, in points."""
    page = definition.get("page", {})
    across, along = PAPER[str(page.get("size", "A4")).lower()]
    return (along, across) if page.get("orientation") == "landscape" else (across, along)


def content_width(definition: Mapping[str, Any]) -> float:
    """What margins leave of the paper's width, in points."""
    margins = definition.get("page", {}).get("margins", {})
    # The defaults are those of the definition's schema.
    sides = float(margins.get("left", 18)) + float(margins.get("right", 18))
    return paper_size(definition)[0] - sides * MM


def _places(definition: Mapping[str, Any], side: str, content: float) -> Iterator[tuple[str, str, float, float]]:
    """Every label in a column: its pointer, its key, the room in points, and the size of its letters in points."""
    look = _looks()[side]
    for index, section in enumerate(definition["sections"]):
        if section["type"] == "fieldGrid":
            count = section.get("columns", 2)
            column = (content - look["fieldGutter"] * (count - 1)) / count
            for position, field in enumerate(section["fields"]):
                span = min(field.get("span", 1), count)
                room = column * span + look["fieldGutter"] * (span - 1)
                yield f"/sections/{index}/fields/{position}/label", field["label"], room, look["caption"]
        elif section["type"] == "table":
            widths = _columns(section["columns"], content)
            for position, (column_of, room) in enumerate(zip(section["columns"], widths, strict=True)):
                if room is not None:
                    at = f"/sections/{index}/columns/{position}/label"
                    yield at, column_of["label"], room - 2 * look["cellSide"], look["caption"]


def _columns(columns: list[Mapping[str, Any]], content: float) -> list[float | None]:
    """Points for each column; None for one whose width the data decides, as they do beside an ``auto`` column."""
    texts = [column.get("width", "auto" if column["value"] == "rowNumber" else "1fr") for column in columns]
    fixed = [float(text[:-2]) * MM if text.endswith("mm") else None for text in texts]
    if "auto" in texts:
        return fixed
    shares = [float(text[:-2]) if text.endswith("fr") else 0.0 for text in texts]
    rest = max(0.0, content - sum(points or 0.0 for points in fixed))
    whole = sum(shares)
    return [points if points is not None else rest * share / whole for points, share in zip(fixed, shares, strict=True)]
