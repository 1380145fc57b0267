"""Sections of the definition + resolved values → sections of the page model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from document_service.bindings.plan import Label
from document_service.bindings.values import Rows, Shown
from document_service.definitions.page_model import Column, Field, Section, SignatureSlot, TableSection
from document_service.errors import BindingFailed
from document_service.formatting import Style, digits, isolate_ltr

# The method of PageBuilder that lays each type of section out.
_BUILDERS = {
    "header": "_header",
    "fieldGrid": "_field_grid",
    "table": "_table",
    "paragraphs": "_paragraphs",
    "signature": "_signature",
    "qr": "_qr",
    "labels": "_labels_sheet",
    "footer": "_footer",
}


class PageBuilder:
    """Lays out one definition's sections in one locale."""

    def __init__(
        self,
        labels: Mapping[str, Label],
        values: Mapping[str, Shown],
        collections: Mapping[str, Rows],
        style: Style,
        machine_texts: Mapping[str, str],
        numbers: Mapping[str, int] | None = None,
    ) -> None:
        """``machine_texts`` are what a code may hold, unformatted, and ``numbers`` are counts, by their names."""
        self._labels = labels
        self._values = values
        self._collections = collections
        self._style = style
        self._machine_texts = machine_texts
        self._numbers = numbers or {}

    def sections(self, sections: tuple[Mapping[str, Any], ...]) -> list[Section]:
        """The page's sections in order; those that the definition hides when empty are left out."""
        built = (getattr(self, _BUILDERS[section["type"]])(section) for section in sections)
        return [section for section in built if section is not None]

    def _title(self, section: Mapping[str, Any], member: str = "title") -> str | None:
        key = section.get(member)
        return self._running(key) if key else None

    def _running(self, key: str) -> str:
        """A label with its placeholders filled."""
        return "".join(
            text if name is None else f"{text}{self._values[name].text}" for text, name in self._labels[key].pieces
        )

    def _header(self, section: Mapping[str, Any]) -> Section:
        title = self._labels[section.get("title", "title")].text
        return {"type": "header", "title": title, "subtitle": self._title(section, "subtitle")}

    def _field_grid(self, section: Mapping[str, Any]) -> Section | None:
        fields: list[Field] = []
        for field in section["fields"]:
            shown = self._values[field["value"]]
            if shown.missing and field.get("hideWhenEmpty", False):
                continue
            fields.append(
                {
                    "label": self._labels[field["label"]].text,
                    "value": shown.text,
                    "strong": field.get("strong", False),
                    "span": field.get("span", 1),
                    "missing": shown.missing,
                }
            )
        if not fields:
            return None
        _fill_rows(fields, section.get("columns", 2))
        return {
            "type": "fieldGrid",
            "title": self._title(section),
            "columns": section.get("columns", 2),
            "fields": fields,
        }

    def _table(self, section: Mapping[str, Any]) -> Section | None:
        rows = self._collections[section["rows"]]
        if not rows.entries and rows.known_none is None and section.get("hideWhenEmpty", False):
            return None
        columns: list[Column] = [
            {
                "label": self._labels[column["label"]].text,
                "width": column.get("width", "auto" if column["value"] == "rowNumber" else "1fr"),
                "align": column.get("align", "start"),
                "strong": column.get("strong", False),
            }
            for column in section["columns"]
        ]
        names = [column["value"] for column in section["columns"]]
        missing = [
            [at for at, name in enumerate(names) if name != "rowNumber" and entry[name].missing]
            for entry in rows.entries
        ]
        empty = rows.known_none or self._labels[section.get("empty", "noneRecorded")].text
        table: TableSection = {
            "type": "table",
            "title": self._title(section),
            "columns": columns,
            "rows": [
                [
                    isolate_ltr(digits(str(number), self._style.numerals)) if name == "rowNumber" else entry[name].text
                    for name in names
                ]
                for number, entry in enumerate(rows.entries, start=1)
            ],
            "empty": None if rows.entries else empty,
        }
        if any(missing):
            table["missing"] = missing
        return table

    def _paragraphs(self, section: Mapping[str, Any]) -> Section:
        return {
            "type": "paragraphs",
            "title": self._title(section),
            "items": [self._running(key) for key in section["text"]],
        }

    def _signature(self, section: Mapping[str, Any]) -> Section:
        slots: list[SignatureSlot] = [
            {
                "label": self._labels[slot["label"]].text,
                "name": self._slot(slot.get("name")),
                "date": self._slot(slot.get("date")),
            }
            for slot in section["slots"]
        ]
        return {"type": "signature", "slots": slots, "note": self._title(section, "note")}

    def _slot(self, name: str | None) -> str | None:
        """A signer's name or date; missing means a line to write on, which is what the slot is for."""
        if name is None or self._values[name].missing:
            return None
        return self._values[name].text

    def _qr(self, section: Mapping[str, Any]) -> Section | None:
        content = self._machine_texts.get(section["content"])
        if content is None:
            return None
        return {
            "type": "qr",
            "content": content,
            "alt": self._labels[section["alt"]].text,
            "caption": self._title(section, "caption"),
        }

    def _labels_sheet(self, section: Mapping[str, Any]) -> Section:
        most = section["columns"] * section["rows"]
        count = self._numbers.get(section.get("count", ""), most)
        if not 1 <= count <= most:
            raise BindingFailed(f"A sheet holds 1 to {most} labels.", extra={"binding": section["count"]})
        barcode = section.get("barcode")
        content = self._machine_texts.get(barcode["content"]) if barcode else None
        if barcode and content and barcode["format"] == "code128" and not content.isascii():
            # Scanners read other characters each in their own way, and a wrong number is worse than none.
            raise BindingFailed(
                "A Code 128 holds Latin letters, digits and signs only.", extra={"binding": barcode["content"]}
            )
        return {
            "type": "labels",
            "columns": section["columns"],
            "rows": section["rows"],
            "width": float(section["width"]),
            "height": float(section["height"]),
            "columnGap": float(section.get("columnGap", 0)),
            "rowGap": float(section.get("rowGap", 0)),
            "top": float(section["top"]),
            "left": float(section["left"]),
            "count": count,
            "lines": [
                {"text": self._running(line["text"]), "strong": line.get("strong", False)} for line in section["lines"]
            ],
            "barcode": None
            if barcode is None or content is None
            else {"content": content, "format": barcode["format"], "alt": self._labels[barcode["alt"]].text},
        }

    def _footer(self, section: Mapping[str, Any]) -> Section:
        return {"type": "footer", "text": self._running(section["text"])}


def _fill_rows(fields: list[Field], columns: int) -> None:
    """Widen the last field of a row that the next one does not fit into, so that spans always add up to whole rows."""
    taken = 0
    for position, field in enumerate(fields):
        span = min(field["span"], columns)
        if taken + span > columns:
            fields[position - 1]["span"] += columns - taken
            taken = 0
        field["span"] = span
        taken = (taken + span) % columns
    if taken:
        fields[-1]["span"] += columns - taken
