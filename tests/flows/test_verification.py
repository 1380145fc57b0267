"""The public page behind the QR code: genuine, superseded or withdrawn, and no patient data."""

from __future__ import annotations

import asyncio
import io
import time
import uuid
from collections.abc import Iterator

import asyncpg
import httpx2
import pdfplumber
import pytest
import zxingcpp

from document_service.postgres import connection_info
from running_service import Api, Service, request_for


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(
        tmp_path_factory.mktemp("public") / "data", DOCUMENT_SERVICE_PUBLIC_URL="http://documents.example"
    ).start()
    try:
        yield running
    finally:
        running.stop()


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


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


def generate(api: Api) -> httpx2.Response:
    """Make a document now; the answer is the PDF."""
    request = request_for(api.platform_version())
    key = {"Idempotency-Key": request.pop("clientMutationId"), "Accept": "application/pdf"}
    del request["requestedAt"]
    return api.post("/v1/documents/generate", json=request, headers=key)


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


def test_it_names_the_issuer_that_stands_on_the_paper(public: Service, fhir_url: str) -> None:
    """Another name than the operator's, and later a third one: a genuine paper is not called a forgery."""
    with public.caller(public.create_tenant(fhir_url, "--name", "The operator's name of it")) as api:
        for name in ("Karte Seh Clinic", "Hospital of Karte Seh"):
            state = {"If-Match": api.get("/v1/tenant/branding").headers["etag"]}
            assert api.put("/v1/tenant/branding", json={"name": name}, headers=state).status_code == 200
            printed = generate(api)
            with pdfplumber.open(io.BytesIO(printed.content)) as pdf:
                assert name in (pdf.pages[0].extract_text() or "")
            document = printed.headers["x-document-id"]
            assert look(public, code_of(public, document))["issuer"] == name
            if name == "Karte Seh Clinic":
                former = document
        assert look(public, code_of(public, former))["issuer"] == "Karte Seh Clinic"


def test_the_printed_code_is_the_address_of_the_page(public: Service, fhir_url: str) -> None:
    with public.caller(public.create_tenant(fhir_url)) as api:
        printed = generate(api)
    with pdfplumber.open(io.BytesIO(printed.content)) as pdf:
        picture = pdf.pages[0].to_image(resolution=200).original.convert("L")
    read = zxingcpp.read_barcodes(picture)
    assert [code.text for code in read] == [
        f"http://documents.example/verify/{code_of(public, printed.headers['x-document-id'])}"
    ]


def test_every_look_is_in_the_trail_with_what_was_told(public: Service, fhir_url: str) -> None:
    with public.caller(public.create_tenant(fhir_url)) as api:
        documents = [api.render(request_for(api.platform_version()))["documentId"] for _ in range(2)]
        code = code_of(public, documents[0])
        look(public, code)
        assert httpx2.get(f"{public.url}/verify/{code}", headers=BROWSER).status_code == 200
        key = {"Idempotency-Key": str(uuid.uuid4())}
        body = {"byDocumentId": documents[1], "reason": "a newer one"}
        assert api.post(f"/v1/documents/{documents[0]}/supersede", json=body, headers=key).status_code == 200
        look(public, code)
        key = {"Idempotency-Key": str(uuid.uuid4())}
        assert api.post(f"/v1/documents/{documents[1]}/void", json={"reason": "wrong"}, headers=key).status_code == 200
        look(public, code_of(public, documents[1]))
        # A code that no document has is a look at no document, and none of these is in another tenant's trail.
        assert httpx2.get(f"{public.url}/verify/{code[:-1]}").status_code == 404
        events = api.get("/v1/audit-events", params={"action": "document.verify"}).json()["items"]
        assert {event["actor"] for event in events} == {"public"}
        assert [(event["documentId"], event["detail"]["told"]) for event in events] == [
            (documents[1], "withdrawn"),
            (documents[0], "superseded"),
            (documents[0], "genuine"),
            (documents[0], "genuine"),
        ]
    with public.caller(public.create_tenant(fhir_url)) as other:
        assert other.get("/v1/audit-events", params={"action": "document.verify"}).json()["items"] == []
    assert code not in public.log, "the code is the right to look"


#: What the record of the made-up patient holds: name, identifier, birth date, telephone, ids.
OF_THE_PATIENT = ("Noorzai", "Fatima", "KBL-100871", "1978-06", "Jun 1978", "555 0187", "demo-", "atient")


def test_nothing_of_the_patient_is_told_whatever_the_state(public: Service, fhir_url: str) -> None:
    with public.caller(public.create_tenant(fhir_url)) as api:
        document = api.render(request_for(api.platform_version()))["documentId"]
        code = code_of(public, document)
        for change in (None, "void"):
            if change is not None:
                key = {"Idempotency-Key": str(uuid.uuid4())}
                reason = {"reason": "Noorzai is the wrong patient"}
                assert api.post(f"/v1/documents/{document}/{change}", json=reason, headers=key).status_code == 200
            for headers in (BROWSER, {"Accept": "application/json"}):
                answer = httpx2.get(f"{public.url}/verify/{code}", headers=headers)
                assert answer.status_code == 200
                said = answer.text + str(dict(answer.headers))
                assert [word for word in OF_THE_PATIENT if word in said] == []
                assert answer.headers["cache-control"] == "no-store", "a withdrawn paper is never shown as current"
                assert "script" not in answer.text


def test_an_unknown_code_is_a_page_for_a_person_and_a_problem_for_a_program(public: Service) -> None:
    for code in (uuid.uuid4().hex, "x", "a" * 500, "%00" * 24):
        for headers, kind in ((BROWSER, "text/html"), ({}, "application/problem+json")):
            answer = httpx2.get(f"{public.url}/verify/{code}", headers={**headers, "X-Forwarded-For": "192.0.2.7"})
            assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (404, kind), code
    page = httpx2.get(f"{public.url}/verify/{uuid.uuid4().hex}", headers=BROWSER)
    assert "do not trust the paper" in page.text


def test_guessing_is_slowed_by_address_and_the_wait_that_is_told_is_enough(public: Service) -> None:
    def guess(address: str, **headers: str) -> httpx2.Response:
        # A proxy on this machine says who asks.
        named = {"X-Forwarded-For": address, **headers}
        return httpx2.get(f"{public.url}/verify/{uuid.uuid4().hex}", headers=named)

    def refused(**headers: str) -> httpx2.Response:
        # A guess a second is let through at any time, and any of these may be it.
        return next(answer for _ in range(60) if (answer := guess("192.0.2.1", **headers)).status_code == 429)

    assert [guess("192.0.2.1").status_code for _ in range(30)] == [404] * 30
    assert refused().json()["code"] == "TOO_MANY_REQUESTS"
    page = refused(**BROWSER)
    assert page.headers["content-type"].split(";")[0] == "text/html"
    assert guess("192.0.2.2").status_code == 404, "another address is not slowed"
    wait = int(page.headers["Retry-After"])
    assert 1 <= wait <= 2
    time.sleep(wait)
    assert guess("192.0.2.1").status_code == 404


def look(service: Service, code: str) -> dict[str, str]:
    answer = httpx2.get(f"{service.url}/verify/{code}", headers={"Accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
