"""The number of an English unit that is counted: 1 tablet, 8 tablets.

"8 tablet" looks like a slip of the pen, and whoever doubts one word of a prescription doubts the number. Only English
words are turned, on every page: Dari counts its nouns in the singular ("۸ تابلیت"), and of a Pashto noun the sender
knows the form. What is not in the table stands as it was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

_REGULAR = (
    *("tablet", "capsule", "pill", "caplet", "lozenge", "drop", "puff", "inhalation", "spray", "actuation", "sachet"),
    *("ampoule", "ampule", "vial", "bottle", "tube", "bag", "strip", "blister", "pack", "packet", "syringe", "pen"),
    *("cartridge", "implant", "ovule", "spoon", "spoonful", "teaspoon", "teaspoonful", "tablespoon", "tablespoonful"),
    *("dessertspoon", "scoop", "unit", "dose", "application", "injection", "piece", "pad", "ring", "film", "wafer"),
)
#: Singular and plural, in small letters.
PLURALS: Mapping[str, str] = MappingProxyType(
    {
        **{word: f"{word}s" for word in _REGULAR},
        "patch": "patches",
        "box": "boxes",
        "suppository": "suppositories",
        "pessary": "pessaries",
    }
)
_SINGULARS = {several: one for one, several in PLURALS.items()}
#: UCUM's annotations and codes for what is counted, where the sender wrote nothing else.
_CODES = {"{tbl}": "tablet", "{tab}": "tablet", "{cap}": "capsule", "[drp]": "drop"}


def counted(unit: str, number: object) -> str:
    """``unit`` in the number that ``number`` asks for; more than 1 is several, and 0.5 is of one tablet.

    ``number`` is what the record holds; where it is no number, ``quantities`` refuses it.
    """
    if not isinstance(number, int | Decimal) or isinstance(number, bool):
        return unit
    word = _CODES.get(unit, unit[1:-1] if unit[:1] == "{" and unit[-1:] == "}" else unit)
    rest, space, last = word.strip().rpartition(" ")
    recorded = last.removesuffix("(s)")
    small = recorded.casefold()
    one = _SINGULARS.get(small, small)
    if one not in PLURALS:
        return unit
    turned = PLURALS[one] if number > 1 else one
    if recorded.isupper():
        turned = turned.upper()
    elif recorded[:1].isupper():
        turned = turned.capitalize()
    return f"{rest}{space}{turned}"
