"""Schedules of exchanges, drawn by a seed, for the model and for the real service; and what counts as the same answer.

A schedule is a list of steps with symbolic names (people, requests, forms); ``play`` walks it on a ``Side``. Both sides
give answers with their own ids and times, so an answer is compared by status, code, and the members that the contract
promises, with ids replaced by the order in which they first appeared.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

PEOPLE = ("nurse", "doctor", "stranger")
PATIENTS = ("demo-patient-noorzai", "demo-patient-rahimi", "nobody")
JOBS = "/v1/documents/render-jobs"
#: What ends an attempt on a machine that does too much at once; the next attempt is made by itself.
MACHINES_FAULT = ("FHIR_UNAVAILABLE", "STORE_UNAVAILABLE", "WORKER_LOST", "SERVICE_LOST", "RENDER_TIMEOUT")
UNKNOWN_VERSION = f"tv_{'0' * 26}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side gave: status, body, headers with names in lower case."""

    status: int
    body: Any
    headers: dict[str, str]


class Side(Protocol):
    """The model, or the service."""

    def send(
        self, person: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Make one exchange as a person."""

    def finish(self, person: str, job_id: str) -> None:
        """Let a job come to its end."""

    def version(self, form: str) -> str:
        """Return the version id of a form: "platform", "own", or the id itself."""

    def retire(self, form: str) -> None:
        """Take a form out of use."""

    def withdraw(self, form: str) -> None:
        """Take a form's version out of use."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what is done, by whom, about which request (its number), and with what."""

    act: str
    person: str
    number: int = 0
    details: dict[str, Any] = field(default_factory=dict)


def draw(seed: int, *, own_form: bool) -> list[Step]:
    """Draw a schedule; one with its own form may retire and withdraw it."""
    dice = random.Random(seed)
    forms = ["own", "own", "platform"] if own_form else ["platform"]
    steps: list[Step] = []
    made = 0
    for _ in range(dice.randint(8, 14)):
        person = dice.choice(("nurse", "nurse", "doctor", "stranger"))
        acts = ["new", "new"] if made else ["new"] * 8
        acts += (
            ["replay", "other", "header", "lookup", "retry", "show", "url", "void", "again", "batch"] if made else []
        )
        acts += ["retire", "withdraw"] if own_form and made else []
        act = dice.choice(acts)
        number = dice.randrange(made) if made else 0
        if act == "new":
            number, made = made, made + 1
        steps.append(Step(act, person, number, _details(dice, act, forms)))
    return steps


def _details(dice: random.Random, act: str, forms: list[str]) -> dict[str, Any]:
    if act == "new":
        return {
            "form": dice.choice([*forms] * 6 + ["unknown"]),
            "patient": dice.choice(PATIENTS),
            "locale": dice.choice(("en",) * 8 + ("xx",)),
            "inputs": dice.choice(({},) * 6 + ({"nonsense": 1},)),
            "age": dice.choice((0,) * 8 + (399, 401)),
            "notAfter": dice.choice((None,) * 8 + (-1, 1)),
            "id in": dice.choice(("body", "body", "both", "header")),
        }
    if act == "batch":
        return {"items": dice.choice((1, 2, 3)), "patient": dice.choice(PATIENTS), "twice": dice.random() < 0.2}
    if act == "other":
        return {"member": dice.choice(("patientId", "encounterId", "locale", "inputs", "notAfter"))}
    if act == "header":
        return {"name": dice.choice(("Idempotency-Key", "X-Client-Mutation-Id"))}
    return {}


class Play:
    """Walks a schedule on one side and writes down what was answered."""

    def __init__(self, side: Side, salt: str, now: datetime) -> None:
        """``salt`` makes the ids of this walk; ``now`` is the day of the schedule, the same for both sides."""
        self.side, self.salt, self.now = side, salt, now
        self.bodies: dict[int, dict[str, Any]] = {}
        self.jobs: dict[int, str] = {}
        self.names: dict[str, str] = {}
        self.said: list[Any] = []

    def walk(self, steps: list[Step]) -> list[Any]:
        """Return what was answered to each step."""
        for step in steps:
            act: Callable[[Step], Any] = getattr(self, "_" + step.act)
            self.said.append((step.act, step.person, step.number, act(step)))
        return self.said

    def _cmid(self, number: int) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.salt}/{number}"))

    def _post(self, step: Step, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
        answer = self.side.send(step.person, "POST", JOBS, body, headers)
        if answer.status in (200, 202):
            self.jobs[step.number] = answer.body["id"]
            self.side.finish(step.person, answer.body["id"])
        return self._shown(answer)

    def _new(self, step: Step) -> Any:
        wanted = step.details
        form = UNKNOWN_VERSION if wanted["form"] == "unknown" else self.side.version(wanted["form"])
        body: dict[str, Any] = {
            "clientMutationId": self._cmid(step.number),
            "templateVersionId": form,
            "patientId": wanted["patient"],
            "inputs": wanted["inputs"],
            "locale": wanted["locale"],
            "requestedAt": (self.now - timedelta(days=wanted["age"])).isoformat(),
        }
        if wanted["notAfter"] is not None:
            body["notAfter"] = (self.now + timedelta(days=wanted["notAfter"])).isoformat()
        self.bodies[step.number] = body
        headers = {} if wanted["id in"] == "body" else {"Idempotency-Key": body["clientMutationId"]}
        sent = {k: v for k, v in body.items() if wanted["id in"] != "header" or k != "clientMutationId"}
        return self._post(step, sent, headers)

    def _replay(self, step: Step) -> Any:
        return self._post(step, {**self.bodies[step.number], "requestedAt": self.now.isoformat(), "encounterId": None})

    def _again(self, step: Step) -> Any:
        """The same request twice in a row, by two people."""
        both = []
        for person in (step.person, "nurse"):
            both.append(self._post(Step("", person, step.number), self.bodies[step.number]))
        return both

    def _batch(self, step: Step) -> Any:
        """Some known requests and a new one in one exchange; perhaps one of them twice."""
        numbers = list(self.bodies)[-step.details["items"] :]
        fresh = 1_000 + len(self.said)
        body = {**self.bodies[numbers[0]], "clientMutationId": self._cmid(fresh), "patientId": step.details["patient"]}
        sent = [self.bodies[number] for number in numbers] + [body] * (1 + step.details["twice"])
        answer = self.side.send(step.person, "POST", f"{JOBS}/batch", {"items": sent})
        if answer.status != 200:
            return self._shown(answer)
        shown = []
        for item in answer.body["items"]:
            if item["status"] in (200, 202):
                self.side.finish(step.person, item["job"]["id"])
                told = self._batch_job(item["job"])
            else:
                told = item["problem"]["code"]
            shown.append((item["clientMutationId"], item["status"], told))
        return shown

    def _batch_job(self, job: dict[str, Any]) -> Any:
        """A job of a batch may have begun while the others were taken, so its state is not compared."""
        return (self._name(job["id"]), *(job[name] for name in ("clientMutationId", "patientId", "locale")))

    def _other(self, step: Step) -> Any:
        values = {
            "patientId": "demo-patient-ahmadzai",
            "encounterId": "demo-encounter-noorzai",
            "locale": "fa-AF",
            "inputs": {"reason": "other"},
            "notAfter": (self.now + timedelta(days=9)).isoformat(),
        }
        member = step.details["member"]
        return self._post(step, {**self.bodies[step.number], member: values[member]})

    def _header(self, step: Step) -> Any:
        return self._post(step, self.bodies[step.number], {step.details["name"]: self._cmid(10_000 + step.number)})

    def _lookup(self, step: Step) -> Any:
        ids = [self._cmid(number) for number in (*self.bodies, 999)]
        return self._shown(self.side.send(step.person, "POST", f"{JOBS}/lookup", {"clientMutationIds": ids}))

    def _retry(self, step: Step) -> Any:
        job = self.jobs.get(step.number, f"rjob_{'0' * 26}")
        answer = self.side.send(step.person, "POST", f"{JOBS}/{job}/retry")
        if answer.status == 202:
            self.side.finish(step.person, job)
        return self._shown(answer)

    def _show(self, step: Step) -> Any:
        job = self.jobs.get(step.number, f"rjob_{'0' * 26}")
        return self._shown(self.side.send(step.person, "GET", f"{JOBS}/{job}"))

    def _document(self, step: Step) -> str:
        job = self.jobs.get(step.number)
        for person in PEOPLE if job else ():
            answer = self.side.send(person, "GET", f"{JOBS}/{job}")
            if answer.status == 200 and answer.body["documentId"]:
                return str(answer.body["documentId"])
        return f"doc_{'0' * 26}"

    def _url(self, step: Step) -> Any:
        answer = self.side.send(step.person, "POST", f"/v1/documents/{self._document(step)}/download-url", {})
        return (answer.status, _code(answer), "url" in answer.body)

    def _void(self, step: Step) -> Any:
        document = self._document(step)
        key = {"Idempotency-Key": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.salt}/void/{document}"))}
        path = f"/v1/documents/{document}/void"
        answer = self.side.send(step.person, "POST", path, {"reason": "wrong patient"}, key)
        return (answer.status, _code(answer), answer.body.get("status") if answer.status == 200 else None)

    def _retire(self, step: Step) -> Any:
        return self.side.retire("own")

    def _withdraw(self, step: Step) -> Any:
        return self.side.withdraw("own")

    # --- what counts as the same ---

    def _shown(self, answer: Answer) -> Any:
        body = answer.body
        if answer.status >= 400:
            return (answer.status, _code(answer))
        replayed = answer.headers.get("idempotent-replayed")
        if "items" in body:
            entries = [
                (i["clientMutationId"], i["known"], self._job(i["job"]) if i["known"] else None) for i in body["items"]
            ]
            return (answer.status, entries)
        return (answer.status, replayed, "x-sync-epoch" in answer.headers, self._job(body))

    def _job(self, job: dict[str, Any]) -> Any:
        error = job["error"]["code"] if job["error"] else None
        kept = ("clientMutationId", "status", "patientId", "encounterId", "locale")
        # An attempt that a slow machine cost (a FHIR server that did not answer in time) is none of the schedule's.
        lost = sum(cause["code"] in MACHINES_FAULT for cause in job.get("attemptCauses") or ())
        attempts = job["attempts"] - lost
        return (self._name(job["id"]), self._name(job["documentId"]), error, attempts, *(job[name] for name in kept))

    def _name(self, identifier: str | None) -> str | None:
        if identifier is None:
            return None
        return self.names.setdefault(identifier, f"{identifier.partition('_')[0]} {len(self.names)}")


def _code(answer: Answer) -> str | None:
    return answer.body.get("code") if answer.status >= 400 and isinstance(answer.body, dict) else None


def today() -> datetime:
    """Return the time of both sides; whole seconds, for the wire."""
    return datetime.now(UTC).replace(microsecond=0)
