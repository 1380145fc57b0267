"""Whatever a ``value[x]`` of FHIR holds, by the shape that was recorded.

A laboratory result is a Quantity today and a word tomorrow, a dose a Quantity or a Range. A form that names one type
would fail on the other; this one prints each by the rules of its own type, and refuses what is none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from document_service.formatting.dates import date_time_text
from document_service.formatting.isolation import LRI, NO_BREAK_SPACE, PDI, RLI
from document_service.formatting.locales import Style
from document_service.formatting.mismatch import ValueAbsent, ValueMismatch
from document_service.formatting.people import code_text, text_value
from document_service.formatting.quantities import decimal_text, quantity_text, range_text, ratio_text


def period_text(value: object, style: Style) -> str:
    """A FHIR Period as ``start – end``; an open side stays open. Raises ValueMismatch or ValueAbsent."""
    if not isinstance(value, Mapping):
        raise ValueMismatch("period")
    start, end = (date_time_text(value[side], style) if value.get(side) else "" for side in ("start", "end"))
    if not start and not end:
        raise ValueAbsent
    # Each date is isolated already, so an isolate of the first strong letter would find none and always be Latin.
    opening = RLI if style.direction == "rtl" else LRI
    return f"{opening}{start}{NO_BREAK_SPACE}–{NO_BREAK_SPACE}{end}{PDI}".replace(f"{opening}{NO_BREAK_SPACE}", opening)


# A day, a dateTime or an instant in full; anything shorter may be a word or a number that somebody wrote.
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?")

# By the members that only this type has (FHIR R4 datatypes), the more telling first.
_SHAPES: tuple[tuple[frozenset[str], Callable[[object, Style], str]], ...] = (
    (frozenset({"numerator", "denominator"}), ratio_text),
    (frozenset({"low", "high"}), range_text),
    (frozenset({"start", "end"}), period_text),
    (frozenset({"coding"}), code_text),
    (frozenset({"value", "unit", "comparator"}), quantity_text),
    (frozenset({"text", "display"}), code_text),
)


def is_concept(value: object) -> bool:
    """Whether a code may be looked up in it: a code itself, a CodeableConcept or a Coding, and never a Quantity."""
    return isinstance(value, str) or (isinstance(value, Mapping) and not value.keys().isdisjoint({"coding", "display"}))


def any_value_text(value: object, style: Style) -> str:
    """Quantity, Range, Ratio, Period, CodeableConcept, Coding, text, Boolean or number, isolated.

    Raises ValueMismatch for any other shape, and what the type's own formatting raises.
    """
    if isinstance(value, bool):
        return style.words["yes" if value else "no"]
    if isinstance(value, str):
        return date_time_text(value, style) if _MOMENT.fullmatch(value) else text_value(value, style)
    if isinstance(value, int | Decimal):
        return decimal_text(value, style)
    if isinstance(value, Mapping):
        for members, text in _SHAPES:
            if not members.isdisjoint(value):
                return text(value, style)
    raise ValueMismatch("value that a form can print")
