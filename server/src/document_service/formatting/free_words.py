"""Whether the free words of a dosage say another amount or another number of times than its codes.

Both are printed, and a page that says "1 tablet" and "2 tablets" of one medicine is worse than none: somebody takes one
of them for the dose. Found are numbers, in digits or as a word of English, Dari or Pashto, before a unit that the
codes use too, and numbers of times a day. "2 tablets of 500 mg" names a dose of 1000 mg. What is a limit or a supply
("at most 8 tablets") is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction

# Native digits of both kinds, and the Arabic decimal separator.
_LATIN = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩٫µ", "01234567890123456789.μ")
_WORDS = {
    "½": "0.5", "half": "0.5", "نیم": "0.5",
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "eight": "8",
    "once": "1 times", "twice": "2 times", "thrice": "3 times",
    "یک": "1", "دو": "2", "سه": "3", "چهار": "4", "پنج": "5", "شش": "6", "هشت": "8",
    "یو": "1", "یوه": "1", "دوه": "2", "درې": "3", "څلور": "4", "پنځه": "5", "شپږ": "6", "اته": "8",
}  # fmt: skip
_NUMBER_WORD = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, _WORDS))})(?!\w)")

# What senders call the same thing, as name and factor; masses in micrograms and volumes in millilitres.
_UNITS: Mapping[str, tuple[str, Decimal]] = {
    word: (name, Decimal(factor))
    for name, factor, words in (
        ("mass", 1, "mcg ug μg microgram micrograms"),
        ("mass", 1000, "mg milligram milligrams ملی‌گرام ملیگرام"),
        ("mass", 1_000_000, "g gram grams گرام ګرام"),
        ("volume", 1, "ml millilitre millilitres milliliter milliliters cc سی‌سی"),
        ("volume", 1000, "l litre litres liter liters"),
        ("unit", 1, "iu [iu] unit units u واحد یونت"),
        ("tablet", 1, "tablet tablets tab tabs {tbl} تابلیت تابلت ټابلېټ ټابلېټه ګولۍ گولی"),
        ("capsule", 1, "capsule capsules cap caps کپسول کپسوله"),
        ("drop", 1, "drop drops gtt [drp] قطره څاڅکي څاڅکی"),
        ("puff", 1, "puff puffs پف"),
        ("spoon", 1, "spoon spoons قاشق کاشوغه"),
    )
    for word in words.split()
}

# Bounded: more digits than these are no dose, and a hostile text must not become a number of a million digits.
_DIGITS = r"(?<![\d.,])(\d{1,9}(?:[.,]\d{1,6})?)"
_NUMBER = rf"{_DIGITS}(?:\s*(?:-|–|to|or|تا|یا)\s*{_DIGITS})?"
_AMOUNT = re.compile(rf"{_NUMBER}\s*([^\W\d_][^\W\d_\u200c]*(?:\u200c[^\W\d_]+)?)(?!\s*/)")
#: Words shortly before a number that make it a limit, a supply or a strength.
_NOT_A_DOSE = re.compile(
    r"(?:max\w*|more than|exceed\w*|up to|at most|total|disp\w*|supply|حد ?اکثر|بیشتر از|مجموع|زیات|ټول)[^.;،,]{0,15}$"
)
_TIMES = r"(?:times?|x|×|بار|مرتبه|دفعه|وقت|ځله|ځل|وار)"
_A_DAY = (
    re.compile(rf"{_NUMBER}\s*{_TIMES}\s*(?:a|per|each|every|/|in a)?\s*(?:day|daily)\b"),
    re.compile(rf"(?:روزانه|روزی|روز|په ورځ کې|ورځ کې|ورځې)\s*{_NUMBER}\s*{_TIMES}"),
    re.compile(rf"{_NUMBER}\s*{_TIMES}\s*(?:در|فی)\s*روز"),
)
_EVERY_HOURS = re.compile(rf"(?:every|each|هر|هره|هرو)\s*{_NUMBER}\s*(?:hours?|hrs?|h|ساعت|ساعته|ساعتونو)(?!\w)")

#: A number of pieces shortly before a strength: "2 tablets of", "2 x"; and a bare one, where the piece follows.
_PIECE = r"(?:tab(?:let)?s?|cap(?:sule)?s?|تابلیت|تابلت|ټابلېټ|ټابلېټه|ګولۍ|گولی|کپسول|کپسوله)(?!\w)"
_PIECES_OF = re.compile(rf"{_DIGITS}\s*(?:{_PIECE}\s*(?:of|x|×|à|از|د)?|[x×]|of)\s*\(?\s*$")
_BARE_NUMBER = re.compile(rf"{_DIGITS}\s*$")
_PIECE_FOLLOWS = re.compile(rf"\s*{_PIECE}")

#: An amount by the name of its unit: a dose, or the ends of a range.
Amounts = Mapping[str, Iterable[tuple[Decimal, Decimal]]]


def unit_amount(number: Decimal, unit: str) -> tuple[str, Decimal]:
    """The name of a unit that its spellings share, and ``number`` in the measure that they share."""
    word = unit.casefold().translate(_LATIN).strip(" .")
    name, factor = _UNITS.get(word, (word, Decimal(1)))
    return name, number * factor


def contradicts(text: str, amounts: Amounts, times_a_day: tuple[Fraction, Fraction] | None) -> bool:
    """Whether ``text`` names an amount in a unit of ``amounts`` that is none of them, or another number of times.

    ``amounts`` are the doses of the codes by ``unit_amount``; ``times_a_day`` their fewest and most times in 24 hours.
    """
    plain = _NUMBER_WORD.sub(lambda found: _WORDS[found.group()], text.casefold().translate(_LATIN))
    for low, high, unit, before in _amounts(plain):
        name, least = unit_amount(low, unit)
        _, most = unit_amount(high, unit)
        if name not in amounts or _NOT_A_DOSE.search(before):
            continue
        if not any(least >= lowest and most <= highest for lowest, highest in amounts[name]):
            return True
    if times_a_day is None:
        return False
    fewest, often = times_a_day
    return any(low < fewest or high > often for low, high in _daily(plain))


def _ends(low: str, high: str | None) -> tuple[Decimal, Decimal]:
    least = Decimal(low.replace(",", "."))
    return least, Decimal(high.replace(",", ".")) if high else least


def _amounts(text: str) -> Iterator[tuple[Decimal, Decimal, str, str]]:
    for found in _AMOUNT.finditer(text):
        low, high = _ends(found.group(1), found.group(2))
        before = text[max(0, found.start() - 40) : found.start()]
        pieces = _PIECES_OF.search(before)
        if pieces is None and _PIECE_FOLLOWS.match(text, found.end()):
            pieces = _BARE_NUMBER.search(before)
        if pieces is not None:
            count = Decimal(pieces.group(1).replace(",", "."))
            low, high, before = low * count, high * count, before[: pieces.start()]
        yield low, high, found.group(3), before


def _daily(text: str) -> Iterator[tuple[Fraction, Fraction]]:
    for pattern in _A_DAY:
        for found in pattern.finditer(text):
            if _NOT_A_DOSE.search(text[max(0, found.start() - 40) : found.start()]):
                continue
            low, high = _ends(found.group(1), found.group(2))
            yield Fraction(low), Fraction(high)
    for found in _EVERY_HOURS.finditer(text):
        low, high = _ends(found.group(1), found.group(2))
        if low > 0:
            yield Fraction(24) / Fraction(high), Fraction(24) / Fraction(low)
