"""What a FHIR server may say and what prints of it: service, worker, a real FHIR server, and a hand between them.

The reader's own tests script every answer; here the answers are the real server's, altered on their way where no
sound server would give them. Whatever is not this patient's, not complete or not current never reaches a page.
"""

from __future__ import annotations

import copy
import io
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pdfplumber
import pytest

from document_service.synthetic import SyntheticFhirServer
from running_service import Api, Service, request_for

TOKEN = "tenant-token-that-stays-at-home"
PATIENT = "demo-patient-noorzai"

Alter = Callable[[Any], Any]


class Between(ThreadingHTTPServer):
    """Passes requests to ``upstream`` and its answers back, altered; ``asked`` holds every request's headers."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Hand)
        self.upstream = upstream
        self.alter: Alter | None = None
        self.redirect: str | None = None
        self.asked: list[dict[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Hand(BaseHTTPRequestHandler):
    server: Between
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        if self.server.redirect is not None:
            self._answer(307, b"", {"Location": self.server.redirect})
            return
        kept = {k: v for k, v in self.headers.items() if k.lower() in ("authorization", "content-type", "accept")}
        ours, theirs = self.server.url.encode(), self.server.upstream.encode()
        answer = httpx2.request(
            self.command, f"{self.server.upstream}{self.path}", content=body, headers=kept, timeout=30, trust_env=False
        )
        content = answer.content.replace(theirs, ours)
        if self.server.alter is not None:
            content = json.dumps(self.server.alter(json.loads(content))).encode()
        self._answer(answer.status_code, content, {"Content-Type": answer.headers["content-type"]})

    do_GET = do_POST = _pass_on

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: patient ids are in the addresses."""


class Elsewhere(ThreadingHTTPServer):
    """Another host that hopes to be asked."""

    daemon_threads = True

    def __init__(self) -> None:
        asked = self.asked = []  # type: list[str]

        class Listening(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.path} {self.headers.get('Authorization')}")
                self.send_error(404)

            do_POST = do_GET

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing."""

        super().__init__(("127.0.0.1", 0), Listening)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture(scope="module")
def fhir() -> Iterator[SyntheticFhirServer]:
    with SyntheticFhirServer(generated=0, token=TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def between(fhir: SyntheticFhirServer) -> Iterator[Between]:
    base = re.match(r"http://[^/]+", fhir.base_url)
    assert base is not None
    server = Between(base.group())
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def clinic(service: Service, between: Between, tmp_path_factory: pytest.TempPathFactory) -> str:
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN)
    return service.create_tenant(f"{between.url}/fhir", "--fhir-token-file", str(token))


@pytest.fixture
def caller(service: Service, clinic: str, between: Between) -> Iterator[Api]:
    with service.caller(clinic) as api:
        yield api
    between.alter = between.redirect = None


def generate(api: Api, form: str = "general-test-requisition", **more: Any) -> httpx2.Response:
    """A synchronous request: it is tried once, so a failure that may pass is answered at once."""
    body = request_for(api.platform_version(form), **more)
    for name in ("clientMutationId", "requestedAt"):
        del body[name]
    headers = {"Idempotency-Key": str(uuid.uuid4()), "Accept": "application/pdf"}
    return api.post("/v1/documents/generate", json=body, headers=headers)


def text_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 201, answer.text
    with pdfplumber.open(io.BytesIO(answer.content)) as pdf:
        return " ".join(" ".join(page.extract_text() for page in pdf.pages).split())


# --- Answers that no sound server gives -------------------------------------------------------------------------


def _searchsets(answer: Any) -> Iterator[dict[str, Any]]:
    for entry in answer.get("entry", ()):
        if entry.get("resource", {}).get("type") == "searchset":
            yield entry["resource"]


def _of_another_patient(answer: Any) -> Any:
    for found in _searchsets(answer):
        found["entry"][0]["resource"]["subject"] = {"reference": "Patient/demo-patient-rahimi"}
    return answer


def _of_another_encounter(answer: Any) -> Any:
    for found in _searchsets(answer):
        found["entry"][0]["resource"]["encounter"] = {"reference": "Encounter/another"}
    return answer


def _another_patient_s_record(answer: Any) -> Any:
    for entry in answer["entry"]:
        if entry.get("resource", {}).get("resourceType") == "Patient":
            entry["resource"]["id"] = "demo-patient-rahimi"
    return answer


def _one_fewer(answer: Any) -> Any:
    for found in _searchsets(answer):
        found["total"] = len(found["entry"])
        del found["entry"][0]
    return answer


def _status(code: str, kind: str) -> Alter:
    def alter(answer: Any) -> Any:
        for entry in answer["entry"]:
            resource = entry.get("resource", {})
            if kind in (resource.get("type"), resource.get("resourceType")):
                entry["response"] = {"status": code}
                entry["resource"] = {"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]}
        return answer

    return alter


def _fewer_entries(answer: Any) -> Any:
    answer["entry"].pop()
    return answer


@pytest.mark.parametrize(
    ("alter", "status", "code"),
    [
        (_of_another_patient, 422, "WRONG_PATIENT"),
        (_of_another_encounter, 422, "WRONG_PATIENT"),
        (_another_patient_s_record, 422, "WRONG_PATIENT"),
        (_one_fewer, 422, "DATA_INCOMPLETE"),
        (_status("404 Not Found", "Patient"), 422, "PATIENT_UNKNOWN"),
        (_status("403 Forbidden", "searchset"), 422, "FHIR_REFUSED"),
        (_status("500 Internal Server Error", "searchset"), 503, "FHIR_UNAVAILABLE"),
        (_status("429 Too Many Requests", "searchset"), 503, "FHIR_UNAVAILABLE"),
        (_fewer_entries, 422, "FHIR_INVALID"),
    ],
)
def test_an_answer_that_is_not_the_patient_s_or_not_whole_is_no_document(
    caller: Api, between: Between, alter: Alter, status: int, code: str
) -> None:
    between.alter = alter
    answer = generate(caller)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert "Noorzai" not in answer.text


def test_a_next_page_elsewhere_is_not_fetched(caller: Api, between: Between) -> None:
    other = Elsewhere()

    def alter(answer: Any) -> Any:
        for found in _searchsets(answer):
            found["link"] = [{"relation": "next", "url": f"{other.url}/fhir/ServiceRequest?page=2"}]
        return answer

    between.alter = alter
    answer = generate(caller)
    assert (answer.status_code, answer.json()["code"]) == (422, "DATA_INCOMPLETE")
    assert other.asked == []


def test_redirects_take_the_token_nowhere(caller: Api, between: Between) -> None:
    other = Elsewhere()
    between.redirect = f"{other.url}/fhir"
    answer = generate(caller)
    assert (answer.status_code, answer.json()["code"]) == (422, "FHIR_INVALID")
    assert other.asked == []


def test_the_token_goes_to_its_host_and_into_no_log(caller: Api, between: Between, service: Service) -> None:
    between.asked.clear()
    assert generate(caller).status_code == 201
    assert {asked["authorization"] for asked in between.asked} == {f"Bearer {TOKEN}"}
    assert TOKEN not in service.log


# --- Records as a real server holds them --------------------------------------------------------------------------


def _order(number: str, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "ServiceRequest",
        "id": f"whose-{number}",
        "status": "active",
        "intent": "order",
        "code": {"text": f"Test {number}"},
        "subject": {"reference": "Patient/whose"},
        **members,
    }


def _person(name: str = "whose", **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": name,
        "name": [{"family": "Ahmadi", "given": ["Sara"]}],
        "birthDate": "1990-01-01",
        **members,
    }


def _about(patient: str) -> dict[str, Any]:
    return {"patient": patient, "encounterId": None}


def test_only_what_is_current_prints(caller: Api, fhir: SyntheticFhirServer) -> None:
    statuses = ("active", "revoked", "completed", "on-hold", "draft", "entered-in-error", "unknown")
    orders = [_order(status, status=status) for status in statuses]
    fhir.load([_person(), *orders, _order("forbidden", doNotPerform=True)])
    text = text_of(generate(caller, **_about("whose")))
    assert "Test active" in text
    for status in ("revoked", "entered-in-error", "forbidden", "draft"):
        assert f"Test {status}" not in text


@pytest.mark.parametrize("where", ["order", "deep in an order", "patient"])
def test_a_modifier_that_the_form_does_not_know_refuses(caller: Api, fhir: SyntheticFhirServer, where: str) -> None:
    modifier = [{"url": "https://example.org/not", "valueBoolean": True}]
    patient, order = _person("modified"), _order("modified", subject={"reference": "Patient/modified"})
    if where == "order":
        order["modifierExtension"] = modifier
    elif where == "patient":
        patient["modifierExtension"] = modifier
    else:
        order["note"] = [{"text": "n"}]
        order["code"]["coding"] = [{"code": "x"}]
        order["contained"] = [{"resourceType": "Specimen", "id": "s", "modifierExtension": modifier}]
    fhir.load([patient, order])
    answer = generate(caller, **_about("modified"))
    assert (answer.status_code, answer.json()["code"]) == (422, "MODIFIER_UNKNOWN")


@pytest.mark.parametrize(
    "members",
    [
        {"active": False},
        {"link": [{"other": {"reference": "Patient/demo-patient-noorzai"}, "type": "replaced-by"}]},
    ],
    ids=["inactive", "merged away"],
)
def test_a_record_out_of_use_has_its_own_code(caller: Api, fhir: SyntheticFhirServer, members: dict[str, Any]) -> None:
    fhir.load([_person("gone", **members), _order("gone", subject={"reference": "Patient/gone"})])
    answer = generate(caller, **_about("gone"))
    assert (answer.status_code, answer.json()["code"]) == (422, "PATIENT_INACTIVE")


_NO_KNOWN_ALLERGY = {
    "resourceType": "AllergyIntolerance",
    "id": "none-known",
    "clinicalStatus": {"coding": [{"code": "active"}]},
    "verificationStatus": {"coding": [{"code": "confirmed"}]},
    "code": {"coding": [{"system": "http://snomed.info/sct", "code": "716186003", "display": "No known allergy"}]},
    "patient": {"reference": "Patient/allergies"},
}


def test_known_none_and_none_recorded_are_different_words(caller: Api, fhir: SyntheticFhirServer) -> None:
    request = {"inputs": {"procedure": "Appendectomy"}, **_about("allergies")}
    fhir.load([_person("allergies")])
    unknown = text_of(generate(caller, "consent", **request))
    fhir.load([_NO_KNOWN_ALLERGY])
    none = text_of(generate(caller, "consent", **request))
    mistaken = copy.deepcopy(_NO_KNOWN_ALLERGY)
    mistaken["verificationStatus"]["coding"][0]["code"] = "entered-in-error"
    fhir.load([mistaken])
    again = text_of(generate(caller, "consent", **request))
    assert "No known allergies" in none
    assert "No known allergies" not in unknown
    assert "No known allergies" not in again


@pytest.mark.parametrize(
    ("check", "status"),
    [
        ({"birthDate": "1990-01-01"}, 201),
        ({"birthDate": "1990-01-02"}, 422),
        ({"identifier": "nobody's"}, 422),
    ],
)
def test_what_the_caller_knows_of_the_patient_is_compared(
    caller: Api, fhir: SyntheticFhirServer, check: dict[str, str], status: int
) -> None:
    fhir.load([_person("checked"), _order("checked", subject={"reference": "Patient/checked"})])
    answer = generate(caller, patientCheck=check, **_about("checked"))
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["code"] == "PATIENT_MISMATCH"
        assert "1990" not in answer.text


def test_every_read_is_recorded_with_its_version(caller: Api, fhir: SyntheticFhirServer) -> None:
    fhir.load([_person("traced"), _order("traced", subject={"reference": "Patient/traced"})])
    answer = generate(caller, **_about("traced"))
    document = caller.get(f"/v1/documents/{answer.headers['x-document-id']}").json()
    assert document["dataAsOf"] <= document["renderedAt"]
    told = caller.get(f"/v1/documents/{document['id']}/provenance")
    assert told.headers["content-type"] == "application/fhir+json"
    made = told.json()
    assert made["target"][0]["identifier"]["value"] == document["id"]
    sources = {entity["what"].get("reference") for entity in made["entity"] if entity["role"] == "source"}
    assert {source.split("/_history/")[0] for source in sources} == {"Patient/traced", "ServiceRequest/whose-traced"}
    for source in sources:
        read = httpx2.get(
            f"{fhir.base_url}/{source}", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=30
        )
        assert read.status_code == 200
    assert "Ahmadi" not in told.text
    # A FHIR server that validates what it takes knows the shape better than a test does.
    fhir.load([made])


def test_a_version_withdrawn_while_it_is_rendered_makes_no_document(caller: Api, between: Between) -> None:
    platform = caller.get("/v1/document-templates", params={"platformFormKey": "general-test-requisition"}).json()
    fork = caller.post(
        f"/v1/document-templates/{platform['items'][0]['id']}/fork", json={"name": f"Withdrawn {uuid.uuid4()}"}
    ).json()
    path = f"/v1/document-templates/{fork['id']}"
    version = caller.post(f"{path}/publish", headers={"Idempotency-Key": str(uuid.uuid4())}).json()["id"]
    withdrawn: list[int] = []

    def withdraw(answer: Any) -> Any:
        if not withdrawn:
            done = caller.post(f"{path}/versions/{version}/withdraw", json={"reason": "dose column shifted"})
            withdrawn.append(done.status_code)
        return answer

    between.alter = withdraw
    job = caller.render(request_for(version, patient=PATIENT))
    assert withdrawn == [200]
    assert (job["status"], job["error"]["code"]) == ("failed", "TEMPLATE_VERSION_RETIRED")
    found = caller.get("/v1/documents", params={"patientId": PATIENT}).json()["items"]
    assert version not in [document["templateVersionId"] for document in found]
