"""Contract §3 and §4: nothing passes for what it is not: an id written otherwise, a path for an id, an old copy."""

from __future__ import annotations

import json
import uuid

import pytest

from contract.from_outside.caller import JOBS, Caller, Request, code_of, new_id
from contract.from_outside.forms import Form


def test_an_id_written_otherwise_is_the_same_id(nurse: Caller, request_for: Request) -> None:
    """§1: "clientMutationId: a UUID": its capitals, braces or missing dashes make no second request."""
    key = new_id()
    job = nurse.post(JOBS, json=request_for(clientMutationId=key)).json()
    for written in (key.upper(), key.replace("-", ""), f"{{{key}}}", f"urn:uuid:{key}", f" {key}", f'"{key}"'):
        answers = [
            nurse.post(JOBS, json=request_for(clientMutationId=written)),
            nurse.post(JOBS, json=request_for(clientMutationId=...), headers={"Idempotency-Key": written.strip()}),
        ]
        for answer in answers:
            assert answer.status_code in (200, 400), f"{written}: {answer.status_code}"
            if answer.status_code == 200:
                assert answer.json()["id"] == job["id"], written
    assert nurse.known(key) == [True]


@pytest.mark.parametrize("nobodys", [f"{0:032x}", "f" * 32])
def test_an_id_that_nobody_made_is_no_id(nurse: Caller, request_for: Request, nobodys: str) -> None:
    """§1: "made once per user action": under the nil id of a program that made none, all its requests are one."""
    key = str(uuid.UUID(nobodys))
    assert nurse.post(JOBS, json=request_for(clientMutationId=key)).status_code == 400
    assert nurse.post(JOBS, json=request_for(clientMutationId=...), headers={"Idempotency-Key": key}).status_code == 400
    batch = {"items": [request_for(clientMutationId=key)]}
    assert [one["status"] for one in nurse.post(f"{JOBS}/batch", json=batch).json()["items"]] == [400]


@pytest.mark.parametrize("patient", ["", "demo-patient-noorzai/", "a b", "*"])
def test_no_documents_is_no_answer_to_what_is_no_patient(nurse: Caller, patient: str) -> None:
    """§2: `GET /v1/documents?patientId=`: an empty list says that this patient has none."""
    assert nurse.get("/v1/documents", params={"patientId": patient}).status_code == 400


def test_two_tokens_are_nobodys(nurse: Caller, stranger: Caller) -> None:
    """§1: the tenant is the token's: with two of them, a proxy may have checked the other one."""
    for pair in ((nurse, stranger), (stranger, nurse), (nurse, nurse)):
        headers = [("Authorization", one.headers["authorization"]) for one in pair]
        with nurse.without_token() as both:
            assert both.get("/v1/devices", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "patient",
    [
        "demo-patient-noorzai/../demo-patient-rahimi",
        "../Patient/demo-patient-rahimi",
        "Patient/demo-patient-rahimi",
        "demo-patient-rahimi?_id=demo-patient-noorzai",
        "demo-patient-noorzai,demo-patient-rahimi",
        "demo-patient-noorzai%2F..%2Fdemo-patient-rahimi",
        "demo-patient-noorzai#",
        "demo-patient-noorzai\n",
        " demo-patient-noorzai",
        "DEMO-PATIENT-NOORZAI",
        "",
        "*",
        "x" * 65,
    ],
)
def test_a_patients_id_is_an_id_and_no_path(nurse: Caller, request_for: Request, patient: str) -> None:
    """§3: the right patient or none: whatever is written there reaches no other record of the FHIR server."""
    answer = nurse.post(JOBS, json=request_for(patientId=patient))
    if answer.status_code == 400:
        return
    assert answer.status_code == 202
    job = nurse.finished(answer.json()["id"])
    assert (job["status"], job["documentId"]) == ("failed", None)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        (
            '"patientId": "demo-patient-noorzai"',
            '"patientId": "demo-patient-noorzai", "patientId": "demo-patient-rahimi"',
        ),
        ('"tests": ["CBC"]', '"tests": ["CBC"], "tests": ["ESR"]'),
        ('"locale": "en"', '"locale": "en", "locale": "fa-AF"'),
        ('"CBC"', '"\\ud800"'),
        ('"CBC"', '"CB\\u0000C"'),
    ],
)
def test_what_may_be_read_in_two_ways_is_not_read_at_all(
    nurse: Caller, request_for: Request, written: str, instead: str
) -> None:
    """§3: "canonical JSON (RFC 8785)", which knows neither a name twice nor half a character."""
    request = request_for()
    body = json.dumps(request).replace(written, instead)
    assert body != json.dumps(request)
    answer = nurse.post(JOBS, content=body.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert nurse.known(request["clientMutationId"]) == [False]


@pytest.mark.parametrize("told", ["2026-11-28T10:00:00", "2026-11-28", 1764300000, "yesterday"])
def test_an_instant_has_an_offset(nurse: Caller, request_for: Request, told: object) -> None:
    """§1: "Instants are RFC 3339 UTC": 10:00 of nobody's clock decides about no dedup window."""
    assert nurse.post(JOBS, json=request_for(requestedAt=told)).status_code == 400
    assert nurse.post(JOBS, json=request_for(notAfter=told)).status_code == 400


def test_two_contents_under_one_id_in_one_batch(nurse: Caller, request_for: Request) -> None:
    """§3: "same id, other content: 422", also within one call: the first counts."""
    first = request_for()
    other = {**first, "patientId": "demo-patient-rahimi"}
    told = nurse.post(f"{JOBS}/batch", json={"items": [first, other, first]}).json()["items"]
    assert [one["status"] for one in told] == [202, 422, 200]
    job = nurse.finished(told[0]["job"]["id"])
    assert nurse.get(f"/v1/documents/{job['documentId']}").json()["patientId"] == first["patientId"]


def test_an_old_copy_is_never_confirmed_as_current(
    nurse: Caller, author: Caller, admin: Caller, request_for: Request
) -> None:
    """§2: "Reads carry a strong `ETag`": what was withdrawn, retired or taken back is not answered 304."""
    form = Form(author)
    version = form.version()
    job = nurse.render(request_for(templateVersionId=version, inputs={}))
    paths = {
        "version": f"{form.path}/versions/{version}",
        "form": form.path,
        "catalogue": "/v1/document-templates?category=letter",
        "document": f"/v1/documents/{job['documentId']}",
        "documents": "/v1/documents?patientId=demo-patient-noorzai",
        "feed": "/v1/documents/changes",
    }
    etags = {name: nurse.get(path).headers["etag"] for name, path in paths.items()}

    def confirmed(name: str) -> bool:
        return nurse.get(paths[name], headers={"If-None-Match": etags[name]}).status_code == 304

    assert admin.post(f"{paths['version']}/withdraw", json={"reason": "wrong dose"}).status_code == 200
    assert [name for name in ("version", "form", "catalogue") if confirmed(name)] == []
    etags |= {name: nurse.get(paths[name]).headers["etag"] for name in ("form", "catalogue")}
    assert admin.post(f"{form.path}/retire", json={}).status_code == 200
    assert [name for name in ("form", "catalogue") if confirmed(name)] == []
    void = nurse.post(f"{paths['document']}/void", json={"reason": "wrong"}, headers={"Idempotency-Key": new_id()})
    assert void.status_code == 200
    assert [name for name in ("document", "documents", "feed") if confirmed(name)] == []
    assert nurse.get(paths["document"], headers={"If-None-Match": "*"}).status_code in (200, 304)


def test_a_withdrawn_version_is_marked_and_never_made(
    nurse: Caller, author: Caller, admin: Caller, request_for: Request
) -> None:
    """§1, §3: a form whose newest version was withdrawn says so wherever it is listed, and nobody renders it."""
    form = Form(author)
    first, second = form.version("First"), form.version("Second")
    admin.post(f"{form.path}/versions/{second}/withdraw", json={"reason": "wrong dose"})
    (listed,) = [one for one in nurse.every("/v1/document-templates", category="letter") if one["id"] == form.id]
    for told in (listed, nurse.get(form.path).json()):
        assert told["currentVersionId"] != second or told["currentVersionWithdrawn"] is True
    refused = nurse.post(JOBS, json=request_for(templateVersionId=second, inputs={}))
    assert code_of(refused) == (409, "TEMPLATE_VERSION_RETIRED")
    assert refused.json()["currentVersionId"] in (None, first)
    assert nurse.render(request_for(templateVersionId=first, inputs={}))["status"] == "completed"
