"""Which of the resources read may be printed at all (issue 4, item 2). Runs before any path is evaluated.

Entered-in-error never prints. Stopped or negated entries print only where the definition asks for them. A modifier
that the form does not know could turn a statement into its opposite, so it refuses the render (FHIR R4, extensibility).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from document_service.definitions.model import ORDERED_OUT_STATUSES, ContextEntry, Definition
from document_service.errors import (
    BindingFailed,
    BindingRequired,
    DataIncomplete,
    ModifierUnknown,
    PatientMismatch,
    RenderTooLarge,
)

# Deeper than any resource of R4 (a questionnaire response of 20 nested groups has about 60 levels of JSON).
MOST_DEPTH = 100
# A hostile record must not fill the child's memory before the page is even begun; a 300-page document has 10,000 rows.
MOST_RESOURCES = 20_000


def screen(definition: Definition, resources: Mapping[str, Any]) -> dict[str, Any]:
    """The resources by context name that may be printed: a mapping for a read, a list for a search, None where absent.

    Raises BindingRequired (a required read found nothing), DataIncomplete (a search was never answered),
    BindingFailed (another type than asked for, or entered in error) and ModifierUnknown.
    """
    printable: dict[str, Any] = {}
    for name, entry in definition.context.items():
        if entry.kind == "read":
            printable[name] = _read(entry, resources.get(name))
            continue
        if not isinstance(resources.get(name), list):
            raise DataIncomplete(f"The search {name} has no answer.", extra={"context": name})
        if len(resources[name]) > MOST_RESOURCES:
            raise RenderTooLarge(f"The search {name} found more than {MOST_RESOURCES} entries.")
        printable[name] = [item for item in resources[name] if _prints(entry, item)]
        if not printable[name] and not entry.optional:
            raise BindingRequired(f"The search {name} found nothing to print.", extra={"binding": name})
    return printable


def _read(entry: ContextEntry, resource: Any) -> Mapping[str, Any] | None:
    if resource is None:
        if entry.optional:
            return None
        raise BindingRequired(f"The resource {entry.name} was not found.", extra={"binding": entry.name})
    if not _prints(entry, resource):
        raise BindingFailed(
            f"The resource {entry.name} is entered in error, cancelled or negated.", extra={"context": entry.name}
        )
    typed: Mapping[str, Any] = resource
    return typed


# What a patient's record keeps after its time: a former name or address, a number that may be another person's by now.
_OF_A_TIME = ("name", "identifier", "telecom", "address", "contact")


def current(patient: Mapping[str, Any], issued_at: str) -> dict[str, Any]:
    """The patient without what is marked old, or whose period ended before the day of ``issued_at``.

    Dates of less than a day count as their last one, so that what ended "in 2026" is current through 2026.
    """
    today = issued_at[:10]

    def holds(entry: Any) -> bool:
        if not isinstance(entry, dict):
            return True
        period = entry.get("period")
        end = period.get("end") if isinstance(period, dict) else None
        ended = isinstance(end, str) and end[:10] < today[: len(end[:10])]
        return entry.get("use") != "old" and not ended

    kept = dict(patient)
    for member in _OF_A_TIME:
        if isinstance(kept.get(member), list):
            kept[member] = [entry for entry in kept[member] if holds(entry)]
    return kept


def _codes(concept: Any) -> set[str]:
    codings = concept.get("coding", ()) if isinstance(concept, dict) else ()
    return {item["code"] for item in codings if isinstance(item, dict) and isinstance(item.get("code"), str)}


_TELLING = ORDERED_OUT_STATUSES | {"entered-in-error"}


def _prints(entry: ContextEntry, resource: Any) -> bool:
    """Whether the resource may be printed as current. Raises for another type and for unknown modifiers."""
    if not isinstance(resource, dict) or resource.get("resourceType") != entry.resource_type:
        raise BindingFailed(f"The context {entry.name} holds another resource type.", extra={"context": entry.name})
    # A goal says it in its lifecycle, and a document reference of what it refers to.
    told = [resource.get(member) for member in ("status", "lifecycleStatus", "docStatus")]
    statuses = {status for status in told if isinstance(status, str)} & _TELLING
    verification = _codes(resource.get("verificationStatus"))
    if "entered-in-error" in statuses | verification:
        return False
    if statuses - entry.include_statuses:
        return False
    negated = resource.get("doNotPerform") is True or "refuted" in verification
    if negated and not entry.include_negated:
        return False
    _refuse_unknown_modifiers(entry, resource)
    return True


def _refuse_unknown_modifiers(entry: ContextEntry, resource: Any) -> None:
    stack: list[tuple[Any, int]] = [(resource, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > MOST_DEPTH:
            raise RenderTooLarge(f"A resource of {entry.name} is nested too deeply.")
        if isinstance(value, dict):
            if "modifierExtension" in value or "implicitRules" in value:
                _check_modifiers(entry, value)
            for item in value.values():
                if isinstance(item, dict | list):
                    stack.append((item, depth + 1))
        else:
            stack.extend((item, depth + 1) for item in value if isinstance(item, dict | list))


def _check_modifiers(entry: ContextEntry, element: Mapping[str, Any]) -> None:
    extensions = element.get("modifierExtension") or []
    urls = [item.get("url") if isinstance(item, dict) else None for item in extensions]
    if element.get("implicitRules") or any(url not in entry.modifier_extensions for url in urls):
        raise ModifierUnknown(
            f"A resource of {entry.name} carries a modifier that this form does not know.",
            extra={"context": entry.name},
        )


# Birth dates and identifiers are typed on keyboards with native digits too.
_TO_LATIN = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩", "01234567890123456789")


def _typed(text: object) -> str:
    return str(text).translate(_TO_LATIN).strip()


def _is_within(day: str, recorded: str) -> bool:
    """Whether ``day`` is the recorded day, or in the recorded month or year (FHIR R4 date: 4, 7 or 10 characters)."""
    return len(recorded) in (4, 7, 10) and day[: len(recorded)] == recorded


def check_patient(patient: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> None:
    """Compare the record with the request's ``patientCheck``; raises PatientMismatch without saying what differs.

    ``birthDate`` is compared as far as the record knows it: a year alone differs from no day of that year.
    ``identifier`` matches any current identifier by value, or by ``system|value`` where it is written so; a number that
    is marked old may be another patient's now.
    """
    if not wanted:
        return
    birth_date = wanted.get("birthDate")
    recorded = patient.get("birthDate")
    if birth_date is not None and not (isinstance(recorded, str) and _is_within(_typed(birth_date), recorded)):
        raise PatientMismatch("birthDate differs.", extra={"field": "birthDate"})
    identifier = wanted.get("identifier")
    if identifier is None:
        return
    for entry in patient.get("identifier", ()):
        if isinstance(entry, dict) and entry.get("value"):
            value = _typed(entry["value"])
            if _typed(identifier) in (value, f"{entry.get('system', '')}|{value}"):
                return
    raise PatientMismatch("identifier differs.", extra={"field": "identifier"})
