"""A definition made ready to be laid out many times: parsed once per process, found again by its checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from document_service.bindings.steps import Step, step_of
from document_service.definitions import read_json
from document_service.definitions.checks import parse
from document_service.definitions.expressions import parse_expression
from document_service.definitions.model import Binding, Definition
from document_service.definitions.sections import split_label
from document_service.errors import DefinitionInvalid
from document_service.formatting.isolation import clean, has_rtl_letter, isolate_numbers
from document_service.formatting.locales import STANDARD_WORDS

# A worker renders the forms of many tenants in turn; a plan of a large form takes about 1 MB.
_MOST_PLANS = 64


@dataclass(frozen=True, slots=True)
class Label:
    """One label, ready: its pieces of text, with number runs isolated, and the placeholders between them."""

    pieces: tuple[tuple[str, str | None], ...]

    @property
    def text(self) -> str:
        """The label where no placeholder is allowed."""
        return "".join(piece for piece, _ in self.pieces)

    @property
    def pattern(self) -> str:
        """The label with its placeholders, for words that are filled in where values are formatted."""
        return "".join(piece if name is None else f"{piece}{{{name}}}" for piece, name in self.pieces)


def _prepare(label: str) -> Label:
    cleaned = clean(label)
    pieces = [(isolate_numbers(text) if has_rtl_letter(cleaned) else text, name) for text, name in split_label(cleaned)]
    return Label(tuple(pieces))


@dataclass(frozen=True, slots=True)
class Plan:
    """The definition, its expressions by binding name as steps, and its labels by locale (made at first use)."""

    definition: Definition
    expressions: Mapping[str, Step]
    _labels: dict[str, Mapping[str, Label]] = field(default_factory=dict)

    def labels(self, locale: str) -> Mapping[str, Label]:
        """Every word of the form in ``locale``, the standard words included."""
        if locale not in self._labels:
            words = {**STANDARD_WORDS.get(locale, {}), **self.definition.labels[locale]}
            self._labels[locale] = {key: _prepare(label) for key, label in words.items()}
        return self._labels[locale]


def parts_of(binding: Binding) -> str:
    """The name by which a plan keeps the expression that finds the rows in an entry; no item can have it."""
    return f"{binding.name}/parts"


def _expressions(bindings: Mapping[str, Binding]) -> dict[str, Step]:
    compiled: dict[str, Step] = {}
    for binding in bindings.values():
        if binding.path is not None:
            compiled[binding.name] = step_of(parse_expression(binding.path).tree)
        if binding.parts is not None:
            compiled[parts_of(binding)] = step_of(parse_expression(binding.parts).tree)
        compiled.update(_expressions(binding.items))
    return compiled


class _Source:
    """The definition behind a digest, for a cache that compares digests only."""

    def __init__(self, digest: bytes, value: Mapping[str, Any] | bytes) -> None:
        self.digest = digest
        self.value = value

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Source) and other.digest == self.digest


@lru_cache(maxsize=_MOST_PLANS)
def _plan(source: _Source) -> Plan:
    definition = parse(read_json(source.value) if isinstance(source.value, bytes) else source.value)
    return Plan(definition, _expressions(definition.bindings))


def _decimal(value: object) -> dict[str, str]:
    """A decimal for the digest, distinct from the text of the same digits."""
    return {"decimal": str(value)}


def plan(definition: Mapping[str, Any] | bytes) -> Plan:
    """The plan of a definition given as parsed JSON or, cheaper, as the bytes of its JSON.

    Raises DefinitionInvalid where ``definitions.check`` finds problems.
    """
    if isinstance(definition, bytes):
        text = definition
    else:
        try:
            written = json.dumps(definition, sort_keys=True, default=_decimal, ensure_ascii=False)
            text = written.encode("utf-8", "surrogatepass")
        except (TypeError, ValueError, RecursionError):
            raise DefinitionInvalid from None
    return _plan(_Source(hashlib.sha256(text).digest(), definition))
