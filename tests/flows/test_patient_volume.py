"""Many made-up patients through every platform form: each document is complete, or refused with a named reason.

Twenty-five patients in a test run; ``PATIENTS=500 pytest -s tests/flows/test_patient_volume.py`` is the full one, whose
table stands in docs/patients-through-forms.md. Two patients of five have something wrong or unusual
in their records, so that refusals are exercised as much as documents.
"""

from __future__ import annotations

import io
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pdfplumber
import pytest

from document_service import platform_forms, trials
from document_service.definitions import read_json
from document_service.errors import RenderFailed
from document_service.synthetic import SyntheticFhirServer, SyntheticPatient
from document_service.synthetic.cohort import cohort
from running_service import Api, Service

PATIENTS = int(os.environ.get("PATIENTS", "25"))
SEED = 20261122

#: One document in so many is opened and read: a fifth of a second each, beside a render of a fiftieth.
OPENED = 5 if PATIENTS < 100 else 25

#: What a FHIR server or a machine under the load of other tests gives as its reason.
MAY_PASS = ("FHIR_UNAVAILABLE", "TYPESETTING_BUSY", "STORE_UNAVAILABLE")

#: Items of one bulk request, so that each is answered in time on a machine with other work.
AT_ONCE = 50

BULK = "/v1/documents/render-jobs/bulk"
Record = list[dict[str, Any]]


def _patient(record: Record) -> dict[str, Any]:
    return next(one for one in record if one["resourceType"] == "Patient")


def _orders(record: Record) -> Record:
    return [one for one in record if one["resourceType"] == "ServiceRequest"]


def _without_birth_date(record: Record) -> None:
    del _patient(record)["birthDate"]


def _text_for_a_name(record: Record) -> None:
    name = _patient(record)["name"][0]
    _patient(record)["name"] = [{"text": f"{' '.join(name['given'])} {name['family']}"}]


def _inactive(record: Record) -> None:
    _patient(record)["active"] = False


def _merged_away(record: Record) -> None:
    _patient(record)["link"] = [{"other": {"reference": "Patient/somebody-else"}, "type": "replaced-by"}]


def _emoji(record: Record) -> None:
    _patient(record)["name"][0]["family"] += " \U0001f642"


def _override(record: Record) -> None:
    """A right-to-left override in the name: removed before printing, so the document is complete."""
    _patient(record)["name"][0]["family"] = "\u202e" + _patient(record)["name"][0]["family"]


def _unknown_modifier(record: Record) -> None:
    _orders(record)[0]["modifierExtension"] = [{"url": "https://example.org/never", "valueBoolean": True}]


def _mistaken_orders(record: Record) -> None:
    for order in _orders(record):
        order["status"] = "entered-in-error"


#: What is wrong with the record of which patient, out of every twenty.
DISTURBED: dict[int, Callable[[Record], None]] = {
    1: _without_birth_date,
    3: _text_for_a_name,
    5: _inactive,
    7: _merged_away,
    9: _emoji,
    11: _override,
    13: _unknown_modifier,
    15: _mistaken_orders,
}


@dataclass(frozen=True)
class Subject:
    """A patient of the run, and the name of what is wrong with the record."""

    patient: SyntheticPatient
    fault: str | None


def _cohort() -> tuple[list[Subject], Record]:
    """Patients of every profile, and all of their records, some of them spoilt."""
    patients, records = cohort(PATIENTS, SEED)
    of_patient: dict[str, Record] = {patient.id: [] for patient in patients}
    for one in records:
        about = one["id"] if one["resourceType"] == "Patient" else one.get("subject", {}).get("reference", "")
        of_patient.get(about.removeprefix("Patient/"), []).append(one)
    subjects = []
    for number, patient in enumerate(patients):
        disturb = DISTURBED.get(number % 20)
        if disturb is not None:
            disturb(of_patient[patient.id])
        subjects.append(Subject(patient, None if disturb is None else disturb.__name__.strip("_")))
    return subjects, records


@pytest.fixture(scope="module")
def clinic() -> Iterator[tuple[str, list[Subject]]]:
    """A FHIR server of its own, filled with the cohort."""
    subjects, records = _cohort()
    with SyntheticFhirServer(generated=0) as server:
        server.load(records)
        yield server.base_url, subjects


def _inputs(form: platform_forms.PlatformForm, definition: Any, locale: str) -> dict[str, Any]:
    """Made-up inputs; a report is asked for without its days, on which this cohort has no results."""
    inputs = dict(trials.sample_subject(definition, locale).inputs)
    if form.key == "laboratory-report":
        for name in ("from", "until"):
            inputs.pop(name, None)
    return inputs


def _ask(api: Api, form: platform_forms.PlatformForm, place: int, subjects: list[Subject]) -> dict[str, Subject]:
    """Ask in bulk for the form of every patient, in the form's languages by turns; subjects by job."""
    definition = read_json(form.definition)
    asked: dict[str, Subject] = {}
    for turn, locale in enumerate(definition["locales"]):
        here = [s for n, s in enumerate(subjects) if (n + place) % len(definition["locales"]) == turn]
        items = [
            {
                "clientMutationId": str(uuid.uuid4()),
                "patientId": subject.patient.id,
                # By turns for one visit and for the whole record: their forms have different things to show.
                "encounterId": subject.patient.encounter_id if number % 2 else None,
            }
            for number, subject in enumerate(here)
        ]
        body = {
            "templateVersionId": api.platform_version(form.key),
            "locale": locale,
            "inputs": _inputs(form, definition, locale),
            "requestedAt": datetime.now(UTC).isoformat(),
        }
        for start in range(0, len(items), AT_ONCE):
            part = items[start : start + AT_ONCE]
            answer = api.post(BULK, json={**body, "items": part})
            assert answer.status_code == 202, answer.text
            told = answer.json()["items"]
            assert {item["status"] for item in told} == {202}, told
            for item, subject in zip(told, here[start : start + AT_ONCE], strict=True):
                asked[item["job"]["id"]] = subject
    return asked


def _wait(api: Api, jobs: list[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60 + 2 * len(jobs)
    done = []
    for one in jobs:
        job = api.wait(one, max(1, deadline - time.monotonic()))
        while job["status"] == "failed" and job["error"]["code"] in MAY_PASS and time.monotonic() < deadline:
            # As a person does who reads "try again later".
            assert api.post(f"/v1/documents/render-jobs/{one}/retry").status_code == 202
            job = api.wait(one, max(1, deadline - time.monotonic()))
        done.append(job)
    return done


def _may_be_refused_for() -> set[str]:
    def below(kind: type[RenderFailed]) -> set[str]:
        return {kind.code}.union(*(below(each) for each in kind.__subclasses__()))

    # The class itself is the name for what nobody foresaw, which is no reason that helps anybody.
    return below(RenderFailed) - {RenderFailed.code}


def _is_complete(api: Api, document_id: str, subject: Subject) -> None:
    shown = api.get(f"/v1/documents/{document_id}").json()
    content = api.content(document_id)
    assert content.status_code == 200
    with pdfplumber.open(io.BytesIO(content.content)) as pdf:
        assert len(pdf.pages) == shown["pages"]
        for page in pdf.pages:
            text = page.extract_text()
            assert shown["number"] in text
            assert subject.patient.identifier in text
            assert not {"None", "null", "undefined", "NaN"} & set(text.split())


def _table(outcomes: dict[str, Counter[str]]) -> str:
    lines = ["| Form | Outcome | Documents |", "|---|---|---|"]
    for form, counted in outcomes.items():
        lines += [f"| {form} | {outcome} | {number} |" for outcome, number in counted.most_common()]
    return "\n".join(lines)


def test_each_document_is_complete_or_refused_with_a_named_reason(
    service: Service, clinic: tuple[str, list[Subject]], record_property: Callable[[str, object], None]
) -> None:
    base_url, subjects = clinic
    allowed = _may_be_refused_for()
    outcomes: dict[str, Counter[str]] = {}
    began = time.monotonic()
    with service.caller(service.create_tenant(base_url)) as api:
        for place, form in enumerate(platform_forms.catalogue()):
            asked = _ask(api, form, place, subjects)
            counted = outcomes.setdefault(form.key, Counter())
            for number, job in enumerate(_wait(api, list(asked))):
                subject = asked[job["id"]]
                outcome = "complete" if job["status"] == "completed" else job["error"]["code"]
                counted[f"{outcome}{f' ({subject.fault})' if subject.fault else ''}"] += 1
                assert outcome == "complete" or outcome in allowed, (form.key, subject, job)
                if outcome == "complete":
                    assert subject.fault not in ("inactive", "merged_away", "emoji"), (form.key, subject, job)
                    if number % OPENED == 0:
                        _is_complete(api, job["documentId"], subject)
                else:
                    assert job["error"]["title"]
            print(f"\n{form.key}: {dict(counted)} after {time.monotonic() - began:.0f} s", flush=True)
    total = sum(sum(counted.values()) for counted in outcomes.values())
    record_property("documents", total)
    assert total == PATIENTS * len(platform_forms.catalogue())
    assert sum(counted["complete"] for counted in outcomes.values()) > 0
    print(f"\n{_table(outcomes)}\n\n{total} in {time.monotonic() - began:.0f} s")
