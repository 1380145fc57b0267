"""An S3 store that goes away in mid-job and returns: the job waits for it, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from document_service.fault_proxy import FaultProxy, Faults
from raw_database import connected
from running_service import Api, Service, request_for
from seaweedfs import Seaweed, running_seaweed

#: An idle machine is done in three; a loaded one gets time to spare.
SECONDS = 90.0


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultProxy, Seaweed]]:
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as seaweed, FaultProxy(seaweed.endpoint) as between:
        yield between, Seaweed(between.url, seaweed.bucket, seaweed.environment)


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, proxy: tuple[FaultProxy, Seaweed]
) -> Iterator[tuple[Service, FaultProxy]]:
    between, seaweed = proxy
    environment = {**seaweed.environment, "DOCUMENT_SERVICE_OBJECT_STORE_URL": seaweed.location("away")}
    running = Service(tmp_path_factory.mktemp("away") / "data", **environment).start("--workers", "1")
    try:
        yield running, between
    finally:
        between.heal()
        running.stop()


@pytest.fixture
def caller(site: tuple[Service, FaultProxy], fhir_url: str) -> Iterator[Api]:
    service, between = site
    with service.caller(service.create_tenant(fhir_url)) as api:
        yield api
    between.heal()


async def _documents(service: Service, job: str) -> int:
    async with connected(service, role=None) as owner:
        count: int = await owner.fetchval("SELECT count(*) FROM documents WHERE render_job_id = $1", job)
    return count


def _until_tried(api: Api, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        shown: dict[str, Any] = api.get(f"/v1/documents/render-jobs/{job}").json()
        if shown["attemptCauses"]:
            return shown
        time.sleep(0.05)
    raise AssertionError("no attempt has ended")


@pytest.mark.parametrize(
    "faults", [Faults(network="refuse"), Faults(reset_after_up=4096)], ids=["refused", "cut in the middle"]
)
def test_a_store_that_returns_has_the_document_once(
    site: tuple[Service, FaultProxy], caller: Api, faults: Faults
) -> None:
    service, between = site
    request = request_for(caller.platform_version())
    between.apply(faults)
    job = caller.post("/v1/documents/render-jobs", json=request).json()
    tried = _until_tried(caller, job["id"])
    assert {cause["code"] for cause in tried["attemptCauses"]} == {"STORE_UNAVAILABLE"}
    assert tried["status"] == "queued"
    between.heal()
    done = caller.wait(job["id"], SECONDS)
    assert (done["status"], done["error"]) == ("completed", None), done
    assert asyncio.run(_documents(service, job["id"])) == 1
    assert caller.content(done["documentId"]).content.startswith(b"%PDF-")
    assert caller.post("/v1/documents/render-jobs", json=request).json() == done


def test_requests_are_taken_while_it_is_away(site: tuple[Service, FaultProxy], caller: Api) -> None:
    """Intake needs no store: a device's queue empties whatever happens behind it."""
    _, between = site
    between.apply(Faults(network="refuse"))
    answers = [caller.post("/v1/documents/render-jobs", json=request_for(caller.platform_version())) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {202}
    between.heal()
    assert {caller.wait(answer.json()["id"], SECONDS)["status"] for answer in answers} == {"completed"}
