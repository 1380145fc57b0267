"""Taking a waiting request back: never sent afterwards, and never forgotten without the server's word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest

from client_device import FORM, Device, made_device, problem
from document_client import DocumentClient, audit, queueing, recovery, requests, signing_in, withdrawals
from document_client.account import Account
from document_client.errors import (
    ClientError,
    LocalFileUnreadable,
    NotConfirmed,
    QueueSetAside,
    RequestStateWrong,
)
from document_client.localdb import transaction
from document_client.model import Fault

POST_JOB = "POST /v1/documents/render-jobs"
LOOKUP = f"{POST_JOB}/lookup"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        made.client.account().takes_batches = False
        yield made


def posted(device: Device) -> int:
    return device.transport.seen.count(POST_JOB)


def jobs(device: Device) -> list[str]:
    return [job["clientMutationId"] for job in device.model.state.jobs.values()]


def take_back(device: Device, cmid: str) -> tuple[str, str]:
    shown = device.client.queue.discard(cmid, confirmation=cmid)
    return shown["status"], shown["reason"]["code"]


def told(device: Device, cmid: str) -> tuple[str, str | None]:
    shown = device.client.queue.show(cmid)
    return shown["status"], (shown["reason"] or {}).get("code")


def lose(device: Device, *, late: bool = False) -> str:
    """Ask, and lose the only exchange of the request; ``late``: the service has it, and its answer is lost."""
    cmid = device.ask()
    device.spoil(POST_JOB, httpx2.ReadTimeout("lost"), late=late)
    assert not device.client.sync().success
    return cmid


def test_what_was_taken_back_stays_so_when_a_queue_is_recovered(device: Device) -> None:
    """Of two requests that left one was replaced and one taken back, another waits; then the queue is damaged."""
    replaced, given_up = device.ask(), device.ask()
    device.spoil(POST_JOB, httpx2.ReadTimeout("lost"), times=2, late=True)
    assert not device.client.sync().success
    device.transport.offline = True
    kept = device.ask("p3")
    newer = device.client.queue.edit(replaced, {"patient": "p2"})["clientMutationId"]
    assert take_back(device, given_up) == ("quarantined", "WITHDRAWAL_ASKED")
    working = device.client.account()
    with pytest.raises(QueueSetAside), working.watched():
        raise LocalFileUnreadable("queue.db")
    client = device.another()
    assert recovery.take_back(client.account()).requests == 4
    assert {item["clientMutationId"] for item in client.queue.retry_all()} == {newer, kept}
    assert client.queue.show(replaced)["replacedBy"] == newer
    device.transport.offline = False
    client.sync()
    assert [client.queue.show(cmid)["reason"]["code"] for cmid in (replaced, given_up)] == ["ALREADY_SENT"] * 2
    assert sorted(jobs(device)) == sorted([replaced, given_up, newer, kept])


def test_what_a_person_chose_to_send_all_the_same_is_not_given_up_by_a_recovery(device: Device) -> None:
    first = lose(device)
    device.transport.offline = True
    second = device.client.queue.edit(first, {"patient": "p2"})["clientMutationId"]
    device.client.queue.discard(second, confirmation=second)
    device.client.queue.retry(first)
    with pytest.raises(QueueSetAside), device.client.account().watched():
        raise LocalFileUnreadable("queue.db")
    recovery.take_back(device.client.account())
    assert told(device, first) == ("quarantined", "RECOVERED")


# --- what never left --------------------------------------------------------------------------------------------


def test_what_never_left_is_taken_back_at_once_and_never_sent(device: Device) -> None:
    device.transport.offline = True
    wrong, right = device.ask("p1"), device.ask("p2")
    with pytest.raises(NotConfirmed):
        device.client.queue.discard(wrong, confirmation="yes")
    assert take_back(device, wrong) == ("discarded", "WITHDRAWN")
    assert device.client.status().pending == 1
    device.transport.offline = False
    assert device.client.sync().success
    assert jobs(device) == [right]
    assert LOOKUP not in device.transport.seen
    assert [item["clientMutationId"] for item in device.client.queue.list()] == [right]
    assert [item["status"] for item in device.client.queue.list(given_up=True)] == ["done", "discarded"]
    [event] = device.model.state.events.values()
    assert (event["action"], event["clientMutationId"]) == ("request.discarded", wrong)
    with pytest.raises(RequestStateWrong):
        device.client.queue.retry(wrong)
    with pytest.raises(RequestStateWrong):
        take_back(device, wrong)


def test_a_waiting_request_is_edited_before_it_is_sent(device: Device) -> None:
    device.transport.offline = True
    wrong = device.ask("p1", reason="fever")
    right = device.client.queue.edit(wrong, {"patient": "p2"})
    assert right["request"]["inputs"] == {"reason": "fever"}
    assert told(device, wrong) == ("discarded", "WITHDRAWN")
    device.transport.offline = False
    assert device.client.sync().success
    assert [job["patientId"] for job in device.model.state.jobs.values()] == ["p2"]
    assert [event["action"] for event in device.model.state.events.values()] == ["request.discarded"]


def test_what_the_service_has_cannot_be_taken_back(device: Device) -> None:
    device.model.renders_at_once = False
    cmid = device.ask()
    device.client.sync()
    with pytest.raises(RequestStateWrong, match="the service has the request"):
        take_back(device, cmid)
    with pytest.raises(RequestStateWrong):
        device.client.queue.edit(cmid, {"patient": "p2"})
    assert len(device.client.queue.list(given_up=True)) == 1, "the edit left something behind"
    device.model.work()
    device.client.sync()
    assert device.status_of(cmid) == "done"
    with pytest.raises(RequestStateWrong):
        take_back(device, cmid)
    assert not device.model.state.events, "a refusal is no evidence of a discard"


@pytest.mark.parametrize("together", [False, True])
def test_what_is_given_up_while_it_is_tried_again_stays_given_up(
    device: Device, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    cmid, another = device.ask("p1"), device.ask("p2")
    device.spoil(POST_JOB, problem(422, "INPUTS_INVALID"), times=2)
    device.client.sync()
    other, plain = device.another(), queueing._find

    def meanwhile(account: Account, named: str) -> Any:
        found = plain(account, named)
        if named == cmid:
            monkeypatch.setattr(queueing, "_find", plain)
            assert other.queue.discard(cmid, confirmation=cmid)["status"] == "discarded"
        return found

    monkeypatch.setattr(queueing, "_find", meanwhile)
    if together:
        assert [item["clientMutationId"] for item in device.client.queue.retry_all()] == [another]
    else:
        with pytest.raises(RequestStateWrong):
            device.client.queue.retry(cmid)
    assert told(device, cmid)[0] == "discarded"
    device.client.sync()
    assert cmid not in jobs(device)


def test_trying_all_again_leaves_what_was_taken_back_since_they_were_listed(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    cmid = lose(device, late=True)
    [request] = requests.read_all(device.client.account().queue)
    listed = [replace(request, state="quarantined")]
    assert take_back(device, cmid) == ("quarantined", "WITHDRAWAL_ASKED")
    with monkeypatch.context() as patch:
        patch.setattr(requests, "read_all", lambda conn: listed)
        assert device.client.queue.retry_all() == []
    assert told(device, cmid) == ("quarantined", "WITHDRAWAL_ASKED")


# --- what may have left -----------------------------------------------------------------------------------------


def test_what_did_not_arrive_is_settled_by_lookup_and_never_sent_again(device: Device) -> None:
    cmid = lose(device)
    assert take_back(device, cmid) == ("quarantined", "WITHDRAWAL_ASKED")
    assert take_back(device, cmid) == ("quarantined", "WITHDRAWAL_ASKED")
    assert not device.client.status().everything_sent
    before = posted(device)
    report = device.client.sync()
    assert report.success
    assert report.taken_back == 1
    assert told(device, cmid) == ("discarded", "WITHDRAWN")
    assert device.client.status().everything_sent
    device.transport.seen.clear()
    device.client.sync()
    assert LOOKUP not in device.transport.seen, "it is settled, and not asked again"
    assert before == 1
    assert posted(device) == 0
    assert jobs(device) == []


def test_what_had_arrived_is_for_the_person_to_decide(device: Device) -> None:
    kept, dropped = device.ask("p1"), device.ask("p2")
    device.spoil(POST_JOB, httpx2.ReadTimeout("lost"), late=True, times=2)
    device.client.sync()
    for cmid in (kept, dropped):
        assert take_back(device, cmid) == ("quarantined", "WITHDRAWAL_ASKED")
    assert device.client.sync().taken_back == 0
    for cmid in (kept, dropped):
        assert told(device, cmid) == ("failed", "ALREADY_SENT")
        assert device.client.queue.show(cmid)["documentId"], "the document to be withdrawn is named"
    assert device.client.status().failed == 2
    assert device.client.queue.retry_all() == [], "retry of everything brings nothing back that was taken back"
    device.client.queue.retry(kept)
    assert take_back(device, dropped) == ("discarded", "ALREADY_SENT")
    assert device.client.sync().success
    assert device.status_of(kept) == "done"
    device.client.account().cache.execute("UPDATE feed SET cursor = ''")
    device.client.sync()
    assert told(device, dropped) == ("discarded", "ALREADY_SENT"), "it was decided once"
    assert sorted(jobs(device)) == sorted([kept, dropped])


def test_a_job_that_failed_made_nothing_and_needs_no_decision(device: Device) -> None:
    device.model.failing = lambda job: {"code": "PATIENT_UNKNOWN", "title": "?"}
    cmid = lose(device, late=True)
    take_back(device, cmid)
    assert device.client.sync().success
    assert told(device, cmid) == ("discarded", "WITHDRAWN")
    assert device.client.status().failed == 0


def test_bytes_that_arrive_after_the_lookup_bring_it_to_attention(device: Device) -> None:
    held: list[httpx2.Request] = []

    def keep(request: httpx2.Request) -> httpx2.Response:
        held.append(request)
        raise httpx2.ReadTimeout("lost")

    device.transport.faults.append(Fault(POST_JOB, keep))
    cmid = device.ask()
    device.client.sync()
    take_back(device, cmid)
    device.client.sync()
    assert told(device, cmid) == ("discarded", "WITHDRAWN")
    device.transport.handle_request(held[0])
    device.client.sync()
    assert told(device, cmid) == ("failed", "ALREADY_SENT")


def test_a_request_that_is_no_longer_wanted_and_was_lost_on_the_way(device: Device) -> None:
    until = device.clocks.server + 3600
    cmid = device.client.request(FORM, "p1", not_after=requests_instant(until))["clientMutationId"]
    device.spoil(POST_JOB, httpx2.ReadTimeout("lost"))
    device.client.sync()
    device.clocks.pass_time(7200)
    take_back(device, cmid)
    device.client.sync()
    assert told(device, cmid) == ("discarded", "WITHDRAWN")


def requests_instant(seconds: float) -> str:
    from document_client.clock import to_text

    return to_text(seconds)


def test_twenty_failures_are_no_word_and_are_settled_too(device: Device) -> None:
    cmid = device.ask()
    device.spoil(POST_JOB, problem(500, "INTERNAL"), times=20, late=True)
    for _ in range(20):
        device.client.sync()
    assert told(device, cmid) == ("quarantined", "SERVER_KEEPS_FAILING")
    assert take_back(device, cmid) == ("quarantined", "WITHDRAWAL_ASKED")
    device.client.sync()
    assert told(device, cmid) == ("failed", "ALREADY_SENT")


def test_a_second_thought_about_the_second_thought(device: Device) -> None:
    cmid = lose(device)
    take_back(device, cmid)
    device.client.queue.retry(cmid)
    assert device.client.sync().success
    assert device.status_of(cmid) == "done"
    assert jobs(device) == [cmid]


def test_a_lookup_that_is_refused_keeps_no_other_request_waiting(device: Device) -> None:
    cmid = lose(device)
    take_back(device, cmid)
    other = device.ask("p2")
    device.spoil(LOOKUP, problem(404, "NOT_FOUND"))
    report = device.client.sync()
    assert not report.success
    assert report.errors == ["LOOKUP_FAILED"]
    assert device.status_of(other) == "done"
    assert told(device, cmid) == ("quarantined", "WITHDRAWAL_ASKED")
    assert device.client.sync().success
    assert told(device, cmid) == ("discarded", "WITHDRAWN")


def test_a_lookup_that_gets_lost_keeps_no_other_request_waiting(device: Device) -> None:
    cmid = lose(device)
    take_back(device, cmid)
    other = device.ask("p2")
    device.spoil(LOOKUP, httpx2.ReadTimeout("lost"))
    assert not device.client.sync().success
    assert device.status_of(other) == "done"
    device.client.sync()
    assert told(device, cmid) == ("discarded", "WITHDRAWN")


def test_a_restored_service_is_not_offered_what_was_taken_back(device: Device) -> None:
    backup = device.model.snapshot()
    cmid = lose(device, late=True)
    take_back(device, cmid)
    device.client.sync()
    assert told(device, cmid) == ("failed", "ALREADY_SENT")
    device.model.restore(backup, "epoch-2")
    assert device.client.sync().offered_again == 0
    assert told(device, cmid) == ("discarded", "WITHDRAWN")
    assert jobs(device) == []


def test_a_sign_out_that_discards_waits_for_the_servers_word_too(device: Device) -> None:
    lost, waiting = lose(device, late=True), device.ask("p2")
    device.client.logout(discard_pending=True)
    device.login()
    assert told(device, waiting) == ("discarded", "WITHDRAWN")
    assert told(device, lost) == ("quarantined", "WITHDRAWAL_ASKED")
    assert device.client.logout().requests == 0, "what was taken back is decided, and asked about no second time"
    device.login()
    device.client.sync()
    assert told(device, lost) == ("failed", "ALREADY_SENT")
    assert jobs(device) == [lost]


def acknowledge(account: Account, cmid: str) -> None:
    with transaction(account.queue):
        job = {"id": "job_1", "clientMutationId": cmid, "status": "queued"}
        requests.acknowledge(account.queue, cmid, job, "epoch-1", 0.0)


def send_until_stopped(monkeypatch: pytest.MonkeyPatch, cmid: str) -> None:
    """Let the drain that a sign-out stops have sent this request a moment before."""
    plain = signing_in._stop_drain

    def stop(account: Account) -> None:
        acknowledge(account, cmid)
        plain(account)

    monkeypatch.setattr(signing_in, "_stop_drain", stop)


def test_a_sign_out_discards_nothing_that_was_sent_until_the_drain_was_stopped(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, waiting = device.ask("p1"), device.ask("p2")
    send_until_stopped(monkeypatch, sent)
    assert device.client.logout(discard_pending=True).requests == 1
    device.login()
    assert told(device, sent)[0] == "acknowledged"
    assert told(device, waiting)[0] == "discarded"
    recorded = audit.read_all(device.client.account().audit)
    given_up = [e["clientMutationId"] for e in recorded if e["action"] == "request.discarded"]
    assert given_up == [waiting]


def test_what_the_drain_sent_until_it_was_stopped_is_not_told_as_kept(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, _ = device.ask("p1"), device.ask("p2")
    send_until_stopped(monkeypatch, sent)
    assert device.client.logout(keep_sealed=True).requests == 1


def test_what_another_command_settles_while_everything_is_discarded_stays_as_that_said(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, waiting = device.ask("p1"), device.ask("p2")
    plain = signing_in._undecided
    looks: list[list[str]] = []

    def look(account: Account) -> list[str]:
        found = plain(account)
        looks.append(found)
        if len(looks) == 1:
            acknowledge(account, kept)
        return found

    monkeypatch.setattr(signing_in, "_undecided", look)
    assert device.client.logout(discard_pending=True).requests == 1
    device.login()
    assert [told(device, cmid)[0] for cmid in (kept, waiting)] == ["acknowledged", "discarded"]


def test_requests_of_an_earlier_version_may_have_left(device: Device) -> None:
    cmid = device.ask()
    queue = device.client.account().queue
    queue.execute("ALTER TABLE requests DROP COLUMN offered")
    queue.pragma("user_version", 2)
    device.client.close()
    assert take_back(device, cmid) == ("quarantined", "WITHDRAWAL_ASKED")


# --- replaced once ----------------------------------------------------------------------------------------------


def test_what_was_replaced_is_replaced_once_also_while_the_service_was_not_asked(device: Device) -> None:
    wrong = lose(device)
    device.transport.offline = True
    first = device.client.queue.edit(wrong, {"patient": "p2"})["clientMutationId"]
    assert told(device, wrong) == ("quarantined", "WITHDRAWAL_ASKED")
    for again in (
        lambda: device.client.queue.edit(wrong, {"patient": "p3"}),
        lambda: device.client.queue.retry(wrong),
    ):
        with pytest.raises(RequestStateWrong, match=first):
            again()
    assert device.client.queue.retry_all() == []
    second = device.client.queue.edit(first, {"patient": "p4"})["clientMutationId"]
    with pytest.raises(RequestStateWrong, match=second):
        device.client.queue.edit(wrong, {"patient": "p3"})
    device.transport.offline = False
    assert device.client.sync().success
    assert jobs(device) == [second]


def test_a_replacement_that_was_given_up_leaves_the_first_to_be_decided(device: Device) -> None:
    wrong = lose(device)
    device.transport.offline = True
    first = device.client.queue.edit(wrong, {"patient": "p2"})["clientMutationId"]
    take_back(device, first)
    second = device.client.queue.edit(wrong, {"patient": "p3"})["clientMutationId"]
    device.transport.offline = False
    assert device.client.sync().success
    assert jobs(device) == [second]


def test_a_failed_request_that_waits_for_its_retry_is_replaced_once(device: Device) -> None:
    device.model.failing = lambda job: {"code": "PATIENT_MISMATCH", "title": "?"}
    wrong = device.ask()
    device.client.sync()
    device.client.queue.retry(wrong)
    device.client.queue.edit(wrong, {"patient": "p2"})
    with pytest.raises(RequestStateWrong):
        device.client.queue.edit(wrong, {"patient": "p2"})
    assert device.client.status().pending == 1


# --- beside a drain that runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        ("answered", ("failed", "ALREADY_SENT")),
        ("lost before", ("quarantined", "WITHDRAWAL_ASKED")),
        ("lost after", ("quarantined", "WITHDRAWAL_ASKED")),
        ("refused", ("quarantined", "WITHDRAWAL_ASKED")),
        ("failed", ("quarantined", "WITHDRAWAL_ASKED")),
    ],
)
def test_taken_back_while_it_is_being_sent(device: Device, ends: str, state: tuple[str, str]) -> None:
    other = device.another()
    cmid = device.ask()

    def meanwhile(request: httpx2.Request) -> httpx2.Response | None:
        assert other.queue.show(cmid)["status"] == "sending"
        assert other.queue.discard(cmid, confirmation=cmid)["status"] == "quarantined"
        if ends.startswith("lost"):
            raise httpx2.ReadTimeout("lost")
        answers = {"refused": problem(422, "TEMPLATE_UNKNOWN"), "failed": problem(500, "INTERNAL")}
        return answers.get(ends)

    device.transport.faults.append(Fault(POST_JOB, meanwhile, late=ends == "lost after"))
    # The run that sends it goes on to read the changes, which tell of the job where there is one.
    device.client.sync()
    assert told(device, cmid) == (("failed", "ALREADY_SENT") if jobs(device) else state)
    before = posted(device)
    device.client.sync()
    assert told(device, cmid) == (("failed", "ALREADY_SENT") if jobs(device) else ("discarded", "WITHDRAWN"))
    assert posted(device) == before == 1


def test_a_drain_and_a_person_on_the_same_requests_at_the_same_time(tmp_path: Path) -> None:
    """Two connections to one file: each request is either sent or taken back, or both and then told."""
    with made_device(tmp_path / "home") as device:
        other, asked = device.another(), [device.ask(f"p{number}") for number in range(40)]
        device.client.account().takes_batches = False
        taken: list[str] = []
        started = threading.Event()

        def begin(request: httpx2.Request) -> None:
            started.set()
            # Long enough for the person to come in between.
            time.sleep(0.03)

        device.transport.faults.append(Fault(POST_JOB, begin, times=40))

        def person() -> None:
            started.wait(30)
            for cmid in reversed(asked):
                try:
                    other.queue.discard(cmid, confirmation=cmid)
                except RequestStateWrong:
                    continue
                taken.append(cmid)

        beside = threading.Thread(target=person)
        beside.start()
        device.client.sync()
        beside.join()
        assert device.client.sync().success
        assert taken
        made = set(jobs(device))
        for cmid in asked:
            state = told(device, cmid)
            if cmid in taken:
                assert state == (("failed", "ALREADY_SENT") if cmid in made else ("discarded", "WITHDRAWN"))
            else:
                assert state == ("done", None)


def test_a_crash_at_any_statement_leaves_it_as_it_was_or_taken_back(device: Device) -> None:
    class PowerCut(BaseException):
        pass

    def cut_at(number: int) -> Callable[..., bool]:
        left = [number]

        def trace(cursor: Any, sql: str, values: Any) -> bool:
            left[0] -= 1
            if left[0] < 0:
                raise PowerCut
            return True

        return trace

    asked: list[str] = []
    for lost in (False, True):
        ends: list[tuple[str, str | None]] = []
        for number in range(40):
            device.client.sync()
            cmid = lose(device) if lost else device.ask()
            asked.append(cmid)
            with device.another() as dying:
                # What was unlocked once need not be stretched forty times.
                dying._vault = device.client._vault
                connections = (dying.account().queue, dying.account().audit)
                trace = cut_at(number)
                for conn in connections:
                    conn.exec_trace = trace
                try:
                    dying.queue.discard(cmid, confirmation=cmid)
                    whole = True
                except PowerCut:
                    whole = False
            ends.append(told(device, cmid))
            after = ("quarantined", "WITHDRAWAL_ASKED") if lost else ("discarded", "WITHDRAWN")
            assert ends[-1] in (("queued", None), after)
            if whole:
                assert ends[-1] == after
                break
            _check_evidence(device, cmid, ends[-1])
            if ends[-1] == ("queued", None):
                device.client.queue.discard(cmid, confirmation=cmid)
        assert ("queued", None) in ends, "no statement was cut"
        assert whole
    device.client.sync()
    assert all(told(device, cmid)[0] == "discarded" for cmid in asked)
    assert jobs(device) == []


def _check_evidence(device: Device, cmid: str, state: tuple[str, str | None]) -> None:
    """A request is never gone without a record of who took it back; a record may be there and the deed not yet."""
    rows = device.client.account().audit.execute("SELECT event FROM events WHERE event LIKE ?", (f"%{cmid}%",))
    recorded = len(rows.fetchall())
    assert recorded == 1 or state == ("queued", None)


def test_giving_up_asks_the_row_and_nothing_else() -> None:
    conn = apsw.Connection(":memory:")
    for script in requests.SCHEMA:
        conn.execute(script)
    assert withdrawals.give_up(conn, "absent", 1.0) is None
    assert withdrawals.read_unsettled(conn) == []


def test_the_error_is_a_clients_own(device: Device) -> None:
    with pytest.raises(ClientError) as refused:
        device.client.queue.discard("00000000-absent", confirmation="x")
    assert refused.value.exit_code == 64
    assert isinstance(device.client, DocumentClient)


def test_a_wait_holds_for_what_was_tried_again_while_it_was_being_sent() -> None:
    conn = apsw.Connection(":memory:")
    for script in requests.SCHEMA:
        conn.execute(script)
    whose: dict[str, Any] = {"tenant_id": "clinic", "user_id": "dr.a"}
    requests.insert(
        conn,
        client_mutation_id="c1",
        **whose,
        body=b"{}",
        template_name="form",
        template_version_id="tv_1",
        patient_id="p1",
        requested_at=0.0,
    )
    claim: dict[str, Any] = {**whose, "skip": (), "eager": True}
    assert requests.claim(conn, 1, 10.0, **claim) is not None
    withdrawals.give_up(conn, "c1", 11.0)
    taken_back = requests.read(conn, "c1")
    assert taken_back is not None
    requests.retry(conn, taken_back, 12.0)
    requests.postpone(conn, "c1", 100.0, counted=False, server_said=True)
    assert requests.claim(conn, 1, 99.0, **claim) is None
    assert requests.claim(conn, 1, 101.0, **claim) is not None
