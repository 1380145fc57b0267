"""Bearer token → :class:`Caller`: header, key, signature, claims, in that order.

The algorithms are RS256, ES256 and EdDSA over Ed25519 (design §9). Which of them applies follows from the key that
the issuer publishes under the token's ``kid``; the token's own ``alg`` only has to agree. Keys, key addresses and
certificates inside a token (``jwk``, ``jku``, ``x5u``, ``x5c``) are never looked at.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import httpx2
from joserfc import jws
from joserfc.errors import JoseError

from document_service.errors import NotAuthenticated
from document_service.tokens.claims import (
    LEEWAY_SECONDS,
    Caller,
    caller_from,
    check_audience,
    check_time,
    refused,
)
from document_service.tokens.issuer_keys import TTL_SECONDS, Issuer, IssuerKeys, VerificationKey
from document_service.tokens.local_issuer import LOCAL_ISSUER, LocalIssuer, SilentAlgorithms

ALGORITHMS = ("RS256", "ES256", "EdDSA")

# RFC 9068 tokens say "at+jwt"; most issuers still say "JWT", and RFC 7519 §5.1 lets them say nothing.
TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})

# Access tokens with all our claims are below 2 KB; HTTP servers cut headers off between 8 and 64 KB.
MAX_TOKEN_CHARACTERS = 8192

# Each entry is about 1 KB; this many people are signed in at once on a large deployment.
MAX_CACHED_TOKENS = 4096

# A token verified with a key that the issuer has since withdrawn must not outlive the key cache.
CACHE_SECONDS = TTL_SECONDS

_BAD_SIGNATURE = "The token's signature does not verify."


class Verifier:
    """Verifies bearer tokens of the allowed issuers, or of this machine's local issuer; shared between tasks."""

    def __init__(
        self,
        issuers: Sequence[Issuer] = (),
        *,
        local: LocalIssuer | None = None,
        client: httpx2.AsyncClient | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Trust ``issuers`` and, where one machine serves itself, ``local``; ValueError when both are given.

        A deployment with a real issuer must not also accept tokens of a key that lies in its data folder.
        """
        if issuers and local is not None:
            raise ValueError("the local issuer is not used beside an OpenID issuer")
        self._owned_client = httpx2.AsyncClient() if client is None and issuers else None
        http = client or self._owned_client
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._keys = {issuer.url: IssuerKeys(issuer, http, monotonic) for issuer in issuers if http is not None}
        self._local_key = local.verification_key() if local is not None else None
        self._clock = clock
        self._monotonic = monotonic
        self._registry = SilentAlgorithms(algorithms=list(ALGORITHMS), strict_check_header=False)
        # Key ids and certificate thumbprints of real issuers need more than joserfc's 512 bytes.
        self._registry.max_header_length = MAX_TOKEN_CHARACTERS
        self._verified: OrderedDict[bytes, tuple[Caller, float, float]] = OrderedDict()

    async def verify(self, bearer: str) -> Caller:
        """Verify a compact JWT (without the word ``Bearer``) and say who it is.

        Raises NotAuthenticated, TokenExpired, or IssuerUnavailable when the issuer's keys cannot be fetched.
        """
        if len(bearer) > MAX_TOKEN_CHARACTERS:
            raise refused("The token is longer than 8192 characters.")
        digest = hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).digest()
        remembered = self._verified.get(digest)
        if remembered is not None:
            caller, expires, verify_again = remembered
            if self._clock() < expires + LEEWAY_SECONDS and self._monotonic() < verify_again:
                self._verified.move_to_end(digest)
                return caller
            del self._verified[digest]
        caller, expires = await self._verify_afresh(bearer)
        self._verified[digest] = (caller, expires, self._monotonic() + CACHE_SECONDS)
        while len(self._verified) > MAX_CACHED_TOKENS:
            self._verified.popitem(last=False)
        return caller

    async def aclose(self) -> None:
        """Close the HTTP client that this verifier made for itself."""
        if self._owned_client is not None:
            await self._owned_client.aclose()

    async def _verify_afresh(self, bearer: str) -> tuple[Caller, float]:
        header, claims = _read(bearer)
        algorithm, kid = _check_header(header)
        issuer, key = await self._key_for(claims.get("iss"), algorithm, kid)
        if not self._is_signed(bearer, key):
            newer = None if kid is not None or issuer is LOCAL_ISSUER else await self._keys[issuer.url].find_newer(key)
            if newer is None or not self._is_signed(bearer, newer):
                raise refused(_BAD_SIGNATURE)
        check_audience(claims, issuer.audience)
        expires = check_time(claims, self._clock())
        return caller_from(claims, issuer.tenant_claim), expires

    def _is_signed(self, bearer: str, key: VerificationKey) -> bool:
        try:
            jws.deserialize_compact(bearer, key.key, registry=self._registry)
        except (JoseError, ValueError, TypeError):
            return False
        return True

    async def _key_for(self, named: object, algorithm: str, kid: str | None) -> tuple[Issuer, VerificationKey]:
        if self._local_key is not None and named == LOCAL_ISSUER.url:
            if (algorithm, kid) != (self._local_key.algorithm, self._local_key.kid):
                raise refused(_BAD_SIGNATURE)
            return LOCAL_ISSUER, self._local_key
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise refused("The token's issuer is not one that this service trusts.")
        key = await self._keys[issuer.url].find(algorithm, kid)
        if key is None:
            raise refused("The token's issuer has no such key for this algorithm.")
        return issuer, key


def _read(bearer: str) -> tuple[dict[str, object], dict[str, object]]:
    """Decode header and claims without trusting them yet; both are covered by the signature checked afterwards."""
    parts = bearer.split(".")
    if len(parts) != 3:
        raise refused("The token is not a signed JWT in compact form.")
    return _json_object(parts[0]), _json_object(parts[1])


def _json_object(part: str) -> dict[str, object]:
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        parsed = json.loads(decoded, parse_constant=_no_constant)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _unreadable() from error
    if not isinstance(parsed, dict):
        raise _unreadable()
    return parsed


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _unreadable() -> NotAuthenticated:
    return refused("The token is not a readable JWT.")


def _check_header(header: dict[str, object]) -> tuple[str, str | None]:
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if algorithm not in ALGORITHMS or not isinstance(algorithm, str):
        raise refused("The token's algorithm is not one of RS256, ES256 and EdDSA.")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise refused("The token's typ is not JWT or at+jwt.")
    if not isinstance(kid, (str, type(None))):
        raise refused("The token's kid is not text.")
    if "crit" in header:
        # RFC 7515 §4.1.11: an extension that is critical and not understood refuses the token.
        raise refused("The token needs an extension that this service does not know.")
    return algorithm, kid
