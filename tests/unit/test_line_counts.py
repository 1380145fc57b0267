"""Heights of rows that are worked out beforehand, against what the engine makes of the same text in the same room."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import typst

from document_service.typesetting.fit import MARGIN, STRONG, load_advances
from document_service.typesetting.fonts import font_files
from document_service.typesetting.layout_files import install_layout, layout_sources
from document_service.typesetting.left_to_right import without_isolates
from document_service.typesetting.line_counts import most_lines, taken_lines
from document_service.typesetting.single_rows import BELOW_THE_LINE

LOOKS = json.loads(layout_sources()["look.json"])
WORDS = {
    "ltr": "Hemoglobin (A1c) in blood, fasting 8–12 h; 500 mg/dL 1.10 % twice-daily / or: e.g. “Type 2” <5 ≥7 a.m. "
    "St. John's + 3-in-1 (see note) Creatinine [Mass/volume] --fasting non\u00a0breaking well!",
    "rtl": "شفاخانه مرکزی کابل، شعبه قلب ۲ هفته؛ Metformin 500 mg دو بار / یا (فوری) خون‌ریزی: 3–5 % لطفاً نه‌خیر",
}
TEXTS = 600

HEAD = """
#import "look.typ": look-of
#import "sections.typ": signature-slot
#let looks = json(bytes(read("look.json", encoding: none).slice(2)))
#let look = look-of((dir: "DIR", colors: (accent: "#000000"), sections: ()), looks)
#set text(
  font: look.fonts, size: look.size, top-edge: look.top, bottom-edge: look.bottom, fallback: false, hyphenate: false,
  overhang: false, kerning: false, dir: DIR, lang: "LANG",
)
#set par(leading: look.leading, spacing: look.leading * 2, justify: false)
"""


def _measured(root: Path, side: str, source: str) -> list[float]:
    """What ``source``, in the layout library's own style, says of itself by metadata labelled ``h``."""
    install_layout(root)
    head = HEAD.replace("DIR", side).replace("LANG", "en" if side == "ltr" else "fa")
    (root / "measured.typ").write_text(head + source, encoding="utf-8")
    folders = sorted({str(path.parent) for path in font_files()})
    found = typst.query(str(root / "measured.typ"), "<h>", root=str(root), font_paths=folders, field="value")
    return [float(height) for height in json.loads(found)]


def _texts(side: str) -> list[tuple[str, float]]:
    """Made-up cells of one to thirty words, isolated as values are, with the points of their column."""
    chance = random.Random(side)
    words = WORDS[side].split(" ")
    texts = []
    for _ in range(TEXTS):
        text = " ".join(chance.choices(words, k=chance.randint(1, 30)))
        text = f"\u2066{text}\u2069" if chance.random() < 0.5 else text
        texts.append((text if chance.random() < 0.9 else text.replace("; ", ";\n"), chance.uniform(90, 400)))
    return texts


@pytest.mark.parametrize(("side", "strong"), [("ltr", False), ("ltr", True), ("rtl", False), ("rtl", True)])
def test_a_count_of_lines_is_the_engines_count(side: str, strong: bool, tmp_path: Path) -> None:
    texts, look, measure = _texts(side), LOOKS[side], load_advances()[side]
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout" / "texts.json").write_text(
        without_isolates(json.dumps(texts, ensure_ascii=False), side), encoding="utf-8"
    )
    source = """
    #let texts = json("texts.json")
    #context for (words, room) in texts {
      let body = text(weight: WEIGHT, words)
      [#metadata(measure(block(width: room * 1pt, body)).height.pt())<h>]
    }
    """.replace("WEIGHT", "look.strong" if strong else '"regular"')
    heights = _measured(tmp_path / "layout", side, source)
    line = (look["top"] + look["bottom"]) * look["size"]
    told = 0
    for (text, points), height in zip(texts, heights, strict=True):
        lines = round((height + look["leading"]) / (line + look["leading"]))
        plain_room = points / look["size"]
        room = plain_room / STRONG if strong else plain_room
        most = most_lines(text, room, measure)
        assert most is None or most >= lines, (text, points)
        counted = taken_lines(text, room, plain_room, measure, MARGIN)
        if counted is not None:
            told += 1
            assert counted == lines, (text, points)
            assert counted * line + (counted - 1) * look["leading"] == pytest.approx(height, abs=0.01)
    assert told > TEXTS / 5


@pytest.mark.parametrize("side", ["ltr", "rtl"])
def test_a_signatures_height_is_the_engines(side: str, tmp_path: Path) -> None:
    look: dict[str, Any] = LOOKS[side]
    source = """
    #context for name in (none, "Dr Aa") {
      let slot = (label: "Ab", name: name, date: "Cd")
      [#metadata(measure(block(width: 150pt, signature-slot(slot, look))).height.pt())<h>]
    }
    """
    em = look["top"] + look["bottom"]
    unnamed = look["signing"] + BELOW_THE_LINE + em * look["caption"]
    assert _measured(tmp_path / "layout", side, source) == pytest.approx(
        [unnamed, unnamed + look["leading"] + em * look["size"]], abs=0.01
    )
