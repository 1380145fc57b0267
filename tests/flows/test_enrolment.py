"""A device that signed in without a connection is enrolled before anything comes to it, so that it can be revoked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from document_client import DocumentClient
from document_client.answers import Answer
from document_client.enrolment import is_enrolled
from document_client.errors import EvidenceNeedsSignIn, OnlineOnly, ServerRefused
from document_client.http import Connection
from document_client.watching import watch
from documents_command import PASSPHRASE, documents
from running_service import Service

PATIENT = "demo-patient-ahmadzai"


@dataclass
class Desk:
    """A device that lost its keys, whose person signed in again without a connection; and the service."""

    service: Service
    tenant: str
    home: Path
    client: DocumentClient

    def documents(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return documents(self.home, *arguments)

    def login(self) -> dict[str, Any]:
        return self.client.login(self.service.url, self.service.token(self.tenant, "nurse", ("CLINICIAN",)))

    def device(self) -> str:
        return str(self.client.whoami()["deviceId"])

    def enrolled(self) -> list[str]:
        with self.service.caller(self.tenant, "admin", roles=("TENANT_ADMIN",)) as admin:
            return [str(device["id"]) for device in admin.get("/v1/devices").json()["items"]]

    def revoke(self) -> int:
        with self.service.caller(self.tenant, "admin", roles=("TENANT_ADMIN",)) as admin:
            return int(admin.post(f"/v1/devices/{self.device()}/revoke").status_code)


class Cut:
    """While it lasts there is no connection, or (``only``) one way of the service is answered by ``answer``."""

    def __init__(self, only: str = "/", answer: Answer | None = None) -> None:
        self.asked: list[str] = []
        self._only, self._answer = only, answer or Answer("no_connection")
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Cut:
        whole = Connection.send

        def send(connection: Connection, method: str, path: str, **more: Any) -> Answer:
            self.asked.append(f"{method} {path.partition('?')[0]}")
            return self._answer if path.startswith(self._only) else whole(connection, method, path, **more)

        self._patch.setattr(Connection, "send", send)
        return self

    def __exit__(self, *rest: object) -> None:
        self._patch.undo()


@pytest.fixture
def desk(service: Service, fhir_url: str, tmp_path: Path) -> Iterator[Desk]:
    tenant = service.create_tenant(fhir_url)
    with DocumentClient(tmp_path / "home", passphrase=PASSPHRASE) as client:
        desk = Desk(service, tenant, tmp_path / "home", client)
        desk.login()
        client.templates()
        client.request("General Test Requisition", PATIENT)
        assert client.sync(wait_seconds=30).success
        assert client.documents.list()
        client.close()
        (desk.home / "vault.json").unlink()
        with Cut():
            notices = desk.login()["notices"]
        assert any("on this device only" in notice for notice in notices)
        yield desk


def test_the_first_sync_enrols_and_the_device_can_be_revoked(desk: Desk) -> None:
    assert desk.device() not in desk.enrolled()
    told = desk.documents("doctor").stdout
    assert "not known to be enrolled at the service" in told
    with Cut("/nothing") as line:
        assert desk.client.sync().success
    assert line.asked[0] == "POST /v1/devices"
    assert desk.device() in desk.enrolled()
    assert "not known to be enrolled" not in desk.documents("doctor").stdout
    with Cut("/nothing") as line:
        assert desk.client.sync().success
    assert "POST /v1/devices" not in line.asked, "once is enough"
    assert desk.client.documents.list()
    assert desk.revoke() == 200
    assert desk.client.sync().stopped == "DEVICE_REVOKED"
    assert not [document for document in desk.client.documents.list() if document["state"] == "available"]


def test_a_watch_and_every_act_that_needs_the_service_enrol_first(desk: Desk) -> None:
    acts = (
        lambda: watch(desk.client, lambda report, failure: None, cycles=1),
        lambda: desk.client.prefetch([PATIENT]),
        lambda: desk.client.templates(refresh=True),
    )
    for act in acts:
        account = desk.client.account()
        account.vault.destroy(f"enrolled/{account.session.outbox_id}")
        with Cut("/nothing") as line:
            act()
        assert line.asked[0] == "POST /v1/devices"
        assert is_enrolled(desk.client.account())


def test_a_refused_enrolment_fetches_nothing_and_is_told(desk: Desk) -> None:
    refused = Answer("answer", 409, {}, {"code": "DEVICE_KEY_DIFFERS", "title": "Another key."}, True)
    with Cut("/v1/devices", refused) as line:
        report = desk.client.sync()
        with pytest.raises(ServerRefused):
            desk.client.prefetch([PATIENT])
    assert set(line.asked) == {"POST /v1/devices"}
    assert (report.stopped, report.success) == ("SERVER_REFUSED", False)
    assert report.detail == "This device is not enrolled, so nothing was fetched. Another key. (DEVICE_KEY_DIFFERS)"
    assert desk.client.status().last_stop == "SERVER_REFUSED"
    assert desk.client.documents.list() == []


def test_an_enrolment_that_is_lost_on_the_way_is_made_again(desk: Desk) -> None:
    with Cut("/v1/devices") as line:
        assert desk.client.sync().stopped == "NO_CONNECTION"
        with pytest.raises(OnlineOnly):
            desk.client.prefetch([PATIENT])
    assert set(line.asked) == {"POST /v1/devices"}
    assert desk.client.documents.list() == []
    assert desk.client.sync().success
    assert desk.device() in desk.enrolled()


def test_a_restored_service_is_told_of_the_device_again(desk: Desk) -> None:
    assert desk.client.sync().success
    account = desk.client.account()
    name = f"enrolled/{account.session.outbox_id}"
    account.vault.put(name, json.dumps({**json.loads(account.vault.key(name) or b""), "epoch": "before"}).encode())
    with Cut("/nothing") as line:
        assert desk.client.sync().success
    assert line.asked[0] == "POST /v1/devices"


def test_evidence_of_a_device_that_was_never_enrolled_asks_for_a_sign_in(desk: Desk) -> None:
    from document_client.audit import Happening
    from document_client.documents import record

    record(desk.client.account(), Happening("document.opened", "nurse"))
    left = desk.client.logout()
    assert (left.evidence_waiting, left.evidence_unheard) == (1, 1)
    with pytest.raises(EvidenceNeedsSignIn):
        desk.client.sync()
    told = desk.documents("sync")
    assert (told.returncode, "wait for a sign-in with a connection" in told.stderr) == (77, True)
    assert "need a sign-in with a connection" in desk.documents("doctor").stdout
    desk.login()
    assert desk.client.sync().events_sent == 1
