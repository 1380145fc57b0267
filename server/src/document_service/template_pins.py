"""Pins: a tenant stays with one version of a platform form, whatever upgrades of the product add.

Without a pin it follows: the newest version is current at once. A row is the tenant's present decision; the audit trail
has the earlier ones.
"""

from __future__ import annotations

from document_service import changes
from document_service.database import Connection


async def pin(connection: Connection, tenant_id: str, template_id: str, version_id: str, pinned_by: str) -> bool:
    """Stay with a version of a platform form, whose row the caller has read; whether that is new."""
    result = await connection.execute(
        """INSERT INTO template_pins (tenant_id, template_id, version_id, pinned_by) VALUES ($1, $2, $3, $4)
           ON CONFLICT (tenant_id, template_id) DO UPDATE
               SET version_id = excluded.version_id, pinned_by = excluded.pinned_by, pinned_at = now()
               WHERE template_pins.version_id <> excluded.version_id""",
        tenant_id,
        template_id,
        version_id,
        pinned_by,
    )
    new = bool(result != "INSERT 0 0")
    if new:
        await changes.record(connection, tenant_id, "template", template_id)
    return new


async def follow(connection: Connection, tenant_id: str, template_id: str) -> bool:
    """Follow the platform form again; whether it was pinned."""
    result = await connection.execute(
        "DELETE FROM template_pins WHERE tenant_id = $1 AND template_id = $2", tenant_id, template_id
    )
    new = bool(result == "DELETE 1")
    if new:
        await changes.record(connection, tenant_id, "template", template_id)
    return new
