"""What a command says when it cannot know what became of it, and what a device does that hears bad news on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from client_device import FORM, Device, made_device, problem
from document_client import online
from document_client.doctor import examine
from document_client.errors import ClientError, OnlineOnly
from document_client.http import Connection
from document_client.inputs import parse_assignments
from document_client.queueing import Wish


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


@pytest.mark.parametrize("last", [504, 503, 429])
def test_a_document_that_may_be_made_is_not_called_refused(
    device: Device, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """Another command would ask under another key, and be given a second prescription."""
    monkeypatch.setattr(online, "GENERATE_SECONDS", 0.0 if last == 504 else 60.0)
    monkeypatch.setattr(online.time, "sleep", lambda _: None)
    device.spoil("/generate", problem(504, "GENERATE_TIMEOUT"))
    device.spoil("/generate", problem(last, "BUSY", **{"retry-after": "5"}), times=9)
    with pytest.raises(OnlineOnly, match="may have been made"):
        device.client.generate(Wish(FORM, "p1"))


def test_a_number_with_a_slip_in_it_is_no_number() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"dose": {"type": "number"}}}
    assert parse_assignments(["dose=2.5"], schema)["dose"] == pytest.approx(2.5)
    with pytest.raises(Exception, match="number"):
        parse_assignments(["dose=2_5"], schema)


@pytest.mark.parametrize("location", ["http://host:99999/", "http://[x/"])
def test_a_redirect_to_no_address_is_a_portals(location: str) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(302, headers={"location": location})

    connection = Connection("https://documents.test", "token", httpx2.MockTransport(answer))
    assert connection.send("GET", "/v1/documents/changes").kind == "elsewhere"
    connection.close()


def test_json_that_nests_absurdly_deep_is_no_answer_of_ours() -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=b"[" * 200_000)

    connection = Connection("https://documents.test", "token", httpx2.MockTransport(answer))
    assert not connection.send("GET", "/v1/documents/changes").is_json
    connection.close()


def test_a_device_that_hears_of_its_revocation_in_a_download_keeps_nothing(device: Device) -> None:
    """The service takes a device that asked after its revocation for one that has heard it."""
    device.ask()
    assert device.client.sync().success
    assert [d["state"] for d in device.client.documents.list()] == ["available"]
    [made] = device.model.state.documents.values()
    shown = {name: value for name, value in made.items() if not name.startswith("_")} | {"id": f"doc_{'9' * 26}"}
    device.spoil("/generate", httpx2.Response(201, json=shown, headers={"x-sync-epoch": "epoch-1"}))
    device.spoil("/download-url", problem(403, "DEVICE_REVOKED"), times=9)
    with suppress(ClientError):
        device.client.generate(Wish(FORM, "p2"))
    assert "available" not in [d["state"] for d in device.client.documents.list()]


def test_doctor_hears_it_too(device: Device) -> None:
    device.ask()
    assert device.client.sync().success
    device.spoil("/changes", problem(403, "DEVICE_REVOKED"), times=9)
    examine(device.client)
    assert "available" not in [d["state"] for d in device.client.documents.list()]


@pytest.mark.parametrize("lost", ["verdict", "finalize"])
def test_an_upload_that_arrived_is_not_called_lost(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lost: str
) -> None:
    monkeypatch.setattr(online, "SCAN_SECONDS", 1.0)
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-1.7")
    sent = {"id": "upl_1", "offset": 0, "status": "receiving"}
    device.spoil("POST /v1/documents/uploads", httpx2.Response(201, json=sent))
    device.spoil("PATCH", httpx2.Response(204, headers={"upload-offset": "8"}))
    if lost == "finalize":
        device.spoil("/finalize", httpx2.ConnectError("cut"), times=2)
        with pytest.raises(OnlineOnly, match="look for it before"):
            device.client.upload(tmp_path / "scan.pdf", "p1")
    else:
        device.spoil("/finalize", httpx2.Response(200, json={**sent, "status": "scanning"}))
        device.spoil("GET /v1/documents/uploads", httpx2.ConnectError("cut"), times=9)
        assert device.client.upload(tmp_path / "scan.pdf", "p1")["status"] == "scanning"
