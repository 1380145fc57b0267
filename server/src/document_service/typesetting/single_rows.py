"""Heights of the two rows that a form draws once: its letterhead and its signatures, with the code beside them.

As in a table, a row of known height is laid out once instead of twice. It is known where each line of text is sure to
fit on one line; where it is not, there is none, and the engine decides. All measures are those of ``sections.typ``.
"""

from __future__ import annotations

from typing import Any

from document_service.typesetting.label_sheet import Measure
from document_service.typesetting.line_counts import most_lines

LOGO_HEIGHT = 30.0
HEAD_GUTTER = 10.0
FACTS_SHARE = 0.36

SLOT_GUTTER = 16.0
CAPTION_SHARE = 0.22
BELOW_THE_LINE = 3.0

# Between what stands at both ends of a line there is a gap to be seen.
_APART = "  "


def single_row(
    model: dict[str, Any],
    index: int,
    content: float,
    look: dict[str, Any],
    measure: Measure,
    strong: float,
    logo: float | None,
) -> float | None:
    """Points of the row of the header or signature section at ``index``, in ``content`` points of width; None where a
    line may need a second one.

    ``strong`` is how much wider bold letters are at most; ``logo`` is the picture's width over its height, None where
    nobody knows.
    """
    section, after = model["sections"][index], model["sections"][index + 1 : index + 2]
    if section["type"] == "header":
        height = _letterhead(model, content, look, measure, strong, logo)
    else:
        code = after[0] if after and after[0]["type"] == "qr" else None
        height = _signatures(section, code, content, look, measure)
    return None if height is None else round(height, 3)


def _letterhead(
    model: dict[str, Any], content: float, look: dict[str, Any], measure: Measure, strong: float, logo: float | None
) -> float | None:
    if model["logo"] is not None and logo is None:
        return None
    caption, em = look["caption"], look["top"] + look["bottom"]
    taken = 0.0 if logo is None or model["logo"] is None else LOGO_HEIGHT * logo + HEAD_GUTTER
    room = content * (1 - FACTS_SHARE) - HEAD_GUTTER - taken
    tenant, items = model["tenant"], model["identity"]["items"][:2]
    widths = [
        measure.width(tenant["name"]) * look["section"] * strong,
        *(measure.width(line) * caption for line in tenant["lines"]),
    ]
    facts = [
        measure.width(f"{label}{_APART}") * caption + measure.width(value) * caption * strong for label, value in items
    ]
    texts = (tenant["name"], *tenant["lines"], *(text for item in items for text in item))
    if max(widths) > room or max(facts, default=0.0) > content * FACTS_SHARE or any("\n" in text for text in texts):
        return None
    further: float = look["leading"] + em * caption
    sender: float = em * look["section"] + len(tenant["lines"]) * further
    return max(0.0 if model["logo"] is None else LOGO_HEIGHT, sender, len(items) * further - float(look["leading"]))


def _signatures(
    section: dict[str, Any], code: dict[str, Any] | None, content: float, look: dict[str, Any], measure: Measure
) -> float | None:
    slots, caption, em = section["slots"], look["caption"], look["top"] + look["bottom"]
    aside = look["code"] + content * CAPTION_SHARE if code else 0.0
    gutters = SLOT_GUTTER * (len(slots) + (2 if code else 0) - 1)
    room = (content - aside - gutters) / len(slots)
    for slot in slots:
        name = slot.get("name") or ""
        below = f"{slot['label']}{_APART}{slot.get('date') or ''}"
        if max(measure.width(below) * caption, measure.width(name) * look["size"]) > room or "\n" in name + below:
            return None
    signed = look["signing"] + BELOW_THE_LINE + em * caption
    if any(slot.get("name") for slot in slots):
        signed += look["leading"] + em * look["size"]
    if code is None:
        return float(signed)
    lines = most_lines(code.get("caption") or "", content * CAPTION_SHARE / caption, measure)
    if lines is None or lines * (em * caption + look["leading"]) > look["code"]:
        return None
    return float(max(signed, look["code"]))
