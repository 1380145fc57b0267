"""Contract §2 and §6: devices, what they report, and the trail."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.from_outside.caller import Caller, code_of, instant, new_id
from contract.from_outside.clinic import CLINIC, Clinic
from contract.from_outside.shapes import LIST

DEVICES, EVENTS = "/v1/devices", "/v1/documents/audit-events"
FIRST = "0" * 64


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Tablet:
    """A device of one installation, and the chain of what was done on it."""

    def __init__(self, owner: Caller) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.enrolment = {"name": "tablet", "publicKey": _encoded(self.key.public_key().public_bytes_raw())}
        answer = owner.post(DEVICES, json=self.enrolment)
        assert answer.status_code == 201, answer.text
        self.id = str(answer.json()["id"])
        self.sequence, self.last = 0, FIRST

    def event(self, action: str = "print.intent", **fields: Any) -> dict[str, Any]:
        """The next event of the chain (§6): "SHA-256 hex of the RFC 8785 form of the event without `hash`"."""
        self.sequence += 1
        event = {
            "eventId": new_id(),
            "deviceId": self.id,
            "userId": "nurse",
            "sequence": self.sequence,
            "action": action,
            "documentId": "doc_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "documentSha256": "0" * 64,
            "occurredAt": instant(),
            "clock": "ok",
            "previousHash": self.last,
            **fields,
        }
        # These events hold text and whole numbers only, of which the RFC 8785 form is sorted and without spaces.
        canonical = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        event["hash"] = self.last = hashlib.sha256(canonical.encode()).hexdigest()
        return event

    def signed(self, body: bytes) -> dict[str, str]:
        """The headers of docs/http-api.md by which a device sends without anybody's token."""
        said = b"document-service audit-events v1\n" + hashlib.sha256(body).hexdigest().encode()
        return {
            "Content-Type": "application/json",
            "X-Device-Id": self.id,
            "X-Device-Tenant": CLINIC,
            "X-Device-Signature": _encoded(self.key.sign(said)),
        }


@pytest.fixture
def tablet(nurse: Caller) -> Tablet:
    """A device that was just enrolled."""
    return Tablet(nurse)


@pytest.fixture(scope="module")
def nobody(clinic: Clinic) -> Iterator[Caller]:
    """Whoever has no token."""
    with Caller(clinic.url) as caller:
        yield caller


def _sent(caller: Caller, *events: Any) -> list[str]:
    answer = caller.post(EVENTS, json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    return [item["result"] for item in answer.json()["items"]]


def _recorded(auditor: Caller, device: str) -> list[str]:
    found = auditor.every("/v1/audit-events", deviceId=device, action="device.*")
    return [one["detail"]["event"]["eventId"] for one in found if "event" in one["detail"]]


def test_a_device_is_enrolled_once(nurse: Caller, admin: Caller, stranger: Caller, tablet: Tablet) -> None:
    """§2: `POST /v1/devices` "enrol at login"; `GET` "list". The key makes the device."""
    assert tablet.id.startswith("dev_")
    again = nurse.post(DEVICES, json={**tablet.enrolment, "deviceId": tablet.id})
    assert (again.status_code, again.json()["id"]) == (200, tablet.id)
    other = _encoded(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    taken = nurse.post(DEVICES, json={**tablet.enrolment, "deviceId": tablet.id, "publicKey": other})
    assert taken.status_code == 409
    assert nurse.post(DEVICES, json={"name": "tablet", "publicKey": "nonsense"}).status_code == 400
    assert set(nurse.get(DEVICES).json()) == LIST
    for caller, sees in ((nurse, True), (admin, True), (stranger, False)):
        assert (tablet.id in [one["id"] for one in caller.every(DEVICES)]) is sees


def test_events_are_taken_once(nurse: Caller, auditor: Caller, tablet: Tablet) -> None:
    """§2: "batch from a device, deduplicated by event id"; §6: "per item `accepted | duplicate | refused`"."""
    first, second = tablet.event(), tablet.event("print.submitted", copy=1, printer="چاپگر")
    assert _sent(nurse, first, second) == ["accepted", "accepted"]
    assert _sent(nurse, second, first) == ["duplicate", "duplicate"]
    assert sorted(_recorded(auditor, tablet.id)) == sorted([first["eventId"], second["eventId"]])


def test_a_gap_or_fork_is_accepted_and_only_nonsense_refused(nurse: Caller, auditor: Caller, tablet: Tablet) -> None:
    """§6: "A gap or fork is accepted and flagged; refused only what cannot be parsed"."""
    first = tablet.event()
    one, branch = tablet.event(), (tablet.sequence, tablet.last)
    tablet.sequence += 5
    gap = tablet.event()
    tablet.sequence, tablet.last = 1, first["hash"]
    fork = tablet.event("document.open")
    tablet.sequence, tablet.last = branch
    forged = {**tablet.event(), "hash": "0" * 64}
    assert _sent(nurse, first, one) == ["accepted"] * 2
    sent = _sent(nurse, gap, fork, "nonsense", {"no": "event"}, 7, forged)
    assert sent[:2] == ["accepted"] * 2
    assert sent[2:5] == ["refused"] * 3
    found = auditor.every("/v1/audit-events", deviceId=tablet.id, action="device.*")
    flags = {one["detail"]["event"]["eventId"]: one["detail"]["flags"] for one in found if "event" in one["detail"]}
    assert flags[first["eventId"]] == flags[one["eventId"]] == []
    assert flags[gap["eventId"]]
    assert flags[fork["eventId"]]
    assert sent[5] == "refused" or flags[forged["eventId"]]


def test_a_devices_signature_sends_what_its_user_left(
    nobody: Caller, nurse: Caller, admin: Caller, auditor: Caller, tablet: Tablet
) -> None:
    """§2: "by bearer token **or** the device's signature, so that a deactivated user's evidence arrives"; a revoked
    device's too."""
    for revoked in (False, True):
        if revoked:
            assert admin.post(f"{DEVICES}/{tablet.id}/revoke").status_code == 200
        event = tablet.event()
        body = json.dumps({"events": [event]}).encode()
        for content, headers in (
            (body + b" ", tablet.signed(body)),
            (body, {**tablet.signed(body), "X-Device-Tenant": "strangers"}),
            (body, {"Content-Type": "application/json"}),
        ):
            assert nobody.post(EVENTS, content=content, headers=headers).status_code == 401
        answer = nobody.post(EVENTS, content=body, headers=tablet.signed(body))
        assert [item["result"] for item in answer.json()["items"]] == ["accepted"]
        assert event["eventId"] in _recorded(auditor, tablet.id)


def test_a_revoked_device_is_told_at_its_next_contact(nurse: Caller, admin: Caller, tablet: Tablet) -> None:
    """§2: `POST …/{id}/revoke` "a lost device's cache is purged at its next contact"."""
    with_device = {"X-Device-Id": tablet.id}
    assert code_of(nurse.post(f"{DEVICES}/{tablet.id}/revoke")) == (403, "FORBIDDEN")
    assert admin.post(f"{DEVICES}/{tablet.id}/revoke").status_code == 200
    assert admin.post(f"{DEVICES}/{tablet.id}/revoke").status_code == 200
    refused = nurse.get("/v1/documents/changes", headers=with_device)
    assert code_of(refused) == (403, "DEVICE_REVOKED")
    assert nurse.post(DEVICES, json={**tablet.enrolment, "deviceId": tablet.id}).status_code == 403
    assert admin.post(f"{DEVICES}/dev_01ARZ3NDEKTSV4RRFFQ69G5FAV/revoke").status_code == 404


def test_the_trail_is_queried_and_paged(nurse: Caller, auditor: Caller, stranger: Caller, form_version: str) -> None:
    """§2: `GET /v1/audit-events` "query, paged"; a download-url is "audited"; a tenant's trail is its own."""
    body = {"templateVersionId": form_version, "patientId": "demo-patient-noorzai", "inputs": {}, "locale": "en"}
    made = nurse.generate({**body, "inputs": {"tests": ["CBC"]}}).json()
    nurse.url_of(made["id"])
    page = auditor.get("/v1/audit-events", params={"limit": "2"}).json()
    assert set(page) == LIST
    assert (len(page["items"]), page["nextCursor"] is None) == (2, False)
    found = auditor.every("/v1/audit-events", documentId=made["id"])
    assert any("download" in one["action"] and one["actor"] == "nurse" for one in found), found
    assert stranger.every("/v1/audit-events", documentId=made["id"]) == []
    assert "Noorzai" not in json.dumps(found)
