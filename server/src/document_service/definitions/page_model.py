"""The page model: what bindings hand to typesetting. Plain JSON; every string is already formatted and isolated.

The layout never formats a value. It numbers pages with the ten characters of ``identity.digits``, and treats a line
feed inside a string as a line break.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

LAYOUT_VERSION = 1


class Margins(TypedDict):
    """Millimetres."""

    top: float
    bottom: float
    left: float
    right: float


class PageSetup(TypedDict):
    size: str
    orientation: str
    margins: Margins


class TenantLines(TypedDict):
    name: str
    lines: list[str]
    footer: str | None


class Identity(TypedDict):
    """What stands on every page."""

    patient: str
    items: list[list[str]]
    pageOf: str
    # The ten characters of the numerals in use, zero first.
    digits: str


class HeaderSection(TypedDict):
    type: Literal["header"]
    title: str
    subtitle: str | None


class Field(TypedDict):
    label: str
    value: str
    strong: bool
    span: int
    # True where the value is the form's word for "nothing recorded", so that the layout may set it apart.
    missing: bool


class FieldGridSection(TypedDict):
    type: Literal["fieldGrid"]
    title: str | None
    columns: int
    fields: list[Field]


class Column(TypedDict):
    label: str
    width: str
    align: str
    strong: NotRequired[bool | Literal["firstLine"]]


class TableSection(TypedDict):
    type: Literal["table"]
    title: str | None
    columns: list[Column]
    rows: list[list[str]]
    # For each row the columns that hold the form's word for "nothing recorded"; left out where there are none.
    missing: NotRequired[list[list[int]]]
    empty: str | None


class ParagraphsSection(TypedDict):
    type: Literal["paragraphs"]
    title: str | None
    items: list[str]


class SignatureSlot(TypedDict):
    label: str
    name: str | None
    date: str | None


class SignatureSection(TypedDict):
    type: Literal["signature"]
    slots: list[SignatureSlot]
    note: str | None


class QrSection(TypedDict):
    type: Literal["qr"]
    # The only string that is not isolated: it is read by machines.
    content: str
    alt: str
    caption: str | None


class LabelLine(TypedDict):
    text: str
    strong: bool


class Barcode(TypedDict):
    # Not isolated: it is read by machines.
    content: str
    format: Literal["code128", "dataMatrix"]
    alt: str


class LabelsSection(TypedDict):
    """Equal labels on a sheet of ``columns`` by ``rows``; millimetres, ``top`` and ``left`` from the paper's edges."""

    type: Literal["labels"]
    columns: int
    rows: int
    width: float
    height: float
    columnGap: float
    rowGap: float
    top: float
    left: float
    count: int
    lines: list[LabelLine]
    barcode: Barcode | None


class FooterSection(TypedDict):
    type: Literal["footer"]
    text: str


Section = (
    HeaderSection
    | FieldGridSection
    | TableSection
    | ParagraphsSection
    | SignatureSection
    | QrSection
    | LabelsSection
    | FooterSection
)


class PageModel(TypedDict):
    layout: int
    lang: str
    region: str | None
    dir: Literal["ltr", "rtl"]
    page: PageSetup
    title: str
    tenant: TenantLines
    colors: dict[str, str]
    logo: dict[str, str] | None
    identity: Identity
    sections: list[Section]
    # The archive profile, where the definition chose another than PDF/A-2a with PDF/UA-1.
    archival: NotRequired[Literal["a-1b"]]
    # Printed across every page of a preview; null on documents.
    mark: NotRequired[str | None]
    # Words that no section shows but a reader hears: the document's title for metadata has no bidi controls.
    plainTitle: NotRequired[str]


def _object(properties: Mapping[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name not in optional],
        "properties": dict(properties),
    }


_TEXT: dict[str, Any] = {"type": "string"}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
_NUMBER: dict[str, Any] = {"type": "number"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 1}


def _array(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


_SECTIONS: tuple[dict[str, Any], ...] = (
    _object({"type": {"const": "header"}, "title": _TEXT, "subtitle": _TEXT_OR_NULL}),
    _object(
        {
            "type": {"const": "fieldGrid"},
            "title": _TEXT_OR_NULL,
            "columns": {"type": "integer", "minimum": 1, "maximum": 4},
            "fields": _array(
                _object(
                    {
                        "label": _TEXT,
                        "value": _TEXT,
                        "strong": {"type": "boolean"},
                        "span": {"type": "integer"},
                        "missing": {"type": "boolean"},
                    }
                )
            ),
        }
    ),
    _object(
        {
            "type": {"const": "table"},
            "title": _TEXT_OR_NULL,
            "columns": _array(
                _object(
                    {
                        "label": _TEXT,
                        "width": _TEXT,
                        "align": {"enum": ["start", "end", "center"]},
                        "strong": {"enum": [False, True, "firstLine"]},
                    },
                    optional=("strong",),
                )
            ),
            "rows": _array(_array(_TEXT)),
            "missing": _array(_array({"type": "integer", "minimum": 0})),
            "empty": _TEXT_OR_NULL,
        },
        optional=("missing",),
    ),
    _object({"type": {"const": "paragraphs"}, "title": _TEXT_OR_NULL, "items": _array(_TEXT)}),
    _object(
        {
            "type": {"const": "signature"},
            "slots": _array(_object({"label": _TEXT, "name": _TEXT_OR_NULL, "date": _TEXT_OR_NULL})),
            "note": _TEXT_OR_NULL,
        }
    ),
    _object({"type": {"const": "qr"}, "content": _TEXT, "alt": _TEXT, "caption": _TEXT_OR_NULL}),
    _object(
        {
            "type": {"const": "labels"},
            **dict.fromkeys(("columns", "rows", "count"), _COUNT),
            **dict.fromkeys(("width", "height", "columnGap", "rowGap", "top", "left"), _NUMBER),
            "lines": _array(_object({"text": _TEXT, "strong": {"type": "boolean"}})),
            "barcode": {
                "oneOf": [
                    {"type": "null"},
                    _object({"content": _TEXT, "format": {"enum": ["code128", "dataMatrix"]}, "alt": _TEXT}),
                ]
            },
        }
    ),
    _object({"type": {"const": "footer"}, "text": _TEXT}),
)

PAGE_MODEL_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Page model, layout 1",
    **_object(
        {
            "layout": {"const": LAYOUT_VERSION},
            "lang": _TEXT,
            "region": _TEXT_OR_NULL,
            "dir": {"enum": ["ltr", "rtl"]},
            "page": _object(
                {
                    "size": _TEXT,
                    "orientation": {"enum": ["portrait", "landscape"]},
                    "margins": _object(dict.fromkeys(("top", "bottom", "left", "right"), _NUMBER)),
                }
            ),
            "title": _TEXT,
            "plainTitle": _TEXT,
            "tenant": _object({"name": _TEXT, "lines": _array(_TEXT), "footer": _TEXT_OR_NULL}),
            "colors": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}},
            "logo": {"oneOf": [{"type": "null"}, _object({"alt": _TEXT})]},
            "identity": _object(
                {
                    "patient": _TEXT,
                    "items": _array({"type": "array", "minItems": 2, "maxItems": 2, "items": _TEXT}),
                    "pageOf": _TEXT,
                    "digits": {"type": "string", "minLength": 10, "maxLength": 10},
                }
            ),
            "sections": {"type": "array", "items": {"oneOf": list(_SECTIONS)}},
            "archival": {"const": "a-1b"},
            "mark": _TEXT_OR_NULL,
        },
        optional=("plainTitle", "archival", "mark"),
    ),
}
