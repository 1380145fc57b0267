"""Tenants: health organisations, their FHIR server and what they decide for their forms and devices."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from document_service.database import Connection
from document_service.errors import InvalidRequest, NotFound, TenantShredded
from document_service.settings import Settings

#: The tenant that owns the forms shipped with the product; no token can name it.
PLATFORM = "platform"

TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

#: The device keeps working without contact for this long, then locks its cache (contract §4).
DEFAULT_LEASE = timedelta(days=14)

#: A device's cache grows to this many bytes by default: about four hundred scanned pages.
DEFAULT_QUOTA_BYTES = 200 * 1024 * 1024


class Sealer(Protocol):
    """What a record needs of the key store to keep readable text out of PostgreSQL's files."""

    def seal(self, tenant_id: str, purpose: str, plaintext: bytes) -> bytes: ...

    def unseal(self, tenant_id: str, purpose: str, blob: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Profile:
    """What a tenant decides besides its ``branding``; kept as JSON beside its row. Durations are whole seconds.

    ``prefetch`` is the wire form of the cache policy's rule, empty when devices fetch nothing before they are asked.
    """

    time_zone: str = "Asia/Kabul"
    digits: str = "latin"
    calendar: str = "gregorian"
    allow_reprint: bool = False
    allow_unreviewed_translations: bool = True
    cache_ttl_seconds: int | None = None
    lease_seconds: int | None = None
    quota_bytes: int | None = None
    on_expiry: str = "hide"
    stamp_prints: bool = False
    prefetch: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One row of ``tenants``; ``fhir_token`` is unsealed only by ``fhir_token``."""

    tenant_id: str
    name: str
    fhir_url: str | None
    fhir_token_sealed: bytes | None
    profile: Profile
    policy_version: int
    created_at: datetime
    shredded_at: datetime | None

    def fhir_token(self, sealer: Sealer) -> str | None:
        """The bearer token for the tenant's FHIR server, unsealed."""
        if self.fhir_token_sealed is None:
            return None
        return sealer.unseal(self.tenant_id, "fhir-token", self.fhir_token_sealed).decode()

    def cache_policy(self, settings: Settings) -> dict[str, Any]:
        """The unsigned cache policy of contract §4: the tenant's word over the deployment's."""
        ttl = self.profile.cache_ttl_seconds
        return {
            "version": self.policy_version,
            "cacheTtlSeconds": int(settings.cache_ttl.total_seconds()) if ttl is None else ttl,
            "leaseSeconds": self.profile.lease_seconds or int(DEFAULT_LEASE.total_seconds()),
            "dedupWindowDays": settings.dedup_window.days,
            "quotaBytes": self.profile.quota_bytes or DEFAULT_QUOTA_BYTES,
            "onExpiry": self.profile.on_expiry,
            "stampPrints": self.profile.stamp_prints,
            "prefetch": self.profile.prefetch or None,
        }


_UNKNOWN = "This tenant does not exist on this service; the operator creates it."

_PROFILE_FIELDS = frozenset(f.name for f in fields(Profile))


#: The columns of a tenant of the alias ``tenant``, for a statement that reads it together with something else.
COLUMNS = ", ".join(f"tenant.{f.name} AS tenant_{f.name}" for f in fields(Tenant))


def from_joined(row: Any) -> Tenant:
    """The tenant of a row that was read with ``COLUMNS``.

    Raises:
        NotFound: it was shredded.
    """
    values = {f.name: row[f"tenant_{f.name}"] for f in fields(Tenant)}
    if values["shredded_at"] is not None:
        raise NotFound(_UNKNOWN)
    return _from_row(values)


def _from_row(row: Any) -> Tenant:
    stored = json.loads(row["profile"])
    values = {key: value for key, value in stored.items() if key in _PROFILE_FIELDS}
    return Tenant(
        row["tenant_id"],
        row["name"],
        row["fhir_url"],
        row["fhir_token_sealed"],
        Profile(**values),
        row["policy_version"],
        row["created_at"],
        row["shredded_at"],
    )


def _profile_json(profile: Profile) -> str:
    return json.dumps({f.name: getattr(profile, f.name) for f in fields(Profile)})


async def save(
    connection: Connection,
    tenant_id: str,
    *,
    name: str | None = None,
    fhir_url: str | None = None,
    fhir_token_sealed: bytes | None = None,
    changes: dict[str, Any] | None = None,
) -> Tenant:
    """Create the tenant, or change what is given and keep the rest. Owner role.

    Raises:
        InvalidRequest: the id has a wrong shape or is the platform's.
    """
    if not TENANT_ID.fullmatch(tenant_id) or tenant_id == PLATFORM:
        raise InvalidRequest(
            f"{tenant_id!r} is not a tenant id: use up to 63 lower-case letters, digits and hyphens, not 'platform'."
        )
    row = await connection.fetchrow("SELECT * FROM document.tenants WHERE tenant_id = $1 FOR UPDATE", tenant_id)
    profile = replace(_from_row(row).profile if row else Profile(), **(changes or {}))
    stored = await connection.fetchrow(
        """INSERT INTO document.tenants (tenant_id, name, fhir_url, fhir_token_sealed, profile)
           VALUES ($1, coalesce($2, $1), $3, $4, $5)
           ON CONFLICT (tenant_id) DO UPDATE SET
               name = coalesce($2, tenants.name), fhir_url = coalesce($3, tenants.fhir_url),
               fhir_token_sealed = coalesce($4, tenants.fhir_token_sealed), profile = $5,
               policy_version = tenants.policy_version + 1
           RETURNING *""",
        tenant_id,
        name,
        fhir_url,
        fhir_token_sealed,
        _profile_json(profile),
    )
    return _from_row(stored)


async def show(connection: Connection, tenant_id: str) -> Tenant:
    """Read one tenant.

    Raises:
        NotFound: there is none, or it was shredded.
    """
    row = await connection.fetchrow("SELECT * FROM document.tenants WHERE tenant_id = $1", tenant_id)
    if row is None or row["shredded_at"] is not None:
        raise NotFound(_UNKNOWN)
    return _from_row(row)


async def is_there(connection: Connection, tenant_id: str) -> bool:
    """Whether the tenant is known and was not shredded. Owner or system role."""
    found = "SELECT EXISTS (SELECT FROM document.tenants WHERE tenant_id = $1 AND shredded_at IS NULL)"
    return bool(await connection.fetchval(found, tenant_id))


async def list_all(connection: Connection) -> list[Tenant]:
    """Every tenant but the platform, by id. Owner or system role."""
    rows = await connection.fetch("SELECT * FROM document.tenants WHERE tenant_id <> $1 ORDER BY 1", PLATFORM)
    return [_from_row(row) for row in rows]


async def mark_shredded(connection: Connection, tenant_id: str, *, key_is_gone: bool) -> bool:
    """Remember that the tenant's key is destroyed; False when that was known or the tenant is not. Owner role.

    Its unfinished uploads end, for nobody can open what was received of them. What was in quarantine stays there: it
    may be under a hold.
    A legal hold refuses it, unless ``key_is_gone``: a restored database may hold what nobody can open any more.
    """
    await connection.execute("SELECT set_config('app.key_is_gone', $1, true)", "yes" if key_is_gone else "")
    result = await connection.execute(
        "UPDATE document.tenants SET shredded_at = now() WHERE tenant_id = $1 AND shredded_at IS NULL", tenant_id
    )
    await connection.execute(
        """UPDATE document.uploads SET status = CASE WHEN rescan THEN 'quarantined' ELSE 'failed' END,
               reason_code = $2, reason_title = $3, updated_at = now()
           WHERE tenant_id = $1 AND status IN ('receiving', 'scanning')""",
        tenant_id,
        TenantShredded.code,
        TenantShredded.title,
    )
    return bool(result == "UPDATE 1")


async def is_shredded(connection: Connection, tenant_id: str) -> bool:
    """Whether the tenant's row says that its key is destroyed. Owner role."""
    return bool(
        await connection.fetchval(
            "SELECT shredded_at IS NOT NULL FROM document.tenants WHERE tenant_id = $1", tenant_id
        )
    )


async def ensure_platform(connection: Connection) -> None:
    """Make the row that owns the shipped forms. Owner role."""
    await connection.execute(
        "INSERT INTO document.tenants (tenant_id, name) VALUES ($1, 'Platform') ON CONFLICT DO NOTHING", PLATFORM
    )
