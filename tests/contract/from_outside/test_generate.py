"""Contract §3: ``generate``, a render that is waited for. "Same table, same rules"."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

from contract.from_outside.caller import GENERATE, JOBS, Caller, Request, code_of, new_id
from contract.from_outside.fhir_edge import FhirGate
from contract.from_outside.shapes import DOCUMENT


def test_the_document_or_the_pdf_itself(nurse: Caller, request_for: Request) -> None:
    """§2: "201 with the document, or the PDF itself for `Accept: application/pdf`"."""
    key = new_id()
    request = request_for()
    made = nurse.generate(request, key)
    assert made.status_code == 201, made.text
    assert set(made.json()) >= DOCUMENT
    again = nurse.generate(request, key)
    assert (again.status_code, again.json()["id"]) in ((200, made.json()["id"]), (201, made.json()["id"]))
    assert again.headers["idempotent-replayed"] == "true"
    pdf = nurse.generate(request, key, Accept="application/pdf")
    assert pdf.headers["content-type"] == "application/pdf"
    assert hashlib.sha256(pdf.content).hexdigest() == made.json()["sha256"]
    fresh = nurse.generate(request, Accept="application/pdf")
    assert (fresh.status_code, fresh.content[:5]) == (201, b"%PDF-")


def test_its_key_is_the_client_mutation_id(nurse: Caller, request_for: Request) -> None:
    """§3: "its `Idempotency-Key` (required) *is* the clientMutationId: same table, same rules"."""
    assert nurse.post(GENERATE, json={}).status_code == 400
    request = request_for()
    made = nurse.generate(request, request["clientMutationId"]).json()
    replay = nurse.post(JOBS, json=request)
    assert (replay.status_code, replay.json()["documentId"]) == (200, made["id"])
    other = {**request, "patientId": "demo-patient-rahimi"}
    assert code_of(nurse.generate(other, request["clientMutationId"])) == (422, "CLIENT_MUTATION_ID_REUSED")
    queued = request_for()
    job = nurse.render(queued)
    assert nurse.generate(queued, queued["clientMutationId"]).json()["id"] == job["documentId"]
    two = nurse.generate(request_for(), new_id(), **{"X-Client-Mutation-Id": new_id()})
    assert two.status_code == 400


def test_it_takes_no_id_and_no_time_in_its_body(nurse: Caller, request_for: Request) -> None:
    """§3: "the same body without clientMutationId, requestedAt, notAfter"."""
    answer = nurse.post(GENERATE, json=request_for(), headers={"Idempotency-Key": new_id()})
    assert answer.status_code == 400
    assert {entry["pointer"] for entry in answer.json()["errors"]} == {"/clientMutationId", "/requestedAt"}


def test_an_equal_key_in_flight_waits_for_it(nurse: Caller, request_for: Request, fhir: FhirGate) -> None:
    """§3: "An equal key in flight waits for it": twenty of them are one 201 and one document."""
    key, request = new_id(), request_for()
    with ThreadPoolExecutor(20) as pool:
        with fhir.held():
            waiting = [pool.submit(nurse.generate, request, key) for _ in range(20)]
            time.sleep(0.5)
        answers = [one.result() for one in waiting]
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_after_five_seconds_the_job_lives_on(nurse: Caller, request_for: Request, fhir: FhirGate) -> None:
    """§3: "After 5 s: 504 with `renderJobId`; the job lives on, a repeat returns its document"; of all errors this one
    consumes the id."""
    key, request = new_id(), request_for()
    with fhir.held():
        began = time.monotonic()
        late = nurse.generate(request, key, Accept="application/pdf")
        assert 4.5 < time.monotonic() - began < 9
        assert late.status_code == 504
        assert nurse.known(key) == [True]
    job = nurse.finished(late.json()["renderJobId"])
    assert (job["status"], job["clientMutationId"]) == ("completed", key)
    assert nurse.generate(request, key).json()["id"] == job["documentId"]
    assert nurse.generate({**request, "patientId": "demo-patient-rahimi"}, key).status_code == 422


def test_a_fhir_server_that_is_down_stores_nothing(nurse: Caller, request_for: Request, fhir: FhirGate) -> None:
    """§3: "FHIR or store down: 503, nothing stored"; the same key makes the document afterwards."""
    key, request = new_id(), request_for(patientId="demo-patient-ahmadzai")
    before = nurse.every("/v1/documents", patientId=request["patientId"])
    jobs = nurse.every(JOBS)
    with fhir.down():
        answer = nurse.generate(request, key)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
    assert nurse.known(key) == [False]
    assert nurse.every(JOBS) == jobs
    assert nurse.every("/v1/documents", patientId=request["patientId"]) == before
    assert nurse.generate(request, key).status_code == 201


def test_reads_that_fail_are_tried_three_times_and_bad_data_once(
    nurse: Caller, request_for: Request, fhir: FhirGate
) -> None:
    """§3: "Failed FHIR reads and storage errors are retried with backoff (3 attempts), bad data is not"."""
    assert nurse.render(request_for(patientId="nobody"))["attempts"] == 1
    with fhir.down():
        failed = nurse.render(request_for())
    assert (failed["status"], failed["attempts"], failed["documentId"]) == ("failed", 3, None)
    assert nurse.post(f"{JOBS}/{failed['id']}/retry").json()["id"] == failed["id"]
    assert nurse.finished(failed["id"])["status"] == "completed"
    with fhir.down():
        passing = nurse.post(JOBS, json=request_for()).json()
        time.sleep(0.3)
    assert nurse.finished(passing["id"])["status"] == "completed"


def test_a_request_that_can_not_be_rendered_is_told_so_at_once(nurse: Caller, request_for: Request) -> None:
    """§3: "Synchronous and asynchronous renders of equal content are the same code": the same codes, as a problem."""
    for fields in ({"patientId": "nobody"}, {"patientCheck": {"birthDate": "1900-01-01"}}):
        key = new_id()
        answer = nurse.generate(request_for(**fields), key)
        job = nurse.render(request_for(**fields))
        assert code_of(answer) == (422, job["error"]["code"])
        assert nurse.known(key) == [False]
