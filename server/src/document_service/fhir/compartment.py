"""Which resources belong to a patient and an encounter, and how to ask for them.

The table follows the Patient and Encounter compartments of FHIR R4 (https://hl7.org/fhir/R4/compartmentdefinition-patient.html)
and the search parameters of each resource. A type that is not in it cannot be searched by a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from document_service.errors import WrongPatient

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Belonging:
    """How a resource type names its patient and its encounter: element paths, and search parameters if any."""

    patient: str
    encounter: str | None = None
    encounter_parameter: str | None = None
    patient_parameter: str = "patient"


_SUBJECT = Belonging("subject", "encounter", "encounter")
_SUBJECT_ALONE = Belonging("subject")
_PATIENT_ALONE = Belonging("patient")

COMPARTMENT: dict[str, Belonging] = {
    "Account": _SUBJECT_ALONE,
    # R4 has no encounter search parameter for these two, although the element exists: they are sorted out here.
    "AllergyIntolerance": Belonging("patient", "encounter"),
    "Immunization": Belonging("patient", "encounter"),
    "Appointment": Belonging("participant.actor"),
    "CarePlan": _SUBJECT,
    "CareTeam": _SUBJECT,
    "ClinicalImpression": _SUBJECT,
    "Composition": _SUBJECT,
    "Condition": _SUBJECT,
    "Consent": _PATIENT_ALONE,
    "Coverage": Belonging("beneficiary"),
    "DetectedIssue": _PATIENT_ALONE,
    "Device": _PATIENT_ALONE,
    "DeviceRequest": _SUBJECT,
    "DeviceUseStatement": _SUBJECT_ALONE,
    "DiagnosticReport": _SUBJECT,
    "DocumentReference": Belonging("subject", "context.encounter", "encounter"),
    "Encounter": Belonging("subject", encounter_parameter="_id"),
    "EpisodeOfCare": _PATIENT_ALONE,
    "FamilyMemberHistory": _PATIENT_ALONE,
    "Flag": _SUBJECT,
    "Goal": _SUBJECT_ALONE,
    "ImagingStudy": _SUBJECT,
    "ImmunizationRecommendation": _PATIENT_ALONE,
    "List": _SUBJECT,
    "MedicationAdministration": Belonging("subject", "context", "context"),
    "MedicationDispense": Belonging("subject", "context", "context"),
    "MedicationRequest": _SUBJECT,
    "MedicationStatement": Belonging("subject", "context", "context"),
    "NutritionOrder": Belonging("patient", "encounter", "encounter"),
    "Observation": _SUBJECT,
    "Procedure": _SUBJECT,
    "QuestionnaireResponse": _SUBJECT,
    "RelatedPerson": _PATIENT_ALONE,
    "RequestGroup": _SUBJECT,
    "RiskAssessment": _SUBJECT,
    "ServiceRequest": _SUBJECT,
    "Specimen": _SUBJECT_ALONE,
    "Task": Belonging("for", "encounter", "encounter"),
    "VisionPrescription": Belonging("patient", "encounter", "encounter"),
}

# Types that hold no patient: who, where and with what. Read by reference, never searched.
ADMINISTRATIVE = frozenset(
    {"HealthcareService", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole", "Substance"}
)

_ID = r"[A-Za-z0-9\-.]{1,64}"
_REFERENCE = re.compile(
    rf"(?:(?P<base>https?://[^\s]+)/)?(?P<type>[A-Z][A-Za-z]{{1,60}})/(?P<id>{_ID})(?P<version>/_history/{_ID})?"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A literal reference to a resource of the tenant's own server; ``url`` is relative to its base."""

    type: str
    id: str
    url: str


def resolve(reference: str, base_url: str) -> Target | None:
    """Read a literal reference, relative or absolute, versioned or not; None when it leads anywhere else."""
    match = _REFERENCE.fullmatch(reference)
    if match is None or (match["base"] is not None and not _same_address(match["base"], base_url)):
        return None
    url = f"{match['type']}/{match['id']}{match['version'] or ''}"
    return Target(match["type"], match["id"], url)


def elements(resource: object, path: str) -> Iterator[Any]:
    """Give every value at a dotted element path, through lists."""
    if isinstance(resource, list):
        for item in resource:
            yield from elements(item, path)
        return
    if not path:
        yield resource
    elif isinstance(resource, dict):
        name, _, rest = path.partition(".")
        if name in resource:
            yield from elements(resource[name], rest)


def require_patient(resource: Resource, patient: Resource, base_url: str, what: str) -> None:
    """Raise WrongPatient unless ``resource`` names ``patient`` and no other patient, its contained parts included."""
    belonging = COMPARTMENT.get(str(resource.get("resourceType")))
    if belonging is None:
        return
    if not _named(resource, belonging.patient, resource, patient, base_url, what):
        raise WrongPatient(f"{what}: a resource does not belong to the patient of the request.")
    for part in _contained(resource):
        inner = COMPARTMENT.get(str(part.get("resourceType")))
        # A contained resource that names nobody shares the subject of its container.
        if (
            inner is not None
            and not _named(part, inner.patient, resource, patient, base_url, what)
            and any(True for _ in elements(part, inner.patient))
        ):
            raise WrongPatient(f"{what}: a contained resource does not belong to the patient of the request.")


def is_of_encounter(resource: Resource, encounter_id: str, base_url: str) -> bool:
    """Tell whether ``resource`` is the encounter or names it."""
    if resource.get("resourceType") == "Encounter":
        return resource.get("id") == encounter_id
    belonging = COMPARTMENT[str(resource.get("resourceType"))]
    for reference in elements(resource, belonging.encounter or "encounter"):
        literal = reference.get("reference") if isinstance(reference, dict) else None
        target = resolve(literal, base_url) if isinstance(literal, str) else None
        if target is not None and (target.type, target.id) == ("Encounter", encounter_id):
            return True
    return False


def _named(part: Resource, path: str, whole: Resource, patient: Resource, base_url: str, what: str) -> bool:
    """Tell whether a reference at ``path`` is to the patient; WrongPatient when one is to another patient."""
    found = False
    for reference in elements(part, path):
        if not isinstance(reference, dict):
            continue
        literal = reference.get("reference")
        if not isinstance(literal, str):
            # A logical reference names the patient only by an identifier that the patient has.
            found = found or _shares_identifier([reference.get("identifier")], patient)
        elif literal.startswith("#"):
            inner = next((one for one in _contained(whole) if one.get("id") == literal[1:]), None)
            if inner is not None and inner.get("resourceType") == "Patient":
                if not _shares_identifier(inner.get("identifier"), patient):
                    raise WrongPatient(f"{what}: a contained patient is not the patient of the request.")
                found = True
        else:
            target = resolve(literal, base_url)
            if target is not None and target.type == "Patient":
                if target.id != patient.get("id"):
                    raise WrongPatient(f"{what}: a resource belongs to another patient.")
                found = True
    return found


def _contained(resource: Resource) -> list[Resource]:
    contained = resource.get("contained")
    return [part for part in contained if isinstance(part, dict)] if isinstance(contained, list) else []


def _shares_identifier(identifiers: object, patient: Resource) -> bool:
    return not _identifier_pairs(identifiers).isdisjoint(_identifier_pairs(patient.get("identifier")))


def _identifier_pairs(identifiers: object) -> set[tuple[str, str]]:
    """Collect (system, value); an identifier without a system is unique nowhere and identifies nobody."""
    pairs = set()
    for identifier in identifiers if isinstance(identifiers, list) else []:
        if isinstance(identifier, dict):
            system, value = identifier.get("system"), identifier.get("value")
            if isinstance(system, str) and isinstance(value, str) and system and value:
                pairs.add((system, value))
    return pairs


def _same_address(one: str, other: str) -> bool:
    return address(one) == address(other)


def address(url: str) -> tuple[str, str, int | None, str] | None:
    """Reduce a URL to scheme, host, port and path for comparison; None when it is not an address."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    if parts.username is not None or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")
