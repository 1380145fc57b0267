"""The public page behind the QR code: genuine, superseded or withdrawn, and no patient data."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import Iterator

import asyncpg
import httpx2
import pdfplumber
import pytest
import zxingcpp

from document_service.postgres import connection_info
from service import Service, request_for


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(
        tmp_path_factory.mktemp("public") / "data", DOCUMENT_SERVICE_PUBLIC_URL="http://documents.example"
    ).start()
    try:
        yield running
    finally:
        running.stop()


def code_of(service: Service, document_id: str) -> str:
    """The code as only the paper and the database know it."""

    async def read() -> str:
        info = connection_info(service.data_dir)
        connection = await asyncpg.connect(
            host=str(info.socket_dir), port=info.port, user=info.user, password=info.password, database=info.database
        )
        try:
            sql = "SELECT verify_code FROM document.documents WHERE id = $1"
            return str(await connection.fetchval(sql, document_id))
        finally:
            await connection.close()

    return asyncio.run(read())


def test_the_page_follows_the_life_of_the_document(public: Service, fhir_url: str) -> None:
    with public.caller(public.create_tenant(fhir_url, "--name", "Karte Seh Clinic")) as api:
        documents = [api.render(request_for(api.platform_version()))["documentId"] for _ in range(3)]
        codes = [code_of(public, document) for document in documents]
        number = api.get(f"/v1/documents/{documents[0]}").json()["number"]
        first = look(public, codes[0])
        assert first["status"] == "genuine"
        assert (first["number"], first["issuer"]) == (number, "Karte Seh Clinic")
        key = {"Idempotency-Key": str(uuid.uuid4())}
        body = {"byDocumentId": documents[1], "reason": "a newer one"}
        assert api.post(f"/v1/documents/{documents[0]}/supersede", json=body, headers=key).status_code == 200
        key = {"Idempotency-Key": str(uuid.uuid4())}
        assert api.post(f"/v1/documents/{documents[2]}/void", json={"reason": "wrong"}, headers=key).status_code == 200
    assert look(public, codes[0])["status"] == "superseded"
    assert look(public, codes[2])["status"] == "withdrawn"
    page = httpx2.get(f"{public.url}/verify/{codes[1]}")
    assert page.headers["content-type"].startswith("text/html")
    assert "Genuine" in page.text
    assert "Noorzai" not in page.text
    assert "demo-patient" not in page.text


def test_the_printed_code_is_the_address_of_the_page(public: Service, fhir_url: str) -> None:
    with public.caller(public.create_tenant(fhir_url)) as api:
        request = request_for(api.platform_version())
        key = {"Idempotency-Key": request.pop("clientMutationId"), "Accept": "application/pdf"}
        del request["requestedAt"]
        printed = api.post("/v1/documents/generate", json=request, headers=key)
    with pdfplumber.open(io.BytesIO(printed.content)) as pdf:
        picture = pdf.pages[0].to_image(resolution=200).original.convert("L")
    read = zxingcpp.read_barcodes(picture)
    assert [code.text for code in read] == [
        f"http://documents.example/verify/{code_of(public, printed.headers['x-document-id'])}"
    ]


def test_a_guess_finds_nothing_and_guessing_is_slowed(public: Service) -> None:
    answers = [httpx2.get(f"{public.url}/verify/{uuid.uuid4().hex}").status_code for _ in range(60)]
    assert set(answers) == {404, 429}


def look(service: Service, code: str) -> dict[str, str]:
    answer = httpx2.get(f"{service.url}/verify/{code}", headers={"Accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
