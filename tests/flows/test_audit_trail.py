"""The audit trail as an auditor reads it: every act, every refusal, page by page, and as FHIR (issue 5)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle

from document_acts import made, supersede, void
from installation import EVENTS, Installation
from running_service import Api, Service, request_for


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@pytest.fixture
def doctor(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic, "dr.a", roles=("CLINICIAN",)) as caller:
        yield caller


@pytest.fixture
def auditor(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic, "auditor", roles=("AUDITOR",)) as caller:
        yield caller


def trail(auditor: Api, **filters: Any) -> list[dict[str, Any]]:
    """Every event that the filters leave, oldest first."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {**filters, "limit": 7} | ({"cursor": cursor} if cursor else {})
        page = auditor.get("/v1/audit-events", params=query)
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        cursor = page.json()["nextCursor"]
        if cursor is None:
            return items[::-1]


def actions(events: list[dict[str, Any]]) -> list[str]:
    return [event["action"] for event in events]


def test_every_act_on_a_document_is_recorded(doctor: Api, auditor: Api) -> None:
    document, replacement = made(doctor), made(doctor)
    doctor.get(f"/v1/documents/{document['id']}")
    assert doctor.content(document["id"]).status_code == 200
    assert doctor.content(document["id"], Range="bytes=10-").status_code == 206
    supersede(doctor, document["id"], replacement["id"], reason="the dose was ten times too high")
    assert doctor.post(f"/v1/documents/{document['id']}/download-url").status_code == 410
    void(doctor, replacement["id"])
    events = trail(auditor, documentId=document["id"])
    assert actions(events) == [
        "document.generate",
        "document.view",
        "document.download-url",
        "document.download",
        "document.download-url",
        "document.download",
        "document.supersede",
        "access.denied",
    ]
    assert {event["actor"] for event in events} == {"dr.a", "signed-url"}
    assert {event["patientId"] for event in events[:-1]} == {document["patientId"]}
    assert events[5]["detail"] == {"range": "bytes=10-"}
    assert events[6]["detail"] == {"byDocumentId": replacement["id"], "reason": "the dose was ten times too high"}
    assert (events[7]["outcome"], events[7]["detail"]["code"]) == ("failure", "DOCUMENT_WITHDRAWN")
    assert actions(trail(auditor, documentId=replacement["id"]))[-1] == "document.void"
    assert all(event["requestId"] for event in events[1:])


def test_a_pdf_that_generate_hands_out_is_a_download(doctor: Api, auditor: Api) -> None:
    request = request_for(doctor.platform_version())
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    headers = {"Idempotency-Key": str(uuid.uuid4()), "Accept": "application/pdf"}
    answer = doctor.post("/v1/documents/generate", json=request, headers=headers)
    assert answer.content.startswith(b"%PDF-")
    (event,) = trail(auditor, documentId=answer.headers["x-document-id"], action="document.download")
    assert event["actor"] == "dr.a"


def test_refused_access_is_recorded_and_tells_nothing(
    service: Service, fhir_url: str, clinic: str, doctor: Api, auditor: Api
) -> None:
    nobodys = f"doc_{'1' * 26}"
    with service.caller(service.create_tenant(fhir_url)) as other:
        theirs = made(other)
        for wanted in (nobodys, theirs["id"]):
            assert doctor.get(f"/v1/documents/{wanted}").status_code == 404
            assert doctor.post(f"/v1/documents/{wanted}/download-url").status_code == 404
        assert trail(other, action="access.denied") == []
    assert doctor.get("/v1/documents/Zahra-Noorzai").status_code == 404
    assert doctor.get("/v1/audit-events").json()["code"] == "FORBIDDEN"
    denied = trail(auditor, action="access.denied", actor="dr.a")
    mine = [event for event in denied if event["documentId"] in (nobodys, theirs["id"])]
    assert len(mine) == 4
    for first, second in ((mine[0], mine[2]), (mine[1], mine[3])):
        its_own = dict.fromkeys(("id", "documentId", "recordedAt", "occurredAt", "requestId", "chainSequence"))
        assert {**first, **its_own} == {**second, **its_own}
        assert first["patientId"] is None
    assert [event["detail"]["code"] for event in denied if event["documentId"] is None] == ["FORBIDDEN"]
    assert "Zahra" not in json.dumps(denied)


def test_a_forged_link_leaves_no_event_and_a_used_one_its_refusal(service: Service, doctor: Api, auditor: Api) -> None:
    document = made(doctor)
    link = doctor.post(f"/v1/documents/{document['id']}/download-url").json()["url"]
    forged = link[:-4] + ("AAAA" if link[-4:] != "AAAA" else "BBBB")
    assert httpx2.get(service.url + forged).status_code == 403
    void(doctor, document["id"])
    assert httpx2.get(service.url + link).status_code == 410
    events = trail(auditor, documentId=document["id"])
    assert actions(events) == ["document.generate", "document.download-url", "document.void", "access.denied"]
    assert events[-1]["actor"] == "signed-url"


def test_an_operators_change_of_a_tenant_is_recorded(service: Service, fhir_url: str) -> None:
    tenant = service.create_tenant(fhir_url)
    service.command("tenant", "create", tenant, "--fhir-url", "http://127.0.0.1:9/fhir", "--cache-ttl", "2d")
    service.command("tenant", "create", tenant, "--no-reprint")
    with service.caller(tenant, "auditor", roles=("AUDITOR",)) as reader:
        events = trail(reader, action="tenant.change")
    assert [(event["actor"], event["detail"]) for event in events] == [
        ("operator", {"changed": ["cache_ttl", "fhir_url"], "fhirUrl": "http://127.0.0.1:9/fhir"}),
        ("operator", {"changed": ["allow_reprint"]}),
    ]


def test_filters_and_pages_agree_and_reading_is_recorded(doctor: Api, auditor: Api) -> None:
    for _ in range(4):
        doctor.get("/v1/documents", params={"patientId": "demo-patient-rahimi"})
    everything = trail(auditor)
    assert len({event["id"] for event in everything}) == len(everything)
    searches = trail(auditor, action="document.search", patientId="demo-patient-rahimi")
    assert len(searches) == 4
    assert {event["actor"] for event in searches} == {"dr.a"}
    assert (
        actions(trail(auditor, action="document.*", actor="dr.a", patientId="demo-patient-rahimi"))
        == ["document.search"] * 4
    )
    boundary = searches[2]["recordedAt"]
    # Compared by id: the sequencer may chain an event between the two questions.
    earlier = trail(auditor, action="document.search", to=boundary, patientId="demo-patient-rahimi")
    assert [event["id"] for event in earlier] == [event["id"] for event in searches[:2]]
    later = trail(auditor, **{"from": boundary}, action="document.search", patientId="demo-patient-rahimi")
    assert [event["id"] for event in later] == [event["id"] for event in searches[2:]]
    assert trail(auditor, outcome="failure", action="document.search") == []
    assert len(trail(auditor, action="audit.read", actor="auditor")) >= 6
    assert auditor.get("/v1/audit-events", params={"from": "yesterday"}).status_code == 400
    assert auditor.get("/v1/audit-events", params={"cursor": "x"}).json()["code"] == "INVALID_CURSOR"


def test_holders_names_who_has_it_in_hand(service: Service, clinic: str, doctor: Api) -> None:
    document = made(doctor)
    at_home, on_ward = Installation(), Installation()
    with (
        service.caller(clinic, "nurse", roles=("CLINICIAN",)) as nurse,
        service.caller(clinic, "admin", roles=("TENANT_ADMIN",)) as admin,
    ):
        at_home.enrol(doctor, name="laptop")
        on_ward.enrol(nurse, name="ward 2")
        cursors = {}
        for api, device in ((doctor, at_home), (nurse, on_ward)):
            headers = {"X-Device-Id": device.id}
            api.post(f"/v1/documents/{document['id']}/download-url", headers=headers)
            cursors[device.id] = api.get("/v1/documents/changes", headers=headers).json()["cursor"]
        printed = [on_ward.event(f"print.{word}", documentId=document["id"]) for word in ("intent", "submitted")]
        opened = on_ward.event("document.opened", documentId=document["id"])
        nurse.post(EVENTS, json={"events": [*printed, opened]})
        path = f"/v1/documents/{document['id']}/holders"
        assert nurse.get(path).json()["code"] == "FORBIDDEN"
        found = {entry["userId"]: entry for entry in admin.get(path).json()["items"]}
        assert set(found) == {"dr.a", "nurse"}
        assert (found["nurse"]["printed"], found["nurse"]["opened"], found["nurse"]["copy"]) == (1, 1, "kept")
        assert (found["dr.a"]["linked"], found["dr.a"]["printed"], found["dr.a"]["copy"]) == (1, 0, "kept")
        assert found["nurse"]["deviceName"] == "ward 2"
        void(doctor, document["id"])
        # The ward's device reads the revocation, and says with its next cursor that it has applied it.
        headers = {"X-Device-Id": on_ward.id}
        page = nurse.get("/v1/documents/changes", params={"cursor": cursors[on_ward.id]}, headers=headers).json()
        copies = {entry["userId"]: entry["copy"] for entry in admin.get(path).json()["items"]}
        assert copies == {"dr.a": "kept", "nurse": "kept"}
        nurse.get("/v1/documents/changes", params={"cursor": page["cursor"]}, headers=headers)
        copies = {entry["userId"]: entry["copy"] for entry in admin.get(path).json()["items"]}
        assert copies == {"dr.a": "kept", "nurse": "dropped"}
        admin.post(f"/v1/devices/{at_home.id}/revoke")
        assert {entry["userId"]: entry["copy"] for entry in admin.get(path).json()["items"]}["dr.a"] == "kept"


def test_the_trail_is_valid_fhir_in_the_shape_of_balp(service: Service, clinic: str, doctor: Api, auditor: Api) -> None:
    device, document = Installation(), made(doctor)
    device.enrol(doctor)
    doctor.get(f"/v1/documents/{document['id']}", headers={"X-Device-Id": device.id})
    doctor.get("/v1/documents", params={"patientId": document["patientId"]})
    doctor.post(EVENTS, json={"events": [device.event("print.submitted", "dr.a", documentId=document["id"])]})
    void(doctor, document["id"])
    doctor.post(f"/v1/documents/{document['id']}/download-url")
    answer = auditor.get("/v1/audit-events", params={"format": "fhir", "limit": 50})
    assert answer.headers["content-type"] == "application/fhir+json"
    bundle = Bundle.model_validate(answer.json())
    assert bundle.type == "searchset"
    profiles = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
    by_action: dict[str, Any] = {}
    for entry in answer.json()["entry"]:
        resource = entry["resource"]
        AuditEvent.model_validate(resource)
        named = next(code["code"] for code in resource["subtype"] if code["system"] == "urn:document-service:action")
        by_action.setdefault(named, resource)
    viewed = by_action["document.view"]
    assert viewed["meta"]["profile"] == [f"{profiles}PatientRead"]
    assert (viewed["type"]["code"], viewed["action"], viewed["outcome"]) == ("rest", "R", "0")
    roles = [agent["type"]["coding"][0]["code"] for agent in viewed["agent"]]
    assert roles == ["110152", "110153", "IRCP"]
    assert viewed["agent"][0]["who"]["identifier"]["value"] == device.id
    assert viewed["entity"][0]["what"]["reference"] == f"Patient/{document['patientId']}"
    assert by_action["document.search"]["meta"]["profile"] == [f"{profiles}PatientQuery"]
    assert by_action["document.generate"]["meta"]["profile"] == [f"{profiles}PatientCreate"]
    assert by_action["document.void"]["meta"]["profile"] == [f"{profiles}PatientUpdate"]
    printed = by_action["device.print.submitted"]
    assert (printed["type"]["code"], printed["source"]["type"][0]["code"]) == ("110106", "1")
    assert "meta" not in by_action["access.denied"]
    assert by_action["access.denied"]["outcome"] == "4"
    paged = auditor.get("/v1/audit-events", params={"format": "fhir", "limit": 1, "action": "document.*"}).json()
    following = auditor.get(next(link["url"] for link in paged["link"] if link["relation"] == "next")).json()
    assert following["entry"][0]["resource"]["id"] != paged["entry"][0]["resource"]["id"]
    lines = service.command("audit", "export", "--tenant", clinic).splitlines()
    for line in lines[:20]:
        AuditEvent.model_validate(json.loads(line))
    assert len(lines) >= len(by_action)


def test_an_event_that_is_sent_by_five_sessions_at_once_is_taken_once(doctor: Api, auditor: Api) -> None:
    from concurrent.futures import ThreadPoolExecutor

    device = Installation()
    device.enrol(doctor)
    events = {"events": [device.event("document.opened", "dr.a")]}
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(doctor.post, EVENTS, json=events) for _ in range(5)]
        results = [call.result().json()["items"][0]["result"] for call in calls]
    assert sorted(results) == ["accepted"] + ["duplicate"] * 4
    assert len(trail(auditor, deviceId=device.id, action="device.*")) == 1
    assert uuid.UUID(events["events"][0]["eventId"].removeprefix("evt_"))
