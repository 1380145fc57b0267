"""The clinical hazard of right-to-left text: values keep their order of characters from left to right on the paper.

In every engine that follows the Unicode rules, ``2025-11-09`` inside Dari or Pashto prints as ``09-11-2025``. These
tests look at where each glyph stands on the page, in cells, in labels beside them and in the middle of sentences.
"""

from __future__ import annotations

import io
import re
from decimal import Decimal
from typing import Any

import pdfplumber
import pytest

from document_service.formatting import format_value, style
from document_service.typesetting.layout_files import install_layout
from document_service.typesetting.press import Press
from pages import ISSUED_AT, fields, paragraphs, small_page, table


def quantity(value: str, unit: str, comparator: str | None = None) -> dict[str, Any]:
    return {"value": Decimal(value), "unit": unit} | ({"comparator": comparator} if comparator else {})


# kind, value as FHIR has it, and what stands on the paper from left to right (without spaces).
HAZARDS = [
    ("date", "2024-11-09", "2024-11-09"),
    ("dateTime", "2024-11-09T14:32:00+04:30", "2024-11-0914:32"),
    ("range", {"low": quantity("14.5", "ng/mL"), "high": quantity("173.1", "ng/mL")}, "14.5–173.1ng/mL"),
    ("phone", "0700 914 319", "0700914319"),
    ("phone", "+93 700 914 319", "+93700914319"),
    ("quantity", quantity("-2.5", "mmol/L"), "-2.5mmol/L"),
    ("quantity", quantity("41", "U/L", "<="), "≤41U/L"),
    ("quantity", quantity("40", "mg/dL", ">="), "≥40mg/dL"),
    ("quantity", quantity("0.5", "mg", "<"), "<0.5mg"),
    ("quantity", quantity("1.10", "mmol/L"), "1.10mmol/L"),
    ("quantity", quantity("7.5", "10*9/L"), "7.5×10⁹/L"),
    ("range", {"low": quantity("4.0", "10*12/L"), "high": quantity("5.5", "10*12/L")}, "4.0–5.5×10¹²/L"),
    ("quantity", quantity("-0.5", "Cel"), "-0.5°C"),
    ("quantity", quantity("120", "mm[Hg]", "<="), "≤120mmHg"),
    ("quantity", quantity("12.5", "ug"), "12.5mcg"),
    ("quantity", quantity("62", "umol/L"), "62µmol/L"),
    ("quantity", quantity("24", "kg/m2"), "24kg/m²"),
    ("ratio", {"numerator": quantity("1", ""), "denominator": quantity("128", "")}, "1:128"),
    ("identifier", "KC-0091447", "KC-0091447"),
    ("text", "Amoxicillin/Clavulanate 875 mg/125 mg", "Amoxicillin/Clavulanate875mg/125mg"),
    ("text", "Co-trimoxazole 480 mg (2×)", "Co-trimoxazole480mg(2×)"),
    ("text", "BP 120/80 mmHg, SpO2 98 %", "BP120/80mmHg,SpO298%"),
    ("text", "5–10 ml 3×/day", "5–10ml3×/day"),
]

UNSEEN = re.compile("[\\s\u200b-\u200f\u2060\u2066-\u2069]")

# Text with right-to-left letters: each run of number and unit, or drug and strength, keeps its inner order.
MIXED = {
    "fa-AF": (
        "تابلیت Amoxicillin 500 mg هر 8 ساعت، از 2024-11-09 تا 2024-11-16",
        ["Amoxicillin500mg", "8", "2024-11-09", "2024-11-16"],
    ),
    "ps-AF": (
        "د Amoxicillin 500 mg ټابلیټ په هرو 8 ساعتونو کې، له 2024-11-09 څخه",
        ["Amoxicillin500mg", "8", "2024-11-09"],
    ),
}
STRENGTHS = {
    "fa-AF": ("پتاسیم -2.5 یا 14.5–173.1 و 0700 914 319", ["-2.5", "14.5–173.1", "0700914319"]),
    "ps-AF": ("پوټاشیم -2.5 یا 14.5–173.1 او 0700 914 319", ["-2.5", "14.5–173.1", "0700914319"]),
}


# A dosage with each kind of amount in it, words of the clinic's language between them, and what keeps its order.
DOSAGE: dict[str, Any] = {
    "doseAndRate": [
        {
            "doseRange": {"low": quantity("0.5", "mg"), "high": quantity("1.5", "mg")},
            "rateRatio": {"numerator": quantity("100", "mL"), "denominator": quantity("1", "h")},
        }
    ],
    "route": {"coding": [{"code": "IV"}]},
    "site": {"text": "left arm 2"},
    "timing": {
        "repeat": {
            "frequency": 1, "period": Decimal(4), "periodMax": Decimal(6), "periodUnit": "h",
            "timeOfDay": ["08:00:00"],
            "boundsPeriod": {"start": "2026-09-14", "end": "2026-09-20"},
        }
    },
    "asNeededCodeableConcept": {"text": "درد بالای 5/10"},
    "maxDosePerPeriod": {"numerator": quantity("1.20", "g"), "denominator": quantity("24", "h")},
    "maxDosePerAdministration": quantity("1250000", "U"),
    "text": "از راه ورید 0.5–1.5 mg",
    "patientInstruction": "Call 0700 914 319.",
}  # fmt: skip
DOSAGE_RUNS = (
    "0.5–1.5mg",
    "100mL/1h",
    "4–6",
    "08:00",
    "2026-09-14",
    "2026-09-20",
    "1.20g",
    "24",
    "1250000",
    "0700914319",
)
DISPENSED: dict[str, Any] = {
    "quantity": quantity("60", "tablet"),
    "numberOfRepeatsAllowed": 2,
    "validityPeriod": {"start": "2026-09-14", "end": "2026-12-14"},
}
DISPENSED_RUNS = ("60tablets", "2026-09-14", "2026-12-14")


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Press:
    root = tmp_path_factory.mktemp("layout")
    install_layout(root)
    return Press(root)


def lines(press: Press, model: dict[str, Any]) -> list[str]:
    """The lines of the page as the eye meets them: glyphs from left to right, without what is not seen."""
    pdf = press.print_page_model(model, {}, ISSUED_AT, "pdf").sheets[0]
    rows: dict[tuple[int, int], list[Any]] = {}
    with pdfplumber.open(io.BytesIO(pdf)) as document:
        for page in document.pages:
            for char in page.chars:
                # The last entry of a glyph's matrix is the height of its baseline.
                rows.setdefault((page.page_number, round(char["matrix"][5])), []).append(char)
    return [
        UNSEEN.sub("", "".join(char["text"] for char in sorted(row, key=lambda char: char["x0"])))
        for row in rows.values()
    ]


@pytest.mark.parametrize("locale", ["fa-AF", "ps-AF"])
@pytest.mark.parametrize(("kind", "value", "seen"), HAZARDS, ids=[seen for *_, seen in HAZARDS])
def test_value_reads_from_left_to_right_wherever_it_stands(
    press: Press, locale: str, kind: str, value: object, seen: str
) -> None:
    shown = format_value(kind, value, style(locale, time_zone="Asia/Kabul"))
    places = [
        fields(("قیمت", shown)),
        table([["نتیجه", shown]]),
        paragraphs(f"نتیجهٔ مریض {shown} است و باید دیده شود."),
    ]
    for section in places:
        found = lines(press, small_page(section, rtl=True))
        assert any(seen in line for line in found), (section["type"], found)


@pytest.mark.parametrize("sentences", [MIXED, STRENGTHS], ids=["drugs", "numbers"])
@pytest.mark.parametrize("locale", ["fa-AF", "ps-AF"])
def test_runs_inside_sentences_keep_their_order(press: Press, locale: str, sentences: dict[str, Any]) -> None:
    text, runs = sentences[locale]
    shown = format_value("text", text, style(locale, time_zone="Asia/Kabul"))
    for section in (fields(("متن", shown), columns=1), table([[shown]]), paragraphs(shown)):
        found = lines(press, small_page(section, rtl=True))
        for run in runs:
            assert any(run in line for line in found), (section["type"], run, found)


@pytest.mark.parametrize("locale", ["fa-AF", "ps-AF"])
@pytest.mark.parametrize("digits", ["latin", "native"])
@pytest.mark.parametrize(
    ("kind", "value", "runs"),
    [("dosage", DOSAGE, DOSAGE_RUNS), ("dispenseRequest", DISPENSED, DISPENSED_RUNS)],
    ids=["dosage", "dispenseRequest"],
)
def test_every_amount_of_a_dosage_keeps_its_order(
    press: Press, locale: str, digits: Any, kind: str, value: object, runs: tuple[str, ...]
) -> None:
    page_style = style(locale, time_zone="Asia/Kabul", digits=digits)
    shown = format_value(kind, value, page_style)
    native = str.maketrans("0123456789.", "۰۱۲۳۴۵۶۷۸۹٫")
    for section in (fields(("دوا", shown), columns=1), table([["دوا", shown]]), paragraphs(shown)):
        found = lines(press, small_page(section, rtl=True))
        for run in runs:
            # What somebody typed keeps the digits that it was typed in.
            typed = run if digits == "latin" or run == "0700914319" else run.translate(native)
            assert any(typed in line for line in found), (section["type"], typed, found)


@pytest.mark.parametrize("locale", ["fa-AF", "ps-AF"])
def test_the_parts_of_a_dosage_follow_each_other_from_right_to_left(press: Press, locale: str) -> None:
    """The dose stands first, where the reader begins, and no sign but a free-standing dot is beside a number."""
    taken = {"doseAndRate": [{"doseQuantity": quantity("5", "mg")}], "timing": {"repeat": {"timeOfDay": ["08:00:00"]}}}
    shown = format_value("dosage", taken, style(locale, time_zone="Asia/Kabul"))
    found = lines(press, small_page(paragraphs(shown), rtl=True))
    assert "08:00·5mg" in found


@pytest.mark.parametrize("locale", ["fa-AF", "ps-AF"])
def test_native_digits_keep_their_order(press: Press, locale: str) -> None:
    page_style = style(locale, time_zone="Asia/Kabul", digits="native")
    for kind, value, seen in (
        ("date", "2024-11-09", "۲۰۲۴-۱۱-۰۹"),
        ("range", {"low": quantity("14.5", "g"), "high": quantity("173.1", "g")}, "۱۴٫۵–۱۷۳٫۱g"),
        ("phone", "0700 914 319", "۰۷۰۰۹۱۴۳۱۹"),
        ("quantity", quantity("-2.5", "mmol/L"), "-۲٫۵mmol/L"),
        # The power belongs to the unit and keeps its digits.
        ("quantity", quantity("7.5", "10*9/L"), "۷٫۵×10⁹/L"),
    ):
        shown = format_value(kind, value, page_style)
        found = lines(press, small_page(table([["نتیجه", shown]]), rtl=True))
        assert any(seen in line for line in found), (kind, found)


def test_a_power_stands_in_strong_cells_too(press: Press) -> None:
    """Bold Naskh lacks ⁶ and ⁹: the sans draws them, and they stay where they are."""
    page_style = style("fa-AF", time_zone="Asia/Kabul", digits="native")
    for unit, seen in (("10*9/L", "۷٫۵×10⁹/L"), ("10*6/uL", "۷٫۵×10⁶/µL"), ("10*12/L", "۷٫۵×10¹²/L")):
        section = fields(("نتیجه", format_value("quantity", quantity("7.5", unit), page_style)))
        section["fields"][0]["strong"] = True
        found = lines(press, small_page(section, rtl=True))
        assert any(seen in line for line in found), (unit, found)


def test_unisolated_values_do_turn_around(press: Press) -> None:
    """The hazard is real in this engine too: what these tests see is what they would have to see."""
    found = lines(press, small_page(paragraphs("تاریخ 2024-12-31 است"), rtl=True))
    assert not any("2024-12-31" in line for line in found)
    assert any("31-12-2024" in line for line in found)


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("number", ["2.5", "14.5–173.1", "۲.۵", "1.2.3"])
def test_the_point_of_a_number_alone_is_no_diamond(press: Press, number: str, strong: bool) -> None:
    """Amiri's point of Arabic script is as large as its zero ۰ and 0.317 em wide; that of Latin has at most 0.23 em."""
    cell = fields(("Value", f"\u2066{number}\u2069"))
    cell["fields"][0]["strong"] = strong
    pdf = press.print_page_model(small_page(cell, rtl=True), {}, ISSUED_AT, "pdf").sheets[0]
    with pdfplumber.open(io.BytesIO(pdf)) as document:
        points = [char["width"] / char["size"] for char in document.pages[0].chars if char["text"] == "."]
    # The first is that of "No." on the page's head.
    assert len(points) >= number.count(".")
    assert all(width < 0.25 for width in points if width)


def test_number_and_page_stay_together_below_a_long_name(press: Press) -> None:
    identity = small_page()["identity"] | {"patient": "Abdul Rahman Shafiullah Zabihullah Mohammadzai " * 2}
    found = lines(press, small_page(paragraphs("A"), identity=identity))
    assert any(line.endswith("T-1·Page1of1") for line in found), found
