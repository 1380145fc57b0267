"""One service for most rows, started once, and the people of its clinics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clamd_between import ClamdBetween, clamd_between
from contract.from_outside.caller import Caller, Request, instant, new_id
from contract.from_outside.clinic import CLINIC, STRANGERS, Clinic
from contract.from_outside.fhir_edge import FhirGate, fhir_behind_gate
from contract.from_outside.forms import Form


@pytest.fixture(scope="session")
def fhir() -> Iterator[FhirGate]:
    """The FHIR server of both organisations."""
    with fhir_behind_gate() as gate:
        yield gate


@pytest.fixture(scope="session")
def scanner() -> Iterator[ClamdBetween]:
    """Where the service looks for its virus scanner; nothing answers there until a test puts one behind it."""
    with clamd_between() as between:
        yield between


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory, fhir: FhirGate, scanner: ClamdBetween) -> Iterator[Clinic]:
    """The running service, with two tenants."""
    running = Clinic(tmp_path_factory.mktemp("outside") / "data", DOCUMENT_SERVICE_CLAMD=scanner.address).start()
    try:
        for tenant in (CLINIC, STRANGERS):
            running.command("tenant", "create", tenant, "--fhir-url", fhir.url, "--name", tenant.title())
        # It has expired by the time that a test asks for it, after the half minute that clocks may differ.
        running.token(CLINIC, "late", expires="1s")
        yield running
    finally:
        running.stop()


def _person(user: str, *roles: str, tenant: str = CLINIC, facilities: tuple[str, ...] = ()) -> Any:
    @pytest.fixture(scope="session")
    def person(clinic: Clinic) -> Iterator[Caller]:
        with clinic.caller(tenant, user, *roles, facilities=facilities) as caller:
            yield caller

    return person


nurse = _person("nurse", "CLINICIAN")
author = _person("author", "DOCUMENT_AUTHOR")
admin = _person("admin", "TENANT_ADMIN")
auditor = _person("auditor", "AUDITOR")
north = _person("north-nurse", "CLINICIAN", facilities=("north",))
south = _person("south-nurse", "CLINICIAN", facilities=("south",))
stranger = _person("stranger", "CLINICIAN", "DOCUMENT_AUTHOR", "TENANT_ADMIN", "AUDITOR", tenant=STRANGERS)


@pytest.fixture(scope="session")
def form_version(nurse: Caller) -> str:
    """The current version of the platform's requisition."""
    return str(nurse.form()["currentVersionId"])


@pytest.fixture
def request_for(form_version: str) -> Request:
    """Make a render request (contract §3) with an id of its own; a field given as ``...`` is left out."""

    def make(**fields: Any) -> dict[str, Any]:
        request = {
            "clientMutationId": new_id(),
            "templateVersionId": form_version,
            "patientId": "demo-patient-noorzai",
            "inputs": {"tests": ["CBC"]},
            "locale": "en",
            "requestedAt": instant(),
            **fields,
        }
        return {name: value for name, value in request.items() if value is not ...}

    return make


@pytest.fixture(scope="session")
def number_form(author: Caller) -> str:
    """A published letter that takes a number; its version."""
    return Form(author).version()
