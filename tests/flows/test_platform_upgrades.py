"""Upgrades of the product add versions of its forms: a tenant follows or pins, and a fork sees what it lacks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from document_service import templates
from document_service.definitions import canonical_json, read_json
from document_service.platform_forms import catalogue
from raw_database import connected
from requisition import definition
from running_service import Api, Service, request_for

TEMPLATES = "/v1/document-templates"
JOBS = "/v1/documents/render-jobs"
KEY = "sick-leave-certificate"


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@pytest.fixture(scope="module")
def api(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic) as caller:
        yield caller


def _listed(caller: Api, key: str = KEY) -> dict[str, Any]:
    found: dict[str, Any] = caller.get(TEMPLATES, params={"platformFormKey": key}).json()["items"][0]
    return found


async def _upgrade(service: Service, semver: str, title: str) -> dict[str, Any]:
    """Do what the start of a newer product does: ship the next version of one form."""
    form = next(form for form in catalogue() if form.key == KEY)
    content: dict[str, Any] = read_json(form.definition)
    content["labels"]["en"]["title"] = title
    async with connected(service, None) as connection, connection.transaction():
        new = await templates.install_platform_form(
            connection,
            key=KEY,
            name=form.name,
            category=form.category,
            semver=semver,
            definition=canonical_json(content),
        )
    assert new
    return content


async def test_a_tenant_follows_upgrades_or_pins_and_a_fork_is_told(
    service: Service, fhir_url: str, api: Api, clinic: str
) -> None:
    first = _listed(api)
    path = f"{TEMPLATES}/{first['id']}"
    fork = api.post(f"{path}/fork", json={"name": "Our certificate"}).json()
    told = api.get(f"{TEMPLATES}/{fork['id']}/origin").json()
    assert (told["upToDate"], told["differences"]) == (True, [])
    assert told["forkedFrom"] == told["newest"] == {"versionId": first["currentVersionId"], "semver": "1.0.0"}

    # Another tenant pins before the upgrade; this one follows.
    with service.caller(service.create_tenant(fhir_url)) as other:
        pinned = other.put(f"{path}/pin", json={"versionId": first["currentVersionId"]})
        assert pinned.status_code == 200, pinned.text
        assert pinned.json()["pinnedVersionId"] == first["currentVersionId"]
        cursor = other.get("/v1/documents/changes").json()["cursor"]
        etag = other.get(TEMPLATES).headers["etag"]

        await _upgrade(service, "1.1.0", "Certificate of sick leave")
        newest = _listed(api)
        assert newest["currentVersionId"] != first["currentVersionId"]
        assert newest["pinnedVersionId"] is None
        assert _listed(other)["currentVersionId"] == first["currentVersionId"]
        fed = other.get("/v1/documents/changes", params={"cursor": cursor}).json()["templates"]
        assert [one["currentVersionId"] for one in fed if one["id"] == first["id"]] == [first["currentVersionId"]]

        # Both versions render for both; the old one is not forced away.
        for caller in (api, other):
            shown = caller.get(path).json()
            assert [one["semver"] for one in shown["versions"]] == ["1.1.0", "1.0.0"]
            for version in shown["versions"]:
                wanted = {"from": "2026-01-01", "until": "2026-01-02"}
                body = request_for(version["id"], inputs=wanted)
                assert caller.post(JOBS, json=body).status_code == 202

        followed = other.delete(f"{path}/pin")
        assert followed.json()["currentVersionId"] == newest["currentVersionId"]
        assert other.get(TEMPLATES, headers={"If-None-Match": etag}).status_code == 200
        assert _listed(other)["pinnedVersionId"] is None

    told = api.get(f"{TEMPLATES}/{fork['id']}/origin").json()
    assert told["upToDate"] is False
    assert told["newest"]["semver"] == "1.1.0"
    assert told["differences"] == [
        {
            "pointer": "/labels/en/title",
            "kind": "different",
            "by": "platform",
            "fork": "Sick-leave certificate",
            "platform": "Certificate of sick leave",
        }
    ]
    printed = service.command("template", "diff", fork["id"], "--tenant", clinic)
    assert "/labels/en/title: different (by platform)" in printed
    assert "forked from Sick-Leave Certificate 1.0.0; newest is 1.1.0" in printed
    assert json.loads(service.command("template", "diff", fork["id"], "--tenant", clinic, "--json"))[0]["fork"]


def test_a_pin_names_a_version_of_that_form(api: Api) -> None:
    certificate, card = _listed(api), _listed(api, "immunization-card")
    path = f"{TEMPLATES}/{certificate['id']}/pin"
    wrong = api.put(path, json={"versionId": card["currentVersionId"]})
    assert (wrong.status_code, wrong.json()["code"]) == (404, "NOT_FOUND")
    assert api.put(path, json={"versionId": "tv_none"}).status_code == 404
    assert api.put(path, json={}).status_code == 400
    assert api.put(path, json={"versionId": "tv_\x00"}).status_code == 400
    assert api.delete(path).status_code == 200
    own = api.post(TEMPLATES, json={"name": f"Form {uuid.uuid4()}", "category": "other"}).json()
    refused = api.get(f"{TEMPLATES}/{own['id']}/origin")
    assert (refused.status_code, refused.json()["code"]) == (409, "TEMPLATE_STATE_CONFLICT")


def test_an_operator_pins_as_the_route_does(service: Service, fhir_url: str) -> None:
    tenant = service.create_tenant(fhir_url)
    form = "patient-label-sheet"
    with service.caller(tenant) as caller:
        version = _listed(caller, form)["currentVersionId"]
        for _ in range(2):
            told = service.command("template", "pin", form, "--tenant", tenant, "--version", "1.0.0")
            assert told == f"{tenant} stays with Patient Label Sheet 1.0.0\n"
        assert _listed(caller, form)["pinnedVersionId"] == version
        fed = caller.get("/v1/documents/changes").json()["templates"]
        assert version in [one["pinnedVersionId"] for one in fed]
        told = service.command("template", "unpin", _listed(caller, form)["id"], "--tenant", tenant)
        assert told == f"{tenant} follows Patient Label Sheet; now 1.0.0\n"
        assert _listed(caller, form)["pinnedVersionId"] is None
        # What changed nothing is not in the trail; what did is there once, with the route's own words.
        acts = caller.get("/v1/audit-events", params={"action": "template.*"}).json()["items"]
        assert [(act["action"], act["actor"]) for act in acts] == [
            ("template.follow", "operator"),
            ("template.pin", "operator"),
        ]
        assert acts[1]["detail"] == {"versionId": version}
        own = caller.post(TEMPLATES, json={"name": "Own", "category": "other"}).json()["id"]
    for wrong in (
        ("pin", form, "--tenant", tenant, "--version", "9.0.0"),
        ("pin", "no-such-form", "--tenant", tenant, "--version", "1.0.0"),
        ("pin", form, "--tenant", "nobody", "--version", "1.0.0"),
        ("unpin", own, "--tenant", tenant),
    ):
        with pytest.raises(AssertionError, match="exit 64"):
            service.command("template", *wrong)


async def test_a_version_for_a_later_day_waits_while_the_one_before_it_serves(service: Service, api: Api) -> None:
    body = {"name": f"Form {uuid.uuid4()}", "category": "other", "definition": definition()}
    path = f"{TEMPLATES}/{api.post(TEMPLATES, json=body).json()['id']}"

    def publish(**wanted: Any) -> str:
        api.put(f"{path}/draft", json=definition())
        answer = api.post(f"{path}/publish", json=wanted, headers={"Idempotency-Key": str(uuid.uuid4())})
        assert answer.status_code == 201, answer.text
        version: str = answer.json()["id"]
        return version

    first = publish()
    soon = datetime.now(UTC) + timedelta(hours=1)
    second = publish(effectiveFrom=soon.isoformat())
    shown = api.get(path).json()
    assert (shown["currentVersionId"], [one["semver"] for one in shown["versions"]]) == (first, ["1.0.1", "1.0.0"])
    assert api.post(JOBS, json=request_for(first)).status_code == 202
    early = api.post(JOBS, json=request_for(second))
    assert (early.status_code, early.json()["code"]) == (409, "TEMPLATE_VERSION_NOT_EFFECTIVE")

    # Its day comes: the column that no role may change is moved by the owner with the trigger out of the way.
    cursor = api.get("/v1/documents/changes").json()["cursor"]
    async with connected(service, None) as connection, connection.transaction():
        await connection.execute("ALTER TABLE document.template_versions DISABLE TRIGGER immutable")
        await connection.execute(
            "UPDATE document.template_versions SET effective_from = now() - interval '1 s' WHERE id = $1", second
        )
        await connection.execute("ALTER TABLE document.template_versions ENABLE TRIGGER immutable")
        assert await connection.fetchval("SELECT document.promote_due_versions()") >= 1
        assert await connection.fetchval("SELECT document.promote_due_versions()") == 0
    assert api.get(path).json()["currentVersionId"] == second
    fed = api.get("/v1/documents/changes", params={"cursor": cursor}).json()["templates"]
    assert [one["currentVersionId"] for one in fed if path.endswith(one["id"])] == [second]
    assert api.post(JOBS, json=request_for(second)).status_code == 202

    # One that waits does not come back over a newer one.
    publish(effectiveFrom=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    third = publish()
    assert api.get(path).json()["currentVersionId"] == third
