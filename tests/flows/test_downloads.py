"""The bytes by signed URL: only as signed, whole or in parts, and never a byte that fails its integrity check."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from document_service.identifiers import new
from document_service.keys import KeyStore
from document_service.signing import UrlSigner
from raw_database import connected
from running_service import Api, Service, request_for


@dataclass(frozen=True)
class Made:
    """A rendered document, its metadata and a signed URL."""

    tenant: str
    id: str
    size: int
    sha256: str
    url: str
    bytes: bytes


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@pytest.fixture
def caller(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic) as api:
        yield api


@pytest.fixture(scope="module")
def made(service: Service, clinic: str) -> Made:
    with service.caller(clinic) as api:
        return _make(service, clinic, api)


def _make(service: Service, tenant: str, api: Api) -> Made:
    job = api.render(request_for(api.platform_version()))
    assert job["status"] == "completed", job
    document = api.get(f"/v1/documents/{job['documentId']}").json()
    url = service.url + _signed(api, document["id"])
    return Made(tenant, document["id"], document["size"], document["sha256"], url, httpx2.get(url).content)


def _signed(api: Api, document: str, **query: str) -> str:
    answer = api.post(f"/v1/documents/{document}/download-url", params=query)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


def _problem(answer: httpx2.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["code"] == code
    assert len(answer.content) < 600


# --- The signature ------------------------------------------------------------------------------------------------


def test_the_link_lives_for_fifteen_minutes_and_needs_no_token(caller: Api, made: Made) -> None:
    answer = caller.post(f"/v1/documents/{made.id}/download-url").json()
    left = datetime.fromisoformat(answer["expiresAt"]).timestamp() - time.time()
    assert 890 < left <= 901
    assert int(parse_qs(urlsplit(answer["url"]).query)["expires"][0]) - time.time() == pytest.approx(left, abs=2)
    assert "demo-patient" not in answer["url"]
    assert httpx2.get(made.url).status_code == 200


@pytest.mark.parametrize(
    "alter",
    [
        lambda url: re.sub(r"signature=(.)", lambda m: f"signature={'A' if m[1] != 'A' else 'B'}", url),
        lambda url: re.sub(r"expires=(\d+)", lambda m: f"expires={int(m[1]) + 1}", url),
        lambda url: url.replace("attachment", "inline"),
        lambda url: re.sub(r"tenant=[^&]+", "tenant=another", url),
        lambda url: re.sub(r"/doc_\w+/", f"/{new('document')}/", url),
        lambda url: url + "&more=1",
        lambda url: url + "&tenant=x",
        lambda url: re.sub(r"&?signature=[^&]+", "", url),
        lambda url: url.partition("?")[0],
        lambda url: url.replace("expires=", "expires=0"),
        lambda url: re.sub(r"signature=.*", "signature=" + "%00" * 20, url),
        lambda url: re.sub(r"signature=.*", "signature=" + "x" * 5000, url),
    ],
    ids=[
        "signature", "later", "disposition", "tenant", "document", "more", "twice", "unsigned", "bare", "spelling",
        "nul", "long",
    ],
)  # fmt: skip
def test_an_altered_link_opens_nothing(made: Made, alter) -> None:  # type: ignore[no-untyped-def]
    forged = alter(made.url)
    assert forged != made.url
    _problem(httpx2.get(forged), 403, "SIGNATURE_INVALID")
    assert httpx2.head(forged).content == b""


def test_an_expired_link_opens_nothing(service: Service, made: Made) -> None:
    signer = UrlSigner(KeyStore.open(service.data_dir / "keys"), clock=lambda: time.time() - 901)
    query = signer.sign(made.tenant, made.id, "attachment", 900)
    _problem(httpx2.get(f"{service.url}/v1/documents/{made.id}/content?{query}"), 403, "SIGNATURE_EXPIRED")


def test_every_link_and_every_download_is_audited(service: Service, caller: Api, clinic: str) -> None:
    made = _make(service, clinic, caller)
    httpx2.head(made.url)
    actions = asyncio.run(_actions(service, made.id))
    assert actions == ["document.generate", "document.view", "document.download-url", "document.download"]


def test_a_link_signed_for_another_tenant_opens_nothing(service: Service, fhir_url: str, made: Made) -> None:
    signer = UrlSigner(KeyStore.open(service.data_dir / "keys"))
    other = service.create_tenant(fhir_url)
    query = signer.sign(other, made.id, "attachment", 900)
    with service.caller(other) as stranger:
        _problem(httpx2.get(f"{service.url}/v1/documents/{made.id}/content?{query}"), 403, "SIGNATURE_INVALID")
        _problem(stranger.post(f"/v1/documents/{made.id}/download-url"), 404, "NOT_FOUND")
    # The signature of one tenant is worth nothing beside the name of another.
    _problem(httpx2.get(made.url.replace(made.tenant, other)), 403, "SIGNATURE_INVALID")


def test_a_download_that_was_cut_goes_on_by_a_fresh_link_after_its_own_expired(
    service: Service, caller: Api, made: Made
) -> None:
    signer = UrlSigner(KeyStore.open(service.data_dir / "keys"), clock=lambda: time.time() - 899)
    link = f"{service.url}/v1/documents/{made.id}/content?{signer.sign(made.tenant, made.id, 'attachment', 900)}"
    first = httpx2.get(link, headers={"Range": "bytes=0-9999"}).content
    time.sleep(2)
    rest = {"Range": "bytes=10000-", "If-Range": f'"{made.sha256}"'}
    _problem(httpx2.get(link, headers=rest), 403, "SIGNATURE_EXPIRED")
    answer = httpx2.get(service.url + _signed(caller, made.id), headers=rest)
    assert answer.status_code == 206
    assert hashlib.sha256(first + answer.content).hexdigest() == made.sha256


async def _actions(service: Service, document: str) -> list[str]:
    async with connected(service, role=None) as connection:
        rows = await connection.fetch(
            "SELECT action FROM audit_events WHERE document_id = $1 ORDER BY xid, seq", document
        )
    return [row["action"] for row in rows]


# --- The bytes ----------------------------------------------------------------------------------------------------


def test_the_whole_is_what_was_recorded(made: Made) -> None:
    answer = httpx2.get(made.url)
    assert (answer.status_code, len(answer.content)) == (200, made.size)
    assert hashlib.sha256(answer.content).hexdigest() == made.sha256
    assert answer.headers["etag"] == f'"{made.sha256}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-length"] == str(made.size)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r'attachment; filename="[0-9-]+\.pdf"', answer.headers["content-disposition"])


def test_the_disposition_is_as_asked(service: Service, caller: Api, made: Made) -> None:
    answer = httpx2.get(service.url + _signed(caller, made.id, disposition="inline"))
    assert answer.headers["content-disposition"].startswith("inline;")
    _problem(caller.post(f"/v1/documents/{made.id}/download-url", params={"disposition": "x"}), 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("asked", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=1000-1999", 1000, 1000),
        ("bytes=5000-", 5000, None),
        ("bytes=-100", -100, 100),
        ("bytes=0-999999999", 0, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_a_range_is_a_part_of_the_whole(made: Made, asked: str, start: int, length: int | None) -> None:
    first = start if start >= 0 else made.size + start
    expected = made.bytes[first:] if length is None else made.bytes[first : first + length]
    answer = httpx2.get(made.url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{made.size}"
    assert answer.headers["etag"] == f'"{made.sha256}"'


def test_pieces_make_the_whole(made: Made) -> None:
    pieces = b""
    while len(pieces) < made.size:
        step = httpx2.get(
            made.url, headers={"Range": f"bytes={len(pieces)}-{len(pieces) + 9999}", "If-Range": f'"{made.sha256}"'}
        )
        assert step.status_code == 206
        pieces += step.content
    assert hashlib.sha256(pieces).hexdigest() == made.sha256


@pytest.mark.parametrize("asked", ["bytes=9-2", "bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "bytes=-", "bytes"])
def test_what_is_no_range_of_ours_gets_the_whole(made: Made, asked: str) -> None:
    answer = httpx2.get(made.url, headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, made.size)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("condition", ['"another"', "W/{etag}", "Sat, 22 Nov 2025 10:00:00 GMT", "{bare}"])
def test_a_part_of_something_else_is_answered_by_the_whole(made: Made, condition: str) -> None:
    if_range = condition.format(etag=f'"{made.sha256}"', bare=made.sha256)
    answer = httpx2.get(made.url, headers={"Range": "bytes=10-", "If-Range": if_range})
    assert (answer.status_code, len(answer.content)) == (200, made.size)


@pytest.mark.parametrize("asked", ["bytes={size}-", "bytes=999999999-", "bytes=-0"])
def test_a_range_beyond_the_end(made: Made, asked: str) -> None:
    answer = httpx2.get(made.url, headers={"Range": asked.format(size=made.size)})
    _problem(answer, 416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == f"bytes */{made.size}"


def test_head_tells_and_sends_nothing(made: Made) -> None:
    for headers in ({}, {"Range": "bytes=0-9"}):
        answer = httpx2.head(made.url, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(made.size)
        assert answer.headers["etag"] == f'"{made.sha256}"'


def test_what_is_already_there_is_not_sent_again(made: Made) -> None:
    for tag in (f'"{made.sha256}"', f'"x", W/"{made.sha256}"', "*"):
        answer = httpx2.get(made.url, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == f'"{made.sha256}"'
    assert httpx2.get(made.url, headers={"If-None-Match": '"x"'}).status_code == 200


# --- The sealed object --------------------------------------------------------------------------------------------


async def _object_path(service: Service, document: str) -> Path:
    async with connected(service, role=None) as connection:
        name = await connection.fetchval("SELECT object_name FROM documents WHERE id = $1", document)
    found = [path for path in (service.data_dir / "objects").rglob(name.rsplit("/", 1)[-1]) if path.is_file()]
    assert len(found) == 1
    return found[0]


def _damaged(api: Api) -> float:
    found = re.search(r"^document_service_objects_damaged_total (\S+)$", api.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("place", [0, 0.1, 0.5, 0.999999])
def test_a_flipped_byte_is_refused_and_no_byte_is_served(
    service: Service, clinic: str, caller: Api, place: float
) -> None:
    made = _make(service, clinic, caller)
    path = asyncio.run(_object_path(service, made.id))
    whole = path.read_bytes()
    spoiled = bytearray(whole)
    spoiled[int(place * len(whole))] ^= 1
    path.write_bytes(spoiled)
    before = _damaged(caller)
    refused = httpx2.get(made.url)
    _problem(refused, 500, "OBJECT_CORRUPT")
    # Reported where an operator looks, and in the trail of whose document it is.
    assert _damaged(caller) == before + 1
    assert '"event": "object.damaged", "logger": "document_service", "code": "OBJECT_CORRUPT"' in service.log
    (event,) = caller.get("/v1/audit-events", params={"documentId": made.id, "action": "object.damaged"}).json()[
        "items"
    ]
    assert (event["outcome"], event["detail"]["code"]) == ("failure", "OBJECT_CORRUPT")
    assert event["requestId"] == refused.json()["requestId"]
    path.write_bytes(whole)
    assert httpx2.get(made.url).content == made.bytes


def test_a_shortened_object_and_another_documents_object_are_refused(
    service: Service, clinic: str, caller: Api
) -> None:
    one, other = _make(service, clinic, caller), _make(service, clinic, caller)
    path, another = (asyncio.run(_object_path(service, document.id)) for document in (one, other))
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"x", another.read_bytes()):
        path.write_bytes(content)
        for headers in ({}, {"Range": "bytes=0-9"}):
            _problem(httpx2.get(one.url, headers=headers), 500, "OBJECT_CORRUPT")
    path.unlink()
    _problem(httpx2.get(one.url), 500, "OBJECT_NOT_FOUND")
