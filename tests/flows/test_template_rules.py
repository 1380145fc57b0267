"""Every state × role × action of a template is answered as docs/templates.md says: both come from one table."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from document_service.api.template_rules import ACTIONS, ROLES, STATES, Action, markdown
from requisition import definition
from running_service import Api, Service, request_for

TEMPLATES = "/v1/document-templates"


@pytest.fixture(scope="module")
def tenant(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@pytest.fixture(scope="module")
def api(service: Service, tenant: str) -> Iterator[Api]:
    with service.caller(tenant) as caller:
        yield caller


@pytest.fixture(scope="module")
def by_role(service: Service, tenant: str) -> Iterator[dict[str, Api]]:
    """A caller who holds one role alone, for each; the same user, so that drafts are nobody else's."""
    callers = {role: service.caller(tenant, roles=(role,)) for role in ROLES}
    yield callers
    for caller in callers.values():
        caller.close()


def _in_state(api: Api, state: str) -> tuple[str, str]:
    """A fresh template in a state (the platform's is shared); its id and a version's, made up where there is none."""
    if state == "platform":
        found = api.get(TEMPLATES, params={"platformFormKey": "general-test-requisition"}).json()["items"][0]
        return found["id"], found["currentVersionId"]
    body = {"name": f"Form {uuid.uuid4()}", "category": "other", "definition": definition()}
    template = api.post(TEMPLATES, json=body).json()["id"]
    if state == "draft":
        return template, "tv_00000000000000000000000000"
    key = {"Idempotency-Key": str(uuid.uuid4())}
    version = api.post(f"{TEMPLATES}/{template}/publish", headers=key).json()["id"]
    if state == "next draft":
        assert api.put(f"{TEMPLATES}/{template}/draft", json=definition()).status_code == 200
    elif state == "retired":
        assert api.post(f"{TEMPLATES}/{template}/retire").status_code == 200
    return template, version


def _send(caller: Api, action: Action, template: str, version: str) -> str:
    """Send the action's request; its answer as the table writes it."""
    bodies: dict[str, Any] = {
        "edit name, category, facility": {"name": f"Renamed {uuid.uuid4()}"},
        "save a draft": definition(),
        "fork": {"name": f"Fork {uuid.uuid4()}"},
        "withdraw a version": {"reason": "wrong dose"},
        "accept a translation": {"locale": "fa-AF"},
        "pin to a version": {"versionId": version},
        "request a render": request_for(version),
    }
    path = action.path.format(id=template, version=version)
    answer = caller.request(
        action.method,
        path if path.startswith("/v1") else TEMPLATES + path,
        json=bodies.get(action.name),
        headers={"If-Match": "*", "Idempotency-Key": str(uuid.uuid4())} if action.name != "request a render" else {},
    )
    code = answer.json()["code"] if answer.status_code >= 400 else ""
    return f"{answer.status_code} {code}".strip()


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name.replace(" ", "-"))
def test_who_may_do_what_when(api: Api, by_role: dict[str, Api], action: Action) -> None:
    answered = {}
    for state in STATES:
        template, version = _in_state(api, state)
        # Those who may not go first: they change nothing.
        for role in sorted(ROLES, key=lambda role: role in action.roles):
            expected = action.answers[state] if role in action.roles else "403 FORBIDDEN"
            answered[state, role] = (_send(by_role[role], action, template, version), expected)
    assert {where: told for where, (told, expected) in answered.items() if told != expected} == {}


def test_what_one_may_not_see_is_not_there(service: Service, fhir_url: str, api: Api, tenant: str) -> None:
    template, version = _in_state(api, "published")
    body = {"name": f"Form {uuid.uuid4()}", "category": "other", "facilityId": "ward-1", "definition": definition()}
    hidden = api.post(TEMPLATES, json=body).json()["id"]
    with (
        service.caller(service.create_tenant(fhir_url)) as stranger,
        service.caller(tenant, facilities=("ward-2",)) as colleague,
    ):
        for action in ACTIONS:
            assert _send(stranger, action, template, version) == "404 NOT_FOUND", action.name
            if "{version}" not in action.path and action.name != "request a render":
                assert _send(colleague, action, hidden, version) == "404 NOT_FOUND", action.name


def test_the_table_is_the_document_s() -> None:
    from pathlib import Path

    document = Path(__file__).parents[2] / "docs" / "templates.md"
    assert markdown() in document.read_text(encoding="utf-8")
