"""The scenarios of the simulation, once each, with the real service, the real client and the fault proxy between them.

After every scenario the network works again and the same questions are asked: one job and one document for each
request, the bytes as the service has them, an honest status, and no planted marker in any file that was left.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from document_client import DocumentClient
from document_service.fault_proxy import Answer, FaultProxy, Faults, page, problem
from planted_markers import readable
from running_service import Api, Service

FORM = "General Test Requisition"
PASSPHRASE = "planted-passphrase-4417"
REASON = "planted-reason-acute-pain"
PATIENT = "demo-patient-noorzai"
#: What the FHIR server knows and only the document may say.
FAMILY = "Noorzai"
PORTAL = b"<!doctype html><title>Welcome</title>Please accept our terms."
CONTENT = "/content"


@dataclass
class Visit:
    """One device on one tenant, behind the proxy."""

    proxy: FaultProxy
    client: DocumentClient
    api: Api
    folder: Path
    token: str
    service: Service
    said: list[str] = field(default_factory=list)

    def ask(self, count: int = 1) -> list[str]:
        """Queue requests; their ids."""
        return [
            str(self.client.request(FORM, PATIENT, inputs={"reason": f"{REASON} {number}"})["clientMutationId"])
            for number in range(count)
        ]

    def sync(self, wait_seconds: float = 0.0) -> Any:
        """Sync, and remember what was said."""
        report = self.client.sync(wait_seconds=wait_seconds)
        self.said.append(str(report.as_json()))
        return report

    def states(self) -> dict[str, str]:
        """State of every request."""
        return {str(item["clientMutationId"]): str(item["status"]) for item in self.client.queue.list()}

    def finish(self) -> None:
        """Everything works again: what was asked arrives, once, and nothing leaked."""
        self.proxy.heal()
        deadline = time.monotonic() + 120
        while not (self.sync(wait_seconds=45).success and set(self.states().values()) <= {"done"}):
            assert time.monotonic() < deadline, (self.states(), self.said)
            # A ``Retry-After`` of one second may still run, and no sync is quicker than the service asked for.
            time.sleep(0.5)
        states = self.states()
        assert set(states.values()) == {"done"}, (states, self.said)
        status = self.client.status()
        assert status.everything_sent
        assert status.everything_received
        jobs = self.api.get("/v1/documents/render-jobs", params={"limit": 100}).json()["items"]
        assert Counter(job["clientMutationId"] for job in jobs) == Counter(list(states))
        documents = {job["documentId"] for job in jobs}
        assert len(documents) == len(states)
        for document_id in documents:
            held = self.client.documents.read(document_id).content
            assert held == self.api.content(document_id).content
        self.hunt()

    def hunt(self) -> None:
        """Search what nobody may read in all files and in all that was said."""
        markers = (REASON, FAMILY, PASSPHRASE, self.token, "signature=", "%PDF-")
        assert readable(self.folder, *markers) == []
        log = self.service.log
        text = "\n".join(self.said)
        for marker in (REASON, FAMILY, PASSPHRASE, self.token, "signature="):
            assert marker not in text
            assert marker not in log


@pytest.fixture
def visit(service: Service, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    token = service.token(tenant, "nurse")
    with (
        FaultProxy(service.url) as proxy,
        DocumentClient(tmp_path / "home", passphrase=PASSPHRASE) as client,
        service.caller(tenant, "nurse") as api,
    ):
        client.login(proxy.url, token)
        client.templates(refresh=True)
        yield Visit(proxy, client, api, tmp_path, token, service)


def test_a_slow_link(visit: Visit) -> None:
    visit.ask(2)
    visit.proxy.reset_counts()
    visit.proxy.apply(Faults(round_trip_seconds=0.6, bytes_per_second_up=8000, bytes_per_second_down=8000))
    report = visit.sync(wait_seconds=60)
    assert report.success, report
    assert set(visit.states().values()) == {"done"}
    assert [target for method, target in visit.proxy.requests() if target.endswith("/batch")]
    visit.finish()


def test_downloads_that_are_cut_in_mid_body(visit: Visit) -> None:
    visit.ask(1)
    visit.proxy.reset_counts()
    visit.proxy.apply(Faults(cut_body_after=9_000, path=CONTENT, times=3))
    visit.sync(wait_seconds=45)
    visit.finish()
    downloads = [target for _, target in visit.proxy.requests() if CONTENT in target]
    assert len(downloads) >= 4


def test_connections_that_are_reset_in_mid_answer(visit: Visit) -> None:
    visit.ask(3)
    for after in (0, 400, 3_000):
        visit.proxy.apply(Faults(reset_after_down=after, times=2))
        assert not visit.sync().success
    visit.finish()


def test_requests_that_are_reset_on_their_way(visit: Visit) -> None:
    cmids = visit.ask(3)
    visit.proxy.apply(Faults(reset_after_up=200))
    report = visit.sync()
    assert report.stopped == "NO_CONNECTION"
    assert visit.states() == dict.fromkeys(cmids, "queued")
    visit.finish()


def test_a_portal_that_wants_a_sign_in(visit: Visit) -> None:
    cmids = visit.ask(2)
    visit.proxy.apply(Faults(portal=PORTAL))
    report = visit.sync()
    assert report.stopped == "NOT_THE_SERVICE"
    assert visit.states() == dict.fromkeys(cmids, "queued")
    assert not visit.client.status().everything_sent
    visit.finish()


def test_a_range_that_begins_elsewhere(visit: Visit) -> None:
    visit.ask(1)
    visit.proxy.apply(Faults(cut_body_after=9_000, path=CONTENT, shift_content_range=7, times=2))
    visit.sync(wait_seconds=45)
    visit.finish()


def test_a_network_that_is_gone(visit: Visit) -> None:
    cmids = visit.ask(2)
    visit.proxy.apply(Faults(network="refuse"))
    report = visit.sync()
    assert report.stopped == "NO_CONNECTION"
    assert visit.states() == dict.fromkeys(cmids, "queued")
    visit.finish()


#: Status, code, what becomes of the request, why the run stops.
ANSWERS = [
    (401, "NOT_AUTHENTICATED", "queued", "SIGN_IN"),
    (403, "FORBIDDEN", "quarantined", None),
    (409, "TEMPLATE_VERSION_RETIRED", "quarantined", None),
    (410, "MUTATION_WINDOW_PASSED", "quarantined", None),
    (422, "INPUTS_INVALID", "quarantined", None),
    (429, "TOO_MANY_REQUESTS", "queued", "SERVER_BUSY"),
    (500, "INTERNAL", "queued", None),
    (503, "UNAVAILABLE", "queued", "SERVER_BUSY"),
]


def test_every_refusal_in_turn(visit: Visit) -> None:
    for status, code, state, stopped in ANSWERS:
        (cmid,) = visit.ask(1)
        wait = {"Retry-After": "1"} if status in (429, 503) else {}
        visit.proxy.answer_next(problem(status, code, headers=wait, path="render-jobs"))
        report = visit.sync()
        assert (visit.states()[cmid], report.stopped) == (state, stopped), (status, report)
        assert not visit.client.status().everything_sent
        if state == "quarantined":
            assert [item["reason"]["code"] for item in visit.client.queue.list() if item["status"] == state] == [code]
            visit.client.queue.retry(cmid)
        visit.finish()


@pytest.mark.parametrize(
    "answer", [page(502), page(403), page(200), Answer(200, b"{}", {"Content-Type": "application/json"}), Answer(204)]
)
def test_answers_that_are_not_the_services(visit: Visit, answer: Answer) -> None:
    cmids = visit.ask(1)
    visit.proxy.answer_next(answer)
    assert visit.sync().stopped == "NOT_THE_SERVICE"
    assert visit.states() == dict.fromkeys(cmids, "queued")
    visit.finish()


def test_the_weather_changes_all_the_time(visit: Visit) -> None:
    weathers = [
        Faults(reset_after_down=0, times=1),
        Faults(portal=PORTAL),
        Faults(cut_body_after=5_000, path=CONTENT, times=2),
        Faults(network="refuse"),
        Faults(reset_after_up=900, times=1),
        Faults(loss=0.3, round_trip_seconds=0.05),
    ]
    for weather in weathers:
        visit.ask(1)
        visit.proxy.apply(weather)
        with contextlib.suppress(Exception):
            visit.sync()
    visit.finish()
