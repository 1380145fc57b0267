"""Another tenant's ids, and another facility's: every route answers exactly as if there were no such thing.

The routes come from the OpenAPI document, so a new one without a case here fails the first test.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from document_service import identifiers
from document_service.api import create_app
from document_service.keys import KeyStore
from raw_database import as_tenant, connected
from running_service import Api, Service, request_for

#: The organisation that provides the encounters of the made-up patients.
CLINIC = "demo-clinic"

OPENAPI = create_app(None).openapi()
ROUTES = sorted(
    (method.upper(), path)
    for path, methods in OPENAPI["paths"].items()
    for method in methods
    if path.startswith("/v1/") and method in ("get", "head", "post", "put", "patch", "delete")
)

Ids = dict[str, str]


@dataclass(frozen=True)
class Case:
    """How a route is called. ``own``: it acts on the caller's own tenant and has no id of another in its path."""

    body: dict[str, Any] | bytes | None = None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    own: bool = False
    status: int = 404
    #: What is answered before any id is looked up, where no scanner runs.
    sooner: int | None = None


KEY = {"Idempotency-Key": "00000000-0000-4000-8000-000000000001"}
REASON = {"reason": "a test"}
ANY = {"If-Match": "*"}
_TEMPLATE, _JOBS, _UPLOAD = (
    "/v1/document-templates/{template_id}",
    "/v1/documents/render-jobs",
    "/v1/documents/uploads/{upload_id}",
)
_VERSION, _JOB, _DOCUMENT = (
    _TEMPLATE + "/versions/{version_id}",
    _JOBS + "/{job_id}",
    "/v1/documents/{document_id}",
)
_UPLOAD_BODY = {
    "fileName": "a.pdf", "contentType": "application/pdf", "size": 5, "sha256": "0" * 64, "patientId": "{patient}",
    "category": "letter", "title": "t",
}  # fmt: skip
_CONTENT = {"tenant": "{tenant}", "expires": "9999999999", "disposition": "inline", "signature": "x" * 43}

#: Names in braces are filled with the other tenant's ids, or with ids of nothing at all.
CASES: dict[tuple[str, str], Case] = {
    ("GET", "/v1/document-templates"): Case(query={"facilityId": CLINIC}, own=True),
    ("POST", "/v1/document-templates"): Case({"name": "{unique}", "category": "letter"}, own=True),
    ("GET", _TEMPLATE): Case(),
    ("PATCH", _TEMPLATE): Case({"name": "taken over"}, headers=ANY),
    ("PUT", _TEMPLATE + "/draft"): Case({}),
    ("POST", _TEMPLATE + "/preview"): Case({}),
    ("POST", _TEMPLATE + "/publish"): Case({}, headers=KEY),
    ("POST", _TEMPLATE + "/fork"): Case({}),
    ("GET", _TEMPLATE + "/origin"): Case(),
    ("PUT", _TEMPLATE + "/pin"): Case({"versionId": "{version_id}"}),
    ("DELETE", _TEMPLATE + "/pin"): Case(),
    ("POST", _TEMPLATE + "/retire"): Case(),
    ("POST", _TEMPLATE + "/accept-translation"): Case({"locale": "fa-AF"}),
    ("GET", _VERSION): Case(),
    ("POST", _VERSION + "/withdraw"): Case(REASON),
    ("GET", "/v1/tenant/branding"): Case(own=True),
    ("PUT", "/v1/tenant/branding"): Case({"name": "another name"}, headers=ANY, own=True),
    ("GET", "/v1/tenant/branding/logo"): Case(own=True),
    ("PUT", "/v1/tenant/branding/logo"): Case(b"no picture", headers={**ANY, "Content-Type": "image/png"}, own=True),
    ("DELETE", "/v1/tenant/branding/logo"): Case(headers=ANY, own=True),
    ("GET", "/v1/documents"): Case(query={"patientId": "{patient}"}, own=True),
    ("GET", "/v1/documents/changes"): Case(own=True),
    ("POST", "/v1/documents/audit-events"): Case(
        {"events": [{"eventId": "{unique}", "deviceId": "{device}", "userId": "nurse", "sequence": 1, "action": "open",
                     "documentId": "{document_id}", "occurredAt": "2026-01-01T00:00:00Z", "clock": "trusted",
                     "previousHash": "0" * 64, "hash": "0" * 64}]},
        own=True,
    ),
    ("POST", _JOBS): Case(
        {"clientMutationId": "{uuid}", "templateVersionId": "{version_id}", "patientId": "{patient}", "locale": "en",
         "requestedAt": "2026-11-22T00:00:00Z"}
    ),
    ("GET", _JOBS): Case(own=True),
    ("GET", _JOB): Case(),
    ("POST", _JOB + "/retry"): Case(),
    ("POST", _JOBS + "/lookup"): Case({"clientMutationIds": ["{mutation}"]}, own=True),
    ("POST", _JOBS + "/batch"): Case(
        {"items": [{"clientMutationId": "{uuid}", "templateVersionId": "{version_id}", "patientId": "{patient}",
                    "locale": "en", "requestedAt": "2026-11-22T00:00:00Z"}]},
        own=True,
    ),
    ("POST", _JOBS + "/bulk"): Case(
        {"templateVersionId": "{version_id}", "locale": "en", "requestedAt": "2026-11-22T00:00:00Z",
         "items": [{"clientMutationId": "{uuid}", "patientId": "{patient}"}]},
        own=True,
    ),
    ("GET", _JOBS + "/bulk/{bulk_id}"): Case(),
    ("POST", _JOBS + "/bulk/{bulk_id}/cancel"): Case(),
    ("POST", "/v1/documents/generate"): Case(
        {"templateVersionId": "{version_id}", "patientId": "{patient}", "locale": "en"}, headers=KEY
    ),
    ("POST", "/v1/documents/uploads"): Case(_UPLOAD_BODY, own=True),
    ("GET", "/v1/documents/uploads"): Case(own=True),
    ("HEAD", _UPLOAD): Case(),
    ("GET", _UPLOAD): Case(),
    ("PATCH", _UPLOAD): Case(
        b"%PDF-", headers={"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    ),
    ("POST", _UPLOAD + "/finalize"): Case(headers=KEY, sooner=503),
    ("POST", _UPLOAD + "/rescan"): Case(headers=KEY, sooner=503),
    ("POST", _UPLOAD + "/destroy"): Case(REASON, headers=KEY),
    ("GET", _DOCUMENT): Case(),
    ("POST", _DOCUMENT + "/download-url"): Case(),
    ("GET", _DOCUMENT + "/content"): Case(query=_CONTENT, status=403),
    ("HEAD", _DOCUMENT + "/content"): Case(query=_CONTENT, status=403),
    ("POST", _DOCUMENT + "/supersede"): Case({"byDocumentId": "{document_id}", **REASON}, headers=KEY),
    ("POST", _DOCUMENT + "/void"): Case(REASON, headers=KEY),
    ("GET", _DOCUMENT + "/holders"): Case(),
    ("GET", _DOCUMENT + "/provenance"): Case(),
    ("POST", "/v1/devices"): Case({"deviceId": "{device}", "publicKey": "{unique}", "name": "a test"}, own=True),
    ("GET", "/v1/devices"): Case(own=True),
    ("POST", "/v1/devices/{device_id}/revoke"): Case(REASON),
    ("GET", "/v1/audit-events"): Case(query={"documentId": "{document_id}"}, own=True),
}  # fmt: skip


@dataclass(frozen=True)
class Victim:
    """A tenant with one of everything; ``ids`` by the names of path parameters."""

    tenant: str
    ids: Ids


@pytest.fixture(scope="module")
def victim(service: Service, fhir_url: str) -> Victim:
    tenant = service.create_tenant(fhir_url, "--name", "Victim Hospital")
    with service.caller(tenant, user="owner") as caller:
        platform = caller.get("/v1/document-templates", params={"platformFormKey": "general-test-requisition"}).json()[
            "items"
        ][0]
        template = caller.post(f"/v1/document-templates/{platform['id']}/fork", json={"name": "Victim form"}).json()
        path = f"/v1/document-templates/{template['id']}"
        version = caller.post(f"{path}/publish", json={}, headers={"Idempotency-Key": "v"}).json()
        template = caller.patch(path, json={"facilityId": CLINIC}, headers={"If-Match": "*"}).json()
        assert template["facilityId"] == CLINIC, template
        job = caller.render(request_for(version["id"]))
        assert job["status"] == "completed", job
        document = caller.get(f"/v1/documents/{job['documentId']}").json()
        assert document["facilityId"] == CLINIC
        items = [{key: request_for("")[key] for key in ("clientMutationId", "patientId", "encounterId")}]
        common = {"templateVersionId": version["id"], "locale": "en", "requestedAt": "2026-11-22T00:00:00Z"}
        bulk = caller.post("/v1/documents/render-jobs/bulk", json={**common, "items": items})
        assert bulk.status_code == 202, bulk.text
    upload = identifiers.new("upload")
    asyncio.run(_insert_upload(service, tenant, upload))
    return Victim(
        tenant,
        {
            "template_id": template["id"],
            "version_id": version["id"],
            "job_id": job["id"],
            "document_id": document["id"],
            "bulk_id": bulk.json()["id"],
            "upload_id": upload,
            "device_id": identifiers.new("device"),
            "mutation": job["clientMutationId"],
            "patient": job["patientId"],
            "device": "dev_of_the_victim",
            "tenant": tenant,
        },
    )


async def _insert_upload(service: Service, tenant: str, upload: str) -> None:
    seal = KeyStore.open(service.data_dir / "keys").seal
    async with as_tenant(service, tenant) as connection:
        # No scanner runs here, so none can be begun through the API.
        await connection.execute(
            """INSERT INTO uploads (tenant_id, id, file_name_sealed, title_sealed, content_type, category, size, sha256,
                   patient_id, created_by, facility_ids)
               VALUES ($1, $2, $4, $5, 'application/pdf', 'letter', 5, repeat('0', 64), 'p', 'owner', $3)""",
            tenant,
            upload,
            [CLINIC],
            seal(tenant, "upload-file_name", b"a.pdf"),
            seal(tenant, "upload-title", b"title"),
        )
        await connection.execute("COMMIT")


def _ids_of_nothing(victim: Victim) -> Ids:
    kinds = {"template_id": "template", "version_id": "version", "job_id": "job", "document_id": "document"}
    kinds |= {"upload_id": "upload", "device_id": "device", "bulk_id": "bulk"}
    nothing = {name: identifiers.new(kind) for name, kind in kinds.items()}
    return {**victim.ids, **nothing, "mutation": str(uuid.uuid4()), "patient": "nobody", "device": "dev_of_nobody"}


def _filled(value: Any, ids: Ids) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, ids) for item in value]
    if isinstance(value, str):
        fresh = {"uuid": str(uuid.uuid4()), "unique": uuid.uuid4().hex}
        return re.sub(r"\{(\w+)\}", lambda match: {**ids, **fresh}[match[1]], value)
    return value


def _call(caller: Api, route: tuple[str, str], case: Case, ids: Ids) -> httpx2.Response:
    method, path = route
    body = {"content": case.body} if isinstance(case.body, bytes) else {"json": _filled(case.body, ids)}
    if case.body is None:
        body = {}
    return caller.request(method, _filled(path, ids), params=_filled(case.query, ids), headers=case.headers, **body)


def _comparable(answer: httpx2.Response, ids: Ids) -> Any:
    """Status, type and body, with what was sent and what differs between any two answers taken out."""
    text = answer.text
    for sent in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(sent, "…")
    text = re.sub(r'"requestId":"req_\w+"', "", text)
    return answer.status_code, answer.headers.get("content-type"), text


def test_every_route_has_a_case() -> None:
    missing = [route for route in ROUTES if route not in CASES]
    assert not missing, f"say in CASES how these are called with another tenant's ids: {missing}"


ABOUT_SOMETHING = [route for route in ROUTES if route in CASES and not CASES[route].own]
ABOUT_THE_CALLER = [route for route in ROUTES if route in CASES and CASES[route].own]


def test_only_routes_without_an_id_are_the_callers_own() -> None:
    assert not [path for _, path in ABOUT_THE_CALLER if "{" in path]


@pytest.fixture(scope="module")
def attacker(service: Service, fhir_url: str) -> Iterator[Api]:
    """Every role, in another tenant."""
    with service.caller(service.create_tenant(fhir_url)) as caller:
        yield caller


@pytest.fixture(scope="module")
def outsider(service: Service, victim: Victim) -> Iterator[Api]:
    """Every role in the same tenant, but only in another facility."""
    with service.caller(victim.tenant, user="outsider", facilities=("elsewhere",)) as caller:
        yield caller


@pytest.mark.parametrize("route", ABOUT_SOMETHING, ids=" ".join)
def test_another_tenants_id_is_the_id_of_nothing(victim: Victim, attacker: Api, route: tuple[str, str]) -> None:
    case, nothing = CASES[route], _ids_of_nothing(victim)
    theirs = _call(attacker, route, case, victim.ids)
    assert theirs.status_code in (case.status, case.sooner), theirs.text
    assert _comparable(theirs, victim.ids) == _comparable(_call(attacker, route, case, nothing), nothing)


@pytest.mark.parametrize("route", ABOUT_SOMETHING, ids=" ".join)
def test_another_facilitys_id_is_the_id_of_nothing(victim: Victim, outsider: Api, route: tuple[str, str]) -> None:
    case, nothing = CASES[route], _ids_of_nothing(victim)
    theirs = _call(outsider, route, case, victim.ids)
    assert theirs.status_code in (case.status, case.sooner), theirs.text
    assert _comparable(theirs, victim.ids) == _comparable(_call(outsider, route, case, nothing), nothing)


@pytest.mark.parametrize("route", ABOUT_THE_CALLER, ids=" ".join)
def test_what_is_the_callers_own_shows_nothing_of_another_tenant(
    victim: Victim, attacker: Api, route: tuple[str, str]
) -> None:
    case = CASES[route]
    answer = _call(attacker, route, case, victim.ids)
    assert answer.status_code < 500 or answer.json()["code"] == "SCANNER_UNAVAILABLE", answer.text
    sent = str(_filled(case.body, victim.ids)) + str(_filled(case.query, victim.ids))
    for name in ("template_id", "version_id", "job_id", "document_id", "bulk_id", "upload_id"):
        if victim.ids[name] not in sent:
            assert victim.ids[name] not in answer.text
    assert "Victim" not in answer.text


def test_lists_and_the_feed_show_nothing_of_another_facility(victim: Victim, outsider: Api) -> None:
    assert outsider.get("/v1/documents", params={"patientId": victim.ids["patient"]}).json()["items"] == []
    page = outsider.get("/v1/documents/changes").text
    lists = [outsider.get("/v1/document-templates").text, outsider.get("/v1/documents/render-jobs").text, page]
    known = {"clientMutationIds": [victim.ids["mutation"]]}
    looked_up = outsider.post("/v1/documents/render-jobs/lookup", json=known).json()["items"]
    assert [item["known"] for item in looked_up] == [False]
    for text in lists:
        for name in ("template_id", "version_id", "job_id", "document_id"):
            assert victim.ids[name] not in text


def test_a_known_id_under_another_facility_is_a_conflict_without_detail(victim: Victim, outsider: Api) -> None:
    request = request_for(outsider.platform_version(), clientMutationId=victim.ids["mutation"])
    problem = outsider.post("/v1/documents/render-jobs", json=request).json()
    assert problem["code"] == "CLIENT_MUTATION_ID_CONFLICT"
    assert problem["detail"] == problem["title"]
    assert victim.ids["job_id"] not in str(problem)


def test_the_signature_of_one_tenant_opens_nothing_of_another(service: Service, victim: Victim, attacker: Api) -> None:
    job = attacker.render(request_for(attacker.platform_version()))
    url = attacker.post(f"/v1/documents/{job['documentId']}/download-url").json()["url"]
    assert httpx2.get(service.url + url).status_code == 200
    for forged in (
        url.replace(job["documentId"], victim.ids["document_id"]),
        re.sub(r"tenant=[^&]+", f"tenant={victim.tenant}", url),
        re.sub(r"tenant=[^&]+", f"tenant={victim.tenant}", url).replace(job["documentId"], victim.ids["document_id"]),
    ):
        answer = httpx2.get(service.url + forged)
        assert (answer.status_code, answer.json()["code"]) == (403, "SIGNATURE_INVALID")


def test_no_cursor_of_another_tenant_is_taken(service: Service, victim: Victim, attacker: Api) -> None:
    with service.caller(victim.tenant, user="owner") as owner:
        cursor = owner.get("/v1/documents/changes").json()["cursor"]
    answer = attacker.get("/v1/documents/changes", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (410, "FEED_RESET")


def test_after_all_this_the_victim_has_what_it_had(service: Service, victim: Victim) -> None:
    ids = victim.ids
    with service.caller(victim.tenant, user="owner") as owner:
        template = owner.get(f"/v1/document-templates/{ids['template_id']}").json()
        assert (template["name"], template["status"], template["draft"]) == ("Victim form", "published", None)
        assert [(v["id"], v["withdrawn"]) for v in template["versions"]] == [(ids["version_id"], None)]
        document = owner.get(f"/v1/documents/{ids['document_id']}").json()
        assert document["status"] == "current"
        content = owner.content(ids["document_id"]).content
        assert hashlib.sha256(content).hexdigest() == document["sha256"]
        assert owner.get(f"/v1/documents/render-jobs/{ids['job_id']}").json()["attempts"] == 1
    assert asyncio.run(_upload_state(service, ids["upload_id"])) == ("receiving", 0)


async def _upload_state(service: Service, upload: str) -> tuple[str, int]:
    async with connected(service, role=None) as connection:
        row = await connection.fetchrow("SELECT status, received FROM uploads WHERE id = $1", upload)
    return row["status"], row["received"]
