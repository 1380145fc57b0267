"""Free words in one spelling: small letters, Latin digits for numbers, one name for each weekday and each spoon.

What reads amounts and rhythms (``said_amounts``, ``said_rhythms``, ``said_weekdays``) knows these spellings only.
"""

from __future__ import annotations

import re

# Native digits of both kinds, the Arabic separators, spaces that do not break, and the letters that keyboards of
# Arabic write where those of Dari and Pashto write others.
_ONE_LETTER = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩٫٬µ\u00a0\u202fيىكةۀ", "01234567890123456789.,μ  ییکهه")
_MARKS = re.compile("[\u0640\u064b-\u0652\u0654]")

_WORDS = {
    "½": "0.5", "half": "0.5", "نیم": "0.5", "نیمه": "0.5", "¼": "0.25", "quarter": "0.25", "¾": "0.75",
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "twelve": "12", "fourteen": "14", "twenty": "20", "thirty": "30",
    "once": "1 times", "twice": "2 times", "thrice": "3 times",
    "یک": "1", "دو": "2", "سه": "3", "چهار": "4", "پنج": "5", "شش": "6", "هفت": "7", "هشت": "8",
    "دوازده": "12", "چهارده": "14",
    "یو": "1", "یوه": "1", "دوه": "2", "درې": "3", "څلور": "4", "پنځه": "5", "شپږ": "6", "اووه": "7", "اته": "8",
    "لس": "10", "دولس": "12", "څوارلس": "14",
}  # fmt: skip
# A word that a joiner binds to the next one is part of it.
_NUMBER_WORD = re.compile(rf"(?<![\w\u200c])(?:{'|'.join(map(re.escape, _WORDS))})(?![\w\u200c])")

#: What stands before "شنبه" in the names of the days, in Dari and Pashto; nothing for Saturday.
_BEFORE_SHANBA = {
    "یک": "sunday", "یو": "sunday", "دو": "monday", "دوه": "monday", "سه": "tuesday", "درې": "tuesday",
    "چهار": "wednesday", "چار": "wednesday", "څلور": "wednesday", "پنج": "thursday", "پنځه": "thursday",
}  # fmt: skip
# "روز جمعه" and "د جمعې په ورځ" are Fridays and name no rhythm of days; "شب جمعه" is the night before and is not read.
_WEEKDAY = re.compile(
    r"(?<![\w\u200c])(?<!شب )(?:روز(?:[\u200c ]?های)?\s+)?"
    rf"(?:(?:({'|'.join(_BEFORE_SHANBA)})[\u200c ]?)?شنب(?:ه|ې)|(جمع(?:ه|ې)))(?:\u200c?ها)?(?![\w\u200c])(?!\s*شب)"
    r"(?:\s*(?:(?:په|پر)\s*)?ورځ(?:و|ې)?(?:\s*کې)?(?!\w))?"
)

_SPOON = r"(?:قاشق|قاشقه|کاشوغه|کاشوغې|کاچوغه|کاچوغې|چمچه|چمچې)(?!\w)"
_PIECE_BEGINS = r"(?=\s*(?:of\s+)?(?:an?\s+)?(?:tab|cap|tea|table|dessert|spoon|pill|sachet|تابل|ټابل|ګول|گول|قاشق))"
_SPELLINGS = (
    (re.compile(r"قاشق\s*چای(?:[\u200c ]?خوری)?(?!\w)"), "teaspoon"),
    (re.compile(r"قاشق\s*(?:نان|غذا|سوپ|شوربا|آش)[\u200c ]?خوری(?!\w)"), "tablespoon"),
    (re.compile(r"قاشق\s*مربا[\u200c ]?خوری(?!\w)"), "dessertspoon"),
    # In Pashto the number may stand between the two words: "د ډوډۍ یوه کاشوغه".
    (re.compile(rf"(?:(?<!\w)د\s+)?(?<!\w)چای(?:و)?\s+([\d.]{{0,9}})\s*{_SPOON}"), r"\1 teaspoon"),
    (re.compile(rf"(?:(?<!\w)د\s+)?(?<!\w)(?:ډوډۍ|سوپ|خوړو)\s+([\d.]{{0,9}})\s*{_SPOON}"), r"\1 tablespoon"),
    (re.compile(r"(?<!\w)(tea|table|dessert)[ -]spoon"), r"\1spoon"),
    # "1½", "1 1/2", "one and a half", "یک و نیم": one number.
    (re.compile(r"(?<![\d./])(\d{1,3})\s*½"), r"\1.5"),
    (re.compile(r"(?<![\d./])(\d{1,3})\s+1/2(?![\d/])"), r"\1.5"),
    (re.compile(rf"(?<![\d./])1/2(?![\d/]){_PIECE_BEGINS}"), "0.5"),
    (re.compile(r"(?<![\d./])(\d{1,3})\s+(?:and (?:an? )?|و |او )?0\.5(?![\d.])"), r"\1.5"),
    (re.compile(r"(0\.25|0\.5)\s+(?:of\s+)?an?(?= )"), r"\1"),
    (re.compile(r"for an? (day|week|month)(?!\w)"), r"for 1 \1"),
    (re.compile(r"(?<=\d)[ ](?=\d{3}(?:\s*(?:units?|iu|u))(?!\w))"), ""),
    (re.compile(r"(?<=\d),(?=\d{3},\d{3})"), ""),
)


def one_letter(text: str) -> str:
    """``text`` in small letters, each letter and digit in one of the forms that it is typed in, without vowel marks."""
    folded = text.casefold()
    return folded if folded.isascii() else _MARKS.sub("", folded.translate(_ONE_LETTER))


def plain(text: str) -> str:
    """``text`` in small letters with its numbers in Latin digits, weekdays in English and spoons by their size."""
    spelt = _WEEKDAY.sub(_weekday, one_letter(text))
    spelt = _NUMBER_WORD.sub(lambda found: _WORDS[found.group()], spelt)
    for pattern, word in _SPELLINGS:
        spelt = pattern.sub(word, spelt)
    return spelt


def _weekday(found: re.Match[str]) -> str:
    return "friday" if found.group(2) else _BEFORE_SHANBA.get(found.group(1) or "", "saturday")
