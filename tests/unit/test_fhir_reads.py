"""From context entries to reads, and which resource belongs to whom."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest

from document_service.errors import BindingFailed, ResourceUnknown, WrongPatient
from document_service.fhir.compartment import COMPARTMENT, is_of_encounter, require_patient, resolve
from document_service.fhir.reads import plan

BASE = "https://fhir.example/r4"
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:mrn", "value": "77"}],
}


def search(spec: dict[str, Any], encounter: str | None = None, **inputs: object) -> list[tuple[str, str]]:
    planned = plan({"x": spec}, "p1", encounter, inputs)
    return parse_qsl(planned.reads[-1].url.partition("?")[2], keep_blank_values=True)


def test_patient_and_encounter_are_read_whatever_the_form_shows() -> None:
    planned = plan({}, "p1", "e1", {})
    assert [read.url for read in planned.reads] == ["Patient/p1", "Encounter/e1"]
    assert [read.what for read in planned.reads] == ["the patient", "the encounter"]


def test_a_search_is_of_the_patient() -> None:
    assert search({"search": "ServiceRequest", "params": {"status": "active"}}) == [
        ("patient", "Patient/p1"),
        ("status", "active"),
        ("_count", "200"),
    ]


def test_a_scope_adds_the_encounter_when_the_request_names_one() -> None:
    spec = {"search": "ServiceRequest", "scope": "encounter"}
    assert ("encounter", "Encounter/e1") in search(spec, "e1")
    assert [name for name, _ in search(spec)] == ["patient", "_count"]
    assert ("_id", "e1") in search({"search": "Encounter", "scope": "encounter"}, "e1")
    assert ("context", "Encounter/e1") in search({"search": "MedicationDispense", "scope": "encounter"}, "e1")
    # R4 cannot be asked for these by encounter; they are sorted out afterwards.
    assert [name for name, _ in search({"search": "Immunization", "scope": "encounter"}, "e1")] == ["patient", "_count"]


def test_inputs_are_values_and_never_syntax() -> None:
    spec = {"search": "Observation", "params": {"code": "http://loinc.org|{inputs.code}", "date": "ge{inputs.since}"}}
    pairs = dict(search(spec, code="a,b|c$d\\e&patient=p2", since="2026-01-01"))
    assert pairs["code"] == "http://loinc.org|a\\,b\\|c\\$d\\\\e&patient=p2"
    assert pairs["patient"] == "Patient/p1"
    assert pairs["date"] == "ge2026-01-01"
    spec = {"search": "Observation", "params": {"value-quantity": "{inputs.v}", "x": "{inputs.flag}{patientId}"}}
    assert dict(search(spec, v=Decimal("1.10"), flag=True)) | {} == {
        "patient": "Patient/p1",
        "value-quantity": "1.10",
        "x": "truep1",
        "_count": "200",
    }


@pytest.mark.parametrize("given", [{}, {"v": None}, {"v": ""}, {"v": ["a"]}, {"v": {"a": 1}}])
def test_an_input_that_is_not_given_does_not_widen_the_search(given: dict[str, object]) -> None:
    with pytest.raises(BindingFailed, match=r"context\.x\.params: the input v"):
        search({"search": "Observation", "params": {"code": "{inputs.v}"}}, **given)


@pytest.mark.parametrize(
    "parameter",
    [
        "patient",
        "subject",
        "subject:Patient",
        "encounter",
        "_count",
        "_summary",
        "_elements",
        "_include",
        "_has:x",
        "a.b",
        "_format",
        "_filter",
        "a&b",
        "",
    ],
)
def test_parameters_that_undo_the_scope_are_refused(parameter: str) -> None:
    with pytest.raises(BindingFailed, match="params"):
        search({"search": "Observation", "params": {parameter: "x"}})


@pytest.mark.parametrize(
    "spec",
    [
        {"search": "Patient"},
        {"search": "AuditEvent"},
        {"read": "Binary"},
        {},
        {"read": "Patient", "reference": "x.y"},
        {"read": "Practitioner", "reference": "nowhere.y"},
        {"read": "Practitioner", "reference": "x.y"},
        {"search": "Coverage", "scope": "encounter"},
    ],
)
def test_a_context_that_cannot_be_read_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(BindingFailed, match=r"context\.x"):
        plan({"x": spec}, "p1", "e1", {})


def test_a_form_that_needs_an_encounter_says_so() -> None:
    with pytest.raises(ResourceUnknown, match="encounterId"):
        plan({"encounter": {"read": "Encounter"}}, "p1", None, {})
    assert plan({"encounter": {"read": "Encounter", "optional": True}}, "p1", None, {}).absent == ("encounter",)
    with pytest.raises(ResourceUnknown, match="encounterId"):
        search({"search": "Observation", "params": {"part-of": "{encounterId}"}})


# --- Whose resource is it -------------------------------------------------------------------------------------


def order(subject: object, **more: object) -> dict[str, Any]:
    return {"resourceType": "ServiceRequest", "id": "s1", "subject": subject} | more


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": "Patient/p1"},
        {"reference": "Patient/p1/_history/3"},
        {"reference": f"{BASE}/Patient/p1"},
        {"reference": "https://FHIR.example:443/r4/Patient/p1"},
        {"identifier": {"system": "urn:mrn", "value": "77"}},
    ],
)
def test_the_patient_s_own(subject: object) -> None:
    require_patient(order(subject), PATIENT, BASE, "x")


@pytest.mark.parametrize(
    "subject",
    [
        None,
        {},
        [],
        "Patient/p1",
        {"display": "somebody"},
        {"reference": "Patient/p2"},
        {"reference": "Patient/p1x"},
        {"reference": "Patient/P1"},
        {"reference": "Group/p1"},
        {"reference": "https://other.example/r4/Patient/p1"},
        {"reference": "http://fhir.example/r4/Patient/p1"},
        {"reference": "https://fhir.example/other/Patient/p1"},
        {"reference": "https://x@fhir.example/r4/Patient/p1"},
        {"reference": "urn:uuid:0b0ee4b6-6cd0-4a8a-9e62-4f0e2b8f6d55"},
        {"reference": "#nobody"},
        {"reference": "Patient/p1?x"},
        {"reference": 7},
        {"identifier": {"system": "urn:mrn", "value": "78"}},
        {"identifier": {"value": "77"}},
        [{"reference": "Patient/p1"}, {"reference": "Patient/p2"}],
    ],
)
def test_not_the_patient_s(subject: object) -> None:
    with pytest.raises(WrongPatient) as caught:
        require_patient(order(subject), PATIENT, BASE, "context.orders")
    assert "p2" not in str(caught.value)
    assert str(caught.value).startswith("context.orders")


def test_contained_patients_and_parts() -> None:
    same = {"resourceType": "Patient", "id": "c", "identifier": [{"system": "urn:mrn", "value": "77"}]}
    other = same | {"identifier": [{"system": "urn:mrn", "value": "1"}]}
    require_patient(order({"reference": "#c"}, contained=[same]), PATIENT, BASE, "x")
    with pytest.raises(WrongPatient):
        require_patient(order({"reference": "#c"}, contained=[other]), PATIENT, BASE, "x")
    with pytest.raises(WrongPatient):
        require_patient(
            order({"reference": "#c"}, contained=[{"resourceType": "Patient", "id": "c"}]), PATIENT, BASE, "x"
        )
    ours = {"reference": "Patient/p1"}
    specimen: dict[str, Any] = {"resourceType": "Specimen", "id": "c"}
    require_patient(order(ours, contained=[specimen]), PATIENT, BASE, "x")
    require_patient(order(ours, contained=[specimen | {"subject": ours}]), PATIENT, BASE, "x")
    for subject in ({"reference": "Patient/p2"}, {"display": "?"}):
        with pytest.raises(WrongPatient):
            require_patient(order(ours, contained=[specimen | {"subject": subject}]), PATIENT, BASE, "x")


def test_an_appointment_names_its_patient_among_others() -> None:
    actors = [{"actor": {"reference": "Practitioner/d"}}, {"actor": {"reference": "Patient/p1"}}]
    appointment = {"resourceType": "Appointment", "id": "a", "participant": actors}
    require_patient(appointment, PATIENT, BASE, "x")
    with pytest.raises(WrongPatient):
        require_patient({**appointment, "participant": actors[:1]}, PATIENT, BASE, "x")


def test_an_encounter_is_compared_too() -> None:
    assert is_of_encounter(order({}, encounter={"reference": "Encounter/e1"}), "e1", BASE)
    assert not is_of_encounter(order({}, encounter={"reference": "Encounter/e2"}), "e1", BASE)
    assert not is_of_encounter(order({}), "e1", BASE)
    document = {"resourceType": "DocumentReference", "context": {"encounter": [{"reference": f"{BASE}/Encounter/e1"}]}}
    assert is_of_encounter(document, "e1", BASE)
    assert is_of_encounter({"resourceType": "Encounter", "id": "e1"}, "e1", BASE)


def test_references_away_from_the_base_lead_nowhere() -> None:
    assert resolve("Practitioner/d/_history/2", BASE) is not None
    for literal in ("//evil.example/Patient/1", "ftp://x/Patient/1", "Patient/1/../2", "Patient/", "Patient/a b"):
        assert resolve(literal, BASE) is None


def test_every_type_of_the_table_can_be_planned() -> None:
    for name, belonging in COMPARTMENT.items():
        assert search({"search": name})[0] == (belonging.patient_parameter, "Patient/p1")
