"""What is to be dispensed: the ``dispenseRequest`` of a FHIR R4 MedicationRequest, whole, a line for each matter.

A pharmacist who does not see that a prescription has run out, or how often it may be dispensed, decides by habit. So
quantity, repeats and validity stand together, and a member that has no words here refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from document_service.formatting.dates import date_text, ends_before, has_passed
from document_service.formatting.dose_amounts import dose_text
from document_service.formatting.locales import Style
from document_service.formatting.mismatch import ValueAbsent
from document_service.formatting.people import text_value
from document_service.formatting.quantities import decimal_text
from document_service.formatting.spoken import duration_text, refuse, said, sentence, structure, whole_number

KIND = "request to dispense that can be said whole"

_REQUEST = (
    *("initialFill", "dispenseInterval", "validityPeriod", "numberOfRepeatsAllowed", "quantity"),
    *("expectedSupplyDuration", "performer"),
)


def dispense_request_text(value: object, style: Style) -> str:
    """Quantity with the time it is meant for; first supply, interval and repeats; validity; who dispenses.

    Raises ValueAbsent where nothing of it is recorded, ValueMismatch for what cannot be said, and UnprintableText.
    """
    request = structure(value, _REQUEST, KIND)
    validity = [[part] for part in _validity(request, style)]
    supply = [[*_supply(request, style)], [*_repeats(request, style)]]
    # What ran out is not dispensed: that stands above what would be.
    groups = [*validity, *supply] if _has_ended(request, style) else [*supply, *validity]
    groups += [[part] for part in _performer(request, style)]
    lines = [sentence(parts, style) for parts in groups if parts]
    if not lines:
        raise ValueAbsent
    return "\n".join(lines)


def _known(text: Callable[[object, Style], str], value: object, style: Style) -> Iterator[str]:
    """The text of an element that is there and holds a number; a Quantity of a unit alone is nothing recorded."""
    if value is not None:
        with suppress(ValueAbsent):
            yield text(value, style)


def _duration(value: object, style: Style) -> str:
    return duration_text(value, style, KIND)


def _supply(request: Mapping[str, Any], style: Style) -> Iterator[str]:
    yield from _known(dose_text, request.get("quantity"), style)
    for text in _known(_duration, request.get("expectedSupplyDuration"), style):
        yield said(style, "dosageFor", n=text)


def _repeats(request: Mapping[str, Any], style: Style) -> Iterator[str]:
    first = structure(request.get("initialFill") or {}, ("quantity", "duration"), KIND)
    amount = [*_known(dose_text, first.get("quantity"), style), *_known(_duration, first.get("duration"), style)]
    if amount:
        yield said(style, "dispenseFirst", n=sentence(amount, style))
    for text in _known(_duration, request.get("dispenseInterval"), style):
        yield said(style, "dispenseInterval", n=text)
    repeats = request.get("numberOfRepeatsAllowed")
    if repeats is None:
        return
    if whole_number(repeats, KIND) == 0:
        yield style.words["dispenseNoRepeats"]
    else:
        yield said(style, "dispenseRepeats", n=decimal_text(repeats, style))


def _has_ended(request: Mapping[str, Any], style: Style) -> bool:
    end = (request.get("validityPeriod") or {}).get("end")
    return end is not None and has_passed(end, style)


def _validity(request: Mapping[str, Any], style: Style) -> Iterator[str]:
    period = structure(request.get("validityPeriod") or {}, ("start", "end"), KIND)
    if ends_before(period, style):
        refuse(KIND)
    if _has_ended(request, style):
        yield said(style, "dispenseEnded", n=date_text(period["end"], style))
        return
    for side, words in (("start", "dispenseValidFrom"), ("end", "dispenseValidUntil")):
        if period.get(side) is not None:
            yield said(style, words, n=date_text(period[side], style))


def _performer(request: Mapping[str, Any], style: Style) -> Iterator[str]:
    performer = request.get("performer")
    if performer is None:
        return
    if not isinstance(performer, Mapping):
        refuse(KIND)
    # A reference without a name says nothing on paper, and who dispenses changes no dose.
    if performer.get("display"):
        yield said(style, "dispenseBy", n=text_value(performer["display"], style))
