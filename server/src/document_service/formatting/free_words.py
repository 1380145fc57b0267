"""What the free words of a dosage say, and whether it is another thing than its codes or other words say.

Both are printed, and a page that says "1 tablet" and "2 tablets" of one medicine is worse than none: somebody takes one
of them for the dose. Compared are amounts, rhythms, durations, ways of giving, and whether it is taken regularly; in
English, Dari and Pashto. What a text does not say, or says in no words that are known here, is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from document_service.formatting.said_amounts import (
    PIECE,
    PIECES,
    Claim,
    amounts,
    by_weight,
    ends,
    totals,
    without_totals,
)
from document_service.formatting.said_rhythms import ONLY_ONCE, SCHEDULE, durations, moments, rates, weekdays
from document_service.formatting.said_sides import sides
from document_service.formatting.said_spellings import plain

#: Ways of giving by the keys of ``dosage_words.ROUTES``.
_ROUTES = {
    "dosageByMouth": r"p\.?o\.?|per os|by mouth|orally|oral route|از راه دهن|د خولې له لارې|خوراکی",
    "dosageIntoMuscle": r"i\.?m\.?|intra[- ]?muscular(?:ly)?|into (?:the |a )?muscle|(?:زرق )?عضلی|عضلي",
    "dosageIntoVein": r"i\.?v\.?|intra[- ]?venous(?:ly)?|into (?:the |a )?vein|وریدی|از راه ورید|د ورید له لارې",
    "dosageUnderSkin": r"s\.?c\.?|s\.?q\.?|sub[- ]?cut(?:aneous(?:ly)?)?|under the skin|زیر ?جلدی|تر پوستکي لاندې",
    "dosageRectal": r"p\.?r\.?|per rectum|rectally|into the rectum|از راه مقعد|د مقعد له لارې",
    "dosageUnderTongue": r"s\.?l\.?|sub[- ]?lingual(?:ly)?|under the tongue|زیر زبان|تر ژبې لاندې",
    "dosageVaginal": r"p\.?v\.?|vaginally|into the vagina|per vagina\w*",
}
_ROUTE = {key: re.compile(rf"(?<![\w.])(?:{words})(?![\w])") for key, words in _ROUTES.items()}
_DENIED_ROUTE = re.compile(r"(?:(?<!\w)(?:not|never|no)|n't|n’t)\s+(?:\w+\s+){0,2}$")
_REGULARLY = re.compile(r"(?<!\w)(?:regularly|منظم)(?!\w)")
_NOT_WHEN_NEEDED = re.compile(
    r"(?<!\w)(?:not|never)\s+(?:to be taken |taken )?(?:prn|p\.r\.n\.?|as needed|as required|when needed)(?!\w)"
)
# "غیر منظم" and "not regularly" say that it is not; so does "منظم نه".
_IRREGULARLY = re.compile(
    r"(?<!\w)(?:(?:not|never|n't|n’t|without|instead of|rather than)\s+(?:\w+\s+){0,3}|غیر[\u200c ]?|بې |نه )"
    r"(?:regularly|منظم)(?!\w)|n[’']t\s+(?:\w+\s+){0,3}regularly(?!\w)|(?<!\w)منظم\s+نه(?!\w)"
)
_WHEN_NEEDED = re.compile(
    r"(?<!\w)(?:prn|p\.r\.n\.?|pro re nata|s\.?o\.?s\.?|si opus sit"
    r"|(?:only )?(?:as|if|when|where) (?:needed|required|necessary)"
    r"|(?:در صورت|وقت|هنگام) (?:ضرورت|نیاز)|د (?:اړتیا|ضرورت) (?:پر|په) وخت)(?!\w)"
)
# What is done as needed and is not taking: a dose is adjusted, a supply renewed.
_NOT_TAKEN = re.compile(r"(?<!\w)(?:adjust\w*|repeat\w*|refill\w*|renew\w*|increas\w*|titrat\w*)(?!\w)[^.;،\n]*$")


@dataclass(frozen=True, slots=True)
class Said:
    """What a text or the codes of a dosage say, as far as it can be compared; what is empty is not said.

    ``amounts`` and ``totals`` (of a day) by the name of their unit, ``rates`` in times of 24 hours, ``days`` how long,
    ``moments`` how many moments of a day, ``routes`` the ways of giving, ``regularly`` whether it is (False: when it is
    needed, None where not said), ``weekdays`` the days of a week on which it is taken, ``sides`` of which eye or ear,
    ``by_weight`` what so much for each kilogram comes to, as ``said_amounts.by_weight`` says it.
    """

    amounts: Mapping[str, Sequence[Claim]] = field(default_factory=dict)
    totals: Mapping[str, Sequence[Claim]] = field(default_factory=dict)
    rates: Sequence[Claim] = ()
    days: Sequence[Claim] = ()
    moments: int = 0
    routes: frozenset[str] = frozenset()
    regularly: bool | None = None
    weekdays: frozenset[str] = frozenset()
    sides: frozenset[str] = frozenset()
    by_weight: Sequence[tuple[str, bool, Fraction, Fraction]] = ()


def said(text: str, *, eye: bool = False) -> Said:
    """What free words say; ``eye`` where the codes say that an eye is treated, whose OD is the right one."""
    words = plain(text)
    named: dict[str, list[Claim]] = {}
    # "1-0-1" is no span of numbers.
    for unit, claim in amounts(SCHEDULE.sub(" ", words)):
        named.setdefault(unit, []).append(claim)
    for schedule in SCHEDULE.finditer(words):
        parts = [ends(part.strip(), None) for part in re.split("[-+–]", schedule.group())]
        named.setdefault(PIECE, []).extend((part,) for part in parts if part[0])
    whole: dict[str, list[Claim]] = {}
    for unit, claim in totals(words):
        whole.setdefault(unit, []).append(claim)
    often = [*rates(without_totals(words), eye=eye)]
    return Said(
        amounts=named,
        totals=whole,
        rates=often,
        days=[*durations(words)],
        moments=0 if often or whole else moments(words),
        routes=frozenset(
            key
            for key, words_of in _ROUTE.items()
            if any(not _DENIED_ROUTE.search(words[: one.start()][-40:]) for one in words_of.finditer(words))
        ),
        regularly=_regularly(words),
        weekdays=weekdays(words),
        sides=sides(words),
        by_weight=[*by_weight(words)],
    )


def _regularly(words: str) -> bool | None:
    """Whether ``words`` ask for it regularly (True) or when it is needed (False); None for neither and for both."""
    rest, denied = _NOT_WHEN_NEEDED.subn(" ", words)
    rest, irregularly = _IRREGULARLY.subn(" ", rest)
    regularly = bool(denied or _REGULARLY.search(rest))
    needed = bool(irregularly) or any(
        not _NOT_TAKEN.search(rest[max(0, one.start() - 60) : one.start()]) for one in _WHEN_NEEDED.finditer(rest)
    )
    return None if regularly == needed else regularly


def contradicts(words: Said, known: Said) -> bool:
    """Whether ``words`` say of anything that both say another thing than ``known``."""
    counted = [claim for name in (*PIECES, PIECE) for claim in known.amounts.get(name, ())]
    for unit, claims in words.amounts.items():
        beside = [*known.amounts.get(unit, ()), *(known.amounts.get(PIECE, ()) if unit in PIECES else ())]
        if _differ(claims, counted if unit == PIECE else beside):
            return True
    for unit, claims in words.totals.items():
        given = counted if unit == PIECE else known.amounts.get(unit, ())
        if _differ(claims, _of_a_day(given, known.rates) if known.rates else given):
            return True
    if words.totals and known.rates and all(high < 1 for claim in known.rates for _, high in claim):
        # So much a day, in whatever unit, is nothing that is given once a week.
        return True
    if _far_by_weight(words, known) or _other_days(words, known):
        return True
    if _differ(words.rates, known.rates or _by_weekdays(known)) or _differ(words.days, known.days):
        return True
    if words.moments and known.rates:
        count = Fraction(words.moments)
        # "In the morning" of a dose of a week says when on its day.
        if all(low >= 1 for claim in known.rates for low, _ in claim) and _differ([((count, count),)], known.rates):
            return True
    if words.routes and known.routes and words.routes.isdisjoint(known.routes):
        return True
    if words.sides and known.sides and words.sides != known.sides:
        return True
    return None not in (words.regularly, known.regularly) and words.regularly != known.regularly


def _by_weekdays(spoken: Said) -> list[Claim]:
    """How often a week with these days asks for it: once on each, or as often as the words beside them say."""
    if not 0 < len(spoken.weekdays) < 7:
        return []
    share = Fraction(len(spoken.weekdays), 7)
    times = [one for claim in spoken.rates for one in claim if one[0] >= 1]
    return [((share, share), *((low * share, high * share) for low, high in times))]


def _other_days(words: Said, known: Said) -> bool:
    """Whether the days of the week are others, or too many or few for the rhythm that is known."""
    if not words.weekdays:
        return False
    if known.weekdays:
        return words.weekdays != known.weekdays
    seldom = any(high < Fraction(1, 7) for claim in words.rates for _, high in claim)
    single = all(high == ONLY_ONCE for claim in known.rates for _, high in claim) and len(words.weekdays) == 1
    # "Every second Monday" was compared by its rhythm, and a single dose may have its day.
    return not seldom and not single and _differ(_by_weekdays(words), known.rates)


def _far_by_weight(words: Said, known: Said) -> bool:
    """Whether a dose lies outside of what its amount by weight comes to."""
    for unit, whole_day, least, most in words.by_weight:
        given = known.amounts.get(unit, ())
        if whole_day and not known.rates:
            continue
        claims = _of_a_day(given, known.rates) if whole_day else given
        if claims and all(high < least or low > most for claim in claims for low, high in claim):
            return True
    return False


def _differ(claims: Sequence[Claim], known: Sequence[Claim]) -> bool:
    """Whether one of ``claims`` is, whatever it means, inside none of ``known``; beside nothing known, none is."""
    ranges = [one for claim in known for one in claim]
    return bool(ranges) and any(
        not any(least >= low and most <= high for least, most in claim for low, high in ranges) for claim in claims
    )


def _of_a_day(given: Sequence[Claim], often: Sequence[Claim]) -> list[Claim]:
    """The amounts of whole days; of one dose only (``ONLY_ONCE``, which is 0) it is the dose."""
    return [
        ((low * (least or 1), high * (most or 1)),)
        for claim in given
        for low, high in claim
        for rate in often
        for least, most in rate
    ]
