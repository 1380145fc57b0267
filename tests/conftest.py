"""Fixtures that many tests share: one real service and one real FHIR server for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from document_service.synthetic import SyntheticFhirServer
from engines import require_engine
from service import Api, Service


@pytest.fixture(scope="session")
def fhir_url() -> Iterator[str]:
    """A real FHIR R4 server with the made-up patients."""
    server = SyntheticFhirServer()
    server.start()
    try:
        yield server.base_url
    finally:
        server.stop()


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
