"""429 over HTTP, per user and per tenant: told how long, and after that wait it passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx2
import pytest

from running_service import Api, Service, request_for

#: What this service is told to allow: the least that may be set, so that a test meets the limits soon.
BURST, TENANT_BURST = 50, 80


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the narrowest limits that its settings take: one request in two seconds after the burst."""
    running = Service(
        tmp_path_factory.mktemp("narrow") / "data",
        DOCUMENT_SERVICE_USER_RATE=f"{BURST}/0.5",
        DOCUMENT_SERVICE_TENANT_RATE=f"{TENANT_BURST}/0.5",
    ).start()
    try:
        yield running
    finally:
        running.stop()


def at_once(api: Api, count: int, request: dict[str, object] | None = None) -> list[httpx2.Response]:
    """``count`` requests in flight together: posts of ``request``, or reads of the catalogue."""

    async def send() -> list[httpx2.Response]:
        limits = httpx2.Limits(max_connections=count)
        headers = {"Authorization": api.headers["Authorization"]}
        async with httpx2.AsyncClient(base_url=api.base_url, headers=headers, limits=limits, timeout=60) as client:
            calls = (
                client.get("/v1/document-templates")
                if request is None
                else client.post("/v1/documents/render-jobs", json=request)
                for _ in range(count)
            )
            return await asyncio.gather(*calls)

    return asyncio.run(send())


def test_fifty_identical_posts_at_once_pass_the_narrowest_limit_and_the_next_is_told_to_wait(
    narrow: Service, fhir_url: str
) -> None:
    tenant = narrow.create_tenant(fhir_url)
    with narrow.caller(tenant, "planner") as planner:
        version = planner.platform_version()
    with narrow.caller(tenant, "nurse") as nurse, narrow.caller(tenant, "doctor") as doctor:
        request = request_for(version)
        answers = at_once(nurse, 50, request)
        assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
        assert len({answer.json()["id"] for answer in answers}) == 1
        refused = nurse.get("/v1/documents/render-jobs")
        assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_REQUESTS")
        assert refused.headers["content-type"] == "application/problem+json"
        # Another user of the tenant is not in the way of this one.
        assert doctor.get("/v1/documents/render-jobs").status_code == 200
        wait = int(refused.headers["Retry-After"])
        assert 1 <= wait <= 2
        time.sleep(wait)
        assert nurse.post("/v1/documents/render-jobs", json=request).status_code == 200


def test_a_refused_request_consumes_no_id(narrow: Service, fhir_url: str) -> None:
    tenant = narrow.create_tenant(fhir_url)
    with narrow.caller(tenant, "planner") as planner:
        version = planner.platform_version()
    with narrow.caller(tenant) as nurse:
        at_once(nurse, BURST)
        request = request_for(version)
        refused = nurse.post("/v1/documents/render-jobs", json=request)
        assert refused.status_code == 429
        time.sleep(int(refused.headers["Retry-After"]))
        accepted = nurse.post("/v1/documents/render-jobs", json=request)
        assert (accepted.status_code, "Idempotent-Replayed" in accepted.headers) == (202, False)


def test_users_together_meet_the_limit_of_their_tenant_and_no_other_tenant_does(narrow: Service, fhir_url: str) -> None:
    crowded, quiet = narrow.create_tenant(fhir_url), narrow.create_tenant(fhir_url)
    statuses: list[int] = []
    for user in ("one", "two", "three"):
        with narrow.caller(crowded, user) as api:
            answers = at_once(api, BURST - 10)
        statuses += [answer.status_code for answer in answers]
        refused = [answer for answer in answers if answer.status_code == 429]
    # What trickles in while they are sent is a request in two seconds.
    assert TENANT_BURST <= statuses.count(200) <= TENANT_BURST + 5
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    with narrow.caller(quiet) as api:
        assert api.get("/v1/document-templates").status_code == 200


def test_what_a_runaway_user_is_refused_costs_the_tenant_nothing(narrow: Service, fhir_url: str) -> None:
    tenant = narrow.create_tenant(fhir_url)
    with narrow.caller(tenant, "runaway") as runaway:
        assert [answer.status_code for answer in at_once(runaway, 3 * BURST)].count(429) >= BURST
    with narrow.caller(tenant, "nurse") as nurse:
        assert {answer.status_code for answer in at_once(nurse, TENANT_BURST - BURST - 5)} == {200}
