"""The cache policy: how long copies may be read here, signed by the server (contract §4).

A signature is ``<kid>.<base64url>`` of Ed25519 over ``document-service cache-policy v1``, the tenant, and the RFC 8785
form of the policy without its signature. The keys are pinned at login. A policy that does not verify changes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# Contract §4: the defaults until the first policy arrives.
DEFAULT_TTL_SECONDS = 7 * 86_400
DEFAULT_LEASE_SECONDS = 14 * 86_400
DEFAULT_WINDOW_DAYS = 400
# A clinic's tablet has room for some thousand pages beside everything else.
DEFAULT_QUOTA_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PrefetchRule:
    """Which documents of the caller's feed come before anybody asks: of these categories (none: all), so many days old.

    ``most_bytes`` bounds them all together, those that are here already included.
    """

    categories: tuple[str, ...]
    days: float
    most_bytes: int


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """The limits in force. Times in seconds, sizes in bytes.

    ``on_expiry``: "hide" keeps the hidden bytes for the grace time, "delete" does not. ``stamp_prints``: printed copies
    carry "printed offline, copy n, as of …". ``prefetch``: what comes beforehand, nothing when None.
    """

    version: int = 0
    ttl: float = DEFAULT_TTL_SECONDS
    lease: float = DEFAULT_LEASE_SECONDS
    window_days: float = DEFAULT_WINDOW_DAYS
    quota: int = DEFAULT_QUOTA_BYTES
    on_expiry: str = "hide"
    stamp_prints: bool = False
    prefetch: PrefetchRule | None = None

    def shortened(self, ttl: float | None) -> CachePolicy:
        """Return the policy with a local time to live, which may only shorten."""
        if ttl is None or ttl >= self.ttl:
            return self
        return replace(self, ttl=ttl)


def parse_policy(wire: Mapping[str, Any]) -> CachePolicy:
    """Return the policy of a wire object; raises ValueError when a member is missing or out of range."""
    try:
        policy = CachePolicy(
            version=int(wire.get("version") or 0),
            ttl=float(wire["cacheTtlSeconds"]),
            lease=float(wire["leaseSeconds"]),
            window_days=float(wire.get("dedupWindowDays") or DEFAULT_WINDOW_DAYS),
            quota=int(wire.get("quotaBytes") or DEFAULT_QUOTA_BYTES),
            on_expiry=str(wire.get("onExpiry") or "hide"),
            stamp_prints=bool(wire.get("stampPrints")),
            prefetch=_parse_prefetch(wire.get("prefetch")),
        )
    except (KeyError, TypeError, AttributeError) as failure:
        raise ValueError("the cache policy lacks a member") from failure
    if min(policy.ttl, policy.lease, policy.quota) < 0:
        raise ValueError("the cache policy has a negative limit")
    return policy


def _parse_prefetch(wire: Mapping[str, Any] | None) -> PrefetchRule | None:
    if wire is None:
        return None
    categories = tuple(str(category) for category in wire.get("categories") or ())
    return PrefetchRule(categories, float(wire["days"]), int(wire["maxBytes"]))


def verify_policy(wire: Mapping[str, Any], tenant: str, keys: Mapping[str, str]) -> bool:
    """Return whether one of the pinned ``keys`` (kid to base64url raw Ed25519) signed this policy for ``tenant``."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    kid, _, signature = str(wire.get("signature") or "").rpartition(".")
    public = keys.get(kid)
    if not public:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(decode(public)).verify(decode(signature), signed_bytes(wire, tenant))
    except (InvalidSignature, ValueError):
        return False
    return True


def signed_bytes(wire: Mapping[str, Any], tenant: str) -> bytes:
    """Return the bytes that a policy's signature covers."""
    import rfc8785

    bare = {key: value for key, value in wire.items() if key != "signature"}
    return b"document-service cache-policy v1\n" + tenant.encode() + b"\n" + rfc8785.dumps(bare)


def decode(text: str) -> bytes:
    """Return the bytes of base64url without padding; raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
