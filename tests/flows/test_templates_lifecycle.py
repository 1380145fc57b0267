"""A template from draft to retirement: what is frozen stays frozen, and a replay is answered whatever came after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from document_service.definitions import canonical_checksum
from document_service.fault_proxy import FaultProxy, Faults
from raw_database import connected
from requisition import definition
from running_service import Api, Service, request_for

TEMPLATES = "/v1/document-templates"
JOBS = "/v1/documents/render-jobs"


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    """One tenant for this file; each test makes templates of its own in it."""
    return service.create_tenant(fhir_url)


@pytest.fixture
def author(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic) as caller:
        yield caller


class Form:
    """A template of the tenant, with the calls that its tests repeat."""

    made = 0

    def __init__(self, caller: Api, saved: bool = True) -> None:
        Form.made += 1
        self.caller = caller
        answer = caller.post(TEMPLATES, json={"name": f"Form {Form.made}", "category": "lab_requisition"})
        assert answer.status_code == 201, answer.text
        self.id: str = answer.json()["id"]
        self.path = f"{TEMPLATES}/{self.id}"
        assert answer.headers["location"] == self.path
        if saved:
            assert self.save(definition()).json()["problems"] == []

    def save(self, content: Any, **headers: str) -> httpx2.Response:
        return self.caller.put(f"{self.path}/draft", json=content, headers=headers)

    def publish(self, key: str, body: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
        return self.caller.post(f"{self.path}/publish", json=body or {}, headers={"Idempotency-Key": key, **headers})

    def published(self, key: str = "first", body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.publish(key, body)
        assert answer.status_code == 201, answer.text
        version: dict[str, Any] = answer.json()
        return version

    def show(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.caller.get(self.path).json()
        return shown


def _refused(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def _with_label(text: str) -> dict[str, Any]:
    changed = definition()
    changed["labels"]["en"]["subtitle"] = text
    return changed


def test_a_draft_becomes_a_version_that_renders(author: Api) -> None:
    form = Form(author)
    assert (form.show()["status"], form.show()["currentVersionId"]) == ("draft", None)
    version = form.published()
    assert version["semver"] == "1.0.0"
    assert version["definition"] == definition()
    assert version["checksum"] == canonical_checksum(definition())
    shown = form.show()
    assert (shown["status"], shown["currentVersionId"], shown["draft"]) == ("published", version["id"], None)
    job = author.render(request_for(version["id"]))
    assert job["status"] == "completed", job


def test_saving_answers_every_problem_and_keeps_the_draft(author: Api) -> None:
    form = Form(author, saved=False)
    broken = definition()
    del broken["labels"]["fa-AF"]["title"]
    broken["bindings"]["birthDate"]["path"] = "%patient.birthDate.repeat(children())"
    broken["sections"].append({"type": "poem"})
    problems = form.save(broken).json()["problems"]
    pointers = {problem["pointer"] for problem in problems}
    assert any(pointer.startswith("/sections/") for pointer in pointers), problems
    assert all(problem["title"] and problem["code"] for problem in problems)
    assert form.show()["draft"] == broken
    answer = form.publish("k")
    assert _refused(answer) == (422, "DEFINITION_INVALID")
    assert {error["pointer"] for error in answer.json()["errors"]} >= pointers
    assert form.show()["versions"] == []


def test_publishing_needs_a_draft_and_a_key(author: Api) -> None:
    form = Form(author, saved=False)
    assert _refused(form.publish("k")) == (409, "TEMPLATE_STATE_CONFLICT")
    assert _refused(author.post(f"{form.path}/publish", json={})) == (400, "IDEMPOTENCY_KEY_REQUIRED")


def test_a_repeated_publish_is_answered_by_its_version(author: Api) -> None:
    form = Form(author)
    version = form.published("key")
    for body in ({}, {"semver": "7.0.0"}):
        again = form.publish("key", body)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
        assert again.json() == version
    form.save(_with_label("changed"))
    assert form.publish("key").json() == version
    assert form.show()["draft"] is not None
    assert len(form.show()["versions"]) == 1


def test_ten_publish_at_once_and_one_wins(author: Api) -> None:
    form = Form(author)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: form.publish(f"key-{n}"), range(10)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] + [409] * codes.count(409) + [412] * codes.count(412)
    assert [version["semver"] for version in form.show()["versions"]] == ["1.0.0"]


def test_ten_repeats_at_once_make_one_version(author: Api) -> None:
    form = Form(author)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: form.publish("one-key"), range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_numbers_follow_from_what_changed_without_a_gap(author: Api) -> None:
    form = Form(author)
    numbers = [form.published("1")["semver"]]
    form.save(_with_label("other words"))
    numbers.append(form.published("2")["semver"])
    changed = _with_label("other words")
    changed["page"]["margins"]["top"] = 20
    form.save(changed)
    numbers.append(form.published("3")["semver"])
    del changed["inputs"]["properties"]["notes"]
    del changed["bindings"]["notes"]
    changed["sections"] = [s for s in changed["sections"] if "notes" not in str(s.get("fields", ""))]
    saved = form.save(changed).json()
    assert saved["problems"] == []
    numbers.append(form.published("4")["semver"])
    assert numbers == ["1.0.0", "1.0.1", "1.1.0", "2.0.0"]


def test_a_chosen_number_must_be_higher(author: Api) -> None:
    form = Form(author)
    assert form.published("1", {"semver": "3.1.4"})["semver"] == "3.1.4"
    form.save(_with_label("changed"))
    for low in ("3.1.4", "3.1.3", "0.0.0"):
        assert _refused(form.publish("2", {"semver": low})) == (409, "TEMPLATE_STATE_CONFLICT")
    for odd in ("3.2", "03.2.0", "v4.0.0", "1000000000.0.0"):
        assert _refused(form.publish("2", {"semver": odd})) == (400, "INVALID_REQUEST")
    assert form.published("2")["semver"] == "3.1.5"


def test_an_edit_of_something_that_changed_since_is_refused(author: Api) -> None:
    form = Form(author)
    stale = author.get(form.path).headers["etag"]
    assert form.save(_with_label("one"), **{"If-Match": stale}).status_code == 200
    assert _refused(form.save(_with_label("two"), **{"If-Match": stale})) == (412, "PRECONDITION_FAILED")
    assert _refused(form.publish("k", **{"If-Match": stale})) == (412, "PRECONDITION_FAILED")
    edit = {"name": f"Renamed {form.id}"}
    assert _refused(author.patch(form.path, json=edit, headers={"If-Match": stale})) == (412, "PRECONDITION_FAILED")
    assert _refused(author.patch(form.path, json=edit)) == (428, "PRECONDITION_REQUIRED")
    assert _refused(author.post(f"{form.path}/retire", headers={"If-Match": stale})) == (412, "PRECONDITION_FAILED")
    assert form.show()["draft"] == _with_label("one")
    fresh = author.get(form.path).headers["etag"]
    assert author.patch(form.path, json=edit, headers={"If-Match": fresh}).json()["name"] == edit["name"]


def test_two_templates_of_a_category_have_two_names(author: Api) -> None:
    first, second = Form(author, saved=False), Form(author, saved=False)
    name = first.show()["name"].upper()
    taken = author.post(TEMPLATES, json={"name": name, "category": "lab_requisition"})
    assert _refused(taken) == (409, "TEMPLATE_NAME_CONFLICT")
    renamed = author.patch(second.path, json={"name": name}, headers={"If-Match": "*"})
    assert _refused(renamed) == (409, "TEMPLATE_NAME_CONFLICT")
    assert author.post(TEMPLATES, json={"name": name, "category": "letter"}).status_code == 201
    # The pages of a retired form name it: the name stays its own, and the answer says why.
    first.save(definition())
    first.published("1")
    assert author.post(f"{first.path}/retire").status_code == 200
    taken = author.post(TEMPLATES, json={"name": name, "category": "lab_requisition"})
    assert _refused(taken) == (409, "TEMPLATE_NAME_CONFLICT")
    assert "retired" in taken.json()["detail"]


def test_a_newer_version_refuses_nothing(author: Api) -> None:
    form = Form(author)
    first = form.published("1")
    form.save(_with_label("newer"))
    assert form.published("2")["id"] == form.show()["currentVersionId"]
    job = author.render(request_for(first["id"]))
    assert (job["status"], job["templateVersionId"]) == ("completed", first["id"])


def test_after_retirement_a_replay_is_answered_and_a_new_request_is_refused(author: Api) -> None:
    form = Form(author)
    version = form.published()
    request = request_for(version["id"])
    finished = author.render(request)
    assert author.post(f"{form.path}/retire").json()["status"] == "retired"
    assert author.post(f"{form.path}/retire").json()["status"] == "retired"
    replay = author.post(JOBS, json=request)
    assert (replay.status_code, replay.json()) == (200, finished)
    refused = author.post(JOBS, json=request_for(version["id"]))
    assert _refused(refused) == (409, "TEMPLATE_VERSION_RETIRED")
    assert refused.json()["currentVersionId"] is None
    assert author.content(finished["documentId"]).status_code == 200
    assert _refused(form.save(definition())) == (409, "TEMPLATE_STATE_CONFLICT")
    assert _refused(form.publish("again")) == (409, "TEMPLATE_STATE_CONFLICT")
    edit = author.patch(form.path, json={"name": "x"}, headers={"If-Match": "*"})
    assert _refused(edit) == (409, "TEMPLATE_STATE_CONFLICT")


def test_a_withdrawn_version_names_the_one_to_use_instead(author: Api) -> None:
    form = Form(author)
    dangerous = form.published("1")
    failed = author.wait(author.post(JOBS, json=request_for(dangerous["id"], patientId="nobody")).json()["id"])
    assert failed["status"] == "failed"
    stale = author.get(form.path).headers["etag"]
    form.save(_with_label("safe"))
    safe = form.published("2")
    path = f"{form.path}/versions/{dangerous['id']}"
    etag = author.get(path).headers["etag"]
    reason = {"reason": "prints the dose of another drug"}
    too_late = author.post(f"{path}/withdraw", json=reason, headers={"If-Match": stale})
    assert _refused(too_late) == (412, "PRECONDITION_FAILED")
    assert author.get(path).json()["withdrawn"] is None
    withdrawn = author.post(f"{path}/withdraw", json=reason).json()["withdrawn"]
    assert withdrawn["reason"] == reason["reason"]
    again = author.post(f"{path}/withdraw", json={"reason": "another reason"}).json()["withdrawn"]
    assert again == withdrawn
    assert author.get(path, headers={"If-None-Match": etag}).status_code == 200
    refused = author.post(JOBS, json=request_for(dangerous["id"]))
    assert _refused(refused) == (409, "TEMPLATE_VERSION_RETIRED")
    assert refused.json()["currentVersionId"] == safe["id"]
    refused = author.post(f"{JOBS}/{failed['id']}/retry")
    assert (*_refused(refused), refused.json()["currentVersionId"]) == (409, "TEMPLATE_VERSION_RETIRED", safe["id"])
    assert author.post(f"{form.path}/versions/{safe['id']}/withdraw", json=reason).status_code == 200
    refused = author.post(JOBS, json=request_for(dangerous["id"]))
    assert refused.json()["currentVersionId"] is None


def test_a_version_read_by_its_tag_is_told_the_new_name_of_its_form(author: Api) -> None:
    form = Form(author)
    path = f"{form.path}/versions/{form.published()['id']}"
    before = author.get(path)
    assert before.headers["cache-control"] == "private, no-cache"
    kept = {"If-None-Match": before.headers["etag"]}
    assert author.get(path, headers=kept).status_code == 304
    name = f"Renamed {form.id}"
    renamed = author.patch(form.path, json={"name": name}, headers={"If-Match": author.get(form.path).headers["etag"]})
    assert renamed.status_code == 200, renamed.text
    after = author.get(path, headers=kept)
    assert (after.status_code, after.json()["name"]) == (200, name)
    assert after.json()["definition"] == before.json()["definition"]


def test_a_draft_is_not_retired_and_a_version_is_withdrawn_with_a_reason(author: Api) -> None:
    form = Form(author)
    assert _refused(author.post(f"{form.path}/retire")) == (409, "TEMPLATE_STATE_CONFLICT")
    path = f"{form.path}/versions/{form.published()['id']}/withdraw"
    for body in ({}, {"reason": ""}, {"reason": "a\u0000"}):
        assert _refused(author.post(path, json=body)) == (400, "INVALID_REQUEST")


def test_a_job_in_the_queue_is_rendered_after_retirement_and_fails_after_withdrawal(
    service: Service, fhir_url: str
) -> None:
    host, _, path = fhir_url.removeprefix("http://").partition("/")
    with FaultProxy(f"http://{host}") as proxy:
        tenant = service.create_tenant(f"{proxy.url}/{path}")
        with service.caller(tenant) as caller:
            retired, withdrawn = Form(caller), Form(caller)
            versions = [retired.published(), withdrawn.published()]
            proxy.apply(Faults(network="refuse"))
            jobs = [caller.post(JOBS, json=request_for(version["id"])).json()["id"] for version in versions]
            # Their first attempt has failed and they wait in the queue: that is when the word comes.
            _wait_until(lambda: all(asyncio.run(_failures(service, job)) for job in jobs))
            assert caller.post(f"{retired.path}/retire").status_code == 200
            call = f"{withdrawn.path}/versions/{versions[1]['id']}/withdraw"
            assert caller.post(call, json={"reason": "dangerous"}).status_code == 200
            proxy.heal()
            first, second = (caller.wait(job) for job in jobs)
            assert first["status"] == "completed", first
            assert (second["status"], second["error"]["code"]) == ("failed", "TEMPLATE_VERSION_RETIRED")
            assert _refused(caller.post(f"{JOBS}/{second['id']}/retry")) == (409, "TEMPLATE_VERSION_RETIRED")


async def _failures(service: Service, job: str) -> int:
    async with connected(service, role=None) as connection:
        found: int = await connection.fetchval("SELECT transient_failures FROM document_render_jobs WHERE id = $1", job)
    return found


def _wait_until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_effective_dates_are_kept_by_server_time(service: Service, clinic: str, fhir_url: str, author: Api) -> None:
    now = datetime.now(UTC)
    early, over, inside = Form(author), Form(author), Form(author)
    tomorrow, yesterday = (now + timedelta(days=1)).isoformat(), (now - timedelta(days=1)).isoformat()
    coming = early.published("1", {"effectiveFrom": tomorrow})["id"]
    gone = over.published("1", {"effectiveTo": yesterday})["id"]
    valid = inside.published("1", {"effectiveFrom": yesterday, "effectiveTo": tomorrow})["id"]
    for version in (coming, gone):
        request = request_for(version, requestedAt=(now - timedelta(days=3)).isoformat())
        assert _refused(author.post(JOBS, json=request)) == (409, "TEMPLATE_VERSION_NOT_EFFECTIVE")
    assert author.post(JOBS, json=request_for(valid)).status_code == 202
    swapped = Form(author).publish("1", {"effectiveFrom": tomorrow, "effectiveTo": yesterday})
    assert _refused(swapped) == (400, "INVALID_REQUEST")
    assert swapped.json()["errors"][0]["pointer"] == "/effectiveTo"
    service.command("tenant", "create", clinic, "--allow-reprint")
    assert author.post(JOBS, json=request_for(gone)).status_code == 202
    assert _refused(author.post(JOBS, json=request_for(coming))) == (409, "TEMPLATE_VERSION_NOT_EFFECTIVE")


def test_a_platform_form_is_forked_and_never_edited(author: Api) -> None:
    platform = author.get(TEMPLATES, params={"origin": "platform"}).json()["items"][0]
    path = f"{TEMPLATES}/{platform['id']}"
    for answer in (
        author.patch(path, json={"name": "x"}, headers={"If-Match": "*"}),
        author.put(f"{path}/draft", json=definition()),
        author.post(f"{path}/publish", json={}, headers={"Idempotency-Key": "k"}),
        author.post(f"{path}/retire"),
        author.post(f"{path}/versions/{platform['currentVersionId']}/withdraw", json={"reason": "x"}),
    ):
        assert _refused(answer) == (403, "PLATFORM_TEMPLATE_IMMUTABLE")
    fork = author.post(f"{path}/fork", json={"name": "Our requisition"})
    assert fork.status_code == 201, fork.text
    ours = author.get(fork.headers["location"]).json()
    assert (ours["origin"], ours["forkedFromPlatformFormKey"]) == ("tenant", platform["platformFormKey"])
    versions = author.get(path).json()["versions"]
    current = next(version for version in versions if version["id"] == platform["currentVersionId"])
    assert ours["draft"] == current["definition"]
    assert _refused(author.post(f"{fork.headers['location']}/fork")) == (409, "TEMPLATE_STATE_CONFLICT")
    assert _refused(author.post(f"{path}/fork", json={"name": "Our requisition"})) == (409, "TEMPLATE_NAME_CONFLICT")


def test_the_catalogue_may_be_shown_stale_and_is_asked_for_cheaply(author: Api) -> None:
    listed = author.get(TEMPLATES)
    directives = listed.headers["cache-control"]
    assert directives.startswith("private, max-age=")
    assert "stale-while-revalidate=" in directives
    assert "Authorization" in listed.headers["vary"]
    etag = listed.headers["etag"]
    assert not etag.startswith("W/")
    unchanged = author.get(TEMPLATES, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    form = Form(author, saved=False)
    changed = author.get(TEMPLATES, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.json()["items"][0]["id"] == form.id
    shown = author.get(form.path)
    assert author.get(form.path, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
    assert (
        author.get(TEMPLATES, params={"limit": 1}, headers={"If-None-Match": changed.headers["etag"]}).status_code
        == 200
    )


def test_the_catalogue_pages_and_filters(author: Api) -> None:
    made = [Form(author, saved=False).id for _ in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = author.get(TEMPLATES, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert set(made) <= set(seen)
    drafts = author.get(TEMPLATES, params={"status": "draft", "limit": 100}).json()["items"]
    assert {item["status"] for item in drafts} == {"draft"}
    assert author.get(TEMPLATES, params={"category": "scanned_record"}).json()["items"] == []
    forms = author.get(TEMPLATES, params={"platformFormKey": "general-test-requisition"}).json()["items"]
    assert [item["origin"] for item in forms] == ["platform"]


@pytest.mark.parametrize("role", ["CLINICIAN", "AUDITOR", "TENANT_ADMIN"])
def test_only_an_author_writes(service: Service, clinic: str, role: str) -> None:
    with service.caller(clinic, user="other", roles=(role,)) as caller:
        answer = caller.post(TEMPLATES, json={"name": f"by {role}", "category": "letter"})
        assert _refused(answer) == (403, "FORBIDDEN")


def test_the_key_of_a_version_publishes_no_later_draft(author: Api) -> None:
    form = Form(author)
    before = author.get(form.path).headers["etag"]
    first = form.publish("once", **{"If-Match": before}).json()
    form.save(_with_label("The dose was wrong"))
    # A repeat of the first call is answered as it was, whatever came after; a call that means the new draft is not.
    assert form.publish("once", **{"If-Match": before}).json()["id"] == first["id"]
    now = author.get(form.path).headers["etag"]
    assert _refused(form.publish("once", **{"If-Match": now})) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert form.publish("twice", **{"If-Match": now}).json()["id"] != first["id"]


def test_whoever_makes_or_changes_a_form_is_in_the_trail(author: Api) -> None:
    form = Form(author)
    tag = author.get(form.path).headers["etag"]
    answer = author.patch(form.path, json={"name": "Another name"}, headers={"If-Match": tag})
    assert answer.status_code == 200, answer.text
    platform = author.get(TEMPLATES, params={"platformFormKey": "consent"}).json()["items"][0]["id"]
    copied = author.post(f"{TEMPLATES}/{platform}/fork", json={"name": "Our consent"}).json()["id"]
    events = author.get("/v1/audit-events", params={"action": "template.*", "limit": 100}).json()["items"]
    mine = [(event["action"], event["detail"]) for event in events if event["templateId"] == form.id]
    assert mine == [("template.edit", {"fields": ["name"]}), ("template.draft", {}), ("template.create", {})]
    assert "template.fork" in [event["action"] for event in events if event["templateId"] == copied]
