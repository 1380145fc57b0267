"""Tier (b) of the proof: the model of the client's tests and the real service answer the same, exchange by exchange.

``SOAK_SCHEDULES`` says how many generated schedules are walked (``make soak``: 2,000; here sixty).
"""

from __future__ import annotations

import itertools
import json
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.schedules import Answer, Play, Side, draw, today
from document_client.model import Caller, Model
from document_client.model.transport import answer as model_answer
from running_service import EVERY_ROLE, Api, Service

SCHEDULES = int(os.environ.get("SOAK_SCHEDULES", "60"))
#: One in ten has a form of its own to retire and withdraw: publishing prints it once for each locale as a trial.
OWN_FORM_EVERY = 10
#: As many at once as the service has renders in hand on a small machine.
AT_ONCE = 6
#: A render takes 50 ms; a machine that runs other tests at the same time is slow, not wrong.
FINISH_SECONDS = 300.0


def _failure(job: dict[str, Any]) -> dict[str, str] | None:
    """Return how a job ends whose data, in the demo's FHIR server, is not there or is somebody else's."""
    if job["patientId"] == "nobody":
        return {"code": "PATIENT_UNKNOWN", "title": "no such patient"}
    encounter = job["encounterId"]
    if encounter is not None and encounter.rpartition("-")[2] != job["patientId"].rpartition("-")[2]:
        return {"code": "WRONG_PATIENT", "title": "the encounter is another patient's"}
    return None


class ModelSide(Side):
    """The model in this process."""

    def __init__(self, definition: dict[str, Any], *, own_form: bool) -> None:
        self.model = Model(time.time)
        self.model.failing = _failure
        self.forms = {"platform": self.model.publish("form", definition)}
        if own_form:
            self.forms["own"] = self.model.publish("own", definition, tenant="clinic")

    def _token(self, person: str) -> str:
        return self.model.token("elsewhere" if person == "stranger" else "clinic", person)

    def send(
        self, person: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        sent = {"authorization": f"Bearer {self._token(person)}"}
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        if path.endswith("/void"):
            return self._void(person, path.split("/")[3])
        content = b"" if body is None else json.dumps(body).encode()
        given = model_answer(self.model, method, path, sent, content)
        return Answer(given.status, given.body, {name.lower(): v for name, v in given.headers.items()})

    def _void(self, person: str, document_id: str) -> Answer:
        document = self.model.state.documents.get(document_id)
        caller = Caller("elsewhere" if person == "stranger" else "clinic", person)
        if document is None or not caller.sees(document):
            return Answer(404, {"code": "NOT_FOUND"}, {})
        if document["status"] == "current":
            self.model.revoke(document_id, "entered-in-error")
        return Answer(200, document, {})

    def finish(self, person: str, job_id: str) -> None:
        self.model.work()

    def version(self, form: str) -> str:
        return self.forms[form][1]

    def retire(self, form: str) -> None:
        self.model.retire(self.forms[form][0])

    def withdraw(self, form: str) -> None:
        if not self.model.state.versions[self.forms[form][1]]["withdrawn"]:
            self.model.withdraw(self.forms[form][1], "dangerous")


class ServiceSide(Side):
    """The real service with two tenants; a schedule uses its own ids, so all of them share the tenants."""

    def __init__(self, people: dict[str, Api], platform: str) -> None:
        self.people = people
        self.forms: dict[str, tuple[str, str]] = {"platform": ("", platform)}

    def publish_own(self) -> None:
        """Fork the platform form and publish it as the clinic's own; the stranger's tenant never sees it."""
        api = self.people["nurse"]
        found = api.get("/v1/document-templates", params={"platformFormKey": "general-test-requisition"}).json()
        name = f"Ours {uuid.uuid4().hex[:8]}"
        forked = api.post(f"/v1/document-templates/{found['items'][0]['id']}/fork", json={"name": name}).json()
        path = f"/v1/document-templates/{forked['id']}/publish"
        published = api.post(path, json={}, headers={"Idempotency-Key": str(uuid.uuid4())})
        assert published.status_code == 201, published.text
        self.forms["own"] = (forked["id"], published.json()["id"])

    def send(
        self, person: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        given = self.people[person].request(method, path, json=body, headers=headers)
        return Answer(given.status_code, given.json(), dict(given.headers))

    def finish(self, person: str, job_id: str) -> None:
        self.people[person].wait(job_id, FINISH_SECONDS)

    def version(self, form: str) -> str:
        return self.forms[form][1]

    def retire(self, form: str) -> None:
        self.people["nurse"].post(f"/v1/document-templates/{self.forms[form][0]}/retire")

    def withdraw(self, form: str) -> None:
        template_id, version_id = self.forms[form]
        path = f"/v1/document-templates/{template_id}/versions/{version_id}/withdraw"
        self.people["nurse"].post(path, json={"reason": "dangerous"})


@pytest.fixture(scope="module")
def people(service: Service, fhir_url: str) -> Iterator[dict[str, Api]]:
    clinic, elsewhere = service.create_tenant(fhir_url), service.create_tenant(fhir_url)
    found = {
        "nurse": service.caller(clinic, "nurse", roles=EVERY_ROLE),
        "doctor": service.caller(clinic, "doctor", roles=("CLINICIAN",)),
        "stranger": service.caller(elsewhere, "stranger", roles=EVERY_ROLE),
    }
    for caller in found.values():
        # A machine that runs other tests at the same time is slow, not wrong.
        caller.timeout = 120
    yield found
    for caller in found.values():
        caller.close()


def test_the_model_answers_as_the_service_does(people: dict[str, Api]) -> None:
    listed = people["nurse"].get("/v1/document-templates", params={"platformFormKey": "general-test-requisition"})
    template = listed.json()["items"][0]
    path = f"/v1/document-templates/{template['id']}/versions/{template['currentVersionId']}"
    definition = people["nurse"].get(path).json()["definition"]

    def compare(seed: int) -> str | None:
        own_form = seed % OWN_FORM_EVERY == 0
        steps, now, salt = draw(seed, own_form=own_form), today(), uuid.uuid4().hex
        service_side = ServiceSide(people, template["currentVersionId"])
        if own_form:
            service_side.publish_own()
        real = Play(service_side, salt, now).walk(steps)
        modelled = Play(ModelSide(definition, own_form=own_form), salt, now).walk(steps)
        for left, right in zip(modelled, real, strict=True):
            if left != right:
                return f"seed {seed}:\n  the model says   {left}\n  the service says {right}"
        return None

    answers = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seeds = itertools.count(1)
        different = []
        for found in pool.map(compare, itertools.islice(seeds, SCHEDULES)):
            answers += 1
            if found is not None:
                different.append(found)
    print(f"\n{answers} schedules compared, {len(different)} different")
    assert not different, f"{len(different)} of {answers}\n" + "\n".join(different[:5])
