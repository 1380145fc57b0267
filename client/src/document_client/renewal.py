"""A session that renews itself: the refresh token, sealed in the vault, and who may spend it.

An issuer may take a refresh token once and answer with the next one; a second use looks like theft and ends the
session. So one program of this installation renews at a time (``renewal.lock``, which the system lets go of when a
process dies), and looks first whether another one has renewed since: then that token is as good. The new pair is
stored in one replacement of the key file before anybody uses it. A power cut between the issuer's answer and that
replacement costs a sign-in and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import IssuerUnreachable, Misconfigured, SignInRefused, TokenUnreadable
from .files import exclusive
from .http import Transport
from .issuer import Issuing, Tokens, refresh, revoke
from .policy import decode
from .vault import Vault

# A request that leaves now must not meet an expired token after a slow link: it is asked for this much earlier.
EARLY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Grant:
    """A bearer token, and where the issuer renews it when it came with a refresh token."""

    access: str
    refresh: str | None = None
    expires_in: float | None = None
    issuing: Issuing | None = None

    @property
    def tenant_claim(self) -> str:
        """The claim that holds the tenant."""
        return self.issuing.tenant_claim if self.issuing else "tenant"


def read_payload(token: str) -> dict[str, Any]:
    """Return the payload of a JSON Web Token, unverified: the server verifies it, this device only needs its words.

    Raises TokenUnreadable.
    """
    try:
        claims = json.loads(decode(token.strip().split(".")[1]))
    except (IndexError, ValueError):
        raise TokenUnreadable() from None
    if not isinstance(claims, dict):
        raise TokenUnreadable()
    return claims


def read_person(token: str, tenant_claim: str = "tenant") -> tuple[str, str]:
    """Return the tenant and the user that a token names; raises TokenUnreadable when it names none."""
    claims = read_payload(token)
    tenant, user = claims.get(tenant_claim), claims.get("sub")
    if not isinstance(tenant, str) or not isinstance(user, str) or not tenant or not user:
        raise TokenUnreadable()
    return tenant, user


def keep(vault: Vault, account_id: str, grant: Grant, wall: float, *, renews: bytes | None = None) -> bool:
    """Seal the token of an account and what renews it, replacing both at once; returns whether that was done.

    ``renews``: only while that is what renews the session here; a person may have signed out, or in again, meanwhile.
    """
    sealed: dict[str, bytes | None] = {f"token/{account_id}": grant.access.encode(), f"refresh/{account_id}": None}
    if grant.refresh is not None and grant.issuing is not None:
        content = {
            "refresh": grant.refresh,
            "expiresIn": grant.expires_in,
            "obtainedAt": wall,
            "issuing": asdict(grant.issuing),
        }
        sealed[f"refresh/{account_id}"] = json.dumps(content).encode()
    return vault.replace(sealed, in_place_of=None if renews is None else (f"refresh/{account_id}", renews))


def forget(vault: Vault, account_id: str) -> Grant | None:
    """Destroy the tokens of an account; returns what was kept to renew it, for ``end``."""
    kept = _read(vault, account_id)
    vault.replace({f"token/{account_id}": None, f"refresh/{account_id}": None})
    return kept[0] if kept else None


def end(grant: Grant, transport: Transport | None = None) -> None:
    """Tell the issuer that the session is over; without a connection it runs out by itself."""
    if grant.issuing is not None and grant.refresh is not None:
        revoke(grant.issuing, grant.refresh, transport)


def is_renewable(vault: Vault, account_id: str) -> bool:
    """Return whether the session has a refresh token."""
    return _read(vault, account_id) is not None


def is_due(vault: Vault, account_id: str, wall: float) -> bool:
    """Return whether the token ends soon, by this device's own clock since it came: a wrong date is no matter."""
    kept = _read(vault, account_id)
    if kept is None:
        return False
    grant, obtained, _ = kept
    return grant.expires_in is not None and wall - obtained > max(grant.expires_in - EARLY_SECONDS, 0.0)


def renew(
    home: Path,
    vault: Vault,
    account_id: str,
    used: str,
    wall: float,
    transport: Transport | None = None,
) -> str | None:
    """Return a token newer than ``used``, or None when there is none to be had now.

    A refresh token that the issuer does not take any more is forgotten, so that it is not offered again and again.
    """
    with exclusive(home / "renewal.lock"):
        sealed = vault.key(f"token/{account_id}", create=False)
        if sealed is not None and sealed.decode() != used:
            return sealed.decode()
        kept = _read(vault, account_id)
        if kept is None:
            return None
        grant, former = kept[0], kept[2]
        assert grant.refresh is not None
        assert grant.issuing is not None
        try:
            tokens = refresh(grant.issuing, grant.refresh, transport)
        except SignInRefused:
            _forget_refused(vault, account_id, former)
            return None
        except (IssuerUnreachable, Misconfigured):
            return None
        if not _is_same_person(grant, used, tokens):
            # The requests of this session were made by somebody else: they are not sent under this token.
            _forget_refused(vault, account_id, former)
            return None
        # RFC 6749 §6: an issuer that gives no new refresh token means the old one to be used again.
        renewed = Grant(tokens.access, tokens.refresh or grant.refresh, tokens.expires_in, grant.issuing)
        if keep(vault, account_id, renewed, wall, renews=former):
            return tokens.access
    # A person signed out meanwhile, and nobody but this program knows what the issuer gave last.
    end(renewed, transport)
    return None


def _forget_refused(vault: Vault, account_id: str, refused: bytes) -> None:
    name = f"refresh/{account_id}"
    vault.replace({name: None}, in_place_of=(name, refused))


def _is_same_person(grant: Grant, used: str, tokens: Tokens) -> bool:
    try:
        return read_person(used, grant.tenant_claim) == read_person(tokens.access, grant.tenant_claim)
    except TokenUnreadable:
        return False


def _read(vault: Vault, account_id: str) -> tuple[Grant, float, bytes] | None:
    """Return what renews a session, when it was obtained, and the same as it is kept."""
    sealed = vault.key(f"refresh/{account_id}", create=False)
    if sealed is None:
        return None
    content = json.loads(sealed)
    grant = Grant("", content["refresh"], content["expiresIn"], Issuing(**content["issuing"]))
    return grant, float(content["obtainedAt"]), sealed
