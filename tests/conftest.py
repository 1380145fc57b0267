"""Fixtures that many tests share: one real service and one real FHIR server for the whole run."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from document_service.synthetic import SyntheticFhirServer
from engines import require_engine
from longest_first import place
from running_service import Api, Service


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the files where several processes share them; the tests of a file keep their order."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.path))


@pytest.fixture(scope="session")
def fhir_url() -> Iterator[str]:
    """A real FHIR R4 server with the made-up patients."""
    server = SyntheticFhirServer()
    server.start()
    try:
        yield server.base_url
    finally:
        server.stop()


@pytest.fixture(scope="module")
def bounded_memory() -> Iterator[None]:
    """Let this process have 2 GiB more than now and no more, as the child has that evaluates for the service.

    A limit that fails must fail a test, not the machine: an alarm that nobody heard once took 24 GB.
    """
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * 1024**3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service; tests use tenants of their own on it and leave it running."""
    running = Service(tmp_path_factory.mktemp("service") / "data").start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def tenant(service: Service, fhir_url: str) -> str:
    """A fresh tenant on the shared service."""
    return service.create_tenant(fhir_url)


@pytest.fixture
def api(service: Service, tenant: str) -> Iterator[Api]:
    """A caller with every role in a fresh tenant."""
    with service.caller(tenant) as caller:
        yield caller


__all__ = ["api", "fhir_url", "require_engine", "service", "tenant"]
