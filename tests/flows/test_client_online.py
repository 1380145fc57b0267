"""The Python API against the real service: generate, upload, open and print, with a real scanner and spooler."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from PIL import Image

import hostile_files
from clamav import EICAR, running_clamd
from cups_server import CupsServer
from document_client import DocumentClient, Wish, audit, printing
from document_client.__main__ import main
from document_client.driver import Progress
from document_client.errors import OnlineOnly, ServerRefused, StampFailed
from document_client.localdb import transaction
from document_client.stamping import stamp
from document_service.fault_proxy import FaultProxy, Faults, problem
from engines import EngineRequirement
from running_service import Service, request_for

FORM = "General Test Requisition"
PATIENT = "demo-patient-noorzai"
ENCOUNTER = "demo-encounter-noorzai"


@pytest.fixture
def client(service: Service, tenant: str, tmp_path: Path) -> Iterator[DocumentClient]:
    with DocumentClient(tmp_path / "home", passphrase="correct horse") as made:
        made.login(service.url, service.token(tenant))
        made.templates()
        yield made


def wish() -> Wish:
    return Wish(FORM, PATIENT, ENCOUNTER, locale="en")


def test_a_document_is_generated_and_can_be_read_offline(client: DocumentClient) -> None:
    document = client.generate(wish())
    assert document["state"] == "available"
    assert (document["kind"], document["patientId"], document["status"]) == ("generated", PATIENT, "current")
    content = client.documents.read(document["id"]).content
    assert hashlib.sha256(content).hexdigest() == document["sha256"]
    with pikepdf.open(io.BytesIO(content)) as pdf:
        assert len(pdf.pages) == document["pages"]
    assert client.documents.show(document["number"])["id"] == document["id"]
    assert client.status().everything_received
    # The next sync sends what was done here and leaves the copy alone.
    report = client.sync()
    assert (report.success, report.events_sent, report.downloaded) == (True, 1, 0)


def test_the_documents_of_a_list_of_patients_are_fetched_before_a_round(
    client: DocumentClient,
    service: Service,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with service.caller(tenant, "another-doctor") as other:
        version = other.platform_version()
        for _ in range(2):
            assert other.render(request_for(version))["status"] == "completed"
    assert client.sync().success
    assert client.documents.list() == []
    planned: list[tuple[int, int | None]] = []

    def observe(step: Progress) -> None:
        if step.stage == "plan":
            planned.append((step.done, step.total))

    assert client.prefetch([PATIENT], budget=10, observe=observe).report.downloaded == 0
    found = client.prefetch([f"Patient/{PATIENT}"], observe=observe)
    assert (found.report.downloaded, found.report.stopped, found.already_here) == (2, None, 0)
    again = client.prefetch([PATIENT, "nobody-has-this-id"])
    assert (again.report.downloaded, again.documents, again.already_here) == (0, 2, 2)
    assert again.without == ["nobody-has-this-id"]
    monkeypatch.setenv("DOCUMENTS_PASSPHRASE", "correct horse")
    assert main(["prefetch", PATIENT, "nobody-has-this-id", "--home", str(client.home)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 patients: received 0 documents (0 bytes); already here: 2"
    assert said[1].startswith("nobody-has-this-id: The service has no current document for this patient")
    assert main(["prefetch", PATIENT, "--json", "--home", str(client.home)]) == 0
    assert json.loads(capsys.readouterr().out)["success"] is True
    sizes = sum(int(d["size"]) for d in client.documents.list())
    assert planned == [(2, sizes), (2, sizes)]
    assert {d["state"] for d in client.documents.list()} == {"available"}
    assert client.sync().success
    assert {d["state"] for d in client.documents.list()} == {"available"}


def test_what_the_service_refuses_to_generate_is_said(client: DocumentClient) -> None:
    with pytest.raises(ServerRefused) as refusal:
        client.generate(Wish(FORM, "nobody-has-this-id", locale="en"))
    assert refusal.value.reason == "PATIENT_UNKNOWN"
    assert client.documents.list() == []


def test_a_refused_or_cut_download_leaves_a_generated_document_to_the_next_sync(
    service: Service, tenant: str, tmp_path: Path
) -> None:
    with FaultProxy(service.url) as proxy, DocumentClient(tmp_path / "home", passphrase="p") as client:
        client.login(proxy.url, service.token(tenant))
        client.templates()
        proxy.answer_next(problem(404, "NOT_FOUND", path="/download-url"))
        refused = client.generate(wish())
        assert refused["state"] == "waiting"
        proxy.answer_next(problem(410, "DOCUMENT_WITHDRAWN", path="/download-url"))
        with pytest.raises(Exception, match="withdrawn"):
            client.generate(wish())
        proxy.apply(Faults(cut_body_after=100, path="/content"))
        cut = client.generate(wish())
        assert cut["state"] == "waiting"
        proxy.heal()
        assert client.sync().success
        states = {d["id"]: d["state"] for d in client.documents.list()}
        assert states[cut["id"]] == "available"


def test_offline_nothing_is_generated_or_uploaded_and_nothing_stays(
    service: Service, tenant: str, tmp_path: Path
) -> None:
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(hostile_files.pdf_of())
    with FaultProxy(service.url) as proxy, DocumentClient(tmp_path / "home", passphrase="p") as client:
        client.login(proxy.url, service.token(tenant))
        client.templates()
        proxy.apply(Faults(network="refuse"))
        with pytest.raises(OnlineOnly):
            client.generate(wish())
        with pytest.raises(OnlineOnly):
            client.upload(scan, PATIENT)
        assert client.queue.list() == []
        assert client.documents.list() == []
        assert client.status().everything_sent


def test_a_scan_is_uploaded_over_a_link_that_breaks_and_a_virus_is_refused(
    require_engine: EngineRequirement, fhir_url: str, tmp_path: Path
) -> None:
    require_engine("clamd")
    folder = tmp_path / "clamd"
    folder.mkdir()
    with running_clamd(folder) as clamd:
        scanning = Service(tmp_path / "data", DOCUMENT_SERVICE_CLAMD=clamd.address).start()
        try:
            _upload(scanning, scanning.create_tenant(fhir_url), tmp_path)
        finally:
            scanning.stop()


def _upload(scanning: Service, tenant: str, tmp_path: Path) -> None:
    scan, virus = tmp_path / "scan.png", tmp_path / "letter.pdf"
    # Noise does not compress: the file is some pieces long.
    Image.frombytes("RGB", (500, 400), random.Random(1).randbytes(600_000)).save(scan)
    virus.write_bytes(hostile_files.pdf_with_attachment(EICAR))
    steps: list[int] = []
    with FaultProxy(scanning.url) as proxy, DocumentClient(tmp_path / "home", passphrase="p") as client:
        client.login(proxy.url, scanning.token(tenant))
        # Further than the first piece: the second is cut, and goes on from where the service says.
        proxy.apply(Faults(reset_after_up=400_000, times=1))
        state = client.upload(scan, PATIENT, title="Referral", observe=lambda progress: steps.append(progress.done))
        assert state["status"] == "accepted"
        assert steps[-1] == scan.stat().st_size
        with scanning.caller(tenant) as api:
            document = api.get(f"/v1/documents/{state['documentId']}").json()
        assert document["originalSha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()
        refused = client.upload(virus, PATIENT)
        assert refused["status"] == "quarantined"
        assert refused["reason"]["code"]


def test_a_document_is_printed_from_memory_and_the_service_hears_of_it(
    service: Service,
    tenant: str,
    client: DocumentClient,
    require_engine: EngineRequirement,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    require_engine("cups")
    document = client.generate(wish())
    with CupsServer() as cups:
        monkeypatch.setenv("CUPS_SERVER", str(cups.socket))
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("LPDEST", "PRINTER"):
            monkeypatch.delenv(name, raising=False)
        first = client.documents.print(document["id"])
        second = client.documents.print(document["number"], copies=2)
        assert (first.state, first.copies) == ("completed", [1])
        assert (second.state, second.copies) == ("completed", [2, 3])
        third = client.documents.print(document["id"], printer="Rejecting")
        assert (third.state, third.job_id, third.copies) == ("failed", None, [4])
        assert len(cups.printed()) == 2
        assert (first.server_lost, third.server_lost) == (False, False)
        cached = client.account().cache
        with transaction(cached):
            cached.execute("UPDATE documents SET server_lost = 1")
        monkeypatch.setenv("DOCUMENTS_PASSPHRASE", "correct horse")
        assert main(["print", document["id"], "--printer", "Rejecting", "--home", str(client.home)]) == 69
        assert "does not know this document" in capsys.readouterr().err
    assert client.sync().success
    with service.caller(tenant) as api:
        trail = api.get("/v1/audit-events", params={"documentId": document["id"], "limit": 100}).json()["items"]
    actions = sorted(event["action"] for event in trail if event["action"].startswith("device."))
    # PDF is a queue that makes a file, which is an export too.
    assert actions == sorted(
        ["device.print.intent"] * 5
        + ["device.print.submitted"] * 3
        + ["device.print.failed"] * 2
        + ["device.document.exported"] * 4
    )


def test_copies_are_stamped_and_numbered_when_the_policy_asks(
    service: Service,
    fhir_url: str,
    require_engine: EngineRequirement,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    require_engine("cups")
    tenant = service.create_tenant(fhir_url, "--stamp-prints")
    with CupsServer() as cups, DocumentClient(tmp_path / "home", passphrase="p") as client:
        monkeypatch.setenv("CUPS_SERVER", str(cups.socket))
        monkeypatch.setenv("HOME", str(tmp_path))
        client.login(service.url, service.token(tenant))
        assert client.sync().success
        document = client.generate(Wish(FORM, PATIENT, ENCOUNTER, locale="fa-AF"))
        before = client.documents.read(document["id"]).content
        handed: list[bytes] = []
        hand_over = printing.print_document

        def watched(pdf: bytes, **details: Any) -> printing.PrintOutcome:
            handed.append(pdf)
            return hand_over(pdf, **details)

        monkeypatch.setattr(printing, "print_document", watched)
        printed = client.documents.print(document["id"], copies=2)
        assert (printed.state, printed.copies) == ("completed", [1, 2])
        # One job for each copy, for each has its own number.
        assert len(cups.printed()) == len(handed) == 2
        expected = [stamp(before, copy=n, as_of=document["dataAsOf"]) for n in (1, 2)]
        assert handed == expected
        # The stored bytes are the document, unstamped; the trail names their hash.
        assert client.documents.read(document["id"]).content == before
        chain = audit.read_all(client.account().audit)
        prints = [(e["action"], e["copy"], e["documentSha256"]) for e in chain if e["action"].startswith("print.")]
        sha256 = document["sha256"]
        assert prints == [
            *[("print.intent", n, sha256) for n in (1, 2)],
            *[("print.submitted", n, sha256) for n in (1, 2)],
        ]
        handed.clear()
        monkeypatch.setattr("document_client.stamping.stamp", _no_stamp)
        with pytest.raises(StampFailed):
            client.documents.print(document["id"])
        assert handed == []
        assert audit.read_all(client.account().audit)[-1]["action"] == "print.failed"


def _no_stamp(pdf: bytes, **details: Any) -> bytes:
    raise StampFailed("PdfError")
