"""Contract §3 on the real service: one request, one document, however often and however concurrently."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from running_service import Api, Service, request_for


def test_a_request_becomes_one_sealed_pdf(api: Api) -> None:
    job = api.render(request_for(api.platform_version()))
    assert job["status"] == "completed", job
    document = api.get(f"/v1/documents/{job['documentId']}").json()
    answer = api.content(job["documentId"])
    assert answer.content.startswith(b"%PDF-")
    assert answer.headers["etag"] == f'"{document["sha256"]}"'
    assert len(answer.content) == document["size"]


def test_fifty_at_once_are_one_row_one_render_one_document(api: Api) -> None:
    request = request_for(api.platform_version())

    def post(_: int) -> tuple[int, str]:
        answer = api.post("/v1/documents/render-jobs", json=request)
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    assert sorted(status for status, _ in answers) == [200] * 49 + [202]
    assert len({job for _, job in answers}) == 1
    job = api.wait(answers[0][1])
    assert (job["status"], job["attempts"]) == ("completed", 1)
    found = api.get("/v1/documents", params={"patientId": request["patientId"]}).json()["items"]
    assert [document["renderJobId"] for document in found] == [job["id"]]


def test_a_replay_says_so_and_shows_the_job_as_it_is_now(api: Api) -> None:
    request = request_for(api.platform_version())
    finished = api.render(request)
    replay = api.post("/v1/documents/render-jobs", json={**request, "requestedAt": "2026-01-01T00:00:00Z"})
    assert replay.status_code == 200
    assert replay.headers["idempotent-replayed"] == "true"
    assert replay.json() == finished


def test_other_content_under_the_same_id_is_refused(api: Api) -> None:
    request = request_for(api.platform_version())
    api.render(request)
    for change in ({"patientId": "demo-patient-rahimi"}, {"locale": "fa-AF"}, {"encounterId": None}):
        answer = api.post("/v1/documents/render-jobs", json={**request, **change})
        assert (answer.status_code, answer.json()["code"]) == (422, "CLIENT_MUTATION_ID_REUSED")


def test_the_same_id_of_another_tenant_is_its_own_job(service: Service, fhir_url: str, api: Api) -> None:
    request = request_for(api.platform_version())
    first = api.render(request)
    with service.caller(service.create_tenant(fhir_url)) as other:
        second = other.render(request)
    assert first["id"] != second["id"]
    assert second["status"] == "completed"


def test_headers_may_carry_the_id_and_must_agree(api: Api) -> None:
    request = request_for(api.platform_version())
    given = request.pop("clientMutationId")
    first = api.post("/v1/documents/render-jobs", json=request, headers={"Idempotency-Key": given})
    again = api.post("/v1/documents/render-jobs", json=request, headers={"X-Client-Mutation-Id": given})
    assert (first.status_code, again.status_code) == (202, 200)
    answer = api.post(
        "/v1/documents/render-jobs",
        json={**request, "clientMutationId": str(uuid.uuid4())},
        headers={"Idempotency-Key": given},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "IDEMPOTENCY_KEY_MISMATCH")


def test_a_request_older_than_the_window_is_gone_unless_it_is_known(api: Api) -> None:
    old = (datetime.now(UTC) - timedelta(days=401)).isoformat()
    request = request_for(api.platform_version())
    answer = api.post("/v1/documents/render-jobs", json={**request, "requestedAt": old})
    assert (answer.status_code, answer.json()["code"]) == (410, "MUTATION_WINDOW_PASSED")
    api.render(request)
    assert api.post("/v1/documents/render-jobs", json={**request, "requestedAt": old}).status_code == 200


def test_not_after_has_passed(api: Api) -> None:
    request = request_for(api.platform_version(), notAfter="2026-01-01T00:00:00Z")
    answer = api.post("/v1/documents/render-jobs", json=request)
    assert (answer.status_code, answer.json()["code"]) == (409, "EXPIRED_BY_REQUESTER")


def test_a_refused_request_does_not_consume_its_id(api: Api) -> None:
    request = request_for(api.platform_version())
    refused = api.post("/v1/documents/render-jobs", json={**request, "inputs": {"nonsense": 1}})
    assert (refused.status_code, refused.json()["code"]) == (422, "INPUTS_INVALID")
    assert refused.json()["errors"][0]["pointer"].startswith("/")
    assert api.post("/v1/documents/render-jobs", json=request).status_code == 202


def test_a_failed_job_is_retried_under_its_id(api: Api) -> None:
    job = api.render(request_for(api.platform_version(), patient="nobody", encounterId=None))
    assert (job["status"], job["error"]["code"]) == ("failed", "PATIENT_UNKNOWN")
    again = api.post(f"/v1/documents/render-jobs/{job['id']}/retry")
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (202, job["id"], "queued")
    job = api.wait(job["id"])
    assert (job["status"], job["attempts"]) == ("failed", 2)


def test_lookup_knows_what_was_promised(api: Api) -> None:
    request = request_for(api.platform_version())
    job = api.render(request)
    unknown = str(uuid.uuid4())
    ids = [request["clientMutationId"], unknown]
    items = api.post("/v1/documents/render-jobs/lookup", json={"clientMutationIds": ids}).json()["items"]
    assert items == [
        {"clientMutationId": request["clientMutationId"], "known": True, "job": job},
        {"clientMutationId": unknown, "known": False},
    ]


def test_generate_answers_the_document_and_its_repeat(api: Api) -> None:
    request = request_for(api.platform_version())
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    key = str(uuid.uuid4())
    first = api.post("/v1/documents/generate", json=request, headers={"Idempotency-Key": key})
    assert first.status_code == 201, first.text
    again = api.post(
        "/v1/documents/generate", json=request, headers={"Idempotency-Key": key, "Accept": "application/pdf"}
    )
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.headers["etag"] == f'"{first.json()["sha256"]}"'
    assert again.content.startswith(b"%PDF-")


def test_generate_with_bad_data_does_not_consume_its_key(api: Api) -> None:
    request = request_for(api.platform_version(), patient="nobody", encounterId=None)
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    key = {"Idempotency-Key": str(uuid.uuid4())}
    answer = api.post("/v1/documents/generate", json=request, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "PATIENT_UNKNOWN")
    request |= {"patientId": "demo-patient-noorzai"}
    assert api.post("/v1/documents/generate", json=request, headers=key).status_code == 201


def test_generate_refuses_two_ids_that_differ(api: Api) -> None:
    request = request_for(api.platform_version())
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    answer = api.post(
        "/v1/documents/generate", json=request, headers={"Idempotency-Key": one, "X-Client-Mutation-Id": other}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "IDEMPOTENCY_KEY_MISMATCH")
    alone = api.post("/v1/documents/generate", json=request, headers={"X-Client-Mutation-Id": other})
    assert (alone.status_code, alone.json()["code"]) == (400, "IDEMPOTENCY_KEY_REQUIRED")


def test_an_equal_key_in_flight_waits_for_the_same_bytes(api: Api) -> None:
    request = request_for(api.platform_version())
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    headers = {"Idempotency-Key": str(uuid.uuid4()), "Accept": "application/pdf"}

    def post(_: int) -> tuple[int, str, str, bytes]:
        answer = api.post("/v1/documents/generate", json=request, headers=headers)
        kind, document = answer.headers["content-type"], answer.headers["x-document-id"]
        return answer.status_code, kind, document, answer.content

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(16)))
    assert sorted(status for status, *_ in answers) == [200] * 15 + [201]
    assert len({(kind, document, content) for _, kind, document, content in answers}) == 1
    assert answers[0][1] == "application/pdf"
    assert answers[0][3].startswith(b"%PDF-")


def test_an_equal_key_in_flight_hears_of_the_same_failure(api: Api) -> None:
    request = request_for(api.platform_version(), patient="nobody", encounterId=None)
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    key = {"Idempotency-Key": str(uuid.uuid4())}

    def post(_: int) -> tuple[int, str]:
        answer = api.post("/v1/documents/generate", json=request, headers=key)
        return answer.status_code, answer.json()["code"]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(post, range(16))) == {(422, "PATIENT_UNKNOWN")}
    request |= {"patientId": "demo-patient-noorzai"}
    assert api.post("/v1/documents/generate", json=request, headers=key).status_code == 201
