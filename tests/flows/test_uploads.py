"""Uploads on the real service with a real clamd: resumable, and readable only after a clean verdict."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pikepdf
import pytest
from PIL import Image

import hostile_files
from clamav import EICAR, RunningClamd, running_clamd
from document_service.keys import KeyStore
from document_service.scanner import MAX_BYTES
from document_service.signing import UrlSigner
from document_service.store import open_store
from engines import EngineRequirement
from raw_database import connected
from running_service import Api, Service
from upload_acts import PIECE, announce, finalize, judged, send, verdict


@pytest.fixture(scope="module")
def clamd(require_engine: EngineRequirement, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningClamd]:
    require_engine("clamd")
    with running_clamd(tmp_path_factory.mktemp("clamd")) as running:
        yield running


@pytest.fixture(scope="module")
def scanning(clamd: RunningClamd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("uploads") / "data"
    running = Service(folder, DOCUMENT_SERVICE_CLAMD=clamd.address).start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def senders_tenant(scanning: Service, fhir_url: str) -> str:
    return scanning.create_tenant(fhir_url)


@pytest.fixture(scope="module")
def sender(scanning: Service, senders_tenant: str) -> Iterator[Api]:
    with scanning.caller(senders_tenant) as caller:
        yield caller


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_clean_pdf_becomes_a_document_byte_for_byte(sender: Api) -> None:
    content = hostile_files.pdf_of()
    shown = judged(sender, content, encounterId="demo-encounter-noorzai")
    assert shown["status"] == "accepted", shown
    document = sender.get(f"/v1/documents/{shown['documentId']}").json()
    assert (document["kind"], document["sha256"]) == ("uploaded", hashlib.sha256(content).hexdigest())
    assert sender.content(document["id"]).content == content
    found = sender.get("/v1/documents", params={"patientId": "demo-patient-noorzai"}).json()["items"]
    assert document["id"] in [entry["id"] for entry in found]


def test_an_image_is_served_as_pdf_and_names_its_original(sender: Api) -> None:
    content = hostile_files.image("JPEG", (600, 400))
    shown = judged(sender, content, name="scan.jpg", kind="image/jpeg")
    assert shown["status"] == "accepted", shown
    document = sender.get(f"/v1/documents/{shown['documentId']}").json()
    assert document["originalSha256"] == hashlib.sha256(content).hexdigest()
    assert document["contentType"] == "application/pdf"
    assert sender.content(document["id"]).content.startswith(b"%PDF-")


async def _original_of(service: Service, document: str) -> bytes:
    async with connected(service, role=None) as owner:
        row = await owner.fetchrow("SELECT tenant_id, original_name FROM documents WHERE id = $1", document)
    store = open_store(service.data_dir / "objects", KeyStore.open(service.data_dir / "keys"))
    return b"".join([piece async for piece in store.read(row["tenant_id"], row["original_name"])])


def test_a_photograph_loses_where_it_was_taken_and_its_original_is_kept(sender: Api, scanning: Service) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at the home of Gul Makai"
    exif.get_ifd(0x8825).update({1: "N", 2: (34.0, 31.0, 41.5), 3: "E", 4: (69.0, 10.0, 33.1), 29: "2026:11:22"})
    content = hostile_files.image("JPEG", (800, 600), exif=exif)
    assert b"2026:11:22" in content
    shown = judged(sender, content, name="photo.jpg", kind="image/jpeg")
    served = sender.content(shown["documentId"]).content
    assert b"Gul Makai" not in served
    assert b"2026:11:22" not in served
    assert b"Exif" not in served
    with pikepdf.open(io.BytesIO(served)) as pdf:
        drawn = pikepdf.PdfImage(pdf.pages[0].Resources.XObject.P).as_pil_image()
    assert not drawn.getexif()
    assert asyncio.run(_original_of(scanning, shown["documentId"])) == content


def test_a_fax_of_three_pages_is_a_pdf_of_three_pages(sender: Api, scanning: Service) -> None:
    content, kind, name, pages = hostile_files.HONEST["TIFF of three pages"]
    shown = judged(sender, content, name=name, kind=kind)
    document = sender.get(f"/v1/documents/{shown['documentId']}").json()
    assert (document["pages"], document["originalSha256"]) == (pages, hashlib.sha256(content).hexdigest())
    with pikepdf.open(io.BytesIO(sender.content(document["id"]).content)) as pdf:
        assert len(pdf.pages) == pages
        assert pdf.Root.OutputIntents[0].S == pikepdf.Name.GTS_PDFA1
    assert asyncio.run(_original_of(scanning, document["id"])) == content


def test_a_cut_transfer_goes_on_where_it_ended(sender: Api) -> None:
    content = hostile_files.pdf_of()
    made = sender.post("/v1/documents/uploads", json=announce(content)).json()
    path = f"/v1/documents/uploads/{made['id']}"
    assert sender.patch(path, content=content[:100], headers={**PIECE, "Upload-Offset": "0"}).status_code == 204
    again = sender.patch(path, content=content[:100], headers={**PIECE, "Upload-Offset": "0"})
    assert (again.status_code, again.json()["code"]) == (409, "UPLOAD_OFFSET_CONFLICT")
    assert again.headers["upload-offset"] == "100"
    told = sender.head(path)
    assert (told.headers["upload-offset"], told.headers["upload-length"]) == ("100", str(len(content)))
    early = sender.post(f"{path}/finalize")
    assert (early.status_code, early.json()["code"]) == (409, "UPLOAD_INCOMPLETE")
    rest = sender.patch(path, content=content[100:], headers={**PIECE, "Upload-Offset": "100"})
    assert rest.headers["upload-offset"] == str(len(content))
    finalize(sender, made["id"])
    assert verdict(sender, made["id"])["status"] == "accepted"
    assert finalize(sender, made["id"])["status"] == "accepted"


def test_a_piece_that_differs_from_its_checksum_is_not_taken(sender: Api) -> None:
    content = hostile_files.pdf_of()
    made = sender.post("/v1/documents/uploads", json=announce(content)).json()
    wrong = "sha256 " + base64.b64encode(bytes(32)).decode()
    headers = {**PIECE, "Upload-Offset": "0", "Upload-Checksum": wrong}
    answer = sender.patch(f"/v1/documents/uploads/{made['id']}", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "CHECKSUM_MISMATCH")
    assert sender.get(f"/v1/documents/uploads/{made['id']}").json()["offset"] == 0


@pytest.mark.parametrize(
    ("make", "more", "status", "code"),
    [
        (lambda: EICAR, {}, "quarantined", "MALWARE_FOUND"),
        (lambda: hostile_files.HOSTILE["PDF and ZIP"][0], {}, "quarantined", "POLYGLOT"),
        (lambda: hostile_files.pdf_with_attachment(EICAR), {}, "quarantined", "MALWARE_FOUND"),
        (lambda: hostile_files.pdf_of() + b"\n" + b"%" * (1 << 20) + b"\n" + EICAR, {}, "quarantined", "MALWARE_FOUND"),
        (hostile_files.pdf_with_script_in_object_stream, {}, "quarantined", "ACTIVE_CONTENT"),
        (lambda: hostile_files.encrypted_pdf("secret"), {}, "failed", "FILE_ENCRYPTED"),
        (lambda: b"%PDF-1.7 and then nothing", {}, "failed", "FILE_UNREADABLE"),
        (lambda: hostile_files.zip_of(**{"a.txt": EICAR}), {}, "quarantined", "MALWARE_FOUND"),
        (
            lambda: hostile_files.png_claiming(60_000, 60_000),
            {"name": "a.png", "kind": "image/png"},
            "failed",
            "IMAGE_TOO_LARGE",
        ),
    ],
    ids=[
        "EICAR", "polyglot", "EICAR attached", "EICAR after 1 MB", "script in an object stream", "encrypted",
        "unreadable", "EICAR in a ZIP", "pixel flood",
    ],
)  # fmt: skip
def test_what_must_not_become_readable(sender: Api, make: Any, more: dict[str, Any], status: str, code: str) -> None:
    patient = f"demo-patient-{uuid.uuid4().hex[:8]}"
    shown = judged(sender, make(), patientId=patient, **more)
    assert (shown["status"], shown["reason"]["code"]) == (status, code)
    assert "documentId" not in shown
    assert sender.get("/v1/documents", params={"patientId": patient}).json()["items"] == []


def test_only_a_clean_verdict_leaves_quarantine(sender: Api, scanning: Service, senders_tenant: str) -> None:
    shown = judged(sender, hostile_files.pdf_with_script_in_object_stream())
    listed = sender.get("/v1/documents/uploads", params={"status": "quarantined"}).json()["items"]
    assert shown["id"] in [entry["id"] for entry in listed]
    with scanning.caller(senders_tenant, "another", roles=("CLINICIAN",)) as plain:
        refused = plain.get("/v1/documents/uploads", params={"status": "quarantined"})
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        assert plain.get("/v1/documents/uploads").json()["items"] == []
    with scanning.caller(senders_tenant, "auditor", roles=("AUDITOR",)) as auditor:
        read = auditor.get("/v1/documents/uploads", params={"status": "quarantined"}).json()["items"]
        assert shown["id"] in [entry["id"] for entry in read]
    assert sender.post(f"/v1/documents/uploads/{shown['id']}/rescan").status_code == 202
    assert verdict(sender, shown["id"])["status"] == "quarantined"
    gone = sender.post(f"/v1/documents/uploads/{shown['id']}/destroy", json={"reason": "malicious"})
    assert (gone.json()["status"], gone.json()["reason"]["code"]) == ("failed", "DESTROYED")
    assert sender.post(f"/v1/documents/uploads/{shown['id']}/rescan").status_code == 409


def test_one_byte_over_the_limit(sender: Api) -> None:
    answer = sender.post("/v1/documents/uploads", json={**announce(b"x"), "size": MAX_BYTES + 1})
    assert (answer.status_code, answer.json()["code"]) == (413, "FILE_TOO_LARGE")
    # The largest that may be announced, and one byte more than that.
    made = sender.post("/v1/documents/uploads", json={**announce(b"x"), "size": MAX_BYTES})
    assert made.status_code == 201
    small = sender.post("/v1/documents/uploads", json={**announce(b"x"), "size": 1}).json()
    path = f"/v1/documents/uploads/{small['id']}"
    beyond = sender.patch(path, content=b"xy", headers={**PIECE, "Upload-Offset": "0"})
    assert (beyond.status_code, beyond.json()["code"]) == (413, "FILE_TOO_LARGE")
    assert sender.get(path).json()["offset"] == 0


def _receive(answer: httpx2.Response, received: bytearray) -> None:
    for piece in answer.iter_raw():
        received.extend(piece)


def _pad(pdf: pikepdf.Pdf) -> None:
    """Make the file as large as a scanned record: 20 MB that no compression shortens."""
    pdf.Root.Padding = pdf.make_indirect(pikepdf.Stream(pdf, random.Random(5).randbytes(20_000_000)))


def test_a_large_document_is_read_to_its_end_past_the_expiry_and_cut_where_it_is_damaged(
    sender: Api, scanning: Service
) -> None:
    content = hostile_files.pdf_of(_pad)
    shown = judged(sender, content)
    document = shown["documentId"]
    given = sender.post(f"/v1/documents/{document}/download-url").json()["url"]
    (tenant,) = parse_qs(urlsplit(given).query)["tenant"]
    signer = UrlSigner(KeyStore.open(scanning.data_dir / "keys"))
    link = f"/v1/documents/{document}/content?{signer.sign(tenant, document, 'attachment', 2)}"
    digest = hashlib.sha256()
    with httpx2.stream("GET", scanning.url + link) as answer:
        for number, piece in enumerate(answer.iter_raw()):
            digest.update(piece)
            if number == 0:
                time.sleep(3)
    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()
    assert sender.get(link).json()["code"] == "SIGNATURE_EXPIRED"
    (path,) = (one for one in (scanning.data_dir / "objects").rglob("*") if one.stat().st_size > len(content))
    whole = path.read_bytes()
    path.write_bytes(whole[:15_000_000] + bytes([whole[15_000_000] ^ 1]) + whole[15_000_001:])
    received = bytearray()
    with httpx2.stream("GET", scanning.url + given) as answer, pytest.raises(httpx2.RemoteProtocolError):
        _receive(answer, received)
    assert len(received) < 15_000_000
    assert content.startswith(received)
    query = {"documentId": document, "action": "object.damaged"}
    assert len(sender.get("/v1/audit-events", params=query).json()["items"]) == 1


def test_without_a_scanner_nothing_is_taken(api: Api, sender: Api) -> None:
    answer = api.post("/v1/documents/uploads", json=announce(b"%PDF-"))
    assert (answer.status_code, answer.json()["code"]) == (503, "SCANNER_UNAVAILABLE")
    assert api.get("/v1/documents/uploads").json()["items"] == []
    assert api.get("/health/ready").status_code == 200


def test_a_scanner_that_dies_after_finalize_keeps_the_upload_scanning(
    fhir_url: str, require_engine: EngineRequirement, tmp_path: Path
) -> None:
    require_engine("clamd")
    service = Service(tmp_path / "data", DOCUMENT_SERVICE_CLAMD=f"unix:{tmp_path}/clamd/clamd.sock")
    with running_clamd(_made(tmp_path / "clamd")) as first:
        service._environment["DOCUMENT_SERVICE_CLAMD"] = first.address
        service.start()
        api = service.caller(service.create_tenant(fhir_url))
        upload = send(api, hostile_files.pdf_of())
    try:
        refused = api.post(f"/v1/documents/uploads/{upload}/finalize", headers={"Idempotency-Key": "k"})
        assert (refused.status_code, refused.json()["code"]) == (503, "SCANNER_UNAVAILABLE")
        assert api.get(f"/v1/documents/uploads/{upload}").json()["status"] == "receiving"
    finally:
        service.stop()
