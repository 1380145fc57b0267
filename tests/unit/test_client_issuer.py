"""The device flow and the renewal of tokens against an issuer whose every answer the test writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from client_device import SERVER, Device, made_device
from document_client import renewal
from document_client.errors import (
    ClientError,
    IssuerUnreachable,
    Misconfigured,
    NoDeviceSignIn,
    NotTheService,
    ServiceNotThere,
    SignInExpired,
    SignInRefused,
)
from document_client.issuer import Issuing, Prompt, discover, refresh, sign_in_by_device
from document_client.renewal import Grant
from document_client.vault import Unlocking, create_vault

ISSUER = "https://login.test/realms/clinic"
BEGUN = {
    "device_code": "secret-device-code",
    "user_code": "ABCD-EFGH",
    "verification_uri": f"{ISSUER}/device",
    "expires_in": 300,
    "interval": 5,
}
TOKENS = {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 300, "refresh_token": "next"}
PENDING = (400, {"error": "authorization_pending"})


def issuing(**other: Any) -> Issuing:
    given = {
        "client_id": "device",
        "scope": "openid",
        "resource": None,
        "tenant_claim": "tenant",
        "device_endpoint": f"{ISSUER}/device",
        "token_endpoint": f"{ISSUER}/token",
        "revocation_endpoint": None,
    }
    return Issuing(**(given | other))


class Script(httpx2.BaseTransport):
    """Answers each exchange with the next of a list; the last one stands for ever. Keeps what was asked."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        if isinstance(body, str):
            return httpx2.Response(status, headers={"content-type": "text/html"}, text=body)
        return httpx2.Response(status, json=body)

    def form(self, number: int) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.asked[number].content.decode()).items()}


class Waiting:
    """A clock that only waiting moves; ``waited`` are the pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


def run(script: Script, show: Callable[[Prompt], object] = lambda prompt: None) -> tuple[Any, Waiting]:
    clock = Waiting()
    flow = sign_in_by_device(issuing(), show, script, sleep=clock.sleep, monotonic=lambda: clock.now)
    return flow, clock


def test_it_waits_as_long_as_the_issuer_says_and_longer_when_told() -> None:
    script = Script((200, BEGUN), PENDING, (400, {"error": "slow_down"}), PENDING, (200, TOKENS))
    tokens, clock = run(script)
    assert clock.waited == [5, 5, 10, 10]
    assert (tokens.access, tokens.refresh, tokens.expires_in) == ("a.b.c", "next", 300)
    assert script.form(0) == {"client_id": "device", "scope": "openid"}
    assert script.form(1) == {
        "client_id": "device",
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": "secret-device-code",
    }


def test_a_lost_link_makes_the_asking_rarer_and_ends_nothing() -> None:
    lost = httpx2.ConnectError("no route")
    script = Script((200, BEGUN), lost, lost, (503, {"error": "x"}), (200, "<html>portal</html>"), (200, TOKENS))
    tokens, clock = run(script)
    assert clock.waited == [5, 10, 20, 40, 60]
    assert tokens.access == "a.b.c"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, {"error": "access_denied"}), SignInRefused),
        ((400, {"error": "expired_token"}), SignInExpired),
        (PENDING, SignInExpired),
        ((401, {"error": "invalid_client"}), Misconfigured),
        ((400, {"error": "\x1b[2J" * 99}), Misconfigured),
        ((200, {"access_token": "a.b.c", "token_type": "DPoP"}), Misconfigured),
        ((200, {"token_type": "Bearer"}), Misconfigured),
    ],
)
def test_how_else_it_can_end(answer: tuple[int, Any], error: type[ClientError]) -> None:
    with pytest.raises(error) as ended:
        run(Script((200, BEGUN), answer))
    assert str(ended.value).isprintable()
    assert "secret-device-code" not in str(ended.value)


def test_whoever_shows_the_code_can_give_up() -> None:
    left = []

    def show(prompt: Prompt) -> None:
        left.append(prompt.seconds_left)
        if len(left) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Script((200, BEGUN), PENDING), show)
    assert left == [300, 295, 290]


@pytest.mark.parametrize(
    "begun",
    [
        {"user_code": "AB\x1b[31mCD"},
        {"verification_uri": "https://login.test/\x1b]0;"},
        {"verification_uri": "http://login.test/device"},
        {"verification_uri": "javascript:alert(1)"},
        {"user_code": None},
        {"device_code": None},
    ],
)
def test_what_would_fool_the_person_is_not_shown(begun: dict[str, Any]) -> None:
    def show(prompt: Prompt) -> None:
        raise AssertionError("it was shown")

    with pytest.raises(Misconfigured):
        run(Script((200, BEGUN | begun)), show)


def metadata(**other: Any) -> dict[str, Any]:
    endpoints = {"device_authorization_endpoint": f"{ISSUER}/device", "token_endpoint": f"{ISSUER}/token"}
    return {"issuer": ISSUER, **endpoints, **other}


def described(**sign_in: Any) -> dict[str, Any]:
    named = {"issuer": ISSUER, "client_id": "device", "scope": "openid", "resource": None, "tenant_claim": "org"}
    return {"resource": SERVER, "device_sign_in": named | sign_in}


def test_the_service_names_the_issuer_and_the_issuer_its_endpoints() -> None:
    script = Script((200, described()), (200, metadata()))
    found = discover(SERVER, script)
    assert (found.client_id, found.tenant_claim, found.token_endpoint) == ("device", "org", f"{ISSUER}/token")
    assert [str(asked.url) for asked in script.asked] == [
        f"{SERVER}/.well-known/oauth-protected-resource",
        f"{ISSUER}/.well-known/openid-configuration",
    ]
    assert not any("authorization" in asked.headers for asked in script.asked)


def test_an_issuer_that_knows_only_rfc_8414_is_found_too() -> None:
    script = Script((200, described()), (404, {}), (200, metadata()))
    assert discover(SERVER, script).device_endpoint == f"{ISSUER}/device"
    assert str(script.asked[2].url) == "https://login.test/.well-known/oauth-authorization-server/realms/clinic"


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([httpx2.ConnectError("no route")], ServiceNotThere),
        ([(200, "<html>portal</html>")], NotTheService),
        ([(404, {"code": "NOT_FOUND"})], NoDeviceSignIn),
        ([(200, {"resource": SERVER, "device_sign_in": None})], NoDeviceSignIn),
        ([(200, described()), httpx2.ConnectError("no route")], IssuerUnreachable),
        ([(200, described()), (404, {})], Misconfigured),
        ([(200, described()), (200, metadata(issuer="https://evil.test"))], Misconfigured),
        ([(200, described()), (200, metadata(device_authorization_endpoint=None))], NoDeviceSignIn),
        ([(200, described()), (200, metadata(token_endpoint="http://login.test/token"))], Misconfigured),
        ([(200, described(issuer="http://login.test"))], Misconfigured),
    ],
)
def test_what_is_said_when_there_is_no_way_to_sign_in(answers: list[Any], error: type[ClientError]) -> None:
    with pytest.raises(error):
        discover(SERVER, Script(*answers))


def test_an_answer_to_a_refresh() -> None:
    script = Script((200, TOKENS))
    assert refresh(issuing(resource="https://api.test"), "former", script).refresh == "next"
    assert script.form(0) == {
        "client_id": "device",
        "grant_type": "refresh_token",
        "refresh_token": "former",
        "resource": "https://api.test",
    }
    with pytest.raises(SignInRefused):
        refresh(issuing(), "former", Script((400, {"error": "invalid_grant"})))
    for failed in (httpx2.ReadTimeout("slow"), (502, "<html>"), (429, {"error": "slow"})):
        with pytest.raises(IssuerUnreachable):
            refresh(issuing(), "former", Script(failed))


# --- What is kept ---------------------------------------------------------------------------------------------


def token(user: str = "dr.a", tenant: str = "clinic", number: int = 1) -> str:
    claims = json.dumps({"tenant": tenant, "sub": user, "jti": number}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


class Kept:
    """A vault with a session that can be renewed, and the exchanges with its issuer."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.vault = create_vault(home, "dev_1", Unlocking("p"))
        renewal.keep(self.vault, "a", Grant(token(), "first", 300.0, issuing()), 1000.0)

    def renew(self, *answers: tuple[int, Any] | Exception, used: str | None = None) -> tuple[str | None, Script]:
        script = Script(*answers)
        return renewal.renew(self.home, self.vault, "a", used or token(), 2000.0, script), script

    @property
    def token(self) -> str | None:
        sealed = self.vault.key("token/a", create=False)
        return sealed.decode() if sealed else None


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "home")


def answered(number: int, **other: Any) -> tuple[int, Any]:
    return 200, {**TOKENS, "access_token": token(number=number), **other}


def test_a_renewal_replaces_both_tokens(kept: Kept) -> None:
    newer, _ = kept.renew(answered(2))
    assert newer == kept.token == token(number=2)
    again, script = kept.renew(answered(3, refresh_token=None), used=token(number=2))
    assert (again, script.form(0)["refresh_token"]) == (token(number=3), "next")
    _, script = kept.renew(answered(4), used=token(number=3))
    assert script.form(0)["refresh_token"] == "next", "an issuer that gives no new one means the old one"


def test_who_comes_second_takes_what_the_first_one_got(kept: Kept) -> None:
    kept.renew(answered(2))
    newer, script = kept.renew((400, {"error": "invalid_grant"}), used=token(number=1))
    assert (newer, script.asked) == (token(number=2), [])


@pytest.mark.parametrize("failed", [httpx2.ConnectError("x"), (503, {}), (200, "<html>"), (400, {"error": "odd"})])
def test_what_fails_for_now_is_kept_for_later(kept: Kept, failed: Any) -> None:
    assert kept.renew(failed)[0] is None
    assert renewal.is_renewable(kept.vault, "a")
    assert kept.token == token()


@pytest.mark.parametrize("answer", [(400, {"error": "invalid_grant"}), (200, {**TOKENS, "access_token": "opaque"})])
def test_what_the_issuer_does_not_renew_is_not_offered_again(kept: Kept, answer: Any) -> None:
    assert kept.renew(answer)[0] is None
    assert not renewal.is_renewable(kept.vault, "a")
    assert kept.token == token()


@pytest.mark.parametrize("other", [{"user": "dr.b"}, {"tenant": "other"}])
def test_another_persons_token_is_never_taken(kept: Kept, other: dict[str, str]) -> None:
    assert kept.renew((200, {**TOKENS, "access_token": token(**other)}))[0] is None
    assert kept.token == token()


@pytest.mark.parametrize(("answer", "ended"), [(answered(2), ["next"]), ((400, {"error": "invalid_grant"}), [])])
def test_a_renewal_that_was_under_way_brings_no_ended_session_back(kept: Kept, answer: Any, ended: list[str]) -> None:
    class SignedOut(Script):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            given = super().handle_request(request)
            renewal.forget(kept.vault, "a")
            return given

    grant = Grant(token(), "first", 300.0, issuing(revocation_endpoint=f"{ISSUER}/revoke"))
    renewal.keep(kept.vault, "a", grant, 1000.0)
    script = SignedOut(answer, (200, {}))
    assert renewal.renew(kept.home, kept.vault, "a", token(), 2000.0, script) is None
    assert kept.token is None
    assert not renewal.is_renewable(kept.vault, "a")
    # What the issuer gave meanwhile is ended too.
    assert [script.form(number).get("token") for number in range(1, len(script.asked))] == ended


def test_a_late_refusal_leaves_what_a_new_sign_in_brought(kept: Kept) -> None:
    class SignedInAgain(Script):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            given = super().handle_request(request)
            renewal.keep(kept.vault, "a", Grant(token(number=9), "newest", 300.0, issuing()), 2000.0)
            return given

    refused = SignedInAgain((400, {"error": "invalid_grant"}))
    assert renewal.renew(kept.home, kept.vault, "a", token(), 2000.0, refused) is None
    assert (kept.token, renewal.is_renewable(kept.vault, "a")) == (token(number=9), True)


def test_when_a_renewal_is_due(kept: Kept) -> None:
    due = [renewal.is_due(kept.vault, "a", wall) for wall in (0.0, 1000.0, 1239.0, 1241.0, 2e9)]
    assert due == [False, False, False, True, True]
    renewal.keep(kept.vault, "a", Grant(token(), "first", None, issuing()), 1000.0)
    assert not renewal.is_due(kept.vault, "a", 2e9)
    renewal.keep(kept.vault, "a", Grant(token()), 1000.0)
    assert not renewal.is_due(kept.vault, "a", 2e9), "a token that was typed in has nothing to renew it with"


def test_a_crash_between_the_tokens_leaves_both_or_none(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def cut(*paths: object) -> None:
        raise OSError("the power is gone")

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises(ClientError):
        kept.renew(answered(2))
    monkeypatch.undo()
    assert kept.token == token()
    _, script = kept.renew(answered(2))
    assert script.form(0)["refresh_token"] == "first"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


def test_signing_out_forgets_what_renews(device: Device) -> None:
    account = device.client.account()
    grant = Grant(str(account.token()), "first", 300.0, issuing())
    renewal.keep(account.vault, account.session.account_id, grant, 0.0)
    assert device.client.whoami()["tokenRenews"]
    names = account.vault
    account_id = account.session.account_id
    device.client.logout()
    assert names.key(f"refresh/{account_id}", create=False) is None
    assert names.key(f"token/{account_id}", create=False) is None
