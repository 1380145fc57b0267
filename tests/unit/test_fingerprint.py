"""What makes two render requests the same: every field but requestedAt, as it was written (contract §3)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from document_service.exact_json import dumps_exact, loads_exact
from document_service.render_requests import RenderRequest, open_sealed_part

REQUEST = RenderRequest("tv_1", "p1", None, {}, "en")


def _with(inputs: str, **more: Any) -> bytes:
    return replace(REQUEST, inputs=loads_exact(inputs), **more).content


@pytest.mark.parametrize(
    "change",
    [
        {"template_version_id": "tv_2"},
        {"patient_id": "p2"},
        {"encounter_id": "e1"},
        {"locale": "fa-AF"},
        {"not_after_text": "2026-01-01T00:00:00Z"},
        {"patient_check": {"birthDate": "1980-01-01"}},
        {"inputs": {"a": None}},
    ],
)
def test_every_field_counts(change: dict[str, Any]) -> None:
    assert replace(REQUEST, **change).content != REQUEST.content


def test_the_content_is_written_once_for_the_limit_and_the_fingerprint() -> None:
    request = replace(REQUEST, locale="ps-AF")
    assert request.content is request.content


def test_absent_is_null() -> None:
    for nothing in ({"patient_check": None}, {"patient_check": {}}, {"patient_check": {"birthDate": None}}):
        assert replace(REQUEST, **nothing).content == REQUEST.content


def test_the_order_of_members_does_not_count() -> None:
    assert _with('{"a":1,"b":{"c":2,"d":3}}') == _with('{"b":{"d":3,"c":2},"a":1}')


def test_the_order_of_a_list_counts() -> None:
    assert _with('{"a":[1,2]}') != _with('{"a":[2,1]}')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.10", "1.1"),
        ("1", "1.0"),
        ("1", '"1"'),
        ("true", "1"),
        ("null", "false"),
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.10000000000000000001"),
        ("1.5", '{"\\u0000number":"1.5"}'),
        ("9007199254740993", '{"\\u0000number":"9007199254740993"}'),
        ('{"\\u0000number":"1.5"}', '{"\\u0000number":{"\\u0000number":"1.5"}}'),
    ],
)
def test_values_that_print_differently_are_different_content(one: str, other: str) -> None:
    assert _with(f'{{"a":{one}}}') != _with(f'{{"a":{other}}}')


@pytest.mark.parametrize(("one", "other"), [("1.0", "10e-1"), ("1.0", "1.0e0"), ("1E1", "1e+1"), ("1.50", "150E-2")])
def test_one_number_with_one_precision_is_one_content_however_it_is_spelt(one: str, other: str) -> None:
    """They print alike, so a program that wrote its own request anew made no other one (decision 89)."""
    assert _with(f'{{"a":{one}}}') == _with(f'{{"a":{other}}}')


def test_requested_at_is_no_part_of_it() -> None:
    assert "requested_at" not in RenderRequest.__dataclass_fields__


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.just("\x00number"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.just("\x00number") | st.just("\x00\x00number") | st.text("ab\x00", max_size=3), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abc\x00", max_size=4), _VALUES))
def test_the_sealed_part_opens_as_it_was(inputs: dict[str, Any]) -> None:
    request = replace(REQUEST, inputs=inputs, patient_check={"identifier": "KBL-1"})
    opened, check = open_sealed_part(request.sealed_part())
    assert dumps_exact(opened) == dumps_exact(inputs)
    assert check == {"identifier": "KBL-1"}


@given(_VALUES, _VALUES)
def test_two_contents_are_equal_only_when_what_was_written_is(one: Any, other: Any) -> None:
    same = _ordered(one) == _ordered(other)
    assert (replace(REQUEST, inputs={"a": one}).content == replace(REQUEST, inputs={"a": other}).content) is same


def _ordered(value: Any) -> Any:
    """A form in which only what was written differently differs."""
    if isinstance(value, dict):
        return ("object", sorted((key, _ordered(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", [_ordered(item) for item in value])
    if isinstance(value, Decimal):
        return ("number", str(value))
    return (type(value).__name__, value)
