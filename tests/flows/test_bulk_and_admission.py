"""Many jobs at once: bulk requests with progress and cancellation, and no tenant behind another's backlog."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from raw_database import connected
from running_service import Api, Service, request_for


def bulk_of(version: str, count: int, patient: str = "demo-patient-noorzai") -> dict[str, Any]:
    return {
        "templateVersionId": version,
        "locale": "en",
        "requestedAt": datetime.now(UTC).isoformat(),
        "items": [{"clientMutationId": str(uuid.uuid4()), "patientId": patient} for _ in range(count)],
    }


def wait_for_bulk(api: Api, bulk_id: str, seconds: float = 90) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown: dict[str, Any] = api.get(f"/v1/documents/render-jobs/bulk/{bulk_id}").json()
        if shown["progress"]["queued"] + shown["progress"]["running"] == 0:
            return shown
        time.sleep(0.2)
    raise AssertionError(shown)


def test_every_item_is_a_job_of_its_own_and_a_repeat_makes_no_more(api: Api) -> None:
    request = bulk_of(api.platform_version(), 40)
    request["items"].append({"clientMutationId": str(uuid.uuid4()), "patientId": "nobody"})
    request["items"].append({**request["items"][0], "patientId": "demo-patient-rahimi"})
    answer = api.post("/v1/documents/render-jobs/bulk", json=request)
    assert answer.status_code == 202, answer.text
    assert [item["status"] for item in answer.json()["items"]] == [202] * 41 + [422]
    assert answer.json()["items"][-1]["problem"]["code"] == "CLIENT_MUTATION_ID_REUSED"
    done = wait_for_bulk(api, answer.json()["id"])
    assert done["progress"] == {"queued": 0, "running": 0, "completed": 40, "failed": 1}
    again = api.post("/v1/documents/render-jobs/bulk", json={**request, "items": request["items"][:41]})
    assert {item["status"] for item in again.json()["items"]} == {200}


def test_cancelled_jobs_are_not_begun(api: Api) -> None:
    answer = api.post("/v1/documents/render-jobs/bulk", json=bulk_of(api.platform_version(), 150)).json()
    cancelled = api.post(f"/v1/documents/render-jobs/bulk/{answer['id']}/cancel").json()
    assert cancelled["cancelledAt"] is not None
    done = wait_for_bulk(api, answer["id"])
    assert done["progress"]["completed"] + done["progress"]["failed"] == 150
    assert done["progress"]["failed"] > 0
    job = next(
        job
        for item in answer["items"]
        if (job := api.get(f"/v1/documents/render-jobs/{item['job']['id']}").json())["status"] == "failed"
    )
    assert job["error"]["code"] == "CANCELLED"
    one = {key: job[key] for key in ("templateVersionId", "patientId", "locale")}
    waited = api.post("/v1/documents/generate", json=one, headers={"Idempotency-Key": job["clientMutationId"]})
    assert (waited.status_code, waited.json()["code"]) == (409, "CANCELLED")
    # What was cancelled can still be wanted, under the same id; and its slots are free again.
    assert api.post(f"/v1/documents/render-jobs/{job['id']}/retry").status_code == 202
    assert api.wait(job["id"])["status"] == "completed"


def test_only_an_administrator_asks_in_bulk(service: Service, tenant: str) -> None:
    with service.caller(tenant, roles=("CLINICIAN",)) as nurse:
        answer = nurse.post("/v1/documents/render-jobs/bulk", json=bulk_of(nurse.platform_version(), 1))
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


def test_a_second_tenant_does_not_wait_behind_the_first_ones_backlog(service: Service, fhir_url: str, api: Api) -> None:
    version = api.platform_version()
    with service.caller(service.create_tenant(fhir_url)) as other:
        bulk = api.post("/v1/documents/render-jobs/bulk", json=bulk_of(version, 400)).json()["id"]
        job = other.render(request_for(version))
    assert job["status"] == "completed"
    api.post(f"/v1/documents/render-jobs/bulk/{bulk}/cancel")
    # Of four hundred, only those that the engine held already may have been begun before it: the slots of a tenant.
    begun_before = [
        one
        for one in all_jobs(api)
        if one["startedAt"] is not None and job["createdAt"] < one["startedAt"] < job["startedAt"]
    ]
    assert len(begun_before) <= 40, len(begun_before)


async def _queue_up(service: Service, job: str, count: int) -> None:
    """Ask for ``count`` more of a finished job, as rows: by the API they would take longer than the test itself."""
    columns = """tenant_id, fingerprint, fingerprint_version, kind, template_tenant_id, template_version_id, patient_id,
        encounter_id, locale, request_sealed, requested_at, created_by"""
    async with connected(service, role=None) as owner, owner.transaction():
        await owner.execute(
            f"""WITH made AS (
                INSERT INTO document_render_jobs (id, client_mutation_id, {columns})
                SELECT 'rjob_' || lpad(n::text, 26, '0'), gen_random_uuid(), {columns}
                FROM document_render_jobs, generate_series(1, $2) n WHERE id = $1
                RETURNING tenant_id, id, generation, lane)
            INSERT INTO queue.render_backlog (tenant_id, job_id, generation, lane)
            SELECT tenant_id, id, generation, lane FROM made ORDER BY id""",
            job,
            count,
        )


async def _progress(service: Service, tenant: str) -> int:
    async with connected(service, role=None) as owner:
        sql = "SELECT count(*) FROM document_render_jobs WHERE tenant_id = $1 AND status = 'completed'"
        count: int = await owner.fetchval(sql, tenant)
    return count


def test_twenty_thousand_jobs_of_one_tenant_are_no_wait_for_another(
    tmp_path_factory: pytest.TempPathFactory, fhir_url: str, record_property: Callable[[str, object], None]
) -> None:
    """Issue 4: the other's single job starts within 1 s; 0.1 s measured on an idle machine."""
    service = Service(tmp_path_factory.mktemp("crowd") / "data").start("--workers", "1")
    try:
        crowd, alone = service.create_tenant(fhir_url), service.create_tenant(fhir_url)
        with service.caller(crowd) as many, service.caller(alone) as one:
            first = many.render(request_for(many.platform_version()))
            asyncio.run(_queue_up(service, first["id"], 20_000))
            deadline = time.monotonic() + 60
            while asyncio.run(_progress(service, crowd)) < 5:
                assert time.monotonic() < deadline, "the crowd's jobs are not begun"
                time.sleep(0.2)
            request = request_for(one.platform_version())
            before = asyncio.run(_progress(service, crowd))
            job = one.render(request)
            passed = asyncio.run(_progress(service, crowd)) - before
            metrics = httpx2.get(f"{service.url}/metrics").text
    finally:
        service.stop()
    began, asked = (datetime.fromisoformat(job[name]) for name in ("startedAt", "createdAt"))
    record_property("started_after_seconds", (began - asked).total_seconds())
    print(f"started after {(began - asked).total_seconds():.3f} s, {passed} of the crowd's were finished meanwhile")
    assert job["status"] == "completed"
    # Of twenty thousand only those that the engine held already may go before it.
    assert passed <= 40
    waiting = {line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if not line.startswith("#")}
    assert waiting["document_service_queue_backlog"] > 10_000


def all_jobs(api: Api) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get("/v1/documents/render-jobs", params={"limit": 100, "cursor": cursor}).json()
        jobs += page["items"]
        cursor = page["nextCursor"]
    return jobs
