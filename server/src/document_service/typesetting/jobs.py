"""What a render asks for and what it answers; plain values that both sides of the pool share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Output = Literal["pdf", "png"]

#: Twelve tests take 7 KB of page model and 40 KB of FHIR; this much data makes tens of pages.
LARGE_INPUT = 512 * 1024

#: A table of this many rows keeps a child busy for half a second, fifty times as long as a page of twelve tests.
LARGE_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TypesetJob:
    """One document to typeset.

    Either ``definition_json``, ``resources_json`` and ``request_json`` are given, and the child lays them out by
    ``bindings.lay_out``; or ``page_model_json`` is given and used as it is. All four are UTF-8 JSON.
    ``images`` are the bytes of pictures by name (``logo``: SVG, PNG or JPEG). ``issued_at`` needs an offset; it is
    the document's creation time and part of its bytes. ``large`` chooses the lane with the longer limits; so do the
    bytes of JSON and ``rows``, the most entries that any list of the data has.
    """

    issued_at: datetime
    definition_json: bytes = b""
    resources_json: bytes = b""
    request_json: bytes = b""
    page_model_json: bytes | None = None
    images: Mapping[str, bytes] = field(default_factory=dict)
    output: Output = "pdf"
    large: bool = False
    rows: int = 0

    @property
    def needs_large_lane(self) -> bool:
        """Whether this is asked for, or the data are more than the ordinary lane is for."""
        return self.large or self.size > LARGE_INPUT or self.rows > LARGE_ROWS

    @property
    def size(self) -> int:
        """The bytes of JSON that the child has to read; pictures are bounded where they are accepted."""
        model = self.page_model_json or b""
        return len(self.definition_json) + len(self.resources_json) + len(self.request_json) + len(model)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypesetResult:
    """A finished document: ``pdf`` (empty for a preview), ``pages``, ``png`` pages of a preview, the SHA-256 hex of
    the page model that was laid out, ``engine`` (typst, layout, fonts, codes: versions and hashes that a re-render
    has to match), the ``warnings`` that Typst gave (without the values it quotes) and ``child_ms``, the milliseconds
    that bindings and typesetting took in the child."""

    pdf: bytes
    pages: int
    png: tuple[bytes, ...]
    page_model_digest: str
    engine: Mapping[str, str]
    warnings: tuple[str, ...]
    child_ms: float
