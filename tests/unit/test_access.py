"""The access rule, and what it is told of a record that was read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from document_service import patient_access
from document_service.access import Subject, facilities_of, permits
from document_service.errors import PatientUnknown, ResourceUnknown
from document_service.fhir import FhirSnapshot
from document_service.tokens import Caller

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"


def caller(*facilities: str, whole_tenant: bool = False) -> Caller:
    return Caller("t1", "u1", frozenset({"CLINICIAN"}), None if whole_tenant else frozenset(facilities))


def snapshot(encounter: dict[str, Any] | None = None, *labels: Any) -> FhirSnapshot:
    patient = {"resourceType": "Patient", "id": "p1", "meta": {"security": list(labels)}}
    return FhirSnapshot({}, patient, encounter, datetime.now(UTC), [])


def at(organization: str) -> dict[str, Any]:
    return {"resourceType": "Encounter", "serviceProvider": {"reference": f"Organization/{organization}"}}


@pytest.mark.parametrize(
    ("who", "facilities", "allowed"),
    [
        (caller(whole_tenant=True), ("a",), True),
        (caller("a"), ("a",), True),
        (caller("a", "b"), ("b", "c"), True),
        (caller("a"), ("b",), False),
        (caller(), ("a",), False),
        (caller(), None, True),
        (caller("a"), (), False),
    ],
)
def test_a_record_is_seen_by_its_facilities_or_by_all(who: Caller, facilities: Any, allowed: bool) -> None:
    assert permits(who, Subject("p1", facilities)) is allowed


def test_lists_are_narrowed_as_the_rule_decides() -> None:
    assert facilities_of(caller(whole_tenant=True)) is None
    assert facilities_of(caller("b", "a")) == ["a", "b"]
    assert facilities_of(caller()) == []


def test_a_refusal_reads_as_the_readers_own() -> None:
    context = {"encounter": {"read": "Encounter"}, "ward": {"read": "Location", "reference": "encounter.location"}}
    with pytest.raises(ResourceUnknown) as named:
        patient_access.require(caller("b"), snapshot(at("a")), context)
    assert named.value.detail == "context.encounter: the FHIR server answered 404."
    with pytest.raises(ResourceUnknown) as unnamed:
        patient_access.require(caller("b"), snapshot(at("a")), {})
    assert unnamed.value.detail == "the encounter: the FHIR server answered 404."
    assert patient_access.require(caller("a"), snapshot(at("a")), context).facility_ids == ("a",)
    assert patient_access.require(caller("b"), snapshot(), context).facility_ids is None


def test_a_stricter_rule_refuses_a_patient_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("document_service.access.permits", lambda who, subject: subject.security_label != "V")
    secret = snapshot(None, {"system": CONFIDENTIALITY, "code": "V"})
    with pytest.raises(PatientUnknown) as refused:
        patient_access.require(caller("a"), secret, {"patient": {"read": "Patient"}})
    assert refused.value.detail == "context.patient: the FHIR server answered 404."


def test_a_document_is_as_confidential_as_the_most_confidential_of_its_sources() -> None:
    normal = {"system": CONFIDENTIALITY, "code": "N"}
    restricted = {"meta": {"security": [{"system": CONFIDENTIALITY, "code": "R"}]}}
    other = {"system": "urn:other", "code": "V"}
    assert patient_access.subject_of(snapshot(None)).security_label is None
    assert patient_access.subject_of(snapshot(None, normal, other, "odd")).security_label == "N"
    assert patient_access.subject_of(snapshot(restricted, normal)).security_label == "R"
    odd = FhirSnapshot({}, {"id": "p1", "meta": {"security": "R"}}, None, datetime.now(UTC), [])
    assert patient_access.subject_of(odd).security_label is None
