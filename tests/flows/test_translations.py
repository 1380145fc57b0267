"""Unreviewed translations: said in the catalogue, allowed by default, refused by a tenant's policy until accepted."""

from __future__ import annotations

import json

from document_service.definitions import unreviewed
from document_service.platform_forms import catalogue
from running_service import Api, Service, request_for


def test_a_new_tenant_may_use_them(api: Api) -> None:
    assert api.render(request_for(api.platform_version(), locale="fa-AF"))["status"] == "completed"


def test_the_list_names_them_of_each_platform_form_and_of_no_other(api: Api) -> None:
    assert api.post("/v1/document-templates", json={"name": "Own", "category": "other"}).status_code == 201
    listed = api.get("/v1/document-templates", params={"limit": 100}).json()["items"]
    shipped = {form.key: form for form in catalogue()}
    assert {one["platformFormKey"] for one in listed} >= set(shipped)
    for one in listed:
        form = shipped.get(one["platformFormKey"])
        assert one["unreviewedLocales"] == (list(unreviewed(json.loads(form.definition))) if form else [])
    # Nothing would be shown by a list that is empty everywhere; the words of this form await a native speaker.
    assert ["fa-AF", "ps-AF"] in [one["unreviewedLocales"] for one in listed]


def test_the_policy_refuses_them_until_an_administrator_answers(service: Service, fhir_url: str) -> None:
    tenant = service.create_tenant(fhir_url, "--require-reviewed-translations")
    with service.caller(tenant) as caller:
        version = caller.platform_version()
        template = caller.get("/v1/document-templates", params={"platformFormKey": "general-test-requisition"}).json()
        route = f"/v1/document-templates/{template['items'][0]['id']}"
        request = request_for(version, locale="fa-AF")
        refused = caller.post("/v1/documents/render-jobs", json=request)
        assert (refused.status_code, refused.json()["code"]) == (409, "TRANSLATION_NOT_ACCEPTED")
        assert caller.post("/v1/documents/render-jobs", json=request_for(version)).status_code == 202
        before = caller.get(route)
        states = {one["locale"]: one for one in before.json()["versions"][0]["translations"]}
        assert states["en"]["reviewed"]
        assert (states["fa-AF"]["reviewed"], states["fa-AF"]["accepted"]) == (False, False)
        with service.caller(tenant, roles=("DOCUMENT_AUTHOR", "CLINICIAN")) as author:
            assert author.post(f"{route}/accept-translation", json={"locale": "fa-AF"}).status_code == 403
        for _ in range(2):
            accepted = caller.post(f"{route}/accept-translation", json={"locale": "fa-AF"})
            assert accepted.status_code == 200, accepted.text
        assert caller.get(route, headers={"If-None-Match": before.headers["etag"]}).status_code == 200
        # The refusal did not consume the id.
        assert caller.post("/v1/documents/render-jobs", json=request).status_code == 202
        still = caller.post("/v1/documents/render-jobs", json=request_for(version, locale="ps-AF"))
        assert still.json()["code"] == "TRANSLATION_NOT_ACCEPTED"


def test_only_platform_forms_are_accepted(api: Api) -> None:
    made = api.post("/v1/document-templates", json={"name": "Ours", "category": "letter"}).json()["id"]
    answer = api.post(f"/v1/document-templates/{made}/accept-translation", json={"locale": "fa-AF"})
    assert (answer.status_code, answer.json()["code"]) == (409, "TEMPLATE_STATE_CONFLICT")
