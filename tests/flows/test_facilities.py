"""A facility's documents and somebody of another one: on every route, they do not exist (issue 5, contract §2)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from document_acts import made
from document_service import uploads
from document_service.api import outcomes
from document_service.keys import KeyStore
from document_service.synthetic.people import ORGANIZATION
from document_service.tokens import Caller
from raw_database import connected
from service import EVERY_ROLE, Api, Service, request_for

HERE = ORGANIZATION.partition("/")[2]

#: Routes with the id of a document, a job or an upload that an outsider may reach all the same, and why.
NOT_BY_FACILITY = {
    ("GET", "/v1/documents/{document_id}/content"): "whoever holds the URL",
    ("HEAD", "/v1/documents/{document_id}/content"): "whoever holds the URL",
}

BODIES: dict[str, Any] = {
    "supersede": {"byDocumentId": f"doc_{'0' * 26}", "reason": "x"},
    "void": {"reason": "x"},
    "destroy": {"reason": "x"},
}


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@pytest.fixture(scope="module")
def insider(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic, "dr.in", facilities=(HERE,)) as caller:
        yield caller


@pytest.fixture(scope="module")
def outsider(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic, "dr.out", facilities=("other-clinic",)) as caller:
        yield caller


@pytest.fixture(scope="module")
def nobody(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic, "dr.none", facilities=()) as caller:
        yield caller


@pytest.fixture(scope="module")
def held(service: Service, clinic: str, insider: Api) -> dict[str, str]:
    """A document, its job and an upload of the facility."""
    job = insider.render(request_for(insider.platform_version()))
    assert job["status"] == "completed", job
    return {
        "document_id": job["documentId"],
        "job_id": job["id"],
        "upload_id": asyncio.run(_begun_upload(service, clinic)),
    }


async def _begun_upload(service: Service, tenant: str) -> str:
    # Without a scanner the API takes none; what it would have stored is written here.
    keys = KeyStore.open(service.data_dir / "keys")
    sender = Caller(tenant, "dr.in", frozenset({"CLINICIAN"}), frozenset({HERE}))
    new = uploads.NewUpload(
        "a.pdf", "application/pdf", 9, "0" * 64, "demo-patient-noorzai", None, "scanned_record", "A"
    )
    async with connected(service) as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
        return (await uploads.create(connection, sender, new, keys)).id


def routes_of_records() -> list[tuple[str, str]]:
    """Every route whose path names a document, a job or an upload."""
    named = ("{document_id}", "{job_id}", "{upload_id}")
    return [
        route for route in outcomes.OUTCOMES if any(name in route[1] for name in named) and route not in NOT_BY_FACILITY
    ]


def call(api: Api, method: str, path: str, ids: dict[str, str]) -> Any:
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    content: dict[str, Any] = {}
    if method == "PATCH":
        headers |= {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        content["content"] = b"%PDF-1.7\n"
    elif method in ("POST", "PUT"):
        content["json"] = BODIES.get(path.rsplit("/", 1)[-1], {})
    return api.request(method, path.format(**ids), headers=headers, **content)


def test_there_are_routes_to_try() -> None:
    assert len(routes_of_records()) >= 12


@pytest.mark.parametrize(("method", "path"), routes_of_records())
def test_what_is_elsewhere_does_not_exist(
    method: str, path: str, held: dict[str, str], outsider: Api, nobody: Api
) -> None:
    unknown = {name: identifier.split("_")[0] + "_" + "1" * 26 for name, identifier in held.items()}
    for api in (outsider, nobody):
        refused, missing = call(api, method, path, held), call(api, method, path, unknown)
        assert refused.status_code == missing.status_code
        # With no scanner in this test, a re-scan is refused before anything is looked at.
        assert refused.status_code == (503 if path.endswith("/rescan") else 404), refused.text
        if method != "HEAD":
            same = {"requestId": None}
            assert {**refused.json(), **same} == {**missing.json(), **same}


def test_it_is_in_no_list_and_no_feed(held: dict[str, str], insider: Api, outsider: Api, nobody: Api) -> None:
    patient = {"patientId": "demo-patient-noorzai"}
    assert held["document_id"] in [d["id"] for d in insider.get("/v1/documents", params=patient).json()["items"]]
    assert held["upload_id"] in [u["id"] for u in insider.get("/v1/documents/uploads").json()["items"]]
    document = insider.get(f"/v1/documents/{held['document_id']}").json()
    assert document["facilityId"] == HERE
    mutation = insider.get(f"/v1/documents/render-jobs/{held['job_id']}").json()["clientMutationId"]
    for api in (outsider, nobody):
        found = api.get("/v1/documents", params=patient).json()["items"]
        assert held["document_id"] not in [entry["id"] for entry in found]
        assert held["upload_id"] not in [u["id"] for u in api.get("/v1/documents/uploads").json()["items"]]
        page = api.get("/v1/documents/changes").json()
        assert held["document_id"] not in [entry["id"] for entry in page["documents"]]
        assert held["job_id"] not in [entry["id"] for entry in page["jobs"]]
        assert held["job_id"] not in [job["id"] for job in api.get("/v1/documents/render-jobs").json()["items"]]
        looked = api.post("/v1/documents/render-jobs/lookup", json={"clientMutationIds": [mutation]}).json()
        assert looked["items"] == [{"clientMutationId": mutation, "known": False}]
        request = request_for(api.platform_version(), clientMutationId=mutation)
        taken = api.post("/v1/documents/render-jobs", json=request)
        assert (taken.status_code, taken.json()["code"]) == (409, "CLIENT_MUTATION_ID_CONFLICT")
        trail = api.get("/v1/audit-events", params={"documentId": held["document_id"]}).json()["items"]
        assert {event["action"] for event in trail} <= {"access.denied", "audit.read"}


def test_a_revocation_is_told_to_the_facility_alone(insider: Api, outsider: Api) -> None:
    document = made(insider)
    insider.post(
        f"/v1/documents/{document['id']}/void", json={"reason": "x"}, headers={"Idempotency-Key": str(uuid.uuid4())}
    )
    assert document["id"] in [
        entry["documentId"] for entry in insider.get("/v1/documents/changes").json()["revocations"]
    ]
    assert outsider.get("/v1/documents/changes").json()["revocations"] == []


def test_a_render_of_another_facilitys_encounter_is_as_of_one_that_is_not_there(outsider: Api) -> None:
    version = outsider.platform_version()
    theirs = outsider.render(request_for(version))
    missing = outsider.render(request_for(version, encounterId="no-such-encounter"))
    assert (theirs["status"], theirs["error"]["code"]) == ("failed", "RESOURCE_UNKNOWN")
    assert theirs["error"] == missing["error"]
    request = request_for(version)
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    answers = []
    for encounter in (request["encounterId"], "no-such-encounter"):
        content = {**request, "encounterId": encounter}
        answer = outsider.post("/v1/documents/generate", json=content, headers={"Idempotency-Key": str(uuid.uuid4())})
        answers.append((answer.status_code, {**answer.json(), "requestId": None}))
    assert answers[0] == answers[1]
    assert answers[0][0] == 422


def test_what_has_no_encounter_is_of_the_whole_tenant(insider: Api, outsider: Api, nobody: Api) -> None:
    version = insider.platform_version("general-test-requisition")
    job = insider.render(request_for(version, encounterId=None))
    if job["status"] == "failed":
        # The form needs an encounter: then there is no such document to see.
        assert job["error"]["code"] == "RESOURCE_UNKNOWN"
        return
    for api in (outsider, nobody):
        assert api.get(f"/v1/documents/{job['documentId']}").status_code == 200


def test_whoever_is_in_the_whole_tenant_sees_all(service: Service, clinic: str, held: dict[str, str]) -> None:
    with service.caller(clinic, "dr.all", roles=EVERY_ROLE, facilities=None) as everybody:
        for path in ("documents/{document_id}", "documents/render-jobs/{job_id}", "documents/uploads/{upload_id}"):
            assert everybody.get("/v1/" + path.format(**held)).status_code == 200
