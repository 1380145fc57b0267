"""What stands on every page whatever the form says: whose document it is, which one, and as of when (issue 4, item 5).

The author of a form cannot leave it out or bend it: a loose page must never belong to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from document_service.bindings.plan import Label
from document_service.definitions.page_model import Identity
from document_service.errors import BindingFailed, BindingRequired
from document_service.formatting import (
    Style,
    UnprintableText,
    ValueAbsent,
    ValueMismatch,
    format_value,
    isolate_clean_text,
)
from document_service.formatting.isolation import NO_BREAK_SPACE

_BETWEEN = f"{NO_BREAK_SPACE}· "
# Names that are no longer, or never were, the person's own for a document.
_NOT_FOR_DOCUMENTS = ("old", "maiden", "nickname", "anonymous", "temp")


def _preferred(entries: Any, uses: tuple[str, ...], never: tuple[str, ...]) -> Any:
    """The first entry with the best ``use``; one without a use after those, one of ``never`` not at all."""
    usable = [entry for entry in entries or () if isinstance(entry, dict) and entry.get("use") not in never]
    for use in (*uses, None):
        for entry in usable:
            if entry.get("use") == use:
                return entry
    return usable[0] if usable else None


def patient_name(patient: Mapping[str, Any]) -> Any:
    """The HumanName that identifies the patient: official, then usual, then any that still holds."""
    return _preferred(patient.get("name"), ("official", "usual"), _NOT_FOR_DOCUMENTS)


def patient_identifier(patient: Mapping[str, Any]) -> Any:
    """The Identifier that identifies the patient: a medical record number first, then official, then usual."""
    entries = [entry for entry in patient.get("identifier") or () if isinstance(entry, dict) and entry.get("value")]
    for entry in entries:
        codings = (entry.get("type") or {}).get("coding") or ()
        if entry.get("use") != "old" and any(isinstance(item, dict) and item.get("code") == "MR" for item in codings):
            return entry
    return _preferred(entries, ("official", "usual"), ("old", "temp"))


def patient_line(patient: Mapping[str, Any], labels: Mapping[str, Label], style: Style) -> str:
    """Name, birth date and identifier in one line. Raises BindingRequired where the record has no name."""
    pieces: list[str] = []
    try:
        pieces.append(format_value("humanName", patient_name(patient), style))
    except (ValueAbsent, ValueMismatch):
        raise BindingRequired("The patient's record has no name.", extra={"binding": "patient.name"}) from None
    except UnprintableText:
        raise _unprintable("patient.name") from None
    try:
        born = (
            format_value("date", patient["birthDate"], style)
            if patient.get("birthDate")
            else labels["notRecorded"].text
        )
        pieces.append(f"{labels['birthDate'].text}:{NO_BREAK_SPACE}{born}")
        # The server's own id is the last resort: it still tells two patients of one name apart.
        identifier = patient_identifier(patient) or patient.get("id")
        if identifier:
            pieces.append(
                f"{labels['identifier'].text}:{NO_BREAK_SPACE}{format_value('identifier', identifier, style)}"
            )
    except (ValueAbsent, ValueMismatch, UnprintableText):
        raise _unprintable("patient.birthDate or patient.identifier") from None
    return _BETWEEN.join(pieces)


def _unprintable(name: str) -> BindingFailed:
    return BindingFailed(f"{name} cannot be printed.", extra={"binding": name})


def document_items(request: Mapping[str, Any], labels: Mapping[str, Label], style: Style) -> list[list[str]]:
    """Number, issue time, form with version, and the moment of the data, each as label and value."""
    version = format_value("identifier", request["templateVersion"], style)
    form = f"{isolate_clean_text(request['templateName'])}{NO_BREAK_SPACE}{version}"
    return [
        [labels["documentNumber"].text, format_value("identifier", request["documentNumber"], style)],
        [labels["issuedAt"].text, format_value("dateTime", request["issuedAt"], style)],
        [labels["dataAsOf"].text, format_value("dateTime", request["dataAsOf"], style)],
        [labels["template"].text, form],
    ]


def identity(
    patient: Mapping[str, Any], request: Mapping[str, Any], labels: Mapping[str, Label], style: Style
) -> Identity:
    """The identity block of the page model."""
    page_of = "".join(f"{text}{{{name}}}" if name else text for text, name in labels["pageOf"].pieces)
    return {
        "patient": patient_line(patient, labels, style),
        "items": document_items(request, labels, style),
        "pageOf": page_of,
        "digits": style.numerals,
    }
