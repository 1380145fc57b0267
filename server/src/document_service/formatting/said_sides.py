"""Of which eye or ear free words speak: drops for the right one in the left help nobody and may harm."""

from __future__ import annotations

import re

_SIDES = {
    **dict.fromkeys(("left", "l", "چپ", "چپه", "کیڼ", "کیڼه", "کیڼې"), frozenset({"left"})),
    **dict.fromkeys(("right", "r", "راست", "ښی", "ښۍ"), frozenset({"right"})),
    **dict.fromkeys(("both", "each", "2", "دواړه", "دواړو", "هر 2"), frozenset({"left", "right"})),
}
_NAMES = "|".join(sorted(_SIDES, key=len, reverse=True))
_EYE_OR_EAR = r"(?:eyes?|ears?|چشم|گوش|سترګه|سترګې|سترګو|غوږ|غوږو|غوږونو)(?!\w)"
_SAID = re.compile(rf"(?<!\w)(?:({_NAMES})\s+(?:of\s+the\s+|the\s+)?{_EYE_OR_EAR}|{_EYE_OR_EAR}\s+({_NAMES})(?!\w))")


def sides(text: str) -> frozenset[str]:
    """The sides that ``text`` (``said_spellings.plain``) names, ``left`` and ``right``; empty for none."""
    return frozenset().union(*(_SIDES[found.group(1) or found.group(2)] for found in _SAID.finditer(text)))
