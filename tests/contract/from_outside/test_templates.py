"""Contract §1 and §2: the life of a template. The server is authoritative, and what is published never changes."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.from_outside.caller import Caller, Request, code_of, new_id
from contract.from_outside.forms import TEMPLATES, Form, letter
from contract.from_outside.shapes import TEMPLATE, VERSION


def test_a_draft_becomes_a_version_that_never_changes(nurse: Caller, author: Caller) -> None:
    """§1: "one published definition with a semver and a SHA-256 checksum of its canonical JSON; never changes"; §6."""
    form = Form(author)
    created = form.created.json()
    assert set(created) >= TEMPLATE
    assert created["id"].startswith("tmpl_")
    assert (created["status"], created["origin"], created["currentVersionId"]) == ("draft", "tenant", None)
    first = form.version("First")
    shown = nurse.get(f"{form.path}/versions/{first}")
    version = shown.json()
    assert set(version) >= VERSION
    assert version["id"] == first
    assert first.startswith("tv_")
    assert version["withdrawn"] in (None, False)
    canonical = json.dumps(version["definition"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() in version["checksum"]
    assert version["definition"]["inputs"] == letter()["inputs"]
    second = form.version("Second")
    again = nurse.get(f"{form.path}/versions/{first}").json()
    assert (again["definition"], again["checksum"], again["semver"]) == (
        version["definition"],
        version["checksum"],
        version["semver"],
    )
    template = nurse.get(form.path).json()
    assert (template["status"], template["currentVersionId"]) == ("published", second)
    assert {one["id"] for one in template["versions"]} == {first, second}
    assert nurse.get(f"{form.path}/versions/{second}").json()["semver"] != version["semver"]


def test_edits_take_if_match_and_answer_412_when_stale(author: Caller) -> None:
    """§2: "edits take `If-Match` and answer 412 when stale"; of two authors at once one is told."""
    form = Form(author)
    read = form.etag()
    name = f"Renamed {new_id()}"
    edited = author.patch(form.path, json={"name": name}, headers={"If-Match": read})
    assert (edited.status_code, edited.json()["name"]) == (200, name)
    for stale in (read, '"nonsense"'):
        answer = author.patch(form.path, json={"name": "Lost edit"}, headers={"If-Match": stale})
        assert code_of(answer) == (412, "PRECONDITION_FAILED")
        draft = author.put(f"{form.path}/draft", json=letter(), headers={"If-Match": stale})
        assert code_of(draft) == (412, "PRECONDITION_FAILED")
    assert author.get(form.path).json()["name"] == name
    etag = form.etag()
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda n: author.put(f"{form.path}/draft", json=letter(f"By author {n}"), headers={"If-Match": etag}),
                range(8),
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    fresh = author.get(form.path, headers={"If-None-Match": form.etag()})
    assert (fresh.status_code, fresh.content) == (304, b"")


def test_saving_answers_every_problem_at_once(author: Caller) -> None:
    """§2: `PUT …/draft` "answers every problem in it at once"; publishing what has problems is refused."""
    form = Form(author)
    broken = letter()
    del broken["labels"]["en"]["name"]
    broken["bindings"]["amount"]["type"] = "nonsense"
    broken["sections"].append({"type": "poem"})
    answer = form.save(broken)
    problems = answer.json().get("problems") or answer.json().get("errors")
    assert len(problems) >= 3
    assert all(problem["pointer"].startswith("/") and problem["code"] and problem["title"] for problem in problems)
    refused = form.publish()
    assert refused.status_code == 422
    assert {entry["pointer"] for entry in refused.json()["errors"]} >= {problem["pointer"] for problem in problems}
    assert author.get(form.path).json()["currentVersionId"] is None


def test_publishing_needs_a_key_and_happens_once(author: Caller) -> None:
    """§2: `POST …/publish` "validate, freeze, make current (`Idempotency-Key` required)"."""
    form = Form(author)
    form.save(letter())
    assert author.post(f"{form.path}/publish", json={}).status_code == 400
    key = new_id()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: form.publish(key), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(author.get(form.path).json()["versions"]) == 1


def test_the_preview_is_a_pdf_or_a_png_and_no_document(nurse: Caller, author: Caller) -> None:
    """§2: `POST …/preview` "render the draft with a sample or a real patient: PDF or PNG"."""
    form = Form(author)
    form.save(letter())
    before = nurse.every("/v1/documents", patientId="demo-patient-noorzai")
    for body in ({}, {"patientId": "demo-patient-noorzai"}):
        for kind, magic in (("application/pdf", b"%PDF-"), ("image/png", b"\x89PNG")):
            answer = author.post(f"{form.path}/preview", json=body, headers={"Accept": kind})
            assert (answer.status_code, answer.headers["content-type"]) == (200, kind), answer.text
            assert answer.content.startswith(magic)
    assert nurse.every("/v1/documents", patientId="demo-patient-noorzai") == before


def test_the_catalogue_is_filtered_and_may_be_stale_while_it_is_refreshed(
    nurse: Caller, author: Caller, admin: Caller
) -> None:
    """§2: filters `category,status,facilityId,origin,platformFormKey`; `Cache-Control: private, max-age=…,
    stale-while-revalidate=…`."""
    form = Form(author)
    form.version()
    listed = nurse.get(TEMPLATES)
    words = {word.split("=")[0].strip() for word in listed.headers["cache-control"].split(",")}
    assert words >= {"private", "max-age", "stale-while-revalidate"}
    assert form.id in [
        one["id"] for one in nurse.every(TEMPLATES, category="letter", status="published", origin="tenant")
    ]
    for other in ({"category": "report"}, {"status": "retired"}, {"origin": "platform"}):
        found = nurse.every(TEMPLATES, **other)
        assert form.id not in [one["id"] for one in found]
        ((name, value),) = other.items()
        assert {one[name] for one in found} <= {value}
    admin.post(f"{form.path}/retire", json={})
    assert form.id in [one["id"] for one in nurse.every(TEMPLATES, status="retired")]
    assert nurse.get(TEMPLATES, headers={"If-None-Match": listed.headers["etag"]}).status_code == 200


PLATFORM_EDITS: list[tuple[str, str, str, Any]] = [
    ("author", "PATCH", "", {"name": "Ours"}),
    ("author", "PUT", "/draft", letter()),
    ("author", "POST", "/publish", {}),
    ("admin", "POST", "/retire", {}),
    ("admin", "POST", "/versions/{version}/withdraw", {"reason": "ours"}),
]


@pytest.mark.parametrize(("who", "method", "path", "body"), PLATFORM_EDITS)
def test_platform_forms_are_forked_and_not_edited(
    who: str, method: str, path: str, body: Any, nurse: Caller, request: pytest.FixtureRequest
) -> None:
    """§2: "Platform forms: 403 `PLATFORM_TEMPLATE_IMMUTABLE` on edit"."""
    caller: Caller = request.getfixturevalue(who)
    form = nurse.form()
    url = f"{TEMPLATES}/{form['id']}{path.format(version=form['currentVersionId'])}"
    etag = nurse.get(f"{TEMPLATES}/{form['id']}").headers["etag"]
    answer = caller.request(method, url, json=body, headers={"If-Match": etag, "Idempotency-Key": new_id()})
    assert code_of(answer) == (403, "PLATFORM_TEMPLATE_IMMUTABLE")
    assert nurse.form() == form


def test_a_fork_is_the_tenants_own(nurse: Caller, author: Caller, stranger: Caller) -> None:
    """§2: `POST …/fork` "tenant copy of a platform form"; §6 `forkedFromPlatformFormKey`."""
    form = nurse.form()
    answer = author.post(f"{TEMPLATES}/{form['id']}/fork", json={"name": f"Our form {new_id()}"})
    assert answer.status_code == 201, answer.text
    fork = answer.json()
    assert (fork["origin"], fork["status"], fork["forkedFromPlatformFormKey"], fork["platformFormKey"]) == (
        "tenant",
        "draft",
        "general-test-requisition",
        None,
    )
    assert fork["id"] not in [one["id"] for one in stranger.every(TEMPLATES)]


def test_old_documents_of_a_retired_form_stay_readable(
    nurse: Caller, author: Caller, admin: Caller, request_for: Request
) -> None:
    """§2: `POST …/retire` "no new renders; old documents stay readable"."""
    form = Form(author)
    job = nurse.render(request_for(templateVersionId=form.version(), inputs={}))
    assert admin.post(f"{form.path}/retire", json={}).json()["status"] == "retired"
    assert nurse.get(nurse.url_of(job["documentId"])).content.startswith(b"%PDF-")
    assert nurse.get(form.path).json()["status"] == "retired"
