"""Several requests in one exchange: every row of the reaction table holds for each of them; one by one is canonical."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from client_device import Device, made_device, portal, problem
from document_client.model import Fault

JOBS = "POST /v1/documents/render-jobs"
BATCH = f"{JOBS}/batch"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


def posted(device: Device) -> tuple[int, int]:
    """How many batches and how many single requests were sent."""
    return device.transport.seen.count(BATCH), device.transport.seen.count(JOBS)


def change_answers(device: Device, change: Any) -> None:
    """Let the model do its work on the next batch and change the list of answers on its way back."""

    def act(request: httpx2.Request) -> httpx2.Response:
        from document_client.model.transport import answer

        headers = {name.lower(): value for name, value in request.headers.items()}
        given = answer(device.model, "POST", request.url.raw_path.decode(), headers, request.read())
        items = change(given.body["items"])
        return httpx2.Response(200, headers={"x-sync-epoch": "epoch-1"}, json={"items": items})

    device.transport.faults.append(Fault(BATCH, act))


def states(device: Device, cmids: list[str]) -> list[str]:
    return [device.status_of(cmid) for cmid in cmids]


def test_many_requests_travel_in_batches_of_fifty_with_the_exact_bytes(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(60)]
    bodies: list[bytes] = []
    device.transport.faults.append(Fault(BATCH, lambda request: bodies.append(request.read()), times=2))
    report = device.client.sync()
    assert (report.success, report.acknowledged, report.done) == (True, 60, 60)
    assert posted(device) == (2, 0)
    sent = [json.dumps(item["clientMutationId"]) for body in bodies for item in json.loads(body)["items"]]
    assert sent == [json.dumps(cmid) for cmid in cmids]
    kept = [row[0] for row in device.client.account().queue.execute("SELECT body FROM requests ORDER BY sequence")]
    assert bodies[0] == b'{"items":[' + b",".join(kept[:50]) + b"]}"


def test_one_request_goes_by_the_canonical_route(device: Device) -> None:
    device.ask()
    device.client.sync()
    assert posted(device) == (0, 1)


def test_each_answer_of_a_batch_is_judged_on_its_own(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(6)]

    def spoil(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        wrong = {1: (422, "INPUTS_INVALID"), 2: (500, "INTERNAL"), 3: (408, "TIMEOUT")}
        for number, (status, code) in wrong.items():
            body = {"code": code, "title": code, "status": status}
            items[number] = {"clientMutationId": cmids[number], "status": status, "problem": body}
        # Whatever order they come in.
        return items[::-1]

    change_answers(device, spoil)
    report = device.client.sync()
    # The model did take them all: the next try is a replay.
    assert (report.acknowledged, report.quarantined, report.postponed, report.stopped) == (3, 1, 2, None)
    assert states(device, cmids) == ["done", "quarantined", "queued", "queued", "done", "done"]
    assert device.client.queue.show(cmids[2])["failures"] == 1
    assert device.client.queue.show(cmids[3])["failures"] == 0
    device.client.sync()
    assert states(device, cmids) == ["done", "quarantined", "done", "done", "done", "done"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_answer_among_others_stops_the_run_after_all_of_them_are_noted(device: Device, status: int) -> None:
    cmids = [device.ask(f"p{n}") for n in range(3)]

    def spoil(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        body = {"code": "BUSY", "title": "busy", "status": status}
        return [{"clientMutationId": cmids[0], "status": status, "problem": body}, *items[1:]]

    change_answers(device, spoil)
    report = device.client.sync()
    assert (report.stopped, report.acknowledged) == ("SERVER_BUSY", 2)
    assert states(device, cmids) == ["queued", "acknowledged", "acknowledged"]


def drop(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return items[1:]


def double(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [items[0], items[0], *items[2:]]


def rename(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**items[0], "clientMutationId": "another"}, *items[1:]]


def shorten(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"clientMutationId": items[0]["clientMutationId"]}, *items[1:]]


@pytest.mark.parametrize("change", [drop, double, rename, shorten])
def test_a_batch_that_does_not_answer_every_request_is_not_ours(device: Device, change: Any) -> None:
    cmids = [device.ask(f"p{n}") for n in range(3)]
    change_answers(device, change)
    assert device.client.sync().stopped == "NOT_THE_SERVICE"
    assert states(device, cmids) == ["queued"] * 3
    device.client.sync()
    assert states(device, cmids) == ["done"] * 3
    assert len(device.model.state.jobs) == 3


def test_a_job_that_does_not_echo_the_id_stays_and_stops_the_run(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(2)]

    def spoil(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        items[0]["job"]["clientMutationId"] = cmids[1]
        return items

    change_answers(device, spoil)
    assert device.client.sync().stopped == "NOT_THE_SERVICE"
    assert states(device, cmids) == ["queued", "acknowledged"]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_older_service_gets_them_one_by_one_and_is_asked_once(device: Device, status: int) -> None:
    cmids = [device.ask(f"p{n}") for n in range(3)]
    device.spoil(BATCH, problem(status, "NO_SUCH_ROUTE"), times=9)
    assert device.client.sync().success
    assert states(device, cmids) == ["done"] * 3
    assert posted(device) == (1, 3)
    device.ask("p8")
    device.ask("p9")
    assert device.client.sync().success
    assert posted(device) == (1, 5)


@pytest.mark.parametrize("answer", [problem(413, "TOO_LARGE"), problem(403, "FORBIDDEN"), problem(500, "INTERNAL")])
def test_a_batch_refused_as_a_whole_is_offered_one_by_one(device: Device, answer: httpx2.Response) -> None:
    cmids = [device.ask(f"p{n}") for n in range(3)]
    device.spoil(BATCH, answer)
    assert device.client.sync().success
    assert states(device, cmids) == ["done"] * 3
    assert posted(device) == (1, 3)
    assert [device.client.queue.show(cmid)["failures"] for cmid in cmids] == [0, 0, 0]


def test_a_batch_that_the_link_does_not_carry_is_followed_by_single_requests(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(4)]
    device.spoil(BATCH, httpx2.ReadError("cut"), times=9)
    report = device.client.sync()
    assert (report.stopped, report.acknowledged, report.postponed) == (None, 3, 1)
    assert states(device, cmids) == ["queued", "done", "done", "done"]


def test_without_a_connection_two_exchanges_stop_the_run(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(4)]
    device.transport.offline = True
    report = device.client.sync()
    assert (report.stopped, report.postponed) == ("NO_CONNECTION", 2)
    assert states(device, cmids) == ["queued"] * 4
    assert [device.client.queue.show(cmid)["failures"] for cmid in cmids] == [0] * 4


def test_a_lost_answer_is_a_replay_and_no_second_document(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(5)]
    device.spoil(BATCH, httpx2.ReadTimeout("lost"), late=True)
    device.client.sync()
    device.client.sync()
    assert states(device, cmids) == ["done"] * 5
    assert len(device.model.state.jobs) == len(device.model.state.documents) == 5


@pytest.mark.parametrize(
    ("answer", "stopped"),
    [
        (portal(200), "NOT_THE_SERVICE"),
        (portal(502), "NOT_THE_SERVICE"),
        (problem(401, "NOT_AUTHENTICATED"), "SIGN_IN"),
        (problem(403, "DEVICE_REVOKED"), "DEVICE_REVOKED"),
        (problem(503, "UNAVAILABLE", **{"Retry-After": "120"}), "SERVER_BUSY"),
        (httpx2.Response(302, headers={"location": "https://portal.test/"}), "NOT_THE_SERVICE"),
    ],
)
def test_an_answer_about_all_of_them_stops_the_run_and_loses_nothing(
    device: Device, answer: httpx2.Response, stopped: str
) -> None:
    cmids = [device.ask(f"p{n}") for n in range(3)]
    device.spoil(BATCH, answer)
    report = device.client.sync()
    assert (report.stopped, report.quarantined) == (stopped, 0)
    assert states(device, cmids) == ["queued"] * 3
    waits = stopped == "SERVER_BUSY"
    device.client.sync()
    assert states(device, cmids) == ["queued" if waits else "done"] * 3
    if waits:
        device.clocks.pass_time(121)
        device.client.sync()
        assert states(device, cmids) == ["done"] * 3


def test_a_retry_of_a_failed_job_goes_alone_beside_the_batch(device: Device) -> None:
    device.model.failing = lambda job: {"code": "PATIENT_UNKNOWN", "title": "no such patient"}
    failed = device.ask("p0")
    device.client.sync()
    device.model.failing = lambda job: None
    more = [device.ask(f"p{n}") for n in range(1, 3)]
    device.client.queue.retry(failed)
    more.append(device.ask("p4"))
    report = device.client.sync()
    assert report.success
    assert states(device, [failed, *more]) == ["done"] * 4
    assert len(device.model.state.jobs) == 4


def test_work_left_in_the_middle_of_a_batch_is_taken_up_again(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(4)]
    device.spoil(BATCH, RuntimeError("the process ends here"), late=True)
    with pytest.raises(RuntimeError):
        device.client.sync()
    assert states(device, cmids) == ["sending"] * 4
    device.client.sync()
    assert states(device, cmids) == ["done"] * 4
    assert len(device.model.state.jobs) == 4
