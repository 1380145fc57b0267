"""Contract §2, the column "Who": roles, tokens, and that the tenant is the token's."""

from __future__ import annotations

import time
from typing import Any

import pytest

from contract.from_outside.caller import GENERATE, JOBS, Caller, Request, code_of, new_id
from contract.from_outside.clinic import CLINIC, Clinic
from contract.from_outside.forms import TEMPLATES

#: Ids of the right form that nobody was given.
TEMPLATE = TEMPLATES + "/tmpl_01ARZ3NDEKTSV4RRFFQ69G5FAV"  # noqa: S108

#: §2, the table of routes: method, path, body, and the roles of its column "Who".
WHO: list[tuple[str, str, Any, set[str]]] = [
    ("POST", TEMPLATES, {}, {"author"}),
    ("PATCH", f"{TEMPLATE}", {}, {"author"}),
    ("PUT", f"{TEMPLATE}/draft", {}, {"author"}),
    ("POST", f"{TEMPLATE}/preview", {}, {"author"}),
    ("POST", f"{TEMPLATE}/publish", {}, {"author"}),
    ("POST", f"{TEMPLATE}/fork", {}, {"author"}),
    ("POST", f"{TEMPLATE}/retire", {}, {"admin"}),
    ("POST", f"{TEMPLATE}/versions/tv_x/withdraw", {"reason": "wrong"}, {"admin"}),
    ("POST", GENERATE, {}, {"nurse"}),
    ("POST", JOBS, {}, {"nurse"}),
    ("GET", JOBS, None, {"nurse"}),
    ("GET", f"{JOBS}/rjob_x", None, {"nurse"}),
    ("POST", f"{JOBS}/rjob_x/retry", None, {"nurse"}),
    ("POST", f"{JOBS}/lookup", {"clientMutationIds": []}, {"nurse"}),
    ("POST", f"{JOBS}/batch", {"items": []}, {"nurse"}),
    ("POST", f"{JOBS}/bulk", {}, {"admin"}),
    ("POST", "/v1/documents/uploads", {}, {"nurse"}),
    ("PATCH", "/v1/documents/uploads/upl_x", None, {"nurse"}),
    ("POST", "/v1/documents/uploads/upl_x/finalize", None, {"nurse"}),
    ("POST", "/v1/documents/uploads/upl_x/rescan", None, {"admin"}),
    ("POST", "/v1/documents/uploads/upl_x/destroy", {"reason": "malware"}, {"admin"}),
    ("GET", "/v1/documents?patientId=p", None, {"nurse"}),
    ("GET", "/v1/documents/changes?cursor=", None, {"nurse"}),
    ("GET", "/v1/documents/doc_x", None, {"nurse"}),
    ("POST", "/v1/documents/doc_x/download-url", None, {"nurse"}),
    ("POST", "/v1/documents/doc_x/supersede", {"byDocumentId": "doc_y", "reason": "r"}, {"nurse"}),
    ("POST", "/v1/documents/doc_x/void", {"reason": "r"}, {"nurse"}),
    ("GET", "/v1/documents/doc_x/holders", None, {"admin"}),
    ("POST", "/v1/devices/dev_x/revoke", None, {"admin"}),
    ("GET", "/v1/audit-events", None, {"auditor"}),
]


@pytest.mark.parametrize(("method", "path", "body", "who"), WHO, ids=[f"{row[0]} {row[1]}" for row in WHO])
def test_each_route_is_for_whom_the_table_says(
    method: str, path: str, body: Any, who: set[str], request: pytest.FixtureRequest, clinic: Clinic
) -> None:
    """§2: the column "Who"; "A role that may not: 403 `FORBIDDEN`"; without a token 401."""
    for role in ("nurse", "author", "admin", "auditor"):
        caller: Caller = request.getfixturevalue(role)
        answer = caller.request(method, path, json=body, headers={"Idempotency-Key": new_id(), "If-Match": '"x"'})
        assert (answer.status_code == 403) == (role not in who), f"{role}: {answer.text}"
        if role not in who:
            assert answer.json()["code"] == "FORBIDDEN"
    with Caller(clinic.url) as nobody:
        assert nobody.request(method, path, json=body).status_code == 401


@pytest.mark.parametrize("token", ["nonsense", "eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJjbGluaWMiLCJzdWIiOiJ4In0."])
def test_a_token_of_nobody_is_401(clinic: Clinic, token: str) -> None:
    """§3: authentication is the first check; a token that says `alg: none` is nobody's."""
    with Caller(clinic.url, token) as stranger:
        assert stranger.get(TEMPLATES).status_code == 401
        assert stranger.post(JOBS, content=b"not json").status_code == 401


def test_an_expired_token_is_401(clinic: Clinic) -> None:
    """§4: "401 of ours: refresh the token once, then pause"; the code says that it expired."""
    token = clinic.token(CLINIC, "late", expires="1s")
    with Caller(clinic.url, token) as late:
        deadline = time.monotonic() + 45
        while (answer := late.get("/v1/devices")).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(1)
    assert code_of(answer) == (401, "TOKEN_EXPIRED")


def test_the_tenant_is_the_tokens_and_nothing_elses(stranger: Caller, nurse: Caller, request_for: Request) -> None:
    """§1: "taken from the token's `tenant` claim, never from a body, path or query"."""
    request = request_for()
    job = nurse.render(request)
    for where in ({"params": {"tenant": CLINIC}}, {"headers": {"X-Tenant": CLINIC, "X-Device-Tenant": CLINIC}}):
        assert stranger.get(f"{JOBS}/{job['id']}", **where).status_code in (400, 404)
        assert stranger.get(f"/v1/documents/{job['documentId']}", **where).status_code in (400, 404)
    assert nurse.post(JOBS, json=request_for(tenantId="strangers")).status_code == 400


def test_every_route_of_the_contract_is_in_the_description(clinic: Clinic) -> None:
    """§2: the table of routes, against `/openapi.json`."""
    with Caller(clinic.url) as nobody:
        paths = nobody.get("/openapi.json").json()["paths"]
    described = {
        (method.upper(), "/".join("{}" if part.startswith("{") else part for part in path.split("/")))
        for path, operations in paths.items()
        for method in operations
    }
    promised = {
        (
            method,
            "/".join("{}" if "_" in part else part for part in path.split("?")[0].split("/")),
        )
        for method, path, _, _ in WHO
    } | {
        ("GET", TEMPLATES),
        ("GET", f"{TEMPLATES}/{{}}"),
        ("GET", f"{TEMPLATES}/{{}}/versions/{{}}"),
        ("GET", "/v1/documents/uploads"),
        ("GET", "/v1/documents/uploads/{}"),
        ("HEAD", "/v1/documents/uploads/{}"),
        ("GET", "/v1/documents/{}/content"),
        ("POST", "/v1/devices"),
        ("GET", "/v1/devices"),
        ("POST", "/v1/documents/audit-events"),
        ("GET", "/verify/{}"),
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
        ("GET", "/metrics"),
    }
    assert not promised - described
