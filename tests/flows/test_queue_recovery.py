"""A queue whose key is lost comes back: envelope, operator's answer, the same ids; one request, one document."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from document_client import DocumentClient, recovery
from document_client.errors import FileUnreadable, QueueSetAside
from service import Service

PASSPHRASE = "only for this test"


@dataclass
class Desk:
    """A device with two requests that were not sent, and the service."""

    service: Service
    tenant: str
    home: Path
    waiting: list[str]

    def documents(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCUMENTS_HOME": str(self.home), "DOCUMENTS_PASSPHRASE": PASSPHRASE}
        command = [sys.executable, "-m", "document_client", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def login(self, user: str = "nurse") -> None:
        token = self.service.token(self.tenant, user, ("CLINICIAN",))
        done = self.documents("login", "--server", self.service.url, "--token", token)
        assert done.returncode == 0, done.stderr

    def queue(self) -> dict[str, str]:
        items = json.loads(self.documents("queue", "list", "--json").stdout)["items"]
        return {item["clientMutationId"]: item["status"] for item in items}

    def lose_the_keys(self) -> None:
        (self.home / "vault.json").unlink()
        self.login()

    def ask(self, file: Path) -> None:
        done = self.documents("recover", "--ask", str(file))
        assert done.returncode == 0, done.stderr

    def answer(self, asked: Path, answer: Path, tenant: str | None = None) -> str:
        """What the operator's command says; the answer is there only when it worked."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "document_service", "tenant", "recover", tenant or self.tenant, str(asked)),
                *("--out", str(answer), "--by", "operator", "--data-dir", str(self.service.data_dir)),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) == answer.exists()
        return done.stdout + done.stderr


@pytest.fixture
def desk(service: Service, fhir_url: str, tmp_path: Path) -> Desk:
    desk = Desk(service, service.create_tenant(fhir_url), tmp_path / "home", [])
    desk.login()
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        client.templates()
        client.request("General Test Requisition", "demo-patient-ahmadzai")
        assert client.sync(wait_seconds=30).success
        for patient in ("demo-patient-noorzai", "demo-patient-rahimi"):
            desk.waiting.append(client.request("General Test Requisition", patient)["clientMutationId"])
        # The first one arrived, and the device never heard of it.
        body = (
            client.account()
            .queue.execute("SELECT body FROM requests WHERE client_mutation_id = ?", (desk.waiting[0],))
            .get
        )
        with service.caller(desk.tenant, "nurse", roles=("CLINICIAN",)) as nurse:
            sent = nurse.post("/v1/documents/render-jobs", content=body, headers={"Content-Type": "application/json"})
            assert sent.status_code == 202, sent.text
            nurse.wait(sent.json()["id"])
    return desk


def test_the_requests_come_back_under_their_ids_and_each_makes_one_document(desk: Desk, tmp_path: Path) -> None:
    desk.lose_the_keys()
    assert desk.queue() == {}
    told = desk.documents("doctor", "--json").stdout
    assert "`documents recover --ask FILE` asks your administrator" in told
    asked, answer = tmp_path / "asked.json", tmp_path / "answer.json"
    desk.ask(asked)
    assert "1 queues" in desk.answer(asked, answer)
    assert answer.stat().st_mode & 0o777 == 0o600
    # Neither file that leaves the device holds a request or a key in the clear.
    for path in (asked, answer):
        assert b"patient" not in path.read_bytes()
    back = desk.documents("recover", str(answer))
    assert (back.returncode, back.stdout) == (0, "2 requests came back; see `documents queue`\n"), back.stderr
    assert desk.queue() == dict.fromkeys(desk.waiting, "quarantined")
    assert "Not everything is sent" in desk.documents("status").stdout
    # Nothing is sent before a person decides: the same may have been asked for again.
    assert desk.documents("sync").returncode in (0, 75)
    assert desk.queue() == dict.fromkeys(desk.waiting, "quarantined")
    assert desk.documents("queue", "retry", "--all").returncode == 0
    synced = desk.documents("sync", "--wait", "30")
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert set(desk.queue().values()) == {"done"}
    with desk.service.caller(desk.tenant, "nurse", roles=("CLINICIAN",)) as nurse:
        jobs = nurse.get("/v1/documents/render-jobs").json()["items"]
        assert len(jobs) == 3, "one had been sent before the keys were lost"
        for patient in ("demo-patient-noorzai", "demo-patient-rahimi"):
            assert len(nurse.get("/v1/documents", params={"patientId": patient}).json()["items"]) == 1
    left = json.loads(desk.documents("status", "--json").stdout)["setAside"]
    assert not [path for path in left if "queue.db" in path]
    assert desk.documents("recover", str(answer)).returncode == 64
    with desk.service.caller(desk.tenant, "auditor", roles=("AUDITOR",)) as auditor:
        events = auditor.get("/v1/audit-events", params={"action": "queue.recover"}).json()["items"]
        assert [(event["actor"], event["detail"]["queues"]) for event in events] == [("operator", 1)]


def test_only_an_enrolled_device_is_answered_and_only_it_can_use_the_answer(
    desk: Desk, fhir_url: str, tmp_path: Path
) -> None:
    desk.lose_the_keys()
    asked, answer = tmp_path / "asked.json", tmp_path / "answer.json"
    desk.ask(asked)
    content = json.loads(asked.read_text())
    other = desk.service.create_tenant(fhir_url)
    for wrong, said in (
        ({**content, "publicKey": content["publicKey"][::-1]}, "no device enrolled in this tenant signed it"),
        ({**content, "deviceId": "dev_00000000000000000000000000"}, "no device enrolled"),
        ({"version": 1}, "not what `documents recover --ask` writes"),
    ):
        (tmp_path / "wrong.json").write_text(json.dumps(wrong))
        assert said in desk.answer(tmp_path / "wrong.json", answer)
    assert "asks for another tenant" in desk.answer(asked, answer, other)
    # A copy of the home folder that has lost its keys too is another device.
    copy = Desk(desk.service, desk.tenant, tmp_path / "copy", desk.waiting)
    shutil.copytree(desk.home, copy.home)
    desk.answer(asked, answer)
    copy.lose_the_keys()
    copy.ask(tmp_path / "of the copy.json")
    with DocumentClient(copy.home, passphrase=PASSPHRASE) as client, pytest.raises(FileUnreadable):
        recovery.take_back(client.account(), answer)
    with desk.service.caller(desk.tenant, "admin", roles=("TENANT_ADMIN",)) as admin:
        device = json.loads(desk.documents("whoami", "--json").stdout)["deviceId"]
        assert admin.post(f"/v1/devices/{device}/revoke").status_code == 200
    assert "was revoked" in desk.answer(asked, tmp_path / "late.json")


def test_the_queue_of_somebody_else_comes_back_to_them(desk: Desk, tmp_path: Path) -> None:
    desk.lose_the_keys()
    asked, answer = tmp_path / "asked.json", tmp_path / "answer.json"
    desk.login("dr.b")
    desk.ask(asked)
    desk.answer(asked, answer)
    assert "2 requests came back" in desk.documents("recover", str(answer)).stdout
    assert desk.queue() == {}
    desk.login("nurse")
    assert desk.queue() == dict.fromkeys(desk.waiting, "quarantined")


def test_a_queue_that_was_never_in_contact_has_no_envelope(service: Service, fhir_url: str, tmp_path: Path) -> None:
    desk = Desk(service, service.create_tenant(fhir_url), tmp_path / "home", [])
    desk.login()
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        client.account()
    desk.lose_the_keys()
    assert desk.documents("recover", "--ask", str(tmp_path / "asked.json")).returncode == 64
    assert "keep it and ask for help" in desk.documents("doctor", "--json").stdout


def test_a_damaged_queue_gives_what_can_be_read_without_anybody(desk: Desk) -> None:
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        for number in range(60):
            client.request("General Test Requisition", f"p-{number}", identifier="x" * 150)
        everything = {item["clientMutationId"] for item in client.queue.list()}
        client.account().queue.pragma("wal_checkpoint", "truncate")
    [path] = desk.home.glob("accounts/*/queue.db")
    content = bytearray(path.read_bytes())
    # The last pages: the newest rows, and nothing that the file needs to be opened.
    content[-8] ^= 1
    path.write_bytes(content)
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        account = client.account()
        if not recovery.find_queues(desk.home, account.vault):
            # It is found when something reads the page.
            with pytest.raises(QueueSetAside):
                client.queue.list()
        account = client.account()
        [aside] = recovery.find_queues(desk.home, account.vault)
        assert aside.has_key
        count = recovery.take_back(account)
        back = {item["clientMutationId"] for item in client.queue.list()}
        assert 0 < count == len(back)
        assert back < everything
        assert aside.path.exists(), "what could not be read may still be read by somebody"
        assert recovery.take_back(account) == 0, "once is enough"
