"""Publishing tries the form out first: every fault at once, hostile forms bounded, one version for many publishers."""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from running_service import Api, Service, request_for

FORM: dict[str, Any] = {
    "language": 1,
    "locales": ["en", "ps-AF"],
    "labels": {
        "en": {"title": "Sick leave", "name": "Name", "from": "Valid from"},
        "ps-AF": {"title": "د ناروغۍ رخصتي", "name": "نوم", "from": "له نېټې"},
    },
    "inputs": {
        "type": "object",
        "additionalProperties": False,
        "required": ["from"],
        "properties": {"from": {"type": "string", "format": "date"}},
    },
    "context": {"patient": {"read": "Patient"}},
    "bindings": {
        "name": {"path": "%patient.name.where(use = 'official').first()", "type": "humanName", "required": True},
        "from": {"input": "from", "type": "date", "required": True},
    },
    "sections": [
        {"type": "header"},
        {"type": "fieldGrid", "fields": [{"label": "name", "value": "name"}, {"label": "from", "value": "from"}]},
    ],
}


@pytest.fixture(scope="module")
def tenant(service: Service, fhir_url: str) -> str:
    """One tenant for the module; every test has templates of its own."""
    return service.create_tenant(fhir_url)


@pytest.fixture(scope="module")
def api(service: Service, tenant: str) -> Iterator[Api]:
    """A caller with every role in that tenant."""
    with service.caller(tenant) as caller:
        yield caller


def changed(**changes: Any) -> dict[str, Any]:
    """The form of these tests with members replaced."""
    return copy.deepcopy({**FORM, **changes})


def draft(api: Api, form: dict[str, Any]) -> str:
    """Save a draft under a name of its own; its id."""
    body = {"name": f"Sick leave {uuid.uuid4()}", "category": "other", "definition": form}
    made = api.post("/v1/document-templates", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def publish(api: Api, template: str, key: str | None = None, **wanted: Any) -> Any:
    """Publish under a key; the answer."""
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    return api.post(f"/v1/document-templates/{template}/publish", json=wanted, headers=headers)


def found(answer: Any) -> set[tuple[str, str]]:
    """Pointer and code of everything that a refused publish names."""
    assert (answer.status_code, answer.json()["code"]) == (422, "DEFINITION_INVALID"), answer.text
    return {(problem["pointer"], problem["code"]) for problem in answer.json()["errors"]}


def test_a_good_form_is_published_and_used(api: Api) -> None:
    answer = publish(api, draft(api, FORM))
    assert (answer.status_code, answer.headers["x-trial-warnings"]) == (201, "0")
    request = request_for(answer.json()["id"], inputs={"from": "2026-09-14"}, locale="ps-AF")
    assert api.render(request)["status"] == "completed"


def test_everything_that_only_a_page_shows_is_named_at_once(api: Api) -> None:
    broken = changed()
    broken["labels"]["ps-AF"]["name"] = "نوم 医"
    broken["labels"]["en"]["from"] = "Otorhinolaryngologischgastroenterologischelektrokardiographisch"
    broken["sections"][1]["columns"] = 4
    broken["bindings"]["born"] = {"path": "%patient.name.first()", "type": "date"}
    broken["bindings"]["all"] = {"path": "%patient.identifier.value", "type": "text"}
    broken["context"]["first"] = {"read": "Organization", "reference": "second.partOf"}
    broken["context"]["second"] = {"read": "Organization", "reference": "first.partOf"}
    assert found(publish(api, draft(api, broken))) == {
        ("/labels/ps-AF/name", "GLYPH_MISSING"),
        ("/sections/1/fields/1/label", "OVERFLOW"),
        ("/bindings/born/path", "BINDING_FAILED"),
        ("/bindings/all/path", "BINDING_FAILED"),
        ("/context/first/reference", "BINDING_FAILED"),
        ("/context/second/reference", "BINDING_FAILED"),
    }


def test_what_only_the_made_up_patient_lacks_does_not_keep_a_form_from_use(api: Api) -> None:
    form = changed()
    form["bindings"]["photo"] = {"path": "%patient.photo.title", "type": "text", "required": True}
    form["sections"][1]["fields"].append({"label": "name", "value": "photo"})
    answer = publish(api, draft(api, form))
    assert answer.status_code == 201
    assert answer.headers["x-trial-warnings"] == "1"
    job = api.render(request_for(answer.json()["id"], inputs={"from": "2026-09-14"}))
    assert (job["status"], job["error"]["code"]) == ("failed", "BINDING_REQUIRED")


def test_inputs_that_only_their_author_can_make_up(api: Api) -> None:
    form = changed()
    form["inputs"]["properties"]["from"] = {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}
    form["bindings"]["from"]["type"] = "text"
    assert publish(api, draft(api, form)).headers["x-trial-warnings"] == "1"
    form["inputs"]["properties"]["from"]["examples"] = ["AB-1234"]
    assert publish(api, draft(api, form)).headers["x-trial-warnings"] == "0"
    form["inputs"]["properties"]["from"] = {"type": "string", "minLength": 5, "maxLength": 3}
    assert ("/inputs", "INPUTS_UNSATISFIABLE") in found(publish(api, draft(api, form)))


def test_a_form_that_never_ends_is_refused_and_nobody_waits_for_it(api: Api) -> None:
    hostile = changed()
    path = "%patient.name.given" + ".select($this | $this)" * 60
    hostile["bindings"]["slow"] = {"path": path, "type": "text", "join": "comma"}
    hostile["sections"][1]["fields"].append({"label": "name", "value": "slow"})
    template = draft(api, hostile)
    version = publish(api, draft(api, FORM)).json()["id"]
    refused: list[Any] = []
    publishing = threading.Thread(target=lambda: refused.append(publish(api, template)))
    publishing.start()
    began = time.monotonic()
    job = api.render(request_for(version, inputs={"from": "2026-09-14"}))
    waited = time.monotonic() - began
    publishing.join(60)
    assert job["status"] == "completed"
    assert waited < 10
    assert found(refused[0])


def test_concurrent_publishers_of_one_draft(service: Service, tenant: str, api: Api) -> None:
    template = draft(api, FORM)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: publish(api, template), range(6)))
    assert sorted(answer.status_code for answer in answers)[0] == 201
    assert {answer.status_code for answer in answers[1:]} <= {201, 409, 412}
    assert [answer.status_code for answer in answers].count(201) == 1
    versions = api.get(f"/v1/document-templates/{template}").json()["versions"]
    assert [version["semver"] for version in versions] == ["1.0.0"]
    key = next(index for index, answer in enumerate(answers) if answer.status_code == 201)
    assert answers[key].json()["id"] == versions[0]["id"]


def test_the_same_key_is_the_same_version(api: Api) -> None:
    template, key = draft(api, FORM), str(uuid.uuid4())
    first, again = publish(api, template, key), publish(api, template, key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]


def test_the_number_follows_from_what_changed(api: Api) -> None:
    template = draft(api, FORM)
    form = changed()
    numbers = [publish(api, template).json()["semver"]]

    def next_one(**wanted: Any) -> str:
        etag = api.get(f"/v1/document-templates/{template}").headers["etag"]
        saved = api.put(f"/v1/document-templates/{template}/draft", json=form, headers={"If-Match": etag})
        assert saved.json()["problems"] == []
        answer = publish(api, template, **wanted)
        return str(answer.json().get("semver") or answer.json()["code"])

    form["labels"]["en"]["title"] = "Sick-leave certificate"
    numbers.append(next_one())
    form["page"] = {"size": "A5"}
    numbers.append(next_one())
    form["inputs"]["properties"]["to"] = {"type": "string", "format": "date"}
    numbers.append(next_one())
    numbers.append(next_one(semver="1.9.0"))
    numbers.append(next_one(semver="4.0.0"))
    assert numbers == ["1.0.0", "1.0.1", "1.1.0", "2.0.0", "TEMPLATE_STATE_CONFLICT", "4.0.0"]


def test_effective_dates_and_the_reprint_policy(service: Service, fhir_url: str) -> None:
    now = datetime.now(UTC)
    past, soon = (now - timedelta(days=2)).isoformat(), (now + timedelta(days=2)).isoformat()
    with service.caller(service.create_tenant(fhir_url)) as strict:
        late = publish(
            strict, draft(strict, FORM), effectiveFrom=past, effectiveTo=(now - timedelta(days=1)).isoformat()
        )
        early = publish(strict, draft(strict, FORM), effectiveFrom=soon)
        for version in (late, early):
            request = request_for(version.json()["id"], inputs={"from": "2026-09-14"})
            answer = strict.post("/v1/documents/render-jobs", json=request)
            assert (answer.status_code, answer.json()["code"]) == (409, "TEMPLATE_VERSION_NOT_EFFECTIVE")
        backwards = publish(strict, draft(strict, FORM), effectiveFrom=soon, effectiveTo=past)
        assert (backwards.status_code, backwards.json()["errors"][0]["pointer"]) == (400, "/effectiveTo")
    with service.caller(service.create_tenant(fhir_url, "--allow-reprint")) as lenient:
        late = publish(
            lenient, draft(lenient, FORM), effectiveFrom=past, effectiveTo=(now - timedelta(days=1)).isoformat()
        )
        early = publish(lenient, draft(lenient, FORM), effectiveFrom=soon)
        request = request_for(late.json()["id"], inputs={"from": "2026-09-14"})
        assert lenient.post("/v1/documents/render-jobs", json=request).status_code == 202
        request = request_for(early.json()["id"], inputs={"from": "2026-09-14"})
        assert lenient.post("/v1/documents/render-jobs", json=request).status_code == 409


def test_a_colleague_s_draft_is_overwritten_only_by_who_has_read_it(service: Service, tenant: str, api: Api) -> None:
    template = draft(api, FORM)
    route = f"/v1/document-templates/{template}/draft"
    assert api.put(route, json=FORM).status_code == 200
    with service.caller(tenant, user="colleague") as colleague:
        answer = colleague.put(route, json=FORM)
        assert (answer.status_code, answer.json()["code"]) == (428, "PRECONDITION_REQUIRED")
        etag = colleague.get(f"/v1/document-templates/{template}").headers["etag"]
        assert colleague.put(route, json=FORM, headers={"If-Match": etag}).status_code == 200
        assert api.put(route, json=FORM, headers={"If-Match": etag}).status_code == 412


def test_a_form_is_given_only_to_a_facility_of_its_author(service: Service, tenant: str) -> None:
    with service.caller(tenant, facilities=("ward-1",)) as author:
        for facility, status in (("ward-1", 201), ("ward-2", 403)):
            body = {"name": f"Form {uuid.uuid4()}", "category": "other", "facilityId": facility}
            assert author.post("/v1/document-templates", json=body).status_code == status
        mine = author.post(
            "/v1/document-templates", json={"name": f"Form {uuid.uuid4()}", "category": "other", "facilityId": "ward-1"}
        )
        moved = author.patch(
            f"/v1/document-templates/{mine.json()['id']}",
            json={"facilityId": "ward-2"},
            headers={"If-Match": mine.headers["etag"]},
        )
        assert moved.status_code == 403
    with service.caller(tenant, facilities=("ward-2",)) as stranger:
        assert stranger.get(f"/v1/document-templates/{mine.json()['id']}").status_code == 404


def test_an_api_without_workers_tries_forms_out_too(service: Service, fhir_url: str, tmp_path_factory: Any) -> None:
    alone = Service(tmp_path_factory.mktemp("alone") / "data").start("--no-worker")
    try:
        with alone.caller(alone.create_tenant(fhir_url)) as caller:
            assert publish(caller, draft(caller, FORM)).status_code == 201
            shown = caller.post(f"/v1/document-templates/{draft(caller, FORM)}/preview")
            assert shown.content.startswith(b"%PDF-")
    finally:
        alone.stop()
