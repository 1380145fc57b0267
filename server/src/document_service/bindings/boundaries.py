"""lowBoundary, highBoundary, precision and round: how exactly a value was recorded (FHIRPath 3.0, §5.8)."""

from __future__ import annotations

import calendar
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from fhirpathpy.engine.nodes import FP_DateTime, FP_Quantity, FP_Time
from fhirpathpy.engine.util import get_data

from document_service.bindings.comparisons import text_of
from document_service.bindings.filters import FunctionRefused

Collection = list[Any]

# The specification's largest precision of a decimal.
_MOST_PLACES = 28
_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,3})\d*)?)?)?)?(Z|[+-]\d\d:\d\d)?"
)
_TIME = re.compile(r"T?(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,3})\d*)?)?)?")
# Digits of a date or time at each precision: year, month, day, hour, minute, second, millisecond.
_DATE_DIGITS = (4, 6, 8, 10, 12, 14, 17)
_TIME_DIGITS = (2, 4, 6, 9)
# The earliest and latest offsets in use decide where a moment without a zone begins and ends.
_FIRST_ZONE, _LAST_ZONE = "+14:00", "-12:00"


def _singleton(data: Collection) -> Any:
    if len(data) > 1:
        raise FunctionRefused("the function takes one item")
    return get_data(data[0]) if data else None


def _number_boundary(value: Decimal, places: int, *, high: bool) -> Decimal:
    exponent = min(int(value.as_tuple().exponent), 0)
    half = Decimal(5).scaleb(exponent - 1)
    with localcontext() as context:
        # Twice the places of the specification, so that the sum itself is exact.
        context.prec = 2 * _MOST_PLACES + 10
        edge = value + half if high else value - half
        return edge.quantize(Decimal(1).scaleb(-places), rounding=ROUND_CEILING if high else ROUND_FLOOR)


def _date_boundary(text: str, digits: int | None, *, high: bool) -> FP_DateTime | None:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    has_time = match.group(4) is not None
    digits = digits if digits is not None else (17 if has_time else 8)
    if digits not in _DATE_DIGITS:
        return None
    year, month = match.group(1), match.group(2) or ("12" if high else "01")
    last = calendar.monthrange(int(year), int(month))[1] if high else 1
    day = match.group(3) or f"{last:02}"
    if digits <= 8:
        return FP_DateTime("-".join((year, month, day)[: _DATE_DIGITS.index(digits) + 1]))
    clock = _clock((match.group(4), match.group(5), match.group(6), match.group(7)), (digits - 8), high=high)
    return FP_DateTime(f"{year}-{month}-{day}T{clock}{match.group(8) or (_LAST_ZONE if high else _FIRST_ZONE)}")


def _clock(parts: tuple[str | None, ...], digits: int, *, high: bool) -> str:
    hour, minute, second, fraction = (
        part if part is not None else (edge if high else "0" * len(edge))
        for part, edge in zip(parts, ("23", "59", "59", "999"), strict=True)
    )
    pieces = [hour, minute, second][: min(digits // 2, 3)]
    text = ":".join(pieces)
    return f"{text}.{fraction.ljust(3, '9' if high else '0')}" if digits == 9 else text


def _boundary(*, high: bool) -> Any:
    def boundary(ctx: dict[str, Any], data: Collection, places: Any = None) -> Any:
        value = _singleton(data)
        digits = int(places) if isinstance(places, int | Decimal) and not isinstance(places, bool) else None
        if value is None or isinstance(value, bool):
            return []
        if isinstance(value, FP_Time):
            match = _TIME.fullmatch(text_of(value))
            wanted = digits if digits is not None else 9
            if match is None or wanted not in _TIME_DIGITS:
                return []
            return FP_Time("T" + _clock(match.groups(), wanted, high=high))
        text = text_of(value) if isinstance(value, FP_DateTime) else value
        if isinstance(text, str):
            if digits is None and getattr(data[0], "path", None) in ("dateTime", "instant"):
                digits = 17
            found = _date_boundary(text, digits, high=high)
            return [] if found is None else found
        # Eight places are the specification's default for decimals.
        wanted = 8 if digits is None else digits
        if not 0 <= wanted <= _MOST_PLACES:
            return []
        if isinstance(value, FP_Quantity):
            return FP_Quantity(_number_boundary(Decimal(value.value), wanted, high=high), value.unit)
        if isinstance(value, dict) and isinstance(value.get("value"), int | Decimal):
            edge = _number_boundary(Decimal(value["value"]), wanted, high=high)
            return FP_Quantity(edge, f"'{value.get('code') or value.get('unit') or '1'}'")
        if isinstance(value, int | Decimal):
            return _number_boundary(Decimal(value), wanted, high=high)
        return []

    return boundary


def _precision(ctx: dict[str, Any], data: Collection) -> Any:
    value = _singleton(data)
    if isinstance(value, FP_Time):
        match = _TIME.fullmatch(text_of(value))
        return [] if match is None else _TIME_DIGITS[sum(part is not None for part in match.groups()) - 1]
    text = text_of(value) if isinstance(value, FP_DateTime) else value
    if isinstance(text, str):
        match = _DATE_TIME.fullmatch(text)
        return [] if match is None else _DATE_DIGITS[sum(part is not None for part in match.groups()[:7]) - 1]
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return []
    return max(0, -int(Decimal(value).as_tuple().exponent))


def _round(ctx: dict[str, Any], data: Collection, places: Any = None) -> Any:
    value = _singleton(data)
    if value is None:
        return []
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise FunctionRefused("round() takes a number")
    digits = int(places) if isinstance(places, int | Decimal) else 0
    if not 0 <= digits <= _MOST_PLACES or abs(Decimal(value).adjusted()) > 2 * _MOST_PLACES:
        raise FunctionRefused("round() takes 0 to 28 places")
    with localcontext() as context:
        context.prec = 4 * _MOST_PLACES
        return Decimal(value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


_OPTIONAL_NUMBER = {0: [], 1: ["Number"]}

BOUNDARY_FUNCTIONS: dict[str, dict[str, Any]] = {
    "lowBoundary": {"fn": _boundary(high=False), "arity": _OPTIONAL_NUMBER},
    "highBoundary": {"fn": _boundary(high=True), "arity": _OPTIONAL_NUMBER},
    "precision": {"fn": _precision},
    "round": {"fn": _round, "arity": _OPTIONAL_NUMBER},
}
