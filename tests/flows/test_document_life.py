"""A document after it was made: replaced, entered in error, and gone from wherever it was (issue 5)."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from document_acts import changes_after, made, supersede, void
from running_service import Api, Service


@pytest.fixture(scope="module")
def tenant(service: Service, fhir_url: str) -> str:
    """One tenant for this file; every test makes its own documents."""
    return service.create_tenant(fhir_url)


def test_supersede_changes_both_sides_and_reaches_devices(api: Api) -> None:
    old, new = made(api), made(api)
    link = api.post(f"/v1/documents/{old['id']}/download-url").json()["url"]
    cursor = changes_after(api, "")["cursor"]
    tag = api.get(f"/v1/documents/{new['id']}").headers["etag"]
    answer = supersede(api, old["id"], new["id"])
    assert answer.status_code == 200, answer.text
    # Whoever has read the new one before must hear what it replaces.
    assert api.get(f"/v1/documents/{new['id']}", headers={"If-None-Match": tag}).status_code == 200
    assert (answer.json()["status"], answer.json()["supersededBy"]) == ("superseded", new["id"])
    assert answer.json()["withdrawnAt"]
    shown = api.get(f"/v1/documents/{old['id']}")
    assert (shown.status_code, shown.json()) == (200, answer.json())
    assert api.get(f"/v1/documents/{new['id']}").json()["supersedes"] == old["id"]
    refused = api.post(f"/v1/documents/{old['id']}/download-url")
    assert (refused.status_code, refused.json()["code"]) == (410, "DOCUMENT_WITHDRAWN")
    assert refused.json()["supersededBy"] == new["id"]
    issued = httpx2.get(str(api.base_url).rstrip("/") + link)
    assert (issued.status_code, issued.json()["code"]) == (410, "DOCUMENT_WITHDRAWN")
    told = changes_after(api, cursor)
    assert told["revocations"] == [{"documentId": old["id"], "reason": "superseded"}]
    assert {document["id"]: document["status"] for document in told["documents"]} == {
        old["id"]: "superseded",
        new["id"]: "current",
    }
    assert api.content(new["id"]).status_code == 200


def test_void_is_entered_in_error_and_its_reason_is_not_readable(service: Service, api: Api) -> None:
    document = made(api)
    cursor = changes_after(api, "")["cursor"]
    marker = f"reason-{uuid.uuid4().hex}"
    answer = void(api, document["id"], reason=marker)
    assert (answer.status_code, answer.json()["status"]) == (200, "entered-in-error")
    assert changes_after(api, cursor)["revocations"] == [{"documentId": document["id"], "reason": "entered-in-error"}]
    assert api.post(f"/v1/documents/{document['id']}/download-url").status_code == 410
    found = api.get("/v1/documents", params={"patientId": document["patientId"], "status": "entered-in-error"}).json()[
        "items"
    ]
    assert document["id"] in [entry["id"] for entry in found]
    assert {entry["status"] for entry in found} == {"entered-in-error"}
    # The write-ahead log has every committed row by now; the free text is in none of them.
    for path in (service.data_dir / "postgres").rglob("*"):
        if path.is_file():
            assert marker.encode() not in path.read_bytes(), path


def test_a_repeat_is_answered_as_the_first_and_other_content_is_refused(api: Api) -> None:
    old, new, other = made(api), made(api), made(api)
    key = str(uuid.uuid4())
    first = supersede(api, old["id"], new["id"], key)
    again = supersede(api, old["id"], new["id"], key)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    for changed in (
        supersede(api, old["id"], other["id"], key),
        supersede(api, old["id"], new["id"], key, "something else"),
        supersede(api, other["id"], new["id"], key),
    ):
        assert (changed.status_code, changed.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    missing = api.post(f"/v1/documents/{other['id']}/void", json={"reason": "x"})
    assert (missing.status_code, missing.json()["code"]) == (400, "IDEMPOTENCY_KEY_REQUIRED")


def test_a_refused_action_does_not_consume_its_key(api: Api) -> None:
    first, second, key = made(api), made(api), str(uuid.uuid4())
    foreign = made(api, "demo-patient-rahimi")
    refused = supersede(api, first["id"], foreign["id"], key)
    assert (refused.status_code, refused.json()["code"]) == (409, "DOCUMENT_PATIENT_DIFFERS")
    assert supersede(api, first["id"], second["id"], key).status_code == 200


def test_what_is_withdrawn_is_not_withdrawn_again(api: Api) -> None:
    first, second, third = made(api), made(api), made(api)
    assert supersede(api, first["id"], first["id"]).json()["code"] == "DOCUMENT_STATE_CONFLICT"
    assert supersede(api, first["id"], second["id"]).status_code == 200
    for answer in (
        supersede(api, first["id"], third["id"]),
        supersede(api, third["id"], first["id"]),
        supersede(api, third["id"], second["id"]),
        void(api, first["id"]),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "DOCUMENT_STATE_CONFLICT"), answer.text
    # A chain of corrections goes on from the newest.
    assert supersede(api, second["id"], third["id"]).status_code == 200
    assert void(api, third["id"]).status_code == 200


def test_of_several_at_once_one_wins(api: Api) -> None:
    old, replacements = made(api), [made(api) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(supersede, api, old["id"], new["id"]) for new in replacements]
        calls += [pool.submit(void, api, old["id"]) for _ in range(4)]
        answers = [call.result() for call in calls]
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    replaced_by = [new for new in replacements if api.get(f"/v1/documents/{new['id']}").json()["supersedes"]]
    shown = api.get(f"/v1/documents/{old['id']}").json()
    assert [new["id"] for new in replaced_by] == ([shown["supersededBy"]] if shown["supersededBy"] else [])


def test_a_pair_named_both_ways_at_once_does_not_deadlock(api: Api) -> None:
    for _ in range(3):
        first, second = made(api), made(api)
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(supersede, api, first["id"], second["id"]),
                pool.submit(supersede, api, second["id"], first["id"]),
            ]
            assert sorted(call.result().status_code for call in calls) == [200, 409]


def test_one_key_ten_times_at_once_is_one_action(api: Api) -> None:
    document, key = made(api), str(uuid.uuid4())
    with ThreadPoolExecutor(10) as pool:
        answers = [call.result() for call in [pool.submit(void, api, document["id"], key) for _ in range(10)]]
    assert {answer.status_code for answer in answers} == {200}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    revoked = [entry for entry in changes_after(api, "")["revocations"] if entry["documentId"] == document["id"]]
    assert revoked == [{"documentId": document["id"], "reason": "entered-in-error"}]


def test_another_tenants_document_does_not_exist(service: Service, fhir_url: str, api: Api) -> None:
    mine, another = made(api), f"doc_{'0' * 26}"
    with service.caller(service.create_tenant(fhir_url)) as other:
        theirs = made(other)
        answers = [void(api, theirs["id"]), supersede(api, mine["id"], theirs["id"]), void(api, another)]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "NOT_FOUND")}
        assert other.get(f"/v1/documents/{theirs['id']}").json()["status"] == "current"
    assert api.get(f"/v1/documents/{mine['id']}").json()["status"] == "current"


def test_only_clinicians_take_documents_back(service: Service, tenant: str, api: Api) -> None:
    document = made(api)
    with service.caller(tenant, "admin", roles=("TENANT_ADMIN", "AUDITOR")) as admin:
        assert void(admin, document["id"]).json()["code"] == "FORBIDDEN"
