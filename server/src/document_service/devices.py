"""Devices: installations of the client, each with its own Ed25519 key, enrolled at sign-in.

State chart (a revoked device never comes back; its installation makes a new key and a new id):

    (none) ──enrol──▶ enrolled ──revoke──▶ revoked

A device is known by its id and key together: the same pair enrols again without effect, the same id with another key
is refused, because somebody else's word would then count as the first one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from document_service.changes import Position
from document_service.database import Connection
from document_service.errors import DeviceKeyDiffers, DeviceRevoked, NotFound
from document_service.tenants import Sealer
from document_service.tokens import Caller

#: ``last_seen_at`` is for people who look for a lost device; writing it more often would only make rows.
SEEN_GRAIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Device:
    """One row of ``devices``."""

    tenant_id: str
    id: str
    name: str | None
    user_id: str
    public_key: bytes
    created_at: datetime
    last_seen_at: datetime
    revoked_at: datetime | None


_COLUMNS = ", ".join(Device.__dataclass_fields__)


def _from_row(row: Any) -> Device:
    return Device(**dict(row))


async def enrol(
    connection: Connection, caller: Caller, device_id: str, name: str | None, public_key: bytes
) -> tuple[Device, bool]:
    """Enrol the device, or note that another user signed in on it; the device, and whether it is new.

    Raises:
        DeviceKeyDiffers: the id is enrolled with another key.
        DeviceRevoked: it was revoked.
    """
    row = await connection.fetchrow(
        f"""INSERT INTO devices (tenant_id, id, name, user_id, public_key) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
        caller.tenant,
        device_id,
        name,
        caller.user,
        public_key,
    )
    new = row is not None
    device = _from_row(row) if new else await _load(connection, device_id)
    if device.public_key != public_key:
        raise DeviceKeyDiffers()
    if device.revoked_at is not None:
        raise DeviceRevoked()
    await connection.execute(
        "INSERT INTO device_users (tenant_id, device_id, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        caller.tenant,
        device_id,
        caller.user,
    )
    if not new and name is not None and name != device.name:
        await connection.execute(
            "UPDATE devices SET name = $3 WHERE tenant_id = $1 AND id = $2", caller.tenant, device_id, name
        )
        device = await _load(connection, device_id)
    return device, new


async def find(connection: Connection, device_id: str) -> Device | None:
    """The device of this id in the transaction's tenant."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM devices WHERE tenant_id = current_tenant() AND id = $1", device_id
    )
    return None if row is None else _from_row(row)


async def _load(connection: Connection, device_id: str) -> Device:
    device = await find(connection, device_id)
    if device is None:
        raise NotFound()
    return device


async def note_contact(connection: Connection, device: Device) -> None:
    """Keep when the device was last heard of, to the minute."""
    await connection.execute(
        """UPDATE devices SET last_seen_at = now()
           WHERE tenant_id = $1 AND id = $2 AND last_seen_at < now() - $3::interval""",
        device.tenant_id,
        device.id,
        SEEN_GRAIN,
    )


async def list_page(connection: Connection, caller: Caller, after_id: str | None, limit: int) -> list[Device]:
    """The devices that the caller signed in on, or for an administrator all, newest first."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM devices d WHERE tenant_id = $1 AND ($4::text IS NULL OR id < $4)
              AND ($2 OR EXISTS (SELECT FROM device_users u
                  WHERE u.tenant_id = d.tenant_id AND u.device_id = d.id AND u.user_id = $3))
            ORDER BY id DESC LIMIT $5""",
        caller.tenant,
        caller.has_role("TENANT_ADMIN"),
        caller.user,
        after_id,
        limit,
    )
    return [_from_row(row) for row in rows]


async def revoke(
    connection: Connection, caller: Caller, device_id: str, reason: str | None, sealer: Sealer
) -> tuple[Device, bool]:
    """Revoke a device; the device, and whether this call did it.

    Raises:
        NotFound: the tenant has no such device.
    """
    row = await connection.fetchrow(
        f"""UPDATE devices SET revoked_at = now(), revoked_by = $3, revoked_reason_sealed = $4
            WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING {_COLUMNS}""",
        caller.tenant,
        device_id,
        caller.user,
        None if reason is None else sealer.seal(caller.tenant, "device-reason", reason.encode()),
    )
    if row is None:
        return await _load(connection, device_id), False
    return _from_row(row), True


async def note_applied(connection: Connection, caller: Caller, device_id: str, applied: Position) -> None:
    """Keep how far this user's cache on the device has followed the feed; it never goes back."""
    await connection.execute(
        """INSERT INTO device_users (tenant_id, device_id, user_id, feed_xid, feed_seq, feed_at)
           VALUES ($1, $2, $3, $4::text::xid8, $5, now())
           ON CONFLICT (tenant_id, device_id, user_id) DO UPDATE
               SET feed_xid = excluded.feed_xid, feed_seq = excluded.feed_seq, feed_at = now()
               WHERE device_users.feed_xid IS NULL
                   OR (device_users.feed_xid, device_users.feed_seq) < (excluded.feed_xid, excluded.feed_seq)""",
        caller.tenant,
        device_id,
        caller.user,
        str(applied.xid),
        applied.seq,
    )


@dataclass(frozen=True, slots=True)
class Copies:
    """What is known of one user's cache on one device; ``applied``: it has followed the feed past a revocation."""

    device_id: str
    user_id: str
    name: str | None
    last_seen_at: datetime
    revoked_at: datetime | None
    applied: bool


async def copies_of(connection: Connection, document_id: str) -> list[Copies]:
    """Every user's cache on every device of the tenant that has to do with a document by the trail."""
    rows = await connection.fetch(
        """SELECT u.device_id, u.user_id, d.name, d.last_seen_at, d.revoked_at,
               coalesce((u.feed_xid, u.feed_seq) >= (r.xid, r.seq), false) AS applied
           FROM device_users u JOIN devices d ON d.tenant_id = u.tenant_id AND d.id = u.device_id
           LEFT JOIN LATERAL (SELECT xid, seq FROM changes c WHERE c.tenant_id = u.tenant_id
               AND c.entity_id = $1 AND c.kind = 'revocation' ORDER BY xid DESC, seq DESC LIMIT 1) r ON true
           WHERE u.tenant_id = current_tenant() AND EXISTS (SELECT FROM audit_events e
               WHERE e.tenant_id = u.tenant_id AND e.document_id = $1 AND e.device_id = u.device_id)""",
        document_id,
    )
    return [Copies(**dict(row)) for row in rows]
