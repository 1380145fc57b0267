"""The catalogue on the device against the real service: one request without news, search, and what disappears."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from document_client import DocumentClient
from document_client.errors import TemplateNotInUse
from document_client.templates import Search
from requisition import definition
from running_service import Api, Service

TEMPLATES = "/v1/document-templates"


class Watched(httpx2.BaseTransport):
    """The real network, with a list of what was asked and how it was answered."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self._real = httpx2.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._real.handle_request(request)
        self.seen.append((f"{request.method} {request.url.path}", response.status_code))
        return response

    def close(self) -> None:
        self._real.close()


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@pytest.fixture(scope="module")
def api(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic) as caller:
        yield caller


@pytest.fixture
def network() -> Watched:
    return Watched()


@pytest.fixture
def client(service: Service, clinic: str, tmp_path: Path, network: Watched) -> Iterator[DocumentClient]:
    with DocumentClient(tmp_path / "home", passphrase="correct horse", transport=network) as made:
        made.login(service.url, service.token(clinic))
        made.templates()
        yield made


def _published(api: Api, name: str, category: str = "letter") -> tuple[str, str]:
    body = {"name": name, "category": category, "definition": definition()}
    path = f"{TEMPLATES}/{api.post(TEMPLATES, json=body).json()['id']}"
    answer = api.post(f"{path}/publish", headers={"Idempotency-Key": str(uuid.uuid4())})
    assert answer.status_code == 201, answer.text
    return path, answer.json()["id"]


def test_a_refresh_without_news_is_one_request_answered_by_304(client: DocumentClient, network: Watched) -> None:
    network.seen.clear()
    assert client.templates(refresh=True).freshness == "fresh"
    assert network.seen == [(f"GET {TEMPLATES}", 304)]


def test_the_catalogue_is_searched_by_name_category_and_language(client: DocumentClient) -> None:
    def names(*search: str | None) -> set[str]:
        return {one["name"] for one in client.templates(Search(*search)).items}

    assert len(names()) == 9
    assert names("label patient") == {"Patient Label Sheet"}
    assert names("REFERRAL") == {"Referral Letter"}
    assert names(None, "report") == {"Laboratory Report", "Immunization Card"}
    assert names("card", "report", "fa") == names("card", None, "fa-AF") == {"Immunization Card"}
    assert names(None, None, "de") == set()
    card = client.templates(Search("immunization-card")).items[0]
    assert card["unreviewedLocales"] == ["fa-AF", "ps-AF"]


def test_retired_and_withdrawn_forms_disappear_with_the_next_changes(client: DocumentClient, api: Api) -> None:
    kept, retired, withdrawn = (f"{kind} {uuid.uuid4()}" for kind in ("Kept", "Retired", "Withdrawn"))
    _published(api, kept)
    gone, _ = _published(api, retired)
    dangerous, version = _published(api, withdrawn)
    client.sync()
    assert {kept, retired, withdrawn} <= {one["name"] for one in client.templates().items}
    api.post(f"{gone}/retire")
    api.post(f"{dangerous}/versions/{version}/withdraw", json={"reason": "wrong dose"})
    client.sync()
    shown = {one["name"] for one in client.templates().items}
    assert kept in shown
    assert not {retired, withdrawn} & shown
    assert {retired, withdrawn} <= {one["name"] for one in client.templates(Search(everything=True)).items}
    for name in (retired, withdrawn):
        with pytest.raises(TemplateNotInUse):
            client.request(name, "demo-patient-noorzai")
