"""What is stored is dated by its question, and never takes the place of what came since (decision 0114)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client_device import DEFINITION, Device, made_device
from document_client import cache, feed, lease, requests
from document_client import effects as fx
from document_client.driver import Driver
from document_client.errors import LeaseLost
from document_client.http import Connection
from document_client.localdb import on_the_disk, transaction
from document_client.watching import Listening

DAY = 86_400.0


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


@pytest.fixture
def document(device: Device) -> str:
    device.ask()
    device.client.sync()
    return str(device.client.documents.list()[0]["id"])


def after(monkeypatch: pytest.MonkeyPatch, name: str, where: Callable[[Any], bool], act: Callable[[], object]) -> None:
    """Let ``act`` happen once between an answer and its storing, as it does when a program sleeps there."""
    plain, done = getattr(Driver, name), []

    def asleep(driver: Driver, effect: Any) -> Any:
        answer = plain(driver, effect)
        if where(effect) and not done:
            done.append(effect)
            act()
        return answer

    monkeypatch.setattr(Driver, name, asleep)


def test_a_page_from_before_another_programs_page_brings_no_older_policy_back(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile() -> None:
        device.clocks.pass_time(300)
        device.model.policy["cacheTtlSeconds"] = 3600
        device.another().sync()

    device.model.policy["cacheTtlSeconds"] = 2 * 86_400
    after(monkeypatch, "_on_Get", lambda effect: "/changes" in effect.path, meanwhile)
    with pytest.raises(LeaseLost):
        device.client.sync()
    assert device.client.account().policy().ttl == 3600


def test_a_list_of_forms_on_its_way_does_not_replace_what_was_heard_meanwhile(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.client.sync()
    device.model.publish("Second Form", DEFINITION, key="second")

    def meanwhile() -> None:
        device.model.publish("Third Form", DEFINITION, key="third")
        device.another().sync()

    after(monkeypatch, "_on_Get", lambda effect: "/document-templates?" in effect.path, meanwhile)
    device.client.templates(refresh=True)
    names = {item["name"] for item in device.client.templates().items}
    assert {"Second Form", "Third Form"} <= names


def test_a_sleep_between_the_confirmation_and_its_storing_is_part_of_a_life(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.clocks.pass_time(6 * DAY)
    after(monkeypatch, "_on_Fetch", lambda effect: True, lambda: device.clocks.pass_time(3 * DAY))
    assert device.client.sync().confirmed == 1
    device.transport.offline = True
    device.clocks.pass_time(3 * DAY)
    assert device.client.documents.show(document)["state"] == "available"
    device.clocks.pass_time(2 * DAY)
    assert device.client.documents.show(document)["state"] == "expired"


def test_a_sleep_before_the_first_answer_after_a_restart_is_stored_prolongs_no_life(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = device.clocks
    clocks.boot += "'"
    clocks.wall -= 30 * DAY
    after(monkeypatch, "_on_Get", lambda effect: "/changes" in effect.path, lambda: clocks.pass_time(3 * DAY))
    restarted = device.another()
    restarted.sync()
    device.transport.offline = True
    clocks.pass_time(4 * DAY - 60)
    assert restarted.documents.show(document)["state"] == "available"
    clocks.pass_time(120)
    assert restarted.documents.show(document)["state"] == "expired"


def test_what_a_restored_service_has_forgotten_is_not_revoked_here_for_ever(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revocation came with the first page of a listing, and the program died before it stored the rest."""
    backup = device.model.snapshot()
    device.model.revoke(document, "entered in error")
    account = device.client.account()
    with transaction(account.cache):
        feed.start_again(account.cache)

    def die(*_: object) -> None:
        raise LeaseLost()

    with monkeypatch.context() as patch:
        patch.setattr(feed, "apply_page", die)
        with pytest.raises(LeaseLost):
            device.client.sync()
    assert [held["status"] for held in device.client.documents.list()] == ["entered in error"]
    device.model.restore(backup, "epoch-2")
    device.client.sync()
    assert device.client.documents.show(document)["state"] == "available"


def test_an_overtaken_first_page_forgets_no_revocation(device: Device, document: str) -> None:
    """Without dates two pages look alike: neither contact nor policy tells them apart."""
    account = device.client.account()
    driver = Driver(account, None)  # type: ignore[arg-type]
    driver.perform(fx.BeginRun())
    with transaction(account.cache):
        feed.start_again(account.cache)
    driver._asked._pages = feed.read_pages(account.cache)
    page: dict[str, Any] = {"more": False, "revocations": [], "templates": [], "jobs": [], "documents": []}
    revoked = [{"documentId": document, "reason": "entered in error"}]
    with transaction(account.cache):
        cache.revoke(account.cache, revoked, whole=True)
        feed.apply_page(account.cache, {**page, "revocations": revoked, "cursor": "newer"}, device.clocks.wall)
    with pytest.raises(LeaseLost):
        driver.perform(fx.ApplyPage({**page, "cursor": "older"}, None, ""))
    assert cache.read_revoked(account.cache) == [document]


@pytest.mark.parametrize("asleep", ["before the next run", "before it was read"])
def test_a_sleep_between_a_watchs_page_and_the_run_that_reads_it_makes_no_list_fresh(
    device: Device, monkeypatch: pytest.MonkeyPatch, asleep: str
) -> None:
    device.client.sync()
    device.model.publish("Second Form", DEFINITION, key="second")
    listening, send = Listening(device.client), Connection.send

    def slow(*given: Any, **named: Any) -> Any:
        answer = send(*given, **named)
        if asleep == "before it was read":
            device.clocks.pass_time(3 * DAY)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "send", slow)
        listening.begin()
        assert listening._thread is not None
        listening._thread.join()
    if asleep == "before the next run":
        device.clocks.pass_time(3 * DAY)
    assert listening.hear() == (asleep == "before the next run")
    device.transport.offline = True
    device.client.sync()
    age = device.client.templates().age
    assert age is not None
    assert age >= 3 * DAY - 1


def test_a_program_that_was_overtaken_calls_no_copy_lost(device: Device, document: str) -> None:
    account = device.client.account()
    driver = Driver(account, None)  # type: ignore[arg-type]
    driver.perform(fx.BeginRun())
    with transaction(account.queue):
        lease.take(account.queue, "another", device.clocks.wall, owner_is_dead=True)
    cmid = requests.read_all(account.queue)[0].client_mutation_id
    with pytest.raises(LeaseLost):
        driver.perform(fx.SettleLookup([{"clientMutationId": cmid, "known": False}], "epoch-2"))
    assert account.cache.execute("SELECT count(*) FROM documents WHERE server_lost").get == 0


def test_what_must_outlive_a_power_cut_reaches_the_disk(device: Device) -> None:
    conn = device.client.account().cache
    before = conn.pragma("synchronous")
    with on_the_disk(conn):
        assert conn.pragma("synchronous") > before
    assert conn.pragma("synchronous") == before
