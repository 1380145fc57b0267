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
from running_service import EVERY_ROLE, Api, Service, request_for

HERE = ORGANIZATION.partition("/")[2]

#: Routes with the id of a document, a job or an upload that an outsider may reach all the same, and why.
NOT_BY_FACILITY = {
    ("GET", "/v1/documents/{document_id}/content"): "whoever holds the URL",
    ("HEAD", "/v1/documents/{document_id}/content"): "whoever holds the URL",
}

#: Routes that are not about one record, and what holds the facility there: a test of this file, or why it is no matter.
NOT_ABOUT_ONE_RECORD = {
    ("GET", "/v1/documents"): "test_it_is_in_no_list_and_no_feed",
    ("GET", "/v1/documents/uploads"): "test_it_is_in_no_list_and_no_feed",
    ("GET", "/v1/documents/changes"): "test_it_is_in_no_list_and_no_feed",
    ("GET", "/v1/documents/render-jobs"): "test_it_is_in_no_list_and_no_feed",
    ("POST", "/v1/documents/render-jobs/lookup"): "test_it_is_in_no_list_and_no_feed",
    ("POST", "/v1/documents/render-jobs"): "test_it_is_in_no_list_and_no_feed",
    ("GET", "/v1/audit-events"): "test_it_is_in_no_list_and_no_feed",
    ("POST", "/v1/documents/generate"): "test_a_render_of_another_facilitys_encounter_is_as_of_one_that_is_not_there",
    ("POST", "/v1/documents/render-jobs/batch"): "test_a_batch_and_a_bulk_are_the_callers_own",
    ("POST", "/v1/documents/render-jobs/bulk"): "test_a_batch_and_a_bulk_are_the_callers_own",
    ("GET", "/v1/document-templates"): "test_a_form_of_the_facility_is_in_no_list",
    ("POST", "/v1/document-templates"): "test_a_form_of_the_facility_is_in_no_list",
    ("POST", "/v1/documents/uploads"): "what is sent is of whoever sends it",
    ("POST", "/v1/documents/audit-events"): "a device's own evidence",
    ("POST", "/v1/devices"): "the caller's own",
    ("GET", "/v1/devices"): "devices are the tenant's",
    ("POST", "/v1/devices/{device_id}/revoke"): "devices are the tenant's",
    ("GET", "/verify/{code}"): "whoever holds the paper",
}

#: What everybody in the tenant, or anybody, may know.
OF_NO_FACILITY = ("/v1/tenant/branding", "/health/", "/metrics", "/.well-known/")

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


def routes_of_forms() -> list[tuple[str, str]]:
    """Every route whose path names a template."""
    return [route for route in outcomes.OUTCOMES if "{template_id}" in route[1]]


def routes_of_bulks() -> list[tuple[str, str]]:
    """Every route whose path names a bulk of jobs."""
    return [route for route in outcomes.OUTCOMES if "{bulk_id}" in route[1]]


def test_every_route_is_in_one_of_the_lists() -> None:
    """A new route fails here until it is said, and shown, who of which facility may use it."""
    known = [*routes_of_records(), *routes_of_forms(), *routes_of_bulks(), *NOT_BY_FACILITY, *NOT_ABOUT_ONE_RECORD]
    rest = [route for route in outcomes.OUTCOMES if not route[1].startswith(OF_NO_FACILITY)]
    assert sorted(known) == sorted(rest)
    shown = {reason for reason in NOT_ABOUT_ONE_RECORD.values() if reason.startswith("test_")}
    assert shown <= globals().keys()
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


FORM_BODIES: dict[str, Any] = {
    "PATCH": {"name": "Theirs"},
    "draft": {"definition": {}},
    "preview": {"locale": "en"},
    "publish": {"semver": "1.0.0"},
    "accept-translation": {"locale": "fa-AF"},
    "fork": {"name": "Ours"},
    "withdraw": {"reason": "x"},
    "pin": {"versionId": f"tv_{'0' * 26}"},
}


@pytest.fixture(scope="module")
def form(insider: Api) -> str:
    made = insider.post("/v1/document-templates", json={"name": "The ward's", "category": "letter", "facilityId": HERE})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


@pytest.mark.parametrize(("method", "path"), routes_of_forms())
def test_a_form_that_is_elsewhere_does_not_exist(method: str, path: str, form: str, outsider: Api, nobody: Api) -> None:
    body = FORM_BODIES.get(method) or FORM_BODIES.get(path.rsplit("/", 1)[-1])
    for api in (outsider, nobody):
        refused, missing = (
            api.request(
                method,
                path.format(template_id=template_id, version_id=f"tv_{'0' * 26}"),
                headers={"Idempotency-Key": str(uuid.uuid4()), "If-Match": "*"},
                **({} if body is None else {"json": body}),
            )
            for template_id in (form, f"tmpl_{'1' * 26}")
        )
        assert (refused.status_code, missing.status_code) == (404, 404), refused.text
        assert {**refused.json(), "requestId": None} == {**missing.json(), "requestId": None}


def test_a_form_of_the_facility_is_in_no_list(form: str, insider: Api, outsider: Api, nobody: Api) -> None:
    def listed(api: Api) -> list[str]:
        return [one["id"] for one in api.get("/v1/document-templates", params={"limit": 100}).json()["items"]]

    assert form in listed(insider)
    for api in (outsider, nobody):
        assert form not in listed(api)
        assert form not in [one["id"] for one in api.get("/v1/documents/changes").json()["templates"]]
        given = api.post("/v1/document-templates", json={"name": "x", "category": "letter", "facilityId": HERE})
        assert (given.status_code, given.json()["code"]) == (403, "FORBIDDEN")


def test_a_batch_and_a_bulk_are_the_callers_own(insider: Api, outsider: Api, nobody: Api) -> None:
    version = insider.platform_version()
    request = request_for(version)
    (done,) = insider.post("/v1/documents/render-jobs/batch", json={"items": [request]}).json()["items"]
    assert insider.wait(done["job"]["id"])["status"] == "completed"
    item = {
        "clientMutationId": str(uuid.uuid4()),
        "patientId": request["patientId"],
        "encounterId": request["encounterId"],
    }
    content = {"templateVersionId": version, "locale": "en", "requestedAt": request["requestedAt"], "items": [item]}
    begun = insider.post("/v1/documents/render-jobs/bulk", json=content, headers={"Idempotency-Key": str(uuid.uuid4())})
    assert begun.status_code in (200, 201, 202), begun.text
    for api in (outsider, nobody):
        (refused,) = api.post("/v1/documents/render-jobs/batch", json={"items": [request]}).json()["items"]
        assert (refused["status"], refused["problem"]["code"]) == (409, "CLIENT_MUTATION_ID_CONFLICT")
        for method, path in routes_of_bulks():
            answers = [
                api.request(method, path.format(bulk_id=bulk_id))
                for bulk_id in (begun.json()["id"], f"bulk_{'1' * 26}")
            ]
            assert [answer.status_code for answer in answers] == [404, 404], path
            assert {**answers[0].json(), "requestId": None} == {**answers[1].json(), "requestId": None}


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


def test_an_auditor_is_named_the_patients_of_the_facility_alone(
    held: dict[str, str], insider: Api, outsider: Api, nobody: Api
) -> None:
    patient = "demo-patient-noorzai"
    insider.get("/v1/documents", params={"patientId": patient})
    own = insider.get("/v1/audit-events", params={"patientId": patient}).json()["items"]
    assert "document.generate" in {event["action"] for event in own}
    for api in (outsider, nobody):
        assert api.get("/v1/audit-events", params={"patientId": patient}).json()["items"] == []
        every = api.get("/v1/audit-events", params={"limit": 100}).json()["items"]
        searches = [event["patientId"] for event in every if event["action"] == "document.search"]
        assert searches, "the search is evidence all the same"
        assert set(searches) == {None}
        assert held["upload_id"] not in {event.get("uploadId") for event in every}


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
    version = insider.platform_version("immunization-card")
    job = insider.render(request_for(version, encounterId=None))
    assert job["status"] == "completed", job
    for api in (outsider, nobody):
        assert api.get(f"/v1/documents/{job['documentId']}").status_code == 200


def test_a_form_of_one_facility_makes_documents_of_that_facility(service: Service, clinic: str) -> None:
    roles = {"roles": EVERY_ROLE}
    with (
        service.caller(clinic, "dr.in", facilities=(HERE,), **roles) as inside,
        service.caller(clinic, "dr.out", facilities=("other-clinic",), **roles) as outside,
    ):
        platform = inside.get("/v1/document-templates", params={"platformFormKey": "immunization-card"}).json()
        path = f"/v1/document-templates/{platform['items'][0]['id']}"
        newest = inside.get(f"{path}/versions/{platform['items'][0]['currentVersionId']}").json()
        definition = {name: part for name, part in newest["definition"].items() if name != "translations"}
        ours = {"name": "Card of one clinic", "category": "other", "facilityId": HERE, "definition": definition}
        made = inside.post("/v1/document-templates", json=ours).json()
        key = {"Idempotency-Key": str(uuid.uuid4())}
        version = inside.post(f"/v1/document-templates/{made['id']}/publish", headers=key).json()["id"]
        job = inside.render(request_for(version, encounterId=None))
        assert job["status"] == "completed", job
        assert inside.get(f"/v1/documents/{job['documentId']}").json()["facilityId"] == HERE
        for path in (f"/v1/documents/{job['documentId']}", f"/v1/documents/render-jobs/{job['id']}"):
            assert inside.get(path).status_code == 200
            assert outside.get(path).status_code == 404


def test_whoever_is_in_the_whole_tenant_sees_all(service: Service, clinic: str, held: dict[str, str]) -> None:
    with service.caller(clinic, "dr.all", roles=EVERY_ROLE, facilities=None) as everybody:
        for path in ("documents/{document_id}", "documents/render-jobs/{job_id}", "documents/uploads/{upload_id}"):
            assert everybody.get("/v1/" + path.format(**held)).status_code == 200
