"""FHIR date, dateTime and instant as words of a page: as precise as recorded, never more.

English prints 09 Nov 2025, other locales 2025-11-09; Dari and Pashto print Solar Hijri days with the Afghan month
names beside or instead of it, as the tenant chooses. A year or a month alone spans two Solar Hijri years, so it stays
Gregorian and says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from document_service.formatting.calendars import solar_hijri
from document_service.formatting.isolation import FSI, NO_BREAK_SPACE, PDI, glue, isolate_ltr
from document_service.formatting.locales import ENGLISH_MONTHS, LATIN_DIGITS, SOLAR_HIJRI_MONTHS, Style
from document_service.formatting.mismatch import ValueMismatch

# FHIR R4 datatypes: date and dateTime; a time of day always comes with seconds and a zone, but both are lenient here
# because older servers leave the seconds out.
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(Z|[+-]\d{2}:\d{2})?")


def digits(text: str, numerals: str) -> str:
    """``text`` with its ASCII digits, and the decimal point between two of them, in ``numerals``."""
    if numerals == LATIN_DIGITS:
        return text
    with_separator = re.sub(r"(?<=\d)\.(?=\d)", "\u066b", text)
    return with_separator.translate(dict(zip(map(ord, LATIN_DIGITS), numerals, strict=True)))


def date_text(value: object, style: Style) -> str:
    """A FHIR date (year, month or day precision), isolated; of a dateTime the day it was in the tenant's zone.

    Raises ValueMismatch.
    """
    if isinstance(value, str) and "T" in value:
        return _day(_local(value, style).date(), "", style)
    if not isinstance(value, str) or (match := _DATE.fullmatch(value)) is None:
        raise ValueMismatch("date")
    year, month, day = match.groups()
    if month is None:
        return _partial(year, style)
    if not 1 <= int(month) <= 12:
        raise ValueMismatch("date")
    if day is None:
        text = f"{ENGLISH_MONTHS[int(month) - 1]} {year}" if style.language == "en" else f"{year}-{month}"
        return _partial(text, style)
    try:
        return _day(date(int(year), int(month), int(day)), "", style)
    except ValueError:
        raise ValueMismatch("date") from None


def date_time_text(value: object, style: Style) -> str:
    """A FHIR dateTime or instant in the tenant's zone with its offset, isolated; a date stays a date.

    A time without an offset is printed as recorded: guessing a zone could move it to another day.
    """
    if not isinstance(value, str):
        raise ValueMismatch("dateTime")
    if "T" not in value:
        return date_text(value, style)
    local = _local(value, style)
    if local.tzinfo is None:
        return _day(local.date(), f"{local:%H:%M}", style)
    offset = f"{local:%z}"
    return _day(local.date(), f"{local:%H:%M} {offset[:3]}:{offset[3:5]}", style)


def has_passed(end: object, style: Style) -> bool:
    """Whether a FHIR date or dateTime was over when the page of ``style`` was issued; a day is over when it ends.

    False where the style knows no moment of issue. Raises ValueMismatch.
    """
    date_text(end, style)
    if style.issued is None or not isinstance(end, str):
        return False
    return ends_before({"start": style.issued.isoformat(), "end": end}, style)


def ends_before(period: Mapping[str, Any], style: Style) -> bool:
    """Whether a FHIR Period ends before it begins, as far as both ends are recorded. Raises ValueMismatch."""
    if period.get("start") is None or period.get("end") is None:
        return False
    start, end = (_comparable(period[side], style) for side in ("start", "end"))
    # A day lasts until it ends: only what both say is compared.
    length = min(len(start), len(end))
    return end[:length] < start[:length]


def _comparable(value: object, style: Style) -> str:
    """A date or dateTime as digits that sort by time, in the tenant's zone, as precise as recorded."""
    date_text(value, style)
    assert isinstance(value, str)
    return f"{_local(value, style):%Y-%m-%dT%H:%M:%S.%f}" if "T" in value else value


def _local(value: str, style: Style) -> datetime:
    """A dateTime in the tenant's zone; one without an offset stays as it is."""
    try:
        if _DATE_TIME.fullmatch(value) is None:
            raise ValueError
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo is None else moment.astimezone(style.zone)
    except (ValueError, OverflowError):
        raise ValueMismatch("dateTime") from None


def _partial(text: str, style: Style) -> str:
    isolated = isolate_ltr(glue(digits(text, style.numerals)))
    if style.calendar == "gregorian":
        return isolated
    return f"{FSI}{isolated}{NO_BREAK_SPACE}{style.words['gregorian']}{PDI}"


def _day(day: date, time: str, style: Style) -> str:
    """One day with its time of day, in the calendars of the style."""
    if style.language == "en":
        gregorian = f"{day.day:02} {ENGLISH_MONTHS[day.month - 1]} {day.year:04}"
    else:
        gregorian = day.isoformat()
    if style.calendar == "gregorian":
        return isolate_ltr(glue(digits(f"{gregorian} {time}" if time else gregorian, style.numerals)))
    hijri = solar_hijri(day)
    month = SOLAR_HIJRI_MONTHS[style.language][hijri.month - 1]
    pieces = [
        NO_BREAK_SPACE.join((_numeral(str(hijri.day), style), month, _numeral(str(hijri.year), style))),
        *([f"({_numeral(gregorian, style)})"] if style.calendar == "both" else []),
        *([_numeral(time, style)] if time else []),
    ]
    # A line may end between the calendars and before the time, never inside one of them: all three together are
    # wider than a table column.
    return f"{FSI}{' '.join(pieces)}{PDI}"


def _numeral(text: str, style: Style) -> str:
    return isolate_ltr(glue(digits(text, style.numerals)))
