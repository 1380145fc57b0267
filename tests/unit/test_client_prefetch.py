"""The policy's prefetch rule: what comes beforehand, how much of it, and what goes before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from client_device import Device, made_device, problem
from document_client.clock import to_text
from document_client.ids import made_at
from document_client.model import Caller, Fault
from document_client.policy import PrefetchRule, parse_policy, verify_policy

DAY = 86_400.0
RULE: dict[str, Any] = {"categories": ["lab_requisition"], "days": 30, "maxBytes": 1_000_000}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


def colleague(device: Device, number: int, *, age_days: float = 0.0, **changes: Any) -> str:
    """Let somebody else make a document at another device; returns its id."""
    version = next(iter(device.model.state.versions))
    body = {"clientMutationId": f"other-{number}", "templateVersionId": version, "patientId": "p9", "inputs": {}}
    body |= {"locale": "en", "requestedAt": to_text(device.clocks.server)}
    device.model.submit(Caller("clinic", "dr.b", None), body, None)
    document = list(device.model.state.documents.values())[-1]
    document.update(renderedAt=to_text(device.clocks.server - age_days * DAY), **changes)
    return str(document["id"])


def here(device: Device) -> set[str]:
    return {d["id"] for d in device.client.documents.list() if d["state"] == "available"}


def test_without_a_rule_only_own_documents_come(device: Device) -> None:
    colleague(device, 1)
    assert device.client.sync().downloaded == 0
    assert here(device) == set()


def test_the_rule_names_category_and_age_and_takes_current_ones_only(device: Device) -> None:
    device.model.policy["prefetch"] = RULE
    young = colleague(device, 1)
    colleague(device, 2, category="letter")
    colleague(device, 3, age_days=31)
    colleague(device, 4, status="superseded")
    report = device.client.sync()
    assert report.success
    assert here(device) == {young}
    assert device.client.documents.read(young).content == device.model.state.contents[young]
    device.client.sync()
    device.transport.seen.clear()
    assert device.client.sync().success
    assert len(device.transport.seen) == 1, "what is here is not asked for again"
    device.model.policy["prefetch"] = None
    device.clocks.pass_time(6.5 * DAY)
    assert device.client.sync().confirmed == 0, "without the rule its life is not renewed"


def test_the_newest_fit_into_the_rules_bytes_and_into_what_own_documents_leave(device: Device) -> None:
    newest, middle, oldest = (colleague(device, n, age_days=n) for n in (1, 2, 3))
    size = device.model.state.documents[newest]["size"]
    device.model.policy["prefetch"] = {**RULE, "categories": [], "maxBytes": 2 * size + 10}
    device.client.sync()
    assert here(device) == {newest, middle}
    device.ask("p1")
    device.model.policy["quotaBytes"] = 2 * size + 10
    device.client.sync()
    own = {d["id"] for d in device.model.state.documents.values() if d["patientId"] == "p1"}
    assert own < here(device), "an own document is never evicted for what came beforehand"
    assert oldest not in here(device)
    assert len(here(device)) == 2


def test_it_is_renewed_before_its_life_ends_and_evicted_before_own_documents(device: Device) -> None:
    device.model.policy["prefetch"] = {**RULE, "days": 300}
    other = colleague(device, 1)
    device.client.sync()
    device.clocks.pass_time(6 * DAY)
    assert device.client.sync().confirmed == 1
    assert here(device) == {other}


def test_what_people_ask_for_meanwhile_goes_first(device: Device) -> None:
    device.model.policy["prefetch"] = RULE
    others = [colleague(device, n) for n in range(3)]
    asked: list[str] = []

    def meanwhile(request: httpx2.Request) -> None:
        asked.append(device.another().request("General Test Requisition", "p1")["clientMutationId"])

    device.transport.faults.append(Fault("download-url", meanwhile))
    device.transport.seen.clear()
    assert device.client.sync().success
    posts = [name for name in device.transport.seen if name.startswith("POST")]
    assert posts[1] == "POST /v1/documents/render-jobs", "before the second of the three"
    assert device.status_of(asked[0]) == "done"
    assert set(others) < here(device)


def test_a_document_that_is_refused_stops_nothing_and_is_not_asked_for_again(device: Device) -> None:
    device.model.policy["prefetch"] = RULE
    first, second = colleague(device, 1, age_days=1), colleague(device, 2)
    device.spoil(f"{second}/download-url", problem(403, "FORBIDDEN"))
    report = device.client.sync()
    assert report.success
    assert here(device) == {first}
    device.transport.seen.clear()
    device.client.sync()
    assert len(device.transport.seen) == 1


def test_evidence_goes_before_it(device: Device) -> None:
    device.ask("p1")
    device.client.sync()
    [document] = here(device)
    device.client.documents.read(document)
    device.model.policy["prefetch"] = RULE
    colleague(device, 1)
    device.transport.seen.clear()
    device.client.sync()
    routes = [name.partition("?")[0] for name in device.transport.seen]
    assert routes.index("POST /v1/documents/audit-events") < next(
        number for number, name in enumerate(routes) if name.endswith("/download-url")
    )


def test_a_budget_holds_for_it_too(device: Device) -> None:
    device.model.policy["prefetch"] = RULE
    colleague(device, 1)
    assert device.client.sync(budget=10).downloaded == 0
    assert device.client.sync().downloaded == 1


def test_a_budget_holds_for_all_that_a_sync_waits_for(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("document_client.client._DOCUMENT_POLL_SECONDS", 0.01)
    device.ask("p1")
    one = device.client.sync().bytes_received
    for patient in ("p2", "p3", "p4"):
        device.ask(patient)
    report = device.client.sync(budget=one + one // 2, wait_seconds=0.5)
    assert (report.acknowledged, report.downloaded) == (3, 1)
    assert report.bytes_received <= one + one // 2


def test_a_download_that_came_to_nothing_is_not_begun_again_beyond_the_budget(device: Device) -> None:
    device.model.policy["prefetch"] = RULE
    other = colleague(device, 1)
    size = device.model.state.documents[other]["size"]
    device.spoil("content", httpx2.Response(200, content=b"x" * size))
    report = device.client.sync(budget=size + 10)
    assert (report.downloaded, report.bytes_received) == (0, size), "what came is spent, whatever it was worth"
    assert device.client.sync(budget=size + 10).downloaded == 1


def test_what_was_refused_beforehand_comes_when_it_replaces_an_own_copy(device: Device) -> None:
    device.ask("p1")
    device.client.sync()
    [own] = here(device)
    device.model.policy["prefetch"] = RULE
    newer = colleague(device, 1)
    device.spoil(f"{newer}/download-url", problem(403, "FORBIDDEN"))
    device.client.sync()
    assert here(device) == {own}
    device.model.revoke(own, "superseded", replaced_by=newer)
    device.client.sync()
    assert here(device) == {newer}


@pytest.mark.parametrize("asked", ["download-url", "content"])
def test_what_replaces_an_own_copy_is_asked_for_until_it_comes_whatever_was_said_of_it_once(
    device: Device, asked: str
) -> None:
    device.ask("p1")
    device.client.sync()
    [own] = here(device)
    newer = colleague(device, 1)
    device.model.revoke(own, "superseded", replaced_by=newer)
    device.spoil(f"{newer}/{asked}", problem(404, "NOT_FOUND"))
    device.client.sync()
    assert here(device) == set(), "nobody asked for it, so nobody would be told that it was not given"
    device.client.sync()
    assert here(device) == {newer}


def test_clients_that_know_no_such_member_verify_the_policy_all_the_same(device: Device) -> None:
    device.model.policy["prefetch"] = RULE
    device.model.policy["ofALaterDay"] = {"any": ["thing"]}
    device.client.sync()
    account = device.client.account()
    wire = json.loads(account.cache.execute("SELECT policy FROM feed").get)
    assert verify_policy(wire, "clinic", account.session.policy_keys)
    assert account.policy().prefetch == PrefetchRule(("lab_requisition",), 30.0, 1_000_000)
    wire["prefetch"]["days"] = 365
    assert not verify_policy(wire, "clinic", account.session.policy_keys), "the rule is signed"


@pytest.mark.parametrize("wrong", [{"days": 3}, {"maxBytes": 3}, {"days": "?", "maxBytes": 1}, ["days"]])
def test_a_rule_that_is_not_understood_changes_nothing(wrong: Any) -> None:
    with pytest.raises(ValueError):
        parse_policy({"cacheTtlSeconds": 1, "leaseSeconds": 1, "prefetch": wrong})
    assert parse_policy({"cacheTtlSeconds": 1, "leaseSeconds": 1, "prefetch": None}).prefetch is None


def test_an_id_says_when_it_was_made() -> None:
    assert made_at("doc_01M8HMWQJXA264KXQ446YBZK5H") == pytest.approx(1_795_888_668, abs=60)
    assert made_at("doc_x") is None
