"""Documents are found by patient, encounter, category, status and date, each alone and together (issue 5)."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from document_acts import made, supersede, void
from raw_database import connected
from running_service import Api, Service, request_for

PATIENT, OTHER = "demo-patient-noorzai", "demo-patient-rahimi"


@pytest.fixture(scope="module")
def searcher(service: Service, fhir_url: str) -> Iterator[Api]:
    with service.caller(service.create_tenant(fhir_url)) as caller:
        yield caller


@pytest.fixture(scope="module")
def shelf(service: Service, searcher: Api) -> list[dict[str, Any]]:
    """Nine documents of two patients, a day apart, of two categories and every status."""
    kept = [made(searcher, patient)["id"] for patient in (PATIENT, OTHER, *[PATIENT] * 5)]
    consent = searcher.platform_version("sick-leave-certificate")
    inputs = {"from": "2026-09-18", "until": "2026-09-20"}
    for patient in (PATIENT, OTHER):
        job = searcher.render(request_for(consent, patient=patient, inputs=inputs))
        assert job["status"] == "completed", job
        kept.append(job["documentId"])
    assert supersede(searcher, kept[2], kept[3]).status_code == 200
    assert void(searcher, kept[4]).status_code == 200
    created = asyncio.run(_spread(service, kept))
    shown = [searcher.get(f"/v1/documents/{document}").json() for document in kept]
    return [{**document, "createdAt": created[document["id"]]} for document in shown]


async def _spread(service: Service, kept: list[str]) -> dict[str, datetime]:
    """Put a day between each two of them, and one into another visit; when each was made."""
    async with connected(service, role=None) as owner:
        for days, document in enumerate(reversed(kept)):
            await owner.execute(
                "UPDATE documents SET created_at = created_at - make_interval(days => $2) WHERE id = $1", document, days
            )
        await owner.execute("UPDATE documents SET encounter_id = 'another-visit' WHERE id = $1", kept[5])
        rows = await owner.fetch("SELECT id, created_at FROM documents WHERE id = ANY ($1)", kept)
    return {row["id"]: row["created_at"] for row in rows}


def listed(api: Api, **filters: Any) -> list[str]:
    """Every page of two."""
    found: list[str] = []
    cursor = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = api.get("/v1/documents", params={**filters, **more, "limit": 2}).json()
        assert len(page["items"]) <= 2
        found += [document["id"] for document in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            return found


def test_every_filter_and_every_two_of_them(searcher: Api, shelf: list[dict[str, Any]]) -> None:
    assert {document["status"] for document in shelf} == {"current", "superseded", "entered-in-error"}
    assert len({document["category"] for document in shelf}) == 2
    middle: datetime = shelf[4]["createdAt"]
    exact = middle.isoformat().replace("+00:00", "Z")
    filters: list[tuple[str, str, Any]] = [
        *(
            ("encounterId", one, lambda d, one=one: d["encounterId"] == one)
            for one in ("another-visit", "demo-encounter-noorzai", "none")
        ),
        *(
            ("category", one, lambda d, one=one: d["category"] == one)
            for one in {d["category"] for d in shelf} | {"consent"}
        ),
        *(
            ("status", one, lambda d, one=one: d["status"] == one)
            for one in ("current", "superseded", "entered-in-error")
        ),
        ("since", exact, lambda d: d["createdAt"] >= middle),
        ("until", exact, lambda d: d["createdAt"] < middle),
    ]
    tried = 0
    for patient in (PATIENT, OTHER, "nobody"):
        of_patient = [document for document in shelf if document["patientId"] == patient]
        for chosen in itertools.chain([()], ([one] for one in filters), itertools.combinations(filters, 2)):
            if len({name for name, _, _ in chosen}) < len(chosen):
                continue
            expected = [d["id"] for d in of_patient if all(holds(d) for _, _, holds in chosen)]
            asked = {name: value for name, value, _ in chosen}
            assert listed(searcher, patientId=patient, **asked) == sorted(expected, reverse=True), asked
            tried += 1
    assert tried > 100


def test_a_day_is_found_by_its_bounds(searcher: Api, shelf: list[dict[str, Any]]) -> None:
    day: datetime = shelf[0]["createdAt"]
    bounds = {"since": day.isoformat(), "until": (day + timedelta(hours=1)).isoformat()}
    assert listed(searcher, patientId=PATIENT, **bounds) == [shelf[0]["id"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "gone"),
        ("category", "novel"),
        ("since", "yesterday"),
        ("until", "2026-13-01"),
        ("limit", "101"),
        ("cursor", "x"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused(searcher: Api, name: str, value: str) -> None:
    answer = searcher.get("/v1/documents", params={"patientId": PATIENT, name: value})
    assert answer.status_code == 400, answer.text
    assert name in answer.text


def test_without_a_patient_nothing_is_listed(searcher: Api) -> None:
    assert searcher.get("/v1/documents").status_code == 400


def test_a_cursor_that_nobody_gave_leaves_a_trace_all_the_same(searcher: Api, shelf: list[dict[str, Any]]) -> None:
    def last_search() -> str:
        events = searcher.get("/v1/audit-events", params={"action": "document.search", "limit": 1}).json()["items"]
        return str(events[0]["id"]) if events else ""

    before = last_search()
    cursor = base64.urlsafe_b64encode(b"after:zz_" + b"Z" * 26).decode().rstrip("=")
    found = searcher.get("/v1/documents", params={"patientId": PATIENT, "cursor": cursor}).json()["items"]
    assert found
    assert last_search() != before
