"""How often and for how long free words say that something is given: in times of 24 hours, and in days."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from document_service.formatting.said_amounts import NOT_A_DOSE, NUMBER, Claim, ends, parts_of_day
from document_service.formatting.said_weekdays import weekday_groups

#: A dose that is given one time only has no rhythm.
ONLY_ONCE = Fraction(0)
#: What a month and a year are taken for in a rhythm; the same number stands for the codes.
MONTH, YEAR = 30, 365
#: The days that "a month" may have as a duration.
MONTH_DAYS = (28, 31)

_EACH = r"(?:a|per|each|every|/|in a|in each|in)?\s*"
_TIMES = r"(?:times?|x|×|بار|مرتبه|دفعه|وقت|ځله|ځل|وار)(?!\w)"
_EVERY = r"(?:every|each|هر|هره|هرو)"
_UNITS_OF_TIME = (
    (Fraction(1), r"(?:days?|daily|24\s*h(?:ours|rs)?|روز|ورځ|ورځې|ورځو)", "روزانه|روزی|روز|په ورځ کې|ورځ کې|ورځې"),
    (Fraction(7), r"(?:weeks?|weekly|wk|هفته|اونۍ|اونیو)", "هفته[\u200c ]?وار|هفته|په اونۍ کې|اونۍ کې"),
    (Fraction(MONTH), r"(?:months?|monthly|ماه|میاشت|میاشتې|میاشتو)", "ماهانه|ماهوار|ماه|په میاشت کې|میاشت کې"),
)
_HOURS = r"(?:hours?|hrs?|h|ساعت|ساعته|ساعتونو)"
_DAY_NAMES = "|".join(f"{day}day" for day in ("satur", "sun", "mon", "tues", "wednes", "thurs", "fri"))

_Read = Callable[["re.Match[str]"], Claim]


def _times_in(days: Fraction) -> _Read:
    def read(found: re.Match[str]) -> Claim:
        low, high = ends(found.group(1), found.group(2))
        return ((low / days, high / days),)

    return read


def _times_unsaid(found: re.Match[str]) -> Claim:
    low, high = ends(found.group(1), found.group(2))
    return ((low, high),) if high > 1 else ()


def _once_in(days: Fraction) -> _Read:
    def read(found: re.Match[str]) -> Claim:
        low, high = ends(found.group(1), found.group(2))
        return ((1 / (high * days), 1 / (low * days)),) if low > 0 and high > 0 else ()

    return read


def _always(rate: Fraction) -> _Read:
    return lambda _found: ((rate, rate),)


def _schedule(found: re.Match[str]) -> Claim:
    """1-0-1: as many times a day as there are parts that are not nothing."""
    often = Fraction(sum(part.strip() != "0" for part in re.split("[-+–]", found.group())))
    return ((often, often),) if often else ()


def _words(pattern: str) -> str:
    return rf"(?<![\w.])(?:{pattern})(?!\w)"


# "Bis in die", "bis die" and, as people write it, "bis daily".
_IN_DIE = r"(?:in )?(?:die[ms]?|daily)(?:\s+sumend\w+)?"
#: "1-0-1" and "1+1+1": how many pieces in the morning, at noon, in the evening and, with four, at night.
SCHEDULE = re.compile(r"(?<![\w.,/+–-])\d(?:\.\d)?(?:\s?[+–-]\s?\d(?:\.\d)?){2,3}(?![\w/+–-])")
# The order matters: what one pattern has read the next does not see, so "twice daily" is no "daily".
_RATES: tuple[tuple[re.Pattern[str], _Read], ...] = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (SCHEDULE.pattern, _schedule),
        (
            _words(
                r"(?:every|each)\s*(?:other|second|2nd)\s*(?:day|night|morning)"
                r"|(?:on )?alternate[\s-]*(?:days?|nights?)"
                r"|alt\.? days?|q\.?o\.?d\.?|e\.?o\.?d\.?|(?:یک|1)?\s*روز در میان|هره دویمه ورځ|هره 2مه ورځ"
            ),
            _always(Fraction(1, 2)),
        ),
        (_words(r"(?:every|each)\s*(?:third|3rd)\s*day"), _always(Fraction(1, 3))),
        (
            _words(rf"(?:every|each)\s*(?:other|second|2nd|alternate)\s*(?:week|(?:{_DAY_NAMES}))s?"),
            _always(Fraction(1, 14)),
        ),
        (_words(r"alternis diebus|alterno die"), _always(Fraction(1, 2))),
        *((rf"{NUMBER}\s*{_TIMES}\s*{_EACH}{unit}(?!\w)", _times_in(days)) for days, unit, _ in _UNITS_OF_TIME),
        *((rf"(?<!\w)(?:{word})\s*{NUMBER}\s*{_TIMES}", _times_in(days)) for days, _, word in _UNITS_OF_TIME),
        *((rf"{NUMBER}\s*{_TIMES}\s*(?:در|فی|په)\s*{unit}(?!\w)", _times_in(days)) for days, unit, _ in _UNITS_OF_TIME),
        (rf"{NUMBER}\s*days?\s*(?:a|per|each|every|/)\s*week", _times_in(Fraction(7))),
        (rf"{_EVERY}\s*{NUMBER}\s*{_HOURS}(?!\w)", _once_in(Fraction(1, 24))),
        (rf"{NUMBER}[\s-]*hou?rly(?!\w)", _once_in(Fraction(1, 24))),
        (rf"(?<!\w)q\.?\s*{NUMBER}\s*\.?\s*(?:h|hrs?|hours?|°)(?!\w)", _once_in(Fraction(1, 24))),
        *((rf"{_EVERY}\s*{NUMBER}\s*{unit}(?!\w)", _once_in(days)) for days, unit, _ in _UNITS_OF_TIME),
        (_words(r"hou?rly|(?:every|each) hour|هر ساعت"), _always(Fraction(24))),
        (_words(r"fortnightly|every fortnight|every two weeks"), _always(Fraction(1, 14))),
        # Lengths of time, which are no rhythms.
        (_words(r"(?:for|in|after|within|of|first|next|about|over)\s+(?:a|the)\s+(?:day|week|month)"), lambda _: ()),
        (
            _words(r"weekly|(?:a|per|each|every|/)\s*(?:week|wk)|هفته[\u200c ]?وار|(?:هر|در|فی) هفته|اونیز|هره اونۍ"),
            _always(Fraction(1, 7)),
        ),
        (r"/\s*(?:week|wk)(?!\w)", _always(Fraction(1, 7))),
        # "هفته یک تابلیت": one tablet a week.
        (rf"(?<!\w)(?:هفته|اونۍ کې)\s*(?={NUMBER}\s*(?!{_TIMES}))", _always(Fraction(1, 7))),
        (
            _words(r"monthly|(?:a|per|each|every|/)\s*month|ماهانه|ماهوار|(?:هر|در) ماه|هره میاشت"),
            _always(Fraction(1, MONTH)),
        ),
        (_words(r"yearly|annually|(?:a|per|every|each)\s*year"), _always(Fraction(1, YEAR))),
        (_words(rf"q\.?i\.?d\.?|q\.?d\.?s\.?|quater {_IN_DIE}"), _always(Fraction(4))),
        (_words(rf"t\.?i\.?d\.?|t\.?d\.?s\.?|ter {_IN_DIE}"), _always(Fraction(3))),
        (_words(rf"b\.?i\.?d\.?|b\.?d\.?s?\.?|bis {_IN_DIE}"), _always(Fraction(2))),
        (_words(r"mane\s*(?:and|&|et|\+)\s*nocte|(?:every|each) morning and (?:evening|night)"), _always(Fraction(2))),
        (
            _words(
                r"stat\.?(?!\s*(?:,|;)?\s*(?:then|and|followed|بعد|بیا))|1\s*times\s*only|only\s*1\s*times"
                r"|(?:1|single|a single)\s*dose(?:\s*only)?|(?:فقط|تنها|صرف)\s*(?:1|یک)\s*بار|یوازې\s*1\s*ځل"
            ),
            _always(ONLY_ONCE),
        ),
        (
            _words(
                r"daily(?!\s*(?:dose|limit|total|max\w*|activit\w*|life))|o\.?d\.?|q\.?d\.?|mane|nocte|q\.?h\.?s\.?|q\.?[ap]\.?m\.?"
                rf"|(?:semel|quaque) {_IN_DIE}|(?:omni|quaque) (?:die|mane|nocte|vespere)|quotidie|cotidie"
                r"|(?:every|each|a|per)\s*(?:day|night|morning|evening)"
                r"|روزانه(?!\s*(?:نه\s*)?(?:بیشتر|حد ?اکثر))|ورځنی|(?:هر|در|فی)\s*(?:روز|شب|صبح)"
                r"|هره\s*(?:ورځ|شپه)"
            ),
            _always(Fraction(1)),
        ),
        # "Twice" of nothing that is said is twice a day; "once" alone is too little to go by.
        (rf"{NUMBER}\s*times(?!\s*(?:the|as|more|normal|only|\d))(?!\w)", _times_unsaid),
    )
)
#: A rhythm that is denied ("weekly, not daily"), and one of something else than taking ("check INR weekly").
_DENIED = re.compile(r"(?:(?<!\w)(?:not|never|instead of|rather than)|n't|n’t)\s+(?:\w+\s+){0,3}$")
_OTHER_ACTS = (
    r"(?:check\w*|tests?|testing|monitor\w*|measure\w*|record\w*|weigh\w*|review\w*|visits?|return\w*|clean\w*"
    r"|chang\w+|wash\w*|blood (?:pressure|sugar|count|glucose|tests?)|inr|ecg|follow[- ]?up|come back|walk\w*"
    r"|exercis\w*|clinic|appointment|dressings?|معاینه|کنترول|بازدید|لیدنه)"
)
_DRINK = r"drink\w*\s+(?:plenty|lots?|much|more|enough|at least|about|[\d.]+|a |fluids?|water|tea|juice|milk)"
# What makes it the medicine again: "check INR and take 1 tablet twice daily", "drink twice daily" after "dissolve".
_TAKING = (
    r"(?:tak(?:e|en|ing)|giv(?:e|en|ing)|us(?:e|ed|ing)|apply|applied|inject\w*|inhal\w*|swallow\w*|instil\w*|insert\w*"
    r"|continue\w*|بگیرید|بخورید|وخورئ|واخلئ)(?!\w)"
    r"|\d\s*(?:mg|mcg|g|ml|units?|iu|tab(?:let)?s?|cap(?:sule)?s?|drops?|puffs?)(?!\w)"
)
_NO_TAKING = re.compile(
    rf"(?<!\w)(?:{_OTHER_ACTS}|{_DRINK}|(?:plenty|lots?) of (?:water|fluids?))(?!\w)"
    rf"(?:(?!(?<!\w){_TAKING})[^.;:,،\n])*$"
    # "Titrate up by 5 mg each week" changes the dose and is none.
    r"|(?<!\w)(?:titrat|increas|decreas|reduc|taper)\w*(?:\s+\w+){0,3}\s+by\s[^.;,،\n]*$"
)
# "Weekly INR": the act stands behind its rhythm.
_ACT_FOLLOWS = re.compile(rf"\s*(?:(?:the|your|a|of)\s+)?(?:{_OTHER_ACTS})(?!\w)")
_OR = re.compile(r"(?<!\w)(?:or|یا)(?!\w)")
_EYE = re.compile(r"(?<!\w)(?:eye|drop|gtts?(?!\w)|ophth|ocul|conjunctiv|قطره|چشم|سترګ|څاڅک)")
# Moments of a day; each is said once, however often it is written.
_MOMENTS = tuple(
    re.compile(_words(words))
    for words in (
        r"(?:in the |at )?morning|صبح|سهار",
        r"(?:at )?(?:noon|midday)|چاشت|غرمه|غرمې",
        r"(?:in the )?evening|شام|ماښام",
        r"at night|(?:at )?bedtime|h\.?s\.?(?!-)|hora somni|شب|شپه|شپې|(?:وقت|هنگام) خواب|د خوب پر وخت",
    )
)
_DURATION = re.compile(
    rf"{NUMBER}\s*-?\s*(?:(days?|d|روز|ورځ|ورځې|ورځو)|(weeks?|wks?|هفته|اونۍ|اونیو)|(months?|ماه|میاشت|میاشتې|میاشتو))"
    r"(?!\w)(?!\s*(?:a|per|each|every|/|در میان|بعد|پس|وروسته|before|after"
    r"|later|old|apart|breaks?|off|rest|free|pause)(?!\w))"
)
#: "7/7", "2/52" and "3/12": days, weeks and months of the shorthand of clinics.
_SHORTHAND = re.compile(r"(?:(?:for|x|×)\s*|(?<![\w/.])(?=\d+/(?:7|52)))(\d{1,2})/(7|52|12)(?![\d/])")
_NO_DURATION = re.compile(
    r"(?:every|each|in|within|after|before|first|next|last|past|than|until|day|هر|هره|بعد از|پس از|در|per|/|q)\s*$"
    r"|(?<!\w)(?:if|avoid|without|return|review|see|come|persist\w*|lasts?|drive|alcohol|اگر|که)(?!\w)[^.;,،\n]*$"
)


def _own(text: str, found: re.Match[str]) -> bool:
    return _taken(text, found.start()) and _ACT_FOLLOWS.match(text, found.end()) is None


def _taken(text: str, at: int) -> bool:
    """Whether what stands in ``text`` at this place is about the dose, as far as the words before it tell."""
    before = text[max(0, at - 60) : at]
    return not (NOT_A_DOSE.search(before[-40:]) or _DENIED.search(before) or _NO_TAKING.search(before))


def weekdays(text: str) -> frozenset[str]:
    """The days of the week on which ``text`` (``said_spellings.plain``) says that it is taken; empty for none."""
    return frozenset().union(*(days for at, days in weekday_groups(text) if _taken(text, at)))


def rates(text: str, *, eye: bool = False) -> Iterator[Claim]:
    """Each rhythm that ``text`` (``said_spellings.plain``) says, in times of 24 hours; one dose only is ``ONLY_ONCE``.

    ``eye`` where an eye is treated for another reason than these words: "OD" is then the right one.
    """
    rest, parts = parts_of_day(text)
    for often in parts:
        yield ((often, often),)
    if eye or _EYE.search(text):
        # "OD" of an eye is the right one.
        rest = re.sub(r"(?<![\w.])o\.?d\.?(?!\w)", lambda one: " " * len(one.group()), rest)
    named = weekdays(text)
    for pattern, read in _RATES:
        matches = [*pattern.finditer(rest)]
        rest = pattern.sub(lambda one: " " * len(one.group()), rest)
        for found in matches:
            claim = read(found)
            if claim and _own(text, found):
                # "on Monday and Thursday" is read as weekly by its first day.
                several = claim == ((Fraction(1, 7),) * 2,) and len(named) > 1
                claim = ((Fraction(len(named), 7),) * 2,) if several else claim
                # "Every day, morning and evening" is twice a day.
                yield _on_moments(text) if claim == ((Fraction(1),) * 2,) else claim


def _on_moments(text: str) -> Claim:
    """What "daily" means beside the moments of a day that ``text`` names: once, or at each of several."""
    count = Fraction(max(moments(text), 1))
    return ((Fraction(1),) * 2, (count,) * 2) if _OR.search(text) else ((count,) * 2,)


def moments(text: str) -> int:
    """How many different moments of a day ``text`` names; 0 for none."""
    return sum(any(_own(text, found) for found in moment.finditer(text)) for moment in _MOMENTS)


def durations(text: str) -> Iterator[Claim]:
    """Each length of time for which ``text`` says that something is taken, in days."""
    for found in _DURATION.finditer(text):
        before = text[max(0, found.start() - 60) : found.start()]
        if NOT_A_DOSE.search(before[-40:]) or _NO_DURATION.search(before) or _NO_TAKING.search(before):
            continue
        low, high = ends(found.group(1), found.group(2))
        yield _days(low, high, 1 if found.group(3) else 7 if found.group(4) else MONTH)
    for found in _SHORTHAND.finditer(text):
        count = Fraction(found.group(1))
        yield _days(count, count, {"7": 1, "52": 7, "12": MONTH}[found.group(2)])


def _days(low: Fraction, high: Fraction, unit: int) -> Claim:
    lengths = (unit,) if unit != MONTH else range(MONTH_DAYS[0], MONTH_DAYS[1] + 1)
    return tuple((low * length, high * length) for length in lengths)
