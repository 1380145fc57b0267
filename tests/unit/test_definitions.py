"""The template language: what a publish refuses, all at once, each with pointer, code and remedy."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import requisition
from document_service import definitions
from document_service.definitions.checks import definition_schema
from document_service.definitions.expressions import (
    ALLOWED_FUNCTIONS,
    ExpressionInvalid,
    parse_expression,
)
from document_service.errors import DefinitionInvalid, Problem
from document_service.formatting.dosage_words import DOSAGE_WORD_KEYS
from document_service.formatting.locales import STANDARD_LABEL_KEYS

MINIMAL: dict[str, Any] = {
    "language": 1,
    "locales": ["en"],
    "labels": {"en": {"title": "Note", "name": "Name"}},
    "context": {"patient": {"read": "Patient"}},
    "bindings": {"name": {"path": "%patient.name.first()", "type": "humanName", "required": True}},
    "sections": [{"type": "fieldGrid", "fields": [{"label": "name", "value": "name"}]}],
}


def changed(*steps: tuple[str, Any]) -> dict[str, Any]:
    """MINIMAL with values set at slash-separated paths; a value of None removes."""
    result = copy.deepcopy(MINIMAL)
    for path, value in steps:
        *parents, last = path.split("/")
        target: Any = result
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        if value is None:
            del target[last]
        elif isinstance(target, list):
            target.insert(int(last), value)
        else:
            target[last] = value
    return result


def codes(definition: object) -> set[tuple[str, str]]:
    return {(problem.pointer, problem.code) for problem in definitions.check(definition)}


def test_the_minimal_form_is_good() -> None:
    assert definitions.check(MINIMAL) == []
    parsed = definitions.parse(MINIMAL)
    assert parsed.page.size == "A4"
    assert parsed.bindings["name"].required
    assert parsed.context["patient"].kind == "read"


def test_the_platform_form_is_good_and_complete() -> None:
    definition = requisition.definition()
    assert definitions.check(definition) == []
    labels = definition["labels"]
    assert set(labels) == set(requisition.LOCALES)
    assert {frozenset(words) for words in labels.values()} == {frozenset(labels["en"])}
    for locale in ("fa-AF", "ps-AF"):
        assert definition["translations"][locale]["reviewedBy"] is None
        assert not [key for key, word in labels[locale].items() if word == labels["en"][key]]


def test_the_form_in_the_documentation_is_good() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "template-language.md").read_text(encoding="utf-8")
    example = text.split("```json\n", 1)[1].split("```", 1)[0]
    assert definitions.check(json.loads(example)) == []


def test_every_value_type_and_section_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "template-language.md").read_text(encoding="utf-8")
    schema = definition_schema()["$defs"]
    words = [*schema["valueType"]["enum"], *schema["section"]["properties"]["type"]["enum"]]
    words += [name for part in ("value", "collection", "search", *words[-7:]) for name in schema[part]["properties"]]
    words += list(definition_schema()["properties"])[1:]
    assert [word for word in words if f"`{word}" not in text and f'"{word}"' not in text] == []


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(definition_schema())
    Draft202012Validator.check_schema(definitions.PAGE_MODEL_SCHEMA)


@pytest.mark.parametrize(
    ("steps", "pointer", "code"),
    [
        ([("language", 2)], "/language", "VALUE_UNKNOWN"),
        ([("sections", None)], "", "MEMBER_MISSING"),
        ([("colour", "red")], "", "MEMBER_UNKNOWN"),
        ([("locales", [])], "/locales", "TOO_FEW"),
        ([("locales/0", "english")], "/locales/0", "VALUE_SHAPE"),
        ([("locales/1", "fa-AF")], "/labels", "LABEL_MISSING"),
        ([("labels/fa-AF", {"title": "x"})], "/labels/fa-AF", "LOCALE_UNDECLARED"),
        ([("translations/fa-AF", {"reviewedBy": None})], "/translations/fa-AF", "LOCALE_UNDECLARED"),
        ([("locales/1", "fa-AF"), ("labels/fa-AF", {"title": "x"})], "/labels/fa-AF", "LABEL_MISSING"),
        ([("locales/1", "fr"), ("labels/fr", {"title": "x", "name": "n"})], "/labels/fr", "LABEL_MISSING"),
        ([("labels/en/name", "a\u0000")], "/labels/en/name", "TEXT_UNPRINTABLE"),
        ([("labels/en/name", "{")], "/labels/en/name", "PLACEHOLDER_SYNTAX"),
        ([("labels/en/name", "{name}")], "/sections/0/fields/0/label", "PLACEHOLDER_NOT_HERE"),
        ([("labels/en/pageOf", "{page}")], "/labels/en/pageOf", "PLACEHOLDER_MISMATCH"),
        ([("labels/en/foot", "{nobody}"), ("sections/1", {"type": "footer", "text": "foot"})],
         "/sections/1/text", "BINDING_UNKNOWN"),
        ([("page/size", "A3")], "/page/size", "VALUE_UNKNOWN"),
        ([("page/margins/top", 2)], "/page/margins/top", "OUT_OF_RANGE"),
        ([("context/patient", {"read": "Person"})], "/context/patient/read", "VALUE_UNKNOWN"),
        ([("context/inputs", {"search": "Observation"})], "/context/inputs", "NAME_TAKEN"),
        ([("bindings/issuedAt", {"path": "%patient.birthDate", "type": "date"})], "/bindings/issuedAt", "NAME_TAKEN"),
        ([("bindings/all", {"path": "%patient.name", "type": "collection",
                            "knownNone": {"codes": ["1"], "label": "nothing"},
                            "items": {"given": {"path": "given", "type": "text"}}})],
         "/bindings/all/knownNone/label", "LABEL_MISSING"),
        ([("context/x", {"search": "Patient"})], "/context/x/search", "VALUE_UNKNOWN"),
        ([("context/x", {"search": "Observation", "params": {"subject": 5}})], "/context/x/params/subject", "TYPE"),
        ([("bindings/name/type", "picture")], "/bindings/name/type", "VALUE_UNKNOWN"),
        ([("bindings/name/path", "%patient..name")], "/bindings/name/path", "FHIRPATH_SYNTAX"),
        ([("bindings/name/path", "%patient.repeat(name)")], "/bindings/name/path", "FHIRPATH_FUNCTION"),
        ([("bindings/name/path", "%nobody.name")], "/bindings/name/path", "VARIABLE_UNKNOWN"),
        ([("bindings/name/path", "name.given")], "/bindings/name/path", "PATH_ROOTLESS"),
        # %entry is known in the rows of a collection only.
        ([("bindings/name/path", "%entry.name")], "/bindings/name/path", "VARIABLE_UNKNOWN"),
        ([("bindings/all", {"path": "%patient", "parts": "%nobody.name", "type": "collection",
                            "items": {"given": {"path": "%entry.id", "type": "text"}}})],
         "/bindings/all/parts", "VARIABLE_UNKNOWN"),
        ([("bindings/all", {"path": "%patient", "parts": "name..given", "type": "collection",
                            "items": {"given": {"path": "given", "type": "text"}}})],
         "/bindings/all/parts", "FHIRPATH_SYNTAX"),
        ([("bindings/name/path", "%patient" + ".name" * 900)], "/bindings/name/path", "TOO_LONG"),
        ([("bindings/name/path", "%patient" + ".name" * 300)], "/bindings/name/path", "FHIRPATH_TOO_COMPLEX"),
        ([("bindings/name/path", None)], "/bindings/name", "MEMBER_CHOICE"),
        ([("bindings/name/input", "x")], "/bindings/name", "MEMBER_CHOICE"),
        ([("bindings/other", {"input": "x", "type": "text"})], "/bindings/other/input", "INPUT_UNKNOWN"),
        ([("bindings/name/values", {"a": "name"})], "/bindings/name/values", "VALUES_NEED_CODE"),
        ([("bindings/d", {"path": "%patient.name", "type": "dosage", "join": "line"})],
         "/bindings/d/join", "JOIN_NOT_HERE"),
        ([("labels/en/dosageEvery", "every few hours")], "/labels/en/dosageEvery", "PLACEHOLDER_MISMATCH"),
        ([("bindings/code", {"path": "%patient.gender", "type": "code", "values": {"m/f": "nothing"}})],
         "/bindings/code/values/m~1f", "LABEL_MISSING"),
        ([("sections/0/fields/0/value", "nobody")], "/sections/0/fields/0/value", "BINDING_UNKNOWN"),
        ([("sections/0/fields/0/label", "nobody")], "/sections/0/fields/0/label", "LABEL_MISSING"),
        ([("sections/0/fields/0/span", 3)], "/sections/0/fields/0/span", "OUT_OF_RANGE"),
        ([("sections/1", {"type": "video"})], "/sections/1/type", "VALUE_UNKNOWN"),
        ([("sections/1", {"type": "table", "rows": "name", "columns": [{"label": "name", "value": "x"}]})],
         "/sections/1/rows", "BINDING_TYPE"),
        ([("sections/1", {"type": "table", "rows": "none", "columns": [{"label": "name", "value": "x"}]})],
         "/sections/1/rows", "BINDING_UNKNOWN"),
        ([("bindings/all", {"path": "%patient.name", "type": "collection",
                            "items": {"given": {"path": "given", "type": "text"}}}),
          ("sections/1", {"type": "table", "rows": "all", "columns": [{"label": "name", "value": "x"}]})],
         "/sections/1/columns/0/value", "BINDING_UNKNOWN"),
        ([("bindings/all", {"path": "%patient.name", "type": "collection",
                            "items": {"given": {"path": "given", "type": "text"}}}),
          ("sections/0/fields/0/value", "all")], "/sections/0/fields/0/value", "BINDING_TYPE"),
        ([("sections/1", {"type": "qr", "content": "name", "alt": "name"})], "/sections/1/content", "BINDING_TYPE"),
        ([("sections/1", {"type": "signature", "slots": [{"label": "name", "date": "name"}]})],
         "/sections/1/slots/0/date", "BINDING_TYPE"),
        ([("requireOneOf", [["name", "nobody"]])], "/requireOneOf/0/1", "BINDING_UNKNOWN"),
        ([("page/margins/top", Decimal("10.12345678901234567890"))], "/page/margins/top", "NUMBER_INEXACT"),
        ([("inputs", {"type": "object", "additionalProperties": False, "$ref": "http://x"})],
         "/inputs/$ref", "INPUTS_SCHEMA"),
    ],
)  # fmt: skip
def test_each_slip_is_found(steps: list[tuple[str, Any]], pointer: str, code: str) -> None:
    assert (pointer, code) in codes(changed(*steps))


def test_a_locale_of_its_own_brings_the_words_of_a_dosage_where_one_is_said() -> None:
    words = {key: f"{key} {' '.join(f'{{{name}}}' for name in names)}" for key, names in DOSAGE_WORD_KEYS.items()}
    standard = {key: "{page} {pages}" if key == "pageOf" else "x" for key in STANDARD_LABEL_KEYS}
    french = {"title": "Note", "name": "Nom", **standard}
    form = changed(
        ("locales/1", "fr"),
        ("labels/fr", french),
        ("context/orders", {"search": "MedicationRequest"}),
        ("bindings/orders", {"type": "collection", "path": "%orders",
                             "items": {"dose": {"path": "dosageInstruction", "type": "text"}}}),
    )  # fmt: skip
    assert definitions.check(form) == []
    form["bindings"]["orders"]["items"]["dose"]["type"] = "dosage"
    assert codes(form) == {("/labels/fr", "LABEL_MISSING")}
    form["labels"]["fr"] = french | words
    # The words that one locale has, all have; the shipped locales have them already.
    assert definitions.check(form) == []


def test_all_problems_come_at_once_with_remedies() -> None:
    problems = definitions.check(
        changed(
            ("bindings/name/path", "%nobody.name"),
            ("sections/0/fields/0/label", "nobody"),
            ("locales/1", "fa-AF"),
        )
    )
    assert len(problems) == 3
    assert all(problem.title.endswith(".") for problem in problems)
    with pytest.raises(DefinitionInvalid) as caught:
        definitions.parse(changed(("language", 2)))
    assert caught.value.errors[0].pointer == "/language"


def test_a_flaw_of_shape_hides_no_problem_of_meaning_and_makes_none() -> None:
    definition = requisition.definition()
    del definition["labels"]["fa-AF"]["footer"]
    definition["bindings"]["birthDate"]["path"] = "%patient.birthDate."
    definition["bindings"]["requester"]["type"] = "quantty"
    definition["bindings"]["orders"]["type"] = "collection!"
    definition["context"]["encounter"]["optinal"] = True
    definition["sections"][1]["fields"][0]["value"] = "nobody"
    definition["sections"].append({"type": "para", "text": "x"})
    assert codes(definition) == {
        ("/bindings/birthDate/path", "FHIRPATH_SYNTAX"),
        ("/bindings/orders/type", "VALUE_UNKNOWN"),
        # Only collections have items; the schema cannot know what was meant.
        ("/bindings/orders", "MEMBER_UNKNOWN"),
        ("/bindings/requester/type", "VALUE_UNKNOWN"),
        ("/context/encounter", "MEMBER_UNKNOWN"),
        ("/labels/fa-AF", "LABEL_MISSING"),
        ("/sections/1/fields/0/value", "BINDING_UNKNOWN"),
        (f"/sections/{len(definition['sections']) - 1}/type", "VALUE_UNKNOWN"),
    }


def test_a_huge_or_deep_definition_is_refused_quickly() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    assert {code for _, code in codes(changed(("labels/en/x", deep)))} == {"DEFINITION_TOO_DEEP"}
    assert {code for _, code in codes(changed(("labels/en/x", ["y"] * 30_000)))} == {"DEFINITION_TOO_LARGE"}
    assert {code for _, code in codes(changed(("labels/en/x", "y" * 300_000)))} == {"DEFINITION_TOO_LARGE"}


def test_many_paths_together_are_bounded() -> None:
    long = "%patient.name.where(use = '" + "x" * 900 + "').first()"
    many = {f"b{number}": {"path": long, "type": "humanName"} for number in range(40)}
    assert ("/bindings", "TOO_COMPLEX") in codes(changed(("bindings", {**MINIMAL["bindings"], **many})))


# --- Canonical form ---------------------------------------------------------------------------------------------


def test_checksum_does_not_depend_on_writing() -> None:
    one = definitions.read_json('{"b": 1.50, "a": [1, "é"]}')
    other = json.loads('{"a":[1,"\\u00e9"],"b":1.5}')
    assert definitions.canonical_checksum(one) == definitions.canonical_checksum(other)
    assert definitions.canonical_json(one) == '{"a":[1,"é"],"b":1.5}'
    assert definitions.canonical_checksum(one) != definitions.canonical_checksum({"a": [1, "e"], "b": 1.5})


def test_read_json_keeps_digits_and_refuses_the_rest() -> None:
    assert str(definitions.read_json(b'{"v": 1.10}')["v"]) == "1.10"
    for text in (b"NaN", b'{"a": Infinity}', b"{", b"\xff", b"[" * 100_000, b""):
        with pytest.raises(definitions.JsonInvalid) as caught:
            definitions.read_json(text)
        assert "NaN" not in str(caught.value) or text == b"NaN"


# --- Inputs -----------------------------------------------------------------------------------------------------

INPUTS: dict[str, Any] = {
    "inputs": {
        "type": "object",
        "additionalProperties": False,
        "required": ["reason"],
        "properties": {
            "reason": {"type": "string", "minLength": 2, "maxLength": 10},
            "code": {"type": "string", "pattern": "^(a+)+$"},
            "on": {"type": "string", "format": "date"},
            "at": {"type": "string", "format": "date-time"},
            "dose": {"type": "number", "minimum": 0, "exclusiveMaximum": 5},
            "count": {"type": "integer"},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "flag": {"type": ["boolean", "null"]},
            "tests": {
                "type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": True,
                "items": {"type": "object", "additionalProperties": False, "properties": {"n": {"type": "string"}}},
            },
        },
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("given_inputs", "problems"),
    [
        ({"reason": "ok", "dose": Decimal("4.99"), "count": 3, "kind": "a", "flag": None, "on": "2025-11-09",
          "at": "2025-11-09T10:00:00Z", "tests": [{"n": "x"}], "code": "aaa"}, []),
        ({}, [("/inputs/reason", "REQUIRED")]),
        (None, [("/inputs/reason", "REQUIRED")]),
        ([], [("/inputs", "TYPE")]),
        ({"reason": "x"}, [("/inputs/reason", "TOO_SHORT")]),
        ({"reason": "x" * 11}, [("/inputs/reason", "TOO_LONG")]),
        ({"reason": 5}, [("/inputs/reason", "TYPE")]),
        ({"reason": "ok", "other": 1}, [("/inputs/other", "UNKNOWN_INPUT")]),
        ({"reason": "ok", "a/b~": 1}, [("/inputs/a~1b~0", "UNKNOWN_INPUT")]),
        ({"reason": "ok", "code": "a" * 5000 + "!"}, [("/inputs/code", "PATTERN")]),
        ({"reason": "ok", "on": "09.11.2025"}, [("/inputs/on", "FORMAT")]),
        ({"reason": "ok", "on": "2025-02-30"}, [("/inputs/on", "FORMAT")]),
        ({"reason": "ok", "at": "2025-11-09T10:00:00"}, [("/inputs/at", "FORMAT")]),
        ({"reason": "ok", "dose": -1}, [("/inputs/dose", "OUT_OF_RANGE")]),
        ({"reason": "ok", "dose": 5}, [("/inputs/dose", "OUT_OF_RANGE")]),
        ({"reason": "ok", "dose": 10**400}, [("/inputs/dose", "OUT_OF_RANGE")]),
        ({"reason": "ok", "dose": Decimal("1e999999")}, [("/inputs/dose", "OUT_OF_RANGE")]),
        ({"reason": "ok", "dose": True}, [("/inputs/dose", "TYPE")]),
        ({"reason": "ok", "count": Decimal("1.5")}, [("/inputs/count", "TYPE")]),
        ({"reason": "ok", "kind": "c"}, [("/inputs/kind", "ENUM")]),
        ({"reason": "ok", "tests": []}, [("/inputs/tests", "TOO_SHORT")]),
        ({"reason": "ok", "tests": [{}, {}, {}]}, [("/inputs/tests", "TOO_LONG")]),
        ({"reason": "ok", "tests": [{}, {}]}, [("/inputs/tests", "NOT_UNIQUE")]),
        ({"reason": "ok", "tests": [{"n": 1}]}, [("/inputs/tests/0/n", "TYPE")]),
        ({"reason": "o\ud800"}, [("/inputs/reason", "UNPRINTABLE")]),
    ],
)  # fmt: skip
def test_inputs(given_inputs: Any, problems: list[tuple[str, str]]) -> None:
    found = definitions.check_inputs(INPUTS, given_inputs)
    assert [(problem.pointer, problem.code) for problem in found] == problems


def test_no_schema_takes_no_inputs() -> None:
    assert definitions.check_inputs({}, {}) == []
    assert definitions.check_inputs({}, {"x": 1})[0].code == "UNKNOWN_INPUT"


def test_a_schema_that_was_never_checked_refuses_all() -> None:
    assert definitions.check_inputs({"inputs": {"type": "object", "$ref": "http://x"}}, {})[0].code == "INPUTS_SCHEMA"


def test_many_problems_of_inputs_are_bounded() -> None:
    assert len(definitions.check_inputs({}, {f"x{number}": 1 for number in range(5000)})) == 100


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "string"},
        {"type": "object", "additionalProperties": False, "properties": {"x": {"pattern": "("}}},
        {"type": "object", "additionalProperties": False, "properties": {"x": {"type": "string", "pattern": "(?=a)"}}},
        {"type": "object", "additionalProperties": False, "properties": {"x": {"type": "string", "format": "regex"}}},
        {"type": "object", "additionalProperties": False, "properties": {"x": {"type": "string", "anyOf": []}}},
        {"type": "object", "additionalProperties": False, "properties": {"x": {"type": "text"}}},
        {"type": "object", "additionalProperties": False, "properties": {"x/y": {"type": "string"}}},
        {"type": "object", "additionalProperties": False, "required": ["x"]},
        {"type": "object", "additionalProperties": False, "properties": {"x": {"type": "string", "minLength": True}}},
        {"type": "object", "additionalProperties": False, "properties": {"x": {"type": "string", "enum": []}}},
        {"type": "object", "additionalProperties": False, "properties": {"x": True}},
    ],
)
def test_schemas_outside_the_bounded_part_are_refused(schema: dict[str, Any]) -> None:
    assert {problem.code for problem in definitions.check(changed(("inputs", schema)))} == {"INPUTS_SCHEMA"}


# --- Expressions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("name..given", "FHIRPATH_SYNTAX"),
        ("2 + 2 /", "FHIRPATH_SYNTAX"),
        ("a b", "FHIRPATH_SYNTAX"),
        ("'open", "FHIRPATH_SYNTAX"),
        ("", "FHIRPATH_SYNTAX"),
        ("\x00", "FHIRPATH_SYNTAX"),
        ("a.trace('x')", "FHIRPATH_FUNCTION"),
        ("a.`repeat`(b)", "FHIRPATH_FUNCTION"),
        ("now()", "FHIRPATH_FUNCTION"),
        ("a.select(b.descendants())", "FHIRPATH_FUNCTION"),
        ("a.resolve()", "FHIRPATH_FUNCTION"),
        ("(" * 51 + "1" + ")" * 51, "FHIRPATH_TOO_COMPLEX"),
        ("-" * 400 + "1", "FHIRPATH_TOO_COMPLEX"),
        ("1" + "+1" * 300, "FHIRPATH_TOO_COMPLEX"),
        ("a" * 5000, "FHIRPATH_TOO_LONG"),
    ],
)
def test_expressions_are_bounded(source: str, code: str) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        parse_expression(source)
    assert caught.value.code == code


def test_expressions_name_what_they_use() -> None:
    expression = parse_expression("%patient.name.where(use = 'official').exists() and %`us-zip`.empty()")
    assert expression.variables == {"patient", "us-zip"}
    assert expression.functions == {"where", "exists", "empty"} <= ALLOWED_FUNCTIONS


# --- Properties -------------------------------------------------------------------------------------------------

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def assert_problems(problems: list[Problem]) -> None:
    assert len(problems) <= 100
    for problem in problems:
        assert problem.pointer == "" or problem.pointer.startswith("/")
        assert problem.code.isupper()
        assert problem.title


@settings(max_examples=200, deadline=None)
@given(any_json)
def test_any_json_is_answered(value: Any) -> None:
    problems = definitions.check(value)
    assert problems
    assert_problems(problems)


PATHS: list[tuple[str | int, ...]] = []


def _collect(value: Any, path: tuple[str | int, ...]) -> None:
    PATHS.append(path)
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        _collect(item, (*path, key))


_collect(requisition.definition(), ())


def _replace(definition: Any, path: tuple[str | int, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(definition)
    definition[path[0]] = _replace(definition[path[0]], path[1:], change)
    return definition


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), any_json)
def test_a_broken_form_is_answered(path: tuple[str | int, ...], value: Any) -> None:
    """One value anywhere in the platform form replaced by any JSON: good, or refused with pointers."""
    broken = _replace(requisition.definition(), path, lambda _: value)
    problems = definitions.check(broken)
    assert_problems(problems)
    if not problems:
        definitions.parse(broken)
        definitions.canonical_checksum(broken)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PATHS), any_json), min_size=2, max_size=5))
def test_several_flaws_are_answered_together(flaws: list[tuple[tuple[str | int, ...], Any]]) -> None:
    broken: Any = requisition.definition()
    for path, value in flaws:
        with contextlib.suppress(KeyError, IndexError, TypeError):  # An earlier flaw took the place away.
            broken = _replace(broken, path, lambda _, value=value: value)
    assert_problems(definitions.check(broken))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="%patient.name()[]{}'`\"@0123456789T:+-*/&|=!<>~,$where select\\u\n ", max_size=60))
def test_any_expression_is_parsed_or_refused(source: str) -> None:
    refusal = ""
    try:
        parse_expression(source)
    except ExpressionInvalid as refused:
        refusal = refused.code
    assert refusal == "" or refusal.startswith("FHIRPATH_")


SEARCH = {"search": "Observation", "params": {"status": "final"}}


@pytest.mark.parametrize(
    ("parameter", "value", "code"),
    [
        ("_include", "Observation:subject", "PARAMETER_REFUSED"),
        ("_count", "5", "PARAMETER_REFUSED"),
        ("patient", "Patient/1", "PARAMETER_REFUSED"),
        ("subject:Patient", "1", "PARAMETER_REFUSED"),
        ("encounter", ["x"], "PARAMETER_REFUSED"),
        ("date", "{inputs.nope}", "INPUT_UNKNOWN"),
        ("date", ["ge{inputs.since}"], "INPUT_OPTIONAL"),
        ("date", "{issuedAt}", "PLACEHOLDER_SYNTAX"),
        ("date", "ge{inputs.until", "PLACEHOLDER_SYNTAX"),
    ],
)
def test_what_the_reader_would_refuse_at_each_render_is_refused_in_the_form(
    parameter: str, value: Any, code: str
) -> None:
    text = {"type": "string", "format": "date"}
    inputs = {"type": "object", "additionalProperties": False, "properties": {"since": text, "until": text}}
    form = changed(("inputs", {**inputs, "required": ["until"]}), ("context/results", copy.deepcopy(SEARCH)))
    form["context"]["results"]["params"]["_sort"] = "-date"
    form["context"]["results"]["params"]["code:in"] = "{patientId} {encounterId} {inputs.until}"
    assert definitions.check(form) == []
    form["context"]["results"]["params"][parameter] = value
    found = [(problem.pointer, problem.code) for problem in definitions.check(form)]
    assert found == [(f"/context/results/params/{parameter}", code)]
