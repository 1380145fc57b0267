"""A queue and an outbox whose keys are lost come back: envelope, operator's answer, the same ids; each counts once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from document_client import DocumentClient, audit, recovery
from document_client.doctor import examine
from document_client.errors import FileUnreadable, QueueSetAside
from document_client.ids import new_id
from document_client.localdb import transaction
from documents_command import PASSPHRASE, documents
from running_service import Service


@dataclass
class Desk:
    """A device with two requests that were not sent, and the service."""

    service: Service
    tenant: str
    home: Path
    waiting: list[str]

    def documents(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return documents(self.home, *arguments)

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


def test_the_requests_come_back_under_their_ids_and_each_makes_one_document(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    desk.lose_the_keys()
    assert desk.queue() == {}
    told = desk.documents("doctor", "--json").stdout
    assert "`documents recover --ask FILE` asks your administrator" in told
    asked, answer = tmp_path / "asked.json", tmp_path / "answer.json"
    desk.ask(asked)
    assert "2 files" in desk.answer(asked, answer)
    assert answer.stat().st_mode & 0o777 == 0o600
    # Neither file that leaves the device holds a request or a key in the clear.
    for path in (asked, answer):
        assert b"patient" not in path.read_bytes()
    back = desk.documents("recover", str(answer))
    assert (back.returncode, back.stdout) == (0, "2 requests came back; see `documents queue`\n"), back.stderr
    assert desk.queue() == dict.fromkeys(desk.waiting, "quarantined")
    told = desk.documents("status").stdout
    assert told.startswith("Not everything is sent: 2 recovered, for you to decide")
    assert "refused by" not in told
    assert "queue retry; or queue discard, if" in desk.documents("queue").stdout
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
    again = desk.documents("recover", str(answer))
    assert (again.returncode, "already recovered" in again.stderr) == (64, True)
    with desk.service.caller(desk.tenant, "auditor", roles=("AUDITOR",)) as auditor:
        events = auditor.get("/v1/audit-events", params={"action": "queue.recover"}).json()["items"]
        assert [(event["actor"], event["detail"]) for event in events] == [("operator", {"queues": 1, "outboxes": 1})]


def test_a_request_that_came_back_is_given_up_by_the_services_word_only(desk: Desk, tmp_path: Path) -> None:
    desk.lose_the_keys()
    asked, answer = tmp_path / "asked.json", tmp_path / "answer.json"
    desk.ask(asked)
    desk.answer(asked, answer)
    assert desk.documents("recover", str(answer)).returncode == 0
    arrived, never_sent = desk.waiting
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        # A second thought changes nothing about what may have been before the keys were lost.
        assert len(client.queue.retry_all()) == 2
        for cmid in desk.waiting:
            shown = client.queue.discard(cmid, confirmation=cmid)
            assert (shown["status"], shown["reason"]["code"]) == ("quarantined", "WITHDRAWAL_ASKED")
        client.sync()
        settled = {cmid: client.queue.show(cmid) for cmid in desk.waiting}
    # The person asked again meanwhile, and is told that there are two.
    assert (settled[arrived]["status"], settled[arrived]["reason"]["code"]) == ("failed", "ALREADY_SENT")
    assert (settled[never_sent]["status"], settled[never_sent]["reason"]["code"]) == ("discarded", "WITHDRAWN")


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
        if not recovery.find_asides(desk.home, account.vault):
            # It is found when something reads the page.
            with pytest.raises(QueueSetAside):
                client.queue.list()
        account = client.account()
        [aside] = recovery.find_asides(desk.home, account.vault)
        assert aside.has_key
        count = recovery.take_back(account).requests
        back = {item["clientMutationId"] for item in client.queue.list()}
        assert 0 < count == len(back)
        assert back < everything
        assert aside.path.exists(), "what could not be read may still be read by somebody"
        assert recovery.take_back(account) == recovery.Back(), "once is enough"


# --- records of opening and printing --------------------------------------------------------------------------


def opened_records(desk: Desk) -> dict[str, list[str]]:
    """The records of opening that the service has, and their flags; each id once."""
    with desk.service.caller(desk.tenant, "auditor", roles=("AUDITOR",)) as auditor:
        events = auditor.get("/v1/audit-events", params={"action": "device.document.opened"}).json()["items"]
    found = {event["detail"]["event"]["eventId"]: event["detail"]["flags"] for event in events}
    assert len(found) == len(events)
    return found


@pytest.fixture
def records(desk: Desk) -> list[str]:
    """Three openings: one was sent, one arrived and the device never heard of it, one was not sent."""
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        [document] = client.documents.list()
        outbox = client.account().audit
        for number in range(3):
            client.documents.read(document["id"])
            waiting = audit.read_pending(outbox)
            assert len(waiting) == max(1, number)
            if number == 0:
                # The envelope is made by this sync too.
                with transaction(client.account().queue):
                    client.account().queue.execute("UPDATE requests SET not_before = 9e9 WHERE state = 'queued'")
                client.sync(eager=False)
                assert audit.read_pending(outbox) == []
            if number == 1:
                with desk.service.caller(desk.tenant, "nurse", roles=("CLINICIAN",)) as nurse:
                    assert nurse.post("/v1/documents/audit-events", json={"events": waiting}).status_code == 200
        return [event["eventId"] for event in audit.read_all(outbox)]


def test_records_that_were_not_sent_come_back_flagged_and_count_once(
    desk: Desk, records: list[str], tmp_path: Path
) -> None:
    desk.lose_the_keys()
    told = json.loads(desk.documents("doctor", "--json").stdout)["findings"]
    [finding] = [f for f in told if f["part"] == "records" and "audit.db.set-aside-" in f["text"]]
    assert "`documents recover --ask FILE`" in finding["text"]
    assert "audit.db.set-aside-" in desk.documents("status").stdout
    asked, answer = tmp_path / "asked.json", tmp_path / "answer.json"
    desk.ask(asked)
    assert "2 files" in desk.answer(asked, answer)
    back = desk.documents("recover", str(answer))
    assert back.returncode == 0, back.stderr
    assert "3 records of opening and printing came back; `documents sync` sends them" in back.stdout
    assert json.loads(desk.documents("status", "--json").stdout)["audit"] == {"pending": 3, "refused": 0}
    assert not json.loads(desk.documents("status", "--json").stdout)["setAside"]
    # What is written now begins a chain of its own.
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        assert client.sync(eager=False).events_sent == 3
        document, *_ = [d for d in client.documents.list() if d["state"] == "available"]
        client.documents.read(document["id"])
        assert [event["sequence"] for event in audit.read_all(client.account().audit)] == [1, 2, 3, 1]
        assert client.sync(eager=False).events_sent == 1
        [new] = [event["eventId"] for event in audit.read_all(client.account().audit)][3:]
    found = opened_records(desk)
    assert set(found) == {*records, new}
    # The first two had arrived before, as any record does; the last one comes from the old device's chain, whole.
    assert [found[record] for record in records] == [[], [], ["recovered"]]
    assert found[new] == []
    assert desk.documents("recover", str(answer)).returncode == 64


def test_a_damaged_outbox_gives_what_can_be_read_without_anybody(desk: Desk, records: list[str]) -> None:
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        account = client.account()
        for number in range(150):
            happening = audit.Happening("document.opened", "nurse", document_sha256="0" * 64, printer=f"{number}")
            with transaction(account.audit):
                audit.record(account.audit, new_id("evt_"), account.vault.device_id, happening, account.clock())
        everything = {event["eventId"] for event in audit.read_all(account.audit)}
        account.audit.pragma("wal_checkpoint", "truncate")
    [path] = desk.home.glob("outboxes/*/audit.db")
    whole = path.read_bytes()
    # A page of rows that are neither the first nor the last: what comes after it is found by the index.
    content = bytearray(whole)
    content[len(whole) // 16_384 // 2 * 16_384 + 9000] ^= 1
    path.write_bytes(content)
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        with pytest.raises(QueueSetAside):
            client.sync(eager=False)
        [aside] = recovery.find_asides(desk.home, client.account().vault)
        assert (aside.in_use.name, aside.has_key) == ("audit.db", True)
        assert "`documents recover` takes back" in str(examine(client))
        count = recovery.take_back(client.account()).records
        back = {event["eventId"] for event in audit.read_all(client.account().audit)}
        assert 0 < count == len(back) < len(everything)
        assert back < everything
        assert aside.path.exists(), "what could not be read may still be read by somebody"
        assert recovery.take_back(client.account()) == recovery.Back(), "once is enough"
        assert client.sync(eager=False).events_sent == count


def test_two_tenants_of_one_device_each_get_their_own_back(
    desk: Desk, records: list[str], fhir_url: str, tmp_path: Path
) -> None:
    other = Desk(desk.service, desk.service.create_tenant(fhir_url), desk.home, [])
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        client.logout(keep_sealed=True)
    other.login()
    assert other.documents("sync").returncode == 0
    desk.lose_the_keys()
    assert desk.documents("sync").returncode == 0
    # Both tenants' outboxes are named, whoever is signed in.
    told = [f["text"] for f in json.loads(desk.documents("doctor", "--json").stdout)["findings"]]
    assert sum("audit.db" in text for text in told) == 2, told
    other.login()
    assert other.documents("sync").returncode == 0
    for each, files in ((other, "2 files"), (desk, "2 files")):
        each.login()
        assert each.documents("sync").returncode == 0
        asked, answer = tmp_path / f"asked {each.tenant}", tmp_path / f"answer {each.tenant}"
        each.ask(asked)
        assert files in each.answer(asked, answer)
        assert each.documents("recover", str(answer)).returncode == 0
    # The other request had arrived, and was done before the keys were lost.
    assert desk.queue() == {desk.waiting[1]: "quarantined"}
    assert desk.documents("sync").returncode == 0
    assert set(opened_records(desk)) == set(records)
    assert opened_records(other) == {}


def test_an_outbox_that_nobody_signed_in_can_open_is_said(desk: Desk, records: list[str]) -> None:
    with DocumentClient(desk.home, passphrase=PASSPHRASE) as client:
        client.logout(keep_sealed=True)
        [path] = desk.home.glob("outboxes/*/audit.db")
        path.write_bytes(os.urandom(40_000))
        told = [f["text"] for f in examine(client) if f["part"] == "records"]
        assert told == [f"{path} cannot be read; it is kept, and set aside when somebody of its tenant signs in"]
    assert path.exists()
