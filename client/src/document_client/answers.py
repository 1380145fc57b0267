"""What the network gave back, as plain values that the pure part of the client can judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["answer", "no_connection", "tls", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: ``kind`` is "answer" when a server spoke HTTP; header names are in lower case."""

    kind: Kind
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    is_json: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """How a download ended.

    ``complete``: all bytes of the answer arrived; ``confirmed``: 304, the bytes here are the current ones;
    ``restart``: what is here does not continue what the server has; ``cut``: the connection ended before the end;
    ``answered``: anything else, with the ``answer``. ``received`` counts the bytes of this exchange.
    """

    kind: Literal["complete", "confirmed", "restart", "cut", "answered"]
    received: int = 0
    answer: Answer | None = None


def looks_like_page(body: object) -> bool:
    """Return whether an answer has the shape of a page of changes."""
    return (
        isinstance(body, dict)
        and isinstance(body.get("cursor"), str)
        and isinstance(body.get("more"), bool)
        and _has_ids(body.get("revocations"), "documentId")
        and _has_ids(body.get("templates"), "id")
        and _has_ids(body.get("jobs"), "id")
        and _has_ids(body.get("documents"), "id")
    )


def _has_ids(items: object, name: str) -> bool:
    if not isinstance(items, list):
        return False
    for item in items:  # noqa: SIM110 - a generator for each list of each page takes a twentieth of a simulation.
        if not isinstance(item, dict) or not isinstance(item.get(name), str):
            return False
    return True
