"""Names, addresses, telephone numbers, identifiers and coded concepts as text of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from document_service.formatting.dates import digits
from document_service.formatting.isolation import clean, glue, has_rtl_letter, isolate_ltr, isolate_text
from document_service.formatting.locales import Style
from document_service.formatting.mismatch import ValueAbsent, ValueMismatch
from document_service.formatting.typed_numbers import typeset_numbers


def _words(value: object, kind: str) -> str:
    """A FHIR string in one line, cleaned; empty text counts as absent by the caller."""
    if not isinstance(value, str):
        raise ValueMismatch(kind)
    return " ".join(clean(value).split())


def _list(value: object, kind: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueMismatch(kind)
    # FHIR writes null where an array entry has only an extension.
    return [words for item in value if item is not None and (words := _words(item, kind))]


def text_value(value: object, style: Style) -> str:
    """Free text, isolated line by line, its numbers kept with their units. Raises ValueMismatch or ValueAbsent."""
    if not isinstance(value, str):
        raise ValueMismatch("text")
    cleaned = clean(value).strip()
    if not cleaned:
        raise ValueAbsent
    return isolate_text(typeset_numbers(cleaned))


def human_name_text(value: object, style: Style) -> str:
    """A FHIR HumanName in the order prefix, given, family, suffix; its ``text`` where given or family is missing.

    Many Afghan records hold one given name in the parts and the whole name in the text.
    """
    if isinstance(value, str):
        return text_value(value, style)
    if not isinstance(value, Mapping):
        raise ValueMismatch("humanName")
    family = [_words(value["family"], "humanName")] if value.get("family") else []
    given = _list(value.get("given"), "humanName")
    text = _words(value.get("text") or "", "humanName")
    if (given and family) or not text:
        prefix, suffix = _list(value.get("prefix"), "humanName"), _list(value.get("suffix"), "humanName")
        name = " ".join([*prefix, *given, *family, *suffix])
    else:
        name = text
    if not name.strip():
        raise ValueAbsent
    return isolate_text(name)


def address_text(value: object, style: Style) -> str:
    """A FHIR Address in one line, parts separated by the locale's comma; ``text`` where there are no parts."""
    if isinstance(value, str):
        return text_value(value, style)
    if not isinstance(value, Mapping):
        raise ValueMismatch("address")
    parts = _list(value.get("line"), "address")
    for part in ("district", "city", "state", "postalCode", "country"):
        if value.get(part):
            words = _words(value[part], "address")
            if words and words not in parts:
                parts.append(words)
    if not parts and value.get("text"):
        parts = [_words(value["text"], "address")]
    if not any(parts):
        raise ValueAbsent
    if not any(map(has_rtl_letter, parts)):
        # A Latin address reads from left to right as a whole, in a Dari document too.
        return isolate_text(", ".join(parts))
    return style.comma.join(isolate_text(part) for part in parts)


def phone_text(value: object, style: Style) -> str:
    """A telephone number (string or ContactPoint), its groups in reading order and never torn."""
    number = value.get("value") if isinstance(value, Mapping) else value
    if number is None:
        raise ValueAbsent
    words = _words(number, "phone")
    if not words:
        raise ValueAbsent
    if has_rtl_letter(words):
        return isolate_text(words)
    return isolate_ltr(glue(digits(words, style.numerals)))


def identifier_text(value: object, style: Style) -> str:
    """An identifier (string or Identifier) exactly as issued: its digits are never translated."""
    issued = value.get("value") if isinstance(value, Mapping) else value
    if issued is None:
        raise ValueAbsent
    words = _words(issued, "identifier")
    if not words:
        raise ValueAbsent
    return isolate_text(words) if has_rtl_letter(words) else isolate_ltr(glue(words))


def concept_codes(value: object) -> list[str]:
    """Every code that a CodeableConcept, Coding or code carries, for look-ups in a binding's ``values``."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Mapping):
        raise ValueMismatch("code")
    codings: Any = value.get("coding") if "coding" in value else [value]
    if not isinstance(codings, Sequence) or isinstance(codings, str):
        raise ValueMismatch("code")
    return [item["code"] for item in codings if isinstance(item, Mapping) and isinstance(item.get("code"), str)]


def code_text(value: object, style: Style) -> str:
    """The words of a coded concept: its text, else the display of the coding the user chose, else the code itself."""
    if isinstance(value, str):
        return text_value(value, style)
    if not isinstance(value, Mapping):
        raise ValueMismatch("code")
    if value.get("text"):
        return text_value(value["text"], style)
    codings: Any = value.get("coding") if "coding" in value else [value]
    if not isinstance(codings, Sequence) or isinstance(codings, str):
        raise ValueMismatch("code")
    usable = [item for item in codings if isinstance(item, Mapping)]
    usable.sort(key=lambda item: item.get("userSelected") is not True)
    for member in ("display", "code"):
        for item in usable:
            if item.get(member):
                return text_value(item[member], style)
    raise ValueAbsent
