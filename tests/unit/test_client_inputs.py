"""A request's inputs: typed by the schema, checked on the device, digits kept, values never repeated in errors."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from document_client.errors import InputsInvalid, LocaleUnsupported, UsageProblem
from document_client.inputs import (
    check_birth_date,
    check_inputs,
    check_reference,
    choose_locale,
    parse_assignments,
    to_bytes,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 20},
        "dose": {"type": "number", "multipleOf": 0.05},
        "count": {"type": "integer", "minimum": 1},
        "fasting": {"type": "boolean"},
        "tests": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "priority": {"enum": ["routine", "urgent"]},
        "note": {"type": ["string", "null"]},
        "site": {"type": "object", "properties": {"side": {"type": "string"}}},
    },
    "required": ["reason"],
    "additionalProperties": False,
}


def test_values_are_typed_by_the_schema() -> None:
    pairs = ["reason=7", "dose=1.10", "count=3", "fasting=yes", "tests=a", "tests=b=c", "priority=urgent", "note="]
    values = parse_assignments([*pairs, 'site={"side":"left"}'], SCHEMA)
    assert values == {
        "reason": "7",
        "dose": Decimal("1.10"),
        "count": 3,
        "fasting": True,
        "tests": ["a", "b=c"],
        "priority": "urgent",
        "note": None,
        "site": {"side": "left"},
    }
    check_inputs(values, SCHEMA)
    assert b'"dose":1.10,' in to_bytes(values)


@pytest.mark.parametrize(
    ("pairs", "pointer", "word"),
    [
        (["dose=high"], "/dose", "number"),
        (["dose=NaN"], "/dose", "number"),
        (["count=1.5"], "/count", "integer"),
        (["fasting=perhaps"], "/fasting", "true or false"),
        (["unknown=1"], "/unknown", "no such input"),
        (["reason"], "/", "name=value"),
        (["reason=a", "reason=b"], "/reason", "twice"),
        (["site={broken"], "/site", "JSON"),
    ],
)
def test_what_cannot_be_typed_names_the_field_and_the_remedy(pairs: list[str], pointer: str, word: str) -> None:
    with pytest.raises(InputsInvalid) as refused:
        parse_assignments(pairs, SCHEMA)
    assert refused.value.errors[0][0] == pointer
    assert word in refused.value.errors[0][1]


@pytest.mark.parametrize(
    ("values", "pointer", "word"),
    [
        ({}, "/reason", "required"),
        ({"reason": "x" * 21}, "/reason", "maxLength: 20"),
        ({"reason": "x", "priority": "now"}, "/priority", "routine, urgent"),
        ({"reason": "x", "count": 0}, "/count", "minimum"),
        ({"reason": "x", "dose": Decimal("1.11")}, "/dose", "multipleOf"),
        ({"reason": "x", "tests": []}, "/tests", "minItems"),
        ({"reason": "x", "secret-name": 1}, "/", "does not know"),
        ({"reason": "x", "tests": [1]}, "/tests/0", "type: string"),
    ],
)
def test_what_breaks_the_schema_is_refused_here(values: dict[str, Any], pointer: str, word: str) -> None:
    with pytest.raises(InputsInvalid) as refused:
        check_inputs(values, SCHEMA)
    assert [title for where, title in refused.value.errors if where == pointer and word in title]


def test_errors_never_repeat_a_value() -> None:
    with pytest.raises(InputsInvalid) as refused:
        check_inputs({"reason": "Mrs Rahimi has " + "x" * 30, "priority": "Rahimi"}, SCHEMA)
    assert "Rahimi" not in str(refused.value)
    assert "Rahimi" not in str(refused.value.as_json())


def test_several_problems_are_said_at_once() -> None:
    with pytest.raises(InputsInvalid) as refused:
        check_inputs({"priority": "now", "count": 0}, SCHEMA)
    assert {pointer for pointer, _ in refused.value.errors} == {"/reason", "/priority", "/count"}


def test_the_locale_is_one_of_the_forms() -> None:
    definition = {"locales": ["fa-AF", "en"]}
    assert choose_locale(None, definition) == "en"
    assert choose_locale("FA-af", definition) == "fa-AF"
    assert choose_locale(None, {"locales": ["ps-AF"]}) == "ps-AF"
    with pytest.raises(LocaleUnsupported, match="fa-AF, en"):
        choose_locale("de", definition)


@pytest.mark.parametrize("text", ["", "a b", "../x", "x" * 65, "Encounter/1", "p/1"])
def test_a_wrong_patient_id_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem):
        check_reference(text, "Patient")


@pytest.mark.parametrize(
    "text", ["1978", "1978-06", "1978-6-2", "1978-13-02", "2026-02-29", "02/06/1978", "۱۹۷۸-۰۶-۰۲"]
)
def test_a_birth_date_is_a_day_that_there_was(text: str) -> None:
    """The service refuses the others, and says so when there is a connection again."""
    with pytest.raises(UsageProblem):
        check_birth_date(text)
    assert check_birth_date("1980-02-29") == "1980-02-29"


def test_json_keeps_digits_and_letters() -> None:
    value = {"a": Decimal("1E+2"), "b": [Decimal("0.10"), 1, True, None], "c": "درد «x»"}
    assert to_bytes(value).decode() == '{"a":100,"b":[0.10,1,true,null],"c":"درد «x»"}'
