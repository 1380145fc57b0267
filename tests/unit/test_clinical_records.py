"""What real FHIR R4 records hold beside the ordinary: printed as it is meant, or refused, and never half.

Each of these printed something that could harm, or left out what mattered, before it was looked for.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from document_service.bindings import lay_out
from document_service.definitions import read_json
from document_service.errors import BindingFailed, BindingRequired, PatientMismatch
from document_service.exact_json import dumps_exact
from document_service.formatting.dosage_words import DOSAGE_WORD_KEYS, LATER_WORDS
from document_service.formatting.locales import STANDARD_LABEL_KEYS, STANDARD_WORDS
from form_rows import bare, dose, empty_words, laid_out, order, prescribed, rows, words
from platform_pages import FORMS, bare_resources, full_inputs, full_resources, request

MEDICINES = "Medicines ordered"


def taken(*instructions: dict[str, Any], **members: Any) -> list[str]:
    """The row of one medicine: number, medicine, dose and how to take, what to dispense."""
    found = prescribed(order(dosageInstruction=list(instructions), **members))
    return rows(laid_out("outpatient-prescription", found, {}), MEDICINES)[0]


def amount(value: Any, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit}


def person(key: str = "consent", **members: Any) -> Any:
    """A form for a patient with this record."""
    found = bare_resources(FORMS[key])
    patient = {**found["patient"], **members}
    return laid_out(key, {**found, "patient": patient}, {"procedure": "X"} if key == "consent" else {})


# --- How a medicine is taken ---------------------------------------------------------------------------------------


def test_the_side_and_the_manner_of_a_medicine_are_not_lost() -> None:
    how = taken({**dose("1", "drop"), "site": {"text": "left eye"}, "method": {"text": "instil"}})[2]
    assert how == "1 drop · left eye · instil"


def test_the_steps_of_a_course_are_told_in_their_order() -> None:
    def step(sequence: int, tablets: str, days: int, **members: Any) -> dict[str, Any]:
        bounds = {"boundsDuration": amount(days, "days")}
        return {**dose(tablets), "sequence": sequence, "timing": {"repeat": bounds}, **members}

    row = taken(step(2, "1", 10), step(1, "2", 5, route={"text": "by mouth"}))
    assert row[2] == "2 tablets · by mouth · for 5 days\nthen: 1 tablet · for 10 days"
    together = taken({**dose("2"), "text": "morning"}, {**dose("1"), "text": "evening"})
    assert together[2] == "2 tablets\nas written: morning\nand also: 1 tablet\nas written: evening"


def test_what_is_to_be_dispensed_how_often_and_until_when() -> None:
    """A pharmacist who does not see that a prescription ran out dispenses it."""
    request = {
        "quantity": amount(60, "tablet"),
        "numberOfRepeatsAllowed": 2,
        "expectedSupplyDuration": {"value": 30, "unit": "d", "code": "d"},
        "validityPeriod": {"start": "2026-09-14", "end": "2026-12-14T19:30:00Z"},
    }
    row = taken(dose(), dispenseRequest=request)
    assert row[3] == "60 tablets · for 30 days\nrepeats: 2\nvalid from 14 Sep 2026\nvalid until 15 Dec 2026"
    assert taken(dose(), dispenseRequest={"numberOfRepeatsAllowed": 0})[3] == "no repeats"
    assert taken(dose())[3] == "Not recorded"
    with pytest.raises(BindingFailed) as caught:
        taken(dose(), dispenseRequest={**request, "numberOfRepeatsAllowed": -1})
    assert caught.value.extra == {"binding": "orders[0].dispense"}


def test_what_the_pharmacist_must_know_of_an_order() -> None:
    row = taken(
        dose(),
        note=[{"text": "Check INR weekly."}],
        substitution={"allowedBoolean": False},
    )
    assert row[1] == "Amoxicillin 500 mg\ndo not replace by another product\nNote:\nCheck INR weekly."


def test_the_medicine_is_the_one_that_the_order_names() -> None:
    other = [{"resourceType": "Medication", "id": "other", "code": {"text": "WRONG DRUG"}}]
    named = order(dosageInstruction=[dose()], contained=other)
    del named["medicationCodeableConcept"]
    named["medicationReference"] = {"reference": "Medication/m1", "display": "Warfarin 5 mg"}
    model = laid_out("outpatient-prescription", prescribed(named), {})
    assert rows(model, MEDICINES)[0][1] == "Warfarin 5 mg"
    assert "WRONG" not in words(model)
    # Two of which one is meant: nothing is guessed.
    named["medicationReference"] = {"reference": "#other"}
    named["contained"] = [*other, {"resourceType": "Medication", "id": "ingredient", "code": {"text": "X"}}]
    with pytest.raises((BindingFailed, BindingRequired)):
        laid_out("outpatient-prescription", prescribed(named), {})


MEDICINE_TABLES = [
    ("outpatient-prescription", "orders", MEDICINES),
    ("discharge-summary", "medicines", "Medicines to go on with"),
    ("referral-letter", "medicines", "Current medicines"),
]


def named(key: str, name: str, title: str, *orders: dict[str, Any], locale: str = "en") -> list[str]:
    """What a form says of the medicine of each order."""
    found = {**full_resources(FORMS[key], locale), name: list(orders)}
    return [row[1] for row in rows(laid_out(key, found, full_inputs(key, locale), locale), title)]


@pytest.mark.parametrize(("key", "name", "title"), MEDICINE_TABLES)
@pytest.mark.parametrize(
    ("substitution", "said"),
    [
        ({"allowedBoolean": False}, "\ndo not replace by another product"),
        ({"allowedCodeableConcept": {"coding": [{"code": "N"}]}}, "\ndo not replace by another product"),
        (
            {"allowedCodeableConcept": {"text": "Do not substitute"}},
            "\nReplacing by another product:\nDo not substitute",
        ),
        (
            {"allowedCodeableConcept": {"coding": [{"code": "G", "display": "generic composition"}]}},
            "\nReplacing by another product:\ngeneric composition",
        ),
        ({"allowedBoolean": True}, ""),
        ({}, ""),
    ],
)
def test_whether_another_product_may_be_given(
    key: str, name: str, title: str, substitution: dict[str, Any], said: str
) -> None:
    one = order(dosageInstruction=[dose()], substitution=substitution)
    assert named(key, name, title, one) == [f"Amoxicillin 500 mg{said}"]


def strength(value: int, unit: str = "mg") -> dict[str, Any]:
    return {"numerator": amount(value, unit), "denominator": amount(1, "tablet")}


@pytest.mark.parametrize(("key", "name", "title"), MEDICINE_TABLES)
def test_form_and_strength_of_a_contained_medicine_are_not_lost(key: str, name: str, title: str) -> None:
    """Warfarin 1 tablet may be 1, 3 or 5 mg."""

    def inside(code: str, *ingredients: dict[str, Any], **members: Any) -> dict[str, Any]:
        medicine = {"resourceType": "Medication", "id": "m", "code": {"text": code}, "ingredient": list(ingredients)}
        found = order(dosageInstruction=[dose()], contained=[{**medicine, **members}], note=[{"text": "Check INR."}])
        del found["medicationCodeableConcept"]
        return {**found, "medicationReference": {"reference": "#m"}}

    single = inside(
        "Warfarin", {"itemCodeableConcept": {"text": "Warfarin"}, "strength": strength(5)}, form={"text": "tablet"}
    )
    several = inside(
        "Co-amoxiclav",
        {"itemCodeableConcept": {"text": "Amoxicillin"}, "strength": strength(500)},
        {"itemReference": {"display": "Clavulanic acid"}, "strength": strength(125)},
    )
    assert named(key, name, title, single, several, inside("Cefixime")) == [
        "Warfarin\ntablet\n5 mg/1 tablet\nNote:\nCheck INR.",
        "Co-amoxiclav\nAmoxicillin\n500 mg/1 tablet\nClavulanic acid\n125 mg/1 tablet\nNote:\nCheck INR.",
        "Cefixime\nNote:\nCheck INR.",
    ]
    # The one beside the order that it does not name has another strength.
    other = order(dosageInstruction=[dose()], contained=single["contained"])
    assert named(key, name, title, other) == ["Amoxicillin 500 mg"]


def test_a_referral_names_what_was_reported_and_what_the_ward_gives() -> None:
    """The next doctor must know of a warfarin that another clinic gave."""
    table = ("referral-letter", "medicines", "Current medicines")
    told = order(id="told", reportedBoolean=True, medicationCodeableConcept={"text": "Warfarin"})
    mother = order(id="m", reportedReference={"display": "Mother"}, medicationCodeableConcept={"text": "Aspirin"})
    ward = order(id="w", category=[{"coding": [{"code": "inpatient"}]}], medicationCodeableConcept={"text": "Heparin"})
    own = order(id="o", reportedBoolean=False)
    proposed = order(id="p", intent="proposal")
    assert named(*table, told, mother, ward, own, proposed) == [
        "Warfarin\nreported, not ordered here",
        "Aspirin\nreported, not ordered here",
        "Heparin\nordered for the ward",
        "Amoxicillin 500 mg",
    ]
    model = referral(medicines=[proposed])
    assert empty_words(model, table[2]) == "No active order of a medicine is recorded. Ask the patient."


@pytest.mark.parametrize("status", ["on-hold", "draft", "completed", "ended", "unknown"])
def test_an_order_that_is_not_active_is_not_prescribed_even_if_the_server_finds_it(status: str) -> None:
    active = order(dosageInstruction=[dose()])
    other = order(id="o", status=status, medicationCodeableConcept={"text": "OLD"}, dosageInstruction=[dose()])
    model = laid_out("outpatient-prescription", prescribed(active, other), {})
    assert len(rows(model, MEDICINES)) == 1
    assert "OLD" not in words(model)


def test_what_somebody_only_reported_is_not_prescribed() -> None:
    told = order(id="t", reportedReference={"reference": "RelatedPerson/mother"}, dosageInstruction=[dose()])
    with pytest.raises(BindingRequired):
        laid_out("outpatient-prescription", prescribed(told), {})


def test_the_signer_is_a_clinician_and_only_one_that_is_known() -> None:
    visit = {
        "resourceType": "Encounter",
        "id": "v",
        "status": "in-progress",
        "participant": [
            {"individual": {"reference": "RelatedPerson/mother", "display": "The mother"}},
            {"individual": {"reference": "Practitioner/p", "display": "Dr Karimi"}},
        ],
    }

    def prescriber(*names: str) -> str:
        orders = [
            order(id=f"o{number}", dosageInstruction=[dose()], requester={"display": name})
            for number, name in enumerate(names)
        ] or [order(dosageInstruction=[dose()])]
        model = laid_out("outpatient-prescription", prescribed(*orders, encounter=visit), {})
        return next(
            bare(field["value"])
            for section in model["sections"]
            if section["type"] == "fieldGrid"
            for field in section["fields"]
            if field["label"] == "Prescriber"
        )

    assert prescriber() == "Dr Karimi"
    assert prescriber("Dr Noori") == "Dr Noori"
    # Two prescribers: neither of them, and nobody else, is put under the orders of both.
    assert prescriber("Dr Noori", "Dr Sadat") == "Not recorded"


# --- Which tests are ordered -----------------------------------------------------------------------------------------


def asked_for(name: str = "CBC", **members: Any) -> dict[str, Any]:
    of = {"status": "active", "intent": "order", "subject": {"reference": "Patient/bare"}}
    return {"resourceType": "ServiceRequest", "id": name, "code": {"text": name}, **of, **members}


def requisition(*orders: dict[str, Any], **found: Any) -> Any:
    resources = {**bare_resources(FORMS["general-test-requisition"]), "orders": list(orders), **found}
    return laid_out("general-test-requisition", resources, {})


TESTS = "Active orders in the record"


@pytest.mark.parametrize(
    "members",
    [
        *({"status": status} for status in ("draft", "on-hold", "completed", "unknown", "revoked")),
        *({"intent": intent} for intent in ("proposal", "plan", "directive", "option", "an-order", "orders")),
    ],
)
def test_what_is_no_active_order_is_not_requested(members: dict[str, Any]) -> None:
    proposed = asked_for("CT with contrast", reasonCode=[{"text": "OF ANOTHER"}], **members)
    model = requisition(asked_for(), proposed)
    assert [row[1] for row in rows(model, TESTS)] == ["CBC"]
    assert "OF ANOTHER" not in words(model)
    with pytest.raises(BindingRequired):
        requisition(proposed)


@pytest.mark.parametrize("intent", ["order", "original-order", "reflex-order", "filler-order", "instance-order"])
def test_every_kind_of_order_is_requested(intent: str) -> None:
    assert [row[1] for row in rows(requisition(asked_for(intent=intent)), TESTS)] == ["CBC"]


def test_the_side_the_detail_and_the_time_of_a_test_are_not_lost() -> None:
    where = {"bodySite": [{"text": "left"}], "orderDetail": [{"text": "two planes"}]}
    at = {"occurrenceDateTime": "2026-09-19T08:00:00+04:30", "note": [{"text": "in a wheelchair"}]}
    assert rows(requisition(asked_for("X-ray knee", **where, **at)), TESTS)[0][1] == (
        "X-ray knee\ntwo planes\nleft\nTo be done:\n19 Sep 2026 08:00 +04:30\nin a wheelchair"
    )


def test_a_test_to_be_done_in_a_time_or_more_than_once_says_so() -> None:
    period = {"occurrencePeriod": {"start": "2026-09-19", "end": "2026-09-21"}}
    repeated = {"occurrenceTiming": {"repeat": {"frequency": 1, "period": 6, "periodUnit": "h"}}}
    unknown = {"_occurrenceDateTime": {"extension": [{"url": "http://x.example/why", "valueCode": "unknown"}]}}
    found = requisition(asked_for("A", **period), asked_for("Troponin", **repeated), asked_for("C", **unknown))
    assert [row[1] for row in rows(found, TESTS)] == [
        "A\nTo be done:\n19 Sep 2026 – 21 Sep 2026",
        "Troponin\nMore than once: see the order.",
        "C",
    ]


def by(name: str, reference: str = "Practitioner/p") -> dict[str, Any]:
    return {"requester": {"reference": reference, "display": name}}


MOTHER = by("The mother", "RelatedPerson/mother")


@pytest.mark.parametrize(
    ("orders", "clinician"),
    [
        ([by("Dr Noori"), by("Dr Noori")], "Dr Noori"),
        ([{}], "Dr Karimi"),
        ([MOTHER], "Dr Karimi"),
        ([by("Dr Noori"), {}], "Dr Karimi"),
        ([by("Dr Noori"), MOTHER], "Dr Karimi"),
        # As on a prescription: nobody is put under the orders of two.
        ([by("Dr Noori"), by("Dr Sadat")], "Not recorded"),
        # What is not requested counts for nothing.
        ([by("Dr Noori"), {**by("Dr Sadat"), "status": "draft"}], "Dr Noori"),
    ],
)
def test_who_requests_is_who_ordered_and_never_a_relative(orders: list[dict[str, Any]], clinician: str) -> None:
    people = [MOTHER["requester"], {"display": "Dr Karimi"}]
    visit = {"resourceType": "Encounter", "id": "v", "participant": [{"individual": one} for one in people]}
    asked = [asked_for(f"t{number}", **members) for number, members in enumerate(orders)]
    model = requisition(*asked, encounter=visit)
    assert model["sections"][2]["fields"][0]["label"] == "Requesting clinician"
    assert bare(model["sections"][2]["fields"][0]["value"]) == clinician


# --- Whose record ----------------------------------------------------------------------------------------------------

#: Issued on 18 September 2026 (platform_pages).
OVER = {"end": "2026-09-17"}


@pytest.mark.parametrize("key", ["consent", "patient-label-sheet", "general-test-requisition"])
@pytest.mark.parametrize("before", [{"use": "old"}, {"period": OVER}, {"period": {"end": "2026-08"}}])
def test_a_number_that_is_not_the_patients_any_more_is_nowhere(key: str, before: dict[str, Any]) -> None:
    record = {"type": {"coding": [{"code": "MR"}]}}
    found = bare_resources(FORMS[key])
    patient = {**found["patient"], "identifier": [{**record, **before, "value": "OLD-1"}, {**record, "value": "NEW-2"}]}
    inputs = {"consent": {"procedure": "X"}, "general-test-requisition": {"tests": "CBC"}}.get(key, {})
    said = words(laid_out(key, {**found, "patient": patient}, inputs))
    assert "NEW-2" in said
    assert "OLD-1" not in said


def test_the_name_of_today_and_the_number_that_is_preferred() -> None:
    model = person(
        name=[
            {"use": "official", "family": "Formerly", "given": ["Maryam"], "period": OVER},
            {"use": "official", "family": "Karimi", "given": ["Maryam"], "period": {"start": "2026-09-18"}},
        ],
        telecom=[
            {"system": "phone", "value": "0700 000 001", "rank": 3},
            {"system": "phone", "value": "0700 000 002", "rank": 1},
            {"system": "phone", "value": "0700 000 003", "period": OVER, "rank": 1},
        ],
        address=[{"city": "Kunduz", "period": OVER}, {"city": "Kabul"}],
    )
    said = words(model)
    assert "Maryam Karimi" in said
    assert "0700 000 002" in said
    assert "Kabul" in said
    for over in ("Formerly", "000 001", "000 003", "Kunduz"):
        assert over not in said


def test_what_ends_this_month_still_holds() -> None:
    assert "M-1" in words(person(identifier=[{"value": "M-1", "period": {"end": "2026-09"}}]))
    assert "M-1" in words(person(identifier=[{"value": "M-1", "period": {"end": "2026-09-18T09:00:00Z"}}]))


def test_a_name_in_words_is_printed_whole() -> None:
    assert "Maryam bint Yusuf" in words(person(name=[{"given": ["Maryam"], "text": "Maryam bint Yusuf"}]))


@pytest.mark.parametrize(
    "key", [key for key in FORMS if key not in ("patient-label-sheet", "general-test-requisition")]
)
def test_a_death_is_not_passed_over(key: str) -> None:
    found = full_resources(FORMS[key], "en")
    for members, expected in (
        ({"deceasedDateTime": "2026-09-10T02:00:00+04:30"}, ("Died on", "10 Sep 2026")),
        ({"deceasedBoolean": True}, ("Deceased", "Yes")),
        ({"deceasedBoolean": False}, None),
        ({}, None),
    ):
        model = laid_out(key, {**found, "patient": {**found["patient"], **members}}, full_inputs(key, "en"))
        fields = {
            field["label"]: bare(field["value"])
            for section in model["sections"]
            if section["type"] == "fieldGrid"
            for field in section["fields"]
        }
        assert [fields.get("Died on"), fields.get("Deceased")].count(None) == (2 if expected is None else 1)
        if expected is not None:
            assert fields[expected[0]] == expected[1]


@pytest.mark.parametrize(
    ("recorded", "given", "holds"),
    [
        ("1984-03-27", "1984-03-27", True),
        ("1984-03-27", "1984-03-28", False),
        ("1984-03", "1984-03-27", True),
        ("1984-03", "1984-04-27", False),
        ("1984", "1984-03-27", True),
        ("1984", "1985-03-27", False),
        ("1", "1984-03-27", False),
        (None, "1984-03-27", False),
    ],
)
def test_a_birth_date_is_compared_as_far_as_it_is_known(recorded: str | None, given: str, holds: bool) -> None:
    members = {} if recorded is None else {"birthDate": recorded}
    check({"birthDate": given}, members, holds)


def test_a_number_of_the_past_does_not_confirm_the_patient() -> None:
    numbers = [{"system": "urn:kc", "use": "old", "value": "KC-1"}, {"system": "urn:kc", "value": "KC-2"}]
    check({"identifier": "KC-1"}, {"identifier": numbers}, holds=False)
    check({"identifier": "urn:kc|KC-2"}, {"identifier": numbers}, holds=True)
    check({"identifier": "urn:other|KC-2"}, {"identifier": numbers}, holds=False)


def check(wanted: dict[str, str], members: dict[str, Any], holds: bool) -> None:
    form = FORMS["consent"]
    found = bare_resources(form)
    asked = {**request(form, "en", {"procedure": "X"}), "patientCheck": wanted}
    render = lambda: lay_out(form.definition.encode(), {**found, "patient": {**found["patient"], **members}}, asked)  # noqa: E731
    if holds:
        render()
        return
    with pytest.raises(PatientMismatch):
        render()


# --- Allergies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["outpatient-prescription", "discharge-summary", "referral-letter", "consent"])
@pytest.mark.parametrize(
    ("reactions", "printed"),
    [
        (
            [{"manifestation": [{"text": "Rash"}], "severity": "severe", "description": "intubated 2021"}],
            "Rash, intubated 2021, SEVERE reaction",
        ),
        # The severity of one is not that of the next.
        (
            [
                {"manifestation": [{"text": "Anaphylaxis"}, {"text": "Hives"}], "severity": "moderate"},
                {"manifestation": [{"text": "Rash"}]},
                {"manifestation": [{"text": "Itch"}], "severity": "mild"},
            ],
            "Anaphylaxis, Hives, moderate reaction, Rash, severity not recorded, Itch, mild reaction",
        ),
        ([{"manifestation": [{"text": "Rash"}]}, {"manifestation": [{"text": "Itch"}]}], "Rash, Itch"),
        ([{"description": "swollen face"}], "swollen face"),
        ([{"manifestation": [{"text": "Rash"}], "description": "Rash"}], "Rash"),
        ([], "Not recorded"),
    ],
)
def test_how_severe_an_allergy_was_is_not_lost(key: str, reactions: list[dict[str, Any]], printed: str) -> None:
    allergy = {"resourceType": "AllergyIntolerance", "id": "a", "code": {"text": "Penicillin"}, "reaction": reactions}
    found = {**full_resources(FORMS[key], "en"), "allergies": [allergy]}
    model = laid_out(key, found, full_inputs(key, "en"))
    assert rows(model, "Allergies and intolerances") == [["Penicillin", printed, "Not recorded"]]


# --- Results and findings --------------------------------------------------------------------------------------------


def observation(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "Potassium"}, **members}


def test_a_laboratorys_remark_stands_with_its_result() -> None:
    found = bare_resources(FORMS["laboratory-report"])
    remarked = observation(valueQuantity=amount(Decimal("6.8"), "mmol/L"), note=[{"text": "Haemolysed"}])
    model = laid_out("laboratory-report", {**found, "results": [remarked]}, {})
    assert rows(model, "Results")[0][:2] == ["Potassium\nHaemolysed", "6.8 mmol/L"]


def test_a_result_whose_time_is_not_known_stands_behind_the_others() -> None:
    """Only an extension stands where its time would: it has no place in time, and refuses no report."""
    why = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
    undated = {"_effectiveDateTime": {"extension": [why]}}
    measured = [
        observation(id="a", code={"text": "A"}, valueString="1", **undated),
        observation(id="b", code={"text": "B"}, valueString="2", effectiveDateTime="2026-03-20T08:00:00+04:30"),
        observation(id="c", code={"text": "C"}, valueString="3", issued="2026-03-21T08:00:00+04:30", **undated),
        observation(id="d", code={"text": "D"}, valueString="4", **undated),
    ]
    found = {**bare_resources(FORMS["laboratory-report"]), "results": measured}
    assert [row[0] for row in rows(laid_out("laboratory-report", found, {}), "Results")] == ["C", "B", "A", "D"]
    told = {"from": "2026-03-21", "until": "2026-03-21"}
    assert [row[0] for row in rows(laid_out("laboratory-report", found, told), "Results")] == ["C", "A", "D"]


def test_a_form_of_a_tenants_own_locale_that_is_older_than_a_word_prints_on() -> None:
    form = read_json(FORMS["outpatient-prescription"].definition.encode())
    others = {key: "{" + "}{".join(sorted(names)) + "}" if names else key for key, names in DOSAGE_WORD_KEYS.items()}
    standard = {key: text for key, text in STANDARD_WORDS["en"].items() if key in STANDARD_LABEL_KEYS}
    form["labels"]["ur"] = {**standard, **others, **form["labels"]["en"]}
    form["locales"] = [*form["locales"], "ur"]
    for word in LATER_WORDS:
        del form["labels"]["ur"][word]
    ointment = dose(), {"route": {"coding": [{"code": "6064005", "display": "Topical route"}]}}
    found = prescribed(order(dosageInstruction=[{**ointment[0], **ointment[1]}]))
    for locale, way in (("en", "topically"), ("ur", "Topical route")):
        asked = {**request(FORMS["outpatient-prescription"], "en", {}), "locale": locale}
        assert way in words(lay_out(dumps_exact(form), read_json(dumps_exact(found)), asked))


def test_parts_of_two_panels_stand_below_their_own_with_its_day_and_state() -> None:
    def panel(name: str, day: str, share: int, status: str = "final") -> dict[str, Any]:
        part = {"code": {"text": "Neutrophils"}, "valueQuantity": amount(share, "%")}
        return observation(
            id=name, code={"text": "Differential"}, status=status, effectiveDateTime=day, component=[part]
        )

    found = bare_resources(FORMS["laboratory-report"])
    panels = [panel("a", "2026-09-13", 90), panel("b", "2026-09-14", 61, "preliminary")]
    model = laid_out("laboratory-report", {**found, "results": panels}, {})
    assert [row[:4] for row in rows(model, "Parts of the results above")] == [
        ["Differential, 14 Sep 2026", "Neutrophils", "61 %", "NOT FINAL"],
        ["Differential, 13 Sep 2026", "Neutrophils", "90 %", "Not recorded"],
    ]


ABNORMAL = {"interpretation": [{"coding": [{"code": "HH"}]}]}
NORMAL = {"interpretation": [{"coding": [{"code": "N"}]}]}
MARKED, THEIR_PARTS = "Laboratory results marked abnormal", "Parts of the results above"
EARLY = {"effectiveDateTime": "2026-09-14"}


def discharged(*results: dict[str, Any]) -> Any:
    """A discharge summary for a stay with these laboratory results."""
    found = bare_resources(FORMS["discharge-summary"])
    said = {"admittedOn": "2026-09-14", "dischargedOn": "2026-09-18", "diagnosis": "Pneumonia"}
    return laid_out("discharge-summary", {**found, "results": list(results)}, said)


def part(name: str, value: Any, **members: Any) -> dict[str, Any]:
    return {"code": {"text": name}, "valueQuantity": amount(value, "mmol/L"), **members}


@pytest.mark.parametrize("of_panel", [{}, NORMAL, ABNORMAL], ids=["unmarked", "normal", "abnormal"])
def test_an_abnormal_part_of_a_panel_is_not_lost_from_a_summary(of_panel: dict[str, Any]) -> None:
    """A potassium of 6.8 inside an electrolyte panel stood nowhere, below the words "no result is marked abnormal"."""
    limits = {"referenceRange": [{"low": amount(Decimal("3.5"), "mmol/L"), "high": amount(Decimal("5.1"), "mmol/L")}]}
    parts = [part("Sodium", 140, **NORMAL), part("Potassium", Decimal("6.8"), **ABNORMAL, **limits), part("Urea", 5)]
    model = discharged(observation(code={"text": "Electrolytes"}, **EARLY, **of_panel, component=parts))
    flag = {"": "", "N": "Normal, ", "HH": "CRITICAL, high, "}
    marked = "parts of it are abnormal, see below"
    marked = flag[of_panel["interpretation"][0]["coding"][0]["code"] if of_panel else ""] + marked
    assert [row[:3] for row in rows(model, MARKED)] == [["Electrolytes", "its parts are below", marked]]
    assert rows(model, THEIR_PARTS) == [
        ["Electrolytes, 14 Sep 2026", "Potassium", "6.8 mmol/L", "CRITICAL, high", "3.5–5.1 mmol/L"],
    ]


@pytest.mark.parametrize(
    ("said", "listed"),
    [
        ({"text": "Normal"}, False),
        ({"text": " normal "}, False),
        ({"coding": [{"display": "x"}], "text": "NORMAL"}, False),
        ({"text": "Not normal"}, True),
        ({"text": "Abnormal"}, True),
        ({"text": "see comment"}, True),
        ({"coding": [{"code": "HH"}], "text": "Normal"}, True),
        ({"coding": [{"code": "local-7"}]}, True),
    ],
)
def test_only_what_is_said_to_be_normal_is_left_out_of_the_abnormal(said: dict[str, Any], listed: bool) -> None:
    result = observation(code={"text": "Ferritin"}, valueInteger=1, status="preliminary", interpretation=[said])
    panel = observation(code={"text": "Iron"}, component=[part("Transferrin", 2, interpretation=[said])])
    model = discharged(result, panel)
    if listed:
        assert [row[0] for row in rows(model, MARKED)] == ["Ferritin", "Iron"]
        assert [row[:2] for row in rows(model, THEIR_PARTS)] == [["Iron", "Transferrin"]]
    else:
        assert empty_words(model, MARKED) == "No result is marked abnormal in the record."
        assert THEIR_PARTS not in words(model)


def test_a_summary_without_an_abnormal_part_has_no_parts() -> None:
    normal = observation(component=[part("Sodium", 140, **NORMAL)])
    model = discharged(normal, observation(id="p", valueInteger=1, **NORMAL))
    assert empty_words(model, MARKED) == "No result is marked abnormal in the record."
    assert THEIR_PARTS not in words(model)


def member(name: str) -> dict[str, str]:
    return {"reference": name}


@pytest.mark.parametrize(
    "reference", ["Observation/k", "https://fhir.example/Observation/k", "Observation/k/_history/3"]
)
def test_members_of_a_panel_stand_on_their_own(reference: str) -> None:
    potassium = observation(id="k", valueQuantity=amount(Decimal("6.8"), "mmol/L"), **ABNORMAL)
    panel = observation(id="panel", code={"text": "Electrolytes"}, hasMember=[member(reference)])
    assert [row[0] for row in rows(discharged(panel, potassium), MARKED)] == ["Potassium"]
    found = rows(discharged({**panel, **ABNORMAL}, potassium), MARKED)
    assert [row[:3] for row in found] == [
        ["Electrolytes", "see its parts", "CRITICAL, high"],
        ["Potassium", "6.8 mmol/L", "CRITICAL, high"],
    ]
    # In a report each stands once and names its panel, which says nothing more itself.
    report = laid_out(
        "laboratory-report", {**bare_resources(FORMS["laboratory-report"]), "results": [panel, potassium]}, {}
    )
    assert [row[0] for row in rows(report, "Results")] == ["Potassium\npart of the panel:\nElectrolytes"]


def test_a_report_names_the_panel_of_its_own_members_only() -> None:
    """An id within a longer one, or the number of a version, is no member."""
    named = {"k": "Electrolytes", "k2": "", "3": "", "ok": ""}
    results = [observation(id=name, code={"text": name}, valueInteger=1) for name in named]
    panel = observation(id="panel", code={"text": "Electrolytes"}, hasMember=[member("Observation/k/_history/3")])
    found = {**bare_resources(FORMS["laboratory-report"]), "results": [*results, panel]}
    tests = {row[0] for row in rows(laid_out("laboratory-report", found, {}), "Results")}
    assert tests == {f"{name}\npart of the panel:\n{of}" if of else name for name, of in named.items()}


@pytest.mark.parametrize("reference", ["Observation/elsewhere", "#inside"])
@pytest.mark.parametrize("key", ["discharge-summary", "laboratory-report"])
def test_a_panel_whose_members_were_not_read_says_so(key: str, reference: str) -> None:
    """The search finds what has the category and the visit; a member without either may be the abnormal one."""
    potassium = observation(id="k", valueQuantity=amount(4, "mmol/L"), **NORMAL)
    panel = observation(id="panel", code={"text": "Panel"}, hasMember=[member("Observation/k"), member(reference)])
    if key == "discharge-summary":
        found = rows(discharged(panel, potassium), MARKED)
    else:
        resources = {**bare_resources(FORMS[key]), "results": [panel, potassium]}
        found = [row for row in rows(laid_out(key, resources, {}), "Results") if row[0] == "Panel"]
    assert [row[:2] for row in found] == [["Panel", "not all of its parts are here; see the record"]]


def test_a_comparator_of_another_release_refuses() -> None:
    found = bare_resources(FORMS["laboratory-report"])
    odd = observation(valueQuantity={**amount(5, "mL"), "comparator": "ad"})
    with pytest.raises(BindingFailed):
        laid_out("laboratory-report", {**found, "results": [odd]}, {})


def test_a_result_that_is_a_moment_is_one_on_the_page() -> None:
    found = bare_resources(FORMS["laboratory-report"])
    moment = observation(valueDateTime="2026-09-14T04:30:00Z")
    model = laid_out("laboratory-report", {**found, "results": [moment]}, {})
    assert rows(model, "Results")[0][1] == "14 Sep 2026 09:00 +04:30"


def referral(**found: Any) -> Any:
    form = FORMS["referral-letter"]
    return laid_out(form.key, {**full_resources(form, "en"), **found}, full_inputs(form.key, "en"))


def test_two_blood_pressures_say_when_the_newest_first() -> None:
    def pressure(name: str, at: str, systolic: int) -> dict[str, Any]:
        parts = [
            {"code": {"text": "Systolic"}, "valueQuantity": amount(systolic, "mmHg")},
            {"code": {"text": "Diastolic"}, "valueQuantity": amount(80, "mmHg")},
        ]
        return observation(id=name, code={"text": "Blood pressure"}, effectiveDateTime=at, component=parts)

    model = referral(
        vitals=[pressure("a", "2026-09-14T08:00:00+04:30", 210), pressure("b", "2026-09-14T11:00:00+04:30", 130)]
    )
    table = next(
        section
        for section in model["sections"]
        if section["type"] == "table" and section["columns"][-1]["label"] == "Measured"
    )
    assert [[bare(cell) for cell in row] for row in table["rows"]] == [
        ["Blood pressure", "Systolic\n130 mmHg\nDiastolic\n80 mmHg", "14 Sep 2026 11:00 +04:30"],
        ["Blood pressure", "Systolic\n210 mmHg\nDiastolic\n80 mmHg", "14 Sep 2026 08:00 +04:30"],
    ]


def test_the_side_of_a_finding_and_a_remission_are_told() -> None:
    def problem(name: str, status: str, **members: Any) -> dict[str, Any]:
        told = {"coding": [{"code": status}]}
        return {"resourceType": "Condition", "id": name, "code": {"text": name}, "clinicalStatus": told, **members}

    model = referral(
        problems=[
            problem("Fracture", "active", bodySite=[{"text": "left femur"}]),
            problem("Leukaemia", "remission"),
            problem("Influenza", "resolved"),
        ]
    )
    told = [(row[1], row[4]) for row in rows(model, "Current problems")]
    assert told == [("Fracture, left femur", "Active"), ("Leukaemia", "In remission")]


def test_a_vaccine_of_hearsay_has_no_day_of_its_own() -> None:
    found = bare_resources(FORMS["immunization-card"])
    told = {
        "resourceType": "Immunization",
        "id": "i",
        "status": "completed",
        "vaccineCode": {"text": "OPV"},
        "occurrenceString": "at birth",
        "recorded": "2026-09-14",
        "primarySource": False,
    }
    row = rows(laid_out("immunization-card", {**found, "immunizations": [told]}, {}), "Vaccines given")[0]
    assert "14 Sep 2026" not in row
    assert row[-1] == "Reported, not seen, at birth"


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("MedicationStatement", {"status": "not-taken"}),
        ("Goal", {"lifecycleStatus": "entered-in-error"}),
        ("Goal", {"lifecycleStatus": "cancelled"}),
        ("DocumentReference", {"status": "current", "docStatus": "entered-in-error"}),
        ("AllergyIntolerance", {"verificationStatus": {"coding": [{"code": "refuted"}]}}),
        ("Condition", {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}),
    ],
)
def test_what_is_not_so_does_not_print_wherever_the_resource_says_it(kind: str, members: dict[str, Any]) -> None:
    definition = {
        "language": 1,
        "locales": ["en"],
        "labels": {"en": {"title": "T", "id": "Id"}},
        "context": {"patient": {"read": "Patient"}, "found": {"search": kind}},
        "bindings": {
            "found": {"type": "collection", "path": "%found", "items": {"id": {"path": "id", "type": "text"}}}
        },
        "sections": [{"type": "table", "rows": "found", "columns": [{"label": "id", "value": "id"}]}],
    }
    form = FORMS["consent"]
    found = {"patient": bare_resources(form)["patient"], "found": [{"resourceType": kind, "id": "x", **members}]}
    model = lay_out(definition, found, request(form, "en", {}))
    assert model["sections"][0]["rows"] == []
