"""The types ``dosage`` and ``dispenseRequest``: whole or refused, and never two doses of one medicine on a page."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from document_service.formatting import ValueAbsent, ValueMismatch, format_value, style
from document_service.formatting.dosage_words import DAYS, DOSAGE_WORD_KEYS, DOSAGE_WORDS, LOCALES, MOMENTS, ROUTES
from document_service.formatting.isolation import FSI, LRI, PDI, RLI
from form_rows import bare, dose

EN = style("en", time_zone="Asia/Kabul")
DARI = style("fa-AF", time_zone="Asia/Kabul", digits="native")
PASHTO = style("ps-AF", time_zone="Asia/Kabul")


def said(page_style: Any = EN, **members: Any) -> str:
    """The words of one dosage of a tablet with these members."""
    return bare(format_value("dosage", {**dose(), **members}, page_style))


def amount(value: Any, unit: str, **members: Any) -> dict[str, Any]:
    return {"value": value, "unit": unit, **members}


def repeated(**members: Any) -> dict[str, Any]:
    return {"timing": {"repeat": members}}


@pytest.mark.parametrize(
    ("repeat", "expected"),
    [
        ({"frequency": 1, "period": 1, "periodUnit": "d"}, "once a day"),
        ({"frequency": 3, "period": 1, "periodUnit": "d"}, "three times a day"),
        ({"frequency": 6, "period": 1, "periodUnit": "d"}, "6 times a day"),
        ({"frequency": 1, "frequencyMax": 2, "period": 1, "periodUnit": "d"}, "1–2 times a day"),
        ({"frequency": 2, "period": 24, "periodUnit": "h"}, "twice a day"),
        ({"period": 8, "periodUnit": "h"}, "every 8 hours"),
        ({"frequency": 1, "period": Decimal("1.5"), "periodUnit": "h"}, "every 1.5 hours"),
        ({"frequency": 1, "period": 4, "periodMax": 6, "periodUnit": "h"}, "every 4–6 hours"),
        ({"frequency": 1, "period": 2, "periodUnit": "d"}, "every other day"),
        ({"frequency": 1, "period": 1, "periodUnit": "wk"}, "once a week"),
        ({"frequency": 1, "period": 1, "periodUnit": "a"}, "every 1 year"),
        ({"frequency": 2, "period": 3, "periodUnit": "wk"}, "2 times in 3 weeks"),
        ({"frequency": 1}, "once"),
        ({"frequency": 3}, "3 times"),
        ({"when": ["AC"], "offset": 30}, "30 minutes before meals"),
        ({"when": ["MORN", "HS"]}, "in the morning · at bedtime"),
        ({"dayOfWeek": ["mon", "thu"], "timeOfDay": ["08:00:00"]}, "Monday · Thursday · 08:00"),
        ({"duration": 60, "durationUnit": "min"}, "given over 60 minutes"),
        ({"duration": 1, "durationMax": 2, "durationUnit": "h"}, "given over 1–2 hours"),
        ({"boundsDuration": {"value": 10, "unit": "days"}}, "for 10 days"),
        ({"boundsDuration": {"value": 10, "unit": "روز", "code": "d"}}, "for 10 روز"),
        ({"boundsRange": {"low": amount(5, "d"), "high": amount(7, "d")}}, "for 5–7 d"),
        ({"boundsPeriod": {"start": "2026-09-14", "end": "2026-09-20"}}, "from 14 Sep 2026 · until 20 Sep 2026"),
        ({"count": 6, "countMax": 8}, "doses in all: 6–8"),
    ],
)
def test_each_way_to_say_when(repeat: dict[str, Any], expected: str) -> None:
    assert said(**repeated(**repeat)) == f"1 tablet · {expected}"


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        # FHIR means after, and the words say at.
        (repeated(when=["HS"], offset=30), None),
        (repeated(when=["C"], offset=30), None),
        (repeated(when=["PC", "MORN"], offset=30), None),
        (repeated(when=["HS"], offset=0), "at bedtime"),
        (repeated(when=["PCM"], offset=60), "60 minutes after breakfast"),
        (repeated(when=["PHS"], offset=90), "90 minutes after going to sleep"),
        (repeated(frequency=2, period=1, periodUnit="d", timeOfDay=["08:00:00", "14:00:00", "20:00:00"]), None),
        (repeated(period=1, periodUnit="d", timeOfDay=["08:00:00", "20:00:00"]), None),
        (repeated(frequency=2, period=24, periodUnit="h", timeOfDay=["08:00:00"]), None),
        (repeated(period=8, periodUnit="h", timeOfDay=["08:00:00"]), "every 8 hours · 08:00"),
        ({"timing": {"code": {"coding": [{"code": "TID"}]}, "repeat": {"timeOfDay": ["08:00:00", "20:00:00"]}}}, None),
        (
            repeated(frequency=1, frequencyMax=2, period=1, periodUnit="d", timeOfDay=["08:00:00"]),
            "1–2 times a day · 08:00",
        ),
        (
            repeated(frequency=2, period=1, periodUnit="d", timeOfDay=["08:00:00", "20:00:00"]),
            "twice a day · 08:00 · 20:00",
        ),
        (
            repeated(frequency=1, period=1, periodUnit="wk", timeOfDay=["08:00:00", "20:00:00"]),
            "once a week · 08:00 · 20:00",
        ),
    ],
)
def test_an_offset_or_times_that_the_words_do_not_bear_refuse(timing: dict[str, Any], expected: str | None) -> None:
    if expected is not None:
        assert said(**timing) == f"1 tablet · {expected}"
        return
    with pytest.raises(ValueMismatch):
        said(**timing)


@pytest.mark.parametrize("code", ["AM", "PM", "BED"])
def test_a_code_of_one_moment_beside_more_times_a_day_refuses(code: str) -> None:
    coded = {"code": {"coding": [{"code": code}]}}
    for repeat in (
        {"frequency": 2, "period": 1, "periodUnit": "d"},
        {"frequency": 1, "frequencyMax": 2, "period": 1, "periodUnit": "d"},
        {"period": 8, "periodUnit": "h"},
        {"timeOfDay": ["08:00:00", "20:00:00"]},
    ):
        with pytest.raises(ValueMismatch):
            said(timing={**coded, "repeat": repeat})
    once = {"frequency": 1, "period": 1, "periodUnit": "d", "timeOfDay": ["08:00:00"]}
    assert said(timing={**coded, "repeat": once}).startswith("1 tablet · once a day · ")
    assert said(timing={**coded, "repeat": {"period": 1, "periodUnit": "wk"}}).startswith("1 tablet · once a week · ")


def test_what_is_given_topically_is_not_said_to_be_on_the_skin() -> None:
    for code in ("6064005", "TOPICAL"):
        for page_style, words in ((EN, "topically"), (DARI, "به‌صورت موضعی"), (PASHTO, "په موضعي ډول")):
            assert bare(words) in said(page_style, route={"coding": [{"code": code}]})
    assert said(route={"coding": [{"code": "448598008"}]}) == "1 tablet · on the skin"
    # The nasal cannula of oxygen is not a spray.
    assert said(route={"coding": [{"code": "NASINHLC", "display": "nasal cannula"}]}) == "1 tablet · nasal cannula"
    topical = {"coding": [{"code": "6064005"}]}
    assert "as written: into the vagina" in said(route=topical, text="into the vagina")
    with pytest.raises(ValueMismatch):
        said(route=topical, text="by mouth")


def test_a_form_that_was_published_before_a_word_came_prints_the_senders() -> None:
    """A locale of a tenant's own brings its words; a published version never gets another."""
    words = {key: value for key, value in style("en").words.items() if key != "dosageTopically"}
    route = {"coding": [{"code": "6064005", "display": "Topical route"}]}
    assert said(style("ur", labels=words), route=route) == "1 tablet · Topical route"


def test_single_moments_are_those_of_the_clinic() -> None:
    assert said(timing={"event": ["2026-09-19T04:30:00Z"]}) == "1 tablet · 19 Sep 2026 09:00 +04:30"


def test_an_infusion_has_its_dose_its_rate_and_its_time() -> None:
    rate = {"numerator": amount(100, "mL"), "denominator": amount(1, "h")}
    given = {"doseAndRate": [{"doseQuantity": amount(1, "g"), "rateRatio": rate}]}
    timing = repeated(frequency=1, period=12, periodUnit="h", duration=60, durationUnit="min")
    assert said(**given, **timing) == "1 g at a rate of 100 mL/1 h · every 12 hours · given over 60 minutes"


def test_as_needed_says_so_and_for_what_and_how_much_at_most() -> None:
    most = {"numerator": amount(4, "g"), "denominator": amount(24, "h")}
    limits = {
        "maxDosePerPeriod": most,
        "maxDosePerAdministration": amount(2, "tablet"),
        "maxDosePerLifetime": amount(550, "mg/m2"),
    }
    assert said(asNeededCodeableConcept={"text": "pain"}, **limits) == (
        "1 tablet · as needed for: pain · not more than 4 g in 24 hours · not more than 2 tablets at one time · "
        "not more than 550 mg/m² in a lifetime"
    )
    assert said(asNeededBoolean=True) == "1 tablet · as needed"
    assert said(asNeededBoolean=False) == "1 tablet"


def test_what_was_only_calculated_does_not_stand_beside_what_was_ordered() -> None:
    calculated = {"type": {"coding": [{"code": "calculated"}]}, "doseQuantity": amount(487, "mg")}
    ordered = {"type": {"coding": [{"code": "ordered"}]}, "doseQuantity": amount(500, "mg")}
    assert said(doseAndRate=[calculated, ordered]) == "500 mg"
    assert said(doseAndRate=[calculated]) == "487 mg"
    # A dose that was calculated beside a rate that was ordered: the rate alone says nothing of how much.
    rate = {"rateQuantity": amount(10, "mL/h")}
    assert said(doseAndRate=[calculated, rate]) == "487 mg at a rate of 10 mL/h"
    assert said(doseAndRate=[{**calculated, **rate}, ordered]) == "500 mg at a rate of 10 mL/h"
    assert said(doseAndRate=[{**calculated, "rateQuantity": amount(9, "mL/h")}, {**ordered, **rate}]) == (
        "500 mg at a rate of 10 mL/h"
    )


def test_words_stand_below_the_codes_or_are_the_dose() -> None:
    often = repeated(frequency=3, period=1, periodUnit="d")
    assert said(text="with plenty\nof water", **often) == (
        "1 tablet · three times a day\nas written: with plenty of water"
    )
    assert said(patientInstruction="Do not drive.") == "1 tablet\nDo not drive."
    assert said(doseAndRate=None, text="1 spoon", **often) == "1 spoon\nthree times a day"


def test_a_code_and_what_its_text_adds() -> None:
    by_mouth = {"coding": [{"code": "26643006", "display": "Oral route"}]}
    assert said(route={**by_mouth, "text": "Oral"}) == "1 tablet · by mouth"
    assert said(route={**by_mouth, "text": "by tube"}) == "1 tablet · by mouth, by tube"
    assert said(timing={"code": {"coding": [{"code": "BID"}]}}) == "1 tablet · twice a day"
    assert said(timing={"code": {"text": "with the first cry of the cock"}}).endswith("of the cock")
    both = {"code": {"coding": [{"code": "Q8H"}]}, "repeat": {"frequency": 3, "period": 1, "periodUnit": "d"}}
    assert said(timing=both) == "1 tablet · every 8 hours"


TID = {"coding": [{"code": "TID"}]}


@pytest.mark.parametrize(
    "members",
    [
        {"asNeededFor": [{"text": "pain"}]},  # A member of R5.
        {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]},
        {"_asNeededBoolean": {"extension": []}},
        {"doseAndRate": [{"doseQuantity": amount(1, "g"), "dosePerKilogram": amount(1, "mg")}]},
        {"doseAndRate": [{"doseQuantity": amount(1, "g")}, {"doseQuantity": amount(2, "g")}]},
        {"doseAndRate": [{"doseQuantity": {**amount(1, "g"), "comparator": "ad"}}]},
        {"route": {"coding": [{"code": "12345678"}]}},
        {"route": {"coding": [{"code": "PO"}, {"code": "IV"}]}},
        {"timing": {"code": {"coding": [{"code": "QQQ"}]}}},
        {"timing": {"code": TID, "repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}}},
        {"timing": {"repeat": {"frequency": 2}, "schedule": "x"}},
        repeated(frequency=0, period=1, periodUnit="d"),
        repeated(frequency=3, frequencyMax=2, period=1, periodUnit="d"),
        repeated(frequency=3, period=1),
        repeated(frequency=3, periodUnit="d"),
        repeated(period=1, periodUnit="fortnight"),
        repeated(when=["TEATIME"]),
        repeated(offset=30),
        repeated(dayOfWeek=["caturday"]),
        repeated(timeOfDay=["8 o'clock"]),
        repeated(duration=60),
        repeated(countMax=3),
        {"asNeededBoolean": True, "asNeededCodeableConcept": {"text": "pain"}},
        {"maxDosePerPeriod": {"numerator": amount(4, "g")}},
        {"additionalInstruction": [{"coding": [{"code": "311504000"}]}]},
    ],
)
def test_what_cannot_be_said_whole_refuses(members: dict[str, Any]) -> None:
    with pytest.raises(ValueMismatch):
        said(**members)


@pytest.mark.parametrize(
    "dosage",
    [
        {},
        {"text": " "},
        repeated(frequency=2, period=1, periodUnit="d"),
        {"doseAndRate": [{"doseQuantity": {"unit": "mg"}}]},
    ],
)
def test_without_a_dose_there_is_nothing_to_print(dosage: dict[str, Any]) -> None:
    for value in (dosage, [dose(), {**dosage, "sequence": None}]):
        with pytest.raises(ValueAbsent):
            format_value("dosage", value, EN)


def test_an_order_of_steps_that_nobody_can_tell_refuses() -> None:
    with pytest.raises(ValueMismatch):
        format_value("dosage", [{**dose(), "sequence": 2}, dose("2")], EN)
    first, second = {**dose("2"), "sequence": 1}, {**dose("3"), "sequence": 1}
    assert bare(format_value("dosage", [second, first], EN)) == "3 tablets\nand also: 2 tablets"


TWICE = repeated(frequency=2, period=1, periodUnit="d")


@pytest.mark.parametrize(
    ("words", "members"),
    [
        ("2 tablets a day", {}),
        ("two tablets", {}),
        ("دو تابلیت", {}),
        ("دوه ټابلېټه", {}),
        ("۲ تابلیت", {}),
        ("1 tablet in the morning and 2 tablets at night", {}),
        ("1 to 2 tablets", {}),
        ("500 mcg", {"doseAndRate": [{"doseQuantity": amount(500, "mg")}]}),
        ("0.5 mg", {"doseAndRate": [{"doseQuantity": {"value": 5, "code": "mg"}}]}),
        ("1 tablet three times a day", TWICE),
        ("1 tablet 3x daily", TWICE),
        ("1 tablet every 8 hours", TWICE),
        ("یک تابلیت روز سه بار", TWICE),
        ("یک تابلیت هر ۸ ساعت", TWICE),
        ("یو ټابلېټ په ورځ کې درې ځله", TWICE),
        ("once a day", {"timing": {"code": TID}}),
    ],
)
def test_words_that_say_another_dose_refuse(words: str, members: dict[str, Any]) -> None:
    for name in ("text", "patientInstruction"):
        with pytest.raises(ValueMismatch, match="words and codes agree"):
            said(**members, **{name: words})
    with pytest.raises(ValueMismatch, match="words and codes agree"):
        bare(format_value("dosage", [dose("1"), {**dose(), **members, "text": words}], EN))


@pytest.mark.parametrize(
    ("words", "members"),
    [
        ("1 tablet twice a day with meals, for 30 days", TWICE),
        ("one tablet every 12 hours with 200 ml of water", TWICE),
        ("1 tablet (500 mg) after meals", TWICE),
        ("1 tablet as needed, at most 8 tablets in 24 hours", {}),
        ("1 tablet, total 20 tablets", {}),
        ("یک تابلیت روز دو بار با غذا، برای ۳۰ روز", TWICE),
        ("یو ټابلېټ په ورځ کې دوه ځله", TWICE),
        ("0.5 g", {"doseAndRate": [{"doseQuantity": amount(500, "mg")}]}),
        ("1 or 2 tablets", {"doseAndRate": [{"doseRange": {"low": amount(1, "tablet"), "high": amount(2, "tablet")}}]}),
        ("every 6 hours", repeated(frequency=1, period=4, periodMax=6, periodUnit="h")),
        ("9" * 10_000 + " tablets", {}),
    ],
)  # fmt: skip
def test_words_that_say_the_same_or_more_are_printed(words: str, members: dict[str, Any]) -> None:
    assert bare(format_value("text", words, EN)) in said(**members, text=words)


@pytest.mark.parametrize("page_style", [EN, DARI, PASHTO], ids=lambda one: one.locale)
def test_every_word_of_a_locale_is_said_and_isolated(page_style: Any) -> None:
    """Each code of each table, in every locale: no brace is left, and every isolate is closed on its line."""
    everything = {
        **dose(),
        **repeated(dayOfWeek=list(DAYS), when=list(MOMENTS), frequency=5, period=1, periodUnit="d"),
        "asNeededBoolean": True,
        "text": "به آب 5 mL",
    }
    texts = [format_value("dosage", everything, page_style)]
    texts += [format_value("dosage", {**dose(), "route": {"coding": [{"code": code}]}}, page_style) for code in ROUTES]
    supply = {
        "initialFill": {"quantity": amount(10, "tablet"), "duration": amount(5, "d")},
        "dispenseInterval": {"value": 1, "code": "wk"},
        "numberOfRepeatsAllowed": 3,
        "quantity": amount(20, "tablet"),
        "performer": {"display": "Pharmacy 5"},
        "validityPeriod": {"end": "2026-12"},
    }
    texts.append(format_value("dispenseRequest", supply, page_style))
    for line in "\n".join(texts).split("\n"):
        assert "{" not in line
        assert "None" not in line
        depth = 0
        for character in line:
            depth += character in (LRI, RLI, FSI)
            depth -= character == PDI
            assert depth >= 0
        assert depth == 0


def test_the_words_of_every_locale_have_the_same_placeholders() -> None:
    assert set(DOSAGE_WORDS) == set(LOCALES)
    for words in DOSAGE_WORDS.values():
        for key, text in words.items():
            assert {name for name in ("n", "period") if f"{{{name}}}" in text} == DOSAGE_WORD_KEYS[key], key


@pytest.mark.parametrize(
    "request_",
    [
        {"numberOfRepeatsAllowed": -1},
        {"numberOfRepeatsAllowed": True},
        {"numberOfRepeatsAllowed": Decimal("1.5")},
        {"_numberOfRepeatsAllowed": {"extension": []}},
        {"modifierExtension": [{"url": "urn:x"}], "quantity": amount(1, "tablet")},
        {"dispenserInstruction": [{"text": "x"}], "quantity": amount(1, "tablet")},  # A member of R5.
        {"validityPeriod": {"end": "soon"}},
        {"quantity": "60 tablets"},
    ],
)
def test_a_request_to_dispense_that_cannot_be_said_refuses(request_: dict[str, Any]) -> None:
    with pytest.raises(ValueMismatch):
        format_value("dispenseRequest", request_, EN)


def test_nothing_to_dispense_is_nothing() -> None:
    for empty in ({}, {"performer": {"reference": "Organization/1"}}, {"quantity": {"unit": "tablet"}}):
        with pytest.raises(ValueAbsent):
            format_value("dispenseRequest", empty, EN)
