"""Amounts of medicines: units in words, long numbers apart, and nothing that no one can give."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from document_service.errors import BindingFailed
from document_service.formatting import Style, ValueMismatch, format_value, style
from form_rows import bare, dose, laid_out, order, prescribed, words

EN = style("en", time_zone="Asia/Kabul")
DARI = style("fa-AF", time_zone="Asia/Kabul", digits="native")


def amount(value: Any, unit: str, **members: Any) -> dict[str, Any]:
    return {"value": value, "unit": unit, **members}


def said(page_style: Style = EN, **members: Any) -> str:
    return bare(format_value("dosage", {**dose(), **members}, page_style))


def dosed(quantity: dict[str, Any], page_style: Style = EN) -> str:
    return said(page_style, doseAndRate=[{"doseQuantity": quantity}])


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (amount(10, "U"), "10 units"),
        ({"value": 10, "code": "U", "system": "http://unitsofmeasure.org"}, "10 units"),
        ({"value": 10, "code": "[iU]", "system": "http://unitsofmeasure.org"}, "10 international units"),
        (amount(10, "IU"), "10 international units"),
        (amount(5, "IU/kg"), "5 international units/kg"),
        (amount(10, "units"), "10 units"),
        (amount(5000, "U"), "5000 units"),
        (amount(50000, "U"), "50 000 units"),
        (amount(1200000, "U"), "1 200 000 units"),
        (amount(Decimal("12345.678901"), "mg"), "12 345.678901 mg"),
        (amount(Decimal("0.123456"), "mg"), "0.123456 mg"),
        (amount(Decimal("1.10"), "mL"), "1.10 mL"),
    ],
)
def test_units_are_words_and_thousands_stand_apart(quantity: dict[str, Any], expected: str) -> None:
    assert dosed(quantity) == expected


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (amount(8, "tablet"), "8 tablets"),
        (amount(1, "tablet"), "1 tablet"),
        (amount(1, "tablets"), "1 tablet"),
        (amount(Decimal("0.5"), "tablet"), "0.5 tablet"),
        (amount(Decimal("1.5"), "tablet"), "1.5 tablets"),
        (amount(Decimal("1.0"), "Tablet"), "1.0 Tablet"),
        (amount(2, "TABLET"), "2 TABLETS"),
        (amount(2, "tablet(s)"), "2 tablets"),
        (amount(2, "film-coated tablet"), "2 film-coated tablets"),
        (amount(2, "suppository"), "2 suppositories"),
        (amount(2, "patch"), "2 patches"),
        (amount(2, "drops/day"), "2 drops/day"),
        (amount(1, "U"), "1 unit"),
        (amount(1, "IU"), "1 international unit"),
        ({"value": 2, "code": "{tbl}", "system": "http://unitsofmeasure.org"}, "2 tablets"),
        ({"value": 1, "code": "[drp]", "system": "http://unitsofmeasure.org"}, "1 drop"),
        ({"value": 2, "code": "[drp]", "system": "http://unitsofmeasure.org"}, "2 drops"),
        (amount(2, "tab"), "2 tab"),
        (amount(2, "تابلیت"), "2 تابلیت"),
        (amount(2, "ټابلېټه"), "2 ټابلېټه"),
        (amount(2, "mg"), "2 mg"),
    ],
)
def test_what_is_counted_stands_in_its_number(quantity: dict[str, Any], expected: str) -> None:
    assert dosed(quantity) == expected


def test_both_ends_of_a_range_share_the_form_of_the_larger() -> None:
    for low, high, expected in (("1", "2", "1–2 tablets"), ("0.5", "1", "0.5–1 tablet")):
        span = {"low": amount(Decimal(low), "tablet"), "high": amount(Decimal(high), "tablet")}
        assert said(doseAndRate=[{"doseRange": span}]) == expected


def test_units_in_dari_and_of_a_range_and_a_rate() -> None:
    assert dosed(amount(50000, "U"), DARI) == "۵۰ ۰۰۰ یونت"
    span = {"low": amount(4, "U"), "high": amount(6, "U")}
    assert said(doseAndRate=[{"doseRange": span}]) == "4–6 units"
    rate = {"numerator": amount(2, "U"), "denominator": amount(1, "h")}
    assert said(doseAndRate=[{"rateRatio": rate}]) == "at a rate of 2 units/1 h"
    supply = {"quantity": amount(10000, "IU")}
    assert bare(format_value("dispenseRequest", supply, EN)) == "10 000 international units"


def test_the_most_of_a_period_is_said_in_words() -> None:
    most = {"numerator": amount(8, "tablet"), "denominator": {"value": 1, "code": "d"}}
    assert said(maxDosePerPeriod=most) == "1 tablet · not more than 8 tablets in 1 day"
    assert "در ۱ روز نه بیشتر از ۸ tablet" in said(DARI, maxDosePerPeriod=most)
    per_weight = {"numerator": amount(8, "mg"), "denominator": amount(1, "kg")}
    assert said(maxDosePerPeriod=per_weight) == "1 tablet · not more than 8 mg/1 kg"


BACKWARDS = {"low": amount(2, "tablet"), "high": amount(1, "tablet")}


@pytest.mark.parametrize(
    "members",
    [
        {"doseAndRate": [{"doseQuantity": amount(0, "tablet")}]},
        {"doseAndRate": [{"doseQuantity": amount(-1, "tablet")}]},
        {"doseAndRate": [{"doseQuantity": amount(Decimal("0.00"), "mg")}]},
        {"doseAndRate": [{"doseRange": BACKWARDS}]},
        {"doseAndRate": [{"doseRange": {"low": amount(1, "g"), "high": amount(500, "mg")}}]},
        {"doseAndRate": [{"doseRange": {"low": amount(0, "mg"), "high": amount(5, "mg")}}]},
        {"doseAndRate": [{"rateQuantity": amount(0, "mL/h")}]},
        {"doseAndRate": [{"rateRatio": {"numerator": amount(1, "mL"), "denominator": amount(0, "h")}}]},
        {"maxDosePerPeriod": {"numerator": amount(0, "g"), "denominator": amount(1, "d")}},
        {"maxDosePerPeriod": {"numerator": amount(4, "g"), "denominator": amount(0, "d")}},
        {"timing": {"repeat": {"frequency": 0, "period": 1, "periodUnit": "d"}}},
        {"timing": {"repeat": {"boundsPeriod": {"start": "2026-09-20", "end": "2026-09-14"}}}},
        {"timing": {"repeat": {"boundsPeriod": {"start": "2026-09", "end": "2026-08-31"}}}},
        {"timing": {"repeat": {"boundsPeriod": {"start": "2026-09-14T10:00:00Z", "end": "2026-09-14T09:00:00Z"}}}},
        {"timing": {"repeat": {"boundsDuration": amount(0, "d")}}},
        {"timing": {"repeat": {"boundsRange": {"low": amount(7, "d"), "high": amount(5, "d")}}}},
    ],
)
def test_what_nobody_can_give_refuses(members: dict[str, Any]) -> None:
    with pytest.raises(ValueMismatch):
        said(**members)


def test_bounds_of_one_day_and_of_different_precision_are_possible() -> None:
    for start, end in (("2026-09-14", "2026-09-14"), ("2026-09-14", "2026-09"), ("2026-09-14T22:00:00Z", "2026-09-15")):
        assert said(timing={"repeat": {"boundsPeriod": {"start": start, "end": end}}})


def test_a_prescription_that_ran_out_says_so_above_everything() -> None:
    supply = {
        "quantity": amount(60, "tablet"),
        "validityPeriod": {"start": "2026-09-14", "end": "2026-11-27"},
    }

    def at(moment: datetime, locale: str = "en") -> str:
        page_style = style(locale, time_zone="Asia/Kabul", issued=moment)
        return bare(format_value("dispenseRequest", supply, page_style))

    # The day in Kabul ends at 19:30 UTC.
    assert (
        at(datetime(2026, 11, 27, 19, 29, tzinfo=UTC)) == "60 tablets\nvalid from 14 Sep 2026\nvalid until 27 Nov 2026"
    )
    late = datetime(2026, 11, 27, 19, 31, tzinfo=UTC)
    assert at(late) == "NO LONGER VALID, ended: 27 Nov 2026\n60 tablets"
    assert at(late, "fa-AF").startswith("دیگر اعتبار ندارد")
    with pytest.raises(ValueMismatch):
        format_value("dispenseRequest", {"validityPeriod": {"start": "2026-12-02", "end": "2026-12-01"}}, EN)


def test_a_form_says_it_by_its_own_moment_of_issue() -> None:
    ended = order(dosageInstruction=[dose()], dispenseRequest={"validityPeriod": {"end": "2020-01-31"}})
    assert "NO LONGER VALID" in words(laid_out("outpatient-prescription", prescribed(ended), {}))


def test_a_refusal_names_the_row() -> None:
    good, bad = order(dosageInstruction=[dose()]), order(id="two", dosageInstruction=[dose("0")])
    with pytest.raises(BindingFailed) as caught:
        laid_out("outpatient-prescription", prescribed(good, bad), {})
    assert caught.value.extra == {"binding": "orders[1].dose"}
    assert "Amoxicillin" not in str(caught.value.detail)


@pytest.mark.parametrize(("page_style", "limit"), [(EN, "not more than"), (DARI, "نه بیشتر از")])
def test_no_line_ends_behind_the_not_of_a_limit(page_style: Style, limit: str) -> None:
    """On a picture "not" ended a line, and the next one began "more than 30 mL"."""
    most = {**dose(), "maxDosePerAdministration": amount(30, "mL")}
    assert limit.replace(" ", "\u00a0") in format_value("dosage", most, page_style)
