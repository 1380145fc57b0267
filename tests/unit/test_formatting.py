"""Typed values as text of a page: digits as recorded, isolated, per locale."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from document_service.formatting import (
    FORMATS,
    STANDARD_WORDS,
    Style,
    UnknownTimeZone,
    UnprintableText,
    ValueAbsent,
    ValueMismatch,
    clean,
    direction,
    format_value,
    isolate_clean_text,
    style,
)
from document_service.formatting.calendars import solar_hijri
from document_service.formatting.isolation import FSI, LRI, PDI, has_rtl_letter

EN = style("en", time_zone="Asia/Kabul")
DARI = style("fa-AF", time_zone="Asia/Kabul")
DARI_NATIVE = style("fa-AF", digits="native", calendar="both", time_zone="Asia/Kabul")
PASHTO_HIJRI = style("ps-AF", calendar="solarHijri", time_zone="Asia/Kabul")
STYLES = (EN, DARI, DARI_NATIVE, PASHTO_HIJRI, style("ar", digits="native"), style("fr"))


def shown(kind: str, value: object, page_style: Style) -> str:
    """The formatted text with its invisible characters made visible: [ LRI, { FSI, ] PDI, _ NBSP, | word joiner."""
    text = format_value(kind, value, page_style)
    return text.translate({0x2066: "[", 0x2068: "{", 0x2069: "]", 0xA0: "_", 0x2060: "|"})


def quantity(value: str, unit: str = "", comparator: str | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"value": Decimal(value), "unit": unit}
    return entry | ({"comparator": comparator} if comparator else {})


@pytest.mark.parametrize(
    ("kind", "value", "page_style", "expected"),
    [
        ("quantity", quantity("1.10", "mmol/L"), EN, "[1.10_mmol|/|L]"),
        ("quantity", quantity("-2.5", "mmol/L"), DARI, "[-2.5_mmol|/|L]"),
        ("quantity", quantity("1.10", "mmol/L", "<="), DARI_NATIVE, "[≤_۱٫۱۰_mmol|/|L]"),
        ("quantity", quantity("10", "10*9/L"), DARI_NATIVE, "[۱۰_×10⁹|/|L]"),
        ("quantity", quantity("5", "ملی‌گرام"), DARI, "{[5]_ملی‌گرام]"),
        ("quantity", quantity("5", "1"), EN, "[5]"),
        ("range", {"low": quantity("14.5", "ng/mL"), "high": quantity("173.1", "ng/mL")}, DARI,
         "[14.5–|173.1_ng|/|mL]"),
        ("range", {"low": quantity("14.5", "g")}, EN, "[≥_14.5_g]"),
        ("range", {"high": quantity("14.5", "g")}, EN, "[≤_14.5_g]"),
        ("range", {"high": quantity("5", "g", "<")}, EN, "[<_5_g]"),
        ("range", {"high": quantity("5", "g", "<=")}, EN, "[≤_5_g]"),
        ("range", {"low": quantity("5", "g", ">")}, EN, "[>_5_g]"),
        ("range", {"low": quantity("5", "g", ">=")}, EN, "[≥_5_g]"),
        ("range", {"low": quantity("1", "g"), "high": quantity("1", "kg")}, EN, "[1_g]_–_[1_kg]"),
        ("ratio", {"numerator": quantity("1"), "denominator": quantity("128")}, DARI, "[1:128]"),
        ("ratio", {"numerator": quantity("250", "mg"), "denominator": quantity("5", "mL")}, DARI, "[250_mg|/|5_mL]"),
        ("date", "2025-11-09", EN, "[09_Nov_2025]"),
        ("date", "2025-11-09", DARI, "[2025-11-09]"),
        ("date", "2025-11-09", DARI_NATIVE, "{[۱۸]_عقرب_[۱۴۰۴] ([۲۰۲۵-۱۱-۰۹])]"),
        ("date", "2025-11-09", PASHTO_HIJRI, "{[18]_لړم_[1404]]"),
        ("date", "2025-11", EN, "[Nov_2025]"),
        ("date", "2025-11", DARI, "[2025-11]"),
        ("date", "1985", PASHTO_HIJRI, "{[1985]_میلادي]"),
        ("date", "2025-11-08T22:30:00Z", DARI, "[2025-11-09]"),
        ("dateTime", "2025-11-09T10:00:00Z", EN, "[09_Nov_2025_14:30_+04:30]"),
        ("dateTime", "2025-11-09T10:00:00.123+00:00", PASHTO_HIJRI, "{[18]_لړم_[1404] [14:30_+04:30]]"),
        ("dateTime", "2025-11-09T10:00:00", DARI, "[2025-11-09_10:00]"),
        ("dateTime", "2025-11", DARI, "[2025-11]"),
        ("phone", {"system": "phone", "value": "0700 914 319"}, DARI, "[0700_914_319]"),
        ("phone", "+93 (0)700 914-319", DARI_NATIVE, "[+۹۳_(۰)۷۰۰_۹۱۴-۳۱۹]"),
        ("identifier", {"value": "KC/09-12"}, DARI_NATIVE, "[KC|/|09-12]"),
        ("code", {"coding": [{"code": "a"}, {"display": "B", "userSelected": True}]}, EN, "[B]"),
        ("code", {"text": "خون", "coding": [{"display": "Blood"}]}, DARI, "{خون]"),
        ("code", {"system": "s", "code": "4548-4"}, EN, "[4548-4]"),
        ("humanName", {"prefix": ["Dr"], "given": ["Ali", "Reza"], "family": "Karimi"}, EN, "[Dr Ali Reza Karimi]"),
        ("humanName", {"given": ["مریم"], "family": "احمدزی"}, EN, "{مریم احمدزی]"),
        ("humanName", {"text": "Ali"}, EN, "[Ali]"),
        ("address", {"line": ["Karte 3"], "city": "کابل"}, DARI, "[Karte 3]، {کابل]"),
        ("address", {"line": ["Karte 3"], "city": "Kabul"}, DARI, "[Karte 3, Kabul]"),
        ("boolean", True, DARI, "بلی"),
        ("boolean", False, EN, "No"),
        ("decimal", Decimal("12.50"), EN, "[12.50]"),
        ("number", 2**70, EN, "[1180591620717411303424]"),
        ("text", "داروی Co-trimoxazole 480 mg دو بار (-2.5) روز", DARI,
         "{داروی [Co-trimoxazole 480_mg] دو بار ([-2.5]) روز]"),
        ("text", "تب 38.5 درجه، 2-3 mg/kg.", DARI, "{تب [38.5] درجه، [2-3_mg|/|kg].]"),
        ("text", "≤ 5 روز", DARI, "{[≤ 5] روز]"),
        ("text", "250 mg / 5 mL", EN, "[250_mg_|/|_5_mL]"),
        ("text", "give 2.5 – 5 mL twice", EN, "[give 2.5_–|_5_mL twice]"),
        ("text", "keep < 8 °C, 10 gauzes", EN, "[keep <_8_°C, 10 gauzes]"),
        ("text", "روزانه ۲۵۰ ملی‌گرام", DARI, "{روزانه [۲۵۰]_ملی‌گرام]"),
        # The zero of these digits is a dot: with a full stop 2.5 reads as 205. Dates and times of day keep theirs.
        ("text", "۲.۵ mg", EN, "[۲٫۵_mg]"),
        ("text", "۱۴۰۳.۶.۲۱", EN, "[۱۴۰۳.۶.۲۱]"),
        ("text", "ساعت ۸.۳۰", EN, "{ساعت [۸.۳۰]]"),
        ("text", "a\r\nب 1", EN, "[a]\n{ب [1]]"),
    ],
)  # fmt: skip
def test_values(kind: str, value: object, page_style: Style, expected: str) -> None:
    assert shown(kind, value, page_style) == expected


def test_a_period_begins_where_the_page_does() -> None:
    """Its dates are isolated, so that an isolate of the first strong letter runs from left to right on every page."""
    period = {"start": "2026-03-20", "end": "2026-03-22"}
    for page_style, opening in ((EN, "\u2066"), (DARI, "\u2067"), (PASHTO_HIJRI, "\u2067")):
        printed = format_value("anyValue", period, page_style)
        assert printed.startswith(opening)
        assert printed.endswith("\u2069")
    assert shown("anyValue", {"end": "2026-03-22"}, EN) == "[–_[22_Mar_2026]]"
    assert shown("anyValue", {"start": "2026-03-20"}, EN) == "[[20_Mar_2026]_–_]"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("quantity", "5 mg"), ("quantity", {"value": "5"}), ("quantity", {"value": True}),
        ("quantity", {"value": Decimal("1e999999")}), ("quantity", quantity("1", "g", "?")),
        ("range", {"low": quantity("1", "g", "<"), "high": quantity("2", "g")}), ("ratio", 3),
        ("range", {"low": quantity("1", "g", "<")}), ("range", {"low": quantity("1", "g", "<=")}),
        ("range", {"high": quantity("1", "g", ">")}), ("range", {"high": quantity("1", "g", ">=")}),
        ("date", "2025-13-01"), ("date", "2025-02-30"), ("date", "yesterday"), ("date", 2025),
        ("dateTime", "2025-11-09T25:00:00Z"), ("dateTime", "2025-11-09T10Z"), ("dateTime", None),
        ("text", 5), ("text", {"value": "x"}), ("boolean", "true"), ("decimal", True), ("decimal", "1.1"),
        ("decimal", Decimal("NaN")), ("decimal", 10**50), ("code", 5), ("code", {"coding": "x"}),
        ("humanName", ["Ali"]), ("humanName", {"given": "Ali"}), ("address", 5), ("phone", 700), ("identifier", 1),
    ],
)  # fmt: skip
def test_other_types_are_refused(kind: str, value: object) -> None:
    with pytest.raises(ValueMismatch):
        format_value(kind, value, EN)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("quantity", {"unit": "mg"}), ("range", {}), ("ratio", {"numerator": quantity("1")}), ("text", "  "),
        ("humanName", {"use": "official"}), ("address", {"use": "home"}), ("phone", {"system": "phone"}),
        ("identifier", {"system": "x"}), ("code", {"coding": []}), ("text", "\u202e\u2066"),
    ],
)  # fmt: skip
def test_empty_elements_are_absent(kind: str, value: object) -> None:
    with pytest.raises(ValueAbsent):
        format_value(kind, value, EN)


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\x1b[31m", "\ufffe", "\x85"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(UnprintableText):
        isolate_clean_text(text)


def test_bidi_overrides_are_removed() -> None:
    assert clean("5\u202e0 mg\u202c\u2067\ufeff\u061c") == "50 mg"


@pytest.mark.parametrize(
    ("gregorian", "hijri"),
    [
        # Published equivalents: new year's days around leap years, Afghan independence day, the epoch of the century.
        ("2025-03-21", (1404, 1, 1)), ("2025-03-20", (1403, 12, 30)), ("2024-03-20", (1403, 1, 1)),
        ("2021-03-20", (1399, 12, 30)), ("2021-03-21", (1400, 1, 1)), ("2017-03-20", (1395, 12, 30)),
        ("2029-03-20", (1408, 1, 1)), ("2030-03-20", (1408, 12, 30)), ("2026-03-21", (1405, 1, 1)),
        ("1919-08-19", (1298, 5, 27)), ("2000-01-01", (1378, 10, 11)), ("1979-02-11", (1357, 11, 22)),
        ("2025-11-09", (1404, 8, 18)), ("1900-01-01", (1278, 10, 11)),
    ],
)  # fmt: skip
def test_solar_hijri_days(gregorian: str, hijri: tuple[int, int, int]) -> None:
    assert tuple(solar_hijri(date.fromisoformat(gregorian))) == hijri


def test_solar_hijri_days_follow_each_other() -> None:
    """Every day of two centuries comes after the one before; months have 31, 30 and 29 or 30 days."""
    before = solar_hijri(date(1899, 12, 31))
    for offset in range(73_500):
        day = solar_hijri(date(1900, 1, 1) + timedelta(days=offset))
        if day.day == 1:
            assert before.day == (31 if before.month <= 6 else 30) or (before.month == 12 and before.day == 29)
            assert (day.year, day.month) in ((before.year, before.month + 1), (before.year + 1, 1))
        else:
            assert (day.year, day.month, day.day) == (before.year, before.month, before.day + 1)
        before = day


def test_solar_hijri_begins_in_622() -> None:
    with pytest.raises(ValueError, match="622"):
        solar_hijri(date(600, 1, 1))


def test_every_locale_has_every_standard_word() -> None:
    assert {frozenset(words) for words in STANDARD_WORDS.values()} == {frozenset(STANDARD_WORDS["en"])}
    for words in STANDARD_WORDS.values():
        assert {"{page}", "{pages}"} <= set(words["pageOf"].split())


def test_directions() -> None:
    assert [direction(tag) for tag in ("en", "fa-AF", "ps-AF", "uz-Arab-AF", "uz-Latn", "ku-Latn")] == [
        "ltr", "rtl", "rtl", "rtl", "ltr", "ltr",
    ]  # fmt: skip


def test_unknown_zone() -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(UnknownTimeZone):
            style("en", time_zone=name)


# --- Properties -----------------------------------------------------------------------------------------------

# All planes, with the characters that matter here drawn often.
hostile_text = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\u202a\u202b\u202d\u202e\u202c\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u206a\ufeff"),
        st.sampled_from("ابپژښڅ۰۱۲٣٤0123456789-+./<>≤%() \n\u200cmgL/"),
    ),
    max_size=60,
)
STEERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2067\ufeff") | {
    chr(point) for point in range(0x206A, 0x2070)
}


def assert_isolated(text: str) -> None:
    """Isolates are balanced within each line, nested at most twice, and nothing else steers the bidi algorithm."""
    assert not STEERING & set(text)
    for line in text.split("\n"):
        depth = 0
        for character in line:
            if character in (LRI, FSI):
                depth += 1
            elif character == PDI:
                depth -= 1
            assert 0 <= depth <= 2
        assert depth == 0


def visible(text: str) -> str:
    """The text without what formatting adds."""
    return text.translate({0x2066: None, 0x2068: None, 0x2069: None, 0x2060: None, 0xA0: " "})


def latin_digits(text: str) -> str:
    return "".join(str(int(character)) for character in text if character.isdecimal())


@settings(max_examples=400, deadline=None)
@given(hostile_text)
def test_text_is_isolated_and_keeps_its_characters(text: str) -> None:
    try:
        formatted = isolate_clean_text(text)
    except UnprintableText:
        return
    assert_isolated(formatted)
    assert visible(formatted) == clean(text).replace("\u00a0", " ").replace("\u2060", "")
    for line in formatted.split("\n"):
        if has_rtl_letter(line):
            assert line.startswith(FSI)
            assert digits_outside_isolates(line[1:-1]) == ""


def digits_outside_isolates(text: str) -> str:
    """The digits that stand bare between right-to-left letters."""
    depth = 0
    found = ""
    for character in text:
        depth += (character in (LRI, FSI)) - (character == PDI)
        if depth == 0 and character.isdecimal():
            found += character
    return found


numbers = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3
) | st.integers(-(10**30), 10**30)


@settings(max_examples=300, deadline=None)
@given(numbers, st.sampled_from(STYLES), st.sampled_from(["", "mg", "mmol/L", "10*9/L", "ملی‌گرام"]))
def test_numbers_keep_every_digit(number: Decimal | int, page_style: Style, unit: str) -> None:
    formatted = format_value("quantity", {"value": number, "unit": unit}, page_style)
    assert_isolated(formatted)
    written = format(number, "f") if isinstance(number, Decimal) else str(number)
    shown_number = visible(formatted).split(" ")[0]
    assert latin_digits(shown_number) == latin_digits(written)
    assert shown_number.startswith("-") == written.startswith("-")
    assert (" " in formatted) is False


@settings(max_examples=200, deadline=None)
@given(st.dates(date(1850, 1, 1), date(2150, 12, 31)), st.sampled_from(STYLES))
def test_dates_are_isolated_and_unbroken(day: date, page_style: Style) -> None:
    formatted = format_value("date", day.isoformat(), page_style)
    assert_isolated(formatted)
    # Both calendars side by side may part at a line end; a date alone may not.
    assert formatted.count(" ") == (1 if page_style.calendar == "both" else 0)
    if page_style.calendar != "solarHijri":
        assert latin_digits(f"{day.year:04}") in latin_digits(formatted)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | hostile_text,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["value", "unit", "code", "comparator", "low", "high", "numerator", "denominator", "text", "given",
                 "family", "prefix", "line", "city", "coding", "display", "system", "userSelected"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize("comparator", [[], {}, ["<"], False, 0, "", "≤"])
def test_a_comparator_of_another_kind_is_refused(comparator: Any) -> None:
    """A sign that is dropped turns "less than 5" into "5"."""
    with pytest.raises(ValueMismatch):
        format_value("quantity", {"value": 5, "comparator": comparator}, STYLES[0])


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), json_values, st.sampled_from(STYLES[:4]))
def test_any_json_is_formatted_or_refused(kind: str, value: Any, page_style: Style) -> None:
    try:
        formatted = format_value(kind, value, page_style)
    except (ValueMismatch, ValueAbsent, UnprintableText):
        return
    assert_isolated(formatted)
    assert visible(formatted).strip()
