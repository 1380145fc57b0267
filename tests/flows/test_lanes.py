"""Large jobs in a lane of their own; jobs whose workers are lost, and jobs that the queue engine lost."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from document_service import housekeeping, worker
from document_service.render_jobs import CUTS_LIMIT, STARTS_LIMIT
from document_service.runtime import Runtime, open_runtime
from document_service.settings import load
from document_service.typesetting.jobs import LARGE_ROWS
from document_service.typesetting.pool import LARGE_LIMITS, SMALL_LIMITS, MiB, TypesettingPool
from document_service.typesetting.process import Limits
from raw_database import Connection, connected
from running_service import Api, Service, request_for

JOBS = "/v1/documents/render-jobs"

#: No page is set in five milliseconds, so every attempt in a lane with this limit exceeds it.
TOO_SHORT = Limits(wall_seconds=0.005, memory_bytes=1024 * MiB, renders=1000, resident_bytes=400 * MiB)

LONG_LIST = "patient-with-a-long-list"


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes requests and renders nothing: the tests run the worker."""
    running = Service(tmp_path_factory.mktemp("lanes") / "data").start("--no-worker")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def caller(quiet: Service, fhir_url: str) -> Iterator[Api]:
    with quiet.caller(quiet.create_tenant(fhir_url)) as api:
        yield api


@pytest.fixture
async def owner(quiet: Service) -> AsyncIterator[Connection]:
    async with connected(quiet, role=None) as connection:
        yield connection


@asynccontextmanager
async def at_work(
    service: Service, small: Limits = SMALL_LIMITS, large: Limits = LARGE_LIMITS
) -> AsyncIterator[Runtime]:
    """A worker in this process whose typesetting has these limits."""
    settings, _ = load({}, {"data_dir": str(service.data_dir), "workers": "1"})
    async with open_runtime(settings, typesetting=False) as runtime:
        async with TypesettingPool(1, limits=small, large_limits=large) as pool:
            runtime.typesetting = pool
            stop = asyncio.Event()
            working = asyncio.create_task(worker.work(runtime, stop))
            try:
                yield runtime
            finally:
                stop.set()
                await working


def post(api: Api, **more: Any) -> dict[str, Any]:
    answer = api.post(JOBS, json=request_for(api.platform_version(), **more))
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def finished(api: Api, job: dict[str, Any]) -> dict[str, Any]:
    return await asyncio.to_thread(api.wait, job["id"])


def codes(job: dict[str, Any]) -> list[tuple[int, str]]:
    return [(cause["attempt"], cause["code"]) for cause in job["attemptCauses"]]


async def slots(owner: Connection, tenant: str) -> dict[str, int]:
    rows = await owner.fetch("SELECT lane, admitted FROM queue.render_slots WHERE tenant_id = $1", tenant)
    return {row["lane"]: row["admitted"] for row in rows}


async def tenant_of(owner: Connection, job: dict[str, Any]) -> str:
    return str(await owner.fetchval("SELECT tenant_id FROM document_render_jobs WHERE id = $1", job["id"]))


async def test_what_exceeds_the_ordinary_limits_gets_the_large_ones(
    quiet: Service, caller: Api, owner: Connection
) -> None:
    job = post(caller)
    async with at_work(quiet, small=TOO_SHORT):
        done = await finished(caller, job)
    assert (done["status"], done["attempts"], codes(done)) == ("completed", 2, [(1, "RENDER_TIMEOUT")]), done
    assert done["error"] is None
    assert await owner.fetchval("SELECT lane FROM document_render_jobs WHERE id = $1", job["id"]) == "large"
    assert await slots(owner, await tenant_of(owner, job)) == {"normal": 0, "large": 0}


async def test_what_exceeds_the_large_limits_too_is_refused(quiet: Service, caller: Api) -> None:
    job = post(caller)
    async with at_work(quiet, small=TOO_SHORT, large=TOO_SHORT):
        done = await finished(caller, job)
    assert (done["status"], done["error"]["code"]) == ("failed", "RENDER_TIMEOUT")
    assert codes(done) == [(1, "RENDER_TIMEOUT"), (2, "RENDER_TIMEOUT")]
    assert "patient" not in str(done["error"]["detail"])


async def test_whoever_waits_for_a_large_document_gets_it(quiet: Service, caller: Api) -> None:
    body = {k: v for k, v in request_for(caller.platform_version()).items() if k not in ("clientMutationId",)}
    del body["requestedAt"]
    async with at_work(quiet, small=TOO_SHORT):
        key = {"Idempotency-Key": str(uuid.uuid4())}
        answer = await asyncio.to_thread(caller.post, "/v1/documents/generate", json=body, headers=key)
        if answer.status_code == 504:
            # A busy machine: then it lives on, and the repeat has it.
            await asyncio.to_thread(caller.wait, answer.json()["renderJobId"])
            answer = await asyncio.to_thread(caller.post, "/v1/documents/generate", json=body, headers=key)
    assert answer.status_code in (200, 201), answer.text


@pytest.fixture(scope="module")
def long_list(fhir_url: str) -> str:
    """A patient with more orders than the ordinary lane prints."""
    patient = {
        "resourceType": "Patient",
        "id": LONG_LIST,
        "name": [{"family": "Noorzai", "given": ["Maryam"]}],
        "birthDate": "1990-01-01",
    }
    orders = [
        {
            "resourceType": "ServiceRequest",
            "id": f"{LONG_LIST}-{number}",
            "status": "active",
            "intent": "order",
            "code": {"text": f"Test {number}"},
            "subject": {"reference": f"Patient/{LONG_LIST}"},
        }
        for number in range(LARGE_ROWS + 1)
    ]
    records = [patient, *orders]
    for start in range(0, len(records), 200):
        entries = [
            {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
            for one in records[start : start + 200]
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert httpx2.post(fhir_url, json=bundle, timeout=60, trust_env=False).status_code == 200
    return LONG_LIST


async def test_long_lists_have_their_lane_and_the_others_pass(
    quiet: Service, caller: Api, owner: Connection, long_list: str
) -> None:
    long = [post(caller, patient=long_list, encounterId=None) for _ in range(4)]
    short = post(caller)
    async with at_work(quiet):
        passed = await finished(caller, short)
        admitted = await slots(owner, await tenant_of(owner, short))
        done = [await finished(caller, job) for job in long]
    assert passed["status"] == "completed"
    assert admitted.get("large", 0) <= 2
    assert {(job["status"], str(codes(job))) for job in done} == {("completed", str([(1, "DATA_LARGE")]))}, done
    assert passed["finishedAt"] < max(job["finishedAt"] for job in done)
    assert await slots(owner, await tenant_of(owner, short)) == {"normal": 0, "large": 0}


async def test_a_job_over_which_every_worker_dies_ends_and_can_be_retried(
    quiet: Service, caller: Api, owner: Connection
) -> None:
    """The state that eight killed workers leave behind."""
    job = post(caller)
    await owner.execute(
        """UPDATE document_render_jobs SET status = 'running', attempts = $2, unanswered_starts = $2, started_at = now()
           WHERE id = $1""",
        job["id"],
        STARTS_LIMIT,
    )
    async with at_work(quiet):
        done = await finished(caller, job)
        assert (done["status"], done["error"]["code"]) == ("failed", "WORKERS_LOST")
        assert codes(done) == [(STARTS_LIMIT, "WORKER_LOST"), (STARTS_LIMIT + 1, "WORKERS_LOST")]
        assert await slots(owner, await tenant_of(owner, job)) == {"normal": 0}
        assert caller.post(f"{JOBS}/{job['id']}/retry").status_code == 202
        again = await finished(caller, job)
    assert (again["status"], again["attempts"]) == ("completed", STARTS_LIMIT + 2)


async def test_fewer_lost_workers_only_leave_their_cause(quiet: Service, caller: Api, owner: Connection) -> None:
    job = post(caller)
    await owner.execute(
        """UPDATE document_render_jobs SET status = 'running', attempts = 3, unanswered_starts = 3,
               started_at = now() - interval '20 s' WHERE id = $1""",
        job["id"],
    )
    async with at_work(quiet):
        done = await finished(caller, job)
    assert (done["status"], codes(done)) == ("completed", [(3, "WORKER_LOST")])
    assert done["attemptCauses"][0]["seconds"] >= 20


async def test_a_job_that_takes_the_whole_service_down_with_it_ends_as_well(
    quiet: Service, caller: Api, owner: Connection
) -> None:
    """What a container leaves behind whose processes are all ended whenever this page needs its memory."""
    job = post(caller)
    await owner.execute(
        """UPDATE document_render_jobs SET status = 'running', attempts = $2, started_at = now(), attempt_causes =
               (SELECT jsonb_agg(jsonb_build_object('attempt', n, 'code', 'SERVICE_LOST', 'seconds', 1))
                FROM generate_series(1, $2) AS n) WHERE id = $1""",
        job["id"],
        CUTS_LIMIT,
    )
    async with at_work(quiet):
        done = await finished(caller, job)
        assert (done["status"], done["error"]["code"]) == ("failed", "WORKERS_LOST")
        assert caller.post(f"{JOBS}/{job['id']}/retry").status_code == 202
        assert (await finished(caller, job))["status"] == "completed"


async def test_the_watchdog_gives_a_lost_job_a_new_entry(quiet: Service, caller: Api, owner: Connection) -> None:
    """Whatever the queue engine does to its tables, the job's row is the truth."""
    jobs = [post(caller) for _ in range(3)]
    ids = [job["id"] for job in jobs]
    await owner.execute("DELETE FROM queue.pgqueuer WHERE convert_from(payload, 'UTF8')::jsonb->>'job' = ANY ($1)", ids)
    # Also the counts of slots are set right: a worker that died between two statements leaves them wrong.
    await owner.execute(
        "UPDATE queue.render_slots SET admitted = 32 WHERE tenant_id = $1", await tenant_of(owner, jobs[0])
    )
    async with at_work(quiet) as runtime:
        await housekeeping.make_round(runtime)
        assert {caller.get(f"{JOBS}/{job}").json()["status"] for job in ids} == {
            "queued"
        }  # They may yet be on their way.
        await owner.execute(
            "UPDATE document_render_jobs SET created_at = now() - $2::interval WHERE id = ANY ($1)",
            ids,
            2 * housekeeping.LOST_AFTER,
        )
        await housekeeping.make_round(runtime)
        assert {(await finished(caller, job))["status"] for job in jobs} == {"completed"}
    assert await slots(owner, await tenant_of(owner, jobs[0])) == {"normal": 0}


async def test_the_log_says_why_an_attempt_failed_and_nothing_of_the_patient(quiet: Service, caller: Api) -> None:
    job = post(caller, patient="nobody-of-that-name", encounterId=None)
    second = Service(quiet.data_dir).start("--workers", "1")
    try:
        done = await finished(caller, job)
    finally:
        second.stop()
    assert codes(done) == [(1, "PATIENT_UNKNOWN")]
    lines = [line for line in quiet.log.splitlines() if "attempt.failed" in line and job["id"] in line]
    assert len(lines) == 1
    assert "PATIENT_UNKNOWN" in lines[0]
    assert "nobody-of-that-name" not in lines[0]
