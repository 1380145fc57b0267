"""Decimals keep their digits from the record to the page."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from document_service.exact_json import dumps_exact, loads_exact


@pytest.mark.parametrize(
    "text",
    ["1.10", "0.0", "-0.00", "100", "12.500000000000000000", "0.0000001", "98765432109876543210", "1.0E+5", "5.40"],
)
def test_a_number_leaves_as_it_came(text: str) -> None:
    document = f'{{"value":{text},"more":[{text},"{text}"]}}'
    assert dumps_exact(loads_exact(document)) == document.encode()


def test_numbers_are_decimal_or_int() -> None:
    assert loads_exact("[1.10, 7, true]") == [Decimal("1.10"), 7, True]
    assert [type(item) for item in loads_exact("[1.10, 7]")] == [Decimal, int]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 100_000, "", "{", "1" * 5000, b"\xff\xfe\x00"])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        loads_exact(text)


def test_what_cannot_be_json_is_refused() -> None:
    with pytest.raises(TypeError):
        dumps_exact({"value": Decimal("NaN")})
    with pytest.raises(TypeError):
        dumps_exact({"value": object()})


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False, places=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_any_document_survives(value: object) -> None:
    written = dumps_exact(value)
    assert written.isascii()
    assert loads_exact(written) == value
    assert json.loads(written, parse_float=Decimal) == value


def test_lone_surrogates_stay_escaped() -> None:
    assert dumps_exact(loads_exact('"\\ud800"')) == b'"\\ud800"'
