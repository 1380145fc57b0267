"""Contract §2: documents: found, shown, fetched by signed URLs, and taken back."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from contract.from_outside.caller import GENERATE, JOBS, Caller, Request, code_of, new_id
from contract.from_outside.shapes import DOCUMENT, LIST, SIGNED_URL


@pytest.fixture(scope="module")
def document(nurse: Caller, form_version: str) -> dict[str, Any]:
    """A document that no test here changes."""
    return _made(nurse, form_version)


def _made(nurse: Caller, version: str, patient: str = "demo-patient-noorzai") -> dict[str, Any]:
    body = {"templateVersionId": version, "patientId": patient, "inputs": {"tests": ["CBC"]}, "locale": "en"}
    answer = nurse.post(GENERATE, json=body, headers={"Idempotency-Key": new_id()})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def _withdraw(nurse: Caller, path: str, key: str | None = None, **body: str) -> httpx2.Response:
    return nurse.post(f"/v1/documents/{path}", json=body, headers={"Idempotency-Key": key or new_id()})


def test_documents_are_found_by_patient(nurse: Caller, document: dict[str, Any]) -> None:
    """§2: `GET /v1/documents?patientId=`; §6 Document."""
    page = nurse.get("/v1/documents", params={"patientId": document["patientId"]}).json()
    assert set(page) == LIST
    found = nurse.every("/v1/documents", patientId=document["patientId"])
    assert document in found
    assert all(set(one) >= DOCUMENT and one["patientId"] == document["patientId"] for one in found)
    assert len({one["number"] for one in found}) == len(found)
    assert nurse.every("/v1/documents", patientId="nobody") == []
    read = nurse.get(f"/v1/documents/{document['id']}")
    again = nurse.get(f"/v1/documents/{document['id']}", headers={"If-None-Match": read.headers["etag"]})
    assert again.status_code == 304


def test_the_signed_url_is_short_lived_and_needs_no_token(nurse: Caller, document: dict[str, Any]) -> None:
    """§2: "short-lived signed URL (default 15 min), audited"; "ETag = SHA-256, no bearer token needed"; §6."""
    signed = nurse.post(f"/v1/documents/{document['id']}/download-url").json()
    assert set(signed) >= SIGNED_URL
    left = datetime.fromisoformat(signed["expiresAt"]) - datetime.now(UTC)
    assert 14.5 * 60 < left.total_seconds() <= 15 * 60
    with nurse.without_token() as holder:
        answer = holder.get(signed["url"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["etag"] == f'"{document["sha256"]}"'
    assert hashlib.sha256(answer.content).hexdigest() == document["sha256"]
    assert len(answer.content) == document["size"]


def test_a_url_that_was_changed_is_nobodys(nurse: Caller, document: dict[str, Any], form_version: str) -> None:
    """§2: the signature decides: another document, a longer life, another tenant or none of it at all is refused."""
    url = httpx2.URL(nurse.url_of(document["id"]))
    other = _made(nurse, form_version, "demo-patient-rahimi")
    with nurse.without_token() as holder:
        assert holder.get(str(url).replace(document["id"], other["id"])).status_code == 403
        assert holder.get(url.path).status_code in (401, 403)
        for name, value in url.params.items():
            changed = value[:-2] + ("00" if value[-2:] != "00" else "11")
            for params in (url.params.set(name, changed), url.params.remove(name), url.params.set(name, "")):
                answer = holder.get(url.copy_with(params=params))
                assert answer.status_code in (401, 403), f"{name}: {answer.status_code}"
                assert b"%PDF" not in answer.content
        assert holder.get(f"/v1/documents/{document['id']}").status_code == 401
        assert holder.get(str(url)).status_code == 200


def test_ranges_resume_a_download(nurse: Caller, document: dict[str, Any]) -> None:
    """§2: "the bytes: `Range`, `If-Range`, ETag = SHA-256"; §4: "Downloads resume (`Range` + `If-Range`)"."""
    url, size, etag = nurse.url_of(document["id"]), document["size"], f'"{document["sha256"]}"'
    whole = nurse.get(url).content

    def part(wanted: str, **headers: str) -> httpx2.Response:
        return nurse.get(url, headers={"Range": f"bytes={wanted}", **headers})

    for wanted, start, end in (
        ("0-99", 0, 99),
        ("100-", 100, size - 1),
        ("-50", size - 50, size - 1),
        (f"{size - 1}-", size - 1, size - 1),
        (f"0-{size + 500}", 0, size - 1),
    ):
        answer = part(wanted)
        assert (answer.status_code, answer.headers["content-range"]) == (206, f"bytes {start}-{end}/{size}")
        assert answer.content == whole[start : end + 1]
        assert answer.headers["etag"] == etag
    beyond = part(f"{size}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert part("0-99", **{"If-Range": etag}).status_code == 206
    other = part("0-99", **{"If-Range": '"of another file"'})
    assert (other.status_code, other.content) == (200, whole)
    assert nurse.get(url, headers={"If-None-Match": etag}).status_code == 304


def test_ranges_that_are_none_give_the_whole(nurse: Caller, document: dict[str, Any]) -> None:
    """§4: "Downloads resume": what a device may have got wrong is never answered by bytes from another place."""
    url, size, etag = nurse.url_of(document["id"]), document["size"], f'"{document["sha256"]}"'
    with nurse.without_token() as holder:
        for wanted in ("bytes=0-0,5-9", "bytes=5-1", "lines=0-1", "bytes=abc", "bytes=-", "bytes=1-2x"):
            whole = holder.get(url, headers={"Range": wanted})
            assert (whole.status_code, len(whole.content)) == (200, size), wanted
        far = holder.get(url, headers={"Range": f"bytes=0-{10**25}"})
        assert (far.status_code, far.headers["content-range"]) == (206, f"bytes 0-{size - 1}/{size}")
        for beyond in (f"bytes={10**25}-", "bytes=-0"):
            assert holder.get(url, headers={"Range": beyond}).status_code == 416
        for validator in (f"W/{etag}", "Sun, 29 Nov 2026 00:04:58 GMT"):
            assert holder.get(url, headers={"Range": "bytes=0-9", "If-Range": validator}).status_code == 200
        head = holder.head(url)
        assert (head.status_code, head.headers["content-length"], head.headers["etag"]) == (200, str(size), etag)


def test_a_signed_url_is_whoevers_and_no_more_than_it_says(
    nurse: Caller, stranger: Caller, document: dict[str, Any]
) -> None:
    """§2: "whoever holds the URL", whatever token is sent along; nothing is added to it and nothing said twice."""
    url = nurse.url_of(document["id"])
    assert stranger.get(url).status_code == 200
    assert code_of(stranger.post(f"/v1/documents/{document['id']}/download-url")) == (404, "NOT_FOUND")
    for more in ("&x=1", "&expires=9999999999", "&tenant=strangers", "&disposition=inline"):
        assert code_of(stranger.get(url + more)) == (403, "SIGNATURE_INVALID"), more


def test_a_voided_document_is_not_shown_as_current(nurse: Caller, form_version: str) -> None:
    """§2: "A withdrawn document: metadata 200 with its status; download-url and already issued URLs 410
    `DOCUMENT_WITHDRAWN`"; `void {reason}` (`Idempotency-Key`)."""
    document = _made(nurse, form_version)
    path = f"{document['id']}/void"
    issued = nurse.url_of(document["id"])
    assert nurse.post(f"/v1/documents/{path}", json={"reason": "wrong patient"}).status_code == 400
    assert _withdraw(nurse, path).status_code == 400
    key = new_id()
    voided = _withdraw(nurse, path, key, reason="wrong patient")
    assert (voided.status_code, voided.json()["status"]) == (200, "entered-in-error")
    assert _withdraw(nurse, path, key, reason="wrong patient").json() == voided.json()
    assert nurse.get(f"/v1/documents/{document['id']}").json()["status"] == "entered-in-error"
    with nurse.without_token() as holder:
        for headers in ({}, {"Range": "bytes=0-99"}, {"If-None-Match": f'"{document["sha256"]}"'}):
            answer = holder.get(issued, headers=headers)
            assert code_of(answer) == (410, "DOCUMENT_WITHDRAWN")
    assert code_of(nurse.post(f"/v1/documents/{document['id']}/download-url")) == (410, "DOCUMENT_WITHDRAWN")
    assert nurse.get(f"{JOBS}/{document['renderJobId']}").json()["status"] == "completed"


def test_a_key_of_one_act_does_no_other(nurse: Caller, form_version: str) -> None:
    """§2: `void` (`Idempotency-Key`): the key of one act neither repeats nor hides another."""
    first, second = _made(nurse, form_version), _made(nurse, form_version)
    key = new_id()
    assert _withdraw(nurse, f"{first['id']}/void", key, reason="wrong patient").status_code == 200
    assert _withdraw(nurse, f"{first['id']}/void", key, reason="another reason").status_code == 422
    assert _withdraw(nurse, f"{second['id']}/void", key, reason="wrong patient").status_code == 422
    assert nurse.get(f"/v1/documents/{second['id']}").json()["status"] == "current"


def test_a_superseded_document_names_its_replacement(nurse: Caller, form_version: str) -> None:
    """§2: `supersede {byDocumentId, reason}`; a replacement is of the same patient, and nothing replaces itself."""
    old, new = _made(nurse, form_version), _made(nurse, form_version)
    others = _made(nurse, form_version, "demo-patient-rahimi")
    path = f"{old['id']}/supersede"
    for by in (others["id"], old["id"], "doc_01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        assert _withdraw(nurse, path, byDocumentId=by, reason="corrected").status_code in (400, 404, 409)
    assert nurse.get(f"/v1/documents/{old['id']}").json()["status"] == "current"
    done = _withdraw(nurse, path, byDocumentId=new["id"], reason="corrected")
    assert (done.status_code, done.json()["status"], done.json()["supersededBy"]) == (200, "superseded", new["id"])
    shown = nurse.get(f"/v1/documents/{new['id']}").json()
    assert (shown["status"], shown["supersedes"]) == ("current", old["id"])
    assert _withdraw(nurse, f"{new['id']}/supersede", byDocumentId=old["id"], reason="back").status_code == 409


def test_a_replay_names_the_withdrawn_document_and_makes_no_second(nurse: Caller, request_for: Request) -> None:
    """§3: "a replay of something accepted is always answered by its job", also when its document was taken back."""
    request = request_for()
    job = nurse.render(request)
    _withdraw(nurse, f"{job['documentId']}/void", reason="wrong patient")
    again = nurse.post(JOBS, json=request)
    assert (again.status_code, again.json()["documentId"]) == (200, job["documentId"])
    pdf = nurse.generate(request, request["clientMutationId"], Accept="application/pdf")
    assert b"%PDF" not in pdf.content


def test_holders_tell_who_has_it(nurse: Caller, admin: Caller, form_version: str) -> None:
    """§2: `GET …/holders` "who opened, printed or still caches it, for a recall"; the download was recorded."""
    document = _made(nurse, form_version)
    nurse.get(nurse.url_of(document["id"]))
    answer = admin.get(f"/v1/documents/{document['id']}/holders")
    assert answer.status_code == 200
    assert "nurse" in answer.text


def test_the_verification_page_tells_nothing_of_the_patient(nurse: Caller) -> None:
    """§2: `GET /verify/{code}` "public page: genuine, superseded or withdrawn; no patient data"; a code that nobody
    was given is 404."""
    with nurse.without_token() as anyone:
        assert anyone.get(f"/verify/{'A' * 16}").status_code == 404
