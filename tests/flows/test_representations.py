"""Every read in JSON has a strong entity tag and answers 304 to whoever has it (contract §2)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from document_service.api import outcomes
from running_service import EVERY_ROLE, Api, Service, request_for

#: Reads that need an id; the records' own tests try those.
LISTS = [
    path
    for method, path in outcomes.OUTCOMES
    if method == "GET" and "{" not in path and path.startswith("/v1/") and not path.endswith(("/logo", "/provenance"))
]


@pytest.fixture(scope="module")
def reader(service: Service, fhir_url: str) -> Iterator[Api]:
    with service.caller(service.create_tenant(fhir_url), "reader", roles=EVERY_ROLE) as caller:
        assert caller.render(request_for(caller.platform_version()))["status"] == "completed"
        yield caller


def test_there_are_lists_to_try() -> None:
    assert {"/v1/documents", "/v1/documents/render-jobs", "/v1/document-templates"} <= set(LISTS)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_list_that_has_not_changed_is_not_sent_again(reader: Api, path: str, coding: str) -> None:
    query = {"patientId": "demo-patient-noorzai"} if path == "/v1/documents" else {}
    headers = {"Accept-Encoding": coding}
    first = reader.get(path, params=query, headers=headers)
    assert first.status_code == 200, first.text
    etag = first.headers["etag"]
    assert etag.startswith('"')
    if path == "/v1/audit-events":
        # Reading the trail is an event of the trail: the list has changed by being read.
        return
    again = reader.get(path, params=query, headers={**headers, "If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = reader.get(path, params=query, headers={**headers, "If-None-Match": '"0123"'})
    assert (other.status_code, other.headers["etag"]) == (200, etag)


def test_the_compressed_form_has_a_tag_of_its_own(reader: Api) -> None:
    plain = reader.get("/v1/documents/render-jobs", headers={"Accept-Encoding": "identity"})
    packed = reader.get("/v1/documents/render-jobs", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["etag"] != packed.headers["etag"]
    assert plain.json() == packed.json()
    known = {"Accept-Encoding": "gzip", "If-None-Match": plain.headers["etag"]}
    assert reader.get("/v1/documents/render-jobs", headers=known).status_code == 304
