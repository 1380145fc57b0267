"""Patients written by hand: what generated data lack, above all Dari and Pashto names beside Latin drug and test names.

Nobody here exists. Every date is fixed, so a page made from these records is the same on every day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Resource = dict[str, Any]

_LOINC = "http://loinc.org"
_SNOMED = "http://snomed.info/sct"
_MRN = "https://hospital.example/identifiers/mrn"

PRACTITIONER = "Practitioner/demo-practitioner-haidari"
ORGANIZATION = "Organization/demo-clinic"


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """A made-up patient as a caller needs it; ``birth_date`` is a FHIR date, ``locale`` the language of the form."""

    id: str
    encounter_id: str
    name: str
    birth_date: str
    identifier: str
    locale: str


@dataclass(frozen=True, slots=True)
class _Test:
    """A laboratory test as it is ordered: LOINC code and name, optionally SNOMED CT, and the local name."""

    loinc: str
    name: str
    snomed: tuple[str, str] | None = None


_BLOOD_COUNT = _Test(
    "58410-2", "CBC panel - Blood by Automated count", ("26604007", "Complete blood count (procedure)")
)
_HBA1C = _Test(
    "4548-4",
    "Hemoglobin A1c/Hemoglobin.total in Blood",
    ("43396009", "Hemoglobin A1c measurement (procedure)"),
)
_METABOLIC = _Test("24323-8", "Comprehensive metabolic 2000 panel - Serum or Plasma")
_THYROID = _Test("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma")
_LIPIDS = _Test("24331-1", "Lipid 1996 panel - Serum or Plasma", ("16254007", "Lipid panel (procedure)"))
_URINE = _Test("24357-6", "Urinalysis macro (dipstick) panel - Urine")
_FERRITIN = _Test("2276-4", "Ferritin [Mass/volume] in Serum or Plasma")
_CRP = _Test("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma")

_PEOPLE: tuple[tuple[SyntheticPatient, Resource], ...] = (
    (
        SyntheticPatient(
            "demo-patient-noorzai",
            "demo-encounter-noorzai",
            "Fatima Noorzai",
            "1978-06-02",
            "KBL-100871",
            "en",
        ),
        {
            "given": ["Fatima"],
            "family": "Noorzai",
            "gender": "female",
            "phone": "+93 70 555 0187",
            "city": "Kabul",
            "address": "House 12, Street 4, Karte Seh",
            "comma": ", ",
            "language": ("en", "English"),
            "tests": (_BLOOD_COUNT, _HBA1C, _METABOLIC, _LIPIDS),
            "reason": "Type 2 diabetes, six-month review; fatigue for three weeks",
            "condition": ("44054006", "Diabetes mellitus type 2 (disorder)", "E11.9"),
            "allergy": ("91936005", "Allergy to penicillin (finding)"),
        },
    ),
    (
        SyntheticPatient(
            "demo-patient-rahimi",
            "demo-encounter-rahimi",
            "احمد شاه رحیمی",
            "1984-03-21",
            "KBL-100234",
            "fa-AF",
        ),
        {
            "given": ["احمد شاه"],
            "family": "رحیمی",
            "latin": ("Ahmad Shah", "Rahimi"),
            "gender": "male",
            "phone": "0700 914 319",
            "city": "کابل",
            "address": "کوچهٔ چهارم، خانهٔ ۱۲، کارتهٔ سه",
            "comma": "، ",
            "language": ("fa-AF", "دری"),
            "tests": (_BLOOD_COUNT, _THYROID, _LIPIDS),
            "reason": "فشار خون بلند؛ کنترول شش‌ماهه با Amlodipine 5 mg",
            "condition": ("38341003", "Hypertensive disorder, systemic arterial (disorder)", "I10"),
            # Known to have none: not the same as nobody having asked.
            "allergy": ("716186003", "No known allergy (situation)"),
        },
    ),
    (
        SyntheticPatient(
            "demo-patient-ahmadzai",
            "demo-encounter-ahmadzai",
            "زرغونه احمدزۍ",
            "1991-11-09",
            "KDR-200412",
            "ps-AF",
        ),
        {
            "given": ["زرغونه"],
            "family": "احمدزۍ",
            "latin": ("Zarghuna", "Ahmadzai"),
            "gender": "female",
            "phone": "+93 79 555 0142",
            "city": "کندهار",
            "address": "دوهمه ناحیه، څلورمه کوڅه",
            "comma": "، ",
            "language": ("ps-AF", "پښتو"),
            "tests": (_BLOOD_COUNT, _FERRITIN, _CRP, _URINE),
            "reason": "د وینې کمښت؛ Ferrous sulfate 325 mg له دوو میاشتو راهیسې",
            "condition": ("87522002", "Iron deficiency anemia (disorder)", "D50.9"),
            # Nobody has recorded anything about this patient's allergies.
            "allergy": None,
        },
    ),
)


def handmade_patients() -> tuple[SyntheticPatient, ...]:
    """Give the three patients: English, Dari, Pashto."""
    return tuple(person for person, _ in _PEOPLE)


def handmade_resources() -> list[Resource]:
    """Give every resource of the three records, each with an id, in an order in which references resolve."""
    resources = [_organization(), _practitioner()]
    for person, facts in _PEOPLE:
        resources += [
            _patient(person, facts),
            _encounter(person, facts),
            _condition(person, facts),
            *orders(person, facts["tests"], facts["reason"]),
            *_no_longer_orders(person),
        ]
        if facts["allergy"] is not None:
            resources.append(_allergy(person, facts["allergy"]))
    return resources


def _organization() -> Resource:
    return {
        "resourceType": "Organization",
        "id": ORGANIZATION.partition("/")[2],
        "active": True,
        "name": "Karte Seh Clinic",
        "alias": ["کلینیک کارتهٔ سه", "د کارته سې کلینیک"],
        "telecom": [{"system": "phone", "value": "+93 20 555 0100"}],
        "address": [{"text": "Karte Seh, Kabul", "city": "Kabul", "country": "AF"}],
    }


def _practitioner() -> Resource:
    return {
        "resourceType": "Practitioner",
        "id": PRACTITIONER.partition("/")[2],
        "active": True,
        "identifier": [{"system": "https://hospital.example/identifiers/license", "value": "MC-04417"}],
        "name": [{"use": "official", "family": "Haidari", "given": ["Nasrin"], "prefix": ["Dr."]}],
    }


def _patient(person: SyntheticPatient, facts: Resource) -> Resource:
    names = [
        {"use": "official", "text": person.name, "family": facts["family"], "given": facts["given"]},
    ]
    if "latin" in facts:
        given, family = facts["latin"]
        names.append({"use": "usual", "text": f"{given} {family}", "family": family, "given": [given]})
    code, display = facts["language"]
    return {
        "resourceType": "Patient",
        "id": person.id,
        "active": True,
        "identifier": [
            {
                "use": "official",
                "type": {
                    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}],
                    "text": "MRN",
                },
                "system": _MRN,
                "value": person.identifier,
            }
        ],
        "name": names,
        "telecom": [{"system": "phone", "value": facts["phone"], "use": "mobile"}],
        "gender": facts["gender"],
        "birthDate": person.birth_date,
        "address": [
            {
                "use": "home",
                "text": f"{facts['address']}{facts['comma']}{facts['city']}",
                "line": [facts["address"]],
                "city": facts["city"],
                "country": "AF",
            }
        ],
        "communication": [
            {
                "language": {"coding": [{"system": "urn:ietf:bcp:47", "code": code}], "text": display},
                "preferred": True,
            }
        ],
        "managingOrganization": {"reference": ORGANIZATION},
    }


def _encounter(person: SyntheticPatient, facts: Resource) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": person.encounter_id,
        "status": "in-progress",
        "class": {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": "AMB",
            "display": "ambulatory",
        },
        "subject": {"reference": f"Patient/{person.id}"},
        "participant": [{"individual": {"reference": PRACTITIONER, "display": "Dr. Nasrin Haidari"}}],
        "period": {"start": "2026-09-14T08:30:00+04:30"},
        "reasonCode": [{"text": facts["reason"]}],
        "serviceProvider": {"reference": ORGANIZATION, "display": "Karte Seh Clinic"},
    }


def _condition(person: SyntheticPatient, facts: Resource) -> Resource:
    snomed, display, icd = facts["condition"]
    return {
        "resourceType": "Condition",
        "id": f"{person.id}-condition-1",
        "clinicalStatus": _coded("http://terminology.hl7.org/CodeSystem/condition-clinical", "active"),
        "verificationStatus": _coded("http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed"),
        "category": [
            _coded("http://terminology.hl7.org/CodeSystem/condition-category", "encounter-diagnosis"),
        ],
        "code": {
            "coding": [
                {"system": _SNOMED, "code": snomed, "display": display},
                {"system": "http://hl7.org/fhir/sid/icd-10", "code": icd},
            ]
        },
        "subject": {"reference": f"Patient/{person.id}"},
        "encounter": {"reference": f"Encounter/{person.encounter_id}"},
        "recordedDate": "2026-09-14",
    }


def _allergy(person: SyntheticPatient, allergy: tuple[str, str]) -> Resource:
    code, display = allergy
    return {
        "resourceType": "AllergyIntolerance",
        "id": f"{person.id}-allergy-1",
        "clinicalStatus": _coded("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active"),
        "verificationStatus": _coded(
            "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "confirmed"
        ),
        "code": {"coding": [{"system": _SNOMED, "code": code, "display": display}]},
        "patient": {"reference": f"Patient/{person.id}"},
        "recordedDate": "2024-02-11",
    }


def orders(person: SyntheticPatient, tests: Sequence[_Test], reason: str) -> list[Resource]:
    """Order laboratory tests: active ServiceRequests of the person's encounter, the first of them urgent."""
    return [_order(person, number, test, reason) for number, test in enumerate(tests, start=1)]


def routine_orders(person: SyntheticPatient) -> list[Resource]:
    """Order a blood count and a metabolic panel, for patients who come without orders."""
    return orders(person, (_BLOOD_COUNT, _METABOLIC), "Routine review")


def _order(person: SyntheticPatient, number: int, test: _Test, reason: str) -> Resource:
    codings = [{"system": _LOINC, "code": test.loinc, "display": test.name}]
    if test.snomed is not None:
        codings.append({"system": _SNOMED, "code": test.snomed[0], "display": test.snomed[1]})
    return {
        "resourceType": "ServiceRequest",
        "id": f"{person.id}-order-{number}",
        "status": "active",
        "intent": "order",
        "priority": "urgent" if number == 1 else "routine",
        "category": [
            {"coding": [{"system": _SNOMED, "code": "108252007", "display": "Laboratory procedure (procedure)"}]}
        ],
        "code": {"coding": codings},
        "subject": {"reference": f"Patient/{person.id}"},
        "encounter": {"reference": f"Encounter/{person.encounter_id}"},
        "authoredOn": f"2026-09-14T08:{40 + number:02d}:00+04:30",
        "requester": {"reference": PRACTITIONER, "display": "Dr. Nasrin Haidari"},
        "reasonCode": [{"text": reason}],
    }


def _no_longer_orders(person: SyntheticPatient) -> list[Resource]:
    """Give orders that must never print as current: one revoked, one entered in error."""
    revoked = _order(person, 8, _CRP, "Ordered twice") | {"id": f"{person.id}-order-revoked", "status": "revoked"}
    mistaken = _order(person, 9, _URINE, "Ordered for the wrong person") | {
        "id": f"{person.id}-order-mistaken",
        "status": "entered-in-error",
    }
    return [revoked, mistaken]


def _coded(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}
