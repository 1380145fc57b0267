"""Acceptances: a tenant answers for the words of a platform form's locale that nobody has reviewed.

An acceptance is about exactly the words that were there (their digest): a later version with the same words is covered,
one with others is not. Rows are never changed.
"""

from __future__ import annotations

from document_service.database import Connection


async def accept(
    connection: Connection,
    tenant_id: str,
    *,
    template_id: str,
    version_id: str,
    locale: str,
    words_digest: str,
    accepted_by: str,
) -> bool:
    """Record an acceptance; whether it was new."""
    row = await connection.fetchval(
        """INSERT INTO translation_acceptances (tenant_id, template_id, locale, words_digest, version_id, accepted_by)
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING locale""",
        tenant_id,
        template_id,
        locale,
        words_digest,
        version_id,
        accepted_by,
    )
    return row is not None


async def accepted(connection: Connection, template_id: str) -> frozenset[tuple[str, str]]:
    """Every (locale, words digest) of a template that the tenant of the transaction has accepted."""
    rows = await connection.fetch(
        "SELECT locale, words_digest FROM translation_acceptances WHERE template_id = $1", template_id
    )
    return frozenset((row["locale"], row["words_digest"]) for row in rows)
