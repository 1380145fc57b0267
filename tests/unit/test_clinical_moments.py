"""When something of the record was, as a page says and sorts it: in the tenant's zone and by time, not by its text."""

from __future__ import annotations

import time
from typing import Any

import pytest

from form_rows import bare, dose, laid_out, order, prescribed, rows, words
from platform_pages import FORMS, bare_resources

NOT_RECORDED = "Not recorded"


def observation(name: str, value: Any = 1, unit: str = "mmol/L", **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": name},
        "valueQuantity": {"value": value, "unit": unit},
        **members,
    }


# --- The last weight -------------------------------------------------------------------------------------------------

FRESH = observation("fresh", 9, "kg", effectiveDateTime="2026-09-14")


@pytest.mark.parametrize(
    ("other", "last"),
    [
        ({}, "9 kg"),
        ({"effectivePeriod": {"start": "2020-01-01", "end": "2020-01-02"}}, "9 kg"),
        ({"effectiveInstant": "2020-01-01T10:00:00Z"}, "9 kg"),
        ({"effectivePeriod": {"start": "2026-09-15"}}, "70 kg"),
        ({"effectiveInstant": "2026-09-15T10:00:00Z"}, "70 kg"),
        ({"effectiveDateTime": "2026-09-14T08:00:00+04:30"}, "70 kg"),
        ({"issued": "2026-09-16T10:00:00Z"}, "70 kg"),
    ],
)
def test_the_last_weight_is_the_newest_that_has_a_date(other: dict[str, Any], last: str) -> None:
    """An undated weight of an adult was printed as the last one of a child."""
    for weights in ([FRESH, observation("w", 70, "kg", **other)], [observation("w", 70, "kg", **other), FRESH]):
        found = prescribed(order(dosageInstruction=[dose()]), weights=weights)
        fields = _fields(laid_out("outpatient-prescription", found, {}))
        assert fields["Weight, last recorded"] == last
        assert fields["Weighed on"] != NOT_RECORDED


def test_a_weight_without_a_date_prints_where_none_has_one() -> None:
    found = prescribed(order(dosageInstruction=[dose()]), weights=[observation("w", 70, "kg")])
    fields = _fields(laid_out("outpatient-prescription", found, {}))
    assert (fields["Weight, last recorded"], fields["Weighed on"]) == ("70 kg", NOT_RECORDED)


def _fields(model: Any) -> dict[str, str]:
    return {
        field["label"]: bare(field["value"])
        for section in model["sections"]
        if section["type"] == "fieldGrid"
        for field in section["fields"]
    }


# --- Results of one day ----------------------------------------------------------------------------------------------

#: Two troponins of one morning: the later one has the smaller text.
EARLY, LATE = "2026-03-20T08:00:00+04:30", "2026-03-20T04:50:00Z"
SHOWN = {EARLY: "20 Mar 2026 08:00 +04:30", LATE: "20 Mar 2026 09:20 +04:30"}


def reported(*results: dict[str, Any], **inputs: str) -> Any:
    found = {**bare_resources(FORMS["laboratory-report"]), "results": list(results)}
    return laid_out("laboratory-report", found, inputs)


def summarised(*results: dict[str, Any]) -> Any:
    found = {**bare_resources(FORMS["discharge-summary"]), "results": list(results)}
    said = {"admittedOn": "2026-03-20", "dischargedOn": "2026-03-22", "diagnosis": "Infarction"}
    return laid_out("discharge-summary", found, said)


HIGH = {"interpretation": [{"coding": [{"code": "H"}]}]}


@pytest.mark.parametrize(("page", "title"), [(reported, "Results"), (summarised, "Laboratory results marked abnormal")])
def test_results_of_one_day_stand_in_their_order_with_their_times(page: Any, title: str) -> None:
    results = [
        observation("undated", **HIGH),
        observation("early", effectiveDateTime=EARLY, **HIGH),
        observation("day", effectiveDateTime="2026-03-20", **HIGH),
        observation("late", effectiveDateTime=LATE, **HIGH),
    ]
    for recorded in (results, results[::-1]):
        told = [(row[0], row[-1]) for row in rows(page(*recorded), title)]
        assert told == [
            ("late", SHOWN[LATE]),
            ("early", SHOWN[EARLY]),
            ("day", "20 Mar 2026"),
            ("undated", NOT_RECORDED),
        ]


@pytest.mark.parametrize("page", [reported, summarised])
def test_parts_of_panels_of_one_day_stand_in_their_order(page: Any) -> None:
    def panel(name: str, at: str) -> dict[str, Any]:
        part = {"code": {"text": "Troponin"}, "valueInteger": 1, **HIGH}
        return {**observation(name, effectiveDateTime=at), "component": [part]}

    found = rows(page(panel("early", EARLY), panel("late", LATE)), "Parts of the results above")
    assert [row[0] for row in found] == [f"late, {SHOWN[LATE]}", f"early, {SHOWN[EARLY]}"]


def test_the_newest_vital_signs_stand_first_whatever_their_offsets() -> None:
    visit = {"resourceType": "Encounter", "id": "v", "status": "in-progress"}
    vitals = [observation("early", effectiveDateTime=EARLY), observation("late", effectiveDateTime=LATE)]
    found = {**bare_resources(FORMS["referral-letter"]), "encounter": visit, "vitals": vitals}
    model = laid_out("referral-letter", found, {"referredTo": "X", "reason": "Y"})
    assert [row[0] for row in rows(model, "Vital signs of this visit")] == ["late", "early"]


def test_vaccines_of_one_day_stand_in_their_order() -> None:
    given = [
        {"resourceType": "Immunization", "id": at, "status": "completed", "vaccineCode": {"text": name}, **when}
        for name, at, when in (
            ("OPV", "late", {"occurrenceDateTime": LATE}),
            ("BCG", "early", {"occurrenceDateTime": EARLY}),
        )
    ]
    found = {**bare_resources(FORMS["immunization-card"]), "immunizations": given}
    assert [row[0] for row in rows(laid_out("immunization-card", found, {}), "Vaccines given")] == ["BCG", "OPV"]


# --- Results of some days --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "inputs", "listed"),
    [
        # 21 March in Kabul, which the column prints.
        ({"effectiveDateTime": "2026-03-20T20:30:00Z"}, {"from": "2026-03-21"}, True),
        ({"effectiveDateTime": "2026-03-20T20:30:00Z"}, {"until": "2026-03-20"}, False),
        ({"effectiveDateTime": "2026-03-20T20:30:00Z"}, {"from": "2026-03-22"}, False),
        ({"effectiveDateTime": "2026-03-20T20:30:00Z"}, {"from": "2026-03-21", "until": "2026-03-21"}, True),
        ({"effectiveInstant": "2026-03-20T20:30:00.5Z"}, {"from": "2026-03-21"}, True),
        ({"effectivePeriod": {"start": "2026-03-20T20:30:00Z"}}, {"from": "2026-03-21"}, True),
        ({"issued": "2026-03-20T20:30:00Z"}, {"from": "2026-03-21"}, True),
        ({"effectiveDateTime": "2026-03-20"}, {"from": "2026-03-21"}, False),
        ({"effectiveDateTime": "2026-03-21"}, {"from": "2026-03-21", "until": "2026-03-21"}, True),
        # What may be of these days is not left out in silence.
        ({}, {"from": "2026-03-21", "until": "2026-03-21"}, True),
        ({"effectiveDateTime": "2026-03"}, {"from": "2026-03-21"}, True),
        ({"effectiveDateTime": "2026-03"}, {"until": "2026-03-02"}, True),
        ({"effectiveDateTime": "2026"}, {"from": "2026-03-21", "until": "2026-03-22"}, True),
        ({"effectiveDateTime": "2026-02"}, {"from": "2026-03-21"}, False),
        ({"effectiveDateTime": "2025"}, {"from": "2026-03-21"}, False),
        ({"effectiveDateTime": "2026-04"}, {"until": "2026-03-21"}, False),
    ],
)
def test_results_of_some_days_are_those_of_the_tenants_days(
    members: dict[str, Any], inputs: dict[str, str], listed: bool
) -> None:
    part = {"component": [{"code": {"text": "Part"}, "valueInteger": 1}]}
    # A report without any result refuses.
    another = observation("of this year", effectiveDateTime="2026")
    model = reported(observation("Potassium", 6, **members, **part), another, **inputs)
    assert ("Potassium" in [row[0] for row in rows(model, "Results")]) is listed
    assert ("Part" in words(model)) is listed


def test_a_conclusion_of_another_day_is_left_out_and_an_undated_one_is_not() -> None:
    def report(name: str, **members: Any) -> dict[str, Any]:
        told = {"code": {"text": name}, "conclusion": name, "status": "final"}
        return {"resourceType": "DiagnosticReport", "id": name, **told, **members}

    reports = [
        report("undated"),
        report("local", effectiveDateTime="2026-03-20T20:30:00Z"),
        report("before", effectiveDateTime="2026-03-20T10:30:00Z"),
    ]
    found = {**bare_resources(FORMS["laboratory-report"]), "results": [observation("x")], "reports": reports}
    model = laid_out("laboratory-report", found, {"from": "2026-03-21"})
    assert [row[0] for row in rows(model, "Conclusions")] == ["undated", "local"]


def test_a_long_report_of_some_days_is_laid_out_in_time() -> None:
    """Each binding has 0.3 s of the processor; what is sorted is 1,000 results."""
    results = [
        observation(f"o{number}", effectiveDateTime=f"2026-03-{number % 28 + 1:02}T{number % 24:02}:30:00+04:30")
        for number in range(1000)
    ]
    began = time.process_time()
    model = reported(*results, **{"from": "2026-03-02"})
    assert len(rows(model, "Results")) == 1000 - 36
    assert time.process_time() - began < 5
