"""A FHIR Timing of a dosage in words: how often, on which days, at which moments, for how long."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from fractions import Fraction
from typing import Any

from document_service.formatting.dates import date_time_text, digits, ends_before
from document_service.formatting.dosage_words import DAILY_MOMENTS, DAYS, MOMENTS, RHYTHMS
from document_service.formatting.dose_amounts import dose_range_text
from document_service.formatting.isolation import NO_BREAK_SPACE, isolate_ltr
from document_service.formatting.locales import Style
from document_service.formatting.people import concept_codes
from document_service.formatting.quantities import decimal_text
from document_service.formatting.said_amounts import Claim
from document_service.formatting.said_rhythms import MONTH, MONTH_DAYS, ONLY_ONCE, YEAR
from document_service.formatting.spoken import (
    duration_text,
    entries,
    further_text,
    own_words,
    refuse,
    said,
    span_text,
    structure,
    time_text,
    time_unit,
    whole_number,
    word_of,
)

KIND = "dosage whose timing can be said"

_REPEAT = (
    *("boundsDuration", "boundsRange", "boundsPeriod", "count", "countMax", "duration", "durationMax", "durationUnit"),
    *("frequency", "frequencyMax", "period", "periodMax", "periodUnit", "dayOfWeek", "timeOfDay", "when", "offset"),
)
_DAILY = ("dosageOnceDaily", "dosageTwiceDaily", "dosageThreeDaily", "dosageFourDaily")
_ONE_DAY = ((1, "d"), (24, "h"))
# What is said in fewer words than "every …"; the number of days of a week counts as one.
_RHYTHM_WORDS = {
    (2, "d"): "dosageEveryOtherDay",
    (1, "wk"): "dosageOnceWeekly",
    (7, "d"): "dosageOnceWeekly",
    (1, "mo"): "dosageOnceMonthly",
}
# Only these words say on which side of the moment an offset lies: "30 minutes at bedtime" would be neither.
_BEFORE_OR_AFTER = frozenset({"AC", "ACM", "ACD", "ACV", "PC", "PCM", "PCD", "PCV", "PHS"})
_TIME_OF_DAY = re.compile(r"((?:[01]\d|2[0-3]):[0-5]\d):00(?:\.0+)?")
#: Hours of the units whose length does not change; how often in a month is how often in no number of days.
_HOURS = {"s": Fraction(1, 3600), "min": Fraction(1, 60), "h": Fraction(1), "d": Fraction(24), "wk": Fraction(168)}
_MOST_EVENTS = 50


def times_a_day(timing: Mapping[str, Any]) -> tuple[Fraction, Fraction] | None:
    """The fewest and the most times in 24 hours that a Timing which ``timing_parts`` could say asks for, if it does."""
    repeat = timing.get("repeat") or {}
    if repeat.get("period") and repeat.get("periodUnit") in _HOURS:
        hours = _HOURS[repeat["periodUnit"]]
        often = repeat.get("frequency", 1), repeat.get("frequencyMax")
        shortest, longest = Fraction(repeat["period"]) * hours, Fraction(repeat.get("periodMax") or 0) * hours
        return 24 * Fraction(often[0]) / (longest or shortest), 24 * Fraction(often[1] or often[0]) / shortest
    for code in concept_codes(timing["code"]) if timing.get("code") else ():
        if code in RHYTHMS and RHYTHMS[code][2] in _HOURS:
            times, period, unit = RHYTHMS[code]
            rate = 24 * times / (period * _HOURS[unit])
            return rate, rate
    return None


def known_rates(timing: Mapping[str, Any]) -> list[Claim]:
    """What words beside a Timing that ``timing_parts`` could say may name as its rhythm, in times of 24 hours.

    With days of the week it is as right to say how often in the week as how often on its days; so with moments.
    """
    repeat = timing.get("repeat") or {}
    moments = repeat.get("when") or repeat.get("timeOfDay") or ()
    days = Fraction(len(repeat.get("dayOfWeek") or ()) or 7, 7)
    often = times_a_day(timing) or _seldom(timing)
    if often is None:
        once = repeat.get("frequency") == 1 and repeat.get("frequencyMax") is None and not repeat.get("period")
        if (once or repeat.get("count") == 1 or len(timing.get("event") or ()) == 1) and not moments and days == 1:
            return [((ONLY_ONCE, ONLY_ONCE),)]
        # Three meals have no number here: "with meals" may be two of them.
        counted = len(moments) if not {"C", "AC", "PC"}.intersection(moments) else 0
        return [((rate, rate),) for rate in ({Fraction(counted or 1) * days} if counted or days != 1 else ())]
    known: list[Claim] = [(often,)]
    if days != 1:
        known.append(((often[0] * days, often[1] * days),))
    if len(moments) > 1:
        known.append(((Fraction(len(moments)) * days,) * 2,))
    if repeat.get("count") == 1:
        known.append(((ONLY_ONCE, ONLY_ONCE),))
    return known


def _seldom(timing: Mapping[str, Any]) -> tuple[Fraction, Fraction] | None:
    """The rhythm of months and years, which are no number of days, in the measure that words of them have."""
    repeat, lengths = timing.get("repeat") or {}, {"mo": MONTH, "a": YEAR}
    if repeat.get("period") and repeat.get("periodUnit") in lengths:
        length = lengths[repeat["periodUnit"]]
        least, most = repeat.get("frequency", 1), repeat.get("frequencyMax") or repeat.get("frequency", 1)
        longest = Fraction(repeat.get("periodMax") or repeat["period"])
        return Fraction(least) / (longest * length), Fraction(most) / (Fraction(repeat["period"]) * length)
    if timing.get("code") and "MO" in concept_codes(timing["code"]):
        return Fraction(1, MONTH), Fraction(1, MONTH)
    return None


def known_days(timing: Mapping[str, Any]) -> list[Claim]:
    """For how many days the bounds of such a Timing let it last; empty where they do not say."""
    repeat = timing.get("repeat") or {}
    bounds = repeat.get("boundsRange") or {}
    length = repeat.get("boundsDuration")
    low, high = (length, length) if length else (bounds.get("low"), bounds.get("high"))
    if low and high:
        least, most = _in_days(low), _in_days(high)
        return [((least[0], most[1]),)] if least and most else []
    period = repeat.get("boundsPeriod") or {}
    try:
        start, end = (date.fromisoformat(str(period.get(side))[:10]) for side in ("start", "end"))
    except ValueError:
        return []
    # Whether the last day counts is not said.
    return [((Fraction((end - start).days), Fraction((end - start).days + 1)),)]


def _in_days(length: Mapping[str, Any]) -> tuple[Fraction, Fraction] | None:
    """The fewest and the most days of a Duration whose unit is one of time, if it has a value."""
    unit = time_unit(length)
    if unit is None or length.get("value") is None:
        return None
    value = Fraction(length["value"])
    if unit == "mo":
        return value * MONTH_DAYS[0], value * MONTH_DAYS[1]
    return (value * _HOURS[unit] / 24,) * 2 if unit in _HOURS else None


def timing_parts(value: object, style: Style) -> Iterator[str]:
    """The parts of the sentence that a Timing is, each isolated. Raises ValueMismatch for what has no words."""
    timing = structure(value, ("event", "repeat", "code"), KIND)
    repeat = structure(timing.get("repeat") or {}, _REPEAT, KIND)
    _check_numbers(repeat, style)
    _check_times(timing, repeat)
    yield from _code_parts(timing.get("code"), repeat, style)
    yield from _moments(repeat, style)
    events = entries(timing.get("event"), KIND)
    if len(events) > _MOST_EVENTS:
        refuse(KIND)
    for event in events:
        yield date_time_text(event, style)
    if repeat.get("duration") is not None:
        over = time_text(repeat["duration"], repeat.get("durationMax"), repeat.get("durationUnit"), style, KIND)
        yield said(style, "dosageOver", n=over)
    elif repeat.get("durationMax") is not None or repeat.get("durationUnit") is not None:
        refuse(KIND)
    yield from _bounds(repeat, style)


def _check_numbers(repeat: Mapping[str, Any], style: Style) -> None:
    """Every number is one, positive, and no largest one is below its smallest. Raises ValueMismatch."""
    for member in ("count", "countMax", "frequency", "frequencyMax", "offset"):
        if repeat.get(member) is not None:
            whole_number(repeat[member], KIND, 0 if member == "offset" else 1)
    for member in ("period", "periodMax", "duration", "durationMax"):
        # The text of a number has bounds; a fraction of 1E+999999 has none.
        if repeat.get(member) is not None and decimal_text(repeat[member], style) and repeat[member] <= 0:
            refuse(KIND)
    for member in ("count", "frequency", "period", "duration"):
        least, most = repeat.get(member), repeat.get(f"{member}Max")
        if least is not None and most is not None and most < least:
            refuse(KIND)


def _check_times(timing: Mapping[str, Any], repeat: Mapping[str, Any]) -> None:
    """Refuse as many times of a day as "so often a day" does not ask for: one of the two is another dose.

    Another rhythm bears them: "every 8 hours" may begin at one of its times. Raises ValueMismatch.
    """
    codes = concept_codes(timing["code"]) if timing.get("code") else ()
    often = times_a_day(timing)
    if not DAILY_MOMENTS.keys().isdisjoint(codes):
        # "In the morning" is once a day.
        often = often or (Fraction(1), Fraction(1))
        if often[1] > 1 or (repeat.get("frequency") or 1) > 1:
            refuse(KIND)
    elif repeat.get("period"):
        if (repeat["period"], str(repeat.get("periodUnit"))) not in _ONE_DAY:
            return
    elif not any(code in RHYTHMS and RHYTHMS[code][1:] == (1, "d") for code in codes):
        return
    times = {str(time) for time in entries(repeat.get("timeOfDay"), KIND)}
    if times and often and often[0] >= 1 and not often[0] <= len(times) <= often[1]:
        refuse(KIND)


def _code_parts(code: object, repeat: Mapping[str, Any], style: Style) -> Iterator[str]:
    often = _how_often(repeat, style)
    if code is None:
        yield from often
        return
    codes = concept_codes(code)
    rhythms = {RHYTHMS[one] for one in codes if one in RHYTHMS}
    moments = {DAILY_MOMENTS[one] for one in codes if one in DAILY_MOMENTS}
    if len(rhythms) + len(moments) > 1:
        refuse(KIND)
    if not rhythms and not moments:
        yield own_words(code, style, KIND)
        yield from often
        return
    for times, period, unit in rhythms:
        coded: dict[str, Any] = {"frequency": times, "period": period, "periodUnit": unit}
        # The code is authoritative in FHIR; a repeat that says another rhythm cannot stand beside it.
        stated = times_a_day({"repeat": repeat})
        if often and stated != times_a_day({"repeat": coded}):
            refuse(KIND)
        yield from _how_often(coded, style)
    for moment in moments:
        yield from often
        yield style.words[moment]
    yield from further_text(code, style)


def _how_often(repeat: Mapping[str, Any], style: Style) -> list[str]:
    often, most = repeat.get("frequency"), repeat.get("frequencyMax")
    period, longest, unit = repeat.get("period"), repeat.get("periodMax"), repeat.get("periodUnit")
    if often is None and most is None and period is None:
        if longest is not None or unit is not None:
            refuse(KIND)
        return []
    often = 1 if often is None else often  # FHIR: once in each period unless it is said.
    times = span_text(often, most, style)
    if period is None:
        if longest is not None or unit is not None:
            refuse(KIND)
        return [style.words["dosageOnce"] if often == 1 and most is None else said(style, "dosageTimes", n=times)]
    if longest is None and (period, unit) in _ONE_DAY:
        daily = most is None and often <= len(_DAILY)
        return [style.words[_DAILY[often - 1]] if daily else said(style, "dosageTimesDaily", n=times)]
    if often == 1 and most is None:
        briefly = _RHYTHM_WORDS.get((period, unit or "")) if longest is None else None
        if briefly is not None:
            return [style.words[briefly]]
        return [said(style, "dosageEvery", period=time_text(period, longest, unit, style, KIND))]
    return [said(style, "dosageTimesIn", n=times, period=time_text(period, longest, unit, style, KIND))]


def _moments(repeat: Mapping[str, Any], style: Style) -> Iterator[str]:
    for day in entries(repeat.get("dayOfWeek"), KIND):
        yield word_of(day, DAYS, style, KIND)
    moments = entries(repeat.get("when"), KIND)
    offset = repeat.get("offset")
    if offset is not None and not moments:
        refuse(KIND)
    for moment in moments:
        words = word_of(moment, MOMENTS, style, KIND)
        if offset and moment not in _BEFORE_OR_AFTER:
            refuse(KIND)
        before = time_text(offset, None, "min", style, KIND) if offset else ""
        yield f"{before}{NO_BREAK_SPACE}{words}" if before else words
    for time in entries(repeat.get("timeOfDay"), KIND):
        if not isinstance(time, str):
            refuse(KIND)
        short = _TIME_OF_DAY.fullmatch(time)
        if short is None and not re.fullmatch(r"\d{2}:\d{2}:\d{2}", time):
            refuse(KIND)
        yield isolate_ltr(digits(short.group(1) if short else time, style.numerals))


def _bounds(repeat: Mapping[str, Any], style: Style) -> Iterator[str]:
    bounds = [name for name in ("boundsDuration", "boundsRange", "boundsPeriod") if repeat.get(name) is not None]
    if len(bounds) > 1:
        refuse(KIND)
    for name in bounds:
        if name == "boundsDuration":
            yield said(style, "dosageFor", n=duration_text(repeat[name], style, KIND))
        elif name == "boundsRange":
            yield said(style, "dosageFor", n=dose_range_text(repeat[name], style))
        else:
            period = structure(repeat[name], ("start", "end"), KIND)
            if ends_before(period, style):
                refuse(KIND)
            for side, key in (("start", "dosageFrom"), ("end", "dosageUntil")):
                if period.get(side) is not None:
                    yield said(style, key, n=date_time_text(period[side], style))
    if repeat.get("count") is not None:
        yield said(style, "dosageDosesInAll", n=span_text(repeat["count"], repeat.get("countMax"), style))
    elif repeat.get("countMax") is not None:
        refuse(KIND)
