"""The made-up records and inputs that previews and trial renders print: an author needs no patient to see a form.

One FHIR bundle for each language that ships, written by hand, with one or more resources of every type that a form
may read; nobody in them exists and every date is fixed. An author's own bundle takes their place in
``document-service template preview --bundle``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from document_service.exact_json import loads_exact
from document_service.sample_patients.inputs import sample_inputs, without_patterns

__all__ = [
    "SHIPPED_LOCALES",
    "Filled",
    "NoPatient",
    "SampleRecord",
    "for_locale",
    "from_bundle",
    "sample_inputs",
    "without_patterns",
]

Resource = dict[str, Any]

_FOLDER = Path(__file__).parent

#: The languages in which there is a record of its own; any other is shown with the first.
SHIPPED_LOCALES = ("en", "fa-AF", "ps-AF")

# Search parameters that choose by a code, and the element that each looks at (FHIR R4 search parameters).
_CODED_ELEMENTS: Mapping[str, str] = {
    "status": "status",
    "clinical-status": "clinicalStatus",
    "verification-status": "verificationStatus",
    "category": "category",
    "code": "code",
    "intent": "intent",
    "class": "class",
    "type": "type",
    "vaccine-code": "vaccineCode",
}


_NONE = "The record shown has no such resource; try a real patient."
_OTHERS = "The record shown has none that this search finds; all of that type are shown instead. Try a real patient."


class NoPatient(ValueError):
    """The bundle holds no Patient."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The resources of a form's context by name; the names for which the record has not what is meant, and why."""

    resources: dict[str, Any]
    unfilled: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """The resources of one made-up patient."""

    resources: tuple[Resource, ...]

    def of_type(self, resource_type: str) -> list[Resource]:
        """Every resource of a type, in the order of the bundle."""
        return [one for one in self.resources if one.get("resourceType") == resource_type]

    def fill(self, context: Mapping[str, Mapping[str, Any]]) -> Filled:
        """What a read of ``context`` (a definition's, checked) would find in this record.

        A search that finds nothing is given all of its type, and a required read an empty resource, so that the form
        can be shown; ``unfilled`` says so.
        """
        found: dict[str, Any] = {}
        unfilled: list[tuple[str, str]] = []
        waiting = dict(context)
        while waiting:
            ready = {
                name: entry
                for name, entry in waiting.items()
                if str(entry.get("reference", "")).split(".")[0] not in waiting
            }
            # References that wait for each other are refused elsewhere; here they find nothing.
            for name, entry in (ready or dict(waiting)).items():
                found[name] = self._found(entry, found)
                if "search" in entry and not found[name]:
                    found[name] = self.of_type(entry["search"])
                    if found[name]:
                        unfilled.append((name, _OTHERS))
                if not found[name]:
                    unfilled.append((name, _NONE))
                    optional = entry.get("optional", "search" in entry)
                    if not optional:
                        stub = {"resourceType": entry.get("search") or entry["read"], "id": f"sample-{name}"}
                        found[name] = [stub] if "search" in entry else stub
                del waiting[name]
        return Filled({name: found[name] for name in context}, tuple(unfilled))

    def _found(self, entry: Mapping[str, Any], found: Mapping[str, Any]) -> Any:
        if "search" in entry:
            return _narrowed(self.of_type(entry["search"]), entry.get("params", {}))
        same_type = self.of_type(entry["read"])
        if "reference" in entry:
            source, _, path = str(entry["reference"]).partition(".")
            named = {
                r["reference"] for r in _elements(found.get(source), path) if isinstance(r, dict) and "reference" in r
            }
            same_type = [one for one in same_type if f"{entry['read']}/{one.get('id')}" in named]
        return same_type[0] if same_type else None


def _elements(value: Any, path: str) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _elements(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict):
        name, _, rest = path.partition(".")
        if name in value:
            yield from _elements(value[name], rest)


def _codes(value: Any) -> set[str]:
    """Every code at an element, whether it is a code, a Coding or a CodeableConcept."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, list):
        return set().union(*map(_codes, value)) if value else set()
    if isinstance(value, dict):
        return _codes(value.get("coding", [])) | ({value["code"]} if isinstance(value.get("code"), str) else set())
    return set()


def _narrowed(resources: list[Resource], params: Mapping[str, Any]) -> list[Resource]:
    """The matches of a search by its coded parameters; the others are not looked at."""
    matches = resources
    for name, template in params.items():
        element = _CODED_ELEMENTS.get(name)
        if element is None:
            continue
        texts = template if isinstance(template, list) else [template]
        wanted = {part.rpartition("|")[2] for text in texts for part in str(text).split(",")}
        matches = [one for one in matches if wanted & _codes(one.get(element))]
    return matches


def from_bundle(bundle: Any) -> SampleRecord:
    """The record in a FHIR Bundle (parsed JSON).

    Raises:
        NoPatient: it holds no Patient, or is no Bundle.
    """
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    resources = tuple(
        entry["resource"]
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("resource"), dict)
    )
    record = SampleRecord(resources)
    if not record.of_type("Patient"):
        raise NoPatient
    return record


@cache
def for_locale(locale: str) -> SampleRecord:
    """The record whose names and words are in the language of ``locale``."""
    language = locale.split("-")[0]
    shipped = next((one for one in SHIPPED_LOCALES if one.split("-")[0] == language), SHIPPED_LOCALES[0])
    return from_bundle(loads_exact((_FOLDER / f"{shipped}.json").read_bytes()))
