"""Contract §2, §3, §5, what an operator does to a service: workers of their own, the page behind the code on paper,
limits, a purge, a backup and its restore. One installation lives through all of it, in this order.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from contract.from_outside.caller import JOBS, Caller, code_of, instant, new_id
from contract.from_outside.clinic import CLINIC, PROGRAMS, STRANGERS, Clinic, Device, clean_environment, wait_for
from contract.from_outside.fhir_edge import FhirGate
from contract.from_outside.printed import plain, read_paper

PATIENT, NAME, BORN, FORM = "demo-patient-noorzai", "Noorzai", "1978", "General Test Requisition"

#: Enough for every test here but the one that goes over them.
USER_LIMIT, TENANT_LIMIT = 300, 400

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
def port() -> int:
    """A free port, which the public address names before anything listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory, fhir: FhirGate, port: int) -> Iterator[Clinic]:
    """An installation whose API has no worker of its own."""
    running = Clinic(
        tmp_path_factory.mktemp("operators") / "data",
        DOCUMENT_SERVICE_PUBLIC_URL=f"http://127.0.0.1:{port}",
        DOCUMENT_SERVICE_USER_RATE=f"{USER_LIMIT}/5",
        DOCUMENT_SERVICE_TENANT_RATE=f"{TENANT_LIMIT}/8",
    )
    running.start("--no-worker", port=port)
    for tenant in (CLINIC, STRANGERS):
        running.command("tenant", "create", tenant, "--fhir-url", fhir.url, "--name", "Karte Seh Clinic")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def nurse(clinic: Clinic) -> Iterator[Caller]:
    with clinic.caller(CLINIC, "nurse", "CLINICIAN") as caller:
        yield caller


@contextmanager
def _worker(clinic: Clinic) -> Iterator[subprocess.Popen[str]]:
    """``document-service worker`` beside ``serve``; asked to stop at the end."""
    environment = clean_environment(DOCUMENT_SERVICE_DATA_DIR=str(clinic.data_dir), **clinic.environment)
    with (clinic.data_dir.parent / "worker.log").open("a") as log:
        worker = subprocess.Popen(
            [str(PROGRAMS / "document-service"), "worker"], stdout=log, stderr=log, text=True, env=environment
        )
    try:
        yield worker
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


@pytest.fixture(scope="module")
def worker(clinic: Clinic, nurse: Caller) -> Iterator[subprocess.Popen[str]]:
    """The worker of the first days; it has made a document already."""
    request = _request(nurse)
    job = nurse.post(JOBS, json=request).json()["id"]
    assert nurse.get(f"{JOBS}/{job}").json()["status"] == "queued", "nobody is there to make it"
    ready = nurse.get("/health/ready")
    assert (ready.status_code, ready.json()["components"]["typesetting"]) == (200, "elsewhere")
    with _worker(clinic) as running:
        assert nurse.finished(job)["status"] == "completed"
        yield running


def _request(nurse: Caller, **fields: Any) -> dict[str, Any]:
    return {
        "clientMutationId": new_id(),
        "templateVersionId": nurse.form()["currentVersionId"],
        "patientId": PATIENT,
        "inputs": {"tests": ["CBC"]},
        "locale": "en",
        "requestedAt": instant(),
        **fields,
    }


def _made(nurse: Caller, **fields: Any) -> dict[str, Any]:
    job = nurse.render(_request(nurse, **fields))
    return dict(nurse.get(f"/v1/documents/{job['documentId']}").json())


def _act(nurse: Caller, path: str, **body: str) -> None:
    answer = nurse.post(f"/v1/documents/{path}", json=body, headers={"Idempotency-Key": new_id()})
    assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("worker")
def test_a_worker_alone_makes_what_the_api_took(nurse: Caller) -> None:
    """§5: "`worker`: a worker alone, as many as wanted"; `serve --no-worker`; §3: both kinds of render are one code."""
    assert nurse.generate(_request(nurse)).status_code == 201
    assert nurse.render(_request(nurse, locale="fa-AF"))["status"] == "completed"


@pytest.mark.usefixtures("worker")
def test_the_page_behind_the_code_follows_the_document(nurse: Caller) -> None:
    """§2: `/verify/{code}`: "genuine, superseded or withdrawn; no patient data"; issue 4: "with number, issue time and
    issuer to compare with the paper", so it says them as the paper does."""
    old, new, dari = (_made(nurse, locale=locale) for locale in ("en", "en", "fa-AF"))
    papers = {one["id"]: read_paper(nurse.get(nurse.url_of(one["id"])).content) for one in (old, new, dari)}
    with nurse.without_token() as anyone:

        def told(document: dict[str, Any]) -> str:
            paper = papers[document["id"]]
            page = anyone.get(paper.address, headers=BROWSER)
            assert page.headers["content-type"].startswith("text/html")
            program = anyone.get(paper.address, headers={"Accept": "application/json"})
            for text in (page.text, program.text):
                assert not [w for w in (NAME, BORN, PATIENT, document["id"], "CBC", "wrong") if w in text]
            shown = {plain(fact) for fact in re.findall(r"<dd[^>]*>(.*?)</dd>", page.text)}
            assert {document["number"], "Karte Seh Clinic"} <= shown
            assert [fact for fact in shown if "04:30" in fact and fact in paper.words] or document is dari, shown
            assert program.json()["number"] == document["number"]
            return str(program.json()["status"])

        assert [told(one) for one in (old, new, dari)] == ["genuine"] * 3
        _act(nurse, f"{old['id']}/supersede", byDocumentId=new["id"], reason="wrong dose")
        _act(nurse, f"{new['id']}/void", reason="wrong patient")
        assert [told(one) for one in (old, new, dari)] == ["superseded", "withdrawn", "genuine"]
        address = papers[old["id"]].address
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/verify/[\w-]{20,}", address)
        for wrong in (address[:-1], address + "x", address.swapcase()):
            assert code_of(anyone.get(f"/verify/{wrong.rsplit('/', 1)[1]}")) == (404, "NOT_FOUND")
    # Whoever holds a forged paper has a browser, and reads no JSON.
    forged = httpx2.get(address[:-4] + "AAAA", headers=BROWSER, trust_env=False)
    assert (forged.status_code, forged.headers["content-type"].split(";")[0]) == (404, "text/html")


@pytest.mark.usefixtures("worker")
def test_a_purged_job_is_answered_by_its_tombstone(clinic: Clinic, nurse: Caller) -> None:
    """§3: "the job was purged: its tombstone answers 200 with the last state, `documentId: null`, `purgedAt`"; the id
    is consumed all the same, another content under it is still another content, and the window is for what is unknown.
    """
    request = _request(nurse)
    job = nurse.render(request)
    url = nurse.url_of(job["documentId"])
    clinic.command("retention", "set-document", CLINIC, job["documentId"], "2020-01-01", "--reason", "asked for")
    assert "1 purged" in clinic.command("purge", "--tenant", CLINIC)
    again = nurse.post(JOBS, json=request)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    told = again.json()
    assert (told["id"], told["status"], told["documentId"]) == (job["id"], "completed", None)
    assert told["purgedAt"]
    assert code_of(nurse.post(JOBS, json={**request, "locale": "fa-AF"})) == (422, "CLIENT_MUTATION_ID_REUSED")
    lookup = nurse.post(f"{JOBS}/lookup", json={"clientMutationIds": [request["clientMutationId"]]}).json()["items"]
    assert (lookup[0]["known"], lookup[0]["job"]["documentId"]) == (True, None)
    assert nurse.generate(request, request["clientMutationId"]).status_code in (200, 410)
    with nurse.without_token() as holder:
        assert b"%PDF" not in holder.get(url).content
    # The window is longer than the tombstone's life in a test; the look-up comes before it.
    assert nurse.post(JOBS, json={**request, "requestedAt": instant(days=-401)}).status_code == 200


def test_a_restored_service_is_offered_again_what_it_had_promised(
    clinic: Clinic, nurse: Caller, port: int, worker: subprocess.Popen[str], tmp_path: Path
) -> None:
    """§5: `backup DIR`, `restore DIR`; §3: a new epoch, by which "a device notices a restored server, asks `lookup` for
    what it had been promised, and offers the unknown again": each request is one document, no number is another's."""
    backup, device = tmp_path / "backup", Device(tmp_path / "home")
    device.json("login", "--server", clinic.url, "--token", clinic.token(CLINIC, "tablet-nurse"))
    # The first act of a device that never saw the catalogue: it needs the service, and fetches what it lacks.
    device.json("generate", FORM, "--patient", PATIENT, "--input", "tests=CBC")

    def asked() -> str:
        key = device.json("request", FORM, "--patient", PATIENT, "--input", "tests=CBC")["clientMutationId"]
        device.json("sync", "--once")
        return str(key)

    def numbers() -> dict[str, str]:
        every = nurse.every("/v1/documents", patientId=PATIENT)
        assert len({one["number"] for one in every}) == len({one["renderJobId"] for one in every}) == len(every)
        return {one["id"]: one["number"] for one in every}

    before = asked()
    clinic.command("backup", str(backup))
    saved = numbers()
    after = asked()
    (lost,) = set(numbers()) - set(saved)
    given = numbers()[lost]
    epoch = nurse.get("/health/live").headers["x-sync-epoch"]
    clinic.command("restore", str(backup), code=69)
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    clinic.stop()
    clinic.command("restore", str(backup), code=64)
    clinic.command("restore", "--force", str(backup))
    clinic.start(port=port)
    assert nurse.get("/health/live").headers["x-sync-epoch"] != epoch
    assert [nurse.known(before), nurse.known(after)] == [[True], [False]]
    assert nurse.get(f"/v1/documents/{lost}").status_code == 404
    device.json("sync", "--once")
    items = {one["clientMutationId"]: one for one in device.json("queue", "list")["items"]}
    assert {items[key]["status"] for key in (before, after)} == {"done"}
    now = numbers()
    assert {id_: now[id_] for id_ in saved} == saved
    (anew,) = set(now) - set(saved)
    assert now[anew] != given, "two papers of one number"
    assert items[after]["documentId"] == anew
    kept = {one["id"]: one for one in device.json("list")["items"]}
    assert lost in kept, "a cached document whose job the server lost is kept and marked"
    assert kept[lost] != {**kept[lost], "serverLost": False}


def test_too_many_requests_of_one_are_told_when_to_come_again(clinic: Clinic, nurse: Caller) -> None:
    """§2: "Too many requests per user or tenant: 429 with `Retry-After`"; one user's haste is not another's, until it
    is the organisation's, and never another organisation's; §3: no refusal consumes the id."""
    request = _request(nurse)
    with (
        clinic.caller(CLINIC, "hasty", "CLINICIAN") as hasty,
        clinic.caller(CLINIC, "other", "CLINICIAN") as other,
        clinic.caller(STRANGERS, "calm", "CLINICIAN") as calm,
        ThreadPoolExecutor(8) as pool,
    ):

        def hurry(caller: Caller, many: int) -> list[int]:
            return list(pool.map(lambda _: caller.get("/v1/devices").status_code, range(many)))

        assert hurry(hasty, 50).count(200) == 50, "fifty at once stay under the limit"
        assert 429 in hurry(hasty, USER_LIMIT + 100)
        posted = [hasty.post(JOBS, json=request) for _ in range(20)]
        refused = [answer for answer in posted if answer.status_code == 429]
        assert {code_of(answer) for answer in refused} == {(429, "TOO_MANY_REQUESTS")}
        assert all(1 <= int(answer.headers["retry-after"]) <= 10 for answer in refused)
        assert nurse.known(request["clientMutationId"]) == [len(refused) < 20]
        assert 429 in hurry(other, USER_LIMIT - 50), "the organisation has a limit of its own"
        assert calm.get("/v1/devices").status_code == 200
        wait_for(lambda: hasty.post(JOBS, json=request).status_code in (200, 202), 15)
    looks = [httpx2.get(f"{clinic.url}/verify/{'A' * 24}", trust_env=False) for _ in range(60)]
    assert {look.status_code for look in looks} == {404, 429}
    assert int(looks[-1].headers["retry-after"]) >= 1
    assert httpx2.get(f"{clinic.url}/health/live", trust_env=False).status_code == 200
