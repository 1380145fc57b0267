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

from document_service.formatting.said_amounts import PIECE, PIECES, Claim, amounts, ends, totals, without_totals
from document_service.formatting.said_rhythms import SCHEDULE, durations, moments, rates

# Native digits of both kinds, the Arabic separators, and spaces that do not break.
_LATIN = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩٫٬µ\u00a0\u202f", "01234567890123456789.,μ  ")
_WORDS = {
    "½": "0.5", "half": "0.5", "نیم": "0.5",
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "twelve": "12", "fourteen": "14", "twenty": "20", "thirty": "30",
    "once": "1 times", "twice": "2 times", "thrice": "3 times",
    "یک": "1", "دو": "2", "سه": "3", "چهار": "4", "پنج": "5", "شش": "6", "هفت": "7", "هشت": "8",
    "دوازده": "12", "چهارده": "14",
    "یو": "1", "یوه": "1", "دوه": "2", "درې": "3", "څلور": "4", "پنځه": "5", "شپږ": "6", "اووه": "7", "اته": "8",
    "لس": "10", "دولس": "12", "څوارلس": "14",
}  # fmt: skip
# A word that a joiner binds to the next one is part of it: "یک‌شنبه" is Sunday and "1 شنبه" is nothing.
_NUMBER_WORD = re.compile(rf"(?<![\w\u200c])(?:{'|'.join(map(re.escape, _WORDS))})(?![\w\u200c])")
_SPELLINGS = (
    (re.compile(r"قاشق\s*چای[\u200c ]?خوری|قاشق\s*چای"), "teaspoon"),
    (re.compile(r"for an? (day|week|month)(?!\w)"), r"for 1 \1"),
    (re.compile(r"(?<=\d)[ ](?=\d{3}(?:\s*(?:units?|iu|u))(?!\w))"), ""),
    (re.compile(r"(?<=\d),(?=\d{3},\d{3})"), ""),
)

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
_REGULARLY = re.compile(
    r"(?<!\w)(?:(?:not|never)\s+(?:to be taken |taken )?(?:prn|p\.r\.n\.?|as needed|as required|when needed)"
    r"|regularly|منظم)(?!\w)"
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a text or the codes of a dosage say, as far as it can be compared; what is empty is not said.

    ``amounts`` and ``totals`` (of a day) by the name of their unit, ``rates`` in times of 24 hours, ``days`` how long,
    ``moments`` how many moments of a day, ``routes`` the ways of giving, ``regularly`` whether it says so (None where
    not said).
    """

    amounts: Mapping[str, Sequence[Claim]] = field(default_factory=dict)
    totals: Mapping[str, Sequence[Claim]] = field(default_factory=dict)
    rates: Sequence[Claim] = ()
    days: Sequence[Claim] = ()
    moments: int = 0
    routes: frozenset[str] = frozenset()
    regularly: bool | None = None


def plain(text: str) -> str:
    """``text`` in small letters with its numbers in Latin digits."""
    spelt = _NUMBER_WORD.sub(lambda found: _WORDS[found.group()], text.casefold().translate(_LATIN))
    for pattern, word in _SPELLINGS:
        spelt = pattern.sub(word, spelt)
    return spelt


def said(text: str) -> Said:
    """What free words say."""
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
    often = [*rates(without_totals(words))]
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
        regularly=True if _REGULARLY.search(words) else None,
    )


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
    if _differ(words.rates, known.rates) or _differ(words.days, known.days):
        return True
    if words.moments and known.rates:
        count = Fraction(words.moments)
        # "In the morning" of a dose of a week says when on its day.
        if all(low >= 1 for claim in known.rates for low, _ in claim) and _differ([((count, count),)], known.rates):
            return True
    if words.routes and known.routes and words.routes.isdisjoint(known.routes):
        return True
    return bool(words.regularly) and known.regularly is False


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
