"""Copies that were withdrawn from this device: what a person must still be told of them, and what replaces them.

Number and category only; nothing of the patient outlives the copy. Functions take the connection of the cache database
and run inside the caller's transaction.
"""

from __future__ import annotations

from typing import Any

import apsw

# Added to the files of earlier versions: the copies that were here.
SCHEMA_WITHDRAWN = """
    CREATE TABLE withdrawn (
        document_id TEXT PRIMARY KEY, number TEXT, category TEXT, told INTEGER NOT NULL DEFAULT 0
    );
"""
# Why it was withdrawn, and what replaces it: a nurse with the paper in her hand must learn by what.
SCHEMA_REPLACED = """
    ALTER TABLE withdrawn ADD COLUMN reason TEXT;
    ALTER TABLE withdrawn ADD COLUMN replaced_by TEXT;
"""
# The end of a document's retention is no reason to throw away what was printed in its time.
_NOT_WITHDRAWN = "purged"


def note(conn: apsw.Connection, document_id: str, reason: str) -> None:
    """Remember a copy that is about to be removed because its document was revoked."""
    conn.execute(
        "INSERT OR IGNORE INTO withdrawn (document_id, number, category, reason) SELECT document_id,"
        " json_extract(body, '$.number'), json_extract(body, '$.category'), ?2 FROM documents"
        " WHERE document_id = ?1 AND fetched_at IS NOT NULL AND ?2 <> ?3",
        (document_id, reason, _NOT_WITHDRAWN),
    )


def note_replacement(conn: apsw.Connection, document_id: str, replaced_by: str | None) -> None:
    """Remember which document replaces a withdrawn one; a listing from before the replacement takes nothing back."""
    conn.execute(
        "UPDATE withdrawn SET replaced_by = coalesce(?, replaced_by) WHERE document_id = ?", (replaced_by, document_id)
    )


def read_all(conn: apsw.Connection) -> list[dict[str, Any]]:
    """Return the documents whose copy was here until they were withdrawn: ``{id, number, category, status}``.

    ``supersededBy`` is the id of the document that replaces one, if any did.
    """
    columns = "document_id, number, category, reason, replaced_by"
    rows = conn.execute(f"SELECT {columns} FROM withdrawn ORDER BY number, document_id")
    return [dict(zip(("id", "number", "category", "status", "supersededBy"), row, strict=True)) for row in rows]


def read_replacement(conn: apsw.Connection, document_id: str) -> str | None:
    """Return the number, or else the id, of the document that replaces a withdrawn one (by id or number), or None."""
    row = conn.execute(
        "SELECT coalesce(json_extract(d.body, '$.number'), w.replaced_by) FROM withdrawn w"
        " LEFT JOIN documents d ON d.document_id = w.replaced_by WHERE w.document_id = ?1 OR w.number = ?1",
        (document_id,),
    ).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def is_named(conn: apsw.Connection, document_id: str) -> bool:
    """Return whether an id or a number names a document that was withdrawn from this device."""
    found = conn.execute("SELECT 1 FROM withdrawn WHERE document_id = ?1 OR number = ?1", (document_id,)).fetchone()
    revoked = conn.execute("SELECT 1 FROM revocations WHERE document_id = ?", (document_id,)).fetchone()
    return found is not None or revoked is not None


def take_untold(conn: apsw.Connection) -> tuple[list[str], dict[str, str]]:
    """Return the numbers of withdrawn documents that nobody was told of yet, and note that it is done now.

    The second value says what replaces them, where something does.
    """
    rows = conn.execute("SELECT coalesce(number, document_id) FROM withdrawn WHERE NOT told ORDER BY 1").fetchall()
    if rows:
        conn.execute("UPDATE withdrawn SET told = 1")
    numbers = [str(row[0]) for row in rows]
    newer = {number: read_replacement(conn, number) for number in numbers}
    return numbers, {number: other for number, other in newer.items() if other is not None}
