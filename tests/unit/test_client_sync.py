"""The sync engine on real databases against the model: the reaction table row by row, and the lessons."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from client_device import FORM, Device, made_device, portal, problem
from document_client.errors import AnotherSyncRuns, SignInNeeded

POST_JOB = "POST /v1/documents/render-jobs"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        # The canonical exchange of one request; test_client_batch holds the same table for several in one.
        made.client.account().takes_batches = False
        yield made


def posted(device: Device) -> int:
    return device.transport.seen.count(POST_JOB)


def test_a_request_made_offline_becomes_a_document(device: Device) -> None:
    device.transport.offline = True
    cmid = device.ask(reason="fever")
    assert device.status_of(cmid) == "queued"
    assert device.client.sync().stopped == "NO_CONNECTION"
    device.transport.offline = False
    report = device.client.sync()
    assert report.success
    assert (report.acknowledged, report.downloaded, report.done) == (1, 1, 1)
    shown = device.client.queue.show(cmid)
    assert (shown["status"], shown["jobStatus"]) == ("done", "completed")
    [document] = device.client.documents.list()
    assert document["state"] == "available"
    device.transport.offline = True
    assert device.client.documents.read(document["id"]).content == device.model.state.contents[document["id"]]


def test_nothing_new_costs_one_round_trip(device: Device) -> None:
    device.ask()
    device.client.sync()
    device.transport.seen.clear()
    assert device.client.sync().success
    assert len(device.transport.seen) == 1


def test_the_bytes_first_written_are_the_bytes_sent_each_time(device: Device) -> None:
    cmid = device.ask(dose=1)
    sent: list[bytes] = []

    def spy(request: httpx2.Request) -> httpx2.Response | None:
        sent.append(request.read())
        raise httpx2.ReadTimeout("lost")

    from document_client.model import Fault

    device.transport.faults.append(Fault(POST_JOB, spy, times=2))
    device.client.sync()
    device.clocks.pass_time(86_400)
    device.client.sync()
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert cmid.encode() in sent[0]


# --- the reaction table ---------------------------------------------------------------------------------------


def test_a_replay_is_acknowledged_and_doubles_nothing(device: Device) -> None:
    cmid = device.ask()
    device.spoil(POST_JOB, httpx2.ReadTimeout("answer lost"), late=True)
    assert not device.client.sync().success
    assert device.status_of(cmid) == "queued"
    assert device.client.sync().success
    assert device.status_of(cmid) == "done"
    assert len(device.model.state.jobs) == 1
    assert len(device.model.state.documents) == 1


@pytest.mark.parametrize(
    "answer",
    [
        portal(200),
        portal(403),
        portal(503),
        httpx2.Response(200, json={"id": "rjob_1", "status": "queued", "clientMutationId": "another"}),
        httpx2.Response(200, json=["not", "a", "job"]),
        httpx2.Response(202, headers={"content-type": "application/json"}, text="{broken"),
        httpx2.Response(204),
        httpx2.Response(201, json={"id": "rjob_1", "status": "queued"}),
        httpx2.Response(403, json={"error": "filtered"}),
        httpx2.Response(502, headers={"content-type": "text/html"}, text="<html>bad gateway"),
        httpx2.Response(304),
    ],
    ids=lambda answer: f"{answer.status_code}-{answer.headers.get('content-type', 'none')}",
)
def test_what_is_not_ours_stops_the_run_and_changes_nothing(device: Device, answer: httpx2.Response) -> None:
    cmid = device.ask()
    other = device.ask("p2")
    device.spoil(POST_JOB, answer)
    report = device.client.sync()
    assert report.stopped == "NOT_THE_SERVICE"
    assert posted(device) == 1
    assert {device.status_of(cmid), device.status_of(other)} == {"queued"}
    assert device.client.queue.show(cmid)["failures"] == 0
    assert device.client.status().last_success is None
    assert device.client.sync().success


def test_two_silent_requests_in_a_row_stop_the_run(device: Device) -> None:
    ids = [device.ask(f"p{n}") for n in range(4)]
    device.spoil(POST_JOB, httpx2.ConnectError("no route"), times=9)
    report = device.client.sync()
    assert report.stopped == "NO_CONNECTION"
    assert posted(device) == 2
    shown = device.client.queue.show(ids[0])
    assert (shown["status"], shown["failures"], shown["tries"]) == ("queued", 0, 1)


def test_one_silent_request_does_not_block_the_others(device: Device) -> None:
    first, second = device.ask("p1"), device.ask("p2")
    device.spoil(POST_JOB, httpx2.ReadError("reset"))
    report = device.client.sync()
    assert report.stopped is None
    assert not report.success
    assert device.status_of(first) == "queued"
    assert device.status_of(second) == "done"


def test_a_tls_failure_stops_the_run_and_speaks_of_the_clock(device: Device) -> None:
    cmid = device.ask()
    failure = httpx2.ConnectError("handshake")
    failure.__cause__ = ssl.SSLCertVerificationError("certificate is not yet valid")
    device.spoil(POST_JOB, failure)
    assert device.client.sync().stopped == "TLS_FAILED"
    assert device.status_of(cmid) == "queued"
    assert device.client.queue.show(cmid)["tries"] == 0


def test_a_401_pauses_and_nothing_is_lost(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(3)]
    device.model.revoked_tokens.add(device.token())
    report = device.client.sync()
    assert report.stopped == "SIGN_IN"
    assert posted(device) == 1
    assert {device.status_of(cmid) for cmid in cmids} == {"queued"}
    device.model.revoked_tokens.clear()
    assert device.client.sync().acknowledged == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_left_alone_until_retry_after(device: Device, status: int) -> None:
    first, second = device.ask("p1"), device.ask("p2")
    device.spoil(POST_JOB, problem(status, "BUSY", **{"retry-after": "120"}))
    assert device.client.sync().stopped == "SERVER_BUSY"
    assert posted(device) == 1
    report = device.client.sync()
    assert report.acknowledged == 1
    assert not report.success, "a request that had to wait is not a whole cycle"
    assert device.status_of(first) == "queued"
    assert device.status_of(second) == "done"
    device.clocks.pass_time(121)
    assert device.client.sync().success
    assert device.status_of(first) == "done"


@pytest.mark.parametrize("status", [408, 425])
def test_a_request_that_must_wait_lets_the_others_pass(device: Device, status: int) -> None:
    first, second = device.ask("p1"), device.ask("p2")
    device.spoil(POST_JOB, problem(status, "LATER"))
    device.client.sync()
    assert device.status_of(first) == "queued"
    assert device.client.queue.show(first)["failures"] == 0
    assert device.status_of(second) == "done"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 413, 422])
def test_a_refusal_is_quarantined_with_the_reason_and_the_run_goes_on(device: Device, status: int) -> None:
    refused, fine = device.ask("p1"), device.ask("p2")
    device.spoil(POST_JOB, problem(status, "SOME_REASON"))
    report = device.client.sync()
    assert (report.quarantined, report.acknowledged) == (1, 1)
    shown = device.client.queue.show(refused)
    assert shown["status"] == "quarantined"
    assert shown["reason"] == {"code": "SOME_REASON", "title": "title of SOME_REASON"}
    assert device.status_of(fine) == "done"
    status_now = device.client.status()
    assert not status_now.everything_sent
    assert status_now.quarantined == 1


def test_a_person_reads_each_sentence_of_a_refusal_once(device: Device) -> None:
    """The service's detail is its title again where it has no more to say."""
    body = {
        "code": "INVALID_REQUEST",
        "title": "See errors.",
        "detail": "See errors.",
        "errors": [{"pointer": "/locale", "code": "MISSING", "title": "This field is required."}],
    }
    headers = {"content-type": "application/problem+json", "x-sync-epoch": "epoch-1"}
    device.spoil(POST_JOB, httpx2.Response(400, headers=headers, json=body))
    cmid = device.ask()
    device.client.sync()
    told = device.client.queue.show(cmid)["reason"]["title"]
    assert told == "See errors. /locale: This field is required."


def test_a_failing_server_counts_and_steps_behind_the_others(device: Device) -> None:
    first, second = device.ask("p1"), device.ask("p2")
    device.spoil(POST_JOB, problem(500, "INTERNAL"))
    device.client.sync()
    assert device.client.queue.show(first)["failures"] == 1
    assert device.status_of(second) == "done"


def test_three_failing_requests_in_a_row_stop_the_run(device: Device) -> None:
    for n in range(5):
        device.ask(f"p{n}")
    device.spoil(POST_JOB, problem(500, "INTERNAL"), times=9)
    assert device.client.sync().stopped == "SERVER_FAILING"
    assert posted(device) == 3


def test_twenty_failures_quarantine_the_request(device: Device) -> None:
    cmid = device.ask()
    device.spoil(POST_JOB, problem(500, "INTERNAL"), times=20)
    for _ in range(20):
        assert device.status_of(cmid) == "queued"
        device.client.sync()
        device.clocks.pass_time(301)
    shown = device.client.queue.show(cmid)
    assert shown["status"] == "quarantined"
    assert shown["reason"]["code"] == "SERVER_KEEPS_FAILING"
    device.client.queue.retry(cmid)
    assert device.client.sync().success
    assert device.status_of(cmid) == "done"


def test_credentials_never_follow_a_redirect_to_another_host(device: Device) -> None:
    cmid = device.ask()
    device.spoil(POST_JOB, httpx2.Response(307, headers={"location": "https://elsewhere.test/login"}))
    assert device.client.sync().stopped == "NOT_THE_SERVICE"
    assert device.status_of(cmid) == "queued"


def test_a_redirect_on_the_same_origin_is_followed_with_the_body(device: Device) -> None:
    cmid = device.ask()
    device.spoil(POST_JOB, httpx2.Response(307, headers={"location": "/v1/documents/render-jobs?moved=1"}))
    assert device.client.sync().success
    assert device.status_of(cmid) == "done"


def test_a_watcher_keeps_to_the_backoff_and_a_person_does_not(device: Device) -> None:
    cmid = device.ask()
    device.spoil(POST_JOB, problem(500, "INTERNAL"))
    device.client.sync()
    assert device.client.sync(eager=False).offered == 0
    assert device.client.sync().offered == 1
    assert device.status_of(cmid) == "done"


def test_once_faults_heal_the_queue_drains_without_new_input(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(6)]
    device.spoil(POST_JOB, problem(500, "INTERNAL"), times=4)
    device.spoil("GET /v1/documents/changes", portal(), times=2)
    for _ in range(8):
        device.client.sync(eager=False)
        device.clocks.pass_time(301)
    assert {device.status_of(cmid) for cmid in cmids} == {"done"}


# --- lessons --------------------------------------------------------------------------------------------------


def test_last_success_moves_only_after_a_whole_cycle(device: Device) -> None:
    device.ask()
    device.spoil("GET /v1/documents/changes", httpx2.ConnectError("gone"))
    device.client.sync()
    status = device.client.status()
    assert status.last_attempt is not None
    assert status.last_success is None
    assert status.everything_sent
    assert not status.everything_received
    device.client.sync()
    assert device.client.status().last_success is not None


def test_work_entered_during_a_sync_is_sent_by_it(device: Device) -> None:
    device.ask("p1")
    late: list[str] = []

    def enqueue(request: httpx2.Request) -> None:
        late.append(str(device.another().request(FORM, "p2")["clientMutationId"]))

    from document_client.model import Fault

    device.transport.faults.append(Fault("GET /v1/documents/changes", enqueue))
    report = device.client.sync()
    assert report.success
    assert report.acknowledged == 2
    assert device.client.status().everything_sent
    assert device.status_of(late[0]) == "done"


def test_a_restored_server_gets_back_what_it_had_promised(device: Device) -> None:
    first = device.ask("p1")
    device.client.sync()
    backup = device.model.snapshot()
    second = device.ask("p2")
    third = device.ask("p3")
    device.client.sync()
    kept = [d["id"] for d in device.client.documents.list()]
    device.model.restore(backup, "epoch-2")
    report = device.client.sync()
    assert report.offered_again == 2
    assert report.success
    assert {device.status_of(cmid) for cmid in (first, second, third)} == {"done"}
    assert sorted(job["clientMutationId"] for job in device.model.state.jobs.values()) == sorted([first, second, third])
    shown = {d["id"]: d for d in device.client.documents.list()}
    assert set(kept) <= set(shown), "copies whose job the server lost are kept"
    assert sum(d["serverLost"] for d in shown.values()) == 2
    assert device.client.sync().success


def test_a_restore_seen_first_in_an_acknowledgement_is_heeded_before_more_is_sent(device: Device) -> None:
    backup = device.model.snapshot()
    lost = device.ask("p1")
    device.client.sync()
    device.model.restore(backup, "epoch-2")
    fresh = device.ask("p2")
    device.transport.seen.clear()
    assert device.client.sync().success
    assert device.transport.seen[:2] == [POST_JOB, f"{POST_JOB}/lookup"]
    assert {device.status_of(lost), device.status_of(fresh)} == {"done"}
    assert len(device.model.state.jobs) == 2


def test_a_crash_during_the_lookup_asks_again(device: Device) -> None:
    backup = device.model.snapshot()
    cmid = device.ask("p1")
    device.client.sync()
    device.model.restore(backup, "epoch-2")
    device.spoil(f"{POST_JOB}/lookup", httpx2.ReadTimeout("lost"), late=True)
    assert device.client.sync().stopped == "NO_CONNECTION"
    assert device.client.sync().success
    assert device.status_of(cmid) == "done"
    assert [job["clientMutationId"] for job in device.model.state.jobs.values()] == [cmid]


def test_a_lookup_that_leaves_one_out_is_not_believed(device: Device) -> None:
    backup = device.model.snapshot()
    device.ask("p1")
    device.client.sync()
    device.model.restore(backup, "epoch-2")
    device.spoil(f"{POST_JOB}/lookup", httpx2.Response(200, json={"items": []}))
    assert device.client.sync().stopped == "NOT_THE_SERVICE"
    assert device.client.sync().success


def test_a_failed_job_comes_to_attention_and_is_retried_under_its_id(device: Device) -> None:
    device.model.failing = lambda job: {"code": "PATIENT_UNKNOWN", "title": "check the patient id"}
    cmid = device.ask()
    device.client.sync()
    shown = device.client.queue.show(cmid)
    assert shown["status"] == "failed"
    assert shown["reason"] == {"code": "PATIENT_UNKNOWN", "title": "check the patient id"}
    assert not device.client.status().everything_received
    device.model.failing = lambda job: None
    device.client.queue.retry(cmid)
    device.spoil("/retry", httpx2.ReadTimeout("answer lost"), late=True)
    device.client.sync()
    assert device.client.sync().success
    assert device.status_of(cmid) == "done"
    [job] = device.model.state.jobs.values()
    assert job["attempts"] == 2


def test_only_one_program_drains_at_a_time(device: Device) -> None:
    device.ask()
    other = device.another()

    def meanwhile(request: httpx2.Request) -> None:
        from document_client.driver import sync_once
        from document_client.http import Connection

        account = other.account()
        with pytest.raises(AnotherSyncRuns):
            sync_once(account, Connection("https://documents.test", "t", device.transport), wait_seconds=0.0)

    from document_client.model import Fault

    device.transport.faults.append(Fault(POST_JOB, meanwhile))
    assert device.client.sync().success
    assert posted(device) == 1


def test_the_requests_of_one_user_are_never_sent_by_another(device: Device) -> None:
    mine = device.ask("p1")
    device.login("dr.b", keep_sealed=True)
    assert device.client.queue.list() == []
    device.client.templates()
    theirs = device.ask("p2")
    device.client.sync()
    assert [job["clientMutationId"] for job in device.model.state.jobs.values()] == [theirs]
    device.login("dr.a", keep_sealed=True)
    assert device.status_of(mine) == "queued"
    device.client.sync()
    assert {job["_user"] for job in device.model.state.jobs.values()} == {"dr.a", "dr.b"}


def test_a_switch_of_user_in_mid_drain_fences_the_drain(device: Device) -> None:
    cmids = [device.ask(f"p{n}") for n in range(3)]

    def switch(request: httpx2.Request) -> None:
        device.another().login("https://documents.test", device.token("dr.b"), keep_sealed=True)

    from document_client.errors import LeaseLost
    from document_client.model import Fault

    device.transport.faults.append(Fault(POST_JOB, switch))
    with pytest.raises(LeaseLost):
        device.client.sync()
    assert posted(device) == 1, "nothing more was sent under the former user"
    device.client.close()
    assert device.client.whoami()["user"] == "dr.b"
    device.login("dr.a")
    assert device.client.sync().success
    assert {device.status_of(cmid) for cmid in cmids} == {"done"}
    assert len(device.model.state.jobs) == 3


def test_without_a_session_nothing_is_sent(tmp_path: Path) -> None:
    with made_device(tmp_path / "home", signed_in=False) as device:
        with pytest.raises(SignInNeeded):
            device.client.sync()
        assert device.transport.seen == []


def test_a_job_of_which_only_the_tombstone_is_left_comes_to_attention(device: Device) -> None:
    cmid = device.ask()
    device.model.renders_at_once = False
    device.client.sync()
    [job] = device.model.state.jobs.values()
    job |= {"status": "completed", "documentId": None, "purgedAt": "2026-06-01T00:00:00Z"}
    device.model._changed("jobs", job["id"], "clinic")
    device.client.sync()
    assert device.client.queue.show(cmid)["reason"]["code"] == "JOB_PURGED"
    assert not device.client.status().everything_received
    device.client.queue.discard(cmid, confirmation=cmid)
    assert device.client.status().everything_received
