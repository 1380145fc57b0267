"""Date plus or minus a duration (FHIRPath §6.6.7): in the precision and zone in which the date was recorded.

The engine moves the sum to UTC and fails on moments without milliseconds.
"""

from __future__ import annotations

import calendar
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from fhirpathpy.engine.nodes import FP_DateTime, FP_Quantity

from document_service.bindings.filters import FunctionRefused

_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,3})\d*)?)?)?)?(Z|[+-]\d\d:\d\d)?"
)
_MONTHS = {"year": 12, "month": 1}
_SECONDS = {"week": 604_800, "day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
# UCUM's exact durations. Its month and year ('mo', 'a') are averages and may not be added to a date.
_UCUM = {"wk": "week", "d": "day", "h": "hour", "min": "minute", "s": "second", "ms": "millisecond"}
# Beyond every date that can be written; also keeps timedelta from overflowing.
_MOST = 10_000 * 366 * 86_400


def _amount(duration: FP_Quantity) -> tuple[int, int]:
    """Months and milliseconds of a duration; decimals of the amount do not count (§6.6.7)."""
    unit = str(duration.unit or "").strip("'")
    unit = _UCUM.get(unit, unit.removesuffix("s"))
    amount = int(Decimal(duration.value))
    if abs(amount) > _MOST:
        raise FunctionRefused("the duration is too long")
    if unit in _MONTHS:
        return amount * _MONTHS[unit], 0
    if unit == "millisecond":
        return 0, amount
    if unit in _SECONDS:
        return 0, amount * _SECONDS[unit] * 1000
    raise FunctionRefused("only a duration can be added to a date")


def add(text: str, duration: FP_Quantity, sign: int) -> FP_DateTime | None:
    """The date ``text`` moved by ``duration``; None where ``text`` is no date or the result cannot be written."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    parts: tuple[Any, ...] = match.groups()
    precision = sum(part is not None for part in parts[:7])
    months, milliseconds = (sign * amount for amount in _amount(duration))
    if precision < 3:
        # A year or a month moves by whole ones; the days of a duration count 30 to a month, 365 to a year.
        days = milliseconds // 86_400_000 if milliseconds >= 0 else -(-milliseconds // 86_400_000)
        months += _toward_zero(days, 30) if precision == 2 else 12 * _toward_zero(days, 365)
        if precision == 1:
            months = 12 * _toward_zero(months, 12)
        milliseconds = 0
    elif precision == 3:
        milliseconds = 86_400_000 * _toward_zero(milliseconds, 86_400_000)
    year, month, day = int(parts[0]), int(parts[1] or 1), int(parts[2] or 1)
    total = year * 12 + month - 1 + months
    year, month = total // 12, total % 12 + 1
    if not 1 <= year <= 9999:
        return None
    try:
        start = date(year, month, min(day, calendar.monthrange(year, month)[1]))
        hour, minute, second = (int(part or 0) for part in parts[3:6])
        fraction = int((parts[6] or "0").ljust(3, "0"))
        # Clock time without a zone on purpose: the offset is put back as it was written.
        moment = datetime.combine(start, time(hour, minute, second, fraction * 1000))
        moment += timedelta(milliseconds=milliseconds)
    except (ValueError, OverflowError):
        return None
    return FP_DateTime(_written(moment, precision) + (parts[7] or ""))


def _toward_zero(amount: int, unit: int) -> int:
    return amount // unit if amount >= 0 else -(-amount // unit)


def _written(moment: datetime, precision: int) -> str:
    if precision <= 3:
        return moment.date().isoformat()[: (4, 7, 10)[precision - 1]]
    if precision == 4:
        return moment.isoformat(timespec="hours")
    return moment.isoformat(timespec={5: "minutes", 6: "seconds", 7: "milliseconds"}[precision])
