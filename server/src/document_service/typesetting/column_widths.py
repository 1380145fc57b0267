"""Widths of a table's columns in points: as their definition says, and roomier where a word would not fit otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

MM = 72 / 25.4

# An auto column whose longest word takes more than this share of the table is left to the engine; and no column takes
# more than it from its neighbours.
AUTO_SHARE = 0.45

# One that asks for more than this share wraps, down to its longest word: beside it stand columns with words of theirs.
# A date in both calendars takes 27 % of an A4 page and must not take every row of a list to two lines.
AUTO_WRAPS = 0.28


def auto_width(widest: float, longest_word: Callable[[], float], content: float) -> float:
    """Points that an ``auto`` column asks for: as wide as its ``widest`` cell, or less where that is much.

    ``longest_word`` tells the least that the column can do with, and is asked only where that matters.
    """
    if widest <= content * AUTO_WRAPS:
        return widest
    return max(content * AUTO_WRAPS, longest_word())


def column_widths(columns: list[dict[str, Any]], asked: list[float], content: float) -> list[float] | None:
    """Points for every column: ``mm`` as said, ``auto`` as ``asked``, ``fr`` shares of the rest.

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
            points = asked[index]
            if points > content * AUTO_SHARE:
                return None
        taken.append(points)
        shares.append(share)
    rest, whole = content - sum(taken), sum(shares)
    if rest <= 0:
        return None
    return [rest * share / whole if share else points for points, share in zip(taken, shares, strict=True)]


def roomier(
    columns: list[dict[str, Any]], widths: Sequence[float], needed: Sequence[float], content: float
) -> list[float]:
    """``widths`` in which columns that are narrower than they ``needed`` have taken room from their neighbours.

    First those with shares give what their own words do not need, then the ``auto`` ones, which would rather not wrap.
    A column of millimetres gives nothing: its author may have meant the room for the hand. It may take, though: the
    number of the thousandth row is wider than the author thought of.
    """
    wished = [min(need, max(width, content * AUTO_SHARE)) for need, width in zip(needed, widths, strict=True)]
    now = list(widths)
    for giver in ("fr", "auto"):
        lacks = [max(0.0, wish - width) for wish, width in zip(wished, now, strict=True)]
        spare = [
            max(0.0, width - need) if column.get("width", "1fr").endswith(giver) else 0.0
            for column, width, need in zip(columns, now, needed, strict=True)
        ]
        moved = min(sum(lacks), sum(spare))
        if moved > 0:
            now = [
                width + moved * lack / sum(lacks) - moved * extra / sum(spare)
                for width, lack, extra in zip(now, lacks, spare, strict=True)
            ]
    return now
