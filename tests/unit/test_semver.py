"""The number of the next version says what a device must know: whether requests that it holds still fit."""

from __future__ import annotations

from typing import Any

import pytest

from document_service.publishing import derive_semver
from document_service.templates import parse_semver

BEFORE: dict[str, Any] = {
    "inputs": {"type": "object", "properties": {"reason": {"type": "string"}}},
    "labels": {"en": {"title": "Form"}},
    "sections": [{"type": "header"}],
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"inputs": {"type": "object", "properties": {}}}, "2.0.0"),
        ({"sections": []}, "1.5.0"),
        ({"bindings": {}}, "1.5.0"),
        ({"labels": {"en": {"title": "Other"}}}, "1.4.8"),
        ({"translations": {"fa-AF": {"reviewedBy": "Dr. Haidari"}}}, "1.4.8"),
        ({}, "1.4.8"),
        ({"inputs": {}, "sections": [], "labels": {}}, "2.0.0"),
        ({"sections": [], "labels": {}}, "1.5.0"),
    ],
)
def test_the_next_number_follows_from_what_changed(change: dict[str, Any], expected: str) -> None:
    assert derive_semver((1, 4, 7), BEFORE, {**BEFORE, **change}) == expected


def test_the_next_number_is_always_higher() -> None:
    for change in ({}, {"labels": {}}, {"sections": []}, {"inputs": {}}):
        latest = (9, 9, 9)
        assert parse_semver(derive_semver(latest, BEFORE, {**BEFORE, **change})) > latest


def test_numbers_compare_as_numbers() -> None:
    assert parse_semver("10.0.0") > parse_semver("9.99.99")


@pytest.mark.parametrize("text", ["1", "1.2", "1.2.3.4", "a.b.c", ""])
def test_what_is_not_a_number(text: str) -> None:
    with pytest.raises(ValueError):
        parse_semver(text)
