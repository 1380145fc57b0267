"""The sign-in server: found through the service, the device flow (RFC 8628), and new tokens for old ones.

    service  /.well-known/oauth-protected-resource  (RFC 9728)   which issuer, which client, which scope
    issuer   /.well-known/openid-configuration      (or RFC 8414) where to ask
    issuer   device authorization ──> a code for the person ──> polled until it was typed at the issuer's page
    issuer   token (grant refresh_token)                          a new access token, and mostly a new refresh token

Only exchanges: what is kept, and by which process a refresh token may be spent, is in ``renewal``. Nothing that is
raised or shown here holds a token; words of the issuer are shown only as its short error codes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from .answers import Answer
from .errors import (
    IssuerUnreachable,
    Misconfigured,
    NoDeviceSignIn,
    NotTheService,
    ServiceNotThere,
    SignInExpired,
    SignInRefused,
    TlsFailed,
)
from .http import Connection, Transport, normalize_address

METADATA = "/.well-known/oauth-protected-resource"
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628 §3.5: five seconds where the issuer names none, five more for each "slow_down".
_INTERVAL_SECONDS = 5.0
_SLOWER_SECONDS = 5.0
# A lost link makes the asking rarer (RFC 8628 §3.5), but not so rare that a finished sign-in seems to hang.
_RAREST_SECONDS = 60.0
# Issuers give between five minutes and half an hour to type a code.
_CODE_SECONDS = 600.0
_LONGEST_CODE_SECONDS = 3600.0
# An issuer answers in well under a second; another program may be waiting for this one's renewal.
_READ_SECONDS = 15.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, slots=True)
class Issuing:
    """Where and as which client tokens are asked for; endpoints are absolute URLs of the issuer."""

    client_id: str
    scope: str
    resource: str | None
    tenant_claim: str
    device_endpoint: str
    token_endpoint: str
    revocation_endpoint: str | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the person must do: open ``address`` on any device and type ``code``, within ``seconds_left``."""

    address: str
    code: str
    address_with_code: str | None
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an issuer gave: a bearer token, its life in seconds, and what a new one can be asked for with."""

    access: str
    refresh: str | None
    expires_in: float | None


Show = Callable[[Prompt], object]


def discover(server: str, transport: Transport | None = None) -> Issuing:
    """Ask the service who its issuer is, and the issuer where its endpoints are.

    Raises NoDeviceSignIn when the service names none or the issuer has no device flow; ServiceNotThere, NotTheService,
    TlsFailed, IssuerUnreachable, or Misconfigured when the issuer's own answer does not fit.
    """
    address = normalize_address(server)
    described = _get(address, METADATA, transport)
    if described.kind == "no_connection":
        raise ServiceNotThere(f"{address}: {described.detail}" if described.detail else address)
    if described.kind == "tls":
        raise TlsFailed(described.detail)
    if described.status == 404 and described.is_json:
        raise NoDeviceSignIn("the service is older than this program")
    if described.status != 200 or not isinstance(described.body, dict) or "resource" not in described.body:
        raise NotTheService()
    named = described.body.get("device_sign_in")
    if not isinstance(named, dict) or not all(isinstance(named.get(n), str) for n in ("issuer", "client_id", "scope")):
        raise NoDeviceSignIn()
    metadata = _find_metadata(named["issuer"], transport)
    if not metadata.get("device_authorization_endpoint"):
        raise NoDeviceSignIn(f"{named['issuer']} has no device flow")
    resource, tenant_claim = named.get("resource"), named.get("tenant_claim")
    return Issuing(
        client_id=named["client_id"],
        scope=named["scope"],
        resource=resource if isinstance(resource, str) else None,
        tenant_claim=tenant_claim if isinstance(tenant_claim, str) else "tenant",
        device_endpoint=_endpoint(metadata, "device_authorization_endpoint"),
        token_endpoint=_endpoint(metadata, "token_endpoint"),
        revocation_endpoint=_endpoint(metadata, "revocation_endpoint") if "revocation_endpoint" in metadata else None,
    )


def sign_in_by_device(
    issuing: Issuing,
    show: Show,
    transport: Transport | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Tokens:
    """Run the device flow; ``show`` is called before each look at the issuer, and an exception from it ends the flow.

    Raises SignInRefused, SignInExpired, IssuerUnreachable or Misconfigured.
    """
    asked = _asked(issuing, {"scope": issuing.scope})
    answer = _post(issuing.device_endpoint, asked, transport)
    begun = _body(answer, "device authorization")
    device_code, prompt = begun.get("device_code"), _prompt(begun)
    if not isinstance(device_code, str):
        raise Misconfigured("the issuer gave no device code")
    interval = _seconds(begun.get("interval"), _INTERVAL_SECONDS, _RAREST_SECONDS)
    deadline = monotonic() + prompt.seconds_left
    poll = _asked(issuing, {"grant_type": _DEVICE_GRANT, "device_code": device_code})
    while (left := deadline - monotonic()) > 0:
        show(replace(prompt, seconds_left=left))
        sleep(min(interval, left))
        answer = _post(issuing.token_endpoint, poll, transport)
        if not _is_spoken(answer):
            interval = min(2 * interval, _RAREST_SECONDS)
            continue
        if answer.status == 200:
            return _tokens(answer)
        error = _error_of(answer)
        if error == "slow_down":
            interval += _SLOWER_SECONDS
        elif error == "access_denied":
            raise SignInRefused()
        elif error == "expired_token":
            break
        elif error != "authorization_pending":
            raise _unfit("token", error)
    raise SignInExpired()


def refresh(issuing: Issuing, refresh_token: str, transport: Transport | None = None) -> Tokens:
    """Spend a refresh token; SignInRefused when the issuer takes it no more, IssuerUnreachable, Misconfigured."""
    asked = _asked(issuing, {"grant_type": "refresh_token", "refresh_token": refresh_token})
    answer = _post(issuing.token_endpoint, asked, transport)
    if not _is_spoken(answer):
        raise IssuerUnreachable(answer.detail or None)
    if answer.status == 200:
        return _tokens(answer)
    error = _error_of(answer)
    if error == "invalid_grant":
        raise SignInRefused("the issuer does not renew this session any more")
    raise _unfit("token", error)


def revoke(issuing: Issuing, refresh_token: str, transport: Transport | None = None) -> None:
    """Tell the issuer that a refresh token is not used any more (RFC 7009); what it answers changes nothing here."""
    if issuing.revocation_endpoint:
        asked = {"client_id": issuing.client_id, "token": refresh_token, "token_type_hint": "refresh_token"}
        _post(issuing.revocation_endpoint, asked, transport)


def _find_metadata(issuer: str, transport: Transport | None) -> dict[str, Any]:
    _check_address(issuer)
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    answer = Answer("no_connection")
    # OpenID Connect Discovery §4 appends, RFC 8414 §3 puts the path behind.
    for where in (
        f"{path}/.well-known/openid-configuration",
        f"/.well-known/oauth-authorization-server{path}",
    ):
        answer = _get(origin, where, transport)
        if answer.status == 200 and isinstance(answer.body, dict):
            # An answer for another issuer would send the person to somebody else's page.
            if answer.body.get("issuer") != issuer:
                raise Misconfigured(f"what answers at {issuer} calls itself by another name")
            return answer.body
    if answer.kind == "answer" and answer.status < 500:
        raise Misconfigured(f"{issuer} does not describe itself (HTTP {answer.status})")
    raise IssuerUnreachable(issuer)


def _endpoint(metadata: Mapping[str, Any], name: str) -> str:
    url = metadata.get(name)
    if not isinstance(url, str):
        raise Misconfigured(f"the issuer's metadata has no {name}")
    _check_address(url)
    return url


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    # Tokens and codes go there: in the clear only inside this machine.
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Misconfigured(f"the sign-in address must be https: {url}" if url.isprintable() else None)


def _prompt(begun: Mapping[str, Any]) -> Prompt:
    address, code, complete = (begun.get(n) for n in ("verification_uri", "user_code", "verification_uri_complete"))
    # They are written on a terminal, where a control character could hide or change what the person reads.
    for text in (address, code, complete or ""):
        if not isinstance(text, str) or not text.isprintable() or len(text) > 2000:
            raise Misconfigured("the issuer's answer names no page and code for the person")
    _check_address(str(address))
    lasting = _seconds(begun.get("expires_in"), _CODE_SECONDS, _LONGEST_CODE_SECONDS)
    return Prompt(str(address), str(code), str(complete) if complete else None, lasting)


def _tokens(answer: Answer) -> Tokens:
    body = _body(answer, "token")
    access, renewing, kind = body.get("access_token"), body.get("refresh_token"), body.get("token_type")
    if not isinstance(access, str) or not isinstance(kind, str) or kind.casefold() != "bearer":
        raise Misconfigured("the issuer gave no bearer token")
    lasting = _seconds(body.get("expires_in"), 0.0, float("inf"))
    return Tokens(access, renewing if isinstance(renewing, str) and renewing else None, lasting or None)


def _body(answer: Answer, what: str) -> dict[str, Any]:
    if not _is_spoken(answer):
        raise IssuerUnreachable(answer.detail or None)
    if answer.status != 200 or not isinstance(answer.body, dict):
        raise _unfit(what, _error_of(answer))
    return answer.body


def _is_spoken(answer: Answer) -> bool:
    """Whether the issuer itself answered, and not a failing network, proxy or portal."""
    return answer.kind == "answer" and answer.is_json and answer.status < 500 and answer.status != 429


def _error_of(answer: Answer) -> str:
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    return error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else f"HTTP {answer.status}"


def _unfit(what: str, error: str) -> Misconfigured:
    return Misconfigured(f"the sign-in server refused the {what} request: {error}; tell your administrator")


def _asked(issuing: Issuing, more: Mapping[str, str]) -> dict[str, str]:
    asked = {"client_id": issuing.client_id, **more}
    if issuing.resource:
        asked["resource"] = issuing.resource
    return asked


def _seconds(value: object, default: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return default
    return min(float(value), most)


def _get(origin: str, path: str, transport: Transport | None) -> Answer:
    connection = Connection(origin, None, transport)
    try:
        return connection.send("GET", path, authenticated=False, read_seconds=_READ_SECONDS)
    finally:
        connection.close()


def _post(url: str, form: Mapping[str, str], transport: Transport | None) -> Answer:
    parts = urlsplit(url)
    connection = Connection(f"{parts.scheme}://{parts.netloc}", None, transport)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    try:
        return connection.send(
            "POST",
            url,
            content=urlencode(form).encode(),
            headers=headers,
            authenticated=False,
            read_seconds=_READ_SECONDS,
        )
    finally:
        connection.close()
