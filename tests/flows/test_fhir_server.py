"""The reader against a real FHIR R4 server (sekmet-fhir) with made-up patients."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from document_service.errors import (
    DataIncomplete,
    FhirInvalid,
    FhirRefused,
    FhirUnavailable,
    PatientInactive,
    PatientUnknown,
    ResourceUnknown,
    WrongPatient,
)
from document_service.fhir import FhirReader
from document_service.synthetic import SyntheticFhirServer, SyntheticServerError, handmade_patients

TOKEN = "karte-seh-token"

CONTEXT: dict[str, dict[str, Any]] = {
    "patient": {"read": "Patient"},
    "encounter": {"read": "Encounter", "optional": True},
    "orders": {"search": "ServiceRequest", "params": {"status": "active"}, "scope": "encounter"},
    "conditions": {"search": "Condition"},
    "allergies": {"search": "AllergyIntolerance"},
}


@pytest.fixture(scope="module")
def server() -> Iterator[SyntheticFhirServer]:
    with SyntheticFhirServer(token=TOKEN, generated=2) as started:
        yield started


@pytest.fixture
async def reader() -> AsyncIterator[FhirReader]:
    made = FhirReader()
    yield made
    await made.aclose()


@pytest.fixture(params=["batch", "reads"])
def way(request: pytest.FixtureRequest, reader: FhirReader, server: SyntheticFhirServer) -> str:
    """Read in one batch, and in parallel as from a server that takes none."""
    if request.param == "reads":
        reader._batches._remember(server.base_url)
    return str(request.param)


@pytest.mark.usefixtures("way")
async def test_every_made_up_patient_is_read_whole(reader: FhirReader, server: SyntheticFhirServer) -> None:
    counts = {}
    for patient in server.patients:
        snapshot = await reader.read(server.base_url, TOKEN, CONTEXT, patient.id, patient.encounter_id)
        assert snapshot.patient["birthDate"] == patient.birth_date
        assert snapshot.resources["encounter"]["id"] == patient.encounter_id
        assert all(order["status"] == "active" for order in snapshot.resources["orders"])
        assert all(entry["versionId"] for entry in snapshot.provenance)
        counts[patient.name] = [len(snapshot.resources[name]) for name in ("orders", "conditions", "allergies")]
    assert counts["Fatima Noorzai"] == [4, 1, 1]
    assert counts["احمد شاه رحیمی"] == [3, 1, 1]
    assert counts["زرغونه احمدزۍ"] == [4, 1, 0]
    assert len(counts) == 5
    assert all(orders >= 2 for orders, _, _ in counts.values())


@pytest.mark.usefixtures("way")
async def test_an_order_for_everything_of_the_patient_follows_references(
    reader: FhirReader, server: SyntheticFhirServer
) -> None:
    context = {
        "encounter": {"read": "Encounter"},
        "doctor": {"read": "Practitioner", "reference": "encounter.participant.individual"},
        "clinic": {"read": "Organization", "reference": "encounter.serviceProvider"},
        "every": {"search": "ServiceRequest"},
    }
    patient = server.patients[1]
    snapshot = await reader.read(server.base_url, TOKEN, context, patient.id, patient.encounter_id)
    assert snapshot.resources["doctor"]["name"][0]["family"] == "Haidari"
    assert snapshot.resources["clinic"]["name"] == "Karte Seh Clinic"
    # Revoked and mistaken orders are passed on; what prints is decided elsewhere.
    assert {one["status"] for one in snapshot.resources["every"]} == {"active", "revoked", "entered-in-error"}


@pytest.mark.usefixtures("way")
async def test_many_orders_come_page_by_page(reader: FhirReader, server: SyntheticFhirServer) -> None:
    patient = {"resourceType": "Patient", "id": "many-orders", "birthDate": "1990-01-01"}
    orders = [
        {
            "resourceType": "ServiceRequest",
            "id": f"many-orders-{number}",
            "status": "active",
            "intent": "order",
            "code": {"text": f"Test {number}"},
            "subject": {"reference": "Patient/many-orders"},
        }
        for number in range(450)
    ]
    server.load([patient, *orders])
    snapshot = await reader.read(server.base_url, TOKEN, CONTEXT, "many-orders")
    assert {one["id"] for one in snapshot.resources["orders"]} == {one["id"] for one in orders}


@pytest.mark.usefixtures("way")
async def test_refusals_of_a_real_server(reader: FhirReader, server: SyntheticFhirServer) -> None:
    one, other = server.patients[:2]
    with pytest.raises(PatientUnknown):
        await reader.read(server.base_url, TOKEN, CONTEXT, "nobody")
    with pytest.raises(ResourceUnknown):
        await reader.read(server.base_url, TOKEN, CONTEXT, one.id, "no-such-encounter")
    with pytest.raises(WrongPatient):
        await reader.read(server.base_url, TOKEN, CONTEXT, one.id, other.encounter_id)
    for token in (None, "another-token"):
        with pytest.raises(FhirRefused):
            await reader.read(server.base_url, token, CONTEXT, one.id)
    with pytest.raises(FhirInvalid):
        # The web console of the same program: HTML.
        await reader.read(server.base_url.removesuffix("/fhir") + "/ui", TOKEN, CONTEXT, one.id)


@pytest.mark.usefixtures("way")
async def test_records_out_of_use_are_refused(reader: FhirReader, server: SyntheticFhirServer) -> None:
    server.load(
        [
            {"resourceType": "Patient", "id": "closed", "active": False},
            {
                "resourceType": "Patient",
                "id": "merged",
                "link": [{"other": {"reference": "Patient/closed"}, "type": "replaced-by"}],
            },
        ]
    )
    for patient_id in ("closed", "merged"):
        with pytest.raises(PatientInactive):
            await reader.read(server.base_url, TOKEN, CONTEXT, patient_id)


async def test_a_search_parameter_that_the_server_does_not_know_is_not_ignored(
    reader: FhirReader, server: SyntheticFhirServer, way: str
) -> None:
    context = {"orders": {"search": "ServiceRequest", "params": {"performer-type": "x", "status": "active"}}}
    # Strict handling makes a single search an error; inside a batch the server only warns and answers with more.
    with pytest.raises(DataIncomplete if way == "batch" else FhirInvalid):
        await reader.read(server.base_url, TOKEN, context, server.patients[0].id)


async def test_a_server_that_stopped_is_unavailable_and_its_port_is_free(reader: FhirReader) -> None:
    with SyntheticFhirServer(generated=0) as short:
        patient = handmade_patients()[0]
        await reader.read(short.base_url, None, CONTEXT, patient.id)
        port = int(short.base_url.split(":")[2].partition("/")[0])
    with pytest.raises(FhirUnavailable):
        await reader.read(short.base_url, None, CONTEXT, patient.id)
    with SyntheticFhirServer(port=port, generated=0) as again:
        assert again.base_url == short.base_url
        await reader.read(again.base_url, None, CONTEXT, patient.id)


def test_the_server_ends_with_its_parent() -> None:
    command = [sys.executable, "-m", "document_service.synthetic", "--patients", "0"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        base_url = parent.stdout.readline().strip()
        assert base_url.startswith("http://127.0.0.1:")
        assert "احمد شاه رحیمی" in parent.stdout.readline() + parent.stdout.readline()
        children = _children(parent.pid)
        assert len(children) == 1
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    for _ in range(200):
        if not os.path.exists(f"/proc/{children[0]}") or _is_zombie(children[0]):
            break
        subprocess.run(["sleep", "0.05"], check=True)
    else:
        pytest.fail("the FHIR server outlived its parent")


def test_a_missing_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SyntheticServerError, match="development requirements"):
        SyntheticFhirServer().start()


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return [int(one) for one in listed.read().split()]


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
