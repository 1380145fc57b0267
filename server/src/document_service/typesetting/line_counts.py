"""How many lines a text takes in a column, where that is certain.

The engine fills each line with as many words as go into it. The widths that are known here are upper bounds, so filling
lines by them gives the most lines that there can be; with the least that the words can take and every place at which a
line might end, the fewest. Where both agree, that is the number, and a row of such cells has a known height.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from document_service.typesetting.label_sheet import Measure
from document_service.typesetting.word_breaks import MAY_BREAK, SOFT_HYPHEN

#: Rows of more lines are left to the engine, which may carry them over to the next page.
MOST_LINES = 8

# A space at which a line may end for sure. Not beside every sign: no line begins with a slash (UAX #14).
# Isolates are looked through, for they may be taken away (``left_to_right``).
_BEFORE, _AFTER = "[\\w.,;:)%\u060c\u061b\u06d4]", "[(\\w]"
_SURE = re.compile(f"(?:(?<={_BEFORE})|(?<={_BEFORE}\u2069)) (?=[\u2066-\u2068]?{_AFTER})")
# Pieces between all places at which a line might end.
_PIECES = re.compile(r"\w+|\s+|[^\w\s]")


def most_lines(text: str, room: float, measure: Measure) -> int | None:
    """The most lines that ``text`` takes in a column of ``room`` em; None where a word is wider than that."""
    space, lines = measure.width(" "), 0
    for paragraph in text.split("\n"):
        widths = [measure.width(word) for word in _SURE.split(paragraph)]
        if max(widths) > room:
            return None
        lines += _filled(widths, space, room)
    return lines


def taken_lines(text: str, room: float, plain_room: float, measure: Measure, margin: float) -> int | None:
    """The lines that ``text`` takes, or None where that is not certain.

    ``plain_room`` is the room in em of letters that are not bold; ``margin`` is by how much ``measure`` may be wrong.
    """
    most = most_lines(text, room, measure)
    if most is None or most > MOST_LINES or MAY_BREAK in text or SOFT_HYPHEN in text:
        return None
    fewest = sum(
        _filled([measure.width(piece) / margin**2 for piece in _PIECES.findall(paragraph)], 0.0, plain_room)
        for paragraph in text.split("\n")
    )
    return most if most == fewest else None


def cells_height(
    texts: Sequence[str],
    widths: Sequence[float],
    rooms: Sequence[float],
    sizes: Sequence[float],
    look: Mapping[str, Any],
    measure: Measure,
    margin: float,
) -> float | None:
    """Points of a table's row, where the number of lines of each of its cells is certain.

    ``widths`` of the cells, ``rooms`` of the columns and ``sizes`` of the letters are in points.
    """
    most = 1
    for text, width, room, size in zip(texts, widths, rooms, sizes, strict=True):
        if width > room or "\n" in text:
            lines = taken_lines(text, room / size, room / look["table"], measure, margin)
            if lines is None:
                return None
            most = max(most, lines)
    line: float = (look["top"] + look["bottom"]) * look["table"]
    gaps: float = (most - 1) * look["leading"] + 2 * look["cellInset"]
    return most * line + gaps


def _filled(widths: Iterable[float], space: float, room: float) -> int:
    lines, at = 1, -space
    for width in widths:
        if at + space + width > room and at > 0:
            lines, at = lines + 1, width
        else:
            at += space + width
    return lines
