"""What fits on one adhesive label: the lines in two sizes, and a barcode that a scanner can read.

A label is cut where it is cut: text that does not fit would be printed on the neighbour's. So the lines are broken here
by upper bounds, and what is too high or too wide for the label is refused instead of cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

MM = 72 / 25.4

# Printers shift a sheet by up to 1.5 mm, and corners of labels are round.
INSET = 2.5 * MM

# The narrowest bar that a 300 dpi office printer and a hand scanner agree on (GS1: 0.19 mm for small items), and the
# widest that is any use; a square code is read by a camera, from paper that has been handled.
NARROWEST_BAR, WIDEST_BAR = 0.19 * MM, 0.4 * MM
NARROWEST_SQUARE, WIDEST_SQUARE = 0.35 * MM, 0.8 * MM

# Quiet zones in modules (ISO/IEC 15417 and 16022). The label's inset counts towards them.
QUIET_BARS, QUIET_SQUARE = 10, 2

# Bars lower than this are hit only by a steady hand.
LOWEST_BARS = 8.0 * MM
HIGHEST_BARS = 13.0 * MM

BESIDE = 6.0
"""Points between the lines and a square code beside them; the same as in labels.typ."""


class Measure(Protocol):
    """What knows the width of a line of text in em (fit.Advances)."""

    def width(self, text: str) -> float: ...


class LabelOverflow(Exception):
    """Something is larger than the label; the text says what, and names no value."""


def fit_labels(
    section: dict[str, Any], look: dict[str, Any], measure: Measure, code: tuple[int, int] | None
) -> dict[str, Any]:
    """The section with ``fit``: sizes of the letters and of the code, in points. ``code`` is its size in modules.

    Raises:
        LabelOverflow: lines and code do not fit on a label of this size.
    """
    width, height = section["width"] * MM - 2 * INSET, section["height"] * MM - 2 * INSET
    sizes = {"strong": look["table"] + 1.5, "plain": look["table"] - 0.5}
    drawn = None if code is None else _code(code, section["barcode"]["format"] == "code128", section, look)
    room = width if drawn is None or drawn["below"] else width - drawn["width"] - BESIDE
    used = sum(_height(line, room, sizes, look, measure) for line in section["lines"])
    left = height - used
    if drawn is not None and drawn["below"]:
        drawn["height"] = min(HIGHEST_BARS, left - look["leading"])
        if drawn["height"] < LOWEST_BARS:
            raise LabelOverflow("lines and barcode are higher than the label")
    elif left < 0 or (drawn is not None and drawn["height"] > height):
        raise LabelOverflow("the lines are higher than the label")
    return section | {"fit": {**sizes, "inset": round(INSET, 3), "code": drawn}}


def _code(modules: tuple[int, int], bars: bool, section: dict[str, Any], look: dict[str, Any]) -> dict[str, Any]:
    """Width and height of the code in points, and whether it stands below the lines."""
    across, down = modules
    narrowest, widest = (NARROWEST_BAR, WIDEST_BAR) if bars else (NARROWEST_SQUARE, WIDEST_SQUARE)
    quiet = QUIET_BARS if bars else QUIET_SQUARE
    room = section["width"] * MM * (1.0 if bars else 0.5)
    module = min(widest, room / (across + 2 * quiet), (section["width"] * MM - 2 * INSET) / across)
    if not bars:
        module = min(module, (section["height"] * MM - 2 * INSET) / down)
    if module < narrowest:
        raise LabelOverflow("the barcode is too long to be read from a label of this width")
    return {"width": round(across * module, 3), "height": round(down * module, 3), "below": bars}


def _height(
    line: dict[str, Any], room: float, sizes: dict[str, float], look: dict[str, Any], measure: Measure
) -> float:
    """Points that one line of the form takes on the label, broken at spaces where it is wider than the room."""
    size = sizes["strong" if line["strong"] else "plain"]
    # Semibold and bold letters are up to a seventh wider (fit.STRONG).
    em = room / (size * (1.15 if line["strong"] else 1.0))
    rows = sum(_rows(part, em, measure.width) for part in line["text"].split("\n"))
    leading: float = (look["top"] + look["bottom"]) * size + look["leading"]
    return rows * leading


def _rows(text: str, room: float, width: Callable[[str], float]) -> int:
    rows, current = 1, ""
    for word in re.split(r" +", text):
        longer = f"{current} {word}" if current else word
        if width(longer) <= room:
            current = longer
            continue
        if width(word) > room:
            raise LabelOverflow("a word is wider than the label")
        rows += bool(current)
        current = word
    return rows
