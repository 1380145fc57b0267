"""Gregorian days as Solar Hijri days, the civil calendar of Afghanistan.

The arithmetic follows the astronomers' table of break years (K. M. Borkowski, "The Persian calendar for 3000 years",
Earth, Moon and Planets 74, 1996), which agrees with the official calendar for every year of a living patient.
The 2820-year cycle and the plain 33-year rule both err by a day near leap years of this century, so neither is used.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

# Years (Solar Hijri) at which the pattern of leap years jumps; Borkowski's table, valid for -61…3177.
_BREAKS = (-61, 9, 38, 199, 426, 686, 756, 818, 1111, 1181, 1210, 1635, 2060, 2097, 2192, 2262, 2324, 2394, 2456, 3178)
# The Gregorian year in which Solar Hijri year 1 began.
_EPOCH_OFFSET = 621


class SolarHijriDay(NamedTuple):
    """A day of the Solar Hijri calendar; month 1 is Hamal/Wray, which begins at the March equinox."""

    year: int
    month: int
    day: int


def _march_day_of_new_year(year: int) -> int:
    """The day of March (Gregorian) on which the Solar Hijri ``year`` begins."""
    leap_days = -14
    previous = _BREAKS[0]
    jump = 0
    for current in _BREAKS[1:]:
        jump = current - previous
        if year < current:
            break
        leap_days += jump // 33 * 8 + jump % 33 // 4
        previous = current
    elapsed = year - previous
    leap_days += elapsed // 33 * 8 + (elapsed % 33 + 3) // 4
    if jump % 33 == 4 and jump - elapsed == 4:
        leap_days += 1
    gregorian = year + _EPOCH_OFFSET
    gregorian_leap_days = gregorian // 4 - (gregorian // 100 + 1) * 3 // 4 - 150
    return 20 + leap_days - gregorian_leap_days


def solar_hijri(day: date) -> SolarHijriDay:
    """The Solar Hijri day that is ``day``; raises ValueError before 622-03-22, where the calendar begins."""
    year = day.year - _EPOCH_OFFSET
    if day < date(622, 3, 22):
        raise ValueError("the Solar Hijri calendar begins in 622")
    new_year = date(day.year, 3, _march_day_of_new_year(year))
    if day < new_year:
        year -= 1
        new_year = date(day.year - 1, 3, _march_day_of_new_year(year))
    elapsed = (day - new_year).days
    # Six months of 31 days, then months of 30; the last has 29 in a common year.
    if elapsed < 186:
        return SolarHijriDay(year, elapsed // 31 + 1, elapsed % 31 + 1)
    elapsed -= 186
    return SolarHijriDay(year, elapsed // 30 + 7, elapsed % 30 + 1)
