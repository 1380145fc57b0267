"""Contract §3, the table of answers: what becomes of a render request, and of the same request again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from contract.from_outside.caller import JOBS, Caller, Request, code_of, instant, new_id
from contract.from_outside.fhir_edge import FhirGate
from contract.from_outside.forms import Form
from contract.from_outside.shapes import DOCUMENT, JOB


def test_a_new_request_is_accepted_once_and_then_answered_by_its_job(nurse: Caller, request_for: Request) -> None:
    """§3: "new: 202, `Location`, the job with `status: queued`"; "same content: 200, the job as it is now,
    `Idempotent-Replayed: true`"; §6 Job and Document."""
    request = request_for()
    answer = nurse.post(JOBS, json=request)
    job = answer.json()
    assert (answer.status_code, job["status"], job["clientMutationId"]) == (202, "queued", request["clientMutationId"])
    assert answer.headers["location"].endswith(f"{JOBS}/{job['id']}")
    assert "idempotent-replayed" not in answer.headers
    assert set(job) >= JOB
    assert job["id"].startswith("rjob_")
    done = nurse.finished(job["id"])
    assert (done["status"], done["attempts"], done["error"]) == ("completed", 1, None)
    again = nurse.post(JOBS, json=request)
    assert (again.status_code, again.headers["idempotent-replayed"], again.json()) == (200, "true", done)
    document = nurse.get(f"/v1/documents/{done['documentId']}").json()
    assert set(document) >= DOCUMENT
    expected = {
        "kind": "generated",
        "status": "current",
        "patientId": request["patientId"],
        "renderJobId": job["id"],
        "templateVersionId": request["templateVersionId"],
        "requestedAt": done["requestedAt"],
    }
    assert expected.items() <= document.items()
    assert document["number"]
    assert document["dataAsOf"] <= document["renderedAt"]


def test_content_is_compared_without_requested_at_and_absent_is_null(nurse: Caller, request_for: Request) -> None:
    """§3: "every field but `requestedAt`, absent = null"."""
    request = request_for()
    assert nurse.post(JOBS, json=request).status_code == 202
    for again in (
        {**request, "requestedAt": instant(hours=-1)},
        {**request, "encounterId": None, "notAfter": None, "patientCheck": None},
        dict(reversed(request.items())),
    ):
        assert nurse.post(JOBS, json=again).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patientId", "demo-patient-rahimi"),
        ("locale", "fa-AF"),
        ("encounterId", "demo-encounter-noorzai"),
        ("inputs", {"tests": ["ESR"]}),
        ("notAfter", "2099-01-01T00:00:00Z"),
        ("patientCheck", {"birthDate": "1961-03-02"}),
    ],
)
def test_the_same_id_with_other_content_is_refused(nurse: Caller, request_for: Request, field: str, value: Any) -> None:
    """§3: "same id, other content: 422 `CLIENT_MUTATION_ID_REUSED`"."""
    request = request_for()
    job = nurse.post(JOBS, json=request).json()
    assert code_of(nurse.post(JOBS, json={**request, field: value})) == (422, "CLIENT_MUTATION_ID_REUSED")
    assert nurse.post(JOBS, json=request).json()["id"] == job["id"]


def test_decimals_are_compared_as_written(nurse: Caller, number_form: str) -> None:
    """§3: "decimals as written": 1.0 milligrams and 1.00 milligrams are different texts on a page."""
    text = (
        '{{"clientMutationId": "{id}", "templateVersionId": "{version}", "patientId": "demo-patient-noorzai",'
        ' "inputs": {{"amount": {amount}}}, "locale": "en", "requestedAt": "{now}"}}'
    )
    key = new_id()

    def post(amount: str) -> httpx2.Response:
        body = text.format(id=key, version=number_form, amount=amount, now=instant())
        return nurse.post(JOBS, content=body.encode(), headers={"Content-Type": "application/json"})

    assert [post(amount).status_code for amount in ("1.0", "1.0", "1.00", "1", "1.0")] == [202, 200, 422, 422, 200]


def test_the_id_may_come_in_a_header(nurse: Caller, request_for: Request) -> None:
    """§3: "`X-Client-Mutation-Id` or `Idempotency-Key` may carry the id instead; two that differ are 400"."""
    for header in ("X-Client-Mutation-Id", "Idempotency-Key"):
        key = new_id()
        answer = nurse.post(JOBS, json=request_for(clientMutationId=...), headers={header: key})
        assert (answer.status_code, answer.json()["clientMutationId"]) == (202, key)
        assert nurse.post(JOBS, json=request_for(), headers={header: new_id()}).status_code == 400
        same = request_for()
        assert nurse.post(JOBS, json=same, headers={header: same["clientMutationId"]}).status_code == 202
    both = {"X-Client-Mutation-Id": new_id(), "Idempotency-Key": new_id()}
    assert nurse.post(JOBS, json=request_for(clientMutationId=...), headers=both).status_code == 400
    assert nurse.known(*both.values()) == [False, False]


@pytest.mark.parametrize("missing", ["clientMutationId", "templateVersionId", "patientId", "locale", "requestedAt"])
def test_a_field_that_is_missing_is_named(nurse: Caller, request_for: Request, missing: str) -> None:
    """§2: "for validation an `errors` list with JSON pointers"; §3: no error consumes the id."""
    request = request_for()
    answer = nurse.post(JOBS, json={name: value for name, value in request.items() if name != missing})
    assert answer.status_code == 400
    if missing != "clientMutationId":
        assert f"/{missing}" in [entry["pointer"] for entry in answer.json()["errors"]]
    assert nurse.post(JOBS, json=request).status_code == 202


def test_fifty_at_once_are_one_job_and_one_document(nurse: Caller, request_for: Request) -> None:
    """§3: "50 of them at once: one row, one render, one 202, forty-nine 200"; §2: "fifty identical posts at once
    stay under the limit"."""
    request = request_for(patientId="demo-patient-ahmadzai")
    before = {document["id"] for document in nurse.every("/v1/documents", patientId=request["patientId"])}
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: nurse.post(JOBS, json=request), range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    (job_id,) = {answer.json()["id"] for answer in answers}
    job = nurse.finished(job_id)
    assert (job["status"], job["attempts"]) == ("completed", 1)
    after = {document["id"] for document in nurse.every("/v1/documents", patientId=request["patientId"])}
    assert after - before == {job["documentId"]}


def test_fifty_at_once_with_other_content_never_mix(nurse: Caller, request_for: Request) -> None:
    """§3: one content wins the id; every other is refused, and what is rendered is the winner's."""
    key = new_id()
    patients = ["demo-patient-noorzai", "demo-patient-rahimi"] * 25
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(
                lambda patient: nurse.post(JOBS, json=request_for(clientMutationId=key, patientId=patient)), patients
            )
        )
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(202), statuses.count(200), statuses.count(422)) == (1, 24, 25)
    winner = patients[statuses.index(202)]
    assert {patient for patient, status in zip(patients, statuses, strict=True) if status == 200} == {winner}
    job = nurse.finished(answers[statuses.index(202)].json()["id"])
    assert job["patientId"] == winner
    assert nurse.get(f"/v1/documents/{job['documentId']}").json()["patientId"] == winner


def test_intake_asks_no_fhir_server_and_an_unknown_patient_is_a_failed_job(
    nurse: Caller, request_for: Request, fhir: FhirGate
) -> None:
    """§3: "No FHIR call is made at intake: an unknown patient is a failed job"; "the job failed: 200 with
    `status: failed`; `…/retry` starts a new attempt under the same job id"."""
    request = request_for(patientId="nobody")
    with fhir.held():
        job = nurse.post(JOBS, json=request).json()
    failed = nurse.finished(job["id"])
    assert (failed["status"], failed["documentId"]) == ("failed", None)
    assert set(failed["error"]) >= {"code", "title", "detail"}
    again = nurse.post(JOBS, json=request)
    assert (again.status_code, again.json()["status"]) == (200, "failed")
    retried = nurse.post(f"{JOBS}/{job['id']}/retry")
    assert retried.status_code in (200, 202)
    assert retried.json()["id"] == job["id"]
    assert nurse.finished(job["id"])["attempts"] == failed["attempts"] + 1


def test_only_a_failed_job_is_retried(nurse: Caller, request_for: Request) -> None:
    """§2: `…/retry` is a "new attempt of a failed job": one that has its document makes no second one."""
    job = nurse.render(request_for())
    assert nurse.post(f"{JOBS}/{job['id']}/retry").status_code == 409
    assert nurse.get(f"{JOBS}/{job['id']}").json() == job


@pytest.mark.parametrize(
    ("check", "ends"),
    [
        ({"birthDate": "1900-01-01"}, "PATIENT_MISMATCH"),
        ({"identifier": "nobody's"}, "PATIENT_MISMATCH"),
    ],
)
def test_the_patient_check_is_compared_at_render(
    nurse: Caller, request_for: Request, check: dict[str, str], ends: str
) -> None:
    """§3: "`patientCheck` is compared at render: differing = the job fails `PATIENT_MISMATCH`"."""
    job = nurse.render(request_for(patientCheck=check))
    assert (job["status"], job["error"]["code"], job["documentId"]) == ("failed", ends, None)


def test_an_encounter_of_another_patient_prints_nothing(nurse: Caller, request_for: Request) -> None:
    """§3, and the purpose of it all: no page with two people's data."""
    job = nurse.render(request_for(encounterId="demo-encounter-rahimi"))
    assert (job["status"], job["documentId"]) == ("failed", None)


def test_an_id_whose_job_the_caller_may_not_see_says_nothing_of_it(
    north: Caller, south: Caller, author: Caller, request_for: Request
) -> None:
    """§3: "the id exists but the caller may not see its job: 409 `CLIENT_MUTATION_ID_CONFLICT`, no detail"; §2: what is
    "of a facility that the caller is not in: 404, exactly as if it did not exist"."""
    version = Form(author, facilityId="north").version()
    request = request_for(templateVersionId=version, inputs={})
    job = north.render(request)
    for body in (request, {**request, "patientId": "demo-patient-rahimi"}):
        answer = south.post(JOBS, json=body)
        assert code_of(answer) == (409, "CLIENT_MUTATION_ID_CONFLICT")
        assert job["id"] not in answer.text
    assert south.get(f"{JOBS}/{job['id']}").status_code == 404
    assert south.known(request["clientMutationId"]) == [False]
    assert job["id"] not in [one["id"] for one in south.every(JOBS)]


def test_the_same_id_in_another_tenant_is_another_request(
    nurse: Caller, stranger: Caller, request_for: Request
) -> None:
    """Sync contract 4.2: "Service deduplicates by (tenantId, clientMutationId)"."""
    request = request_for()
    mine = nurse.post(JOBS, json=request)
    theirs = stranger.post(JOBS, json=request)
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json()["id"] != theirs.json()["id"]
    first, second = nurse.finished(mine.json()["id"]), stranger.finished(theirs.json()["id"])
    assert first["documentId"] != second["documentId"]
    assert stranger.get(f"/v1/documents/{first['documentId']}").status_code == 404


def test_lists_and_single_jobs_are_mine(nurse: Caller, request_for: Request) -> None:
    """§2: `GET render-jobs` "list mine; one job"; "Reads carry a strong `ETag` and answer 304"."""
    job = nurse.render(request_for())
    assert job in nurse.every(JOBS)
    read = nurse.get(f"{JOBS}/{job['id']}")
    assert read.headers["etag"].startswith('"')
    assert nurse.get(f"{JOBS}/{job['id']}", headers={"If-None-Match": read.headers["etag"]}).status_code == 304
