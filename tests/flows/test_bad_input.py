"""Bad input: each refusal is a problem with its own code, names the field and the remedy, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from document_service.fault_proxy import FaultProxy, Faults
from document_service.identifiers import new
from raw_database import connected, stored
from running_service import Api, Service, request_for

JOBS = "/v1/documents/render-jobs"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    """One tenant for all refusals of this file."""
    return service.create_tenant(fhir_url)


@pytest.fixture
def refusing(service: Service, clinic: str) -> Iterator[Api]:
    """A caller whose requests must leave nothing behind, in the database, the queue and the store."""
    before = asyncio.run(stored(service, clinic))
    with service.caller(clinic) as caller:
        yield caller
    assert asyncio.run(stored(service, clinic)) == before


@pytest.fixture(scope="module")
def version(service: Service, clinic: str) -> str:
    with service.caller(clinic) as caller:
        return caller.platform_version()


def _is_problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["requestId"] == answer.headers["x-request-id"]
    assert len(body["title"]) > 20
    assert body["type"].endswith(code)
    return body


def _names(body: dict[str, Any], pointer: str) -> None:
    problem = next((p for p in body.get("errors", ()) if p["pointer"] == pointer), None)
    assert problem is not None, body
    assert problem["code"] == problem["code"].upper()
    assert problem["title"].endswith(".")


# --- Bodies that are not JSON, or not to be read in one way -----------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":',
        b"\xff\xfe{}",
        b'{"inputs":{"a":NaN}}',
        b'{"inputs":{"a":-Infinity}}',
        b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"inputs":{"a":' + b"9" * 5000 + b"}}",
        b'{"locale":"en","locale":"fa-AF"}',
        b'{"inputs":{"dose":1,"dose":10}}',
        b'{"inputs":{"reason":"\\ud800"}}',
        b'{"\\udfff":1}',
        b"{'a':1}",
    ],
    ids=["cut", "bytes", "NaN", "Infinity", "deep", "digits", "twice", "twice-within", "surrogate", "name", "quotes"],
)
@pytest.mark.parametrize("path", [JOBS, f"{JOBS}/batch", f"{JOBS}/lookup", "/v1/document-templates"])
def test_a_body_that_cannot_be_read_in_one_way(refusing: Api, path: str, body: bytes) -> None:
    _is_problem(refusing.post(path, content=body, headers=JSON), 400, "MALFORMED_JSON")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"5", b'"text"'])
def test_a_body_that_is_no_object(refusing: Api, body: bytes) -> None:
    _names(_is_problem(refusing.post(JOBS, content=body, headers=JSON), 400, "INVALID_REQUEST"), "")


def test_a_body_of_another_type_is_not_guessed_at(refusing: Api, version: str) -> None:
    body = json.dumps(request_for(version))
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = refusing.post(JOBS, content=body, headers={"Content-Type": kind})
        problem = _is_problem(answer, 400, "INVALID_REQUEST")
        assert "application/json" in problem["errors"][0]["title"]


def test_a_body_over_the_limit_whether_announced_or_not(refusing: Api) -> None:
    announced = refusing.post(JOBS, content=b" " * 600_000, headers=JSON)
    _is_problem(announced, 413, "TOO_LARGE")
    pieces = (b" " * 60_000 for _ in range(10))
    assert "524288" in _is_problem(refusing.post(JOBS, content=pieces, headers=JSON), 413, "TOO_LARGE")["detail"]


def test_inputs_over_their_limit(refusing: Api, version: str) -> None:
    request = request_for(version, inputs={"reason": "x" * 70_000})
    assert "/inputs" in _is_problem(refusing.post(JOBS, json=request), 413, "TOO_LARGE")["detail"]


# --- Fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"templateVersion": "x"}, "/templateVersion"),
        ({"tenantId": "other"}, "/tenantId"),
        ({"clientMutationId": "not-a-uuid"}, "/clientMutationId"),
        ({"clientMutationId": 5}, "/clientMutationId"),
        ({"clientMutationId": None}, "/clientMutationId"),
        ({"templateVersionId": "tmpl_01M825W1R75GVRPV7N8CCMDH09"}, "/templateVersionId"),
        ({"templateVersionId": "tv_1"}, "/templateVersionId"),
        ({"templateVersionId": None}, "/templateVersionId"),
        ({"patientId": "Patient/1"}, "/patientId"),
        ({"patientId": "../1"}, "/patientId"),
        ({"patientId": "p" * 65}, "/patientId"),
        ({"patientId": "\u0000"}, "/patientId"),
        ({"patientId": "۱۲"}, "/patientId"),
        ({"encounterId": "a b"}, "/encounterId"),
        ({"inputs": []}, "/inputs"),
        ({"inputs": "x"}, "/inputs"),
        ({"locale": "fa_AF"}, "/locale"),
        ({"locale": ""}, "/locale"),
        ({"requestedAt": "yesterday"}, "/requestedAt"),
        ({"requestedAt": "2026-01-01T00:00:00"}, "/requestedAt"),
        ({"requestedAt": 1767225600}, "/requestedAt"),
        ({"requestedAt": "0001-01-01T00:00:00+05:00"}, "/requestedAt"),
        ({"notAfter": "9999-12-31T23:59:59-05:00"}, "/notAfter"),
        ({"patientCheck": {"birthDate": "02.06.1978"}}, "/patientCheck/birthDate"),
        ({"patientCheck": {"birthDate": "1978-06-02T00:00:00"}}, "/patientCheck/birthDate"),
        ({"patientCheck": {"birthDate": 0}}, "/patientCheck/birthDate"),
        ({"patientCheck": {"name": "x"}}, "/patientCheck/name"),
    ],
)
def test_a_field_of_the_wrong_shape_is_named(refusing: Api, version: str, change: dict[str, Any], pointer: str) -> None:
    _names(_is_problem(refusing.post(JOBS, json=request_for(version, **change)), 400, "INVALID_REQUEST"), pointer)


def test_every_fault_is_said_at_once(refusing: Api) -> None:
    problem = _is_problem(refusing.post(JOBS, json={"inputs": 1, "more": 2}), 400, "INVALID_REQUEST")
    assert {"/templateVersionId", "/patientId", "/locale", "/requestedAt", "/inputs", "/more"} == {
        fault["pointer"] for fault in problem["errors"]
    }


def test_what_was_sent_is_never_repeated(refusing: Api, version: str) -> None:
    planted = "Zarlakhtaqx"
    for change in ({"patientId": planted + " "}, {"locale": planted + "!"}, {"inputs": {"reason": [planted]}}):
        answer = refusing.post(JOBS, json=request_for(version, **change))
        assert answer.status_code in (400, 422)
        assert planted not in answer.text


@pytest.mark.parametrize(
    ("inputs", "pointer"),
    [
        ({"nonsense": 1}, "/inputs/nonsense"),
        ({"priority": "whenever"}, "/inputs/priority"),
        ({"reason": ""}, "/inputs/reason"),
        ({"reason": 5}, "/inputs/reason"),
        ({"reason": "a\u0000b"}, "/inputs/reason"),
        ({"reason": "a\u0007b"}, "/inputs/reason"),
        ({"reason": "x" * 2001}, "/inputs/reason"),
        ({"reason": 10**400}, "/inputs/reason"),
        ({"tests": ["CBC", 5]}, "/inputs/tests/1"),
        ({"tests": ["x"] * 61}, "/inputs/tests"),
        ({"specimenCollected": "today"}, "/inputs/specimenCollected"),
        ({"a/b~c": 1}, "/inputs/a~1b~0c"),
    ],
)
def test_inputs_that_break_the_schema(refusing: Api, version: str, inputs: dict[str, Any], pointer: str) -> None:
    _names(_is_problem(refusing.post(JOBS, json=request_for(version, inputs=inputs)), 422, "INPUTS_INVALID"), pointer)


def test_inputs_that_nest_absurdly_deep(refusing: Api, version: str) -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    request = request_for(version, inputs={"tests": deep})
    assert refusing.post(JOBS, json=request).status_code in (400, 422)


def test_a_number_that_no_form_prints(refusing: Api, version: str) -> None:
    body = json.dumps(request_for(version, inputs={"reason": 0})).replace('"reason": 0', '"reason": 1E999999999')
    _names(_is_problem(refusing.post(JOBS, content=body, headers=JSON), 422, "INPUTS_INVALID"), "/inputs/reason")


def test_an_unsupported_locale_names_those_there_are(refusing: Api, version: str) -> None:
    problem = _is_problem(refusing.post(JOBS, json=request_for(version, locale="de")), 422, "LOCALE_UNSUPPORTED")
    assert problem["detail"].startswith("/locale")
    assert "fa-AF" in problem["detail"]


def test_an_unknown_version_and_a_draft_are_not_found(refusing: Api) -> None:
    _is_problem(refusing.post(JOBS, json=request_for(new("version"))), 404, "NOT_FOUND")
    # The id of a template that was never published leads nowhere either: only versions are rendered.
    _is_problem(refusing.post(JOBS, json=request_for("tv_00000000000000000000000000")), 404, "NOT_FOUND")


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Client-Mutation-Id"])
def test_an_id_in_a_header_has_the_same_shape(refusing: Api, version: str, name: str) -> None:
    request = request_for(version)
    del request["clientMutationId"]
    _names(
        _is_problem(refusing.post(JOBS, json=request, headers={name: "x"}), 400, "INVALID_REQUEST"), "/clientMutationId"
    )
    _names(_is_problem(refusing.post(JOBS, json=request), 400, "INVALID_REQUEST"), "/clientMutationId")


def test_each_item_of_a_batch_is_refused_on_its_own(refusing: Api, version: str) -> None:
    items = [
        {"clientMutationId": 1.5},
        {"clientMutationId": "\u0000"},
        {},
        request_for(version, patientId="a b"),
        request_for(new("version")),
        "junk",
        None,
    ]
    answer = refusing.post(f"{JOBS}/batch", json={"items": items})
    assert answer.status_code == 200, answer.text
    refused = answer.json()["items"]
    assert [item["status"] for item in refused] == [400, 400, 400, 400, 404, 400, 400]
    assert [item["clientMutationId"] for item in refused][3:5] == [item["clientMutationId"] for item in items[3:5]]
    assert refused[3]["problem"]["errors"][0]["pointer"] == "/patientId"


@pytest.mark.parametrize("items", [[], [{}] * 51, "x"])
def test_a_batch_of_the_wrong_size(refusing: Api, items: Any) -> None:
    _names(_is_problem(refusing.post(f"{JOBS}/batch", json={"items": items}), 400, "INVALID_REQUEST"), "/items")


# --- Paths, queries, methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/nowhere",
        "/nowhere",
        f"{JOBS}/",
        "/v1/documents/",
        "/v1/documents/%00",
        "/v1/documents/doc_1",
        "/v1/documents/rjob_01J0000000000000000000000A",
        "/v1/documents/%ED%A0%80",
        f"{JOBS}/%00",
        f"{JOBS}/content",
        f"{JOBS}/doc_01J0000000000000000000000A",
        "/v1/document-templates/%00",
        "/v1/document-templates/x'%20OR%201=1",
        "/v1/document-templates/tmpl_01J0000000000000000000000A/versions/%00",
        "/v1/documents/uploads/content",
        "/v1/documents/uploads/%00",
    ],
)
def test_a_path_that_leads_nowhere(refusing: Api, path: str) -> None:
    _is_problem(refusing.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/documents", "INVALID_REQUEST"),
        ("/v1/documents?patientId=%00", "INVALID_REQUEST"),
        ("/v1/documents?patientId=p&encounterId=%00", "INVALID_REQUEST"),
        ("/v1/documents?patientId=p&category=poem", "INVALID_REQUEST"),
        ("/v1/documents?patientId=p&since=now", "INVALID_REQUEST"),
        ("/v1/documents?patientId=p&until=9999-12-31T23:59:59-05:00", "INVALID_REQUEST"),
        ("/v1/documents?patientId=p&limit=0", "INVALID_REQUEST"),
        ("/v1/documents?patientId=p&limit=101", "INVALID_REQUEST"),
        ("/v1/documents?patientId=p&cursor=x", "INVALID_CURSOR"),
        ("/v1/documents?patientId=p&cursor=YWZ0ZXI6AA", "INVALID_CURSOR"),
        ("/v1/document-templates?status=open", "INVALID_REQUEST"),
        ("/v1/document-templates?facilityId=%00", "INVALID_REQUEST"),
        ("/v1/document-templates?platformFormKey=%00", "INVALID_REQUEST"),
        (f"{JOBS}?status=done", "INVALID_REQUEST"),
    ],
)
def test_a_query_of_the_wrong_shape(refusing: Api, path: str, code: str) -> None:
    problem = _is_problem(refusing.get(path), 400, code)
    assert code == "INVALID_CURSOR" or problem["errors"][0]["pointer"].startswith("#query")


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/v1/document-templates"), ("PUT", JOBS), ("POST", "/v1/documents/changes")]
)
def test_a_method_that_the_route_does_not_take(refusing: Api, method: str, path: str) -> None:
    answer = refusing.request(method, path)
    _is_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"]


# --- The order of checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [JOBS, f"{JOBS}/content", "/v1/documents/uploads/content", "/v1/nowhere", "/v1/documents/x/content", "/v1/"],
)
def test_whoever_has_not_signed_in_learns_nothing_else(service: Service, path: str) -> None:
    with Api(service.url, None) as nobody:
        for method, body in (("POST", b"{"), ("POST", b" " * 600_000), ("GET", b""), ("DELETE", b"")):
            answer = nobody.request(method, path, content=body, headers=JSON)
            _is_problem(answer, 401, "NOT_AUTHENTICATED")
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_of_no_use_is_refused_before_the_body_is_read(service: Service, clinic: str) -> None:
    good = service.token(clinic)
    altered = f"{good[:-8]}{'A' * 8}"
    for token in (altered, "x", f"{good}.{good}", "x" * 20_000):
        with Api(service.url, token) as caller:
            _is_problem(caller.post(JOBS, content=b"{", headers=JSON), 401, "NOT_AUTHENTICATED")


def test_size_comes_before_shape(refusing: Api) -> None:
    _is_problem(refusing.post(JOBS, content=b"{" * 600_000, headers=JSON), 413, "TOO_LARGE")


def test_shape_comes_before_the_look_up_and_the_look_up_before_the_rest(
    service: Service, fhir_url: str, version: str
) -> None:
    with service.caller(service.create_tenant(fhir_url)) as caller:
        request = request_for(version, notAfter=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
        known = caller.post(JOBS, json=request)
        assert known.status_code == 202
        time.sleep(2)
        assert caller.post(JOBS, json=request).status_code == 200
        _is_problem(caller.post(JOBS, json={**request, "more": 1}), 400, "INVALID_REQUEST")
        other = {**request, "templateVersionId": new("version"), "locale": "de", "inputs": {"x": 1}}
        _is_problem(caller.post(JOBS, json=other), 422, "CLIENT_MUTATION_ID_REUSED")


def test_a_role_that_may_not(service: Service, clinic: str, version: str) -> None:
    with service.caller(clinic, roles=("AUDITOR",)) as auditor:
        problem = _is_problem(auditor.post(JOBS, json=request_for(version)), 403, "FORBIDDEN")
        assert "CLINICIAN" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/document-templates"),
        ("POST", "/v1/document-templates"),
        ("GET", "/v1/documents?patientId=p"),
        ("GET", "/v1/documents/changes"),
        ("POST", "/v1/documents/audit-events"),
        ("POST", JOBS),
    ],
)
def test_a_tenant_that_the_service_does_not_know(service: Service, version: str, method: str, path: str) -> None:
    with service.caller("no-such-tenant") as stranger:
        problem = _is_problem(stranger.request(method, path, json=request_for(version)), 404, "NOT_FOUND")
        assert "tenant does not exist" in problem["detail"]


def test_a_clock_far_ahead_is_taken_as_now(service: Service, fhir_url: str, version: str) -> None:
    """A tombstone lives until max(createdAt, requestedAt) + window: no device may keep it until the year 9999."""
    with service.caller(service.create_tenant(fhir_url)) as caller:
        job = caller.post(JOBS, json=request_for(version, requestedAt="9990-01-01T00:00:00Z")).json()
    assert job["requestedAt"] == job["createdAt"] or job["requestedAt"][:4] == job["createdAt"][:4]


# --- Drafts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "definition",
    ['{"a":' + "[" * 300 + "]" * 300 + "}", '{"a":1e999}'],
    ids=["deep", "beyond-any-number"],
)
def test_a_definition_that_could_not_be_shown_again_is_not_kept(refusing: Api, definition: str) -> None:
    body = '{"name":"n","category":"letter","definition":' + definition + "}"
    answer = refusing.post("/v1/document-templates", content=body, headers=JSON)
    _names(_is_problem(answer, 400, "INVALID_REQUEST"), "/definition")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a\u0000"}, "/name"),
        ({"category": "poem"}, "/category"),
        ({"facilityId": "a b"}, "/facilityId"),
        ({"origin": "platform"}, "/origin"),
    ],
)
def test_a_template_of_the_wrong_shape(refusing: Api, change: dict[str, Any], pointer: str) -> None:
    answer = refusing.post("/v1/document-templates", json={"name": "n", "category": "letter", **change})
    _names(_is_problem(answer, 400, "INVALID_REQUEST"), pointer)


# --- The FHIR server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxied(service: Service, fhir_url: str) -> Iterator[tuple[FaultProxy, str]]:
    """A tenant whose FHIR server is reached through a network that a test may spoil."""
    host, _, path = fhir_url.removeprefix("http://").partition("/")
    with FaultProxy(f"http://{host}") as proxy:
        yield proxy, service.create_tenant(f"{proxy.url}/{path}")


def _generate(caller: Api, version: str, key: str) -> httpx2.Response:
    request = request_for(version)
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    return caller.post("/v1/documents/generate", json=request, headers={"Idempotency-Key": key})


@pytest.mark.parametrize(
    ("faults", "status", "code"),
    [
        (Faults(network="refuse"), 503, "FHIR_UNAVAILABLE"),
        (Faults(reset_after_down=200), 503, "FHIR_UNAVAILABLE"),
        (Faults(portal=b"<html>Sign in to the hotel</html>"), 422, "FHIR_INVALID"),
    ],
    ids=["down", "cut", "html"],
)
def test_a_fhir_server_that_fails_stores_nothing(
    service: Service, proxied: tuple[FaultProxy, str], version: str, faults: Faults, status: int, code: str
) -> None:
    proxy, tenant = proxied
    key = str(uuid.uuid4())
    before = asyncio.run(stored(service, tenant))
    with service.caller(tenant) as caller:
        proxy.apply(faults)
        problem = _is_problem(_generate(caller, version, key), status, code)
        assert problem["detail"].endswith(".")
        after = asyncio.run(stored(service, tenant))
        assert _without_evidence(after) == _without_evidence(before)
        _wait_until(lambda: asyncio.run(stored(service, tenant))["queue"] == 0)
        proxy.heal()
        assert _generate(caller, version, key).status_code == 201


def _without_evidence(held: dict[str, Any]) -> dict[str, Any]:
    """The failed attempt is audited and stays; what it was for does not. The queue lets go later."""
    kept = ("audit_events", "changes", "document_numbers", "queue")
    return {kind: n for kind, n in held.items() if kind not in kept}


def _wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_portal_in_front_of_the_fhir_server_fails_the_job_once(
    service: Service, proxied: tuple[FaultProxy, str], version: str
) -> None:
    proxy, tenant = proxied
    with service.caller(tenant) as caller:
        proxy.apply(Faults(portal=b"<html>Sign in to the hotel</html>"))
        job = caller.render(request_for(version))
        proxy.heal()
        assert (job["status"], job["attempts"], job["error"]["code"]) == ("failed", 1, "FHIR_INVALID")
        assert job["documentId"] is None
        assert caller.post(f"{JOBS}/{job['id']}/retry").status_code == 202
        assert caller.wait(job["id"])["status"] == "completed"


def test_a_slow_fhir_server_is_waited_for_and_asked_again(
    service: Service, proxied: tuple[FaultProxy, str], version: str
) -> None:
    """The answer of generate comes after five seconds; its job lives on and the repeat returns its document."""
    proxy, tenant = proxied
    key = str(uuid.uuid4())
    with service.caller(tenant) as caller:
        # The reset first: an open connection would be closed by the FHIR server itself, which is another fault.
        proxy.apply(Faults(network="refuse"))
        proxy.apply(Faults(network="blackhole"))
        began = time.monotonic()
        problem = _is_problem(_generate(caller, version, key), 504, "GENERATE_TIMEOUT")
        assert 4.5 < time.monotonic() - began < 8
        job = caller.get(f"{JOBS}/{problem['renderJobId']}").json()
        assert job["status"] in ("queued", "running")
        causes = asyncio.run(_causes(service, job["id"]))
        while not causes and time.monotonic() - began < 30:
            time.sleep(0.2)
            causes = asyncio.run(_causes(service, job["id"]))
        proxy.heal()
        assert [cause["code"] for cause in causes] == ["FHIR_UNAVAILABLE"]
        job = caller.wait(job["id"])
        assert (job["status"], job["attempts"]) == ("completed", 2)
        again = _generate(caller, version, key)
        assert (again.status_code, again.json()["id"]) == (200, job["documentId"])


async def _causes(service: Service, job_id: str) -> list[dict[str, Any]]:
    async with connected(service, role=None) as connection:
        causes = await connection.fetchval("SELECT attempt_causes FROM document_render_jobs WHERE id = $1", job_id)
    found: list[dict[str, Any]] = json.loads(causes)
    return found


def test_an_unknown_patient_and_encounter_fail_the_job(service: Service, clinic: str, version: str) -> None:
    with service.caller(clinic) as caller:
        job = caller.render(request_for(version, patient="nobody", encounterId=None))
        assert (job["status"], job["attempts"], job["error"]["code"]) == ("failed", 1, "PATIENT_UNKNOWN")
        assert "patient" in job["error"]["title"].lower()
        job = caller.render(request_for(version, encounterId="nowhere"))
        assert (job["status"], job["attempts"], job["error"]["code"]) == ("failed", 1, "RESOURCE_UNKNOWN")
        job = caller.render(request_for(version, patientCheck={"birthDate": "1900-01-01"}))
        assert (job["status"], job["attempts"], job["error"]["code"]) == ("failed", 1, "PATIENT_MISMATCH")
        assert caller.get("/v1/documents", params={"patientId": "nobody"}).json()["items"] == []


def test_a_tenant_without_a_fhir_server_is_told_so(service: Service) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    assert "no FHIR server yet" in service.command("tenant", "create", tenant)
    with service.caller(tenant) as caller:
        job = caller.render(request_for(caller.platform_version()))
    assert (job["status"], job["error"]["code"], job["attempts"]) == ("failed", "FHIR_NOT_CONFIGURED", 1)
    assert "--fhir-url" in job["error"]["title"]
