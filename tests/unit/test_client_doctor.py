"""`documents doctor` names what is wrong and what to do, for every state a device can be in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client_device import SERVER, Device, made_device, portal, problem
from document_client import DocumentClient
from document_client.doctor import examine
from document_client.errors import ClientError

DAY = 86_400.0


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setenv("CUPS_SERVER", str(tmp_path / "absent.sock"))
    with made_device(tmp_path / "home") as made:
        made.ask()
        made.client.sync()
        yield made


def found(device: Device) -> dict[str, tuple[str, str]]:
    """The findings by part; the worst of a part wins."""
    worst: dict[str, tuple[str, str]] = {}
    order = ("ok", "attention", "broken")
    for finding in examine(device.client):
        part, state = finding["part"], finding["state"]
        if part not in worst or order.index(state) > order.index(worst[part][0]):
            worst[part] = (state, finding["text"])
    return worst


def test_a_healthy_device_has_nothing_to_say_but_that_there_is_no_printer(device: Device) -> None:
    parts = found(device)
    assert {part for part, (state, _) in parts.items() if state != "ok"} == {"printing"}
    assert "1 here" in parts["documents"][1]
    assert {"keys", "session", "queue", "clock", "documents", "records", "server", "disk"} <= set(parts)


def test_what_the_network_answers_is_told_apart(device: Device) -> None:
    where = "/.well-known/document-service"
    device.spoil(where, portal())
    assert "sign in" in found(device)["server"][1]
    device.spoil(where, problem(503, "UNAVAILABLE"))
    assert found(device)["server"] == ("attention", "busy: title of UNAVAILABLE")
    device.transport.offline = True
    assert "no connection" in found(device)["server"][1]


def test_wrong_passphrases_are_told(device: Device) -> None:
    for _ in range(2):
        with pytest.raises(ClientError), DocumentClient(device.home, passphrase="wrong") as thief:
            thief.status()
    assert "2 wrong passphrases" in found(device)["keys"][1]


def test_expired_and_locked_documents_are_told(device: Device) -> None:
    device.transport.offline = True
    device.clocks.pass_time(8 * DAY)
    assert "expired" in found(device)["documents"][1]
    device.clocks.pass_time(8 * DAY)
    assert "locked" in found(device)["documents"][1]


def test_a_clock_that_was_set_back_is_told(device: Device) -> None:
    device.clocks.wall -= 30 * DAY
    assert found(device)["clock"][0] == "attention"


def test_an_expired_token_is_told_before_a_sync_meets_it(device: Device) -> None:
    device.client.login(SERVER, device.model.token("clinic", "dr.a", exp=device.clocks.server + 60))
    assert found(device)["session"][0] == "ok"
    device.clocks.pass_time(61)
    assert "documents login" in found(device)["session"][1]


def test_a_token_that_is_renewed_by_itself_needs_no_person(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.client.login(SERVER, device.model.token("clinic", "dr.a", exp=device.clocks.server + 60))
    device.clocks.pass_time(61)
    monkeypatch.setattr("document_client.renewal.is_renewable", lambda vault, account: True)
    assert found(device)["session"][0] == "ok"


def test_a_revoked_device_is_told(device: Device) -> None:
    device.spoil("GET /v1/documents/changes", problem(403, "DEVICE_REVOKED"))
    device.client.sync()
    state, text = found(device)["session"]
    assert state == "broken"
    assert "revoked" in text


def test_refused_requests_and_records_are_told(device: Device) -> None:
    device.spoil("POST /v1/documents/render-jobs", problem(422, "INPUTS_INVALID"))
    device.ask("p2")
    device.client.sync()
    assert "need a decision" in found(device)["queue"][1]
    device.client.account().audit.execute(
        "INSERT INTO events (sequence, event_id, event, hash, action, state, occurred)"
        " VALUES (99, 'evt_x', '{}', '', 'document.opened', 'refused', 0)"
    )
    assert "could not read 1 records" in found(device)["records"][1]
