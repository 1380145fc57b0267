"""After an outage an operator has everything tried again that failed for it, and can account for every number."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from document_client import DocumentClient
from document_service.fault_proxy import FaultProxy, Faults
from raw_database import connected
from requisition import definition
from running_service import Api, Service, request_for

JOBS = "/v1/documents/render-jobs"


@pytest.fixture
def outage(service: Service, fhir_url: str) -> Iterator[tuple[FaultProxy, str]]:
    """A tenant of its own whose FHIR server a test may take away."""
    host, _, path = fhir_url.removeprefix("http://").partition("/")
    with FaultProxy(f"http://{host}") as proxy:
        yield proxy, service.create_tenant(f"{proxy.url}/{path}")


def told(service: Service, *arguments: str) -> list[dict[str, Any]]:
    answered: list[dict[str, Any]] = json.loads(service.command("jobs", *arguments, "--json"))
    return answered


def execute(service: Service, statement: str, *values: Any) -> Any:
    """What no caller can do: let time pass, or make a job fail."""

    async def run() -> Any:
        async with connected(service, role=None) as owner:
            return await owner.fetch(statement, *values)

    return asyncio.run(run())


def audited(api: Api, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get("/v1/audit-events", params=query).json()["items"]
    return items


def test_what_failed_in_an_outage_is_tried_again_once_and_only_what_is_still_wanted(
    service: Service, outage: tuple[FaultProxy, str]
) -> None:
    proxy, tenant = outage
    with service.caller(tenant) as api:
        version = api.platform_version()
        proxy.apply(Faults(network="refuse"))
        plain, asked_twice = request_for(version), request_for(version, inputs={"reason": "Fever"})
        asked_again = {**asked_twice, "clientMutationId": str(uuid.uuid4())}
        soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        late = request_for(version, notAfter=soon, inputs={"reason": "Cough"})
        sent = [api.post(JOBS, json=one).json()["id"] for one in (plain, asked_twice, asked_again, late)]
        failed = [api.wait(job_id, 90) for job_id in sent]
        assert {job["error"]["code"] for job in failed} == {"FHIR_UNAVAILABLE"}
        assert {job["attempts"] for job in failed} == {3}
        spent = [datetime.fromisoformat(job["finishedAt"]) - datetime.fromisoformat(job["createdAt"]) for job in failed]
        assert all(timedelta(seconds=12) < each < timedelta(seconds=60) for each in spent), spent
        proxy.heal()
        plain_job, old_job, new_job, late_job = sent
        execute(service, "UPDATE document_render_jobs SET not_after = now() WHERE id = $1", late_job)

        assert json.loads(service.command("jobs", "failed", "--tenant", tenant, "--json")) == {"FHIR_UNAVAILABLE": 4}
        wanted = ["retry", "--tenant", tenant, "--code", "FHIR_UNAVAILABLE", "--since", "1h"]
        expected = {
            plain_job: "QUEUED",
            old_job: "ASKED_AGAIN",
            new_job: "QUEUED",
            late_job: "EXPIRED_BY_REQUESTER",
        }
        became = {entry["jobId"]: entry["result"] for entry in told(service, *wanted, "--dry-run")}
        assert became == {job: result.replace("QUEUED", "WOULD_BE_QUEUED") for job, result in expected.items()}
        assert api.get(f"{JOBS}/{plain_job}").json()["status"] == "failed", "a dry run does nothing"
        assert audited(api, action="job.retry") == []

        assert {entry["jobId"]: entry["result"] for entry in told(service, *wanted)} == expected
        assert {api.wait(job_id)["status"] for job_id in (plain_job, new_job)} == {"completed"}
        assert {api.get(f"{JOBS}/{job_id}").json()["status"] for job_id in (old_job, late_job)} == {"failed"}
        assert {(event["actor"], event["jobId"]) for event in audited(api, action="job.retry")} == {
            ("operator", plain_job),
            ("operator", new_job),
        }
        # A second run finds nothing that it would make twice.
        again = {entry["jobId"]: entry["result"] for entry in told(service, *wanted)}
        assert again == {old_job: "ASKED_AGAIN", late_job: "EXPIRED_BY_REQUESTER"}
        assert len(api.get("/v1/documents", params={"patientId": plain["patientId"]}).json()["items"]) == 2


def test_a_withdrawn_version_is_not_tried_again(service: Service, api: Api, tenant: str) -> None:
    form = api.post("/v1/document-templates", json={"name": "Ours", "category": "report"}).json()["id"]
    assert api.put(f"/v1/document-templates/{form}/draft", json=definition()).json()["problems"] == []
    path = f"/v1/document-templates/{form}"
    version = api.post(f"{path}/publish", json={}, headers={"Idempotency-Key": "first"}).json()["id"]
    job = api.render(request_for(version, patient="nobody", inputs={"tests": "CBC"}))
    assert job["error"]["code"] == "PATIENT_UNKNOWN"
    assert api.post(f"{path}/versions/{version}/withdraw", json={"reason": "a wrong dose"}).status_code == 200
    found = told(service, "retry", "--tenant", tenant, "--code", "PATIENT_UNKNOWN")
    assert found == [{"jobId": job["id"], "result": "TEMPLATE_VERSION_RETIRED"}]


def test_another_tenants_jobs_and_older_ones_stay_as_they_are(service: Service, fhir_url: str, api: Api) -> None:
    job = api.render(request_for(api.platform_version(), patient="nobody"))
    other = service.create_tenant(fhir_url)
    assert told(service, "retry", "--tenant", other, "--code", "PATIENT_UNKNOWN") == []
    assert "nothing failed" in service.command("jobs", "retry", "--tenant", other, "--code", "PATIENT_UNKNOWN")
    assert service.command("jobs", "failed", "--tenant", other) == "nothing failed since then\n"
    assert service.command("jobs", "numbers", "--tenant", other) == "no number of that year is without its document\n"
    assert api.get(f"{JOBS}/{job['id']}").json()["status"] == "failed"


def test_what_is_typed_wrongly_does_nothing(service: Service, tenant: str) -> None:
    for arguments in (
        ("--code", "NO_SUCH_CODE"),
        ("--code", "FHIR_UNAVAILABLE", "--since", "yesterday"),
        ("--code", "FHIR_UNAVAILABLE", "--since", "2026-11-01T00:00:00"),
    ):
        assert service.command("jobs", "retry", "--tenant", tenant, *arguments, check=False) == ""
    unknown = service.command("jobs", "retry", "--tenant", "nobody", "--code", "FHIR_UNAVAILABLE", check=False)
    assert unknown == ""


def test_every_number_without_a_document_has_its_account(service: Service, api: Api, tenant: str) -> None:
    version = api.platform_version()
    first = api.render(request_for(version))
    failed = api.render(request_for(version, patient="nobody"))
    # A synchronous request that fails stores nothing: only the trail knows its number.
    body = request_for(version, patient="nobody")
    key = {"Idempotency-Key": body.pop("clientMutationId")}
    del body["requestedAt"]
    assert api.post("/v1/documents/generate", json=body, headers=key).status_code == 422
    last = api.render(request_for(version))
    year = datetime.now(UTC).year
    numbers = [api.get(f"/v1/documents/{job['documentId']}").json()["number"] for job in (first, last)]
    assert numbers == [f"{year}-000001", f"{year}-000004"]
    gaps = told(service, "numbers", "--tenant", tenant)
    assert [(gap["first"], gap["last"], gap["state"], gap["code"]) for gap in gaps] == [
        (f"{year}-000002", f"{year}-000002", "failed", "PATIENT_UNKNOWN"),
        (f"{year}-000003", f"{year}-000003", "failed", "PATIENT_UNKNOWN"),
    ]
    assert gaps[0]["jobId"] == failed["id"]
    assert gaps[1]["jobId"].startswith("rjob_")
    trail = audited(api, action="document.generate", outcome="failure")
    assert [event["detail"]["number"] for event in trail] == [f"{year}-000003", f"{year}-000002"]

    # After a restore the numbers go on behind a gap, and that is told as one.
    execute(service, "UPDATE document_numbers SET last = 10000 WHERE tenant_id = $1", tenant)
    after = told(service, "numbers", "--tenant", tenant)[-1]
    assert (after["first"], after["last"], after["state"]) == (f"{year}-000005", f"{year}-010000", "skipped")
    shown = service.command("jobs", "numbers", "--tenant", tenant)
    assert f"{year}-000005 to {year}-010000" in shown
    assert shown.splitlines()[0].split() == [
        f"{year}-000002",
        "failed",
        failed["id"],
        f"{failed['finishedAt'][:19]}Z",
        "PATIENT_UNKNOWN",
    ]
    # A job that is tried again with success keeps its number, and the gap is none.
    execute(
        service,
        "UPDATE document_render_jobs SET patient_id = $2, encounter_id = NULL WHERE id = $1",
        failed["id"],
        "demo-patient-noorzai",
    )
    assert api.post(f"{JOBS}/{failed['id']}/retry").status_code == 202
    done = api.wait(failed["id"])
    assert api.get(f"/v1/documents/{done['documentId']}").json()["number"] == f"{year}-000002"
    assert f"{year}-000002" not in json.dumps(told(service, "numbers", "--tenant", tenant))


def test_what_a_nurse_gave_up_or_replaced_is_not_made_by_an_operator(
    service: Service, outage: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    proxy, tenant = outage
    with DocumentClient(tmp_path / "device", passphrase="correct horse") as device:
        device.login(service.url, service.token(tenant, "doctor"))
        device.templates()
        proxy.apply(Faults(network="refuse"))
        asked = [
            str(device.request("General Test Requisition", "demo-patient-noorzai")["clientMutationId"])
            for _ in range(2)
        ]
        device.sync()
        with service.caller(tenant) as api:
            found = api.post(f"{JOBS}/lookup", json={"clientMutationIds": asked}).json()["items"]
            jobs = [api.wait(item["job"]["id"], 90)["id"] for item in found]
        device.sync()
        assert [device.queue.show(one)["status"] for one in asked] == ["failed", "failed"]
        proxy.heal()
        device.queue.discard(asked[0], confirmation=asked[0])
        device.queue.edit(asked[1], {"locale": "fa-AF"})
        device.sync()
        wanted = ["retry", "--tenant", tenant, "--code", "FHIR_UNAVAILABLE"]
        assert {entry["jobId"]: entry["result"] for entry in told(service, *wanted)} == dict.fromkeys(jobs, "GIVEN_UP")
