"""Contract §2 and §6: a scanned paper on its way in. Nothing of it is readable before a clean verdict."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pikepdf
import pytest

from clamav import EICAR, RunningClamd, running_clamd
from clamd_between import ClamdBetween
from contract.from_outside.caller import Caller, code_of, new_id
from contract.from_outside.clinic import wait_for
from contract.from_outside.shapes import LIST
from engines import EngineRequirement

UPLOADS = "/v1/documents/uploads"


@pytest.fixture(scope="module", autouse=True)
def clamd(
    scanner: ClamdBetween, tmp_path_factory: pytest.TempPathFactory, require_engine: EngineRequirement
) -> Iterator[RunningClamd]:
    """A real clamd behind the place where the service looks for it."""
    require_engine("clamd")
    with running_clamd(tmp_path_factory.mktemp("clamd")) as running:
        scanner.real = running
        yield running
        scanner.real = None


@pytest.fixture(scope="module")
def pdf(nurse: Caller, form_version: str) -> bytes:
    """A sound PDF: one that the service made."""
    body = {"templateVersionId": form_version, "patientId": "demo-patient-noorzai", "locale": "en"}
    return nurse.generate({**body, "inputs": {"tests": ["CBC"]}}, Accept="application/pdf").content


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(column * row % 251 for column in range(600)) for row in range(150))
    header = struct.pack(">IIBBBBB", 200, 150, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _told(content: bytes, **fields: Any) -> dict[str, Any]:
    return {
        "fileName": "scan.pdf",
        "contentType": "application/pdf",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "patientId": "demo-patient-noorzai",
        "category": "scanned_record",
        "title": "Old chart",
        **fields,
    }


def _piece(caller: Caller, upload: str, offset: int | str, content: bytes) -> httpx2.Response:
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return caller.patch(f"{UPLOADS}/{upload}", content=content, headers=headers)


def _sent(caller: Caller, content: bytes, **fields: Any) -> str:
    """Announce a file and send all of it; the upload's id."""
    made = caller.post(UPLOADS, json=_told(content, **fields))
    assert made.status_code == 201, made.text
    assert _piece(caller, made.json()["id"], 0, content).status_code == 204
    return str(made.json()["id"])


def _verdict(caller: Caller, upload: str) -> dict[str, Any]:
    shown: dict[str, Any] = {}

    def decided() -> bool:
        shown.update(caller.get(f"{UPLOADS}/{upload}").json())
        return shown["status"] not in ("receiving", "scanning")

    wait_for(decided)
    return shown


def _judged(caller: Caller, content: bytes, **fields: Any) -> dict[str, Any]:
    upload = _sent(caller, content, **fields)
    answer = caller.post(f"{UPLOADS}/{upload}/finalize")
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) >= {"id", "status"}
    return _verdict(caller, upload)


def test_an_upload_is_resumed_at_its_offset_and_served_byte_for_byte(nurse: Caller, pdf: bytes) -> None:
    """§6: 201 `{id, status, offset}`; PATCH 204 and the new `Upload-Offset`; "`HEAD` tells the offset"; finalize 202;
    "A PDF is served byte for byte as uploaded"."""
    made = nurse.post(UPLOADS, json=_told(pdf))
    upload = made.json()["id"]
    assert (made.status_code, made.json()["status"], made.json()["offset"]) == (201, "receiving", 0)
    assert upload.startswith("upl_")
    first = _piece(nurse, upload, 0, pdf[:5000])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "5000")
    for offset in (0, 4999, 9000):
        wrong = _piece(nurse, upload, offset, pdf[offset : offset + 10])
        assert (wrong.status_code, wrong.headers["upload-offset"]) == (409, "5000")
    assert nurse.head(f"{UPLOADS}/{upload}").headers["upload-offset"] == "5000"
    early = nurse.post(f"{UPLOADS}/{upload}/finalize")
    assert code_of(early) == (409, "UPLOAD_INCOMPLETE")
    more = _piece(nurse, upload, 5000, pdf[5000:] + b"one byte more")
    assert more.status_code == 413
    for headers in ({"Content-Type": "application/pdf", "Upload-Offset": "5000"}, {"Upload-Offset": "5000"}):
        assert nurse.patch(f"{UPLOADS}/{upload}", content=b"x", headers=headers).status_code == 415
    assert _piece(nurse, upload, 5000, pdf[5000:]).status_code == 204
    for _ in range(2):
        assert nurse.post(f"{UPLOADS}/{upload}/finalize").status_code == 202
    done = _verdict(nurse, upload)
    document = nurse.get(f"/v1/documents/{done['documentId']}").json()
    assert (done["status"], document["kind"], document["sha256"]) == (
        "accepted",
        "uploaded",
        hashlib.sha256(pdf).hexdigest(),
    )
    assert nurse.get(nurse.url_of(document["id"])).content == pdf
    assert _piece(nurse, upload, len(pdf), b"x").status_code == 409
    assert nurse.post(f"{UPLOADS}/{upload}/finalize").status_code == 202
    found = nurse.every("/v1/documents", patientId="demo-patient-noorzai")
    assert [one["id"] for one in found if one["sha256"] == document["sha256"] and one["kind"] == "uploaded"] == [
        document["id"]
    ]


def test_an_image_becomes_a_pdf_and_keeps_its_checksum(nurse: Caller) -> None:
    """§6: "an image as PDF with `originalSha256`"."""
    image = _png()
    done = _judged(nurse, image, fileName="scan.png", contentType="image/png")
    assert done["status"] == "accepted", done
    document = nurse.get(f"/v1/documents/{done['documentId']}").json()
    assert (document["contentType"], document["originalSha256"]) == (
        "application/pdf",
        hashlib.sha256(image).hexdigest(),
    )
    assert nurse.get(nurse.url_of(document["id"])).content.startswith(b"%PDF-")


def _locked(pdf: bytes) -> bytes:
    locked = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        opened.save(locked, encryption=pikepdf.Encryption(owner="owner", user="user"))
    return locked.getvalue()


def _with_script(pdf: bytes) -> bytes:
    return pdf + b"\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>endobj\n"


def test_malware_and_active_content_are_quarantined_and_released_by_nobody(
    nurse: Caller, admin: Caller, auditor: Caller, pdf: bytes
) -> None:
    """§1: "`quarantined` (malware or active content)"; §2: "only a clean verdict of a full re-scan releases, nobody can
    by hand"."""
    for content in (pdf + b"\n" + EICAR, _with_script(pdf)):
        done = _judged(nurse, content)
        assert (done["status"], done.get("documentId")) == ("quarantined", None)
        assert set(done["reason"]) >= {"code", "title"}
        for reader in (auditor, admin):
            page = reader.get(UPLOADS, params={"status": "quarantined"})
            assert set(page.json()) == LIST
            assert done["id"] in [one["id"] for one in reader.every(UPLOADS, status="quarantined")]
        path = f"{UPLOADS}/{done['id']}"
        assert admin.post(f"{path}/rescan").status_code == 202
        assert _verdict(admin, done["id"])["status"] == "quarantined"
        assert admin.post(f"{path}/destroy", json={}).status_code == 400
        assert admin.post(f"{path}/destroy", json={"reason": "malware"}).status_code == 200
        assert admin.post(f"{path}/rescan").status_code == 409
        assert nurse.get(path).json()["status"] == "failed"


def test_files_that_are_not_what_they_say_fail_with_a_reason(nurse: Caller, pdf: bytes) -> None:
    """§1: "`failed` (type, size, checksum, encrypted, unreadable)"."""
    for content, code in (
        (b"MZ" + bytes(500), "FILE_TYPE_MISMATCH"),
        (_png(), "FILE_TYPE_MISMATCH"),
        (pdf[: len(pdf) // 2], "FILE_UNREADABLE"),
        (_locked(pdf), "FILE_ENCRYPTED"),
    ):
        done = _judged(nurse, content)
        assert (done["status"], done["reason"]["code"], done.get("documentId")) == ("failed", code, None)
    upload = _sent(nurse, pdf, sha256="0" * 64)
    assert nurse.post(f"{UPLOADS}/{upload}/finalize").status_code in (202, 422)
    done = _verdict(nurse, upload)
    assert (done["status"], done["reason"]["code"]) == ("failed", "CHECKSUM_MISMATCH")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"size": 26 * 1024 * 1024}, 413),
        ({"size": 0}, 400),
        ({"size": -1}, 400),
        ({"size": True}, 400),
        ({"size": "1000"}, 400),
        ({"title": "  "}, 400),
        ({"sha256": "nonsense"}, 400),
        ({"contentType": "text/html", "fileName": "a.html"}, 422),
        ({"category": "nonsense"}, 400),
        ({"patientId": None}, 400),
    ],
)
def test_what_cannot_be_taken_is_refused_before_a_byte_is_sent(
    nurse: Caller, pdf: bytes, fields: dict[str, Any], status: int
) -> None:
    """§2, §6: limits and shapes of the announcement."""
    before = nurse.every(UPLOADS)
    assert nurse.post(UPLOADS, json=_told(pdf, **fields)).status_code == status
    assert nurse.every(UPLOADS) == before


def test_without_a_scanner_nothing_is_taken_and_nothing_lost(
    nurse: Caller, pdf: bytes, scanner: ClamdBetween, clamd: RunningClamd
) -> None:
    """§6: "Scanner down at create or finalize: 503, nothing consumed"."""
    waiting = _sent(nurse, pdf)
    scanner.real = None
    try:
        before = nurse.every(UPLOADS)
        for refused in (nurse.post(UPLOADS, json=_told(pdf)), nurse.post(f"{UPLOADS}/{waiting}/finalize")):
            assert code_of(refused) == (503, "SCANNER_UNAVAILABLE")
            assert refused.headers["retry-after"]
        assert nurse.every(UPLOADS) == before
        # The service serves everything else, and names what is down.
        ready = nurse.get("/health/ready")
        assert (ready.status_code, ready.json()["components"]["scanner"]) == (200, "down")
    finally:
        scanner.real = clamd
    assert wait_for(lambda: nurse.post(f"{UPLOADS}/{waiting}/finalize").status_code == 202)
    assert _verdict(nurse, waiting)["status"] == "accepted"


def test_a_scanner_that_dies_later_leaves_the_upload_scanning(nurse: Caller, pdf: bytes, scanner: ClamdBetween) -> None:
    """§6: "dying later: stays `scanning`, retried"; nothing of it is readable meanwhile."""
    scanner.how, before = "garbage", scanner.scans
    try:
        upload = _sent(nurse, pdf)
        assert nurse.post(f"{UPLOADS}/{upload}/finalize").status_code == 202
        wait_for(lambda: scanner.scans > before)
        shown = nurse.get(f"{UPLOADS}/{upload}").json()
        assert (shown["status"], shown.get("documentId")) == ("scanning", None)
    finally:
        scanner.how = "pass"
    assert _verdict(nurse, upload)["status"] == "accepted"


def test_an_upload_of_another_tenant_does_not_exist(nurse: Caller, stranger: Caller, pdf: bytes) -> None:
    """§2: "Something of another tenant […]: 404, exactly as if it did not exist"."""
    upload = _sent(nurse, pdf)
    unknown = f"{UPLOADS}/upl_01ARZ3NDEKTSV4RRFFQ69G5FAV"
    for method, path, body in (
        ("GET", "", None),
        ("POST", "/finalize", None),
        ("POST", "/rescan", None),
        ("POST", "/destroy", {"reason": new_id()}),
    ):
        mine, none = (
            stranger.request(method, f"{where}{path}", json=body) for where in (f"{UPLOADS}/{upload}", unknown)
        )
        assert mine.status_code == none.status_code == 404
        assert {**mine.json(), "requestId": ""} == {**none.json(), "requestId": ""}
    assert _piece(stranger, upload, 0, pdf).status_code == 404
    assert stranger.head(f"{UPLOADS}/{upload}").status_code == 404
