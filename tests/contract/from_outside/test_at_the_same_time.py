"""Contract §2 and §3 under hurry: the same act by many at once, and two acts that exclude each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from clamav import running_clamd
from clamd_between import ClamdBetween
from contract.from_outside.caller import JOBS, Caller, Request, new_id
from contract.from_outside.clinic import wait_for
from contract.from_outside.forms import Form, letter
from engines import EngineRequirement

UPLOADS = "/v1/documents/uploads"


def _at_once(*acts: Callable[[], httpx2.Response]) -> list[httpx2.Response]:
    with ThreadPoolExecutor(len(acts)) as pool:
        return [one.result() for one in [pool.submit(act) for act in acts]]


def _withdraw(nurse: Caller, document: str, verb: str, **body: str) -> httpx2.Response:
    return nurse.post(f"/v1/documents/{document}/{verb}", json=body, headers={"Idempotency-Key": new_id()})


def test_a_failed_job_that_many_retry_is_tried_once_more(nurse: Caller, request_for: Request) -> None:
    """§2: `…/retry` "new attempt of a failed job, same job id": one attempt, whoever asked for it how often."""
    failed = nurse.render(request_for(patientId="nobody"))
    answers = _at_once(*[lambda: nurse.post(f"{JOBS}/{failed['id']}/retry")] * 12)
    assert {answer.status_code for answer in answers} <= {200, 202, 409}
    accepted = [answer for answer in answers if answer.status_code < 300]
    assert accepted
    again = nurse.finished(failed["id"])
    # A retry that came after the new attempt had failed as well is one more, and each was answered.
    assert failed["attempts"] < again["attempts"] <= failed["attempts"] + len(accepted)


def test_of_two_documents_that_replace_each_other_one_stays_current(nurse: Caller, request_for: Request) -> None:
    """§1: `current`, `superseded`: a patient's last valid document never vanishes behind a circle."""
    for _ in range(5):
        first, second = (nurse.generate(request_for()).json()["id"] for _ in range(2))
        answers = _at_once(
            lambda: _withdraw(nurse, first, "supersede", byDocumentId=second, reason="corrected"),  # noqa: B023
            lambda: _withdraw(nurse, second, "supersede", byDocumentId=first, reason="corrected"),  # noqa: B023
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        states = [nurse.get(f"/v1/documents/{one}").json()["status"] for one in (first, second)]
        assert sorted(states) == ["current", "superseded"]


def test_a_document_has_one_end(nurse: Caller, request_for: Request) -> None:
    """§2: `supersede`, `void`: of two ends at once the document has the one that was answered 200."""
    old, new = (nurse.generate(request_for()).json()["id"] for _ in range(2))
    answers = _at_once(
        lambda: _withdraw(nurse, old, "void", reason="wrong"),
        lambda: _withdraw(nurse, old, "supersede", byDocumentId=new, reason="corrected"),
        lambda: _withdraw(nurse, old, "void", reason="wrong again"),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    (done,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert nurse.get(f"/v1/documents/{old}").json()["status"] == done["status"]
    replaced = nurse.get(f"/v1/documents/{new}").json()
    assert replaced["supersedes"] == (old if done["status"] == "superseded" else None)


def test_a_draft_that_many_publish_is_one_version(author: Caller) -> None:
    """§2: `POST …/publish` "freeze": a draft is published once, also under keys of its own each."""
    form = Form(author)
    form.save(letter())
    answers = _at_once(*[form.publish] * 6)
    refused = [answer.status_code for answer in answers if answer.status_code != 201]
    assert len(refused) == 5
    assert set(refused) <= {409, 412}
    assert len(author.get(form.path).json()["versions"]) == 1


def test_what_is_published_is_what_was_saved_whole(author: Caller) -> None:
    """§1: a version is "one published definition": the draft of one author, never a mixture of two."""
    for round_ in range(3):
        form = Form(author)
        form.save(letter("Before"))
        titles = [f"By author {round_}-{n}" for n in range(4)]
        etag = form.etag()
        _at_once(
            form.publish,
            *[
                (lambda title=title: author.put(f"{form.path}/draft", json=letter(title), headers={"If-Match": etag}))  # type: ignore[misc]  # noqa: B023
                for title in titles
            ],
        )
        for version in author.get(form.path).json()["versions"]:
            definition = author.get(f"{form.path}/versions/{version['id']}").json()["definition"]
            title = definition["labels"]["en"]["title"]
            assert title in ["Before", *titles]
            assert definition == letter(title)


@pytest.fixture
def pdf(nurse: Caller, request_for: Request) -> bytes:
    """A sound PDF: one that the service made."""
    return nurse.generate(request_for(), Accept="application/pdf").content


def test_pieces_and_finalize_at_the_same_time_make_one_file_and_one_document(
    nurse: Caller,
    pdf: bytes,
    scanner: ClamdBetween,
    tmp_path_factory: pytest.TempPathFactory,
    require_engine: EngineRequirement,
) -> None:
    """§6: "`Upload-Offset`": a device that sends a piece again while the first is on its way, and finalizes twice."""
    require_engine("clamd")
    with running_clamd(tmp_path_factory.mktemp("clamd")) as running:
        scanner.real = running
        try:
            told = {"fileName": "scan.pdf", "contentType": "application/pdf", "size": len(pdf)}
            told |= {"sha256": hashlib.sha256(pdf).hexdigest(), "patientId": "demo-patient-ahmadzai"}
            made = nurse.post(UPLOADS, json={**told, "category": "scanned_record", "title": "Old chart"})
            path, half = f"{UPLOADS}/{made.json()['id']}", len(pdf) // 2

            def piece(start: int, end: int) -> httpx2.Response:
                headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(start)}
                return nurse.patch(path, content=pdf[start:end], headers=headers)

            for start, end in ((0, half), (half, len(pdf))):
                answers = _at_once(*[lambda start=start, end=end: piece(start, end)] * 6)  # type: ignore[misc]
                assert sorted(answer.status_code for answer in answers) == [204] + [409] * 5
                assert nurse.head(path).headers["upload-offset"] == str(end)
            finals = _at_once(*[lambda: nurse.post(f"{path}/finalize")] * 8)
            assert {answer.status_code for answer in finals} == {202}
            wait_for(lambda: nurse.get(path).json()["status"] == "accepted")
        finally:
            scanner.real = None
    found = nurse.every("/v1/documents", patientId="demo-patient-ahmadzai")
    assert len([one for one in found if one["sha256"] == told["sha256"] and one["kind"] == "uploaded"]) == 1


def test_numbers_are_never_given_twice(nurse: Caller, stranger: Caller, request_for: Request) -> None:
    """§1: "`number` is unique per tenant and printed on the page", whatever the ways that documents come by."""
    ask: list[Callable[[], httpx2.Response]] = [lambda: nurse.generate(request_for())] * 8
    answers: list[Any] = [one.json() for one in _at_once(*ask, *[lambda: nurse.post(JOBS, json=request_for())] * 8)]
    for one in answers:
        if one["id"].startswith("rjob_"):
            nurse.finished(one["id"])
    numbers = [one["number"] for one in nurse.every("/v1/documents", patientId="demo-patient-noorzai")]
    assert len(set(numbers)) == len(numbers)
