"""Contract §2: what holds for every route: what an error looks like, how lists page, what a read carries."""

from __future__ import annotations

import time

import pytest

from contract.from_outside.caller import JOBS, Caller, Request
from contract.from_outside.clinic import Clinic
from contract.from_outside.forms import TEMPLATES
from contract.from_outside.shapes import LIST, TEMPLATE


def test_bodies_that_are_no_json_are_refused_with_a_pointerless_problem(nurse: Caller) -> None:
    """§2: every error is a problem; §3, order of checks: "authentication, size, shape"."""
    json = {"Content-Type": "application/json"}
    for body in (b"", b"{", b"\xff\xfe", b"[]", b'"text"', b"null", b'{"a": NaN}'):
        assert nurse.post(JOBS, content=body, headers=json).status_code == 400, body
    assert nurse.post(JOBS, content=b"{" + b" " * 2_000_000 + b"}", headers=json).status_code == 413
    assert nurse.request("DELETE", JOBS).status_code == 405
    assert nurse.get("/v1/nothing").status_code == 404


def test_lists_page_by_an_opaque_cursor(nurse: Caller) -> None:
    """§2: "Lists page with an opaque `cursor` and `limit` (default 20, max 100) and answer `{items, nextCursor}`"."""
    every = nurse.every(TEMPLATES)
    assert all(set(item) >= TEMPLATE for item in every)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = nurse.get(TEMPLATES, params={"limit": "2", **({"cursor": cursor} if cursor else {})}).json()
        assert set(page) == LIST
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(item["id"] for item in every)
    for limit in ("0", "-1", "101", "many"):
        assert nurse.get(TEMPLATES, params={"limit": limit}).status_code == 400
    assert nurse.get(TEMPLATES, params={"cursor": "nonsense"}).status_code == 400


def test_lists_have_twenty_items_unless_told(nurse: Caller, request_for: Request) -> None:
    """§2: "`limit` (default 20, max 100)"."""
    batch = {"items": [request_for() for _ in range(25)]}
    for told in nurse.post(f"{JOBS}/batch", json=batch).json()["items"]:
        nurse.finished(told["job"]["id"])
    first = nurse.get(JOBS).json()
    assert (len(first["items"]), first["nextCursor"] is None) == (20, False)
    documents = nurse.get("/v1/documents", params={"patientId": "demo-patient-noorzai"}).json()
    assert (len(documents["items"]), documents["nextCursor"] is None) == (20, False)


@pytest.mark.parametrize(
    ("who", "path"),
    [
        ("nurse", TEMPLATES),
        ("nurse", JOBS),
        ("nurse", "/v1/documents?patientId=demo-patient-noorzai"),
        ("nurse", "/v1/documents/uploads"),
        ("nurse", "/v1/devices"),
        # Reading the trail is itself recorded there, so the whole of it changes with each look.
        ("auditor", "/v1/audit-events?action=document.*"),
        ("nurse", "/v1/documents/changes"),
    ],
)
def test_reads_carry_a_strong_etag_and_answer_304(who: str, path: str, request: pytest.FixtureRequest) -> None:
    """§2: "Reads carry a strong `ETag` and answer 304"."""
    caller: Caller = request.getfixturevalue(who)
    # What a test before this one has caused may still arrive, such as the record of its last download.
    for _ in range(20):
        etag = caller.get(path).headers["etag"]
        assert etag.startswith('"')
        again = caller.get(path, headers={"If-None-Match": etag})
        if again.status_code == 304:
            break
        time.sleep(0.2)
    assert (again.status_code, again.content) == (304, b"")


def test_what_needs_no_token(clinic: Clinic) -> None:
    """§2: `/health/live`, `/health/ready`, `/metrics`, `/openapi.json`, `/docs`; "ready = database, keys, store; other
    components are named with their state"."""
    with Caller(clinic.url) as nobody:
        for path in ("/health/live", "/metrics", "/openapi.json", "/docs"):
            assert nobody.get(path).status_code == 200, path
        ready = nobody.get("/health/ready")
        assert ready.status_code == 200
        assert {"database", "keys", "store", "scanner"} <= set(ready.json()["components"])
        assert nobody.get("/openapi.json").json()["openapi"].startswith("3.")


@pytest.mark.parametrize("path", [TEMPLATES, JOBS, "/v1/documents?patientId=demo-patient-noorzai", "/health/live"])
def test_head_is_get_without_its_body(nurse: Caller, path: str) -> None:
    """HTTP (RFC 9110 section 9.1): a server takes HEAD wherever it takes GET, with the same headers."""
    read, head = nurse.get(path), nurse.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == read.headers["content-length"]
    assert head.headers.get("etag") == read.headers.get("etag")


def test_a_405_names_every_method_that_there_is(nurse: Caller, clinic: Clinic) -> None:
    """HTTP (RFC 9110 section 15.5.6): `Allow`; and a HEAD without a token is nobody's either."""
    for path, methods in (
        (JOBS, {"GET", "HEAD", "POST"}),
        (f"{TEMPLATES}/{nurse.form()['id']}", {"GET", "HEAD", "PATCH"}),
        ("/v1/documents/uploads/upl_x", {"GET", "HEAD", "PATCH"}),
        (f"{JOBS}/rjob_x/retry", {"POST"}),
    ):
        answer = nurse.request("DELETE", path)
        assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, methods), path
    with Caller(clinic.url) as nobody:
        assert nobody.head(JOBS).status_code == 401


def test_blanks_are_no_name_and_no_reason(nurse: Caller, author: Caller, request_for: Request) -> None:
    """§2: reasons are for who looks later; a number is a number: `true` and "1" are no size."""
    assert author.post(TEMPLATES, json={"name": "   ", "category": "letter"}).status_code == 400
    job = nurse.render(request_for())
    key = {"Idempotency-Key": job["id"]}
    void = nurse.post(f"/v1/documents/{job['documentId']}/void", json={"reason": " \n"}, headers=key)
    assert void.status_code == 400
    assert nurse.get(f"/v1/documents/{job['documentId']}").json()["status"] == "current"
