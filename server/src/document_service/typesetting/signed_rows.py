"""Signatures never stand alone on a sheet: rows of the table before them go with them when they do not fit.

What stands before signatures is kept with them by the layout library, except a long table, which no engine moves as a
whole. Whether its last row and the signatures parted is seen when the same pages without signatures are fewer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

#: Rows that go along: enough to show what is signed, few enough to fit beside signatures on any sheet.
CARRIED = 3
#: A table of so many rows is kept with its signatures as a whole.
KEPT = 2 * CARRIED


def with_holds(model: dict[str, Any]) -> dict[str, Any]:
    """The page model with a mark on each section that stays with the signatures after it."""
    sections = [
        section | {"held": True} if after["type"] == "signature" and not _is_long(section) else section
        for section, after in pairwise([*model["sections"], {"type": "end"}])
    ]
    return model | {"sections": sections}


def signed_table(model: dict[str, Any]) -> int | None:
    """The place of a table, too long to be moved as a whole, that signatures follow directly."""
    for index, (section, after) in enumerate(pairwise(model["sections"])):
        if after["type"] == "signature" and _is_long(section):
            return index
    return None


def _is_long(section: dict[str, Any]) -> bool:
    return section["type"] == "table" and len(section["rows"]) > KEPT


def without_signatures(model: dict[str, Any], table: int) -> dict[str, Any]:
    """The pages up to the ``table``."""
    return model | {"sections": model["sections"][: table + 1]}


def with_rows_carried(model: dict[str, Any], table: int) -> dict[str, Any]:
    """The same pages, where the last rows of the ``table`` begin the sheet of the signatures."""
    sections = [*model["sections"]]
    sections[table] = sections[table] | {"carried": CARRIED}
    return model | {"sections": sections}
