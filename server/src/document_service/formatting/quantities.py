"""Numbers and what is made of them: decimal, Quantity, Range and Ratio, with every digit as recorded.

1.10 prints as 1.10: numbers arrive as Decimal, int or str and are never floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from document_service.formatting.dates import digits
from document_service.formatting.isolation import (
    FSI,
    NO_BREAK_SPACE,
    PDI,
    WORD_JOINER,
    clean,
    glue,
    has_rtl_letter,
    isolate_ltr,
)
from document_service.formatting.locales import Style
from document_service.formatting.mismatch import ValueAbsent, ValueMismatch
from document_service.formatting.units import printed_unit

# R4's value set quantity-comparator in the signs that clinicians read. R5 adds "ad", "made up to", which has no sign.
_COMPARATORS = {"<": "<", "<=": "≤", ">=": "≥", ">": ">"}
# FHIR decimals have at most 18 significant digits; beyond 40 places a number is an attack, not a measurement:
# 1e999999 would print as a million zeros.
_MOST_PLACES = 40


def _plain(value: object) -> str:
    """The digits of a number as recorded, without exponent. Raises ValueMismatch."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueMismatch("decimal")
    if isinstance(value, int):
        # str() of a large int is refused by Python itself; 10**40 is checked first so that no text is lost.
        if abs(value) >= 10**_MOST_PLACES:
            raise ValueMismatch("decimal")
        return str(value)
    if not value.is_finite():
        raise ValueMismatch("decimal")
    _, figures, exponent = value.as_tuple()
    if len(figures) > _MOST_PLACES or abs(int(exponent)) > _MOST_PLACES:
        raise ValueMismatch("decimal")
    return format(value, "f")


def decimal_text(value: object, style: Style) -> str:
    """A number, isolated. Raises ValueMismatch."""
    return isolate_ltr(glue(digits(_plain(value), style.numerals)))


def _quantity(value: object) -> tuple[str, str, str]:
    """Comparator sign, digits and unit of a Quantity. Raises ValueMismatch or ValueAbsent."""
    if not isinstance(value, Mapping):
        raise ValueMismatch("quantity")
    number: Any = value.get("value")
    if number is None:
        raise ValueAbsent
    comparator = value.get("comparator")
    if comparator is not None and (not isinstance(comparator, str) or comparator not in _COMPARATORS):
        raise ValueMismatch("quantity")
    named = [value.get(member) or "" for member in ("unit", "code", "system")]
    if not all(isinstance(name, str) for name in named):
        raise ValueMismatch("quantity")
    unit = printed_unit(*(clean(name).replace("\n", " ").strip() for name in named))
    # UCUM's code for "no unit" is 1; printing it would add a digit to the value.
    return _COMPARATORS[comparator] if comparator is not None else "", _plain(number), "" if unit == "1" else unit


def _with_unit(number: str, unit: str, style: Style) -> str:
    """``number`` and ``unit`` that stay together, isolated."""
    number = glue(digits(number, style.numerals))
    if not unit:
        return isolate_ltr(number)
    if has_rtl_letter(unit):
        return f"{FSI}{isolate_ltr(number)}{NO_BREAK_SPACE}{glue(unit)}{PDI}"
    return isolate_ltr(f"{number}{NO_BREAK_SPACE}{glue(unit)}")


def quantity_text(value: object, style: Style) -> str:
    """A FHIR Quantity such as ``≤ 1.10 mmol/L``, isolated; number, sign and unit never part at a line end."""
    comparator, number, unit = _quantity(value)
    return _with_unit(f"{comparator} {number}" if comparator else number, unit, style)


def range_text(value: object, style: Style) -> str:
    """A FHIR Range such as ``14.5–173.1 ng/mL``; an open side prints as ≥ or ≤, or as the comparator that it has.

    Raises as quantity_text does, also for a comparator that points to the other side.
    """
    if not isinstance(value, Mapping):
        raise ValueMismatch("range")
    sides = [_quantity(value[side]) if value.get(side) else None for side in ("low", "high")]
    low, high = sides
    if low is None and high is None:
        raise ValueAbsent
    if low is None or high is None:
        side = low or high
        assert side is not None
        signs = ("≥", ">") if high is None else ("≤", "<")
        if side[0] and side[0] not in signs:
            raise ValueMismatch("range")
        return _with_unit(f"{side[0] or signs[0]} {side[1]}", side[2], style)
    if low[0] or high[0]:
        # R4 allows no comparator inside a Range: two signs beside a dash cannot be read with certainty.
        raise ValueMismatch("range")
    if low[2] == high[2] or not low[2]:
        return _with_unit(f"{low[1]}–{high[1]}", high[2], style)
    return f"{_with_unit(low[1], low[2], style)}{NO_BREAK_SPACE}–{NO_BREAK_SPACE}{_with_unit(high[1], high[2], style)}"


def ratio_text(value: object, style: Style) -> str:
    """A FHIR Ratio: ``1:128`` for a titre, ``250 mg/5 mL`` with units. Raises as quantity_text does."""
    if not isinstance(value, Mapping):
        raise ValueMismatch("ratio")
    if not value.get("numerator") or not value.get("denominator"):
        raise ValueAbsent
    top, per = _quantity(value["numerator"]), value["denominator"]
    if isinstance(per, Mapping) and per.get("value") is None and (per.get("unit") or per.get("code")):
        # "5 mg per tablet": of one, without the number.
        unit = _quantity({**per, "value": 1})[2]
        return isolate_ltr(f"{_spoken(top, style)}{WORD_JOINER}/{WORD_JOINER}{glue(unit)}")
    bottom = _quantity(per)
    if not top[2] and not bottom[2]:
        joined = f"{top[0]}{top[1]}:{bottom[0]}{bottom[1]}"
        return isolate_ltr(glue(digits(joined, style.numerals)))
    return isolate_ltr(f"{WORD_JOINER}/{WORD_JOINER}".join(_spoken(side, style) for side in (top, bottom)))


def _spoken(side: tuple[str, str, str], style: Style) -> str:
    sign, number, unit = side
    spoken = glue(digits(f"{sign} {number}" if sign else number, style.numerals))
    return f"{spoken}{NO_BREAK_SPACE}{glue(unit)}" if unit else spoken
