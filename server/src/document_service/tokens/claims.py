"""From the claims of a verified token to a :class:`Caller` (contract §2, "Token claims").

Everything here fails closed: a claim that is present but has another shape than the contract's refuses the token,
because a misread ``facilities`` claim would widen what its holder may see.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from document_service.errors import NotAuthenticated, TokenExpired

CLINICIAN = "CLINICIAN"
DOCUMENT_AUTHOR = "DOCUMENT_AUTHOR"
TENANT_ADMIN = "TENANT_ADMIN"
AUDITOR = "AUDITOR"
ROLES = frozenset({CLINICIAN, DOCUMENT_AUTHOR, TENANT_ADMIN, AUDITOR})

# Clocks of an issuer and of this machine differ by a few seconds even with NTP; design §9 allows 30.
LEEWAY_SECONDS = 30

# A DNS label: the id is part of object names, key files and log lines, and must be safe in each of them.
_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

# The tenant that owns the forms shipped with the product; nobody signs in as it (design §2).
PLATFORM_TENANT = "platform"

# OpenID Connect Core §2 allows 255 ASCII characters for `sub`; the same bound serves facility ids.
_MAX_NAME_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Caller:
    """The person or program behind a request; ``facilities`` is None for the whole tenant."""

    tenant: str
    user: str
    roles: frozenset[str]
    facilities: frozenset[str] | None = None

    def has_role(self, *roles: str) -> bool:
        """Tell whether the caller holds at least one of ``roles``."""
        return not self.roles.isdisjoint(roles)

    def may_see_facility(self, facility_id: str | None) -> bool:
        """Tell whether something of this facility (None = tenant-wide) is the caller's to see."""
        return facility_id is None or self.facilities is None or facility_id in self.facilities

    def may_see_any_facility(self, facility_ids: list[str] | None) -> bool:
        """Tell the same for something that belongs to several facilities."""
        return facility_ids is None or self.facilities is None or not self.facilities.isdisjoint(facility_ids)


def refused(detail: str) -> NotAuthenticated:
    """Build the 401 for a token that is not acceptable; ``detail`` names the claim or rule, never its value."""
    return NotAuthenticated(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def tenant_id_problem(tenant: str) -> str | None:
    """Say what is wrong with a tenant id, or None when it is good."""
    if not _TENANT_ID.fullmatch(tenant):
        return "a tenant id has 1 to 63 lower-case letters, digits and hyphens, and does not begin with a hyphen"
    if tenant == PLATFORM_TENANT:
        return "the tenant id 'platform' is reserved for the forms shipped with the product"
    return None


def check_time(claims: Mapping[str, object], now: float) -> float:
    """Check ``exp`` (required) and ``nbf`` against ``now`` (Unix seconds) and return ``exp``.

    Raises TokenExpired, or NotAuthenticated for a token that is not valid yet or has no usable expiry.
    """
    expires = _instant(claims, "exp")
    if expires is None:
        raise refused("The token has no exp claim; tokens must expire.")
    if now >= expires + LEEWAY_SECONDS:
        raise TokenExpired(
            "The token's exp claim has passed.",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token", error_description="expired"'},
        )
    not_before = _instant(claims, "nbf")
    if not_before is not None and now < not_before - LEEWAY_SECONDS:
        raise refused("The token's nbf claim lies in the future; check the clocks of the issuer and this server.")
    return expires


def check_audience(claims: Mapping[str, object], audience: str) -> None:
    """Refuse a token that was issued for another service (RFC 7519 §4.1.3)."""
    named = claims.get("aud")
    if named != audience and not (isinstance(named, list) and audience in named):
        raise refused("The token's aud claim does not name this service.")


def caller_from(claims: Mapping[str, object], tenant_claim: str) -> Caller:
    """Read the caller from verified claims; NotAuthenticated names the claim that has another shape."""
    if "cnf" in claims:
        # A sender-constrained token (DPoP, mTLS) must not be usable by whoever merely copied it, and the proof of
        # possession is not something this service checks.
        raise refused("The token's cnf claim binds it to a key; send a plain bearer token.")
    tenant = claims.get(tenant_claim)
    if not isinstance(tenant, str) or tenant_id_problem(tenant) is not None:
        raise refused("The token's tenant claim is missing or is not the id of a tenant that can sign in.")
    user = claims.get("sub")
    if not _is_name(user):
        raise refused("The token's sub claim is missing or is not a printable name of at most 255 characters.")
    roles = _names(claims, "roles")
    return Caller(
        tenant=tenant,
        user=str(user),
        # An issuer's other roles ("offline_access" and the like) mean nothing here and are not carried along.
        roles=frozenset() if roles is None else roles & ROLES,
        # An absent claim means the whole tenant; an empty list means no facility at all.
        facilities=_names(claims, "facilities"),
    )


def _instant(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    # bool is an int in Python, and a NaN would make every comparison false, which reads as "never expires".
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise refused(f"The token's {name} claim is not a number of seconds.")
    return value


def _names(claims: Mapping[str, object], name: str) -> frozenset[str] | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(_is_name(item) for item in value):
        raise refused(f"The token's {name} claim is not a list of names.")
    return frozenset(value)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME_CHARACTERS and value.isprintable()
