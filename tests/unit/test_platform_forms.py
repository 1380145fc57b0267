"""Every platform form in each of its languages: complete with a full record, complete or refused with next to none."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pdfplumber
import pypdfium2
import pytest
import pytest_asyncio
import zxingcpp

from document_service import definitions, trials
from document_service.errors import BindingFailed, BindingRequired, InvalidRequest, RenderTooLarge
from document_service.exact_json import dumps_exact
from document_service.platform_forms import PlatformForm, catalogue
from document_service.typesetting.pool import TypesettingPool
from form_rows import bare, definition, dose, empty_words, laid_out, order, prescribed, rows, words
from platform_pages import (
    FORMS,
    LOCALES,
    bare_job,
    bare_resources,
    full_inputs,
    full_job,
    full_resources,
    job,
    least_inputs,
    request,
)

CATEGORIES = {
    *("prescription", "lab_requisition", "report", "letter", "consent"),
    *("discharge_summary", "referral", "scanned_record", "other"),
}
EVERY_PAGE = [(key, locale) for key in FORMS for locale in LOCALES]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[TypesettingPool]:
    async with TypesettingPool(1) as started:
        yield started


# --- The catalogue ------------------------------------------------------------------------------------------------


def test_the_catalogue_has_what_the_product_promises() -> None:
    assert catalogue()[0].key == "general-test-requisition"
    assert set(FORMS) == {
        *("general-test-requisition", "outpatient-prescription", "discharge-summary", "referral-letter"),
        *("laboratory-report", "consent", "sick-leave-certificate", "immunization-card", "patient-label-sheet"),
    }
    assert {form.category for form in FORMS.values()} <= CATEGORIES
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", form.semver) for form in FORMS.values())


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_form_is_sound_in_every_locale(form: PlatformForm) -> None:
    parsed = definition(form.key)
    assert definitions.check(parsed) == []
    assert trials.static_problems(parsed) == ()
    assert tuple(parsed["locales"]) == LOCALES
    # Nobody has reviewed the words yet, and the catalogue may not say otherwise.
    assert definitions.unreviewed(parsed) == ("fa-AF", "ps-AF")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("locale", LOCALES)
async def test_long_numbers_of_a_record_do_not_fail_a_form(pool: TypesettingPool, locale: str) -> None:
    """Registers give patients UUIDs, and telephones come with extensions; every optional input may be there too."""
    typed = {"specimenCollected": "2026-09-18T11:30:00+04:30", "department": "Gastroenterologieabteilung"}
    for key, form in FORMS.items():
        read = full_resources(form, locale)
        patient = read["patient"] | {"telecom": [{"system": "phone", "value": "+93 (0)70 555 0187 ext. 12345"}]}
        if key != "patient-label-sheet":  # Bars of a UUID are too fine for a label, and the sheet says so.
            patient["identifier"] = [{"value": "9f1c2b3a-4d5e-6f70-8192-a3b4c5d6e7f8"}]
        known = definition(key)["inputs"]["properties"]
        inputs = full_inputs(key, locale) | {name: value for name, value in typed.items() if name in known}
        await pool.render(job(form, locale, read | {"patient": patient}, inputs))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_translation_is_in_its_own_letters(form: PlatformForm) -> None:
    labels = definition(form.key)["labels"]
    only_pashto = re.compile("[ټډړږښڼۍځڅېګ]")
    for locale in LOCALES[1:]:
        for key, text in labels[locale].items():
            # ICD-10 is a name; a line of placeholders has no words.
            spoken = re.sub(r"\{\w+\}", "", text).strip(" ·")
            assert not spoken or text == "ICD-10" or re.search("[\u0600-\u06ff]", spoken), (locale, key)
    dari = " ".join(labels["fa-AF"].values())
    assert not only_pashto.search(dari.replace("ګ", "")), only_pashto.findall(dari)
    assert only_pashto.search(" ".join(labels["ps-AF"].values()))


# --- Pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "locale"), EVERY_PAGE)
@pytest.mark.asyncio(loop_scope="module")
async def test_full_record_is_complete(pool: TypesettingPool, key: str, locale: str) -> None:
    result = await pool.render(full_job(key, locale))
    assert result.warnings == ()
    assert result.pages <= 2
    assert result.pdf.startswith(b"%PDF-")


@pytest.mark.parametrize(("key", "locale"), EVERY_PAGE)
@pytest.mark.asyncio(loop_scope="module")
async def test_bare_record_is_complete_or_refused_with_a_named_reason(
    pool: TypesettingPool, key: str, locale: str
) -> None:
    refused = {
        "general-test-requisition": "requestedTests or orders",
        "outpatient-prescription": "orders or stated",
        "discharge-summary": "admittedOn",
        "referral-letter": "reason",
        "laboratory-report": "results",
        "patient-label-sheet": "patientNumber",
    }
    if key not in refused:
        assert (await pool.render(bare_job(key, locale))).pages == 1
        return
    with pytest.raises(BindingRequired) as caught:
        await pool.render(bare_job(key, locale))
    assert caught.value.extra == {"binding": refused[key]}


@pytest.mark.parametrize("key", [key for key in FORMS if key != "patient-label-sheet"])
def test_a_request_with_a_patient_alone_works_once_a_nurse_says_the_rest(key: str) -> None:
    said = {
        "general-test-requisition": {"tests": "CBC"},
        "discharge-summary": {"admittedOn": "2026-09-14", "dischargedOn": "2026-09-18", "diagnosis": "Pneumonia"},
        "referral-letter": {"reason": "Chest pain"},
        "outpatient-prescription": {"medicines": [{"medicine": "Amoxicillin 500 mg", "dose": "1 capsule"}]},
    }
    found = bare_resources(FORMS[key])
    if key == "laboratory-report":
        found["results"] = full_resources(FORMS[key], "en")["results"]
    model = laid_out(key, found, {**least_inputs(FORMS[key]), **said.get(key, {})})
    assert "Karimi" in words(model)
    assert "Not recorded" in words(model)


@pytest.mark.parametrize(("key", "locale"), EVERY_PAGE)
def test_what_must_not_print_does_not(key: str, locale: str) -> None:
    model = laid_out(key, full_resources(FORMS[key], locale), full_inputs(key, locale), locale)
    assert "NEVER PRINT" not in words(model)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_inputs_are_described_for_whoever_fills_them_in(form: PlatformForm) -> None:
    inputs = definition(form.key)["inputs"]
    assert all(entry["title"] for entry in inputs["properties"].values())
    assert definitions.check_inputs(definition(form.key), full_inputs(form.key, "en")) == []
    required = inputs.get("required", [])
    assert len(required) <= 2, "a nurse without a network fills in few fields"


# --- Prescription ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "instructions",
    [
        [],
        [{}],
        [{"text": " "}],
        [{"timing": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}}}],
        [{"doseAndRate": [{"doseQuantity": {"unit": "mg"}}]}],
        # One of two steps without a dose: what prints must not look like the whole.
        [dose(), {"route": {"text": "by mouth"}}],
    ],
)
def test_a_missing_dose_refuses(instructions: list[dict[str, Any]]) -> None:
    with pytest.raises(BindingRequired) as caught:
        laid_out("outpatient-prescription", prescribed(order(dosageInstruction=instructions)), {})
    assert caught.value.extra == {"binding": "orders[0].dose"}


def test_a_missing_dose_of_a_second_medicine_refuses_too() -> None:
    with pytest.raises(BindingRequired):
        laid_out("outpatient-prescription", prescribed(order(dosageInstruction=[dose()]), order(id="two")), {})


def test_a_dose_typed_by_hand_is_required_at_intake() -> None:
    with pytest.raises(InvalidRequest):
        laid_out("outpatient-prescription", prescribed(), {"medicines": [{"medicine": "Amoxicillin"}]})
    with pytest.raises(BindingRequired):
        laid_out("outpatient-prescription", prescribed(), {"medicines": [{"medicine": "Amoxicillin", "dose": " "}]})


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (dose("1.50", "mL"), "1.50 mL"),
        ({"doseAndRate": [{"doseRange": {"low": {"value": 1}, "high": {"value": 2, "unit": "puff"}}}]}, "1–2 puffs"),
        (
            {
                "doseAndRate": [
                    {"rateRatio": {"numerator": {"value": 5, "unit": "mL"}, "denominator": {"value": 1, "unit": "h"}}}
                ]
            },
            "at a rate of 5 mL/1 h",
        ),
        ({"text": "1 spoon at night"}, "1 spoon at night"),
    ],
)
def test_a_dose_prints_as_it_is_recorded(instruction: dict[str, Any], expected: str) -> None:
    model = laid_out("outpatient-prescription", prescribed(order(dosageInstruction=[instruction])), {})
    assert rows(model, "Medicines ordered")[0][2] == expected


def test_steps_of_a_dose_stand_in_their_order() -> None:
    steps = [
        {**dose("1"), "sequence": 2, "text": "then 1 a day"},
        {**dose("2"), "sequence": 1, "text": "first 2 a day"},
    ]
    row = rows(
        laid_out("outpatient-prescription", prescribed(order(dosageInstruction=steps)), {}), "Medicines ordered"
    )[0]
    assert row[2] == "2 tablets\nas written: first 2 a day\nthen: 1 tablet\nas written: then 1 a day"


def test_only_orders_for_home_are_prescribed() -> None:
    ward = order(id="ward", category=[{"coding": [{"code": "inpatient"}]}], dosageInstruction=[dose()])
    told = order(id="told", reportedBoolean=True, dosageInstruction=[dose()])
    planned = order(id="planned", intent="plan", dosageInstruction=[dose()])
    refused = order(id="refused", doNotPerform=True, dosageInstruction=[dose()])
    own = order(medicationCodeableConcept={"text": "Own"}, dosageInstruction=[dose()])
    model = laid_out("outpatient-prescription", prescribed(ward, told, planned, refused, own), {})
    assert [row[1] for row in rows(model, "Medicines ordered")] == ["Own"]


def test_a_contained_medicine_is_named_and_an_unnamed_one_refuses() -> None:
    reference = {"medicationReference": {"reference": "#m"}, "dosageInstruction": [dose()]}
    contained = [{"resourceType": "Medication", "id": "m", "code": {"text": "Cefixime 200 mg"}}]
    inside = {key: value for key, value in order(**reference).items() if key != "medicationCodeableConcept"}
    model = laid_out("outpatient-prescription", prescribed({**inside, "contained": contained}), {})
    assert rows(model, "Medicines ordered")[0][1] == "Cefixime 200 mg"
    with pytest.raises(BindingRequired):
        laid_out("outpatient-prescription", prescribed(inside), {})


def allergy(**members: Any) -> dict[str, Any]:
    return {
        "resourceType": "AllergyIntolerance",
        "id": "a",
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "verificationStatus": {"coding": [{"code": "confirmed"}]},
        "code": {"text": "Penicillin"},
        "patient": {"reference": "Patient/bare"},
        **members,
    }


KNOWN_NONE = allergy(id="none", code={"coding": [{"system": "http://snomed.info/sct", "code": "716186003"}]})


@pytest.mark.parametrize("key", ["outpatient-prescription", "discharge-summary", "referral-letter", "consent"])
def test_none_recorded_and_known_none_are_different_words(key: str) -> None:
    title = "Allergies and intolerances"
    said = {**full_inputs(key, "en"), "medicines": [{"medicine": "M", "dose": "1"}]}
    said |= {"admittedOn": "2026-09-14", "dischargedOn": "2026-09-18"} if key == "discharge-summary" else {}
    inputs = {name: value for name, value in said.items() if name in definition(key)["inputs"]["properties"]}

    def page(*allergies: dict[str, Any]) -> Any:
        return laid_out(key, {**bare_resources(FORMS[key]), "allergies": list(allergies)}, inputs)

    assert empty_words(page(), title) == "No current allergy is recorded. Ask the patient."
    assert empty_words(page(KNOWN_NONE), title) == "No known allergies"
    resolved = allergy(clinicalStatus={"coding": [{"code": "resolved"}]})
    assert empty_words(page(resolved), title) == "No current allergy is recorded. Ask the patient."
    # No information is not the knowledge that there is none, and neither is a statement about medicines alone.
    assert empty_words(page(allergy(code={"coding": [{"code": "no-allergy-info"}]})), title).startswith("No current")
    assert rows(page(allergy(code={"coding": [{"code": "409137002"}]})), title)[0][0] == "No known drug allergy"
    assert rows(page(KNOWN_NONE, allergy()), title)[0][0] == "Penicillin"


@pytest.mark.parametrize(
    ("born", "shown", "value"),
    [
        ("1984-09-18", "Age (years)", "42"),
        ("1984-09-19", "Age (years)", "41"),
        ("2026-09-01", "Age (months)", "0"),
        ("2024-03-19", "Age (months)", "29"),
        ("2023-09-18", "Age (years)", "3"),
        ("2023-09-19", "Age (months)", "35"),
        ("1984", None, None),
    ],
)
def test_age_is_counted_in_what_doses_are_counted_in(born: str, shown: str | None, value: str | None) -> None:
    patient = {**bare_resources(FORMS["outpatient-prescription"])["patient"], "birthDate": born}
    model = laid_out("outpatient-prescription", prescribed(order(dosageInstruction=[dose()]), patient=patient), {})
    ages = {
        field["label"]: bare(field["value"])
        for section in model["sections"]
        if section["type"] == "fieldGrid"
        for field in section["fields"]
        if field["label"].startswith("Age")
    }
    assert ages == ({shown: value} if shown else {})


def test_the_last_weight_prints_with_its_day() -> None:
    def weight(day: str, value: str) -> dict[str, Any]:
        quantity = {"value": Decimal(value), "unit": "kg"}
        return {
            "resourceType": "Observation",
            "id": f"w{day}",
            "status": "final",
            "effectiveDateTime": f"2026-09-{day}",
            "valueQuantity": quantity,
        }

    found = prescribed(order(dosageInstruction=[dose()]), weights=[weight("02", "9.10"), weight("14", "9.40")])
    text = words(laid_out("outpatient-prescription", found, {}))
    assert "9.40 kg" in text
    assert "14 Sep 2026" in text
    assert "9.10" not in text


# --- Laboratory report ----------------------------------------------------------------------------------------------


def result(name: str, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"text": name},
        "effectiveDateTime": "2026-09-14T09:30:00+04:30",
        **members,
    }


def reported(*results: dict[str, Any], **inputs: Any) -> Any:
    form = FORMS["laboratory-report"]
    return laid_out("laboratory-report", {**bare_resources(form), "results": list(results)}, inputs)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"valueQuantity": {"value": Decimal("1.10"), "unit": "mmol/L"}}, "1.10 mmol/L"),
        ({"valueQuantity": {"value": 5, "comparator": "<=", "unit": "mg/L"}}, "≤ 5 mg/L"),
        ({"valueRange": {"low": {"value": 2}, "high": {"value": 4, "unit": "/HPF"}}}, "2–4 /HPF"),
        ({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 160}}}, "1:160"),
        ({"valueCodeableConcept": {"coding": [{"display": "Detected"}]}}, "Detected"),
        ({"valueString": "No growth after 48 h"}, "No growth after 48 h"),
        ({"valueBoolean": False}, "No"),
        ({"valueInteger": 7}, "7"),
        ({"dataAbsentReason": {"text": "Specimen clotted"}}, "Specimen clotted"),
    ],
)
def test_each_kind_of_result_prints(value: dict[str, Any], expected: str) -> None:
    assert rows(reported(result("Test", **value)), "Results")[0][1] == expected


def test_a_result_that_no_rule_prints_refuses() -> None:
    with pytest.raises(BindingFailed) as caught:
        reported(result("Test", valueSampledData={"origin": {"value": 0}, "period": 10, "dimensions": 1}))
    assert caught.value.extra == {"binding": "results[0].result"}


def test_flags_ranges_and_what_is_not_final() -> None:
    model = reported(
        result(
            "Potassium",
            valueQuantity={"value": Decimal("6.8"), "unit": "mmol/L"},
            interpretation=[{"coding": [{"code": "HH"}]}],
            referenceRange=[{"low": {"value": Decimal("3.50")}, "high": {"value": Decimal("5.10"), "unit": "mmol/L"}}],
        ),
        result("Culture", valueString="Growth", status="preliminary"),
        result("Hb", valueQuantity={"value": 9}, referenceRange=[
            {"appliesTo": [{"text": "Women"}], "low": {"value": 12, "unit": "g/dL"}},
            {"appliesTo": [{"text": "Men"}], "low": {"value": 13, "unit": "g/dL"}},
        ]),
    )  # fmt: skip
    by_name = {row[0]: row for row in rows(model, "Results")}
    assert by_name["Potassium"][2:4] == ["CRITICAL, high", "3.50–5.10 mmol/L"]
    assert by_name["Culture"][2] == "NOT FINAL"
    assert by_name["Hb"][3] == "Women\n≥ 12 g/dL\nMen\n≥ 13 g/dL"


def test_parts_and_dates() -> None:
    pressure = result(
        "Differential", component=[{"code": {"text": "Neutrophils"}, "valueQuantity": {"value": 61, "unit": "%"}}]
    )
    old = result("Old", valueInteger=1, effectiveDateTime="2026-08-31T23:00:00+04:30")
    panel = result("Panel", hasMember=[{"reference": "Observation/Old"}])
    model = reported(pressure, old, panel, **{"from": "2026-09-01"})
    assert [row[0] for row in rows(model, "Results")] == ["Differential"]
    assert rows(model, "Results")[0][1] == "its parts are below"
    assert [row[:3] for row in rows(model, "Parts of the results above")] == [
        ["Differential, 14 Sep 2026 09:30 +04:30", "Neutrophils", "61 %"],
    ]


# --- The others -----------------------------------------------------------------------------------------------------


def test_a_leave_that_ends_before_it_begins_refuses() -> None:
    inputs = {"from": "2026-09-18", "until": "2026-09-17"}
    form = FORMS["sick-leave-certificate"]
    with pytest.raises(BindingRequired) as caught:
        laid_out(form.key, bare_resources(form), inputs)
    assert caught.value.extra == {"binding": "until"}


def test_a_diagnosis_stands_on_a_certificate_only_when_it_is_given() -> None:
    form = FORMS["sick-leave-certificate"]
    resources = full_resources(form, "en")
    assert "iabetes" not in words(laid_out(form.key, resources, full_inputs(form.key, "en")))
    assert "Influenza" in words(
        laid_out(form.key, resources, {**full_inputs(form.key, "en"), "diagnosis": "Influenza"})
    )


def test_a_dose_of_vaccine_that_does_not_count_says_so() -> None:
    form = FORMS["immunization-card"]
    given = {
        "resourceType": "Immunization",
        "id": "i",
        "status": "completed",
        "vaccineCode": {"text": "OPV"},
        "occurrenceDateTime": "2026-01-02",
    }
    found = {**bare_resources(form), "immunizations": [
        {**given, "isSubpotent": True},
        {**given, "id": "j", "primarySource": False},
        {**given, "id": "k", "status": "not-done"},
    ]}  # fmt: skip
    remarks = [row[-1] for row in rows(laid_out(form.key, found, {}), "Vaccines given")]
    assert remarks == ["Does not count: dose not fully effective", "Reported, not seen"]


# --- Labels ---------------------------------------------------------------------------------------------------------


# The sheet of the platform form in millimetres: labels across, and their first edges and distances.
ACROSS, LEFT, TOP, WIDTH, HEIGHT, PITCH = 3, 7.2, 15.1, 63.5, 38.1, 66.0


def codes_of(pdf: bytes, rows: int = 7) -> Iterator[Any]:
    """The codes of the labels, each cut out as it is cut on the sheet: bars that follow each other read as one."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        dots = 300 / 25.4
        page = document[0].render(scale=300 / 72).to_pil()
        for row in range(rows):
            for column in range(ACROSS):
                left, top = (LEFT + column * PITCH) * dots, (TOP + row * HEIGHT) * dots
                yield from zxingcpp.read_barcodes(page.crop((left, top, left + WIDTH * dots, top + HEIGHT * dots)))
    finally:
        document.close()


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.asyncio(loop_scope="module")
async def test_every_label_of_the_sheet_can_be_scanned(pool: TypesettingPool, locale: str) -> None:
    result = await pool.render(full_job("patient-label-sheet", locale))
    assert result.pages == 1
    read = list(codes_of(result.pdf))
    assert [code.text for code in read] == ["SAMPLE-0001"] * 21
    assert {str(code.format) for code in read} <= {"Code 128", "Code128"}


def sheet(**changes: Any) -> PlatformForm:
    """The label sheet with another section."""
    form = FORMS["patient-label-sheet"]
    changed = copy.deepcopy(definition(form.key))
    changed["sections"][0] |= changes
    return PlatformForm(form.key, form.name, form.category, form.semver, definitions.canonical_json(changed))


def numbered(number: str) -> dict[str, Any]:
    found = bare_resources(FORMS["patient-label-sheet"])
    return {**found, "patient": {**found["patient"], "identifier": [{"value": number}]}}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_square_code_holds_a_long_number(pool: TypesettingPool) -> None:
    number = "dd2c8bc7-9b62-5bdd-8487-2d7c6a6619b8"
    form = sheet(
        barcode={"content": "patientNumber", "format": "dataMatrix", "alt": "barcodeAlt"},
        lines=[{"text": "nameLine", "strong": True}, {"text": "bornLine"}],
    )
    result = await pool.render(job(form, "ps-AF", numbered(number), {"count": 4}))
    read = list(codes_of(result.pdf))
    assert [code.text for code in read] == [number] * 4
    # As bars it would be too fine to read, and so it is refused.
    with pytest.raises(RenderTooLarge) as caught:
        await pool.render(job(FORMS["patient-label-sheet"], "en", numbered(number), {}))
    assert number not in str(caught.value.detail)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_does_not_fit_on_a_label_is_refused(pool: TypesettingPool) -> None:
    found = numbered("KBL-1")
    found["patient"]["name"] = [{"family": "Ahmadzai " * 12}]
    with pytest.raises(RenderTooLarge) as caught:
        await pool.render(job(FORMS["patient-label-sheet"], "en", found, {}))
    assert caught.value.errors[0].pointer == "/sections/0"


def test_bars_hold_no_other_script() -> None:
    with pytest.raises(BindingFailed) as caught:
        laid_out("patient-label-sheet", numbered("۱۲۳"), {})
    assert caught.value.extra == {"binding": "patientNumber"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"columns": 4}, "OVERFLOW"),
        ({"rows": 8}, "OVERFLOW"),
        ({"count": "patientName"}, "BINDING_TYPE"),
        ({"barcode": {"content": "sex", "format": "code128", "alt": "barcodeAlt"}}, "BINDING_TYPE"),
        ({"barcode": {"content": "patientNumber", "format": "qr", "alt": "barcodeAlt"}}, "VALUE_UNKNOWN"),
        ({"lines": [{"text": "noSuchLine"}]}, "LABEL_MISSING"),
    ],
)
def test_a_faulty_sheet_is_refused_with_a_pointer(changes: dict[str, Any], code: str) -> None:
    changed = definitions.read_json(sheet(**changes).definition)
    problems = definitions.check(changed) or list(trials.static_problems(changed))
    assert [problem.code for problem in problems] == [code]
    assert problems[0].pointer.startswith("/sections/0/")


def test_a_sheet_stands_alone() -> None:
    changed = definition("patient-label-sheet")
    changed["sections"].append({"type": "header"})
    assert [problem.code for problem in definitions.check(changed)] == ["LABELS_ALONE"]


# --- Order of letters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["fa-AF", "ps-AF"])
@pytest.mark.asyncio(loop_scope="module")
async def test_numbers_read_from_left_to_right_in_right_to_left_pages(pool: TypesettingPool, locale: str) -> None:
    """Glyphs by their place on the sheet: what a reader sees, whatever the text layer says."""
    form = FORMS["laboratory-report"]
    text = dumps_exact(request(form, locale, full_inputs(form.key, locale), digits="latin", calendar="gregorian"))
    plain = job(form, locale, full_resources(form, locale), full_inputs(form.key, locale))
    result = await pool.render(type(plain)(**{**_members(plain), "request_json": text}))
    with pdfplumber.open(io.BytesIO(result.pdf)) as document:
        lines: dict[int, list[Any]] = {}
        for char in document.pages[0].chars:
            # By the baseline: signs of another font have another height.
            lines.setdefault(round(char["matrix"][5]), []).append(char)
    seen = " ".join(
        re.sub(r"[\s\u2060]", "", "".join(c["text"] for c in sorted(chars, key=lambda one: one["x0"])))
        for chars in lines.values()
    )
    for expected in ("2026-09-14", "0.60–1.10mg/dL", "≤1.70mmol/L", "1.10mmol/L", "<5mg/L", "1:160", "3.5–5.1mmol/L"):
        assert expected in seen, expected


def _members(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}
