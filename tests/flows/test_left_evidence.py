"""Evidence that no session speaks for reaches the real service: after a logout, a deactivation, a revocation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from document_client import DocumentClient
from document_client.errors import EvidenceWaits, SignInNeeded
from document_client.watching import watch
from documents_command import PASSPHRASE, documents
from running_service import Service


@dataclass
class Desk:
    """A device on which a nurse has opened a document, and the service with its auditor."""

    service: Service
    tenant: str
    home: Path
    client: DocumentClient

    def documents(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a person does."""
        return documents(self.home, *arguments)

    def open_document(self) -> str:
        """Open the document, which leaves a record that was not sent; its id."""
        [document] = self.client.documents.list()
        self.client.documents.read(document["id"])
        return str(document["id"])

    def trail(self, document_id: str) -> list[dict[str, Any]]:
        """What the service's trail says about openings of the document on devices."""
        with self.service.caller(self.tenant, "auditor", roles=("AUDITOR",)) as auditor:
            answer = auditor.get("/v1/audit-events", params={"documentId": document_id, "limit": 100})
            assert answer.status_code == 200, answer.text
            return [event for event in answer.json()["items"] if event["action"] == "device.document.opened"]


@pytest.fixture
def desk(service: Service, fhir_url: str, tmp_path: Path) -> Iterator[Desk]:
    tenant = service.create_tenant(fhir_url)
    with DocumentClient(tmp_path / "home", passphrase=PASSPHRASE) as client:
        client.login(service.url, service.token(tenant, "nurse", ("CLINICIAN",)))
        client.templates()
        client.request("General Test Requisition", "demo-patient-ahmadzai")
        assert client.sync(wait_seconds=30).success
        yield Desk(service, tenant, tmp_path / "home", client)


def logout_offline(desk: Desk) -> None:
    """Sign out while the service cannot be reached."""
    from document_client.http import Connection

    def cut(self: Connection, *given: Any, **named: Any) -> Any:
        from document_client.answers import Answer

        return Answer("no_connection")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "send", cut)
        assert desk.client.logout().evidence_waiting == 1


def flags(event: dict[str, Any]) -> list[str]:
    found: list[str] = event["detail"]["flags"]
    return found


def test_logout_sends_it_at_once_when_it_can(desk: Desk) -> None:
    document = desk.open_document()
    left = desk.client.logout()
    assert (left.requests, left.evidence_sent, left.evidence_waiting) == (0, 1, 0)
    [event] = desk.trail(document)
    assert (event["actor"], flags(event)) == ("nurse", ["sent-by-device"])


def test_after_an_offline_logout_a_sync_without_a_session_sends_it(desk: Desk) -> None:
    document = desk.open_document()
    logout_offline(desk)
    assert desk.trail(document) == []
    told = {f["part"]: f for f in json.loads(desk.documents("doctor", "--json").stdout)["findings"]}
    assert "1 of opening and printing wait" in told["records"]["text"]
    ended = desk.documents("sync")
    assert ended.returncode == 77
    assert ended.stderr.lstrip().startswith(
        "documents: The records of opening and printing that were here are sent. Nobody"
    )
    assert "sent just now by this device's signature: 1" in ended.stderr
    [event] = desk.trail(document)
    assert (event["actor"], flags(event)) == ("nurse", ["sent-by-device"])
    assert "sent just now" not in desk.documents("sync").stderr


def test_without_a_connection_it_waits_and_a_watch_goes_on_trying(desk: Desk) -> None:
    document = desk.open_document()
    logout_offline(desk)
    url, desk.service.url = desk.service.url, "http://127.0.0.1:9"
    told: list[str] = []

    def later(seconds: float) -> None:
        """The connection comes back while the watch waits."""
        note["server"] = url
        vault.put(name, json.dumps(note).encode())

    from document_client.vault import Unlocking, open_vault

    vault = open_vault(desk.home, Unlocking(PASSPHRASE))
    [box] = desk.home.glob("outboxes/*")
    name = f"outbox/{box.name}"
    sealed = vault.key(name, create=False)
    assert sealed is not None
    note = {**json.loads(sealed), "server": desk.service.url}
    vault.put(name, json.dumps(note).encode())
    desk.service.url = url
    with pytest.raises(EvidenceWaits):
        desk.client.sync()
    with pytest.raises(SignInNeeded):
        watch(desk.client, lambda report, failure: told.append(failure.code if failure else ""), sleep=later)
    assert told == ["EVIDENCE_WAITS"]
    assert len(desk.trail(document)) == 1


def test_a_deactivated_users_evidence_is_sent_without_the_session(desk: Desk) -> None:
    """The token is refused, as it is when the issuer has withdrawn the key or the person."""
    document = desk.open_document()
    account = desk.client.account()
    header, claims, signature = str(account.token()).split(".")
    account.vault.put(f"token/{account.session.account_id}", f"{header}.{claims}.{signature[::-1]}".encode())
    report = desk.client.sync()
    assert (report.stopped, report.events_sent) == ("SIGN_IN", 1)
    [event] = desk.trail(document)
    assert flags(event) == ["sent-by-device"]


def test_who_lost_every_role_keeps_no_evidence_back(desk: Desk) -> None:
    document = desk.open_document()
    account = desk.client.account()
    powerless = desk.service.token(desk.tenant, "nurse", ())
    account.vault.put(f"token/{account.session.account_id}", powerless.encode())
    report = desk.client.sync()
    assert (report.stopped, report.events_sent) == ("SERVER_REFUSED", 1)
    assert len(desk.trail(document)) == 1


def test_a_revoked_devices_evidence_is_taken_and_flagged_after_the_logout(desk: Desk) -> None:
    document = desk.open_document()
    device = desk.client.whoami()["deviceId"]
    logout_offline(desk)
    with desk.service.caller(desk.tenant, "admin", roles=("TENANT_ADMIN",)) as admin:
        assert admin.post(f"/v1/devices/{device}/revoke").status_code == 200
    assert desk.documents("sync").returncode == 77
    [event] = desk.trail(document)
    assert flags(event) == ["sent-by-device", "device-revoked"]


def test_a_session_of_another_tenant_carries_it_under_the_devices_signature(desk: Desk, fhir_url: str) -> None:
    document = desk.open_document()
    logout_offline(desk)
    other = desk.service.create_tenant(fhir_url)
    desk.client.login(desk.service.url, desk.service.token(other, "dr.b", ("CLINICIAN",)))
    assert desk.trail(document) == []
    report = desk.client.sync()
    assert (report.success, report.events_sent) == (True, 1)
    [event] = desk.trail(document)
    assert (event["actor"], flags(event)) == ("nurse", ["sent-by-device"])
