"""Contract §3: requests that are refused with a reason, after which the same id is still free."""

from __future__ import annotations

import time

from contract.from_outside.caller import JOBS, Caller, Request, code_of, instant
from contract.from_outside.clinic import CLINIC, Clinic
from contract.from_outside.fhir_edge import FhirGate
from contract.from_outside.forms import Form

UNKNOWN_VERSION = "tv_01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_no_refusal_consumes_the_id(nurse: Caller, author: Caller, request_for: Request) -> None:
    """§3: "any error answer, 409 and 410 included: the id is not consumed"."""
    later = Form(author).version(effectiveFrom=instant(days=1))
    for refused, answer in {
        "window": ({"requestedAt": instant(days=-401)}, (410, "MUTATION_WINDOW_PASSED")),
        "expired": ({"notAfter": instant(seconds=-5)}, (409, "EXPIRED_BY_REQUESTER")),
        "effective": ({"templateVersionId": later, "inputs": {}}, (409, "TEMPLATE_VERSION_NOT_EFFECTIVE")),
        "version": ({"templateVersionId": UNKNOWN_VERSION}, (404, "NOT_FOUND")),
        "locale": ({"locale": "fr"}, (422, "LOCALE_UNSUPPORTED")),
        "inputs": ({"inputs": {"nonsense": 1}}, (422, "INPUTS_INVALID")),
        "tenant": ({"tenant": "strangers"}, (400, "INVALID_REQUEST")),
    }.values():
        request = request_for(**refused)
        assert code_of(nurse.post(JOBS, json=request)) == answer
        assert nurse.known(request["clientMutationId"]) == [False]
        assert nurse.post(JOBS, json=request_for(clientMutationId=request["clientMutationId"])).status_code == 202


def test_what_was_accepted_is_answered_by_its_job_however_old_it_says_it_is(
    nurse: Caller, request_for: Request
) -> None:
    """§3: "dedup look-up, and only then everything else. So a replay of something accepted is always answered by its
    job"; the window is 400 days."""
    assert nurse.post(JOBS, json=request_for(requestedAt=instant(days=-399))).status_code == 202
    request = request_for()
    job = nurse.post(JOBS, json=request).json()
    again = nurse.post(JOBS, json={**request, "requestedAt": instant(days=-500)})
    assert (again.status_code, again.json()["id"]) == (200, job["id"])


def test_a_newer_version_refuses_nothing_and_changes_nothing(
    nurse: Caller, author: Caller, request_for: Request
) -> None:
    """§3: "a newer version was published since: renders all the same", and "never silently upgraded"."""
    form = Form(author)
    first = form.version("First wording")
    second = form.version("Second wording")
    assert author.get(form.path).json()["currentVersionId"] == second
    job = nurse.render(request_for(templateVersionId=first, inputs={}))
    assert (job["status"], job["templateVersionId"]) == ("completed", first)
    assert nurse.get(f"/v1/documents/{job['documentId']}").json()["templateVersionId"] == first


def test_a_withdrawn_version_is_refused_with_the_current_one(
    nurse: Caller, author: Caller, admin: Caller, request_for: Request
) -> None:
    """§3: "the template was retired, or this version withdrawn: 409 `TEMPLATE_VERSION_RETIRED` with
    `currentVersionId` or null"."""
    form = Form(author)
    first, second = form.version("First"), form.version("Second")
    accepted = request_for(templateVersionId=first, inputs={})
    job = nurse.render(accepted)
    assert admin.post(f"{form.path}/versions/{first}/withdraw", json={}).status_code == 400
    assert admin.post(f"{form.path}/versions/{first}/withdraw", json={"reason": "wrong dose"}).status_code == 200
    assert nurse.get(f"{form.path}/versions/{first}").json()["withdrawn"]
    request = request_for(templateVersionId=first, inputs={})
    for refused in (nurse.post(JOBS, json=request), nurse.generate(request)):
        assert code_of(refused) == (409, "TEMPLATE_VERSION_RETIRED")
        assert refused.json()["currentVersionId"] == second
    assert nurse.known(request["clientMutationId"]) == [False]
    replay = nurse.post(JOBS, json=accepted)
    assert (replay.status_code, replay.json()["id"]) == (200, job["id"])
    assert admin.post(f"{form.path}/retire", json={}).status_code == 200
    refused = nurse.post(JOBS, json=request_for(templateVersionId=second, inputs={}))
    assert code_of(refused) == (409, "TEMPLATE_VERSION_RETIRED")
    assert refused.json()["currentVersionId"] is None


def test_what_waits_is_rendered_after_retirement_and_fails_after_withdrawal(
    nurse: Caller, author: Caller, admin: Caller, request_for: Request, fhir: FhirGate
) -> None:
    """§3: "A job accepted before its template was retired is rendered; one whose version was withdrawn fails with that
    code", also when it is withdrawn while the job runs."""
    retired, withdrawn = Form(author), Form(author)
    versions = [retired.version(), withdrawn.version()]
    with fhir.held():
        jobs = [nurse.post(JOBS, json=request_for(templateVersionId=one, inputs={})).json() for one in versions]
        assert admin.post(f"{retired.path}/retire", json={}).status_code == 200
        path = f"{withdrawn.path}/versions/{versions[1]}/withdraw"
        assert admin.post(path, json={"reason": "wrong dose"}).status_code == 200
    kept, taken = (nurse.finished(job["id"]) for job in jobs)
    assert kept["status"] == "completed"
    assert (taken["status"], taken["error"]["code"]) == ("failed", "TEMPLATE_VERSION_RETIRED")
    assert taken["documentId"] is None
    assert code_of(nurse.post(f"{JOBS}/{taken['id']}/retry")) == (409, "TEMPLATE_VERSION_RETIRED")


def test_a_version_past_its_time_needs_the_tenants_word(
    nurse: Caller, author: Caller, request_for: Request, clinic: Clinic
) -> None:
    """§3: "outside effectiveFrom/To by server time: 409 `TEMPLATE_VERSION_NOT_EFFECTIVE` unless the tenant allows
    reprints"."""
    version = Form(author).version(effectiveTo=instant(seconds=2))
    time.sleep(3)
    request = request_for(templateVersionId=version, inputs={})
    assert code_of(nurse.post(JOBS, json=request)) == (409, "TEMPLATE_VERSION_NOT_EFFECTIVE")
    clinic.command("tenant", "create", CLINIC, "--allow-reprint")
    try:
        assert nurse.post(JOBS, json=request).status_code == 202
    finally:
        clinic.command("tenant", "create", CLINIC, "--no-reprint")


def test_not_after_is_looked_at_again_at_the_start_and_at_retry(
    nurse: Caller, request_for: Request, fhir: FhirGate
) -> None:
    """§3: "`notAfter` has passed (checked again at start and at retry): 409 `EXPIRED_BY_REQUESTER`; nothing is
    rendered"; a replay is answered by its job all the same."""
    request = request_for(patientId="nobody", notAfter=instant(seconds=2))
    failed = nurse.render(request)
    assert failed["status"] == "failed"
    time.sleep(3)
    assert code_of(nurse.post(f"{JOBS}/{failed['id']}/retry")) == (409, "EXPIRED_BY_REQUESTER")
    assert nurse.post(JOBS, json=request).json()["status"] == "failed"


def test_a_form_of_one_facility_makes_documents_of_that_facility(
    north: Caller, south: Caller, author: Caller, request_for: Request
) -> None:
    """§2: "of a facility that the caller is not in: 404, exactly as if it did not exist": form, job and document."""
    form = Form(author, facilityId="north")
    version = form.version()
    job = north.render(request_for(templateVersionId=version, inputs={}))
    document = north.get(f"/v1/documents/{job['documentId']}").json()
    assert document["facilityId"] == "north"
    unknown = south.get("/v1/documents/doc_01ARZ3NDEKTSV4RRFFQ69G5FAV").json()
    for path in (form.path, f"{JOBS}/{job['id']}", f"/v1/documents/{document['id']}"):
        answer = south.get(path)
        assert answer.status_code == 404
        assert {**answer.json(), "requestId": ""} == {**unknown, "requestId": ""}
    assert south.post(f"/v1/documents/{document['id']}/download-url").status_code == 404
    assert document["id"] not in [one["id"] for one in south.every("/v1/documents", patientId=document["patientId"])]
    assert code_of(south.post(JOBS, json=request_for(templateVersionId=version, inputs={})))[0] == 404
