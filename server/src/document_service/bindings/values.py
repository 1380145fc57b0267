"""Bindings → formatted values: one evaluation each, a word for what is missing, a refusal for what is required."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from document_service.bindings.evaluation import EvaluationFailed, EvaluationTimeout, evaluate, plain
from document_service.bindings.plan import Label, Plan, parts_of
from document_service.definitions.model import ENTRY_VARIABLE, STEPPED_TYPES, Binding
from document_service.definitions.sections import MACHINE_READ_TYPES
from document_service.errors import BindingFailed, BindingRequired
from document_service.formatting import (
    Style,
    UnprintableText,
    ValueAbsent,
    ValueMismatch,
    clean,
    concept_codes,
    format_value,
    is_concept,
)

# Several results of one binding: enough for every drug of a day, and a bound for a hostile record.
_MOST_JOINED = 200


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as it stands on the page, and whether it is the form's word for nothing recorded."""

    text: str
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """The entries of a collection by item name, or the words for none (``known_none`` when the record says so)."""

    entries: tuple[Mapping[str, Shown], ...]
    known_none: str | None


class Resolver:
    """Evaluates the bindings of one render. ``variables`` are the screened resources and what the service provides."""

    def __init__(self, plan: Plan, style: Style, variables: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        self._plan = plan
        self._style = style
        self._variables = variables
        self._inputs = inputs
        self._labels: Mapping[str, Label] = plan.labels(style.locale)
        # What a QR code may hold: the values as recorded, unformatted, by binding name.
        self.machine_texts: dict[str, str] = {}
        # How many labels a sheet holds is a number, not its digits on a page.
        self.numbers: dict[str, int] = {}
        # The row of the collection that is being read: a failure names it, by its number and never by what it holds.
        self._row: int | None = None
        self._missing = Shown(self._labels["notRecorded"].text, missing=True)

    def resolve(self) -> tuple[dict[str, Shown], dict[str, Rows]]:
        """Every binding of the definition: single values and collections by name.

        Raises BindingRequired, naming the binding that found nothing, and BindingFailed.
        """
        values: dict[str, Shown] = {}
        collections: dict[str, Rows] = {}
        for name, binding in self._plan.definition.bindings.items():
            if binding.is_collection:
                collections[name] = self._rows(binding)
            else:
                values[name] = self._value(binding, self._found(binding, [], self._variables))
        for group in self._plan.definition.require_one_of:
            if all(values[name].missing if name in values else not _stated(collections[name]) for name in group):
                raise BindingRequired(f"None of {', '.join(group)} was found.", extra={"binding": " or ".join(group)})
        return values, collections

    def _found(self, binding: Binding, focus: list[Any], variables: Mapping[str, Any]) -> list[Any]:
        """The engine's values of a path, or what the caller supplied."""
        if binding.input is not None:
            supplied = self._inputs.get(binding.input)
            if binding.is_collection and isinstance(supplied, str):
                # A list typed into one field, a line or a semicolon for each entry.
                return [part.strip() for part in supplied.replace(";", "\n").splitlines() if part.strip()]
            if supplied is None or supplied == "":
                return []
            return supplied if isinstance(supplied, list) else [supplied]
        return self._evaluated(binding, binding.name, focus, variables)

    def _evaluated(self, binding: Binding, name: str, focus: list[Any], variables: Mapping[str, Any]) -> list[Any]:
        try:
            return evaluate(self._plan.expressions[name], focus, variables, self._style.zone)
        except EvaluationTimeout:
            raise self._failed(binding, "took longer than its limit") from None
        except EvaluationFailed:
            raise self._failed(binding, "could not be evaluated on this record") from None

    def _value(self, binding: Binding, found: list[Any]) -> Shown:
        if binding.type in STEPPED_TYPES and found:
            # Several dosages are the steps of one course: one of them alone would be another course.
            found = [[plain(item) for item in found]]
        if binding.join is None and len(found) > 1:
            raise self._failed(
                binding, "found several values where one is expected; pick one with first() or join them"
            )
        texts = [text for item in found[:_MOST_JOINED] if (text := self._text(binding, plain(item)))]
        if len(found) > _MOST_JOINED:
            raise self._failed(binding, f"found more than {_MOST_JOINED} values")
        if texts:
            if binding.type in MACHINE_READ_TYPES and len(found) == 1:
                self.machine_texts[binding.name] = _exact(plain(found[0]))
            if binding.type == "number" and len(found) == 1 and isinstance(plain(found[0]), int):
                self.numbers[binding.name] = plain(found[0])
            return Shown(("\n" if binding.join == "line" else self._style.comma).join(texts))
        if binding.required:
            place = self._place(binding)
            raise BindingRequired(f"The binding {place} found nothing.", extra={"binding": place})
        return self._missing

    def _text(self, binding: Binding, value: Any) -> str | None:
        try:
            if binding.values and (binding.type == "code" or is_concept(value)):
                for code in concept_codes(value):
                    if code in binding.values:
                        return self._labels[binding.values[code]].text
            return format_value(binding.type, value, self._style)
        except ValueAbsent:
            return None
        except ValueMismatch as error:
            raise self._failed(binding, f"found a value that is no {error.expected}") from None
        except UnprintableText:
            raise self._failed(binding, "found control characters, which are never printed") from None

    def _rows(self, binding: Binding) -> Rows:
        found = self._found(binding, [], self._variables)
        known_none = None
        if binding.known_none_codes and binding.known_none_label:
            stated = [item for item in found if self._says_none(binding, plain(item))]
            if stated:
                known_none = self._labels[binding.known_none_label].text
                # A real entry beside "known none" wins: leaving it out could harm, the contradiction is the record's.
                found = [item for item in found if not self._says_none(binding, plain(item))]
        rows: list[Mapping[str, Shown]] = []
        for number, (row, variables) in enumerate(self._rows_of(binding, found)):
            self._row = number
            rows.append(
                {name: self._value(item, self._found(item, [row], variables)) for name, item in binding.items.items()}
            )
        self._row = None
        if not rows and known_none is None and binding.required:
            raise BindingRequired(f"The binding {binding.name} found nothing.", extra={"binding": binding.name})
        return Rows(tuple(rows), None if rows else known_none)

    def _rows_of(self, binding: Binding, entries: list[Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
        """Each row with the variables of its paths: the entries themselves, or the parts of each."""
        for entry in entries:
            variables = {ENTRY_VARIABLE: entry, **self._variables}
            parts = [entry]
            if binding.parts is not None:
                parts = self._evaluated(binding, parts_of(binding), [entry], variables)
            yield from ((part, variables) for part in parts)

    def _says_none(self, binding: Binding, entry: Any) -> bool:
        if not isinstance(entry, Mapping) or "code" not in entry:
            return False
        try:
            return not binding.known_none_codes.isdisjoint(concept_codes(entry["code"]))
        except ValueMismatch:
            return False

    def _failed(self, binding: Binding, why: str) -> BindingFailed:
        place = self._place(binding)
        return BindingFailed(f"The binding {place} {why}.", extra={"binding": place})

    def _place(self, binding: Binding) -> str:
        """The name of a binding with its row: ``orders[2].dose`` is the dose of the third order."""
        return binding.name if self._row is None else binding.name.replace(".", f"[{self._row}].", 1)


def _stated(rows: Rows) -> bool:
    return bool(rows.entries) or rows.known_none is not None


def _exact(value: Any) -> str:
    """The recorded string of a text, identifier or phone."""
    return clean(str(value.get("value") if isinstance(value, Mapping) else value))
