"""kill -9 of whatever runs: what was acknowledged is rendered exactly once, and everything comes back by itself.

One data folder goes through all of it, as the machine of a clinic does. No test cleans up after the one before.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from document_service.fault_proxy import FaultProxy, Faults
from raw_database import connected
from running_service import Api, Service, request_for

JOBS = "/v1/documents/render-jobs"

#: Contract §3: a worker that dies is noticed and its job taken over within this many seconds.
TAKEOVER_SECONDS = 15.0

#: What a machine under the load of a whole test run takes to be back; an idle one needs a tenth of it.
RECOVERY_SECONDS = 60.0


class Site:
    """A data folder, its tenant, the service that runs on it, and the network between it and the FHIR server."""

    def __init__(self, data_dir: Path, proxy: FaultProxy, fhir_path: str) -> None:
        self.data_dir = data_dir
        self.proxy = proxy
        self.service: Service | None = None
        self.tenant = ""
        self.version = ""
        self._fhir_url = f"{proxy.url}/{fhir_path}"

    def serve(self, *arguments: str) -> Service:
        """Start a service on the folder, also beside another one."""
        service = Service(self.data_dir).start("--workers", "1", *arguments)
        if not self.tenant:
            self.tenant = service.create_tenant(self._fhir_url)
            with service.caller(self.tenant) as caller:
                self.version = caller.platform_version()
        return service

    def up(self) -> Service:
        """The service of the folder; it runs on from one test to the next."""
        self.proxy.heal()
        if self.service is None:
            self.service = self.serve()
        return self.service

    def down(self) -> None:
        if self.service is not None:
            self.service.stop()
            self.service = None

    def start_worker(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "document_service", "worker", "--data-dir", str(self.data_dir), "--workers", "1"],
            stdout=subprocess.PIPE,
            stderr=(self.data_dir.parent / "worker.log").open("a"),
            text=True,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline().strip() == "worker ready"
        return worker

    def cut_off(self) -> None:
        """Let the FHIR server take requests and answer none: a render that has begun stays in its middle."""
        self.proxy.apply(Faults(network="refuse"))  # Resets what is open, which would be closed as idle otherwise.
        self.proxy.apply(Faults(network="blackhole"))

    def post(self, caller: Api, **more: Any) -> dict[str, Any]:
        answer = caller.post(JOBS, json=request_for(self.version, **more))
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    async def _fetch(self, service: Service, sql: str, *values: Any) -> list[Any]:
        async with connected(service, role=None) as connection:
            rows: list[Any] = await connection.fetch(sql, *values)
        return rows

    def rows(self, service: Service, sql: str, *values: Any) -> list[Any]:
        return asyncio.run(self._fetch(service, sql, *values))

    def has_one_document_each(self, service: Service, jobs: list[str]) -> None:
        """Every job is completed, has one document and one record of it, and no number was given twice."""
        states = self.rows(service, "SELECT id, status FROM document_render_jobs WHERE id = ANY ($1)", jobs)
        assert {row["id"]: row["status"] for row in states} == dict.fromkeys(jobs, "completed")
        documents = self.rows(
            service, "SELECT render_job_id, number FROM documents WHERE render_job_id = ANY ($1)", jobs
        )
        assert sorted(row["render_job_id"] for row in documents) == sorted(jobs)
        assert len({row["number"] for row in documents}) == len(jobs)
        made = """SELECT job_id FROM audit_events
                  WHERE action = 'document.generate' AND outcome = 'success' AND job_id = ANY ($1)"""
        assert sorted(row["job_id"] for row in self.rows(service, made, jobs)) == sorted(jobs)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, fhir_url: str) -> Iterator[Site]:
    host, _, path = fhir_url.removeprefix("http://").partition("/")
    with FaultProxy(f"http://{host}") as proxy:
        here = Site(tmp_path_factory.mktemp("crashes") / "data", proxy, path)
        yield here
        here.down()


@pytest.fixture
def service(site: Site) -> Service:
    return site.up()


@pytest.fixture
def caller(site: Site, service: Service) -> Iterator[Api]:
    with service.caller(site.tenant) as api:
        yield api


def _wait_until(condition: Callable[[], bool], seconds: float = RECOVERY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)


def _is_running(caller: Api, job_id: str) -> Callable[[], bool]:
    return lambda: caller.get(f"{JOBS}/{job_id}").json()["status"] == "running"


def _is_ready(service: Service) -> Callable[[], bool]:
    return lambda: httpx2.get(f"{service.url}/health/ready").status_code == 200


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0])


@pytest.fixture(scope="class")
def workers(site: Site) -> Iterator[tuple[Service, list[subprocess.Popen[str]]]]:
    """A service that renders nothing itself, and two workers."""
    api = site.serve("--no-worker")
    pair = [site.start_worker(), site.start_worker()]
    yield api, pair
    for worker in pair:
        worker.send_signal(signal.SIGCONT)
        worker.terminate()
        worker.wait(40)
    api.stop()


@contextmanager
def _in_mid_render(site: Site, caller: Api, spare: Callable[[signal.Signals], None]) -> Iterator[dict[str, Any]]:
    """A job that has begun where it was meant to: whoever else could take it sleeps until the block begins."""
    spare(signal.SIGSTOP)
    site.cut_off()
    job = site.post(caller)
    try:
        _wait_until(_is_running(caller, job["id"]))
    finally:
        spare(signal.SIGCONT)
    yield job


class TestTwoWorkers:
    def test_an_attempt_that_was_thought_dead_does_not_count(
        self, site: Site, workers: tuple[Service, list[subprocess.Popen[str]]]
    ) -> None:
        """A stopped process is no dead one: when it goes on, its render finds the job taken over and is dropped."""
        api, (asleep, other) = workers
        with api.caller(site.tenant) as caller:
            with _in_mid_render(site, caller, other.send_signal) as job:
                asleep.send_signal(signal.SIGSTOP)
                site.proxy.heal()
                finished = caller.wait(job["id"])
            assert (finished["status"], finished["attempts"]) == ("completed", 2), finished
            asleep.send_signal(signal.SIGCONT)
            time.sleep(1)
            assert caller.get(f"{JOBS}/{job['id']}").json() == finished
            site.has_one_document_each(api, [job["id"]])

    def test_a_worker_killed_in_mid_render_is_replaced_by_another(
        self,
        site: Site,
        workers: tuple[Service, list[subprocess.Popen[str]]],
        record_property: Callable[[str, object], None],
    ) -> None:
        api, (victim, other) = workers
        with api.caller(site.tenant) as caller:
            with _in_mid_render(site, caller, other.send_signal) as job:
                victim.kill()
                killed = time.monotonic()
                site.proxy.heal()
                finished = caller.wait(job["id"])
                taken_over = time.monotonic() - killed
            record_property("takeover_seconds", round(taken_over, 2))
            assert (finished["status"], finished["attempts"]) == ("completed", 2), finished
            assert taken_over < TAKEOVER_SECONDS
            site.has_one_document_each(api, [job["id"]])


def test_a_service_killed_with_its_database_is_replaced_by_another(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    """The dead process ran PostgreSQL too: the survivor starts it, and finishes the job that was in mid-render."""
    site.down()
    victim = site.serve()
    site.service = survivor = site.serve()
    postmaster = _postmaster(site.data_dir)
    with victim.caller(site.tenant) as caller:
        with _in_mid_render(site, caller, lambda number: os.kill(survivor.pid, number)) as job:
            victim.kill()
            killed = time.monotonic()
            site.proxy.heal()
    with survivor.caller(site.tenant) as caller:
        _wait_until(lambda: caller.get(f"{JOBS}/{job['id']}").status_code == 200)
        finished = caller.wait(job["id"])
        taken_over = time.monotonic() - killed
    record_property("takeover_with_database_seconds", round(taken_over, 2))
    assert (finished["status"], finished["attempts"]) == ("completed", 2), finished
    assert taken_over < TAKEOVER_SECONDS
    assert _postmaster(site.data_dir) != postmaster
    site.has_one_document_each(survivor, [job["id"]])


def test_a_killed_postgresql_comes_back_and_the_queue_goes_on(
    site: Site, service: Service, caller: Api, record_property: Callable[[str, object], None]
) -> None:
    site.cut_off()
    jobs = [site.post(caller)["id"] for _ in range(8)]
    _wait_until(_is_running(caller, jobs[0]))
    os.kill(_postmaster(site.data_dir), signal.SIGKILL)
    killed = time.monotonic()
    site.proxy.heal()
    _wait_until(_is_ready(service))
    record_property("postgresql_back_seconds", round(time.monotonic() - killed, 2))
    jobs.append(site.post(caller)["id"])
    assert {caller.wait(job)["status"] for job in jobs} == {"completed"}
    record_property("queue_finished_seconds", round(time.monotonic() - killed, 2))
    site.has_one_document_each(service, jobs)
    assert service.pid


def test_while_postgresql_is_away_requests_are_told_to_come_again(site: Site, service: Service, caller: Api) -> None:
    postmaster = _postmaster(site.data_dir)
    os.kill(postmaster, signal.SIGKILL)
    answers = []
    deadline = time.monotonic() + RECOVERY_SECONDS
    request = request_for(site.version)
    while time.monotonic() < deadline:
        answer = caller.post(JOBS, json=request)
        answers.append((answer.status_code, answer.json().get("code")))
        if answer.status_code in (200, 202):
            break
        assert answer.headers["retry-after"]
        time.sleep(0.02)
    assert set(answers[:-1]) <= {(503, "DATABASE_UNAVAILABLE")}, answers
    assert answers[-1][0] in (200, 202)
    assert caller.wait(answer.json()["id"])["status"] == "completed"
    site.has_one_document_each(service, [answer.json()["id"]])


def test_a_replay_after_a_restart_of_service_and_database_is_the_same_job(site: Site, service: Service) -> None:
    request = request_for(site.version)
    with service.caller(site.tenant) as caller:
        finished = caller.render(request)
        assert finished["status"] == "completed"
        epoch = caller.get(JOBS).headers["x-sync-epoch"]
    site.down()
    with site.up().caller(site.tenant) as caller:
        answer = caller.post(JOBS, json=request)
        assert (answer.status_code, answer.headers["idempotent-replayed"]) == (200, "true")
        assert answer.json() == finished
        assert answer.headers["x-sync-epoch"] == epoch
        assert caller.content(finished["documentId"]).status_code == 200


def test_a_killed_typesetting_process_costs_a_try(site: Site, service: Service, caller: Api) -> None:
    jobs = [site.post(caller)["id"] for _ in range(30)]
    _wait_until(lambda: caller.get(f"{JOBS}/{jobs[0]}").json()["status"] == "completed")
    killed = [pid for pid in _typesetting_processes(service.pid) if _kill(pid)]
    assert killed
    finished = [caller.wait(job) for job in jobs]
    assert {job["status"] for job in finished} == {"completed"}, finished
    site.has_one_document_each(service, jobs)
    assert set(_typesetting_processes(service.pid)) - set(killed)


def _typesetting_processes(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"PPid:\t{parent}\n" in (entry / "status").read_text():
                    command = (entry / "cmdline").read_bytes()
                    if b"postgres" not in command and b"resource_tracker" not in command:
                        found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_a_fhir_server_that_was_down_costs_a_try(site: Site, service: Service, caller: Api) -> None:
    site.proxy.apply(Faults(network="refuse"))
    job = site.post(caller)
    failures = "SELECT transient_failures AS n FROM document_render_jobs WHERE id = $1"
    _wait_until(lambda: site.rows(service, failures, job["id"])[0]["n"] == 1)
    assert caller.get(f"{JOBS}/{job['id']}").json()["status"] == "queued"
    site.proxy.heal()
    finished = caller.wait(job["id"])
    assert (finished["status"], finished["attempts"], finished["error"]) == ("completed", 2, None)
    site.has_one_document_each(service, [job["id"]])


def test_a_store_that_was_away_costs_a_try(site: Site, service: Service, caller: Api) -> None:
    """Permissions do not bind root, so the folder goes away and a file takes its place, as a lost mount leaves it."""
    store, away = site.data_dir / "objects", site.data_dir / "objects.away"
    store.rename(away)
    store.write_bytes(b"")
    try:
        job = site.post(caller)
        causes = "SELECT attempt_causes->0->>'code' AS code FROM document_render_jobs WHERE id = $1"
        _wait_until(lambda: site.rows(service, causes, job["id"])[0]["code"] is not None)
        assert site.rows(service, causes, job["id"])[0]["code"] == "STORE_UNAVAILABLE"
        ready = caller.get("/health/ready")
        assert (ready.status_code, ready.json()["components"]["store"]) == (503, "down")
        generate = {k: v for k, v in request_for(site.version).items() if k not in ("clientMutationId", "requestedAt")}
        refused = caller.post("/v1/documents/generate", json=generate, headers={"Idempotency-Key": str(uuid.uuid4())})
        assert (refused.status_code, refused.json()["code"]) == (503, "STORE_UNAVAILABLE")
    finally:
        store.unlink()
        away.rename(store)
    finished = caller.wait(job["id"])
    assert (finished["status"], finished["error"]) == ("completed", None)
    site.has_one_document_each(service, [job["id"]])
    assert caller.content(finished["documentId"]).status_code == 200


class Clinic(threading.Thread):
    """Posts requests without pause, wherever the service is, and remembers which were acknowledged."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self.url: str | None = None
        self.token = ""
        self.acknowledged: dict[str, str] = {}
        self.tried: dict[str, dict[str, Any]] = {}
        self.unexpected: list[str] = []
        self._site = site
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            url = self.url
            if url is None:
                time.sleep(0.01)
                continue
            request = request_for(self._site.version)
            self.tried[request["clientMutationId"]] = request
            try:
                answer = httpx2.post(
                    url + JOBS, json=request, headers={"Authorization": f"Bearer {self.token}"}, timeout=10
                )
            except httpx2.HTTPError:
                continue
            if answer.status_code == 202:
                self.acknowledged[request["clientMutationId"]] = answer.json()["id"]
            elif answer.status_code != 503:
                self.unexpected.append(answer.text)
            # A render takes the machine some 50 ms; the queue may grow, but not without end.
            self._over.wait(0.05)

    def stop(self) -> None:
        self._over.set()
        self.join(20)


def test_twenty_kills_at_random_moments_lose_and_double_nothing(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    """Every third round ends the service with everything it runs, the others PostgreSQL alone."""
    moments = random.Random(20260914)
    clinic = Clinic(site)
    clinic.start()
    service = site.up()
    try:
        for number in range(20):
            clinic.token = service.token(site.tenant)
            clinic.url = service.url
            time.sleep(moments.uniform(0.0, 0.7))
            if number % 3 == 2:
                clinic.url = None
                service.kill()
                site.service = service = site.serve()
            else:
                _kill(_postmaster(site.data_dir))
                _wait_until(_is_ready(service))
        clinic.stop()
        assert clinic.unexpected == []
        assert len(clinic.acknowledged) > 20
        with service.caller(site.tenant) as caller:
            for job in clinic.acknowledged.values():
                finished = caller.wait(job, RECOVERY_SECONDS)
                assert finished["status"] == "completed", finished
            # What was sent and not acknowledged may be there or not; sent again, it is one job as well.
            lost = [request for key, request in clinic.tried.items() if key not in clinic.acknowledged]
            repeated = [caller.post(JOBS, json=request) for request in lost]
            assert {answer.status_code for answer in repeated} <= {200, 202}
            known = list(clinic.acknowledged.values()) + [answer.json()["id"] for answer in repeated]
            for job in known:
                assert caller.wait(job, RECOVERY_SECONDS)["status"] == "completed"
        record_property("acknowledged", len(clinic.acknowledged))
        site.has_one_document_each(service, known)
        orphans = """SELECT count(*) AS n FROM documents d WHERE NOT EXISTS
            (SELECT FROM document_render_jobs j WHERE j.tenant_id = d.tenant_id AND j.document_id = d.id)"""
        assert site.rows(service, orphans)[0]["n"] == 0
        _wait_until(lambda: site.rows(service, "SELECT count(*) AS n FROM queue.pgqueuer")[0]["n"] == 0)
    finally:
        clinic.stop()
