"""The cache: expiry under any clock, lease, quota, revocations, verified and resumed downloads, the change feed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_device import Clocks, Device, made_device, problem
from document_client import effects as fx
from document_client import feed, requests
from document_client.clock import NEVER, from_text, make_contact, read_clock, see, to_text
from document_client.doctor import examine
from document_client.driver import Driver
from document_client.errors import (
    CacheLocked,
    DocumentExpired,
    DocumentNotHere,
    DocumentRevoked,
    DocumentUnknown,
    LeaseLost,
    StorageFull,
    UsageProblem,
)
from document_client.localdb import remove_files, transaction
from document_client.model import Caller, Fault

DAY = 86_400.0
CONTENT = "/content?"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


@pytest.fixture
def document(device: Device) -> str:
    device.ask()
    device.client.sync()
    return str(device.client.documents.list()[0]["id"])


def shown(device: Device, document: str) -> dict[str, Any]:
    return device.client.documents.show(document)


def enlarge(device: Device, size: int = 300_000) -> bytes:
    """Let the next documents of the model be large, so that a download has several pieces."""
    import hashlib

    content = b"%PDF-1.4 " + bytes(n % 251 for n in range(size))
    original = device.model._document

    def larger(job: dict[str, Any]) -> dict[str, Any]:
        made = original(job)
        made |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        device.model.state.contents[made["id"]] = content
        return made

    device.model._document = larger  # type: ignore[method-assign]
    return content


def test_what_replaces_a_copy_while_it_is_opened_is_not_shown_under_its_name(device: Device, document: str) -> None:
    device.ask("p2")
    device.client.sync()
    former = device.client.documents.read(document)
    cached, beside = device.client.account().cache, device.another().account().cache

    def replace(cursor: object, sql: str, values: object) -> bool:
        if sql.startswith("SELECT rowid FROM blobs"):
            cached.exec_trace = None
            # Another program withdraws the document and keeps another one under the same number of a row.
            row = beside.execute("SELECT rowid FROM blobs WHERE document_id = ?", (document,)).get
            with transaction(beside):
                beside.execute("DELETE FROM documents WHERE document_id = ?", (document,))
                beside.execute("UPDATE blobs SET rowid = ?", (row,))
        return True

    cached.exec_trace = replace
    opened = device.client.documents.read(document)
    assert cached.exec_trace is None
    assert (opened.document["sha256"], opened.content) == (former.document["sha256"], former.content)
    with pytest.raises(DocumentUnknown):
        device.client.documents.read(document)


# --- the clock ------------------------------------------------------------------------------------------------


def test_a_clock_set_back_extends_no_life(device: Device, document: str) -> None:
    device.transport.offline = True
    device.clocks.pass_time(6 * DAY)
    assert device.client.documents.read(document).content
    device.clocks.wall -= 30 * DAY
    assert shown(device, document)["state"] == "available"
    assert device.client.status().clock["confidence"] == "suspect"
    device.clocks.pass_time(DAY + 60)
    assert shown(device, document)["state"] == "expired"
    with pytest.raises(DocumentExpired):
        device.client.documents.read(document)


def test_time_goes_on_after_a_reboot_with_the_clock_set_back(device: Device, document: str) -> None:
    device.transport.offline = True
    device.clocks.pass_time(6 * DAY)
    device.client.status()
    device.client.close()
    device.clocks.boot, device.clocks.monotonic, device.clocks.wall = "boot-2", 5.0, device.clocks.wall - 20 * DAY
    second = device.another(clock=device.clocks.source())
    assert second.documents.show(document)["state"] == "available"
    assert second.status().clock["confidence"] == "suspect"
    device.clocks.wall += 20 * DAY + DAY + 60
    assert second.documents.show(document)["state"] == "expired"


def test_one_slip_of_the_clock_does_not_expire_a_clinic_for_ever(device: Device, document: str) -> None:
    device.clocks.wall += 10 * DAY
    device.transport.offline = True
    with pytest.raises(DocumentExpired):
        device.client.documents.read(document)
    device.clocks.wall -= 10 * DAY
    with pytest.raises(DocumentExpired):
        device.client.documents.read(document)
    device.transport.offline = False
    device.client.sync()
    assert device.client.documents.read(document).content


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 5 * DAY), st.floats(-400 * DAY, 400 * DAY), st.booleans()), min_size=1, max_size=20
    )
)
def test_now_never_runs_behind_what_was_seen_since_the_contact(steps: list[tuple[float, float, bool]]) -> None:
    clocks = Clocks()
    contact, highest = make_contact(clocks.source(), clocks.server)
    passed = 0.0
    for elapsed, slip, reboot in steps:
        clocks.pass_time(elapsed)
        passed += elapsed
        clocks.wall += slip
        if reboot:
            clocks.boot += "'"
        reading = read_clock(clocks.source(), contact, highest)
        assert reading.now >= highest.time
        assert reading.now >= clocks.wall
        # A life never begins in the server's future, whatever the wall clock and the reboots were.
        assert reading.birth <= contact.server_time + passed + 1e-3
        if clocks.boot == contact.boot:
            assert reading.now >= contact.server_time + passed - 1e-3
        highest = see(clocks.source(), reading.now, highest) or highest


def test_an_answer_from_before_a_sleep_does_not_take_the_sleep_out_of_the_time() -> None:
    clocks = Clocks()
    first, _ = make_contact(clocks.source(), clocks.server)
    asked, said = clocks.monotonic, clocks.server
    clocks.pass_time(15 * DAY)
    clocks.wall -= 400 * DAY
    late = make_contact(clocks.source(), said, first, asked)
    assert read_clock(clocks.source(), *late).now == pytest.approx(said + 15 * DAY)
    # A server whose clock was wrong and is right again is believed: its answer took no time.
    prompt = make_contact(clocks.source(), said, first, clocks.monotonic)
    assert read_clock(clocks.source(), *prompt).now == pytest.approx(said)


def test_the_first_answer_after_a_restart_counts_what_went_by_since_it_came() -> None:
    clocks = Clocks()
    before, _ = make_contact(clocks.source(), clocks.server)
    clocks.boot += "'"
    asked, said = clocks.monotonic, clocks.server
    clocks.pass_time(2)
    heard = clocks.monotonic
    clocks.pass_time(3 * DAY)
    clocks.wall -= 400 * DAY
    contact = make_contact(clocks.source(), said, before, asked, heard)
    # What the answer took on its way is not counted: a life must never begin in the server's future.
    assert read_clock(clocks.source(), *contact).now == pytest.approx(said + 3 * DAY)


@pytest.mark.parametrize("heard", [False, True])
def test_time_goes_on_within_a_boot_although_the_clock_was_set_back(heard: bool) -> None:
    clocks = Clocks()
    contact, highest = make_contact(clocks.source(), clocks.server) if heard else (None, NEVER)
    before = read_clock(clocks.source(), contact, highest).now
    highest = see(clocks.source(), before, highest) or highest
    # A device whose battery is empty starts in 1970 each time, and the clinic is offline for days.
    for boot in ("boot-2", "boot-3"):
        clocks.boot, clocks.wall, clocks.monotonic = boot, 0.0, 5.0
        started = read_clock(clocks.source(), contact, highest)
        assert started.confidence == "suspect"
        highest = see(clocks.source(), started.now, highest) or highest
        clocks.pass_time(3 * DAY)
        reading = read_clock(clocks.source(), contact, highest)
        highest = see(clocks.source(), reading.now, highest) or highest
    assert reading.now == pytest.approx(before + 6 * DAY)


def test_a_copy_expires_on_a_device_that_starts_in_1970_each_time(device: Device, document: str) -> None:
    device.transport.offline = True
    for boot in range(3):
        device.clocks.boot, device.clocks.wall, device.clocks.monotonic = f"start-{boot}", 0.0, 5.0
        client = device.another(clock=device.clocks.source())
        assert client.documents.show(document)["state"] == "available"
        device.clocks.pass_time(3 * DAY)
        state = client.documents.show(document)["state"]
        client.close()
    assert state == "expired"


@pytest.mark.parametrize("heard", [True, False])
def test_forms_listed_by_a_clock_ahead_are_not_called_fresh_when_they_are_old(
    device: Device, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    device.clocks.wall += 400 * DAY
    if heard:
        device.client.sync()
    else:
        # A proxy takes the answers' date away: the device has nothing but its own clock.
        monkeypatch.setattr("document_client.driver.Driver._on_ApplyPage", without_time)
        device.client.sync()
        monkeypatch.undo()
        assert device.client.templates().freshness == "fresh"
    device.clocks.wall -= 400 * DAY
    device.clocks.pass_time(2 * DAY)
    with monkeypatch.context() as patched:
        # The device hears what time it is, and the program is killed before the list is confirmed.
        patched.setattr(requests, "fail_undelivered", killed)
        with pytest.raises(KeyboardInterrupt):
            device.client.sync()
    device.transport.offline = True
    assert device.client.templates().freshness in ("stale", "expired")
    device.transport.offline = False
    device.client.sync()
    assert device.client.templates().freshness == "fresh"


def without_time(driver: Driver, effect: fx.ApplyPage, plain: Any = Driver._on_ApplyPage) -> None:
    plain(driver, replace(effect, server_time=None))


def killed(*values: object) -> None:
    raise KeyboardInterrupt


# --- expiry, lease, policy --------------------------------------------------------------------------------------


def test_an_expired_copy_is_hidden_at_once_and_deleted_after_72_hours(device: Device, document: str) -> None:
    device.transport.offline = True
    device.clocks.pass_time(7 * DAY + 1)
    assert shown(device, document)["state"] == "expired"
    assert device.client.status().cache["bytes"] > 0
    device.clocks.pass_time(71 * 3600)
    device.client.sync()
    assert device.client.status().cache["bytes"] > 0
    device.clocks.pass_time(2 * 3600)
    device.client.sync()
    assert device.client.status().cache["bytes"] == 0
    assert shown(device, document)["state"] == "expired", "the entry stays: expired, connect to refresh"
    device.transport.offline = False
    device.client.sync()
    assert device.client.documents.read(document).content


def test_the_bytes_of_an_expired_copy_go_when_server_time_confirms_it(device: Device, document: str) -> None:
    device.clocks.pass_time(7 * DAY + 1)
    device.transport.faults.append(Fault("/download-url", lambda request: problem(500, "INTERNAL"), times=9))
    device.client.sync()
    assert device.client.status().cache["bytes"] == 0
    assert shown(device, document)["state"] == "expired"


def test_an_expired_copy_is_confirmed_without_sending_its_bytes_again(device: Device, document: str) -> None:
    device.clocks.pass_time(8 * DAY)
    assert shown(device, document)["state"] == "expired"
    report = device.client.sync()
    assert (report.confirmed, report.bytes_received) == (1, 0)
    assert device.client.documents.read(document).content


def test_a_shorter_policy_holds_for_copies_fetched_before(device: Device, document: str) -> None:
    device.model.policy["cacheTtlSeconds"] = 3600
    device.client.sync()
    expires = from_text(shown(device, document)["expiresAt"])
    assert expires == pytest.approx(device.clocks.server + 3600, abs=5)
    device.model.policy["cacheTtlSeconds"] = 30 * 86_400
    device.client.sync()
    later = from_text(shown(device, document)["expiresAt"])
    assert later <= device.clocks.server + 7 * DAY + 5, "a longer policy does not lengthen a copy fetched before"


def test_a_local_setting_only_shortens(device: Device, document: str) -> None:
    from document_client.localdb import transaction

    account = device.client.account()
    for local, expected in ((600.0, 600.0), (900 * DAY, 7 * DAY)):
        with transaction(account.cache):
            feed.save_local_ttl(account.cache, local)
        assert from_text(shown(device, document)["expiresAt"]) == pytest.approx(device.clocks.server + expected, abs=5)


def test_a_policy_signed_by_another_key_changes_nothing(device: Device, document: str) -> None:
    signed = device.model.signed_policy

    def forged(tenant: str) -> dict[str, Any]:
        return {**signed(tenant), "cacheTtlSeconds": 900 * 86_400}

    device.model.signed_policy = forged  # type: ignore[method-assign]
    # With nothing new the service would not send a policy at all.
    device.ask()
    device.client.sync()
    cache = device.client.status().cache
    assert cache["ttlSeconds"] == 7 * DAY
    assert "not signed" in cache["policyProblem"]


def test_a_policy_of_another_tenant_changes_nothing(device: Device, document: str) -> None:
    signed = device.model.signed_policy
    device.model.policy["cacheTtlSeconds"] = 900 * 86_400
    device.model.signed_policy = lambda tenant: signed("another")  # type: ignore[method-assign]
    device.client.sync()
    assert device.client.status().cache["ttlSeconds"] == 7 * DAY


def test_without_contact_for_the_lease_the_cache_locks(device: Device, document: str) -> None:
    device.model.policy |= {"cacheTtlSeconds": 90 * 86_400, "leaseSeconds": 14 * 86_400}
    device.clocks.pass_time(7 * DAY)
    device.client.sync()
    device.transport.offline = True
    device.clocks.pass_time(14 * DAY - 60)
    assert device.client.documents.read(document).content
    device.clocks.pass_time(120)
    with pytest.raises(CacheLocked):
        device.client.documents.read(document)
    assert device.client.documents.list()[0]["patientId"] is None
    assert device.client.status().cache["locked"]
    device.transport.offline = False
    device.client.sync()
    assert device.client.documents.read(document).content


# --- revocation, feed -------------------------------------------------------------------------------------------


def test_a_revoked_copy_is_gone_with_the_next_contact(device: Device, document: str) -> None:
    device.model.revoke(document, "entered-in-error")
    assert device.client.documents.read(document).content
    device.client.sync()
    with pytest.raises(DocumentRevoked):
        device.client.documents.read(document)
    assert device.client.status().cache["bytes"] == 0


def test_a_withdrawn_document_is_told_once_and_stays_listed_without_the_patient(device: Device, document: str) -> None:
    number = device.client.documents.show(document)["number"]
    device.model.revoke(document, "entered-in-error")
    assert device.client.sync().withdrawn == [number]
    assert device.client.sync().withdrawn == []
    [left] = device.client.documents.list()
    assert {name for name in device.model.state.documents[document] if not name.startswith("_")} <= set(left)
    assert (left["id"], left["number"], left["state"], left["patientId"]) == (document, number, "withdrawn", None)
    with pytest.raises(DocumentRevoked) as refusal:
        device.client.documents.read(number)
    assert refusal.value.exit_code == 69


def made_by_a_colleague(device: Device) -> str:
    """A document that somebody else asked for, at another device; returns its id."""
    caller = Caller("clinic", "dr.b", None)
    version = next(iter(device.model.state.versions))
    body = {"clientMutationId": "c-other", "templateVersionId": version, "patientId": "p1", "inputs": {}}
    at = {"locale": "en", "requestedAt": to_text(device.clocks.server)}
    device.model.submit(caller, {**body, **at}, None)
    return list(device.model.state.documents)[-1]


def test_a_replaced_document_names_its_replacement_and_brings_it_here(device: Device, document: str) -> None:
    number = device.client.documents.show(document)["number"]
    colleague = made_by_a_colleague(device)
    device.client.sync()
    assert device.client.documents.list()[0]["id"] == document, "a colleague's document is not wanted by itself"
    device.model.revoke(document, "superseded", replaced_by=colleague)
    report = device.client.sync()
    newer = device.model.state.documents[colleague]["number"]
    assert (report.withdrawn, report.replaced) == ([number], {number: newer})
    new, old = device.client.documents.list()
    assert (new["id"], new["state"]) == (colleague, "available")
    assert (old["state"], old["status"], old["supersededBy"]) == ("withdrawn", "superseded", colleague)
    for name in (document, number):
        with pytest.raises(DocumentRevoked, match=f"replaced by {newer}"):
            device.client.documents.read(name)


def test_doctor_and_sync_say_that_the_device_was_revoked_and_no_key_is_called_lost(
    device: Device, document: str
) -> None:
    body = {"code": "DEVICE_REVOKED", "title": "This device was revoked.", "detail": "Enrol it again."}
    device.transport.faults.append(Fault("/v1/", lambda request: httpx2.Response(403, json=body), times=99))
    [found] = [finding for finding in examine(device.client) if finding["part"] == "server"]
    assert found["state"] == "broken"
    assert "revoked" in found["text"]
    assert "Enrol it again." in found["text"]
    report = device.client.sync()
    assert report.stopped == "DEVICE_REVOKED"
    assert "Enrol it again." in report.detail
    device.client.close()
    [notice] = device.client.status().notices
    assert "revoked this device" in notice


@pytest.mark.parametrize(("status", "state"), [(401, "attention"), (403, "broken"), (404, "broken")])
def test_doctor_asks_under_the_session(device: Device, status: int, state: str) -> None:
    body = {"code": "FORBIDDEN", "title": "Not here.", "detail": "needs the role DOCUMENT_AUTHOR"}
    device.transport.faults.append(Fault("/v1/", lambda request: httpx2.Response(status, json=body), times=99))
    [found] = [finding for finding in examine(device.client) if finding["part"] == "server"]
    assert found["state"] == state
    assert "DOCUMENT_AUTHOR" in found["text"]


def test_the_end_of_its_retention_is_no_withdrawal(device: Device, document: str) -> None:
    device.model.revoke(document, "purged")
    # The model announces the document too, as the service does for a void; here only the revocation counts.
    device.model.state.documents[document]["status"] = "current"
    assert device.client.sync().withdrawn == []
    assert device.client.documents.list() == []
    with pytest.raises(DocumentUnknown, match="does not keep it any more"):
        device.client.documents.read(document)


def test_a_cache_of_an_earlier_version_goes_on(device: Device, document: str) -> None:
    db = device.client.account().cache
    db.execute("DROP TABLE withdrawn")
    db.execute("ALTER TABLE feed DROP COLUMN pages")
    for column in ("highest_monotonic", "highest_boot"):
        db.execute(f"ALTER TABLE contact DROP COLUMN {column}")
    db.pragma("user_version", 1)
    device.client.close()
    assert device.client.documents.read(document).content
    assert device.client.sync().withdrawn == []


@pytest.mark.parametrize("late", ["recovery.keep_envelopes", "outboxes.send_others"])
def test_a_withdrawal_is_told_by_the_next_report_when_one_ends_by_an_error(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    def full(*given: object) -> None:
        raise StorageFull()

    number = device.client.documents.show(document)["number"]
    device.model.revoke(document, "withdrawn")
    with monkeypatch.context() as patched:
        patched.setattr(f"document_client.{late}", full)
        with pytest.raises(StorageFull):
            device.client.sync()
    assert device.client.sync().withdrawn == [number]


def test_a_document_withdrawn_before_it_arrived_comes_to_attention(device: Device) -> None:
    cmid = device.ask()
    device.spoil("/download-url", httpx2.ConnectError("gone"))
    device.client.sync()
    [document] = device.model.state.documents
    device.model.revoke(document, "wrong patient")
    device.client.sync()
    found = device.client.queue.show(cmid)
    assert (found["status"], found["reason"]["code"]) == ("failed", "DOCUMENT_WITHDRAWN")


def test_revocations_come_before_anything_of_the_page_is_stored(device: Device) -> None:
    device.model.page_size = 2
    for n in range(4):
        device.ask(f"p{n}")
    device.transport.faults.append(Fault("/download-url", lambda request: problem(503, "BUSY"), times=99))
    device.client.sync()
    listed = list(device.model.state.documents)
    device.model.revoke(listed[3], "withdrawn")
    device.transport.faults.clear()
    device.clocks.pass_time(301)
    device.client.sync()
    assert {d["id"] for d in device.client.documents.list()} == set(listed[:3])


def test_a_page_applied_ten_times_ends_in_the_same_state(device: Device, document: str) -> None:
    from document_client import feed
    from document_client.localdb import transaction
    from document_client.model import Caller

    account = device.client.account()
    page = device.model.changes(Caller("clinic", "dr.a"), "").body
    tables = ("documents", "blobs", "jobs", "templates", "versions", "revocations", "feed")

    def state() -> list[Any]:
        return [account.cache.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables]

    before = state()
    for _ in range(10):
        with transaction(account.cache):
            feed.apply_page(account.cache, page, device.clocks.wall)
    assert state() == before


def test_a_reset_feed_removes_what_is_not_listed_but_nothing_of_the_queue(device: Device, document: str) -> None:
    cmid = device.client.queue.list()[0]["clientMutationId"]
    device.client.documents.read(document)
    del device.model.state.documents[document]
    device.model.state.feed = [row for row in device.model.state.feed if row[1] != document]
    device.spoil("GET /v1/documents/changes", problem(410, "FEED_RESET"))
    report = device.client.sync()
    assert report.success
    with pytest.raises(DocumentUnknown):
        device.client.documents.read(document)
    assert device.status_of(cmid) == "done"
    assert len(device.model.state.events) == 1


def test_an_old_page_does_not_end_a_listing_that_another_program_began_meanwhile(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, plain = device.client.account(), requests.fail_undelivered

    def sleep(*values: Any) -> None:
        # This program has its page; another one is told to read all changes again, and is killed.
        plain(*values)
        with transaction(account.cache):
            feed.start_again(account.cache)

    with monkeypatch.context() as patched:
        patched.setattr(requests, "fail_undelivered", sleep)
        with pytest.raises(LeaseLost):
            device.client.sync()
    device.client.sync()
    assert shown(device, document)["state"] == "available"


def test_a_feed_that_does_not_move_is_not_read_for_ever(device: Device) -> None:
    page = {"cursor": "", "more": True, "revocations": [], "templates": [], "jobs": [], "documents": []}
    device.spoil("GET /v1/documents/changes", httpx2.Response(200, json=page), times=99)
    assert device.client.sync().stopped == "NOT_THE_SERVICE"


# --- downloads --------------------------------------------------------------------------------------------------


class Dropping(httpx2.SyncByteStream):
    """A body that ends after some bytes with a reset connection."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), 16_384):
            yield self._content[start : start + 16_384]
        raise httpx2.ReadError("reset")


def cut_after(device: Device, count: int, times: int = 1) -> None:
    """Let the next downloads end after ``count`` bytes."""

    def act(request: httpx2.Request) -> httpx2.Response:
        document = request.url.path.split("/")[3]
        headers = {name.lower(): value for name, value in request.headers.items()}
        given = device.model.content(document, headers)
        stream = Dropping((given.content or b"")[:count])
        return httpx2.Response(given.status, headers=given.headers, stream=stream)

    device.transport.faults.append(Fault(CONTENT, act, times))


def test_a_cut_download_is_resumed_and_sends_no_byte_twice(device: Device) -> None:
    content = enlarge(device)
    device.ask()
    cut_after(device, 100_000, times=3)
    report = device.client.sync()
    assert report.downloaded == 1
    assert report.bytes_received == len(content)
    document = device.client.documents.list()[0]["id"]
    assert device.client.documents.read(document).content == content


def test_a_download_is_resumed_by_another_process(device: Device) -> None:
    content = enlarge(device)
    device.ask()
    cut_after(device, 100_000)
    device.transport.faults.append(Fault(CONTENT, lambda r: problem(503, "BUSY"), times=1))
    assert device.client.sync().stopped == "SERVER_BUSY"
    assert device.client.documents.list()[0]["state"] == "waiting"
    device.client.close()
    report = device.another().sync()
    assert report.bytes_received == len(content) - 100_000


@pytest.mark.parametrize("wrong", ["content-range", "bytes", "length", "416", "html"])
def test_wrong_bytes_never_become_visible(device: Device, wrong: str) -> None:
    content = enlarge(device)
    device.ask()
    cut_after(device, 100_000)

    def act(request: httpx2.Request) -> httpx2.Response:
        document = device.model.state.documents[request.url.path.split("/")[3]]
        etag = {"etag": f'"{document["sha256"]}"', "content-type": "application/pdf"}
        if wrong == "content-range":
            given = {**etag, "content-range": f"bytes 5-{len(content) - 1}/{len(content)}"}
            return httpx2.Response(206, headers=given, content=content[5:])
        if wrong == "bytes":
            given = {**etag, "content-range": f"bytes 100000-{len(content) - 1}/{len(content)}"}
            return httpx2.Response(206, headers=given, content=bytes(len(content) - 100_000))
        if wrong == "length":
            return httpx2.Response(200, headers=etag, content=content[:-1])
        if wrong == "416":
            return httpx2.Response(416, headers=etag)
        return httpx2.Response(200, headers={"content-type": "text/html"}, text="<html>sign in")

    device.transport.faults.append(Fault(CONTENT, act))
    report = device.client.sync()
    if wrong == "html":
        assert report.stopped == "NOT_THE_SERVICE"
        assert device.client.documents.list()[0]["state"] == "waiting"
        report = device.client.sync()
    assert report.downloaded == 1
    document = device.client.documents.list()[0]["id"]
    assert device.client.documents.read(document).content == content


def test_bytes_that_are_always_wrong_are_an_error_of_the_cycle(device: Device) -> None:
    device.ask()
    forged = httpx2.Response(200, headers={"content-type": "application/pdf"}, content=b"%PDF forged")
    device.spoil(CONTENT, forged, times=99)
    report = device.client.sync()
    assert not report.success
    assert "DOWNLOAD_FAILED" in report.errors
    assert device.client.documents.list()[0]["state"] == "waiting"


def test_bytes_without_end_do_not_fill_the_disk(device: Device) -> None:
    device.ask()
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 4096
            yield bytes(4096)

    def act(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "application/pdf"}, content=endless())

    device.transport.faults.append(Fault(CONTENT, act, times=99))
    report = device.client.sync()
    assert "DOWNLOAD_FAILED" in report.errors
    assert 0 < sent < 100_000
    assert device.client.account().cache.execute("SELECT count(*) FROM parts").get == 0


def test_a_byte_budget_leaves_large_documents_for_later(device: Device) -> None:
    enlarge(device, 50_000)
    device.ask()
    assert device.client.sync(budget=10_000).downloaded == 0
    assert device.client.documents.list()[0]["state"] == "waiting"
    assert device.client.sync().downloaded == 1


def test_the_signed_url_is_asked_for_just_before_and_never_stored(device: Device, document: str) -> None:
    assert not any(b"signature=model" in path.read_bytes() for path in device.home.rglob("*") if path.is_file())
    downloads = [name for name in device.transport.seen if "/content?" in name]
    assert len(downloads) == 1


# --- quota ------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_copies_make_room(device: Device) -> None:
    enlarge(device, 20_000)
    device.model.policy["quotaBytes"] = 50_000
    documents = []
    for n in range(2):
        device.ask(f"p{n}")
        device.client.sync()
        device.clocks.pass_time(60)
    documents = [d["id"] for d in reversed(device.client.documents.list())]
    device.client.documents.read(documents[0])
    device.clocks.pass_time(60)
    device.ask("p9")
    device.client.sync()
    states = {d["id"]: d["state"] for d in device.client.documents.list()}
    assert states.pop(documents[1]) == "evicted"
    assert set(states.values()) == {"available"}
    assert device.client.status().cache["bytes"] <= 50_000
    with pytest.raises(DocumentNotHere):
        device.client.documents.read(documents[1])
    device.client.sync()
    assert device.client.documents.read(documents[1]).content


def test_a_copy_that_made_room_and_has_expired_comes_back_when_somebody_wants_it(device: Device, document: str) -> None:
    with transaction(device.client.account().cache):
        device.client.account().cache.execute("DELETE FROM blobs")
        device.client.account().cache.execute("UPDATE documents SET evicted = 1")
    device.clocks.pass_time(8 * DAY)
    assert shown(device, document)["state"] == "expired"
    with pytest.raises(DocumentExpired):
        device.client.documents.read(document)
    device.client.sync()
    assert device.client.documents.read(document).content


def test_a_pinned_copy_stays(device: Device) -> None:
    enlarge(device, 20_000)
    device.model.policy["quotaBytes"] = 50_000
    device.ask("p0")
    device.client.sync()
    first = device.client.documents.list()[0]["id"]
    device.client.documents.pin(first)
    for n in range(1, 4):
        device.clocks.pass_time(60)
        device.ask(f"p{n}")
        device.client.sync()
    assert device.client.documents.show(first)["state"] == "available"


def test_a_policy_may_ask_for_deletion_at_the_expiry(device: Device, document: str) -> None:
    device.model.policy["onExpiry"] = "delete"
    device.client.sync()
    device.transport.offline = True
    device.clocks.pass_time(7 * DAY + 1)
    device.client.sync()
    assert device.client.status().cache["bytes"] == 0
    assert shown(device, document)["state"] == "expired"


def test_a_document_larger_than_the_whole_quota_needs_a_decision_and_comes_when_there_is_room(device: Device) -> None:
    device.model.policy["quotaBytes"] = 100
    cmid = device.ask()
    device.client.sync()
    [shown] = device.client.queue.list()
    assert (shown["status"], shown["reason"]["code"]) == ("failed", "DOCUMENT_TOO_LARGE")
    assert "100" in shown["reason"]["title"]
    status = device.client.status()
    assert (status.acknowledged, status.failed, status.everything_received) == (0, 1, False)
    [document] = device.client.documents.list()
    assert document["state"] == "too large"
    with pytest.raises(DocumentNotHere, match="bytes"):
        device.client.documents.read(document["id"])
    device.model.policy["quotaBytes"] = 50_000
    device.client.sync()
    device.client.sync()
    assert device.status_of(cmid) == "done"
    assert device.client.documents.list()[0]["state"] == "available"


def test_a_request_whose_document_is_too_large_can_be_given_up(device: Device) -> None:
    device.model.policy["quotaBytes"] = 100
    cmid = device.ask()
    device.client.sync()
    device.client.queue.discard(cmid, confirmation=cmid)
    assert device.client.queue.list() == []
    assert device.client.status().everything_received


def test_a_life_shortened_at_sign_in_stays_so_in_a_new_cache_until_the_person_signs_out(device: Device) -> None:
    def ttl() -> float:
        return device.client.account().policy().ttl

    usual = ttl()
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageProblem, match="--cache-ttl"):
            # Before anybody is sent to another page to type a code.
            device.client.login("http://127.0.0.1:9", show=lambda prompt: None, cache_ttl=wrong)
    device.login(cache_ttl=3600.0)
    assert ttl() == 3600
    device.client.close()
    remove_files(next(device.home.glob("accounts/*/cache.db")))
    assert ttl() == 3600
    device.login()
    assert ttl() == 3600
    device.login(cache_ttl=7200.0)
    assert ttl() == 7200
    device.client.logout()
    device.login()
    assert ttl() == usual
