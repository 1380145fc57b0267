"""Amounts of medicines: a FHIR Quantity, Range or Ratio as ``quantities`` prints it, written not to be misread.

Lists of error-prone abbreviations (ISMP, Joint Commission) ask for it: "10 U" was read as 100 and "IU" as IV, so units
stand in words; and the thousands of long numbers are set apart, because nobody counts the zeros of 1000000. An amount
of nothing or less, or a range that begins above its end, is no dose and refuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from document_service.formatting.counted_units import counted
from document_service.formatting.isolation import NO_BREAK_SPACE
from document_service.formatting.locales import Style
from document_service.formatting.mismatch import ValueMismatch
from document_service.formatting.quantities import quantity_text, range_text, ratio_text
from document_service.formatting.said_amounts import unit_amount

KIND = "amount of a medicine that can be given"

# UCUM's code for units and what senders write for it; likewise of international units.
_UNITS = {"U": "dosageUnits", "u": "dosageUnits"}
_INTERNATIONAL = dict.fromkeys(("IU", "iu", "I.U.", "[IU]", "[iU]"), "dosageInternationalUnits")
_WORDS = {**_UNITS, **_INTERNATIONAL}
# "U/h": what stands behind the slash is Latin in every locale, and so is the word before it.
_IN_COMPOUNDS = {"dosageUnits": "units", "dosageInternationalUnits": "international units"}
# Four digits are read at a glance; five and more are not (ISMP asks for a separator from 1,000; SI from five on).
_LONG = re.compile(r"(?<![\d.\u066b])\d{5,}")


def dose_text(value: object, style: Style) -> str:
    """A Quantity, isolated. Raises ValueMismatch, also where it is not above 0, and ValueAbsent."""
    text = quantity_text(_spelt(value, style), style)
    _positive(value)
    return _grouped(text)


def dose_range_text(value: object, style: Style) -> str:
    """A Range, isolated. Raises as ``dose_text`` does, and ValueMismatch where it begins above its end."""
    sides = value if isinstance(value, Mapping) else {}
    # "1–2 tablets": one unit stands behind both, and the larger number decides its form.
    most = next((sides[side].get("value") for side in ("high", "low") if isinstance(sides.get(side), Mapping)), None)
    spelt = {side: _spelt(sides.get(side), style, most) for side in ("low", "high")} if sides else value
    text = range_text(spelt, style)
    ends = [sides[side] for side in ("low", "high") if (sides.get(side) or {}).get("value") is not None]
    for end in ends:
        _positive(end)
    if len(ends) == 2:
        (low_unit, low), (high_unit, high) = (
            unit_amount(end["value"], end.get("unit") or end.get("code") or "") for end in ends
        )
        if low > high and (low_unit == high_unit or not low_unit):
            raise ValueMismatch(KIND)
    return _grouped(text)


def dose_ratio_text(value: object, style: Style) -> str:
    """A Ratio, isolated. Raises as ``dose_text`` does."""
    sides = value if isinstance(value, Mapping) else {}
    spelt = {side: _spelt(sides.get(side), style) for side in ("numerator", "denominator")} if sides else value
    text = ratio_text(spelt, style)
    for side in sides.values():
        if isinstance(side, Mapping):
            _positive(side)
    return _grouped(text)


def _positive(quantity: Any) -> None:
    # Called once ``quantities`` found the number sound.
    if quantity.get("value") is not None and quantity["value"] <= 0:
        raise ValueMismatch(KIND)


def _spelt(quantity: object, style: Style, number: object = None) -> object:
    """``quantity`` with units in words where it has nothing but their abbreviation, and what is counted in its number.

    ``number`` where the form depends on another one than its own.
    """
    if not isinstance(quantity, Mapping):
        return quantity
    recorded = quantity.get("unit") or quantity.get("code")
    if not isinstance(recorded, str):
        return quantity
    unit, slash, per = recorded.strip().partition("/")
    word = (_IN_COMPOUNDS[_WORDS[unit]] if slash else style.words[_WORDS[unit]]) if unit in _WORDS else unit
    word = counted(word, quantity.get("value") if number is None else number)
    return quantity if word == unit else {**quantity, "unit": f"{word}{slash}{per}"}


def _grouped(text: str) -> str:
    """``text`` with the thousands of its long numbers apart by spaces at which no line ends."""
    return _LONG.sub(lambda one: re.sub(r"\B(?=(?:\d{3})+$)", NO_BREAK_SPACE, one.group()), text)
