"""Cursors of lists are opaque to the caller and only ours come back."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest

from document_service import identifiers
from document_service.api import paging
from document_service.errors import InvalidCursor


@dataclass(frozen=True)
class Row:
    id: str


def _encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def test_the_cursor_of_a_page_is_its_last_row() -> None:
    rows = [Row(identifiers.new("document")) for _ in range(3)]
    page = paging.page(rows, 2, lambda row: {"id": row.id})
    assert [item["id"] for item in page["items"]] == [row.id for row in rows[:2]]
    assert paging.decode(page["nextCursor"]) == rows[1].id


def test_the_last_page_has_no_cursor() -> None:
    assert paging.page([Row("doc_x")], 1, lambda row: {})["nextCursor"] is None
    assert paging.page([], 1, lambda row: {}) == {"items": [], "nextCursor": None}


@pytest.mark.parametrize("kind", identifiers.PREFIXES)
def test_ids_of_every_kind_come_back(kind: str) -> None:
    made = identifiers.new(kind)
    assert paging.decode(_encoded(b"after:" + made.encode())) == made


@pytest.mark.parametrize("cursor", [None, ""])
def test_no_cursor_is_the_beginning(cursor: str | None) -> None:
    assert paging.decode(cursor) is None


@pytest.mark.parametrize(
    "cursor",
    [
        "!",
        "é",
        "A",
        _encoded(b"before:doc_01M825W1R75GVRPV7N8CCMDH09"),
        _encoded(b"after:"),
        _encoded(b"after:\x00"),
        _encoded(b"after:doc_01M825W1R75GVRPV7N8CCMDH09\n"),
        _encoded(b"after:doc_01M825W1R75GVRPV7N8CCMDH09' OR 1=1"),
        _encoded("after:doc_٠1M825W1R75GVRPV7N8CCMDH09".encode()),
    ],
)
def test_what_is_not_ours_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        paging.decode(cursor)
