"""Free words beside the codes of a dosage: ordinary ones are printed, and every contradiction refuses.

Each row is a text and the codes beside it, in the manner of clinics: amount, rhythm and what else is coded.
"""

from __future__ import annotations

from typing import Any

import pytest

from coded_dosages import EN, FOUR_TO_SIX, IM, NEEDED, PO, TABLET, WEEKLY, given, lasting, often
from document_service.formatting import ValueMismatch, format_value
from form_rows import bare

AGREE: list[tuple[str, dict[str, Any]]] = [
    ("1 tablet daily", {**TABLET, **often(1)}),
    ("1 tab OD mane", {**TABLET, **often(1)}),
    ("one tablet at night", {**TABLET, **often(1)}),
    ("1 tablet b.i.d. with food", {**TABLET, **often(2)}),
    ("1 tab BD for 7 days", {**TABLET, **lasting(7)}),
    ("1 tab BD x 7 days", {**TABLET, **lasting(7)}),
    ("1 tab twice daily for one week", {**TABLET, **lasting(7)}),
    ("1 tab twice daily for 1 month", {**TABLET, **lasting(30)}),
    ("1 tab twice daily for 2 weeks", {**TABLET, **lasting(2, "weeks")}),
    ("1 tablet in the morning and 1 at night", {**TABLET, **often(2)}),
    ("1-0-1", {**TABLET, **often(2)}),
    ("1+1+1 after meals", {**TABLET, **often(3)}),
    ("1-1-1-1", {**TABLET, **often(4)}),
    ("1 tablet TDS, q8h", {**TABLET, **often(3)}),
    ("1 tab six-hourly", {**TABLET, **often(4)}),
    ("every 4-6 hours prn, max 8 tablets in 24 hours", {**given("1", "tablet"), **FOUR_TO_SIX, **NEEDED}),
    ("take two 500 mg tablets", given("1000", "mg")),
    ("2 tablets of 500 mg", given("1", "g")),
    ("2 x 500mg QDS", {**given("1000", "mg"), **often(4)}),
    ("2 tabs (500 mg)", given("1000", "mg")),
    ("2 tablets (1000 mg)", given("1000", "mg")),
    ("1 tablet (500 mg) after meals", TABLET),
    ("take 2 daily", {**given("2", "tablet"), **often(1)}),
    ("take 2 daily", {**TABLET, **often(2)}),
    ("one teaspoonful three times a day", {**given("5", "mL"), **often(3)}),
    ("amoxicillin 125 mg/5 ml, give 10 mls tds", {**given("10", "mL"), **often(3)}),
    ("10 cc with 200 ml of water", given("10", "mL")),
    ("10,000 units sc", given("10000", "units")),
    ("1.2 million units IM stat", {**given("1200000", "unit"), **IM, "timing": {"repeat": {"frequency": 1}}}),
    ("70 mg once a week on Monday morning, NOT daily", WEEKLY),
    ("Take in the morning, 30 minutes before food. Check INR weekly", {**TABLET, **often(1)}),
    ("Take in the morning on an empty stomach", WEEKLY),
    ("one tablet on alternate days", {**TABLET, **often(1, 2)}),
    ("depot every 4 weeks", {**given("1", "mL"), **often(1, 4, "wk")}),
    ("150 mg monthly", {**given("150", "mg"), **often(1, 1, "mo")}),
    ("40 mg/day in 2 divided doses", {**given("20", "mg"), **often(2)}),
    ("by mouth, regularly", {**TABLET, **PO}),
    ("1 drop OD", {**given("1", "drop"), **often(4)}),
    ("روزانه دو تابلیت", {**given("2", "tablet"), **often(1)}),
    ("یک تابلیت روز سه بار برای ۷ روز", {**TABLET, **often(3, boundsDuration={"value": 7, "unit": "d"})}),
    ("یک تابلیت یک روز در میان", {**TABLET, **often(1, 2)}),
    ("یو ټابلېټ په ورځ کې دوه ځله، ۷ ورځې", {**TABLET, **lasting(7)}),
    ("یک تابلیت صبح و یک تابلیت شب", {**TABLET, **often(2)}),
    ("هفته‌وار 70 mg", WEEKLY),
    ("1 tablet Monday, Wednesday and Friday", {**TABLET, **often(1, dayOfWeek=["mon", "wed", "fri"])}),
    ("500mg PO TID x 7/7", {**given("500", "mg"), **PO, **often(3, boundsDuration={"value": 7, "unit": "d"})}),
    ("20 mg daily for 5 days then stop", {**given("20", "mg"), **often(1, boundsDuration={"value": 5, "unit": "d"})}),
    ("six 2.5 mg tablets once a week, same day each week", {**given("15", "mg"), **often(1, 1, "wk")}),
    ("Do not take more than 4 tablets a day", {**TABLET, **often(4)}),
    ("15 mg/kg/day divided q8h", {**given("50", "mg"), **often(3)}),
    ("return if the fever lasts 3 days", {**TABLET, **lasting(7)}),
]  # fmt: skip

DIFFER: list[tuple[str, dict[str, Any]]] = [
    ("15 mg daily", {**given("15", "mg"), **often(1, 1, "wk")}),
    ("15 mg/day", {**given("15", "mg"), **often(1, 1, "wk")}),
    ("70 mg once a week", {**given("70", "mg"), **often(1)}),
    ("70 mg weekly", {**given("70", "mg"), **often(1)}),
    ("70 mg a week", {**given("70", "mg"), **often(1)}),
    ("every Monday", {**given("70", "mg"), **often(1)}),
    ("every day", WEEKLY),
    ("OD", WEEKLY),
    ("o.d.", WEEKLY),
    ("qd", WEEKLY),
    ("nocte", WEEKLY),
    ("روزانه", WEEKLY),
    ("هره ورځ", WEEKLY),
    ("هفته‌وار", {**TABLET, **often(1)}),
    ("هفته یک بار", {**TABLET, **often(1)}),
    ("monthly", {**TABLET, **often(1, 1, "wk")}),
    ("every other day", {**TABLET, **often(1)}),
    ("alternate days", {**TABLET, **often(1)}),
    ("یک روز در میان", {**TABLET, **often(1)}),
    ("daily", {**TABLET, **often(1, 2)}),
    ("BD", {**TABLET, **often(1)}),
    ("BID", {**TABLET, **often(3)}),
    ("b.i.d.", {**TABLET, **often(1)}),
    ("twice", {**TABLET, **often(1)}),
    ("twice daily", {**TABLET, **often(1)}),
    ("once daily", {**TABLET, **often(2)}),
    ("TDS", {**TABLET, **often(2)}),
    ("t.i.d.", {**TABLET, **often(4)}),
    ("QID", {**TABLET, **often(3)}),
    ("QDS", {**TABLET, **often(2)}),
    ("q4h", {**TABLET, **often(4)}),
    ("q6h", {**TABLET, **often(3)}),
    ("q 8 h", {**TABLET, **often(2)}),
    ("q12h", {**TABLET, **often(3)}),
    ("six-hourly", {**TABLET, **often(3)}),
    ("6 hourly", {**TABLET, **often(2)}),
    ("at night", {**TABLET, **often(2)}),
    ("mane", {**TABLET, **often(3)}),
    ("in the morning and at night", {**TABLET, **often(1)}),
    ("صبح و شام", {**TABLET, **often(3)}),
    ("1+1+1", {**TABLET, **often(2)}),
    ("1-0-1", {**TABLET, **often(3)}),
    ("2-0-2", {**TABLET, **often(2)}),
    ("STAT", {**TABLET, **often(3)}),
    ("once only", {**TABLET, **often(1)}),
    ("twice a day", {**TABLET, "timing": {"repeat": {"frequency": 1}}}),
    ("take 2 daily", {**TABLET, **often(1)}),
    ("take 2 at night", {**TABLET, **often(1)}),
    ("15 mg/day", {**given("6", "tablet"), **often(1, 1, "wk")}),
    ("take 2 daily", {**given("2", "tablet"), **often(1, 1, "wk")}),
    ("30 mg/day, TDS", {**given("15", "mg"), **often(2)}),
    ("70 mg/week", {**given("70", "mg"), **often(1)}),
    ("هفته یک تابلیت", {**TABLET, **often(1)}),
    ("3x/day", {**TABLET, **often(2)}),
    ("5/7", {**TABLET, **lasting(7)}),
    ("alternate-day", {**TABLET, **often(1)}),
    ("for 14 days", {**TABLET, **lasting(7)}),
    ("for two weeks", {**TABLET, **lasting(7)}),
    ("for 1 month", {**TABLET, **lasting(7)}),
    ("برای ۱۴ روز", {**TABLET, **lasting(7)}),
    ("دو هفته", {**TABLET, **lasting(7)}),
    ("۱۴ ورځې", {**TABLET, **lasting(7)}),
    ("10 mls", given("5", "mL")),
    ("10 cc", given("5", "mL")),
    ("one tablespoon", given("5", "mL")),
    ("2 teaspoons", given("5", "mL")),
    ("2 tsp", given("5", "mL")),
    ("2 gms", given("1", "g")),
    ("500 mgs", given("250", "mg")),
    ("500 mcgs", given("500", "mg")),
    ("2 tablets of 500 mg", given("500", "mg")),
    ("take two 500 mg tablets", given("500", "mg")),
    ("2 x 500mg", given("500", "mg")),
    ("take two 500 mg tablets", TABLET),
    ("1,000 mg", given("1", "mg")),
    ("not prn", {**TABLET, **NEEDED}),
    ("regularly", {**TABLET, **NEEDED}),
    ("IM only", {**TABLET, **PO}),
    ("i.v.", {**TABLET, **IM}),
    ("by mouth", {**TABLET, **IM}),
    ("per rectum", {**TABLET, **PO}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "coded"), AGREE)
def test_ordinary_words_are_printed(words: str, coded: dict[str, Any]) -> None:
    for name in ("text", "patientInstruction"):
        assert bare(format_value("text", words, EN)) in bare(format_value("dosage", {**coded, name: words}, EN))
    assert format_value("dosage", {**coded, "additionalInstruction": [{"text": words}]}, EN)


@pytest.mark.parametrize(("words", "coded"), DIFFER)
def test_words_that_contradict_the_codes_refuse(words: str, coded: dict[str, Any]) -> None:
    instruction = {"additionalInstruction": [{"text": words}]}
    for members in ({"text": words}, {"patientInstruction": words}, instruction):
        with pytest.raises(ValueMismatch, match="words and codes agree"):
            format_value("dosage", {**coded, **members}, EN)


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        ("1 tablet twice a day", "Take one tablet three times a day."),
        ("1 tablet twice a day", "2 tablets"),
        ("500 mg BD for 7 days", "for 10 days"),
        ("15 mg once a week", "15 mg daily"),
        ("1 g IM", "by mouth"),
    ],
)
def test_two_texts_without_codes_are_compared_with_each_other(text: str, instruction: str) -> None:
    for members in ({"patientInstruction": instruction}, {"additionalInstruction": [{"text": instruction}]}):
        with pytest.raises(ValueMismatch, match="words and codes agree"):
            format_value("dosage", {"text": text, **members}, EN)
        assert format_value("dosage", {"text": text, "patientInstruction": text}, EN)


def test_an_abbreviation_beside_a_repeat_of_another_rhythm_refuses() -> None:
    repeat = {"frequency": 1, "period": 1, "periodUnit": "d"}
    for code in ({"text": "BID"}, {"coding": [{"display": "twice a day"}]}):
        with pytest.raises(ValueMismatch, match="words and codes agree"):
            format_value("dosage", {**TABLET, "timing": {"code": code, "repeat": repeat}}, EN)
    assert format_value("dosage", {**TABLET, "timing": {"code": {"text": "OD"}, "repeat": repeat}}, EN)


def test_a_hostile_text_is_read_in_no_time() -> None:
    for piece in ("1-", "1 ", "every ", "2 x ", "1 to ", "in the ", "not "):
        assert format_value("dosage", {**TABLET, "text": piece * 20_000}, EN)
