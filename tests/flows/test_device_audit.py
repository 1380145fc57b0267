"""Evidence from devices: whatever can be parsed is taken once; what does not fit is flagged, never refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import rfc8785

from document_service.identifiers import new
from document_service.keys import KeyStore
from raw_database import connected
from running_service import Api, Service

INTAKE = "/v1/documents/audit-events"
FIRST = "0" * 64

#: A device that never enrolled is told of at each event; these tests are about the chain.
UNENROLLED = "device-unknown"


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@pytest.fixture
def nurse(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic, roles=("CLINICIAN",)) as caller:
        yield caller


class Device:
    """A chain of events as a device makes it."""

    def __init__(self) -> None:
        self.id = new("device")
        self.sequence = 0
        self.last = FIRST

    def event(self, **more: Any) -> dict[str, Any]:
        """The next event of the chain."""
        self.sequence += 1
        event = _hashed(
            {
                "eventId": str(uuid.uuid4()),
                "deviceId": self.id,
                "userId": "nurse",
                "sequence": self.sequence,
                "action": "document.open",
                "documentId": new("document"),
                "documentSha256": "1" * 64,
                "occurredAt": "2026-11-22T08:30:00Z",
                "clock": "trusted",
                "previousHash": self.last,
                **more,
            }
        )
        self.last = event["hash"]
        return event


def _hashed(event: dict[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in event.items() if key != "hash"}
    return {**body, "hash": hashlib.sha256(rfc8785.dumps(body)).hexdigest()}


def _send(caller: Api, *events: Any) -> list[dict[str, Any]]:
    answer = caller.post(INTAKE, json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    assert [item["eventId"] for item in items] == [event.get("eventId") for event in events]
    return items


def _flags(item: dict[str, Any]) -> set[str]:
    return set(item["flags"]) - {UNENROLLED}


def test_a_chain_is_taken_as_it_is(nurse: Api) -> None:
    device = Device()
    events = [device.event(), device.event(action="print.intent", copy=1, printer="ward 3"), device.event()]
    items = _send(nurse, *events)
    assert [(item["result"], _flags(item)) for item in items] == [("accepted", set())] * 3


def test_an_event_is_taken_once_however_often_it_is_sent(service: Service, clinic: str, nurse: Api) -> None:
    device = Device()
    first, second = device.event(), device.event()
    assert [item["result"] for item in _send(nurse, first, first)] == ["accepted", "duplicate"]
    assert [item["result"] for item in _send(nurse, first, second)] == ["duplicate", "accepted"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: nurse.post(INTAKE, json={"events": [first, second]}), range(8)))
    assert {item["result"] for answer in answers for item in answer.json()["items"]} == {"duplicate"}
    assert [row["action"] for row in asyncio.run(_rows(service, device.id))] == ["device.document.open"] * 2


def test_an_id_that_another_event_took_first_loses_no_evidence(service: Service, clinic: str, nurse: Api) -> None:
    device = Device()
    mine = device.event(action="print.intent")
    # Somebody who has seen the id, and keeps the hash, so that it looks like the same event.
    theirs = {**mine, "action": "document.open"}
    assert [item["result"] for item in _send(nurse, theirs, mine)] == ["accepted", "accepted"]
    again = _send(nurse, mine, theirs, mine)
    assert [item["result"] for item in again] == ["duplicate"] * 3
    kept = asyncio.run(_rows(service, device.id))
    assert sorted(row["action"] for row in kept) == ["device.document.open", "device.print.intent"]
    other = _hashed({**mine, "action": "document.print"})
    taken, repeated = _send(nurse, other), _send(nurse, other)
    assert (taken[0]["result"], repeated[0]["result"]) == ("accepted", "duplicate")
    assert "id-reused" in taken[0]["flags"]


def test_an_auditor_who_asks_for_failures_finds_the_print_that_failed(
    service: Service, clinic: str, nurse: Api
) -> None:
    device = Device()
    events = [device.event(action=action) for action in ("print.intent", "print.failed")]
    assert [item["result"] for item in _send(nurse, *events)] == ["accepted", "accepted"]
    with service.caller(clinic, roles=("AUDITOR",)) as auditor:
        for outcome, action in (("success", "device.print.intent"), ("failure", "device.print.failed")):
            wanted = {"outcome": outcome, "action": action}
            assert auditor.get("/v1/audit-events", params=wanted).json()["items"], wanted


def test_twenty_at_once_are_one_row(service: Service, nurse: Api) -> None:
    device = Device()
    event = device.event()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: _send(nurse, event)[0]["result"], range(20)))
    assert sorted(answers) == ["accepted"] + ["duplicate"] * 19
    assert len(asyncio.run(_rows(service, device.id))) == 1


def test_the_event_is_kept_as_it_was_hashed(service: Service, clinic: str, nurse: Api) -> None:
    device = Device()
    event = device.event(copy=2, printer="ward 3, HP", note={"for": "Noorzai", "offset": 0.25}, printer2="x")
    _send(nurse, event)
    (row,) = asyncio.run(_rows(service, device.id))
    detail = json.loads(row["detail"])
    # What no client of ours sends may be anything, so it is sealed.
    assert detail["event"] == {name: value for name, value in event.items() if name not in ("note", "printer2")}
    assert "Noorzai" not in row["detail"]
    sealed = base64.b64decode(detail["restSealed"])
    rest = json.loads(KeyStore.open(service.data_dir / "keys").unseal(clinic, "device-event", sealed))
    kept = detail["event"] | rest
    assert kept == event
    assert _hashed(kept)["hash"] == event["hash"]
    assert (row["actor"], row["device_id"], row["document_id"]) == ("nurse", device.id, event["documentId"])
    assert row["occurred_at"].isoformat() == "2026-11-22T08:30:00+00:00"


async def _rows(service: Service, device: str) -> list[Any]:
    async with connected(service, role=None) as connection:
        found: list[Any] = await connection.fetch(
            "SELECT * FROM audit_events WHERE device_id = $1 ORDER BY xid, seq", device
        )
    return found


# --- What does not fit --------------------------------------------------------------------------------------------


def test_a_gap_is_flagged_and_closes_when_the_rest_arrives(nurse: Api) -> None:
    device = Device()
    first, second, third, fourth = (device.event() for _ in range(4))
    assert _flags(_send(nurse, first)[0]) == set()
    assert _flags(_send(nurse, third)[0]) == {"gap"}
    assert [_flags(item) for item in _send(nurse, second, fourth)] == [set(), set()]


def test_a_chain_without_its_beginning_is_a_gap(nurse: Api) -> None:
    device = Device()
    device.event()
    second = device.event()
    assert _flags(_send(nurse, second)[0]) == {"gap"}
    pretended = Device()
    pretended.sequence = 41
    assert _flags(_send(nurse, pretended.event())[0]) == {"gap"}


def test_two_events_in_one_place_are_a_fork(nurse: Api) -> None:
    device = Device()
    first = device.event()
    other = _hashed({**first, "eventId": str(uuid.uuid4()), "action": "document.save"})
    items = _send(nurse, first, other)
    assert [(item["result"], _flags(item)) for item in items] == [("accepted", set()), ("accepted", {"fork"})]


def test_an_event_after_another_than_the_one_before_is_a_fork(nurse: Api) -> None:
    device = Device()
    first = device.event()
    device.last = "f" * 64
    items = _send(nurse, first, device.event())
    assert [_flags(item) for item in items] == [set(), {"fork"}]


def test_a_changed_event_is_taken_with_its_broken_hash(nurse: Api) -> None:
    device = Device()
    event = {**device.event(), "copy": 9}
    (item,) = _send(nurse, event)
    assert (item["result"], _flags(item)) == ("accepted", {"hash-mismatch"})


def test_the_events_of_a_colleague_who_left_are_taken_and_flagged(service: Service, clinic: str) -> None:
    device = Device()
    event = device.event(userId="colleague")
    with service.caller(clinic, user="nurse") as caller:
        (item,) = _send(caller, event)
    assert (item["result"], _flags(item)) == ("accepted", {"sent-by-another-user"})
    (row,) = asyncio.run(_rows(service, device.id))
    assert row["actor"] == "colleague"


def test_the_chains_of_two_devices_and_two_tenants_do_not_meet(service: Service, fhir_url: str, nurse: Api) -> None:
    one, other = Device(), Device()
    assert _flags(_send(nurse, one.event())[0]) == set()
    assert _flags(_send(nurse, other.event())[0]) == set()
    event = one.event()
    with service.caller(service.create_tenant(fhir_url)) as stranger:
        assert (_send(stranger, event)[0]["result"], _flags(_send(stranger, event)[0])) == ("accepted", {"gap"})
    assert (_send(nurse, event)[0]["result"]) == "accepted"


# --- What cannot be parsed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"eventId": None}, "eventId"),
        ({"eventId": 5}, "eventId"),
        ({"eventId": "x" * 401}, "eventId"),
        ({"deviceId": ""}, "deviceId"),
        ({"userId": {}}, "userId"),
        ({"action": None}, "action"),
        ({"sequence": "1"}, "sequence"),
        ({"sequence": -1}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"sequence": 1.5}, "sequence"),
        ({"sequence": 2**53}, "canonical"),
        ({"sequence": 2**63}, "canonical"),
        ({"documentId": "doc_1"}, "documentId"),
        ({"documentId": ["x"]}, "documentId"),
        ({"occurredAt": "yesterday"}, "occurredAt"),
        ({"occurredAt": "2026-11-22T08:30:00"}, "occurredAt"),
        ({"occurredAt": "0001-01-01T00:00:00+05:00"}, "occurredAt"),
        ({"occurredAt": "9999-12-31T23:59:59-05:00"}, "occurredAt"),
        ({"printer": "a\u0000b"}, "cannot be stored"),
        ({"printer": "x" * 9000}, "too large"),
        ({"hash": None}, "hash"),
    ],
)
def test_what_cannot_be_parsed_is_refused_alone_and_says_why(nurse: Api, change: dict[str, Any], named: str) -> None:
    device = Device()
    good = device.event()
    bad = {**Device().event(), **change}
    answer = nurse.post(INTAKE, json={"events": [bad, good]})
    assert answer.status_code == 200, answer.text
    refused, accepted = answer.json()["items"]
    assert refused["result"] == "refused"
    assert named in refused["reason"]
    assert refused["eventId"] == (bad["eventId"] if isinstance(bad["eventId"], str) else None)
    assert accepted["result"] == "accepted"


def test_an_event_that_nests_absurdly_deep_is_refused_alone(nurse: Api) -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    bad, good = {**Device().event(), "printer": deep}, Device().event()
    assert [item["result"] for item in _send(nurse, bad, good)] == ["refused", "accepted"]


@pytest.mark.parametrize("body", [{"events": 5}, {}, {"events": [{}] * 501}, {"events": [], "more": 1}])
def test_a_batch_of_the_wrong_shape(nurse: Api, body: Any) -> None:
    answer = nurse.post(INTAKE, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


def test_what_is_no_object_is_refused_alone(nurse: Api) -> None:
    good = Device().event()
    answer = nurse.post(INTAKE, json={"events": [5, "text", None, good]})
    assert [item["result"] for item in answer.json()["items"]] == ["refused", "refused", "refused", "accepted"]


def test_any_role_may_send_and_an_empty_batch_is_one(service: Service, clinic: str) -> None:
    with service.caller(clinic, user="auditor", roles=("AUDITOR",)) as auditor:
        assert _send(auditor) == []
        assert _send(auditor, Device().event(userId="auditor"))[0]["result"] == "accepted"
