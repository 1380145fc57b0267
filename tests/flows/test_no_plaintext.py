"""No readable patient data in any file of the service, nor in its log, its metrics and its refusals (contract §2)."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pdfplumber
import pytest

from document_service.synthetic import SyntheticFhirServer
from raw_database import connected
from running_service import Api, Service, request_for

#: Words that occur nowhere else. The Dari name is what a search in ASCII alone would miss.
GIVEN, FAMILY, DARI = "Zarghunaqxv", "Wardakzulmaiqj", "ژاله‌بانو‌قیس"
PHONE, BIRTH = "0799 736 251", "1937-12-29"
MEDICAL_NUMBER = "MRN-QX-7730915"
REASON, TEST, REQUESTER = "haemoptysisqz since Nawruz", "Wuchereria-antigen-qz", "Dr Spozhmaiqw"
PATIENT = "planted-patient"

PLANTED = (GIVEN, FAMILY, DARI, PHONE, BIRTH, MEDICAL_NUMBER, REASON, TEST, REQUESTER, "qxstreet", "Mahramqy")


@dataclass(frozen=True)
class Planted:
    service: Service
    caller: Api
    answers: list[str]


def _resources() -> list[dict[str, Any]]:
    subject = {"reference": f"Patient/{PATIENT}"}
    return [
        {
            "resourceType": "Patient",
            "id": PATIENT,
            "identifier": [{"use": "official", "value": MEDICAL_NUMBER}],
            "name": [{"use": "official", "given": [GIVEN], "family": FAMILY}, {"use": "usual", "text": DARI}],
            "telecom": [{"system": "phone", "value": PHONE}],
            "address": [{"line": ["House 9, qxstreet"], "city": "Herat"}],
            "gender": "female",
            "birthDate": BIRTH,
        },
        {**_dari_patient(), "birthDate": BIRTH},
        {
            "resourceType": "Encounter",
            "id": PATIENT.replace("patient", "encounter"),
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": subject,
        },
        {
            "resourceType": "ServiceRequest",
            "id": "planted-order",
            "status": "active",
            "intent": "order",
            "subject": subject,
            "encounter": {"reference": f"Encounter/{PATIENT.replace('patient', 'encounter')}"},
            "code": {"text": TEST},
            "reasonCode": [{"text": REASON}],
        },
    ]


def _dari_patient() -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"{PATIENT}-dari",
        "name": [{"use": "official", "text": DARI, "given": [DARI], "family": "قندوزی"}],
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """A service of its own that has rendered, failed, refused, linked and served a planted patient's documents."""
    with SyntheticFhirServer(generated=0) as fhir:
        fhir.load(_resources())
        service = Service(tmp_path_factory.mktemp("plaintext") / "data", DOCUMENT_SERVICE_LOG_LEVEL="DEBUG").start()
        try:
            tenant = service.create_tenant(fhir.base_url)
            with service.caller(tenant) as caller:
                yield Planted(service, caller, _live(caller))
        finally:
            service.stop()


def _live(caller: Api) -> list[str]:
    """One of everything that touches the patient; the text of every refusal."""
    version = caller.platform_version()
    inputs = {"reason": REASON, "requester": REQUESTER, "tests": [TEST]}
    check = {"birthDate": BIRTH, "identifier": MEDICAL_NUMBER}
    refusals = []
    for locale in ("en", "fa-AF"):
        job = caller.render(request_for(version, patient=PATIENT, locale=locale, inputs=inputs, patientCheck=check))
        assert job["status"] == "completed", job
        assert caller.content(job["documentId"]).content.startswith(b"%PDF-")
    dari = caller.render(
        request_for(version, patient=f"{PATIENT}-dari", encounterId=None, locale="fa-AF", inputs=inputs)
    )
    assert dari["status"] == "completed", dari
    failing: tuple[dict[str, Any], ...] = (
        {"patientCheck": {"identifier": "Mahramqy"}},
        {"patientCheck": {"birthDate": "1937-12-30"}},
        {"inputs": {"reason": f"{REASON} 🦷", "tests": [TEST]}},
    )
    for change in failing:
        job = caller.render(request_for(version, patient=PATIENT, **{"inputs": inputs, **change}))
        assert job["status"] == "failed", job
        refusals.append(json.dumps(job, ensure_ascii=False))
    request = request_for(version, patient=PATIENT, inputs=inputs)
    for change in (
        {"inputs": {**inputs, "priority": FAMILY}},
        {"inputs": {FAMILY: GIVEN}},
        {"inputs": {"reason": [REASON]}},
        {"inputs": {"specimenCollected": BIRTH}},
        {"patientId": f"{GIVEN} {FAMILY}"},
        {"locale": DARI},
        {"patientCheck": {"birthDate": f"{BIRTH}T00:00:00"}},
        {"requestedAt": BIRTH},
        {FAMILY: GIVEN},
    ):
        answer = caller.post("/v1/documents/render-jobs", json={**request, **change})
        assert answer.status_code in (400, 422), answer.text
        named_by_the_caller = FAMILY in json.dumps(change) and (FAMILY in change or FAMILY in change.get("inputs", {}))
        if not named_by_the_caller:
            refusals.append(answer.text)
    body = json.dumps({**request, "inputs": inputs})[:-2]
    refusals.append(caller.post("/v1/documents/render-jobs", content=body).text)
    accepted = caller.render(request)
    assert accepted["status"] == "completed"
    refusals.append(caller.post("/v1/documents/render-jobs", json={**request, "inputs": {"reason": DARI}}).text)
    refusals.append(caller.get(f"/v1/documents/{FAMILY}").text)
    refusals.append(caller.get("/v1/documents/changes").text)
    return refusals


def _spellings(word: str) -> set[bytes]:
    """How a word may stand in a file: as text in three encodings, escaped in JSON, in a URL, in hexadecimal."""
    return {
        word.encode(),
        word.encode("utf-16-le"),
        word.encode("utf-16-be"),
        json.dumps(word)[1:-1].encode(),
        quote(word).encode(),
        word.encode().hex().encode(),
    }


def _found_in(content: bytes) -> list[str]:
    return [word for word in PLANTED if any(spelling in content for spelling in _spellings(word))]


async def _checkpoint(service: Service) -> None:
    async with connected(service, role=None) as connection:
        await connection.execute("CHECKPOINT")
        await connection.execute("SELECT pg_switch_wal()")


def test_the_search_would_find_it(tmp_path: Path) -> None:
    for word in PLANTED:
        for spelling in _spellings(word):
            assert word in _found_in(b"\x00\x17" + spelling + b"\xff")


def test_no_file_below_the_data_folder_names_the_patient(planted: Planted) -> None:
    asyncio.run(_checkpoint(planted.service))
    searched, with_ids = 0, 0
    for path in planted.service.data_dir.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        searched += 1
        with_ids += PATIENT.encode() in content
        assert _found_in(content) == [], path
    assert searched > 500, "the files of PostgreSQL and of the store must be among them"
    assert with_ids > 0, "the patient's id is not secret; that it is found shows that the rows are in these files"


def test_neither_do_the_log_the_metrics_and_the_public_pages(planted: Planted) -> None:
    assert "attempt.failed" in planted.service.log
    assert _found_in(planted.service.log.encode()) == []
    for path in ("/metrics", "/health/ready", "/.well-known/document-service", "/openapi.json"):
        answer = planted.caller.get(path)
        assert answer.status_code == 200
        assert _found_in(answer.content) == []


def test_neither_do_refusals_failed_jobs_and_the_feed(planted: Planted) -> None:
    assert len(planted.answers) > 12
    for answer in planted.answers:
        assert _found_in(answer.encode()) == [], answer


def test_the_metrics_do_not_name_tenants_and_paths(planted: Planted) -> None:
    metrics = planted.caller.get("/metrics").text
    assert "rjob_" not in metrics
    assert "doc_" not in metrics.replace("document_service", "")
    assert PATIENT not in metrics


def test_the_documents_hold_what_the_files_hide(planted: Planted) -> None:
    """The sealed bytes open to a PDF with the name: what was searched for was really there."""
    found = planted.caller.get("/v1/documents", params={"patientId": PATIENT}).json()["items"]
    words = ""
    for document in found:
        with pdfplumber.open(io.BytesIO(planted.caller.content(document["id"]).content)) as pdf:
            words += "".join(page.extract_text() for page in pdf.pages)
    for word in (GIVEN, FAMILY, MEDICAL_NUMBER, REASON, TEST, REQUESTER):
        assert word in words
