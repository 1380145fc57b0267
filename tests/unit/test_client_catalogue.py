"""The catalogue: fresh, stale, expired; refreshed by tag; a failed refresh empties nothing. And the watcher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from client_device import DEFINITION, FORM, Device, made_device, portal, problem
from document_client import unlocked
from document_client.errors import (
    ClientError,
    NotTheService,
    ServerUnreachable,
    TemplateAmbiguous,
    TemplateNotInUse,
    TemplateUnknown,
    TokenRefused,
)
from document_client.watching import Listening, watch

LIST = "GET /v1/document-templates?"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


def test_the_list_ages_from_fresh_to_stale_to_expired_and_stays(device: Device) -> None:
    device.transport.offline = True
    ages = []
    for seconds in (0, 299, 2, 86_390, 20, 30 * 86_400):
        device.clocks.pass_time(seconds)
        catalogue = device.client.templates()
        ages.append(catalogue.freshness)
        assert [t["name"] for t in catalogue.items] == [FORM]
    assert ages == ["fresh", "fresh", "stale", "stale", "expired", "expired"]
    assert device.ask(), "an old catalogue still takes requests; the service decides"


def test_a_refresh_asks_by_tag_and_fetches_nothing_twice(device: Device) -> None:
    device.clocks.pass_time(1000)
    device.transport.seen.clear()
    assert device.client.templates(refresh=True).freshness == "fresh"
    assert len(device.transport.seen) == 1
    answered = device.model.list_templates()
    device.spoil(LIST, httpx2.Response(304, headers=answered.headers))
    device.clocks.pass_time(1000)
    assert device.client.templates(refresh=True).freshness == "fresh"


@pytest.mark.parametrize("answer", [portal(), problem(500, "INTERNAL"), httpx2.Response(200, json={"items": "x"})])
def test_a_failed_refresh_empties_nothing(device: Device, answer: httpx2.Response) -> None:
    device.spoil(LIST, answer)
    with pytest.raises(ClientError):
        device.client.templates(refresh=True)
    assert len(device.client.templates().items) == 1


def test_a_stale_list_is_refreshed_in_the_background(device: Device) -> None:
    device.clocks.pass_time(1000)
    device.model.publish("Another Form", DEFINITION)
    assert len(device.client.templates().items) == 1
    device.client.refresh_in_background().join(20)
    assert len(device.client.templates().items) == 2
    device.transport.offline = True
    device.client.refresh_in_background().join(20)
    assert len(device.client.templates().items) == 2


def test_a_list_of_several_pages_is_read_whole(device: Device) -> None:
    first = device.model.list_templates().body["items"]
    device.model.publish("Second", DEFINITION)
    second = device.model.list_templates().body["items"][1:]
    device.spoil(LIST, httpx2.Response(200, json={"items": first, "nextCursor": "page 2/&"}))
    device.spoil("cursor=page%202%2F%26", httpx2.Response(200, json={"items": second, "nextCursor": None}))
    assert {t["name"] for t in device.client.templates(refresh=True).items} == {FORM, "Second"}


def test_the_feed_keeps_the_catalogue_up_to_date(device: Device) -> None:
    template_id, _ = device.model.publish("New Form", DEFINITION)
    device.client.sync()
    device.transport.offline = True
    device.client.request("new form", "p1")
    device.transport.offline = False
    device.model.retire(template_id)
    device.client.sync()
    with pytest.raises(TemplateNotInUse):
        device.client.request("new form", "p1")


def test_a_template_is_found_by_each_of_its_names(device: Device) -> None:
    [template] = device.client.templates().items
    for name in (template["id"], template["currentVersionId"], FORM.upper(), "General-Test-Requisition"):
        queued = device.client.request(name, "p1")
        assert queued["templateVersionId"] == template["currentVersionId"]
    with pytest.raises(TemplateUnknown):
        device.client.request("no such", "p1")
    device.model.publish(FORM, DEFINITION)
    device.client.sync()
    with pytest.raises(TemplateAmbiguous):
        device.client.request(FORM, "p1")


def test_a_first_request_without_any_catalogue_asks_for_it(tmp_path: Path) -> None:
    with made_device(tmp_path / "home", signed_in=False) as device:
        device.login()
        assert device.client.request(FORM, "p1")["status"] == "queued"
        device.login("dr.b", keep_sealed=True)
        device.transport.offline = True
        with pytest.raises(ServerUnreachable):
            device.client.request(FORM, "p1")


def test_a_version_that_may_not_be_read_keeps_the_others_coming(device: Device) -> None:
    device.model.publish("Hidden", DEFINITION)
    device.model.publish("Open", DEFINITION)
    device.spoil("/versions/", problem(404, "NOT_FOUND"))
    assert device.client.sync().success
    assert device.client.request("open", "p1")["status"] == "queued"


# --- watching ---------------------------------------------------------------------------------------------------


def test_the_watcher_goes_on_through_faults_and_notices_new_work(device: Device) -> None:
    told: list[str] = []
    device.spoil("GET /v1/documents/changes", portal())
    asked: list[str] = []

    def sleep(seconds: float) -> None:
        # Another program queues a request; the watcher sees it without waiting for its next poll.
        device.clocks.pass_time(seconds)
        asked.append(str(device.another().request(FORM, "p1")["clientMutationId"]))

    watch(
        device.client,
        lambda report, failure: told.append(failure.code if failure else str(report and report.stopped)),
        cycles=3,
        sleep=sleep,
    )
    assert told == ["NOT_THE_SERVICE", "None", "None"]
    assert len(asked) == 2
    assert [device.status_of(cmid) for cmid in asked] == ["done", "done"]


@pytest.mark.parametrize("answer", [problem(503, "UNAVAILABLE"), portal(), httpx2.ConnectError("down")])
def test_one_failed_question_neither_ends_the_listening_nor_is_followed_by_another_at_once(
    device: Device, answer: httpx2.Response | Exception
) -> None:
    device.client.sync()
    listening = Listening(device.client)

    def asked() -> bool:
        before = len(device.transport.seen)
        listening.begin()
        if listening._thread is not None:
            listening._thread.join()
        listening.hear()
        return len(device.transport.seen) > before

    device.spoil("&wait=", answer)
    assert [asked() for _ in range(3)] == [True, False, True]


def test_the_watcher_ends_when_a_person_is_needed(device: Device) -> None:
    device.client.logout()
    with pytest.raises(ClientError) as ended:
        watch(device.client, lambda report, failure: None, cycles=2, sleep=lambda seconds: None)
    assert ended.value.exit_code == 77


def test_a_refused_token_is_said_on_refresh(device: Device) -> None:
    device.model.revoked_tokens.add(device.token())
    with pytest.raises(TokenRefused):
        device.client.templates(refresh=True)
    device.spoil(LIST, portal())
    with pytest.raises(NotTheService):
        device.client.templates(refresh=True)


# --- remembering ------------------------------------------------------------------------------------------------


def test_an_unlocked_vault_is_remembered_for_the_right_passphrase_only(tmp_path: Path) -> None:
    root = bytes(range(32))
    path = tmp_path / "vault.json"
    unlocked.remember(path, "salt", "right", root)
    found = unlocked.recall(path, "salt", "right")
    # Containers often forbid the system call: then nothing is remembered, which is as good.
    assert found in (root, None)
    assert unlocked.recall(path, "salt", "wrong") != root
    assert unlocked.recall(path, "other salt", "right") is None
    assert unlocked.recall(tmp_path / "other.json", "salt", "right") is None
