"""Contract §2 and §6: many requests in one call. What is committed and answered is so for each on its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from contract.from_outside.caller import JOBS, Caller, Request, code_of, instant, new_id
from contract.from_outside.shapes import JOB


def test_a_batch_answers_each_of_its_items(nurse: Caller, request_for: Request) -> None:
    """§2: "up to 50 full requests, each committed and answered on its own"; §6: "`{items: [{clientMutationId, status,
    job?|problem?}]}`"."""
    known = request_for()
    nurse.post(JOBS, json=known)
    twice = request_for()
    items = {
        "new": (request_for(), 202, None),
        "unknown patient": (request_for(patientId="nobody"), 202, None),
        "known": (known, 200, None),
        "known, other content": ({**known, "patientId": "demo-patient-rahimi"}, 422, "CLIENT_MUTATION_ID_REUSED"),
        "no locale": (request_for(locale=...), 400, "INVALID_REQUEST"),
        "too old": (request_for(requestedAt=instant(days=-500)), 410, "MUTATION_WINDOW_PASSED"),
        "not an object": ("nonsense", 400, "INVALID_REQUEST"),
        "first of two": (twice, 202, None),
        "second of two": (twice, 200, None),
        "new, after all that": (request_for(), 202, None),
    }
    answer = nurse.post(f"{JOBS}/batch", json={"items": [item for item, _, _ in items.values()]})
    assert answer.status_code == 200
    for (name, (item, status, code)), told in zip(items.items(), answer.json()["items"], strict=True):
        assert told["status"] == status, name
        if isinstance(item, dict):
            assert told["clientMutationId"] == item["clientMutationId"], name
        if code is None:
            assert set(told["job"]) >= JOB, name
            assert told["job"]["clientMutationId"] == item["clientMutationId"], name
        else:
            assert told["problem"]["code"] == code, name
            assert told["problem"]["title"], name
    accepted = [told["job"]["id"] for told in answer.json()["items"] if told["status"] == 202]
    assert [nurse.finished(job)["status"] for job in accepted] == ["completed", "failed", "completed", "completed"]


def test_a_batch_has_at_most_fifty(nurse: Caller, request_for: Request) -> None:
    """§2: "up to 50 full requests"; one more takes none of them."""
    items = [request_for() for _ in range(51)]
    assert nurse.post(f"{JOBS}/batch", json={"items": items}).status_code == 400
    assert nurse.known(*(item["clientMutationId"] for item in items)) == [False] * 51


def test_the_same_batch_twice_at_once_makes_each_document_once(nurse: Caller, request_for: Request) -> None:
    """Sync contract 4.2: deduplicated also when a device's retry overtakes its first try."""
    batch = {"items": [request_for(patientId="demo-patient-rahimi") for _ in range(10)]}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: nurse.post(f"{JOBS}/batch", json=batch).json()["items"], range(4)))
    for item, told in zip(batch["items"], zip(*answers, strict=True), strict=True):
        assert sorted(one["status"] for one in told) == [200, 200, 200, 202]
        (job,) = {one["job"]["id"] for one in told}
        done = nurse.finished(job)
        assert (done["clientMutationId"], done["status"]) == (item["clientMutationId"], "completed")


def test_lookup_says_which_ids_are_known(nurse: Caller, request_for: Request) -> None:
    """§2: "which of up to 500 clientMutationIds the server knows, with their jobs"; §6: "`{items: [{clientMutationId,
    known, job?}]}`"."""
    request = request_for()
    job = nurse.render(request)
    unknown = new_id()
    answer = nurse.post(f"{JOBS}/lookup", json={"clientMutationIds": [request["clientMutationId"], unknown]})
    first, second = answer.json()["items"]
    assert first == {"clientMutationId": request["clientMutationId"], "known": True, "job": job}
    assert (second["clientMutationId"], second["known"], second.get("job")) == (unknown, False, None)
    many = [new_id() for _ in range(501)]
    assert nurse.post(f"{JOBS}/lookup", json={"clientMutationIds": many[:500]}).status_code == 200
    assert nurse.post(f"{JOBS}/lookup", json={"clientMutationIds": many}).status_code == 400


def test_bulk_is_one_version_for_many_patients(nurse: Caller, admin: Caller, form_version: str) -> None:
    """§2: "every item has its own clientMutationId and follows section 3"; tenant admin."""
    patients = ["demo-patient-noorzai", "demo-patient-rahimi", "demo-patient-ahmadzai"]
    bulk = {
        "templateVersionId": form_version,
        "locale": "en",
        "requestedAt": instant(),
        "inputs": {"tests": ["CBC"]},
        "items": [{"clientMutationId": new_id(), "patientId": patient} for patient in patients],
    }
    assert code_of(nurse.post(f"{JOBS}/bulk", json=bulk)) == (403, "FORBIDDEN")
    assert nurse.known(*(item["clientMutationId"] for item in bulk["items"])) == [False] * 3
    first = admin.post(f"{JOBS}/bulk", json=bulk)
    again = admin.post(f"{JOBS}/bulk", json=bulk)
    assert (first.status_code, again.status_code) == (202, 202), first.text
    for item in bulk["items"]:
        found = nurse.post(f"{JOBS}/lookup", json={"clientMutationIds": [item["clientMutationId"]]}).json()["items"]
        job = nurse.finished(found[0]["job"]["id"])
        assert (job["patientId"], job["status"]) == (item["patientId"], "completed")
