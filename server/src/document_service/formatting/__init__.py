"""Typed values → strings of a page: per locale, bidi-isolated, with the tenant's digits and calendar.

``format_value`` is the only door from data to page; nothing else turns a recorded value into text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from document_service.formatting.dates import date_text, date_time_text, digits
from document_service.formatting.dispensing import dispense_request_text
from document_service.formatting.dosages import dosage_text
from document_service.formatting.isolation import (
    UnprintableText,
    clean,
    isolate_clean_text,
    isolate_ltr,
    isolate_numbers,
    isolate_text,
)
from document_service.formatting.locales import (
    LATIN_DIGITS,
    STANDARD_LABEL_KEYS,
    STANDARD_WORDS,
    Calendar,
    Digits,
    Style,
    UnknownTimeZone,
    direction,
    style,
)
from document_service.formatting.mismatch import ValueAbsent, ValueMismatch
from document_service.formatting.people import (
    address_text,
    code_text,
    concept_codes,
    human_name_text,
    identifier_text,
    phone_text,
    text_value,
)
from document_service.formatting.quantities import decimal_text, quantity_text, range_text, ratio_text
from document_service.formatting.recorded import any_value_text, is_concept

__all__ = [
    "FORMATS",
    "LATIN_DIGITS",
    "STANDARD_LABEL_KEYS",
    "STANDARD_WORDS",
    "Calendar",
    "Digits",
    "Style",
    "UnknownTimeZone",
    "UnprintableText",
    "ValueAbsent",
    "ValueMismatch",
    "clean",
    "concept_codes",
    "digits",
    "direction",
    "format_value",
    "is_concept",
    "isolate_clean_text",
    "isolate_ltr",
    "isolate_numbers",
    "isolate_text",
    "style",
]


def _boolean_text(value: object, style: Style) -> str:
    if not isinstance(value, bool):
        raise ValueMismatch("boolean")
    return style.words["yes" if value else "no"]


FORMATS: Mapping[str, Callable[[object, Style], str]] = MappingProxyType(
    {
        "text": text_value,
        "quantity": quantity_text,
        "range": range_text,
        "ratio": ratio_text,
        "date": date_text,
        "dateTime": date_time_text,
        "phone": phone_text,
        "code": code_text,
        "humanName": human_name_text,
        "address": address_text,
        "boolean": _boolean_text,
        "decimal": decimal_text,
        "number": decimal_text,
        "identifier": identifier_text,
        "anyValue": any_value_text,
        "dosage": dosage_text,
        "dispenseRequest": dispense_request_text,
    }
)


def format_value(kind: str, value: object, style: Style) -> str:
    """``value`` as text of the declared ``kind`` (a key of FORMATS).

    Raises ValueMismatch (not of this kind), ValueAbsent (nothing to print), UnprintableText (control characters).
    """
    return FORMATS[kind](value, style)
