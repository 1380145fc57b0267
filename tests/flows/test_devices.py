"""Devices: enrolled with their own key, revoked, purged at the next contact; their evidence still arrives (issue 6)."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from document_client import DocumentClient
from document_client.errors import DeviceRevoked, DocumentUnknown
from document_client.stopped import raise_stop
from document_service import identifiers
from installation import EVENTS, Installation, text
from raw_database import connected
from running_service import Api, Service


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    """One tenant for this file."""
    return service.create_tenant(fhir_url)


@pytest.fixture
def nurse(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic, "nurse", roles=("CLINICIAN",)) as caller:
        yield caller


@pytest.fixture
def admin(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic, "admin", roles=("TENANT_ADMIN", "AUDITOR")) as caller:
        yield caller


def test_enrolment_is_the_same_pair_or_refused(nurse: Api) -> None:
    device = Installation()
    first = device.enrol(nurse, name="Ward 2")
    assert first.status_code == 201, first.text
    shown = first.json()
    assert (shown["id"], shown["userId"], shown["revokedAt"]) == (device.id, "nurse", None)
    assert (shown["name"], shown["publicKey"]) == ("Ward 2", device.public_key)
    again = device.enrol(nurse)
    assert (again.status_code, again.json()) == (200, shown)
    other = Installation()
    other.id = device.id
    refused = other.enrol(nurse)
    assert (refused.status_code, refused.json()["code"]) == (409, "DEVICE_KEY_DIFFERS")
    for wrong in ("", "AAAA", device.public_key + "AA", 7):
        answer = nurse.post("/v1/devices", json={"publicKey": wrong})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/publicKey")
    made = nurse.post("/v1/devices", json={"publicKey": Installation().public_key}).json()
    assert identifiers.is_id("device", made["id"])


def test_a_user_sees_devices_of_their_own_and_an_administrator_all(
    service: Service, clinic: str, nurse: Api, admin: Api
) -> None:
    mine, shared = Installation(), Installation()
    mine.enrol(nurse)
    with service.caller(clinic, "dr.b", roles=("CLINICIAN",)) as doctor:
        shared.enrol(doctor)
        assert mine.id not in [entry["id"] for entry in doctor.get("/v1/devices").json()["items"]]
        assert doctor.post(f"/v1/devices/{mine.id}/revoke").json()["code"] == "FORBIDDEN"
    assert shared.id not in [entry["id"] for entry in nurse.get("/v1/devices").json()["items"]]
    # The nurse signs in on the doctor's computer: now it is one of hers too.
    assert shared.enrol(nurse).status_code == 200
    assert {mine.id, shared.id} <= {entry["id"] for entry in nurse.get("/v1/devices").json()["items"]}
    assert {mine.id, shared.id} <= {entry["id"] for entry in admin.get("/v1/devices").json()["items"]}


def test_a_revoked_device_is_refused_everywhere_but_its_evidence_is_taken(nurse: Api, admin: Api) -> None:
    device = Installation()
    device.enrol(nurse)
    on_device = {"X-Device-Id": device.id}
    assert nurse.get("/v1/documents/changes", headers=on_device).status_code == 200
    revoked = admin.post(f"/v1/devices/{device.id}/revoke", json={"reason": "lost on the bus"})
    assert (revoked.status_code, bool(revoked.json()["revokedAt"])) == (200, True)
    assert admin.post(f"/v1/devices/{device.id}/revoke").json() == revoked.json()
    for path in ("/v1/documents/changes", "/v1/document-templates", "/v1/devices"):
        refused = nurse.get(path, headers=on_device)
        assert (refused.status_code, refused.json()["code"]) == (403, "DEVICE_REVOKED")
    assert device.enrol(nurse).json()["code"] == "DEVICE_REVOKED"
    assert nurse.get("/v1/documents/changes").status_code == 200
    events = {"events": [device.event("print.submitted")]}
    answer = nurse.post(EVENTS, json=events, headers=on_device)
    assert answer.status_code == 200, answer.text
    assert answer.json()["items"][0]["result"] == "accepted"
    assert answer.json()["items"][0]["flags"] == ["device-revoked"]


def test_evidence_arrives_by_the_devices_signature_alone(
    service: Service, fhir_url: str, clinic: str, nurse: Api, admin: Api
) -> None:
    device = Installation()
    device.enrol(nurse)
    content = json.dumps({"events": [device.event("document.opened"), device.event("print.intent", copy=1)]}).encode()
    with Api(service.url, None) as nobody:
        headers = device.signed(clinic, content)
        taken = nobody.post(EVENTS, content=content, headers=headers)
        assert taken.status_code == 200, taken.text
        assert [entry["result"] for entry in taken.json()["items"]] == ["accepted", "accepted"]
        assert {flag for entry in taken.json()["items"] for flag in entry["flags"]} == {"sent-by-device"}
        again = nobody.post(EVENTS, content=content, headers=headers)
        assert [entry["result"] for entry in again.json()["items"]] == ["duplicate", "duplicate"]
        stranger = Installation()
        for wrong in (
            {**headers, "X-Device-Tenant": service.create_tenant(fhir_url)},
            {**headers, "X-Device-Tenant": "nobody-here"},
            {**headers, "X-Device-Id": stranger.id},
            {**headers, "X-Device-Signature": text(bytes(64))},
            {**headers, "X-Device-Signature": "%%%"},
            stranger.signed(clinic, content),
            {**stranger.signed(clinic, content), "X-Device-Id": device.id},
            device.signed(clinic, content + b" "),
        ):
            refused = nobody.post(EVENTS, content=content, headers=wrong)
            assert (refused.status_code, refused.json()["code"]) == (401, "NOT_AUTHENTICATED"), wrong
        for path in ("/v1/documents/changes", "/v1/devices"):
            assert nobody.get(path, headers=headers).status_code == 401
        admin.post(f"/v1/devices/{device.id}/revoke")
        late = json.dumps({"events": [device.event("cache.purged")]}).encode()
        answer = nobody.post(EVENTS, content=late, headers=device.signed(clinic, late))
        assert answer.json()["items"][0]["flags"] == ["sent-by-device", "device-revoked"]
        foreign = json.dumps({"events": [stranger.event("print.intent")]}).encode()
        answer = nobody.post(EVENTS, content=foreign, headers=device.signed(clinic, foreign))
        assert answer.json()["items"][0]["flags"][:2] == ["sent-by-another-device", "device-unknown"]


async def test_only_the_device_itself_is_heard_of(service: Service, clinic: str, nurse: Api) -> None:
    """A lost device that was heard of has purged its copies; whoever knows its id cannot make it seem so."""
    device = Installation()
    device.enrol(nurse)
    content = json.dumps({"events": [device.event("cache.purged")]}).encode()
    async with connected(service, role=None) as owner:
        yesterday = await owner.fetchval(
            "UPDATE devices SET last_seen_at = now() - interval '1 day' WHERE id = $1 RETURNING last_seen_at", device.id
        )

        async def seen() -> Any:
            return await owner.fetchval("SELECT last_seen_at FROM devices WHERE id = $1", device.id)

        with Api(service.url, None) as nobody:
            forged = {**device.signed(clinic, content), "X-Device-Signature": text(bytes(64))}
            assert nobody.post(EVENTS, content=content, headers=forged).status_code == 401
            assert await seen() == yesterday
            assert nobody.post(EVENTS, content=content, headers=device.signed(clinic, content)).status_code == 200
            assert await seen() > yesterday


def test_a_gap_and_a_fork_in_a_devices_chain_are_taken_and_flagged(nurse: Api) -> None:
    device = Installation()
    device.enrol(nurse)
    first, lost, third = (device.event("document.opened") for _ in range(3))
    forked = {**lost, "eventId": f"evt_{uuid.uuid4().hex}", "action": "document.exported"}
    forked["hash"] = hashlib.sha256(rfc8785.dumps({k: v for k, v in forked.items() if k != "hash"})).hexdigest()
    changed = {**device.event("print.intent"), "copy": 9}
    sent = [first, third, lost, forked, changed, {"eventId": "evt_x"}]
    items = nurse.post(EVENTS, json={"events": sent}).json()["items"]
    assert [entry["result"] for entry in items] == ["accepted"] * 5 + ["refused"]
    assert [entry.get("flags") for entry in items[:5]] == [[], ["gap"], [], ["fork"], ["hash-mismatch"]]
    assert "missing" in items[5]["reason"]


def test_a_lost_device_purges_its_cache_at_its_next_contact(
    service: Service, clinic: str, admin: Api, tmp_path: Path
) -> None:
    token = service.token(clinic, "dr.c", roles=("CLINICIAN",))
    with DocumentClient(tmp_path / "home", passphrase="correct horse") as client:
        client.login(service.url, token)
        client.request("General Test Requisition", patient="demo-patient-noorzai", encounter="demo-encounter-noorzai")
        client.sync(wait_seconds=30)
        (document,) = client.documents.list()
        assert client.documents.read(document["id"]).content.startswith(b"%PDF-")
        pending = client.request("General Test Requisition", patient="demo-patient-rahimi")
        device_id = client.whoami()["deviceId"]
        holders = admin.get("/v1/devices").json()["items"]
        assert device_id in [entry["id"] for entry in holders]
        admin.post(f"/v1/devices/{device_id}/revoke", json={"reason": "stolen"})
        report = client.sync()
        assert report.stopped == "DEVICE_REVOKED"
        query = {"deviceId": device_id, "action": "device.cache.purged"}
        (purged,) = admin.get("/v1/audit-events", params=query).json()["items"]
        assert purged["detail"]["flags"] == ["sent-by-device", "device-revoked"]
        assert client.documents.list() == []
        # What was not sent is not lost, and not taken for refused.
        assert client.queue.show(pending["clientMutationId"])["status"] == "queued"
    with DocumentClient(tmp_path / "home", passphrase="correct horse") as client:
        with pytest.raises(DocumentUnknown):
            client.documents.read(document["id"])
        with pytest.raises(DeviceRevoked):
            raise_stop(client.sync())
