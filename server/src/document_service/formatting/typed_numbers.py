"""Numbers that people typed into free words, as a page needs them; the stored words stay as they are.

"250" at a line's end and "mg" on the next line are read apart, so a number stays with its unit. Between native digits a
full stop becomes the decimal sign of the language (U+066B): the zero of these digits is a dot, and ۲.۵ reads as ۲۰۵.
"""

from __future__ import annotations

import re

from document_service.formatting.isolation import glue

_SPACE = "[ \u00a0\u202f]?"
_NUMBER = r"\d[\d.,٫٬]*"
# Measures of medicines and laboratories. Whole words such as "tablets" may stand on the next line: gluing them would
# widen columns, and "2" alone is no dose of anything.
_UNIT = (
    r"(?:mcg|[µμu]g|mg|kg|g|mL|ml|dL|dl|[µμ]L|L|cc|IU|iu|U|units?|m?mol|[µμu]mol|mEq|meq|mmHg|cmH2O|cm|mm|[°º]C|%|kcal"
    r"|ملی[\u200c ]?گرام|میلی[\u200c ]?گرام|مایکروگرام|گرام|ګرام|ملی[\u200c ]?لیتر|لیتر|سی[\u200c ]?سی|یونت|یونټ|واحد)"
)
_PER = rf"(?:{_NUMBER}{_SPACE})?(?:{_UNIT}|kg|m²|m2|day|dose|hour|h|min|tab(?:let)?|cap(?:sule)?|d)"
_WITH_UNIT = re.compile(
    rf"(?<![\w.,٫])(?:[<>≤≥~≈]{_SPACE})?{_NUMBER}(?:{_SPACE}[-–]{_SPACE}{_NUMBER})?{_SPACE}{_UNIT}(?![^\W\d_])"
    rf"(?:{_SPACE}/{_SPACE}{_PER}(?![^\W\d_]))*"
)
# A number with one point; a date has two, and behind "ساعت" it is a time of day.
_NATIVE_POINT = re.compile(r"(?<![\d.٫])(?<!ساعت )([۰-۹]+|[٠-٩]+)\.([۰-۹]+|[٠-٩]+)(?![\d٫])(?!\.\d)")


def typeset_numbers(text: str) -> str:
    """``text`` whose numbers stay with their units and whose native digits have their own decimal sign."""
    if not text.isascii():
        text = _NATIVE_POINT.sub(r"\1٫\2", text)
    return _WITH_UNIT.sub(lambda found: glue(found.group()), text)
