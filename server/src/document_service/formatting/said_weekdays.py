"""On which days of the week free words say that something is taken.

"Start on Monday" and "until Friday" bound a course, "except Friday" denies and "clinic on Monday" is a visit: none of
them is a day of taking.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_FULL = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
_SHORT = r"(?:mon|tues?|wed|thu|thurs?|fri|sat|sun)(?!\w)\.?"
_DAY = rf"(?:{_FULL}(?!\w)|{_SHORT})"
_JOINED = r"\s*(?:(?:,|،|;)?\s*(?:and|or|&|\+|/|,|،|-|–|to|through|thru|until|till|او|و|یا|تا|تر)|(?:,|،))\s*"
_LEADING = r"(?:(?:on|every|each|هر|هره)\s+)"
# A short name alone is too little to go by: "sat", "sun" and "wed" are words. Bounded: a week has seven days.
_GROUP = re.compile(
    rf"(?<![\w.])({_LEADING})?({_DAY}(?:{_JOINED}(?:{_LEADING}|د\s+)?{_DAY}){{0,13}})(?!\w)"
    r"(?!\s*(?:of|in)\s+(?:the|each|every)\s+month)"
)
_ONE = re.compile(_DAY)
_SPAN = re.compile(r"\s*(?:-|–|to|through|thru|until|till|تا|تر)\s*$")
# What makes a day one on which a course begins or ends, or on which nothing is taken.
_NO_TAKING = re.compile(
    r"(?<!\w)(?:start\w*|begin\w*|commenc\w*|since|until|till|by|next(?:\s+\w+)?|last|this|after|before|due|not|never|except"
    r"|skip|omit|avoid|no|other than|but|شروع|بعد از|پس از|قبل از|تا|پیش از|بدون|به جز|بجز|غیر از|تر|پرته)"
    r"\s*:?\s*(?:(?:on|the|a|of|for|روز|د)\s+)?$"
)
# The companion of a weekly medicine has a day of its own, and its words stand on the medicine's line.
_ANOTHER_MEDICINE = re.compile(r"(?<!\w)fol(?:ic acid|ate)(?!\w)[^.;\n]{0,24}$")
# "From Monday" is a beginning, and "from Monday to Friday" a span of days.
_FROM = re.compile(r"(?<!\w)(?:from|از|له)\s+(?:د\s+)?$")


def weekday_groups(text: str) -> Iterator[tuple[int, frozenset[str]]]:
    """Where ``text`` (``said_spellings.plain``) names days of taking and which they are, spans of days written out."""
    for group in _GROUP.finditer(text):
        names = [*_ONE.finditer(group.group(2))]
        if len(names) == 1 and not group.group(1) and not re.fullmatch(_FULL, names[0].group()):
            continue
        before = text[max(0, group.start() - 40) : group.start()]
        if _NO_TAKING.search(before) or _ANOTHER_MEDICINE.search(before):
            continue
        if len(names) > 1 or not _FROM.search(before):
            yield group.start(), _days(group.group(2), names)


def _days(text: str, names: list[re.Match[str]]) -> frozenset[str]:
    days = [WEEK.index(name.group()[:3]) for name in names]
    between = [text[one.end() : other.start()] for one, other in itertools.pairwise(names)]
    named = {WEEK[day] for day in days}
    # "Mon-Wed-Fri" is a list and "Mon-Fri" a span.
    if not (len(between) > 1 and all(joint.strip() in ("-", "–") for joint in between)):
        for joint, first, last in zip(between, days, days[1:], strict=False):
            if _SPAN.match(joint):
                named |= {WEEK[(first + step) % 7] for step in range((last - first) % 7 + 1)}
    return frozenset(named)
