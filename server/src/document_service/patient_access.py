"""The access rule where a record is read for somebody: a render, a trial with a real patient, an upload's encounter.

The facility is known only when the encounter was read, and a refusal must tell nothing of another facility: it is word
for word the answer to an encounter that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from document_service import access
from document_service.access import Subject
from document_service.errors import PatientUnknown, ResourceUnknown
from document_service.fhir import FhirSnapshot
from document_service.tokens import Caller

_CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

#: HL7 v3 Confidentiality from the least to the most confidential: a document is as confidential as its source.
_LEVELS = ("U", "L", "M", "N", "R", "V")


def subject_of(snapshot: FhirSnapshot) -> Subject:
    """What the access rule is asked about for everything that is made from this snapshot."""
    facilities = None if snapshot.facility is None else (snapshot.facility,)
    return Subject(str(snapshot.patient.get("id")), facilities, _label(snapshot))


def _label(snapshot: FhirSnapshot) -> str | None:
    found = [-1]
    for resource in (snapshot.patient, snapshot.encounter or {}):
        labels = (resource.get("meta") or {}).get("security") or []
        for label in labels if isinstance(labels, list) else []:
            if isinstance(label, dict) and label.get("system") == _CONFIDENTIALITY and label.get("code") in _LEVELS:
                found.append(_LEVELS.index(label["code"]))
    return None if max(found) < 0 else _LEVELS[max(found)]


def require(caller: Caller, snapshot: FhirSnapshot, context: Mapping[str, Mapping[str, Any]]) -> Subject:
    """The subject, when the caller may see it.

    Raises:
        ResourceUnknown, PatientUnknown: as the reader raises them for an encounter or a patient that does not exist.
    """
    subject = subject_of(snapshot)
    if access.permits(caller, subject):
        return subject
    wanted = "Patient" if snapshot.encounter is None else "Encounter"
    names = [
        f"context.{name}" for name, entry in context.items() if entry.get("read") == wanted and "reference" not in entry
    ]
    what = ", ".join(names) or f"the {wanted.lower()}"
    refusal = PatientUnknown if snapshot.encounter is None else ResourceUnknown
    raise refusal(f"{what}: the FHIR server answered 404.")
