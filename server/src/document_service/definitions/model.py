"""The template language, version 1, as frozen values. ``definition.schema.json`` says what each member means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Archival = Literal["a-2a", "a-1b"]
DEFAULT_ARCHIVAL: Final[Archival] = "a-2a"

ORDERED_OUT_STATUSES = frozenset(
    {"revoked", "cancelled", "stopped", "not-done", "aborted", "rejected", "nullified", "failed", "not-taken"}
)
"""Statuses that never print as current unless ``includeStatuses`` names them (FHIR R4 request and event statuses)."""

# Names that a paragraph, field or code may use without a binding; the service fills them in.
PROVIDED_BINDINGS = frozenset(
    {"documentNumber", "issuedAt", "dataAsOf", "tenantName", "templateName", "templateVersion"}
)
# Variables that a path may use besides the context's names.
PROVIDED_VARIABLES = frozenset({"inputs", "issuedAt", "dataAsOf", "ucum", "sct", "loinc"})

#: In the items of a collection, the entry that a row is of; a context of this name wins.
ENTRY_VARIABLE = "entry"

#: Types whose several results are one value, the steps of a course.
STEPPED_TYPES = frozenset({"dosage"})


@dataclass(frozen=True, slots=True)
class Page:
    """Paper and margins (millimetres)."""

    size: str
    orientation: str
    margins: Mapping[str, int | float]


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """One read or search of FHIR resources; ``%name`` in paths."""

    name: str
    kind: Literal["read", "search"]
    resource_type: str
    params: Mapping[str, str | list[str]]
    scope: Literal["patient", "encounter"]
    optional: bool
    include_statuses: frozenset[str]
    include_negated: bool
    modifier_extensions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Binding:
    """One value, or with ``items`` a collection of entries; ``parts`` finds the rows in each of them."""

    name: str
    type: str
    path: str | None
    parts: str | None
    input: str | None
    required: bool
    values: Mapping[str, str]
    join: Literal["comma", "line"] | None
    items: Mapping[str, Binding]
    known_none_codes: frozenset[str]
    known_none_label: str | None

    @property
    def is_collection(self) -> bool:
        """Whether the binding yields entries instead of one value."""
        return self.type == "collection"


@dataclass(frozen=True, slots=True)
class Definition:
    """A checked definition. ``sections`` stay plain mappings: bindings.page reads them."""

    page: Page
    archival: Archival
    locales: tuple[str, ...]
    labels: Mapping[str, Mapping[str, str]]
    reviewed_by: Mapping[str, str | None]
    inputs: Mapping[str, Any]
    context: Mapping[str, ContextEntry]
    bindings: Mapping[str, Binding]
    require_one_of: tuple[tuple[str, ...], ...]
    sections: tuple[Mapping[str, Any], ...]


NO_INPUTS: dict[str, Any] = {"type": "object", "additionalProperties": False}


def _binding(name: str, entry: Mapping[str, Any]) -> Binding:
    known_none = entry.get("knownNone", {})
    return Binding(
        name=name,
        type=entry["type"],
        path=entry.get("path"),
        parts=entry.get("parts"),
        input=entry.get("input"),
        required=entry.get("required", False),
        values=entry.get("values", {}),
        join=entry.get("join"),
        items={item: _binding(f"{name}.{item}", value) for item, value in entry.get("items", {}).items()},
        known_none_codes=frozenset(known_none.get("codes", ())),
        known_none_label=known_none.get("label"),
    )


def _context(name: str, entry: Mapping[str, Any]) -> ContextEntry:
    reads = "search" not in entry
    return ContextEntry(
        name=name,
        kind="read" if reads else "search",
        resource_type=entry["read"] if reads else entry["search"],
        params=entry.get("params", {}),
        scope=entry.get("scope", "patient"),
        optional=entry.get("optional", not reads),
        include_statuses=frozenset(entry.get("includeStatuses", ())),
        include_negated=entry.get("includeNegated", False),
        modifier_extensions=frozenset(entry.get("modifierExtensions", ())),
    )


def from_json(definition: Mapping[str, Any]) -> Definition:
    """The model of a definition that ``check`` found good."""
    page = definition.get("page", {})
    margins = page.get("margins", {})
    return Definition(
        page=Page(
            size=page.get("size", "A4"),
            orientation=page.get("orientation", "portrait"),
            # 18 mm holds the running header and keeps clear of the unprintable edge of office printers.
            margins={side: _millimetres(margins.get(side, 18)) for side in ("top", "bottom", "left", "right")},
        ),
        archival=definition.get("archival", DEFAULT_ARCHIVAL),
        locales=tuple(definition["locales"]),
        labels=definition["labels"],
        reviewed_by={locale: entry["reviewedBy"] for locale, entry in definition.get("translations", {}).items()},
        inputs=definition.get("inputs", NO_INPUTS),
        context={name: _context(name, entry) for name, entry in definition["context"].items()},
        bindings={name: _binding(name, entry) for name, entry in definition["bindings"].items()},
        require_one_of=tuple(tuple(group) for group in definition.get("requireOneOf", ())),
        sections=tuple(definition["sections"]),
    )


def _millimetres(value: Any) -> int | float:
    """A margin as a number that every JSON writer knows (Decimal is not one)."""
    return value if isinstance(value, int) else float(value)
