"""Signing in while the service cannot be asked: who types a token, and whose files it opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client_device import SERVER, Device, made_device, problem
from document_client.errors import ClientError, Misconfigured, ServerUnreachable, SignInNeeded
from document_client.signing_in import MOST_TAKEN

AWAY = httpx2.ConnectError("no route")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


def unasked(device: Device, how: str) -> None:
    """Let the service not be asked about tokens from now on."""
    if how == "away":
        device.spoil("", AWAY, times=99)
    else:
        device.spoil("/v1/", problem(503, "BUSY"), times=99)


@pytest.mark.parametrize("how", ["away", "busy"])
def test_a_token_that_the_service_never_took_opens_nobodys_files(device: Device, how: str) -> None:
    asked = device.ask()
    device.client.logout(keep_sealed=True)
    unasked(device, how)
    forged = device.model.token("clinic", "dr.a", roles=["TENANT_ADMIN"])
    with pytest.raises(ServerUnreachable, match="earlier sign-in"):
        device.client.login(SERVER, forged)
    with pytest.raises(SignInNeeded):
        device.client.queue.list()
    device.login()
    assert [item["clientMutationId"] for item in device.client.queue.list()] == [asked]


def test_it_ends_nobody_elses_session_either(device: Device) -> None:
    device.login("dr.b")
    unasked(device, "away")
    with pytest.raises(ServerUnreachable):
        device.client.login(SERVER, device.model.token("clinic", "dr.a", roles=["TENANT_ADMIN"]))
    assert device.client.whoami()["user"] == "dr.b"


def test_whoever_is_signed_in_is_not_locked_out_by_a_new_token(device: Device) -> None:
    asked = device.ask()
    unasked(device, "away")
    device.client.login(SERVER, device.model.token("clinic", "dr.a", jti="the next hour"))
    assert [item["clientMutationId"] for item in device.client.queue.list()] == [asked]


def test_some_earlier_tokens_are_known_and_none_of_them_is_kept(device: Device) -> None:
    tokens = [device.model.token("clinic", "dr.a", jti=f"hour {n}") for n in range(MOST_TAKEN + 1)]
    for token in tokens:
        device.client.login(SERVER, token)
    device.client.logout(keep_sealed=True)
    unasked(device, "away")
    assert device.model.token("clinic", "dr.a") not in (device.home / "vault.json").read_text()
    refused = 0
    for token in (device.token(), *tokens):
        try:
            device.client.login(SERVER, token)
        except ClientError:
            refused += 1
        else:
            device.client.logout(keep_sealed=True)
    assert refused == 2


def test_requests_for_one_service_are_not_given_to_another_unasked(device: Device) -> None:
    """A training service for the real one: its sync would render them there, and offer them at home once more."""
    asked = device.ask()
    ours, device.model.key = device.model.key, Ed25519PrivateKey.generate()
    with pytest.raises(Misconfigured, match=SERVER):
        device.client.login("https://training.test", device.token())
    assert device.client.whoami()["server"] == SERVER
    assert [item["clientMutationId"] for item in device.client.queue.list()] == [asked]
    device.client.login("https://training.test", device.token(), trust_new_keys=True)
    device.client.login(SERVER, device.token())
    # A service that moved has the same keys.
    device.model.key = ours
    device.client.login(SERVER, device.token(), trust_new_keys=True)
    device.client.login("https://new.address.test", device.token())
    assert device.client.whoami()["server"] == "https://new.address.test"
