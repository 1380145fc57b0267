"""The public keys of one OpenID issuer: found by discovery, cached, refetched when a key id is new.

The cache lives 5 minutes. A token whose ``kid`` is not in it forces one refetch, at most every 30 seconds, so that a
rotation at the issuer is seen at once and a stream of invented key ids is not turned into a stream of requests
against the issuer (design §9). When the issuer cannot be reached, the keys already known serve for an hour: a clinic
does not stop because its sign-in server restarts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from joserfc import jwk
from joserfc.errors import JoseError

from document_service.errors import IssuerUnavailable

# Design §9.
TTL_SECONDS = 300.0
FORCED_REFETCH_SECONDS = 30.0

# How long known keys outlive an issuer that does not answer: longer than a restart or a lost uplink, short enough
# that a key withdrawn after a compromise does not stay good for a working day.
STALE_SECONDS = 3600.0

# An issuer that is down is asked again after this pause, not once per request.
RETRY_SECONDS = 5.0

# A discovery document or key set of a real issuer is 1 to 20 KB and arrives in well under a second.
FETCH_TIMEOUT_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_KEYS = 100

# RFC 7518 §3.3 requires RSA keys of 2048 bits or more for RS256.
MIN_RSA_BITS = 2048

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer that is trusted, the audience it must name, and the claim that holds the tenant."""

    url: str
    audience: str
    tenant_claim: str = "tenant"


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key and the only algorithm that it may be used with."""

    kid: str | None
    algorithm: str
    key: jwk.Key


def parse_issuers(issuers: str, audience: str) -> tuple[Issuer, ...]:
    """Read the setting ``OIDC_ISSUER``: one or more issuer addresses separated by white space.

    ``https://login.example#org`` takes the tenant from the claim ``org`` instead of ``tenant``; an issuer address has
    no fragment of its own (OpenID Connect Discovery §2). Raises ValueError naming what was wrong.
    """
    found = []
    for entry in issuers.split():
        url, _, claim = entry.partition("#")
        _require_safe_address(url, "an issuer")
        found.append(Issuer(url, audience, claim or "tenant"))
    if len({issuer.url for issuer in found}) != len(found):
        raise ValueError("an issuer is named twice")
    return tuple(found)


def algorithm_of(key: jwk.Key) -> str | None:
    """Name the one signature algorithm that a public key serves here, or None for a key of no use to us.

    The algorithm follows from the key and never from the token, which is what stops algorithm confusion.
    """
    if isinstance(key, jwk.RSAKey):
        return "RS256" if key.raw_value.key_size >= MIN_RSA_BITS else None
    if isinstance(key, jwk.ECKey):
        return "ES256" if key.curve_name == "P-256" else None
    if isinstance(key, jwk.OKPKey):
        return "EdDSA" if key.curve_name == "Ed25519" else None
    return None


class IssuerKeys:
    """The cached key set of one issuer; safe to share between tasks."""

    def __init__(self, issuer: Issuer, client: httpx2.AsyncClient, clock: Callable[[], float] = time.monotonic) -> None:
        """Remember where to fetch; nothing is fetched before the first token of this issuer arrives."""
        self._issuer = issuer
        self._client = client
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched_at = float("-inf")
        self._attempted_at = float("-inf")
        self._forced_at = float("-inf")

    async def find(self, algorithm: str, kid: str | None) -> VerificationKey | None:
        """Find the key for a token's header; None when the issuer has no such key.

        Raises IssuerUnavailable when no key set could be fetched and none is young enough to use.
        """
        if self._clock() - self._fetched_at > TTL_SECONDS:
            await self._refresh(TTL_SECONDS)
        found = self._match(algorithm, kid)
        if found is None:
            await self._force()
            found = self._match(algorithm, kid)
        return found

    async def find_newer(self, than: VerificationKey) -> VerificationKey | None:
        """Find the key that took the place of one with which a token without a key id does not verify.

        Such a token names no key that could be missing, so a rotation shows in its signature only.
        """
        await self._force()
        newer = self._match(than.algorithm, None)
        return None if newer is None or newer.key.thumbprint() == than.key.thumbprint() else newer

    async def _force(self) -> None:
        searched = self._keys
        async with self._lock:
            # Tasks that waited for the lock find the keys which the first one fetched.
            unchanged = self._keys is searched
            if unchanged and self._clock() - self._forced_at > FORCED_REFETCH_SECONDS:
                self._forced_at = self._clock()
                await self._fetch()

    def _match(self, algorithm: str, kid: str | None) -> VerificationKey | None:
        fitting = [key for key in self._keys if key.algorithm == algorithm]
        if kid is None:
            # Without a key id there must be no choice to make.
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == kid), None)

    async def _refresh(self, max_age: float) -> None:
        async with self._lock:
            age = self._clock() - self._fetched_at
            if age <= max_age:
                return
            if self._clock() - self._attempted_at > RETRY_SECONDS:
                await self._fetch()
                age = self._clock() - self._fetched_at
            if age > STALE_SECONDS:
                raise IssuerUnavailable("The keys of the token's issuer could not be fetched.")

    async def _fetch(self) -> None:
        """Replace the key set when the issuer answers well; keep what is there when it does not."""
        self._attempted_at = self._clock()
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                self._keys = await self._download()
        except (httpx2.HTTPError, TimeoutError, ValueError):
            return
        self._fetched_at = self._clock()

    async def _download(self) -> tuple[VerificationKey, ...]:
        discovered = await self._get(self._issuer.url.rstrip("/") + "/.well-known/openid-configuration")
        if discovered.get("issuer") != self._issuer.url:
            raise ValueError("the discovery document names another issuer")
        jwks_address = discovered.get("jwks_uri")
        if not isinstance(jwks_address, str):
            raise ValueError("the discovery document has no jwks_uri")
        _require_safe_address(jwks_address, "jwks_uri")
        listed = (await self._get(jwks_address)).get("keys")
        if not isinstance(listed, list) or len(listed) > MAX_KEYS:
            raise ValueError("the key set has no list of keys, or too many")
        keys = tuple(key for key in map(_usable, listed) if key is not None)
        if not keys:
            raise ValueError("the key set has no usable key")
        return keys

    async def _get(self, url: str) -> dict[str, object]:
        async with self._client.stream(
            "GET", url, headers={"Accept": "application/json"}, follow_redirects=False
        ) as response:
            if response.status_code != 200:
                raise ValueError("the issuer answered with another status than 200")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise ValueError("the issuer's document is too large")
        try:
            parsed = json.loads(body)
        except RecursionError as error:
            raise ValueError("the issuer's document is nested too deeply") from error
        if not isinstance(parsed, dict):
            raise ValueError("the issuer's document is not an object")
        return parsed


def _usable(entry: object) -> VerificationKey | None:
    """Take a key of a key set when it is a public signature key of ours; skip the others (RFC 7517 §5)."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
        return None
    if "verify" not in entry.get("key_ops", ["verify"]):
        return None
    # Only public members are imported: an issuer that publishes a private key does not hand us a signing key.
    public = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    try:
        key = jwk.import_key(public)
        algorithm = algorithm_of(key)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    kid = entry.get("kid")
    if algorithm is None or entry.get("alg", algorithm) != algorithm or not isinstance(kid, (str, type(None))):
        return None
    return VerificationKey(kid, algorithm, key)


def _require_safe_address(url: str, what: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"{what} is not an address") from None
    plain_loopback = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or plain_loopback):
        raise ValueError(f"{what} must be an https:// address (http:// only on this machine)")
    if parts.username or parts.password or parts.fragment:
        raise ValueError(f"{what} must not hold credentials or a fragment")
