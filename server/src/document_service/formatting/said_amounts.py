"""The amounts that free words name: numbers before a unit, pieces of a strength, totals of a day.

"2 tablets of 500 mg", "two 500 mg tablets" and "2 x 500 mg" name a dose of 1000 mg; "2 tablets (1000 mg)" may name the
strength of one or of both. What is a limit, a supply, a strength ("125 mg/5 ml") or what a dose is taken with ("200 ml
of water") is not a dose. "15 mg/kg" and "125 mL/h" are amounts of a unit of their own; whole days are totals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from document_service.formatting.said_spellings import one_letter

#: What a text may mean, as ranges: it agrees where any of them does.
Claim = tuple[tuple[Fraction, Fraction], ...]

# What senders call the same thing, as name and factor; masses in micrograms and volumes in millilitres.
_UNITS: Mapping[str, tuple[str, int]] = {
    word: (name, factor)
    for name, factor, words in (
        ("mass", 1, "mcg mcgs ug ugs μg microgram micrograms microgramme microgrammes مایکروگرام"),
        ("mass", 1000, "mg mgs mgm milligram milligrams milligramme milligrammes ملی‌گرام ملیگرام"),
        ("mass", 1_000_000, "g gm gms gram grams gramme grammes گرام ګرام"),
        ("volume", 1, "ml mls millilitre millilitres milliliter milliliters cc ccs سی‌سی ملی‌لیتر ملیلیتر"),
        # The spoons of kitchens differ; those of medicines hold 5 and 15 mL.
        ("volume", 5, "tsp tsps teaspoon teaspoons teaspoonful teaspoonfuls [tsp_us] [tsp_m]"),
        ("volume", 10, "dessertspoon dessertspoons dessertspoonful dessertspoonfuls"),
        ("volume", 15, "tbs tbsp tbsps tablespoon tablespoons tablespoonful tablespoonfuls [tbs_us] [tbs_m]"),
        ("volume", 1000, "l litre litres liter liters"),
        ("unit", 1, "iu ius [iu] unit units u واحد یونت یونټ"),
        ("tablet", 1, "tablet tablets tab tabs {tbl} تابلیت تابلت ټابلېټ ټابلېټه ګولۍ گولی"),
        ("capsule", 1, "capsule capsules cap caps کپسول کپسوله"),
        ("drop", 1, "drop drops gtt [drp] قطره څاڅکي څاڅکی"),
        ("puff", 1, "puff puffs پف"),
        # "2 pills" counts what the codes call by another name.
        ("piece", 1, "pill pills"),
        ("sachet", 1, "sachet sachets"),
        ("vial", 1, "vial vials ویال"),
        ("ampoule", 1, "ampoule ampoules ampule ampules amp amps امپول"),
        ("spoon", 1, "spoon spoons spoonful spoonfuls قاشق کاشوغه"),
    )
    for word in words.split()
}
#: What is counted: a number without a unit ("take 2") counts one of these.
PIECES = ("tablet", "capsule", "drop", "puff")
# What a number before a strength counts; a teaspoon is no unit of its own.
_COUNTED = (*PIECES, "piece", "spoon", "sachet", "vial", "ampoule")
#: The name of a number of pieces whose kind is not said.
PIECE = "piece"

# Bounded: more digits than these are no dose, and a hostile text must not become a number of a million digits.
DIGITS = r"(?<![\d.,])(\d{1,9}(?:[.,]\d{1,6})?)(?![\d])"
NUMBER = rf"{DIGITS}(?:\s*(?:-|–|to|or|تا|یا)\s*{DIGITS})?"
_MANY = {"thousand": 1000, "هزار": 1000, "زره": 1000, "lakh": 100_000, "million": 1_000_000, "میلیون": 1_000_000}
#: What an amount may be counted by: the kilogram or square metre of a patient, an hour, a minute, a day, a dose.
_DENOMINATORS = {
    **dict.fromkeys(("kg", "kgs", "kilogram", "kilogramme"), "kg"),
    **dict.fromkeys(("m2", "m²"), "m2"),
    **dict.fromkeys(("h", "hr", "hrs", "hour"), "h"),
    **dict.fromkeys(("min", "minute"), "min"),
    **dict.fromkeys(("day", "d", "24h", "24hr", "24hrs", "24hours"), "day"),
    "dose": "",
}
_BY = rf"(?:{'|'.join(sorted(_DENOMINATORS, key=len, reverse=True))}|24\s*h(?:ou)?rs?|24\s*h)(?!\w)"
_PER = rf"(?:\s*(?:/|(?<!\w)per\s)\s*{_BY})"
_AMOUNT = re.compile(
    rf"{NUMBER}\s*-?\s*(?:({'|'.join(_MANY)})\s*)?([^\W\d_][^\W\d_\u200c]*(?:\u200c[^\W\d_]+)?)"
    rf"(?![^\W\d_])({_PER}*+)(?!\s*(?:/|per\s*\d|in\s*\d+(?:[.]\d+)?\s*m?l\b))"
)
#: Words shortly before a number that make it a limit, a supply or a strength.
NOT_A_DOSE = re.compile(
    r"(?:(?:max\w*|more than|exceed\w*|up to|at most|at least|minimum|total|disp\w*|supply|contain\w*|strength|حد ?اکثر"
    r"|بیشتر از|مجموع|زیات|ټول)[^.;،,]{0,15}"
    r"|(?:titrat|increas|decreas|reduc|taper)\w*(?:\s+\w+){0,3}\s+by\s+|(?:/|\bper)\s*)$"
)
_TAKEN_WITH = re.compile(r"\s*(?:of|in)?\s*(?:the\s*)?(?:water|milk|juice|saline|آب|اوبه|اوبو|شیر)")
_A_DAY = r"(?:a|per|each|every)?\s*(?:day|daily|24\s*h\w*)(?!\w)(?!\s*dose)"
#: What makes an amount that of a whole day, and the words of it that would make another one a supply.
_OF_A_DAY = re.compile(r"(?:total daily(?: dose)?|daily total|daily dose)(?:\s*(?:of|is|:|=))?\s*$")
_TOTAL_OF = re.compile(r"(?<!\w)(?:in )?total(?: (?:daily|dose|daily dose))?(?:\s*(?:of|is|:|=))?\s*$")
_DIVIDED = re.compile(rf"in\s*{DIGITS}\s*(?:divided|equal|separate)\s*(?:\w+\s*)?(?:doses|portions|parts)")
_TAKE = re.compile(
    rf"(?<!\w)(?:take|give|swallow|inhale|بگیرید|بخورید)\s*{NUMBER}(\s*{_A_DAY})?"
    r"(?=\s*(?:$|[.;,،]|(?:at|in|on|every|each|b\.?i\.?d|bd|t\.?i\.?d|tds|q\w+|od|mane|nocte|with|after|before|now|stat"
    r"|prn|as|when|if|for|by|\d+\s*(?:times|x)|daily|twice)(?!\w)))"
)

#: A weight, and words before one that make it a limit.
_WEIGHT = re.compile(rf"{DIGITS}\s*(?:kgs?|kilograms?|کیلوگرام|کیلو)(?!\w)(?!\s*/)")
_WEIGHT_LIMIT = re.compile(
    r"(?:[<>≤≥]|(?<!\w)(?:over|above|below|under|less than|more than|up to|until|from|if|per|every|each|to|-|–))"
    r"\s*\d[\d.,]*\s*(?:kg|kilo|کیلو)|\d\s*kg\s*(?:or|and) (?:over|above|below|under|more|less)|[-–]\s*\d+\s*kg"
)
_CAPPED = re.compile(r"(?<!\w)(?:max|cap|not more|no more|at most|exceed|up to|حد ?اکثر|بیشتر از)")
#: How far a dose may lie from its amount by weight: bands of doses and half tablets are within a quarter; a dose for
#: another weight or of a slipped decimal point is not.
ROUNDED = Fraction(1, 4)

#: A number of pieces directly before a strength: "2 tablets of", "2 x"; and a bare one, where the piece follows.
_PIECE_WORD = (
    r"(tab(?:let)?s?|cap(?:sule)?s?|pills?|sachets?|vials?|amp(?:oule|ule)?s?|(?:(?:tea|table|dessert)?spoon(?:ful)?s?)"
    r"|تابلیت|تابلت|ټابلېټ|ټابلېټه|ګولۍ|گولی|کپسول|کپسوله|قاشق)(?!\w)"
)
_PIECES_OF = re.compile(rf"{DIGITS}\s*(?:{_PIECE_WORD}\s*(?:of|x|×|à|از|د)?|[x×]|of)\s*(\()?\s*$")
_BARE_NUMBER = re.compile(rf"{DIGITS}\s*$")
_PIECE_FOLLOWS = re.compile(rf"\s*{_PIECE_WORD}")


def unit_amount(number: Decimal, unit: str) -> tuple[str, Fraction]:
    """The name of a unit that its spellings share, and ``number`` in the measure that they share.

    What it is counted by is part of the name: "mg/kg" and "mcg per kg" are ``mass/kg``, and minutes count as hours.
    """
    word, *by = one_letter(unit).replace(" per ", "/").strip(" .").split("/")
    name, factor = _UNITS.get(word.strip(" ."), (word.strip(), 1))
    counted = [_DENOMINATORS.get("".join(one.split()), one.strip()) for one in by]
    if "min" in counted:
        factor *= 60
    return "/".join([name, *sorted("h" if one == "min" else one for one in counted if one)]), Fraction(number) * factor


def number(digits: str) -> Fraction:
    """What the digits say: a comma before exactly three of them parts thousands, every other one is a decimal sign."""
    if re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits):
        return Fraction(digits.replace(",", ""))
    return Fraction(digits.replace(",", "."))


def ends(low: str, high: str | None) -> tuple[Fraction, Fraction]:
    """The least and the most of a number or a span of two."""
    return number(low), number(high or low)


@dataclass(frozen=True, slots=True)
class _Named:
    """An amount as it stands in a text: its unit, least and most, and whether it is that of a whole day."""

    where: re.Match[str]
    before: str
    unit: str
    low: Fraction
    high: Fraction
    whole_day: bool


def _named(text: str) -> Iterator[_Named]:
    for found in _AMOUNT.finditer(text):
        low, high = ends(found.group(1), found.group(2))
        unit, _, by = f"{found.group(4)}{found.group(5)}".replace(" per ", "/").partition("/")
        counted = ["".join(one.split()) for one in by.split("/")] if by else []
        times = unit in ("x", "time", "times", "dose", "doses")
        whole_day = not times and any(_DENOMINATORS.get(one, "day") == "day" for one in counted)
        rest = "/".join([unit, *(one for one in counted if _DENOMINATORS.get(one, "day") != "day")])
        name, factor = unit_amount(Decimal(_MANY.get(found.group(3) or "", 1)), rest)
        before = text[max(0, found.start() - 40) : found.start()]
        if _OF_A_DAY.search(before) and not counted:
            whole_day = True
        yield _Named(found, before, name, low * factor, high * factor, whole_day)


def amounts(text: str) -> Iterator[tuple[str, Claim]]:
    """Each dose that ``text`` (``said_spellings.plain``) names: the name of its unit and what its number may mean."""
    divided = _DIVIDED.search(text)
    for one in _named(text):
        if one.whole_day or _TAKEN_WITH.match(text, one.where.end()):
            continue
        choices: Claim = ((one.low, one.high),)
        before = one.before
        pieces, follows = _PIECES_OF.search(before), _PIECE_FOLLOWS.match(text, one.where.end())
        if pieces is None and follows:
            pieces = _BARE_NUMBER.search(before)
            kind = unit_amount(Decimal(1), follows.group(1))[0]
            if pieces is not None and kind in _COUNTED:
                count = number(pieces.group(1))
                yield kind, ((count, count),)
        if pieces is not None:
            count = number(pieces.group(1))
            in_brackets = len(pieces.groups()) > 1 and pieces.group(3)
            choices = ((one.low * count, one.high * count), *(choices if in_brackets else ()))
            before = before[: pieces.start()]
        if NOT_A_DOSE.search(before):
            continue
        if divided and number(divided.group(1)) > 0:
            parts = number(divided.group(1))
            choices += tuple((least / parts, most / parts) for least, most in choices)
        yield one.unit, choices
    for found in _TAKE.finditer(text):
        if not found.group(3):
            yield PIECE, (ends(found.group(1), found.group(2)),)


def totals(text: str) -> Iterator[tuple[str, Claim]]:
    """Each amount of a whole day: "30 mg/day", "total daily dose 30 mg", and "take 2 daily", however parted."""
    for one in _named(text):
        if one.whole_day and not NOT_A_DOSE.search(_TOTAL_OF.sub("", one.before)):
            yield one.unit, ((one.low, one.high),)
    for found in _TAKE.finditer(text):
        if found.group(3):
            yield PIECE, (ends(found.group(1), found.group(2)),)


def by_weight(text: str) -> Iterator[tuple[str, bool, Fraction, Fraction]]:
    """What an amount for each kilogram comes to where ``text`` says the weight: unit, whether of a day, ends.

    The ends leave room for rounding to what can be measured out. Nothing where the text has more than one weight, or a
    weight that is a limit ("over 20 kg").
    """
    weights = {number(one.group(1)) for one in _WEIGHT.finditer(text)}
    if len(weights) != 1 or _WEIGHT_LIMIT.search(text):
        return
    weight = weights.pop()
    for one in _named(text):
        if one.unit.endswith("/kg") and not NOT_A_DOSE.search(_TOTAL_OF.sub("", one.before)):
            # Where a highest dose is named, a heavy patient gets less than by weight.
            least = Fraction(0) if _CAPPED.search(text) else one.low * weight * (1 - ROUNDED)
            yield one.unit.removesuffix("/kg"), one.whole_day, least, one.high * weight * (1 + ROUNDED)


def without_totals(text: str) -> str:
    """``text`` without "take 2 daily" and "30 mg per day", whose day is the time of the whole and not of one dose."""
    rest = _TAKE.sub(lambda one: " " * len(one.group()) if one.group(3) else one.group(), text)
    parts, last = [], 0
    for one in _named(rest):
        if one.whole_day:
            start, end = one.where.span(5)
            parts += [rest[last:start], " " * (end - start)]
            last = end
    return "".join([*parts, rest[last:]])


def parts_of_day(text: str) -> tuple[str, Iterator[Fraction]]:
    """``text`` without "in 3 divided doses", and how many doses these are."""
    found = _DIVIDED.search(text)
    if found is None:
        return text, iter(())
    # "a day" beside it is the time of the whole and not of one dose.
    rest = re.sub(_A_DAY, lambda one: " " * len(one.group()), text)
    return rest[: found.start()] + " " * len(found.group()) + rest[found.end() :], iter((number(found.group(1)),))
