"""Sections against bindings and labels: what a section names exists and has a type that it can show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from document_service.definitions.model import PROVIDED_BINDINGS
from document_service.errors import Problem
from document_service.formatting.locales import STANDARD_LABEL_KEYS

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z][A-Za-z0-9]{0,63})\}")
# What a scanner should find: exact strings, never words of a language.
MACHINE_READ_TYPES = frozenset({"text", "identifier", "phone"})
_QR_PROVIDED = frozenset({"verification", "documentNumber"})


def placeholders(label: str) -> set[str] | None:
    """The {names} in a label; None where a brace stands alone."""
    names = {match.group(1) for match in _PLACEHOLDER.finditer(label) if match.group(1)}
    rest = _PLACEHOLDER.sub("", label)
    return None if "{" in rest or "}" in rest else names


def split_label(label: str) -> list[tuple[str, str | None]]:
    """A label as (text, placeholder after it or None) in order, with {{ and }} as single braces."""
    parts: list[tuple[str, str | None]] = []
    text, last = "", 0
    for match in _PLACEHOLDER.finditer(label):
        text += label[last : match.start()]
        last = match.end()
        if match.group(1):
            parts.append((text, match.group(1)))
            text = ""
        else:
            text += match.group()[0]
    parts.append((text + label[last:], None))
    return parts


class _Checker:
    """One pass over the sections, with the definition's names at hand."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.bindings: Mapping[str, Any] = definition["bindings"]
        self.labels: Mapping[str, str] = definition["labels"].get(definition["locales"][0], {})
        self.sections = definition["sections"]
        self.groups = definition.get("requireOneOf", [])

    def label(self, at: str, key: str, *, text: bool = False) -> Iterator[Problem]:
        """A label that exists; only running text may hold placeholders, and only of single values."""
        if key not in self.labels:
            if key not in STANDARD_LABEL_KEYS:
                yield Problem(at, "LABEL_MISSING", f"Add the label {key} to labels in every locale.")
            return
        names = placeholders(self.labels[key]) or set()
        if names and not text:
            yield Problem(
                at, "PLACEHOLDER_NOT_HERE", "Use placeholders only in running text, as in paragraphs and footers."
            )
            return
        for name in sorted(names):
            if name in PROVIDED_BINDINGS:
                continue
            if name not in self.bindings:
                yield Problem(at, "BINDING_UNKNOWN", f"Declare the binding {name}, or remove its placeholder.")
            elif self.bindings[name]["type"] == "collection":
                yield Problem(at, "BINDING_TYPE", f"Show the collection {name} in a table, not in running text.")

    def value(self, at: str, name: str, types: frozenset[str] | None = None) -> Iterator[Problem]:
        """A binding with a single value, of one of ``types`` where they matter."""
        if name in PROVIDED_BINDINGS and types is None:
            return
        if name not in self.bindings:
            yield Problem(at, "BINDING_UNKNOWN", f"Declare the binding {name} in bindings.")
        elif self.bindings[name]["type"] == "collection":
            yield Problem(at, "BINDING_TYPE", "Name a binding with one value here; collections stand in tables.")
        elif types is not None and self.bindings[name]["type"] not in types:
            yield Problem(at, "BINDING_TYPE", f"Name a binding of type {' or '.join(sorted(types))} here.")

    def section(self, at: str, section: Mapping[str, Any]) -> Iterator[Problem]:
        kind = section["type"]
        if "title" in section:
            yield from self.label(f"{at}/title", section["title"])
        if kind == "header" and "subtitle" in section:
            yield from self.label(f"{at}/subtitle", section["subtitle"], text=True)
        elif kind == "fieldGrid":
            yield from self.grid(at, section)
        elif kind == "table":
            yield from self.table(at, section)
        elif kind == "paragraphs":
            for index, key in enumerate(section["text"]):
                yield from self.label(f"{at}/text/{index}", key, text=True)
        elif kind == "signature":
            yield from self.signature(at, section)
        elif kind == "qr":
            yield from self.label(f"{at}/alt", section["alt"])
            if "caption" in section:
                yield from self.label(f"{at}/caption", section["caption"], text=True)
            if section["content"] not in _QR_PROVIDED:
                yield from self.value(f"{at}/content", section["content"], MACHINE_READ_TYPES)
        elif kind == "labels":
            yield from self.sheet(at, section)
        elif kind == "footer":
            yield from self.label(f"{at}/text", section["text"], text=True)

    def grid(self, at: str, section: Mapping[str, Any]) -> Iterator[Problem]:
        for index, field in enumerate(section["fields"]):
            here = f"{at}/fields/{index}"
            yield from self.label(f"{here}/label", field["label"])
            yield from self.value(f"{here}/value", field["value"])
            if field.get("span", 1) > section.get("columns", 2):
                yield Problem(f"{here}/span", "OUT_OF_RANGE", "Span at most the columns of the grid.")

    def table(self, at: str, section: Mapping[str, Any]) -> Iterator[Problem]:
        rows = self.bindings.get(section["rows"])
        items: Mapping[str, Any] = {}
        if rows is None:
            yield Problem(f"{at}/rows", "BINDING_UNKNOWN", "Declare this binding with type collection.")
        elif rows["type"] != "collection":
            yield Problem(f"{at}/rows", "BINDING_TYPE", "Name a binding of type collection here.")
        else:
            items = rows["items"]
        for index, column in enumerate(section["columns"]):
            here = f"{at}/columns/{index}"
            yield from self.label(f"{here}/label", column["label"])
            if items and column["value"] not in items and column["value"] != "rowNumber":
                yield Problem(f"{here}/value", "BINDING_UNKNOWN", "Name one of the collection's items, or rowNumber.")
        if "empty" in section:
            yield from self.label(f"{at}/empty", section["empty"])

    def signature(self, at: str, section: Mapping[str, Any]) -> Iterator[Problem]:
        for index, slot in enumerate(section["slots"]):
            here = f"{at}/slots/{index}"
            yield from self.label(f"{here}/label", slot["label"])
            if "name" in slot:
                yield from self.value(f"{here}/name", slot["name"], frozenset({"humanName", "text"}))
            if "date" in slot and slot["date"] != "issuedAt":
                yield from self.value(f"{here}/date", slot["date"], frozenset({"date", "dateTime"}))
        if "note" in section:
            yield from self.label(f"{at}/note", section["note"], text=True)

    def sheet(self, at: str, section: Mapping[str, Any]) -> Iterator[Problem]:
        """A sheet of labels; its grid is that of the paper, so nothing else can stand there."""
        if len(self.sections) > 1:
            yield Problem(at, "LABELS_ALONE", "Make a form of its own for labels: nothing stands beside them.")
        for index, line in enumerate(section["lines"]):
            yield from self.label(f"{at}/lines/{index}/text", line["text"], text=True)
        if "barcode" in section:
            yield from self.label(f"{at}/barcode/alt", section["barcode"]["alt"])
            if section["barcode"]["content"] != "documentNumber":
                yield from self.value(f"{at}/barcode/content", section["barcode"]["content"], MACHINE_READ_TYPES)
        if "count" in section:
            yield from self.value(f"{at}/count", section["count"], frozenset({"number"}))

    def words_of_bindings(self) -> Iterator[Problem]:
        for name, binding in self.bindings.items():
            if "knownNone" in binding:
                yield from self.label(f"/bindings/{name}/knownNone/label", binding["knownNone"]["label"])
            entries = [(f"/bindings/{name}", binding)]
            entries += [(f"/bindings/{name}/items/{item}", sub) for item, sub in binding.get("items", {}).items()]
            for at, entry in entries:
                for code, key in entry.get("values", {}).items():
                    token = code.replace("~", "~0").replace("/", "~1")
                    yield from self.label(f"{at}/values/{token}", key)


def check_sections(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """Every problem between sections, bindings and labels of a definition that its schema accepts."""
    checker = _Checker(definition)
    for index, section in enumerate(checker.sections):
        yield from checker.section(f"/sections/{index}", section)
    yield from checker.words_of_bindings()
    for index, group in enumerate(checker.groups):
        for position, name in enumerate(group):
            if name not in checker.bindings:
                yield Problem(f"/requireOneOf/{index}/{position}", "BINDING_UNKNOWN", "Declare this binding.")
