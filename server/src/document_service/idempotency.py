"""Actions that take an Idempotency-Key and make no row of their own which could stand for them.

One row per finished action, committed with its effects: a refused action leaves none, so its key can be used again.
Two requests with one key at once: the second waits at the unique constraint and then finds the first one's row.
"""

from __future__ import annotations

from document_service.database import Connection
from document_service.errors import IdempotencyKeyReused


async def claim(
    connection: Connection, tenant_id: str, action: str, key: str, target_id: str, fingerprint: bytes
) -> bool:
    """Take the key for this action; False when the same action was done under it before (a replay).

    Raises:
        IdempotencyKeyReused: the key stands for an action on another record or with other content.
    """
    taken = await connection.fetchval(
        """INSERT INTO idempotent_actions (tenant_id, idempotency_key, action, target_id, fingerprint)
           VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true""",
        tenant_id,
        key,
        action,
        target_id,
        fingerprint,
    )
    if taken:
        return True
    known = await connection.fetchrow(
        """SELECT target_id, fingerprint FROM idempotent_actions
           WHERE tenant_id = $1 AND action = $2 AND idempotency_key = $3""",
        tenant_id,
        action,
        key,
    )
    if known["target_id"] != target_id or known["fingerprint"] != fingerprint:
        raise IdempotencyKeyReused()
    return False
