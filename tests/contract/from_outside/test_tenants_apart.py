"""Contract §2: "Something of another tenant […]: 404, exactly as if it did not exist", on every route with an id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contract.from_outside.caller import JOBS, Caller, Request, new_id
from contract.from_outside.forms import TEMPLATES, Form, letter

#: Ids of the right form that nobody was given.
UNKNOWN = {
    "template": "tmpl_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "version": "tv_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "job": "rjob_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "document": "doc_01ARZ3NDEKTSV4RRFFQ69G5FAV",
}

ROUTES: list[tuple[str, str, Any]] = [
    ("GET", TEMPLATES + "/{template}", None),
    ("PATCH", TEMPLATES + "/{template}", {"name": "Ours"}),
    ("PUT", TEMPLATES + "/{template}/draft", letter()),
    ("POST", TEMPLATES + "/{template}/preview", {}),
    ("POST", TEMPLATES + "/{template}/publish", {}),
    ("POST", TEMPLATES + "/{template}/fork", {"name": "Ours"}),
    ("POST", TEMPLATES + "/{template}/retire", {}),
    ("GET", TEMPLATES + "/{template}/versions/{version}", None),
    ("POST", TEMPLATES + "/{template}/versions/{version}/withdraw", {"reason": "ours"}),
    ("GET", JOBS + "/{job}", None),
    ("POST", JOBS + "/{job}/retry", None),
    ("GET", "/v1/documents/{document}", None),
    ("POST", "/v1/documents/{document}/download-url", None),
    ("POST", "/v1/documents/{document}/void", {"reason": "ours"}),
    ("POST", "/v1/documents/{document}/supersede", {"byDocumentId": "{document}", "reason": "ours"}),
    ("GET", "/v1/documents/{document}/holders", None),
]


@pytest.fixture(scope="module")
def ids(nurse: Caller, author: Caller) -> dict[str, str]:
    """Ids of the clinic's own: a form, its version, a failed job and a document."""
    form = Form(author)
    version = form.version()
    request = {"templateVersionId": version, "locale": "en", "inputs": {}, "requestedAt": "2026-11-01T08:00:00Z"}
    done = nurse.render({**request, "clientMutationId": new_id(), "patientId": "demo-patient-noorzai"})
    failed = nurse.render({**request, "clientMutationId": new_id(), "patientId": "nobody"})
    return {"template": form.id, "version": version, "job": failed["id"], "document": done["documentId"]}


def _fill(value: Any, ids: dict[str, str]) -> Any:
    return {k: v.format(**ids) for k, v in value.items()} if value and "byDocumentId" in value else value


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=[f"{row[0]} {row[1]}" for row in ROUTES])
def test_what_is_of_another_tenant_does_not_exist(
    method: str, path: str, body: Any, ids: dict[str, str], stranger: Caller, nurse: Caller
) -> None:
    before = [nurse.get(f"/v1/documents/{ids['document']}").json(), nurse.get(f"{JOBS}/{ids['job']}").json()]
    headers = {"If-Match": '"x"', "Idempotency-Key": new_id()}
    theirs, nobodys = (
        stranger.request(method, path.format(**one), json=_fill(body, one), headers=headers) for one in (ids, UNKNOWN)
    )
    assert theirs.status_code == nobodys.status_code == 404
    assert {**theirs.json(), "requestId": ""} == {**nobodys.json(), "requestId": ""}
    assert not any(one in theirs.text for one in ids.values())
    after = [nurse.get(f"/v1/documents/{ids['document']}").json(), nurse.get(f"{JOBS}/{ids['job']}").json()]
    assert after == before


def test_no_list_of_another_tenant_names_it(ids: dict[str, str], stranger: Caller) -> None:
    """§2: lists, look-ups, the feed and the trail show what is one's own."""
    found = [
        *stranger.every(TEMPLATES),
        *stranger.every(JOBS),
        *stranger.every("/v1/documents", patientId="demo-patient-noorzai"),
        # What strangers asked for in vain stands in their own trail, as a failure.
        *stranger.every("/v1/audit-events", outcome="success"),
        stranger.get("/v1/documents/changes").json(),
    ]
    for one in ids.values():
        assert one not in str(found)


def test_another_tenants_version_cannot_be_rendered(
    ids: dict[str, str], stranger: Caller, request_for: Request
) -> None:
    """§2 and §3: the version of a form that one cannot see is unknown, and the id is not consumed."""
    ask: list[Callable[[dict[str, Any]], Any]] = [lambda one: stranger.post(JOBS, json=one), stranger.generate]
    for call in ask:
        mine = call(request_for(templateVersionId=ids["version"], inputs={}))
        none = call(request_for(templateVersionId=UNKNOWN["version"], inputs={}))
        assert mine.status_code == none.status_code == 404
        assert {**mine.json(), "requestId": ""} == {**none.json(), "requestId": ""}


def test_another_tenants_document_replaces_nothing(ids: dict[str, str], stranger: Caller, request_for: Request) -> None:
    """§2: `supersede {byDocumentId}`: a replacement of another tenant does not exist."""
    own = stranger.generate(request_for(templateVersionId=stranger.form()["currentVersionId"])).json()
    for by in (ids["document"], UNKNOWN["document"]):
        answer = stranger.post(
            f"/v1/documents/{own['id']}/supersede",
            json={"byDocumentId": by, "reason": "ours"},
            headers={"Idempotency-Key": new_id()},
        )
        assert answer.status_code == 404
    assert stranger.get(f"/v1/documents/{own['id']}").json()["status"] == "current"
