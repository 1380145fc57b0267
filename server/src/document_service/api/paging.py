"""Opaque cursors of lists: the id after which the next page begins."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Query

from document_service.errors import InvalidCursor

Limit = Annotated[int, Query(ge=1, le=100, description="Entries on a page.")]
Cursor = Annotated[str | None, Query(max_length=200, description="nextCursor of the page before.")]

#: Contract §2: default 20, at most 100.
DEFAULT_LIMIT = 20

_CURSOR = re.compile(r"after:([a-z]{2,5}_[0-9A-Z]{26})")


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=_HasId)


def decode(cursor: str | None) -> str | None:
    """The id in a cursor.

    Raises:
        InvalidCursor: it is not one of ours.
    """
    if not cursor:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (ValueError, binascii.Error) as reason:
        raise InvalidCursor() from reason
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise InvalidCursor()
    return match[1]


def page(rows: Sequence[Row], limit: int, shape: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """``{items, nextCursor}`` from rows read with ``limit + 1``."""
    shown = rows[:limit]
    following = None
    if len(rows) > limit:
        following = base64.urlsafe_b64encode(f"after:{shown[-1].id}".encode()).decode().rstrip("=")
    return {"items": [shape(row) for row in shown], "nextCursor": following}
