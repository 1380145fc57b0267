"""The steps of the walk, in order. Each returns what a person should read about it, and raises when it did not hold."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from document_service.demo.stage import CLINICIAN, TENANT, TENANT_NAME, Stage, StageError
from document_service.synthetic import SyntheticPatient, SyntheticServerError, handmade_patients

FORM = "General Test Requisition"
FORM_KEY = "general-test-requisition"

# Three one-page documents take about a second; this is for a machine that swaps.
DELIVERY_SECONDS = 60.0

# What a clinician adds to the orders in the record; the languages of the form do not translate what people write.
_REASON = {
    "en": "Six-month review; HbA1c 7.10 % in March, fatigue for three weeks",
    "fa-AF": "فشار خون بلند؛ کنترول شش‌ماهه با Amlodipine 5 mg",
    "ps-AF": "د وینې کمښت؛ Ferrous sulfate 325 mg له دوو میاشتو راهیسې",
}


class StepFailed(Exception):
    """A step did not hold; the text says what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was walked: what it was, what was seen, how long it took, and whether it held."""

    title: str
    seen: str
    seconds: float
    held: bool


@dataclass(frozen=True, slots=True)
class Copy:
    """A document saved from the device."""

    document_id: str
    number: str
    locale: str
    pages: int
    path: Path


class Walk:
    """The walk over one stage; afterwards ``steps`` and ``copies`` tell what happened."""

    def __init__(self, stage: Stage) -> None:
        """Prepare; :meth:`run` walks."""
        self._stage = stage
        self._token = ""
        self._patients: tuple[SyntheticPatient, ...] = handmade_patients()
        self._items: list[dict[str, Any]] = []
        self._documents: list[dict[str, Any]] = []
        self._records_waiting = 0
        self.steps: list[Step] = []
        self.copies: list[Copy] = []

    def run(self) -> bool:
        """Walk every step until one does not hold; whether all of them held."""
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("Start a FHIR R4 server with made-up patients", self._start_fhir),
            ("Start the service on embedded engines", self._start_service),
            ("Create the clinic and sign the device in", self._sign_in),
            ("Fetch the catalogue", self._fetch_catalogue),
            ("Cut the network", self._cut_network),
            ("Queue three requests offline", self._queue_requests),
            ("Show the queue", self._show_queue),
            ("Restore the network and sync", self._sync),
            ("Replay one request on purpose", self._replay),
            ("Cut the network again", self._cut_network),
            ("Open all three from the cache", self._open_documents),
            ("Save copies", self._save_copies),
            ("Print one", self._print),
            ("Restore the network and send the audit events", self._send_audit),
            ("Ask for the status", self._status),
        )
        for number, (title, act) in enumerate(steps, start=1):
            self._stage.console.rule(f"{number}. {title}", align="left")
            started = time.monotonic()
            try:
                seen, held = act(), True
            except (StepFailed, StageError, SyntheticServerError) as failure:
                seen, held = str(failure), False
            except (OSError, subprocess.TimeoutExpired, httpx2.HTTPError, KeyError, ValueError) as failure:
                seen, held = f"{type(failure).__name__}: {failure}", False
            self.steps.append(Step(title, seen, time.monotonic() - started, held))
            self._stage.console.print(seen, style=None if held else "red", markup=False, highlight=False)
            if not held:
                self._stage.console.print(self._stage.service_words(), style="dim", markup=False, highlight=False)
                return False
        return True

    # --- The clinic -------------------------------------------------------------------------------------------

    def _start_fhir(self) -> str:
        self._stage.start_fhir()
        names = ", ".join(patient.name for patient in self._patients)
        return f"{len(self._stage.fhir.patients)} patients, among them {names}"

    def _start_service(self) -> str:
        self._stage.start_service()
        return f"PostgreSQL, object store, worker and API are ready at {self._stage.service_url}"

    def _sign_in(self) -> str:
        secret = self._stage.folder / "fhir-token"
        secret.touch(mode=0o600)
        secret.write_text(str(self._stage.fhir.token))
        self._stage.service(
            "tenant", "create", TENANT, "--fhir-url", self._stage.fhir.base_url,
            "--fhir-token-file", str(secret), "--name", TENANT_NAME, "--time-zone", "Asia/Kabul",
        )  # fmt: skip
        secret.unlink()
        self._token = self._stage.service("token", "--tenant", TENANT, "--user", CLINICIAN).strip()
        self._stage.start_network()
        assert self._stage.proxy is not None
        code, who = self._stage.device(
            "login", "--server", self._stage.proxy.url, "--token", "-", stdin=self._token + "\n"
        )
        _expect(code == 0 and who.get("tenant") == TENANT, f"login: {_shown(code, who)}")
        return f"{who['user']} of {who['tenant']}, device {who['deviceId']}"

    def _fetch_catalogue(self) -> str:
        code, answer = self._stage.device("templates", "--refresh")
        forms = [one for one in answer.get("items", []) if one["platformFormKey"] == FORM_KEY]
        _expect(code == 0 and len(forms) == 1, f"the catalogue has no {FORM}: {_shown(code, answer)}")
        locales = forms[0]["locales"]
        _expect(set(locales) >= set(_REASON), f"the form has only {locales}")
        return f"{forms[0]['name']} {forms[0]['semver']} in {', '.join(locales)}"

    # --- Without connection -----------------------------------------------------------------------------------

    def _cut_network(self) -> str:
        self._stage.cut_network()
        code, answer = self._stage.device("sync")
        _expect(code == 69, f"a sync without network should end with 69: {_shown(code, answer)}")
        return f"the device says: {answer.get('message', '')}"

    def _queue_requests(self) -> str:
        for patient in self._patients:
            code, item = self._stage.device(
                "request", FORM, "--patient", patient.id, "--encounter", patient.encounter_id,
                "--birth-date", patient.birth_date, "--locale", patient.locale,
                "--input", f"reason={_REASON[patient.locale]}", "--input", "requester=Dr. Nasrin Haidari",
            )  # fmt: skip
            _expect(code == 0 and item.get("status") == "queued", f"request: {_shown(code, item)}")
            self._items.append(item)
        return "\n".join(
            f"{item['clientMutationId']}  {patient.locale}"
            for item, patient in zip(self._items, self._patients, strict=True)
        )

    def _show_queue(self) -> str:
        self._stage.device_shown("queue")
        waiting = [item["status"] for item in self._queue()]
        _expect(waiting == ["queued"] * 3, f"three requests should be queued, found {waiting}")
        return "three requests are durable on the device and not sent"

    # --- With connection --------------------------------------------------------------------------------------

    def _sync(self) -> str:
        self._stage.restore_network()
        deadline = time.monotonic() + DELIVERY_SECONDS
        while True:
            code = self._stage.device_shown("sync")
            _expect(code in (0, 75), f"sync ended with {code}")
            items = self._queue()
            bad = [item for item in items if item["status"] in ("failed", "quarantined")]
            _expect(not bad, f"a request failed: {[item['reason'] for item in bad]}")
            if all(item["status"] == "done" for item in items):
                break
            _expect(time.monotonic() < deadline, f"not delivered: {[item['status'] for item in items]}")
            time.sleep(0.3)
        _, answer = self._stage.device("list")
        by_job = {document["renderJobId"]: document for document in answer["items"]}
        jobs = {item["clientMutationId"]: item["jobId"] for item in items}
        self._documents = [by_job[jobs[item["clientMutationId"]]] for item in self._items]
        return "\n".join(
            f"{one['number']}  {one['size']} bytes  sha256 {one['sha256'][:16]}…" for one in self._documents
        )

    def _replay(self) -> str:
        identity = self._items[1]["clientMutationId"]
        _, shown = self._stage.device("queue", "show", identity)
        first = self._post(shown["request"])
        _expect(
            first.status_code == 200 and first.headers.get("Idempotent-Replayed") == "true",
            f"a replay should be 200 with Idempotent-Replayed, found {first.status_code}",
        )
        job = first.json()
        _expect(job["id"] == shown["jobId"], f"a replay made another job: {job['id']} beside {shown['jobId']}")
        _expect(job["documentId"] == self._documents[1]["id"], "a replay made another document")
        other = self._post({**shown["request"], "locale": "en"})
        _expect(
            other.status_code == 422 and other.json().get("code") == "CLIENT_MUTATION_ID_REUSED",
            f"the same id with other content should be refused, found {other.status_code}",
        )
        return f"200, the same job {job['id']}, no second document; the same id with other content: 422"

    def _post(self, body: dict[str, Any]) -> httpx2.Response:
        assert self._stage.proxy is not None
        return httpx2.post(
            f"{self._stage.proxy.url}/v1/documents/render-jobs",
            content=json.dumps(body, ensure_ascii=False).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            trust_env=False,
            timeout=10,
        )

    # --- Without connection, with documents -------------------------------------------------------------------

    def _open_documents(self) -> str:
        for document in self._documents:
            code, opened = self._stage.device("open", document["id"])
            _expect(code == 0 and opened.get("sha256") == document["sha256"], f"open: {_shown(code, opened)}")
        return "three documents decrypted and verified on the device, no connection used"

    def _save_copies(self) -> str:
        for document, patient in zip(self._documents, self._patients, strict=True):
            path = self._stage.pdfs / f"{document['number']}-{patient.locale}.pdf"
            code, saved = self._stage.device("save", document["id"], str(path))
            _expect(code == 0, f"save: {_shown(code, saved)}")
            content = path.read_bytes()
            _expect(content.startswith(b"%PDF-"), f"{path.name} is not a PDF")
            _expect(hashlib.sha256(content).hexdigest() == document["sha256"], f"{path.name} has another hash")
            self.copies.append(Copy(document["id"], document["number"], patient.locale, document["pages"], path))
        return "\n".join(str(copy.path) for copy in self.copies)

    def _print(self) -> str:
        before = self._records()
        code, answer = self._stage.device("print", self._documents[0]["id"])
        self._records_waiting = self._records()
        recorded = self._records_waiting - before
        # print.intent, then what became of it: both are durable whether or not there is a printer.
        _expect(recorded >= 2, f"printing should leave two audit records, found {recorded}")
        if code == 0:
            return f"{answer['state']} at {answer['printer']}, copy {answer['copies']}; {recorded} audit records wait"
        failure = answer.get("error", {})
        _expect(code == 69 and bool(failure.get("title")), f"print: {_shown(code, answer)}")
        return f"refused: {failure['title']} ({failure['code']}); {recorded} audit records of it wait to be sent"

    # --- With connection again --------------------------------------------------------------------------------

    def _send_audit(self) -> str:
        self._stage.restore_network()
        code, report = self._stage.device("sync")
        _expect(code == 0, f"sync: {_shown(code, report)}")
        sent, refused = report["eventsSent"], report["eventsRefused"]
        _expect(
            sent >= self._records_waiting and refused == 0,
            f"{self._records_waiting} records waited, {sent} were sent, {refused} refused",
        )
        return f"{sent} audit records of this device taken by the service"

    def _status(self) -> str:
        _, facts = self._stage.device("status")
        _expect(facts["everythingSent"] and facts["everythingReceived"], f"not all done: {facts['sentences']}")
        _expect(facts["audit"] == {"pending": 0, "refused": 0}, f"audit records are left: {facts['audit']}")
        _expect(facts["cache"]["documents"] == 3, f"{facts['cache']['documents']} documents are cached, not three")
        _expect(not facts["cache"]["policyProblem"], f"{facts['cache']['policyProblem']}")
        return " ".join(facts["sentences"])

    def _queue(self) -> list[dict[str, Any]]:
        _, answer = self._stage.device("queue", "list")
        ours = {item["clientMutationId"] for item in self._items}
        return [item for item in answer["items"] if item["clientMutationId"] in ours]

    def _records(self) -> int:
        _, facts = self._stage.device("status")
        return int(facts["audit"]["pending"])


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


def _shown(code: int, answer: Any) -> str:
    return f"exit {code}, {json.dumps(answer, ensure_ascii=False)[:500]}"
