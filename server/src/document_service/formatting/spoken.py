"""Parts of a FHIR structure said in the service's own words, and the refusal of parts that have none.

Whoever reads a dose takes what is not there for "no". So a member, a code or a shape that these types do not know
refuses the whole value; nothing is left out of it in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from document_service.formatting.dosage_words import GENERAL_WORDS, TIME_UNITS
from document_service.formatting.isolation import LRI, NO_BREAK_SPACE, PDI, RLI
from document_service.formatting.locales import Style
from document_service.formatting.mismatch import ValueAbsent, ValueMismatch
from document_service.formatting.people import code_text, concept_codes, text_value
from document_service.formatting.quantities import decimal_text, quantity_text, range_text
from document_service.formatting.units import UCUM

# Between the parts of a sentence. No comma: on a page that runs from right to left it stands directly left of a number,
# and "،5 mg" can be read as a fraction.
_BETWEEN = " · "
# FHIR R4: both may stand in every element and change nothing of what it says.
_ANYWHERE = frozenset({"id", "extension"})
#: How senders spell the units of time beside the code; another word is printed as they wrote it.
_SPELT = {
    "s": ("s", "sec", "second", "seconds"),
    "min": ("min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "wk": ("wk", "week", "weeks"),
    "mo": ("mo", "month", "months"),
    "a": ("a", "yr", "year", "years"),
}


def refuse(kind: str) -> NoReturn:
    """Raise ValueMismatch for ``kind``, which names what was expected and nothing of the record."""
    raise ValueMismatch(kind)


def structure(value: object, known: Iterable[str], kind: str) -> Mapping[str, Any]:
    """``value`` as a mapping all of whose members are ``known``; null members count as absent.

    A primitive that has only an extension (``_frequency`` without ``frequency``) says something that cannot be
    printed, and refuses. Raises ValueMismatch.
    """
    if not isinstance(value, Mapping):
        refuse(kind)
    names = {*known, *_ANYWHERE}
    for name, member in value.items():
        beside = name[1:] if name.startswith("_") else None
        if member is None or (beside in names and value.get(beside) is not None):
            continue
        if name not in names:
            refuse(kind)
    return value


def entries(value: object, kind: str) -> list[Any]:
    """A list of FHIR without its nulls; absent is empty. Raises ValueMismatch for what is no list."""
    if value is None:
        return []
    if not isinstance(value, list):
        refuse(kind)
    return [entry for entry in value if entry is not None]


def said(style: Style, key: str, **filled: str) -> str:
    """The words of ``key`` with their placeholders filled with text that is isolated already."""
    words = style.words[key]
    for name, text in filled.items():
        words = words.replace(f"{{{name}}}", text)
    return words


def sentence(parts: Iterable[str], style: Style) -> str:
    """Isolated ``parts`` as one list in the direction of the page, isolated from what stands around it."""
    opening = RLI if style.direction == "rtl" else LRI
    return f"{opening}{_BETWEEN.join(parts)}{PDI}"


def word_of(code: object, table: Mapping[str, str], style: Style, kind: str) -> str:
    """The words of a code of a closed value set. Raises ValueMismatch for any other code."""
    if not isinstance(code, str) or code not in table:
        refuse(kind)
    return style.words[table[code]]


def whole_number(value: object, kind: str, least: int = 0) -> int:
    """A FHIR integer of at least ``least``. Raises ValueMismatch."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        refuse(kind)
    return value


def concept_words(value: object, table: Mapping[str, str], style: Style, kind: str) -> str:
    """A CodeableConcept in the words of ``table``, else in its own text or display.

    Raises ValueMismatch where two of its codings have different words, and for a code without any: a number of SNOMED
    CT says nothing to who gives the dose.
    """
    known = {table[code] for code in concept_codes(value) if code in table}
    # One coding says in general what another says in particular.
    known -= {general for general, particular in GENERAL_WORDS.items() if particular in known}
    if len(known) > 1:
        refuse(kind)
    # A form in a locale of its own that was published before a word came has none for it: the sender's then.
    if not known or not known <= style.words.keys():
        return own_words(value, style, kind)
    return style.comma.join([style.words[known.pop()], *further_text(value, style)])


def further_text(value: object, style: Style) -> list[str]:
    """The text of a concept whose code is said already, unless it only repeats a code or a display of it."""
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        return []
    text = value["text"].casefold().strip()
    codings = [coding for coding in value.get("coding", ()) if isinstance(coding, Mapping)]
    known = [str(coding.get(member) or "").casefold() for coding in codings for member in ("code", "display")]
    return [] if any(text in one for one in known) else [text_value(value["text"], style)]


def own_words(value: object, style: Style, kind: str) -> str:
    """The text or display of a CodeableConcept. Raises ValueMismatch where it has neither."""
    concept = structure(value, ("coding", "text"), kind)
    if not concept.get("text") and not any(
        isinstance(coding, Mapping) and coding.get("display") for coding in entries(concept.get("coding"), kind)
    ):
        refuse(kind)
    try:
        return code_text(value, style)
    except ValueAbsent:
        refuse(kind)


def time_text(low: Any, high: Any, unit: object, style: Style, kind: str) -> str:
    """A number of a unit of time, or a span of numbers: ``8 hours``, ``4–6 hours``. Raises ValueMismatch."""
    if not isinstance(unit, str) or unit not in TIME_UNITS or low is None:
        refuse(kind)
    one, several = TIME_UNITS[unit]
    span = span_text(low, high, style)
    if low <= 0 or (high is not None and high < low):
        refuse(kind)
    return f"{span}{NO_BREAK_SPACE}{style.words[one if low == 1 and high is None else several]}"


def span_text(low: Any, high: Any, style: Style) -> str:
    """``2``, or ``2–3`` where there is a ``high``. Raises ValueMismatch."""
    if high is None:
        return decimal_text(low, style)
    return range_text({"low": {"value": low}, "high": {"value": high}}, style)


def time_unit(value: object) -> str | None:
    """The UCUM code of the unit of time that a Duration names by its code, or by its unit alone; None for another."""
    if not isinstance(value, Mapping) or value.get("system") not in (None, UCUM):
        return None
    code, unit = value.get("code"), value.get("unit")
    if code is None and isinstance(unit, str):
        return next((named for named, words in _SPELT.items() if unit in words), None)
    return code if isinstance(code, str) and code in _SPELT else None


def duration_text(value: object, style: Style, kind: str) -> str:
    """A FHIR Duration, its unit of time in the words of the page where its code names one; else as a Quantity.

    Raises ValueMismatch or ValueAbsent.
    """
    code = time_unit(value)
    if code is not None and isinstance(value, Mapping) and value.get("comparator") is None:
        unit = value.get("unit")
        if unit is None or unit in _SPELT[code]:
            if value.get("value") is None:
                raise ValueAbsent
            return time_text(value["value"], None, code, style, kind)
    return quantity_text(value, style)
