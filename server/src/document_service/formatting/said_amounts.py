"""The amounts that free words name: numbers before a unit, pieces of a strength, totals of a day.

"2 tablets of 500 mg", "two 500 mg tablets" and "2 x 500 mg" name a dose of 1000 mg; "2 tablets (1000 mg)" may name the
strength of one or of both. What is a limit, a supply, a strength ("125 mg/5 ml") or what a dose is taken with ("200 ml
of water") is not a dose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction

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
        ("volume", 5, "tsp tsps teaspoon teaspoons teaspoonful teaspoonfuls"),
        ("volume", 15, "tbsp tbsps tablespoon tablespoons tablespoonful tablespoonfuls"),
        ("volume", 1000, "l litre litres liter liters"),
        ("unit", 1, "iu ius [iu] unit units u واحد یونت یونټ"),
        ("tablet", 1, "tablet tablets tab tabs {tbl} تابلیت تابلت ټابلېټ ټابلېټه ګولۍ گولی"),
        ("capsule", 1, "capsule capsules cap caps کپسول کپسوله"),
        ("drop", 1, "drop drops gtt [drp] قطره څاڅکي څاڅکی"),
        ("puff", 1, "puff puffs پف"),
        ("spoon", 1, "spoon spoons spoonful spoonfuls قاشق کاشوغه"),
    )
    for word in words.split()
}
#: What is counted: a number without a unit ("take 2") counts one of these.
PIECES = ("tablet", "capsule", "drop", "puff")
#: The name of a number of pieces whose kind is not said.
PIECE = "piece"

# Bounded: more digits than these are no dose, and a hostile text must not become a number of a million digits.
DIGITS = r"(?<![\d.,])(\d{1,9}(?:[.,]\d{1,6})?)(?![\d])"
NUMBER = rf"{DIGITS}(?:\s*(?:-|–|to|or|تا|یا)\s*{DIGITS})?"
_MANY = {"thousand": 1000, "هزار": 1000, "زره": 1000, "lakh": 100_000, "million": 1_000_000, "میلیون": 1_000_000}
_AMOUNT = re.compile(
    rf"{NUMBER}\s*-?\s*(?:({'|'.join(_MANY)})\s*)?([^\W\d_][^\W\d_\u200c]*(?:\u200c[^\W\d_]+)?)"
    r"(?!\s*(?:/\s*(?!day|d\b|24)|per\s*\d|in\s*\d+(?:[.]\d+)?\s*m?l\b))"
)
#: Words shortly before a number that make it a limit, a supply or a strength.
NOT_A_DOSE = re.compile(
    r"(?:(?:max\w*|more than|exceed\w*|up to|at most|at least|minimum|total|disp\w*|supply|contain\w*|strength|حد ?اکثر"
    r"|بیشتر از|مجموع|زیات|ټول)[^.;،,]{0,15}|(?:/|\bper)\s*)$"
)
_TAKEN_WITH = re.compile(r"\s*(?:of|in)?\s*(?:the\s*)?(?:water|milk|juice|saline|آب|اوبه|اوبو|شیر)")
_A_DAY = r"(?:a|per|each|every)?\s*(?:day|daily|24\s*h\w*)(?!\w)(?!\s*dose)"
_TOTAL_FOLLOWS = re.compile(rf"\s*/\s*{_A_DAY}|\s*/\s*d(?!\w)")
_DIVIDED = re.compile(rf"in\s*{DIGITS}\s*(?:divided|equal|separate)\s*(?:\w+\s*)?(?:doses|portions|parts)")
_TAKE = re.compile(
    rf"(?<!\w)(?:take|give|swallow|inhale|بگیرید|بخورید)\s*{NUMBER}(\s*{_A_DAY})?"
    r"(?=\s*(?:$|[.;,،]|(?:at|in|on|every|each|b\.?i\.?d|bd|t\.?i\.?d|tds|q\w+|od|mane|nocte|with|after|before|now|stat"
    r"|prn|as|when|if|for|by|\d+\s*(?:times|x)|daily|twice)(?!\w)))"
)

#: A number of pieces directly before a strength: "2 tablets of", "2 x"; and a bare one, where the piece follows.
_PIECE_WORD = r"(tab(?:let)?s?|cap(?:sule)?s?|تابلیت|تابلت|ټابلېټ|ټابلېټه|ګولۍ|گولی|کپسول|کپسوله)(?!\w)"
_PIECES_OF = re.compile(rf"{DIGITS}\s*(?:{_PIECE_WORD}\s*(?:of|x|×|à|از|د)?|[x×]|of)\s*(\()?\s*$")
_BARE_NUMBER = re.compile(rf"{DIGITS}\s*$")
_PIECE_FOLLOWS = re.compile(rf"\s*{_PIECE_WORD}")


def unit_amount(number: Decimal, unit: str) -> tuple[str, Fraction]:
    """The name of a unit that its spellings share, and ``number`` in the measure that they share."""
    word = unit.casefold().replace("µ", "μ").strip(" .")
    name, factor = _UNITS.get(word, (word, 1))
    return name, Fraction(number) * factor


def number(digits: str) -> Fraction:
    """What the digits say: a comma before exactly three of them parts thousands, every other one is a decimal sign."""
    if re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits):
        return Fraction(digits.replace(",", ""))
    return Fraction(digits.replace(",", "."))


def ends(low: str, high: str | None) -> tuple[Fraction, Fraction]:
    """The least and the most of a number or a span of two."""
    return number(low), number(high or low)


def amounts(text: str) -> Iterator[tuple[str, Claim]]:
    """Each dose that ``text`` (``free_words.plain``) names: the name of its unit and what its number may mean."""
    divided = _DIVIDED.search(text)
    for found in _AMOUNT.finditer(text):
        low, high = ends(found.group(1), found.group(2))
        name, factor = unit_amount(Decimal(_MANY.get(found.group(3) or "", 1)), found.group(4))
        low, high = low * factor, high * factor
        before = text[max(0, found.start() - 40) : found.start()]
        if _TOTAL_FOLLOWS.match(text, found.end()) or _TAKEN_WITH.match(text, found.end()):
            continue
        choices: Claim = ((low, high),)
        pieces, follows = _PIECES_OF.search(before), _PIECE_FOLLOWS.match(text, found.end())
        if pieces is None and follows:
            pieces = _BARE_NUMBER.search(before)
            if pieces is not None:
                count = number(pieces.group(1))
                yield unit_amount(Decimal(1), follows.group(1))[0], ((count, count),)
        if pieces is not None:
            count = number(pieces.group(1))
            in_brackets = len(pieces.groups()) > 1 and pieces.group(3)
            choices = ((low * count, high * count), *(choices if in_brackets else ()))
            before = before[: pieces.start()]
        if NOT_A_DOSE.search(before):
            continue
        if divided and number(divided.group(1)) > 0:
            parts = number(divided.group(1))
            choices += tuple((least / parts, most / parts) for least, most in choices)
        yield name, choices
    for found in _TAKE.finditer(text):
        if not found.group(3):
            yield PIECE, (ends(found.group(1), found.group(2)),)


def totals(text: str) -> Iterator[tuple[str, Claim]]:
    """Each amount of a whole day: "30 mg/day", and "take 2 daily", which one may take at once or in two parts."""
    for found in _AMOUNT.finditer(text):
        before = text[max(0, found.start() - 40) : found.start()]
        counted = found.group(4) in ("x", "time", "times", "dose", "doses")
        if not counted and _TOTAL_FOLLOWS.match(text, found.end()) and not NOT_A_DOSE.search(before):
            low, high = ends(found.group(1), found.group(2))
            name, factor = unit_amount(Decimal(_MANY.get(found.group(3) or "", 1)), found.group(4))
            yield name, ((low * factor, high * factor),)
    for found in _TAKE.finditer(text):
        if found.group(3):
            yield PIECE, (ends(found.group(1), found.group(2)),)


def without_totals(text: str) -> str:
    """``text`` without "take 2 daily", whose "daily" is the time of the whole and not of one dose."""
    return _TAKE.sub(lambda one: " " * len(one.group()) if one.group(3) else one.group(), text)


def parts_of_day(text: str) -> tuple[str, Iterator[Fraction]]:
    """``text`` without "in 3 divided doses", and how many doses these are."""
    found = _DIVIDED.search(text)
    if found is None:
        return text, iter(())
    # "a day" beside it is the time of the whole and not of one dose.
    rest = re.sub(_A_DAY, lambda one: " " * len(one.group()), text)
    return rest[: found.start()] + " " * len(found.group()) + rest[found.end() :], iter((number(found.group(1)),))
