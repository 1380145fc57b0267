"""Page models for tests of typesetting: the fixed, full ones of the bench, and small ones made here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from document_service.typesetting.jobs import Output, TypesetJob

CONTENT = Path(__file__).parents[1] / "bench" / "content"
LOGO = (CONTENT / "logo.svg").read_bytes()
LOCALES = ("en", "fa-AF", "ps-AF")
ISSUED_AT = datetime.fromisoformat("2025-11-09T14:32:00+04:30")


def full_page(locale: str = "en") -> dict[str, Any]:
    """The full one-page form: twelve tests, logo, QR code, signatures."""
    model: dict[str, Any] = json.loads((CONTENT / f"{locale}.json").read_text(encoding="utf-8"))
    return model


def small_page(*sections: Mapping[str, Any], rtl: bool = False, **members: Any) -> dict[str, Any]:
    """A page with a header and ``sections``; keyword arguments replace members."""
    return {
        "layout": 1,
        "lang": "fa" if rtl else "en",
        "region": "AF" if rtl else None,
        "dir": "rtl" if rtl else "ltr",
        "page": {
            "size": "A4",
            "orientation": "portrait",
            "margins": {"top": 18, "right": 18, "bottom": 18, "left": 18},
        },
        "title": "Test",
        "tenant": {"name": "Clinic", "lines": [], "footer": None},
        "colors": {"accent": "#1f4e79"},
        "logo": None,
        "identity": {
            "patient": "Ahmadzai, Maryam",
            "items": [["No.", "T-1"], ["Issued", "2025-11-09"]],
            "pageOf": "Page {page} of {pages}",
            "digits": "0123456789",
        },
        "sections": [{"type": "header", "title": "Test", "subtitle": None}, *sections],
        **members,
    }


def table(rows: list[list[str]], **members: Any) -> dict[str, Any]:
    """A table section of as many equal columns as the rows have."""
    columns = [{"label": f"Column {i}", "width": "1fr", "align": "start"} for i in range(len(rows[0]) if rows else 1)]
    return {"type": "table", "title": "Rows", "columns": columns, "rows": rows, "empty": None, **members}


def paragraphs(*items: str) -> dict[str, Any]:
    return {"type": "paragraphs", "title": None, "items": list(items)}


def fields(*pairs: tuple[str, str], columns: int = 2) -> dict[str, Any]:
    shown = [{"label": label, "value": value, "strong": False, "span": 1, "missing": False} for label, value in pairs]
    return {"type": "fieldGrid", "title": None, "columns": columns, "fields": shown}


def job(model: Mapping[str, Any], *, logo: bool = True, output: Output = "pdf", large: bool = False) -> TypesetJob:
    """A job that prints ``model`` as it is."""
    return TypesetJob(
        issued_at=ISSUED_AT,
        page_model_json=json.dumps(model).encode(),
        images={"logo": LOGO} if logo else {},
        output=output,
        large=large,
    )
