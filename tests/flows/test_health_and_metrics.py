"""What load balancers and Prometheus are told, with every part there and with each part away."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from document_service.api import outcomes
from document_service.errors import ServiceError
from document_service.postgres.processes import read_pid_file
from running_service import Service, request_for

#: PostgreSQL is started again by its supervisor within a second; a busy machine takes its time.
BACK_SECONDS = 60.0


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("health") / "data").start("--workers", "1")
    try:
        yield running
    finally:
        running.stop()


def ready(service: Service) -> tuple[int, set[str]]:
    """The status, and the parts that are down."""
    answer = httpx2.get(f"{service.url}/health/ready", timeout=30, trust_env=False)
    told = answer.json()
    assert (told["status"] == "ready") == (answer.status_code == 200)
    assert {*told["components"]} == {"database", "keys", "store", "scanner", "typesetting"}
    return answer.status_code, {name for name, state in told["components"].items() if state == "down"}


def metrics(service: Service) -> dict[str, float]:
    answer = httpx2.get(f"{service.url}/metrics", timeout=30, trust_env=False)
    assert answer.status_code == 200
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("part", "folder"), [("keys", "keys"), ("store", "objects")])
def test_a_folder_that_is_gone_is_not_ready_until_it_is_back(alone: Service, part: str, folder: str) -> None:
    assert ready(alone) == (200, set())
    here, away = alone.data_dir / folder, alone.data_dir / f"{folder}.away"
    here.rename(away)
    try:
        assert ready(alone) == (503, {part})
    finally:
        away.rename(here)
    assert ready(alone) == (200, set())


def test_a_master_key_that_is_damaged_is_not_ready(alone: Service) -> None:
    path = alone.data_dir / "keys/master.key"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    try:
        assert ready(alone) == (503, {"keys"})
    finally:
        path.write_bytes(whole)
    assert ready(alone) == (200, set())


def test_without_the_database_it_is_not_ready_and_the_other_figures_are_told(alone: Service) -> None:
    pid_file = read_pid_file(alone.data_dir / "postgres/cluster")
    assert pid_file is not None
    # Its folder is away too, so that the supervisor cannot bring it back at once.
    cluster, away = alone.data_dir / "postgres/cluster", alone.data_dir / "postgres/away"
    os.kill(pid_file.pid, signal.SIGKILL)
    cluster.rename(away)
    try:
        _until(lambda: ready(alone) == (503, {"database"}))
        _until(lambda: "DatabaseStartFailed" in alone.log or "is gone" in alone.log)
        told = metrics(alone)
        assert told["document_service_queue_waiting"] != told["document_service_queue_waiting"]
        assert told['document_service_requests_total{route="/health/ready",status="5xx"}'] >= 1
        assert httpx2.get(f"{alone.url}/health/live", timeout=30, trust_env=False).status_code == 200
    finally:
        # A start begins a database where there is none; whoever brings one back must not.
        assert not cluster.exists()
        away.rename(cluster)
    _until(lambda: ready(alone) == (200, set()))
    assert metrics(alone)["document_service_queue_waiting"] == 0


def test_no_label_carries_what_a_caller_typed(alone: Service, fhir_url: str) -> None:
    """Every series is one of a known few, however many ids, words and tenants went by."""
    for _ in range(2):
        with alone.caller(alone.create_tenant(fhir_url)) as api:
            job = api.render(request_for(api.platform_version()))
            api.render(request_for(api.platform_version(), patient="nobody-of-that-name", encounterId=None))
            for path in (f"/v1/documents/{job['documentId']}", "/v1/documents/doc_typed", "/typed/by?typed=1"):
                api.get(path)
            api.request("TYPED", "/v1/documents")
            api.post("/v1/documents?typed=1", content=b"typed")
    httpx2.get(f"{alone.url}/v1/documents/typed", timeout=30, trust_env=False)
    answer = httpx2.get(f"{alone.url}/metrics", timeout=30, trust_env=False).text
    assert "typed" not in answer.lower()
    labels = {(name, value) for name, value in re.findall(r'(\w+)="([^"]*)"', answer) if name != "le"}
    routes = {path for _, path in outcomes.OUTCOMES} | {"(none)", "/openapi.json", "/docs"}
    assert {value for name, value in labels if name == "route"} <= routes
    assert {value for name, value in labels if name == "status"} <= {f"{digit}xx" for digit in range(6)}
    codes = {error.code for error in _errors(ServiceError)}
    assert {value for name, value in labels if name == "outcome"} <= codes | {"completed", "DATA_LARGE"}
    assert {name for name, _ in labels} <= {"route", "status", "outcome"}


def _errors(base: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield base
    for one in base.__subclasses__():
        yield from _errors(one)
