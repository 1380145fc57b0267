"""Contract §3, what must survive: kill -9 in the middle of a job, a restart, a database that went back in time.

Each test here has a data folder of its own, because it ends a service.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from contract.from_outside.caller import JOBS, Caller, code_of, instant, new_id
from contract.from_outside.clinic import CLINIC, Clinic
from contract.from_outside.fhir_edge import FhirGate

PATIENT = "demo-patient-noorzai"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory, fhir: FhirGate) -> Iterator[Clinic]:
    """A service that the tests of this file stop, kill and start again on the same folder."""
    running = Clinic(tmp_path_factory.mktemp("lives") / "data", DOCUMENT_SERVICE_SIGNED_URL_TTL="2s")
    running.start()
    running.command("tenant", "create", CLINIC, "--fhir-url", fhir.url)
    try:
        yield running
    finally:
        running.stop()


def _nurse(clinic: Clinic) -> Caller:
    """A caller at the address that the service has in this life."""
    return clinic.caller(CLINIC, "nurse", "CLINICIAN")


def _requests(nurse: Caller, many: int) -> list[dict[str, Any]]:
    version = nurse.form()["currentVersionId"]
    return [
        {
            "clientMutationId": new_id(),
            "templateVersionId": version,
            "patientId": PATIENT,
            "inputs": {"tests": ["CBC"]},
            "locale": "en",
            "requestedAt": instant(),
        }
        for _ in range(many)
    ]


def _once_each(nurse: Caller, requests: list[dict[str, Any]]) -> None:
    """Every request has one job, one document and one number, and the document is the job's and the patient's."""
    jobs = [nurse.finished(nurse.post(JOBS, json=one).json()["id"]) for one in requests]
    assert {job["status"] for job in jobs} == {"completed"}
    assert [job["clientMutationId"] for job in jobs] == [one["clientMutationId"] for one in requests]
    documents = nurse.every("/v1/documents", patientId=PATIENT)
    of_job = Counter(document["renderJobId"] for document in documents)
    for job, asked in zip(jobs, requests, strict=True):
        assert of_job[job["id"]] == 1
        (document,) = [one for one in documents if one["renderJobId"] == job["id"]]
        assert (document["id"], document["patientId"]) == (job["documentId"], asked["patientId"])
    assert len({document["number"] for document in documents}) == len(documents)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with the owners of its files: PostgreSQL may run as an account of its own."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def test_a_kill_in_the_middle_loses_and_doubles_nothing(clinic: Clinic, fhir: FhirGate) -> None:
    """§3: "202 is sent only after the commit is durable"; "at least once executed, exactly once recorded"; "A worker
    that dies is noticed and its job taken over within 15 s by default"; the epoch is the same, for nothing was lost.
    A ``generate`` that was cut off and is repeated with its key makes no second document."""
    with _nurse(clinic) as nurse, ThreadPoolExecutor(12) as pool:
        epoch = nurse.get("/health/live").headers["x-sync-epoch"]
        waited_for, *requests = _requests(nurse, 41)

        def post(one: dict[str, Any]) -> bool:
            try:
                return nurse.post(JOBS, json=one).status_code in (200, 202)
            except httpx2.TransportError:
                return False

        # Some are made already, some are in hand and some on their way in when the service is killed.
        first = [nurse.finished(nurse.post(JOBS, json=one).json()["id"]) for one in requests[:3]]
        assert {job["status"] for job in first} == {"completed"}
        with fhir.held():
            cut_off = pool.submit(nurse.generate, waited_for, waited_for["clientMutationId"])
            answered = pool.map(post, requests + requests)
            while not any(job["status"] == "running" for job in nurse.every(JOBS)):
                time.sleep(0.02)
            clinic.kill()
            promised = {one["clientMutationId"] for one, told in zip(requests * 2, answered, strict=True) if told}
        assert isinstance(cut_off.exception(), httpx2.TransportError)
    assert len(promised) > 3
    clinic.start()
    began = time.monotonic()
    with _nurse(clinic) as nurse:
        assert nurse.get("/health/live").headers["x-sync-epoch"] == epoch
        assert nurse.known(*promised) == [True] * len(promised)
        _once_each(nurse, [one for one in requests if one["clientMutationId"] in promised])
        assert time.monotonic() - began < 15 + 5
        _once_each(nurse, requests)
        for _ in range(2):
            assert nurse.generate(waited_for, waited_for["clientMutationId"]).status_code in (200, 201)
        _once_each(nurse, [waited_for])
        assert nurse.post(JOBS, json=requests[0]).headers["idempotent-replayed"] == "true"
        assert code_of(nurse.post(JOBS, json={**requests[0], "locale": "fa-AF"})) == (422, "CLIENT_MUTATION_ID_REUSED")


def test_a_signed_url_ends_when_it_says(clinic: Clinic) -> None:
    """§2: "short-lived signed URL"; §6 `SIGNED_URL_TTL`; it outlives a restart, and not its own end."""
    with _nurse(clinic) as nurse:
        document = nurse.generate(_requests(nurse, 1)[0]).json()["id"]
        url = nurse.url_of(document)
        assert nurse.get(url).status_code == 200
        time.sleep(2.5)
        assert code_of(nurse.get(url)) == (403, "SIGNATURE_EXPIRED")


def test_a_store_that_is_away_loses_nothing(clinic: Clinic) -> None:
    """§3: "FHIR or store down: 503, nothing stored"; "storage errors are retried with backoff"."""
    objects, away = clinic.data_dir / "objects", clinic.data_dir / "objects-away"
    with _nurse(clinic) as nurse:
        waited_for, queued = _requests(nurse, 2)
        objects.rename(away)
        try:
            refused = nurse.generate(waited_for, waited_for["clientMutationId"])
            assert code_of(refused) == (503, "STORE_UNAVAILABLE")
            assert nurse.known(waited_for["clientMutationId"]) == [False]
            assert nurse.post(JOBS, json=queued).status_code == 202
            time.sleep(0.5)
        finally:
            away.rename(objects)
        assert nurse.generate(waited_for, waited_for["clientMutationId"]).status_code == 201
        _once_each(nurse, [queued, waited_for])


def test_a_database_that_went_back_has_a_new_epoch_and_a_lost_one_is_missed(clinic: Clinic, tmp_path: Path) -> None:
    """§3: "a database that is behind it gets a new epoch by itself, announced or not. So a device notices a restored
    server, asks `lookup` for what it had been promised, and offers the unknown again"; no number is given twice. And
    where there is no database at all, none is begun that would say, in good order, that nothing was ever there."""
    with _nurse(clinic) as nurse:
        before = nurse.get("/health/live").headers["x-sync-epoch"]
        kept = _requests(nurse, 1)
        _once_each(nurse, kept)
    clinic.stop()
    database, copy = clinic.data_dir / "postgres", tmp_path / "postgres"
    _copy(database, copy)
    clinic.start()
    with _nurse(clinic) as nurse:
        assert nurse.get("/health/live").headers["x-sync-epoch"] == before
        lost = _requests(nurse, 2)
        _once_each(nurse, lost)
        printed = {document["number"] for document in nurse.every("/v1/documents", patientId=PATIENT)}
    clinic.stop()
    shutil.rmtree(database)
    clinic.command("serve", "--port", "0", code=78)
    assert not database.exists()
    _copy(copy, database)
    clinic.start()
    with _nurse(clinic) as nurse:
        assert nurse.get("/health/live").headers["x-sync-epoch"] != before
        ids = [one["clientMutationId"] for one in kept + lost]
        assert nurse.known(*ids) == [True, False, False]
        assert [nurse.post(JOBS, json=one).status_code for one in lost] == [202, 202]
        _once_each(nurse, kept + lost)
        anew = {document["number"] for document in nurse.every("/v1/documents", patientId=PATIENT)}
        assert len(anew - printed) == 2
