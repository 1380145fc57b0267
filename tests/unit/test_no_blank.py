"""Many made-up patients laid out on every platform form: nothing that was laid out is blank, in any language.

A blank where a dose belongs is read as "as usual". Twenty patients in a test run; ``PATIENTS=500 pytest -s`` on this
file is the run of docs/patients-through-forms.md. carebundle's medicines have no dosage, so each order is given one of
``DOSAGES`` by turns: those that can be said, those that refuse, and none.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from document_service.errors import BindingFailed, BindingRequired
from document_service.exact_json import loads_exact
from document_service.sample_patients import SampleRecord
from document_service.synthetic.cohort import cohort
from form_rows import bare, definition, dose, laid_out
from platform_pages import FORMS, LOCALES, full_inputs

PATIENTS = int(os.environ.get("PATIENTS", "20"))
SEED = 20261128

DAILY = {"timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}}
RATE = {"numerator": {"value": 80, "unit": "mL"}, "denominator": {"value": 1, "unit": "h"}}
RANGE = {"low": {"value": 1, "unit": "puff"}, "high": {"value": 2, "unit": "puff"}}
#: What orders hold for their dosage, and whether a form that needs it is complete.
DOSAGES: tuple[tuple[list[dict[str, Any]], bool], ...] = (
    ([{**dose(), **DAILY, "route": {"coding": [{"code": "PO"}]}}], True),
    ([{"text": "1 spoon at night"}], True),
    ([{**dose("2"), "sequence": 1}, {**dose("0.5"), "sequence": 2, **DAILY}], True),
    ([{"doseAndRate": [{"rateRatio": RATE}], "timing": {"repeat": {"duration": 30, "durationUnit": "min"}}}], True),
    ([{"doseAndRate": [{"doseRange": RANGE}], "asNeededCodeableConcept": {"text": "wheeze"}, "text": "puffs"}], True),
    ([{**dose("1.50", "mL"), "maxDosePerPeriod": RATE, "patientInstruction": "Shake well."}], True),
    ([{**dose(), **DAILY, "text": "2 tablets once a day"}], False),
    ([{**dose(), **DAILY, "text": "\u202e"}], True),
    ([DAILY], False),
    ([{"doseAndRate": [{"doseQuantity": {"unit": "mg"}}], "text": " "}], False),
    ([{**dose(), "asNeededFor": [{"text": "pain"}]}], False),
    ([], False),
)
DISPENSED: tuple[dict[str, Any] | None, ...] = (
    {"quantity": {"value": Decimal("60"), "unit": "tablet"}, "numberOfRepeatsAllowed": 2},
    {"validityPeriod": {"end": "2026-12-14"}, "numberOfRepeatsAllowed": 0},
    {"quantity": {"unit": "tablet"}},
    None,
)

Said = Iterator[tuple[str, str]]


def said(model: Any) -> Said:
    """Every place of a page where something is said, and what is said there."""
    yield "title", model["title"]
    yield "patient", model["identity"]["patient"]
    yield from model["identity"]["items"]
    for section in model["sections"]:
        for field in section.get("fields", ()):
            yield field["label"], field["value"]
        for number, row in enumerate(section.get("rows", ()) if section["type"] == "table" else ()):
            for column, cell in zip(section["columns"], row, strict=True):
                yield f"{section['title']}/{number}/{column['label']}", cell
        if section["type"] == "table" and not section["rows"]:
            yield f"{section['title']} when empty", section["empty"]
        for member in ("items", "lines"):
            for item in section.get(member, ()):
                yield section["type"], item if isinstance(item, str) else item["text"]


def records() -> Iterator[tuple[SampleRecord, bool]]:
    """Each patient's record, and whether all of its orders have a dose that can be said."""
    patients, generated = cohort(PATIENTS, SEED)
    resources = loads_exact(json.dumps(generated))
    # A full collection of 500 records takes longer than a binding may.
    gc.freeze()
    dosages, dispensed = itertools.cycle(DOSAGES), itertools.cycle(DISPENSED)
    for patient in patients:
        about = f"Patient/{patient.id}"
        own = [
            one
            for one in resources
            if (one.get("subject") or one.get("patient") or {}).get("reference") == about or one["id"] == patient.id
        ]
        complete, orders = True, [one for one in own if one["resourceType"] == "MedicationRequest"]
        for one in orders:
            one["dosageInstruction"], can_be_said = next(dosages)
            request = next(dispensed)
            if request is not None:
                one["dispenseRequest"] = request
            complete = complete and can_be_said
        yield SampleRecord(tuple(own)), complete


def inputs(key: str, locale: str) -> dict[str, Any]:
    """Everything that may be typed, but for a day on which this cohort has no results."""
    typed = full_inputs(key, locale)
    return {name: value for name, value in typed.items() if (key, name) != ("laboratory-report", "from")}


def test_nothing_on_a_page_is_blank() -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    places = 0
    for record, complete in records():
        for key, locale in itertools.product(FORMS, LOCALES):
            context = definition(key)["context"]
            try:
                model = laid_out(key, record.fill(context).resources, inputs(key, locale), locale)
            except (BindingRequired, BindingFailed) as refusal:
                # A refusal without the name of its binding is an error of this test: a KeyError.
                outcomes[key, f"{refusal.code} {refusal.extra['binding']}"] += 1
                continue
            outcomes[key, "complete"] += 1
            if key == "outpatient-prescription":
                assert complete, "a dosage that cannot be said was printed"
            for place, text in said(model):
                places += 1
                assert bare(text).strip(" \n\u00a0·،,:"), (key, locale, place)
                assert not {"None", "null", "nan"} & set(bare(text).replace("None recorded", "").split()), (
                    key,
                    locale,
                    place,
                )
                assert "{" not in text, (key, locale, place)
    for (key, outcome), number in sorted(outcomes.items()):
        print(f"{key:28} {outcome:40} {number}")
    print(f"{PATIENTS} patients, {sum(outcomes.values())} pages, {places} places, none blank")
    assert outcomes["outpatient-prescription", "complete"]
    assert any(key == "outpatient-prescription" and "].dose" in outcome for key, outcome in outcomes)
