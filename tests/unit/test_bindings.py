"""Definition + resources + request → page model: the right data, or a refusal that names the binding."""

from __future__ import annotations

import gc
import json
import pickle
import threading
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import requisition
from document_service import definitions, errors
from document_service.bindings import lay_out, read_json
from document_service.bindings.evaluation import (
    MOST_SECONDS,
    EvaluationFailed,
    EvaluationTimeout,
    alarm,
    evaluate,
    plain,
)
from document_service.bindings.steps import Step, step_of
from document_service.definitions.expressions import parse_expression
from requisition import PATIENT, RAW, order, request, resources

pytestmark = pytest.mark.usefixtures("bounded_memory")

BARE = str.maketrans("", "", "\u2066\u2068\u2069\u2060")


def bare(text: str) -> str:
    """Text without the characters that only steer its layout."""
    return text.translate(BARE).replace("\u00a0", " ")


def section(model: Any, kind: str, position: int = 0) -> Any:
    return [entry for entry in model["sections"] if entry["type"] == kind][position]


def fields(model: Any) -> dict[str, str]:
    return {
        field["label"]: bare(field["value"])
        for entry in model["sections"]
        if entry["type"] == "fieldGrid"
        for field in entry["fields"]
    }


def columns(collection: dict[str, Any]) -> list[dict[str, str]]:
    return [{"label": "title", "value": key} for key in collection["items"]]


def form(**bindings: Any) -> dict[str, Any]:
    """A form with one field for each binding, labelled by its name."""
    context = bindings.pop("context", {})
    inputs = bindings.pop("inputs", None)
    singles = [name for name, entry in bindings.items() if entry["type"] != "collection"]
    tables = [name for name in bindings if name not in singles]
    words = {"title": "T", **{name: name for name in bindings}, "known": "Known none"}
    definition = {
        "language": 1,
        "locales": ["en"],
        "labels": {"en": words},
        "context": {"patient": {"read": "Patient"}, **context},
        "bindings": bindings,
        "sections": [
            {"type": "header"},
            *([{"type": "fieldGrid", "fields": [{"label": key, "value": key} for key in singles]}] if singles else []),
            *({"type": "table", "rows": name, "columns": columns(bindings[name])} for name in tables),
        ],
    }
    return definition | ({"inputs": inputs} if inputs else {})


def lay(definition: Any, read: Any = None, **members: Any) -> Any:
    return lay_out(definition, {"patient": PATIENT} if read is None else read, request(**{"inputs": {}, **members}))


# --- The platform form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", requisition.LOCALES)
@pytest.mark.parametrize("digits", ["latin", "native"])
def test_the_requisition_is_complete_in_every_locale(locale: str, digits: str) -> None:
    tenant = request()["tenant"] | {"digits": digits, "calendar": "both"}
    model = lay_out(RAW, resources(), request(locale, tenant=tenant))
    Draft202012Validator(definitions.PAGE_MODEL_SCHEMA).validate(model)
    assert json.loads(json.dumps(model)) == model
    assert model["dir"] == ("ltr" if locale == "en" else "rtl")
    assert model["identity"]["digits"] == ("۰۱۲۳۴۵۶۷۸۹" if digits == "native" and locale != "en" else "0123456789")
    assert {"{page}", "{pages}"} <= set(model["identity"]["pageOf"].split())
    assert "KC-0091447" in bare(model["identity"]["patient"])
    assert "مریم احمدزی" in model["identity"]["patient"]
    assert any("GTR-2025-000481" in bare(value) for _, value in model["identity"]["items"])
    assert any("1.0.0" in bare(value) for _, value in model["identity"]["items"])
    assert len(model["identity"]["items"]) == 4
    requested, orders = section(model, "table"), section(model, "table", 1)
    assert [bare(row[1]) for row in requested["rows"]] == ["CBC", "Malaria smear"]
    assert len(orders["rows"]) == 1
    assert section(model, "qr")["content"] == "https://documents.example/verify/abc"


def test_the_requisition_in_english() -> None:
    model = lay_out(requisition.definition(), resources(), request())
    assert fields(model) == {
        "Name": "مریم احمدزی",
        "Patient no.": "KC-0091447",
        "Date of birth": "27 Mar 1984",
        "Sex": "Female",
        "Telephone": "0700 914 319",
        "Address": "Karte Seh, Kabul, AF",
        "Requesting clinician": "Dr Karimi",
        "Priority": "Immediate (stat)",
        "Department": "Not recorded",
        "Visit": "Outpatient",
        "Specimen collected": "Not recorded",
        # Typed first, then what the record's orders give as their reasons.
        "Reason and clinical information": "Fatigue\nFever 38.5 °C\nAnaemia",
    }
    row = [bare(cell) for cell in section(model, "table", 1)["rows"][0]]
    assert row == ["1", "Hemoglobin A1c\nFasting 8-12 h", "Urgent", "09 Nov 2025"]
    assert bare(model["identity"]["items"][1][1]) == "09 Nov 2025 14:30 +04:30"


def test_without_optional_data_the_form_says_so() -> None:
    patient = {"resourceType": "Patient", "id": "p9", "name": [{"text": "Ali"}]}
    model = lay_out(
        RAW,
        resources(patient=patient, encounter=None, orders=[]),
        request(inputs={"tests": ["CBC"]}, verificationUrl=None),
    )
    assert fields(model)["Date of birth"] == "Not recorded"
    assert bare(model["identity"]["patient"]) == "Ali · Date of birth: Not recorded · Patient no.: p9"
    assert [entry["type"] for entry in model["sections"]].count("table") == 1
    assert "qr" not in [entry["type"] for entry in model["sections"]]


def test_an_empty_requisition_is_refused() -> None:
    with pytest.raises(errors.BindingRequired) as caught:
        lay_out(RAW, resources(orders=[]), request(inputs={}))
    assert caught.value.extra == {"binding": "requestedTests or orders"}


def test_the_same_input_gives_the_same_model() -> None:
    assert lay_out(RAW, resources(), request("ps-AF")) == lay_out(RAW, resources(), request("ps-AF"))


def test_laying_out_changes_nothing_that_it_was_given() -> None:
    read, wanted = resources(), request()
    before = json.dumps([read, wanted], default=str)
    lay_out(RAW, read, wanted)
    assert json.dumps([read, wanted], default=str) == before


# --- Values ---------------------------------------------------------------------------------------------------


def test_decimals_keep_their_digits() -> None:
    read = read_json(
        b'{"patient": {"resourceType": "Patient", "name": [{"text": "A"}]}, "labs": [{"resourceType": "Observation",'
        b'"status": "final", "valueQuantity": {"value": 1.10, "unit": "mmol/L"},'
        b'"referenceRange": [{"low": {"value": 0.90, "unit": "mmol/L"}, "high": {"value": 1.30, "unit": "mmol/L"}}]}]}'
    )
    definition = form(
        context={"labs": {"search": "Observation"}},
        labs={
            "type": "collection",
            "path": "%labs",
            "items": {
                "value": {"path": "value", "type": "quantity", "required": True},
                "range": {"path": "referenceRange.first()", "type": "range"},
                "number": {"path": "(value as Quantity).value", "type": "decimal"},
            },
        },
    )
    row = section(lay(definition, read), "table")["rows"][0]
    assert [bare(cell) for cell in row] == ["1.10 mmol/L", "0.90–1.30 mmol/L", "1.10"]


def test_a_required_binding_that_finds_nothing_is_named() -> None:
    with pytest.raises(errors.BindingRequired) as caught:
        lay(form(dose={"path": "%patient.maritalStatus", "type": "code", "required": True}))
    assert caught.value.extra == {"binding": "dose"}
    with pytest.raises(errors.BindingRequired) as caught:
        lay_out(RAW, resources(orders=[order(1, code=None)]), request())
    assert caught.value.extra == {"binding": "orders[0].test"}
    # A note alone is no test: what cannot be named is refused and never printed as its note.
    with pytest.raises(errors.BindingRequired):
        lay_out(RAW, resources(orders=[order(1, code={"coding": [{"system": "http://loinc.org"}]})]), request())


@pytest.mark.parametrize(
    ("binding", "says"),
    [
        ({"path": "%patient.name", "type": "humanName"}, "several values"),
        ({"path": "%patient.birthDate", "type": "quantity"}, "no quantity"),
        ({"path": "%patient.name.first()", "type": "text"}, "no text"),
        ({"path": "%patient.name.single()", "type": "humanName"}, "could not be evaluated"),
        ({"path": "%patient.birthDate + 1", "type": "text"}, "could not be evaluated"),
    ],
)
def test_other_results_than_declared_are_refused_without_data(binding: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.BindingFailed) as caught:
        lay(form(thing=binding))
    assert says in str(caught.value)
    assert "thing" in str(caught.value)
    assert "1984" not in str(caught.value)
    assert "احمدزی" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_several_results_can_be_joined() -> None:
    definition = form(
        names={"path": "%patient.name.given", "type": "text", "join": "comma"},
        lines={"path": "%patient.identifier", "type": "identifier", "join": "line"},
    )
    patient = PATIENT | {"identifier": [*PATIENT["identifier"], {"value": "P-77"}]}
    # The first number of the record is marked old.
    assert fields(lay(definition, {"patient": patient})) == {"names": "مریم, مریم", "lines": "KC-0091447\nP-77"}


@pytest.mark.parametrize(
    ("columns", "spans", "filled"),
    [
        (2, [1, 1, 1, 2], [1, 1, 2, 2]),
        (2, [1, 2, 1], [2, 2, 2]),
        (3, [1, 1, 2, 1], [1, 2, 2, 1]),
        (1, [1, 1], [1, 1]),
        (4, [3, 3, 1], [4, 3, 1]),
    ],
)
def test_fields_fill_whole_rows(columns: int, spans: list[int], filled: list[int]) -> None:
    definition = form(name={"path": "%patient.gender", "type": "text"})
    definition["sections"][1] |= {
        "columns": columns,
        "fields": [{"label": "name", "value": "name", "span": span} for span in spans],
    }
    assert [field["span"] for field in section(lay(definition), "fieldGrid")["fields"]] == filled


def test_control_characters_in_data_are_refused() -> None:
    patient = PATIENT | {"gender": "fe\u0000male"}
    with pytest.raises(errors.BindingFailed, match="control characters"):
        lay(form(sex={"path": "%patient.gender", "type": "text"}), {"patient": patient})
    with pytest.raises(errors.BindingFailed):
        lay(
            form(sex={"path": "%patient.gender", "type": "text"}), {"patient": PATIENT | {"name": [{"text": "\ud800"}]}}
        )


def test_bidi_overrides_in_data_do_not_reach_the_page() -> None:
    patient = PATIENT | {"name": [{"use": "official", "text": "\u202eAli\u2066 50"}]}
    model = lay_out(RAW, resources(patient=patient), request("fa-AF"))
    assert "\u202e" not in json.dumps(model, ensure_ascii=False)
    assert fields(model)["نام"] == "Ali 50"


def test_absent_primitives_with_extensions_are_missing() -> None:
    patient = {key: value for key, value in PATIENT.items() if key != "birthDate"}
    patient["_birthDate"] = {"extension": [{"url": "data-absent-reason", "valueCode": "unknown"}]}
    assert fields(lay(form(born={"path": "%patient.birthDate", "type": "date"}), {"patient": patient})) == {
        "born": "Not recorded"
    }


def test_codes_get_the_words_of_the_form() -> None:
    definition = form(sex={"path": "%patient.gender", "type": "code", "values": {"female": "known"}})
    assert fields(lay(definition)) == {"sex": "Known none"}
    assert fields(lay(definition, {"patient": PATIENT | {"gender": "other"}})) == {"sex": "other"}


def test_a_collection_typed_into_one_field() -> None:
    model = lay_out(RAW, resources(orders=[]), request(inputs={"tests": " CBC ;; HbA1c\nMalaria "}))
    assert [bare(row[1]) for row in section(model, "table")["rows"]] == ["CBC", "HbA1c", "Malaria"]


def test_rows_may_be_the_parts_of_each_entry_which_they_can_read() -> None:
    """Two entries with an equal part each name their own."""
    part = {"system": "phone", "value": "0700 914 319"}
    contacts = [{"name": {"text": name}, "telecom": [part]} for name in ("Karim", "Laila")]
    rows = {
        "path": "%patient.contact",
        "parts": "telecom",
        "type": "collection",
        "required": True,
        "items": {"whose": {"path": "%entry.name", "type": "humanName"}, "phone": {"path": "value", "type": "text"}},
    }
    assert definitions.check(form(phones=rows)) == []
    table = section(lay(form(phones=rows), {"patient": PATIENT | {"contact": contacts}}), "table")
    assert [[bare(cell) for cell in row] for row in table["rows"]] == [
        ["Karim", "0700 914 319"],
        ["Laila", "0700 914 319"],
    ]
    nothing = {"patient": PATIENT | {"contact": [{"name": {"text": "Karim"}}]}}
    with pytest.raises(errors.BindingRequired) as caught:
        lay(form(phones=rows), nothing)
    assert caught.value.extra == {"binding": "phones"}


# --- Which resources print ------------------------------------------------------------------------------------


def all_orders() -> dict[str, Any]:
    """The requisition with whatever the service lets it print."""
    definition = requisition.definition()
    definition["bindings"]["orders"]["path"] = "%orders"
    return definition


@pytest.mark.parametrize(
    ("members", "prints"),
    [
        ({}, True),
        ({"status": "entered-in-error"}, False),
        ({"status": "revoked"}, False),
        ({"status": "stopped"}, False),
        ({"status": "cancelled"}, False),
        ({"status": "completed"}, True),
        ({"doNotPerform": True}, False),
        ({"doNotPerform": False}, True),
    ],
)
def test_only_current_orders_print(members: dict[str, Any], prints: bool) -> None:
    """Of a form that chooses none itself."""
    model = lay_out(all_orders(), resources(orders=[order(1, **members)]), request())
    assert (len([entry for entry in model["sections"] if entry["type"] == "table"]) == 2) is prints


def test_a_form_may_ask_for_stopped_and_negated_orders() -> None:
    definition = all_orders()
    definition["context"]["orders"] |= {"includeStatuses": ["stopped"], "includeNegated": True}
    wanted = [order(1, status="stopped"), order(2, doNotPerform=True), order(3, status="revoked")]
    model = lay_out(definition, resources(orders=wanted), request())
    assert len(section(model, "table", 1)["rows"]) == 2
    wanted.append(order(4, status="entered-in-error"))
    assert len(section(lay_out(definition, resources(orders=wanted), request()), "table", 1)["rows"]) == 2


def test_an_encounter_entered_in_error_refuses() -> None:
    encounter = requisition.ENCOUNTER | {"status": "entered-in-error"}
    with pytest.raises(errors.BindingFailed, match="encounter"):
        lay_out(RAW, resources(encounter=encounter), request())


@pytest.mark.parametrize(
    "members",
    [
        {"modifierExtension": [{"url": "http://x/not", "valueBoolean": True}]},
        {"note": [{"text": "x", "modifierExtension": [{"url": "http://x/not"}]}]},
        {"modifierExtension": ["broken"]},
        {"implicitRules": "http://x/rules"},
    ],
)
def test_unknown_modifiers_refuse(members: dict[str, Any]) -> None:
    with pytest.raises(errors.ModifierUnknown):
        lay_out(RAW, resources(orders=[order(1, **members)]), request())


def test_a_form_may_know_a_modifier() -> None:
    definition = requisition.definition()
    definition["context"]["orders"]["modifierExtensions"] = ["http://x/not"]
    known = order(1, modifierExtension=[{"url": "http://x/not"}])
    assert len(section(lay_out(definition, resources(orders=[known]), request()), "table", 1)["rows"]) == 1


def test_another_type_or_an_unanswered_search_refuses() -> None:
    with pytest.raises(errors.BindingFailed):
        lay_out(RAW, resources(orders=[PATIENT]), request())
    with pytest.raises(errors.DataIncomplete):
        lay_out(RAW, resources(orders=None), request())
    with pytest.raises(errors.BindingRequired):
        lay_out(RAW, resources(patient=None), request())
    with pytest.raises(errors.BindingRequired):
        lay_out(RAW, resources(patient={"resourceType": "Patient"}), request())


ALLERGIES = form(
    context={"allergies": {"search": "AllergyIntolerance"}},
    allergies={
        "type": "collection",
        "path": "%allergies",
        "knownNone": {"codes": ["716186003"], "label": "known"},
        "items": {"what": {"path": "code", "type": "code", "required": True}},
    },
)


def allergy(code: str, text: str, **members: Any) -> dict[str, Any]:
    return {"resourceType": "AllergyIntolerance", "code": {"coding": [{"code": code}], "text": text}, **members}


def test_none_recorded_and_known_none_are_different_words() -> None:
    none = section(lay(ALLERGIES, {"patient": PATIENT, "allergies": []}), "table")
    assert (none["rows"], none["empty"]) == ([], "None recorded")
    known = section(lay(ALLERGIES, {"patient": PATIENT, "allergies": [allergy("716186003", "NKA")]}), "table")
    assert (known["rows"], known["empty"]) == ([], "Known none")
    both = [allergy("716186003", "NKA"), allergy("91936005", "Penicillin")]
    mixed = section(lay(ALLERGIES, {"patient": PATIENT, "allergies": both}), "table")
    assert [bare(row[0]) for row in mixed["rows"]] == ["Penicillin"]
    assert mixed["empty"] is None


def test_refuted_and_erroneous_allergies_do_not_print() -> None:
    def verified(code: str) -> dict[str, Any]:
        return allergy("91936005", "Penicillin", verificationStatus={"coding": [{"code": code}]})

    shown = [verified("refuted"), verified("entered-in-error"), verified("confirmed")]
    assert len(section(lay(ALLERGIES, {"patient": PATIENT, "allergies": shown}), "table")["rows"]) == 1


# --- The request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (None, True),
        ({}, True),
        ({"birthDate": "1984-03-27"}, True),
        ({"birthDate": "۱۹۸۴-۰۳-۲۷"}, True),
        ({"birthDate": "1984-03-28"}, False),
        ({"identifier": "KC-0091447"}, True),
        ({"identifier": "urn:kc|KC-0091447"}, True),
        ({"identifier": "urn:other|KC-0091447"}, False),
        ({"identifier": "KC-1"}, False),
        ({"birthDate": "1984-03-27", "identifier": "KC-1"}, False),
    ],
)
def test_patient_check(check: dict[str, str] | None, holds: bool) -> None:
    if holds:
        lay_out(RAW, resources(), request(patientCheck=check))
        return
    with pytest.raises(errors.PatientMismatch) as caught:
        lay_out(RAW, resources(), request(patientCheck=check))
    assert "1984" not in str(caught.value)


def test_locale_and_inputs_are_checked_again() -> None:
    with pytest.raises(errors.LocaleUnsupported):
        lay_out(RAW, resources(), request("fr"))
    with pytest.raises(errors.InputsInvalid) as caught:
        lay_out(RAW, resources(), request(inputs={"priority": "later"}))
    assert caught.value.errors[0].pointer == "/inputs/priority"
    with pytest.raises(errors.BindingFailed):
        lay_out(RAW, resources(), request(timeZone="Nowhere"))


def test_a_bad_definition_is_refused() -> None:
    for bad in (b"{}", b"[", {"language": 1}, {"language": float("nan")}):
        with pytest.raises((errors.DefinitionInvalid, definitions.JsonInvalid)):
            lay_out(bad, resources(), request())


def test_errors_cross_a_process_border() -> None:
    with pytest.raises(errors.BindingRequired) as caught:
        lay_out(RAW, resources(orders=[]), request(inputs={}))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.code, again.detail, again.extra) == ("BINDING_REQUIRED", caught.value.detail, caught.value.extra)


# --- Evaluation is bounded ------------------------------------------------------------------------------------


def ready(path: str) -> Step:
    return step_of(parse_expression(path).tree)


MANY = [{"resourceType": "Observation", "code": {"text": "x" * 50}} for _ in range(200)]


@pytest.mark.parametrize(
    "path",
    [
        "%many.select(%many.select(%many.select(%many.code.text)))",
        "%many.where(%many.where(%many.where(code.text = 'y').exists()).exists()).exists()",
        "%many.select($this | %many).select($this | %many).count()",
        "%many.code.text.select(replace('x', 'xxxxxxxxxx')).select(replace('x', 'xxxxxxxxxx'))"
        ".select(replace('x', 'xxxxxxxxxx')).select(replace('x', 'xxxxxxxxxx'))",
        "%many.first().code.text.select($this & $this)" + ".select($this & $this)" * 15,
        "10.power(999999).round()",
        "%many.combine(%many).intersect(%many.combine(%many)).count()",
    ],
)
def test_hostile_expressions_end(path: str) -> None:
    began = time.monotonic()
    try:
        with alarm():
            evaluate(ready(path), [], {"many": MANY})
    except EvaluationFailed:
        pass
    # The alarm is 0.3 s of processor time; the rest is for a busy machine.
    assert time.monotonic() - began < 5


def test_the_alarm_is_named_and_then_gone() -> None:
    with pytest.raises(EvaluationTimeout), alarm():
        evaluate(
            ready("%many.select(%many.select(%many.select(%many.code.text)))"),
            [],
            {"many": MANY},
        )
    with alarm():
        assert evaluate(ready("1 + 1"), [], {}) == [2]


def burn(seconds: float) -> None:
    """Hold the processor."""
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_alarm_rings_until_it_is_heard() -> None:
    """Python swallows what a signal raises inside a finaliser; one ring lost there must not be the last."""
    lost: list[int] = []

    class Held:
        def __del__(self) -> None:
            try:
                burn(1)
            except BaseException:
                lost.append(1)
                raise

    def step(*_: Any) -> list[Any]:
        Held()
        # Ends by itself, so that a lost alarm fails the test and not the machine.
        burn(3)
        return []

    with pytest.raises(EvaluationTimeout), alarm():
        evaluate(step, [], {})
    assert lost


def test_a_garbage_collection_is_not_the_expressions_time() -> None:
    def collect(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            burn(2 * MOST_SECONDS)

    def step(*_: Any) -> list[Any]:
        kept = [[number] for number in range(10_000)]
        burn(MOST_SECONDS / 4)
        return kept[:1]

    gc.callbacks.append(collect)
    try:
        with alarm():
            assert evaluate(step, [], {}) == [[0]]
            assert not gc.isenabled()
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(collect)


def test_evaluation_outside_the_main_thread_has_no_alarm_and_works() -> None:
    models: list[Any] = []
    thread = threading.Thread(target=lambda: models.append(lay_out(RAW, resources(), request())))
    thread.start()
    thread.join()
    assert models[0]["title"] == "General Test Requisition"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("%x.flag.where($this)", []),
        ("%x.where(flag)", []),
        ("%x.value < 200 '[lb_av]'", [True]),
        ("%x.value < 80 'kg'", [False]),
        ("%x.value > 1 'mL'", []),
        ("%x.value.value.lowBoundary(2)", ["185.05"]),
        ("%x.value.value.precision()", [1]),
        ("%x.value.value.round()", ["185"]),
        ("%x.value.value.toString()", ["185.1"]),
        ("1.10.toString()", ["1.10"]),
        ("%x.code.text.matches('^(a+)+$')", [False]),
        ("%x.code.text.matchesFull('b.*')", [True]),
        ("%x.code.text.replaceMatches('(b)(a)', '$2$1')", ["abnana"]),
        ("%x.code.text.hasValue()", [True]),
        ("%x.code.hasValue()", [False]),
        ("%x.issued < @2025-11-09T10:00:00Z", [True]),
        ("%x.issued + 1 hour", ["2025-11-09T11:00:00+04:30"]),
        ("@2024-01-31 + 1 month", ["2024-02-29"]),
        ("@2024-03-01 - 1 day", ["2024-02-29"]),
        ("@2014 + 24 months", ["2016"]),
        ("@2014-11 + 60 days", ["2015-01"]),
        ("@9999-12-31 + 1 day", []),
        ("(3 | 1 | 2).sort()", [1, 2, 3]),
        ("('b' | 'a').sort(-$this)", ["b", "a"]),
        ("%x.select(code.where(text = 'x')).select($this)", []),
        ("iif(%x.flag, 'yes', 'no')", ["no"]),
        ("coalesce(%x.nothing, %x.code.text, 'z')", ["banana"]),
        ("%nothing.name", []),
    ],
)
def test_gaps_of_the_engine_are_closed(path: str, expected: list[Any]) -> None:
    resource = read_json(
        b'{"resourceType": "Observation", "flag": false, "code": {"text": "banana"},'
        b'"issued": "2025-11-09T10:00:00+04:30",'
        b'"valueQuantity": {"value": 185.1, "unit": "lbs", "code": "[lb_av]", "system": "http://unitsofmeasure.org"}}'
    )
    found = evaluate(ready(path), [], {"x": resource, "nothing": None})
    assert [value if isinstance(value, bool | int) else str(value) for value in map(plain, found)] == expected


def test_laying_out_is_quick() -> None:
    """Under 3 ms of processor time for the one-page form with 12 orders, warm (measured: 1.4 ms)."""
    read, wanted = resources(orders=[order(number) for number in range(12)]), request("fa-AF")
    lay_out(RAW, read, wanted)
    best = min(_seconds(read, wanted) for _ in range(20))
    # Three times the aim, for a machine that is shared.
    assert best < 0.009


def _seconds(read: Any, wanted: Any) -> float:
    began = time.process_time()
    lay_out(RAW, read, wanted)
    return time.process_time() - began


# --- Dates in order ---------------------------------------------------------------------------------------------


def _observed(*moments: str | None) -> dict[str, Any]:
    """The patient and observations that are called by their moments."""
    found = [{"resourceType": "Observation", "id": moment or "undated", "status": "final"} for moment in moments]
    for one, moment in zip(found, moments, strict=True):
        if moment is not None:
            one["effectiveDateTime"] = moment
    return {"patient": PATIENT, "found": found}


def _in_order(key: str, *moments: str | None, zone: str = "Asia/Kabul") -> str:
    path = f"%found.sort({key}).id"
    definition = form(
        value={"path": path, "type": "text", "join": "comma"}, context={"found": {"search": "Observation"}}
    )
    return fields(lay(definition, _observed(*moments), timeZone=zone))["value"]


def test_dates_of_the_record_are_sorted_by_time_and_not_by_their_text() -> None:
    early, late = "2026-03-20T08:00:00+04:30", "2026-03-20T04:50:00Z"
    assert _in_order("effective.ofType(dateTime)", late, early) == f"{early}, {late}"
    assert _in_order("-effective.ofType(dateTime)", early, late) == f"{late}, {early}"
    # The day before in UTC is the same day in Kabul, and a whole day stands before the moments in it.
    night = "2026-03-19T20:00:00Z"
    assert _in_order("effective.ofType(dateTime)", early, "2026-03-20", night) == f"2026-03-20, {night}, {early}"
    assert _in_order("effective.ofType(dateTime)", early, "2026-03-20", night, zone="UTC") == (
        f"{night}, 2026-03-20, {early}"
    )
    assert _in_order("-effective.ofType(dateTime)", "2026", "2026-03", early, "2025-12-31") == (
        f"{early}, 2026-03, 2026, 2025-12-31"
    )
    # One moment under two names: their order stays.
    same = "2026-03-20T03:30:00.000Z"
    assert _in_order("effective.ofType(dateTime)", same, early) == f"{same}, {early}"
    assert _in_order("-effective.ofType(dateTime)", early, same) == f"{early}, {same}"
    assert _in_order("effective.empty(), -effective.ofType(dateTime)", None, early, late) == f"{late}, {early}, undated"
    # A reason why there is no moment is no moment, also where the order is turned.
    definition = form(
        value={"path": "%found.sort(-effective.ofType(dateTime)).id", "type": "text", "join": "comma"},
        context={"found": {"search": "Observation"}},
    )
    record = _observed(early, None, late)
    record["found"][1]["_effectiveDateTime"] = {"extension": [{"url": "http://x.example/why", "valueCode": "unknown"}]}
    assert fields(lay(definition, record, timeZone="Asia/Kabul"))["value"] == f"undated, {late}, {early}"
    # What cannot be read as a date is text, and text beside dates is compared as theirs.
    assert _in_order("effective.ofType(dateTime)", "2026-03-20T99:00:00Z", early) == f"{early}, 2026-03-20T99:00:00Z"
    assert _in_order("coalesce(effective.ofType(dateTime), 'none')", None, early) == f"{early}, undated"


@pytest.mark.parametrize(
    ("recorded", "zone", "day"),
    [
        ("2026-03-20T20:30:00Z", "Asia/Kabul", "2026-03-21"),
        ("2026-03-20T20:30:00Z", "UTC", "2026-03-20"),
        ("2026-03-20T20:30:00", "Asia/Kabul", "2026-03-20"),
        ("2026-03-20", "Asia/Kabul", "2026-03-20"),
        ("2026-03", "Asia/Kabul", "2026-03"),
        (None, "Asia/Kabul", "Not recorded"),
    ],
)
def test_the_day_of_a_moment_is_the_tenants(recorded: str | None, zone: str, day: str) -> None:
    definition = form(
        value={"path": "%found.effective.ofType(dateTime).localDay()", "type": "text"},
        context={"found": {"search": "Observation"}},
    )
    assert fields(lay(definition, _observed(recorded), timeZone=zone))["value"] == day


def test_ages_are_counted_on_the_tenants_day() -> None:
    definition = form(value={"path": "%issuedAt.substring(0, 10)", "type": "text"})
    late = {"issuedAt": "2026-03-20T20:30:00+00:00"}
    assert fields(lay(definition, **late, timeZone="Asia/Kabul"))["value"] == "2026-03-21"
    assert fields(lay(definition, **late, timeZone="UTC"))["value"] == "2026-03-20"
