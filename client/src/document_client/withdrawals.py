"""Giving a request up, and taking back one that still waits (contract §4: never deleted before the server's word).

    queued, never claimed ────────────────────────────────────────────> discarded (WITHDRAWN)
    queued or sending, once claimed ──> quarantined (WITHDRAWAL_ASKED) ──unknown──> discarded (WITHDRAWN)
                                                     │      ^                            │
                                                     │      └── a job of it after all ───┤
                                                     └─known, not failed──> failed (ALREADY_SENT)
    recovered from a queue whose key was lost ──> quarantined (WITHDRAWAL_ASKED)
    refused or failed by the server's word ───────────────────────────> discarded

A request that a drain ever claimed may have left the device, whatever came back: it is never sent again, and the next
sync asks ``lookup`` whether it had arrived. Had it not, it is withdrawn for good. Had it, its document may be made, and
that is the person's to decide: it comes to attention. A lookup that came too early (the bytes were still on their way)
is put right by the change feed, which tells the job; the row is kept for that. An edit queues the new request at once,
so until the new one is given up the old one is neither edited a second time nor tried again: each would be a document.

Whether it was claimed is read in the transaction that gives it up, and written in the transaction that claims it: no
moment is left between them. What a drain that runs writes about it afterwards changes nothing but the job it tells of.
"""

from __future__ import annotations

import apsw

# Reasons of a request that was taken back: not in the service; to be asked for; in the service all the same.
WITHDRAWN = "WITHDRAWN"
WITHDRAWAL_ASKED = "WITHDRAWAL_ASKED"
ALREADY_SENT = "ALREADY_SENT"
TAKEN_BACK = (WITHDRAWN, WITHDRAWAL_ASKED, ALREADY_SENT)

_TITLES = {
    WITHDRAWN: "It was taken back; the service does not have it.",
    WITHDRAWAL_ASKED: "It was taken back and may have left this device before; the next sync asks the service.",
    ALREADY_SENT: "The service had it before it was taken back. Have its document marked as entered in error and"
    " discard this, or retry to keep it.",
}
# Reason of a request that came back with a queue whose key had been lost.
RECOVERED = "RECOVERED"
# The service failed on it, or its answer went with the key: that is no word about whether it was stored.
_NO_WORD = ("SERVER_KEEPS_FAILING", WITHDRAWAL_ASKED, RECOVERED)


def give_up(
    conn: apsw.Connection, client_mutation_id: str, now: float, *, replaced_by: str | None = None
) -> str | None:
    """Give up a request that waits, was refused or failed; returns its state then, None when it is in another state.

    ``discarded``: it is not sent, and the row stays 60 days. ``quarantined``: the next sync asks whether it arrived.
    """
    row = conn.execute(
        "SELECT state, offered, reason_code FROM requests WHERE client_mutation_id = ?", (client_mutation_id,)
    ).fetchone()
    state, offered, reason = row or ("", 0, None)
    waits = state in ("queued", "sending")
    if not waits and state not in ("quarantined", "failed"):
        return None
    if waits and not offered:
        state, reason = "discarded", WITHDRAWN
    elif waits or reason in _NO_WORD:
        state, reason = "quarantined", WITHDRAWAL_ASKED
    else:
        state = "discarded"
    conn.execute(
        "UPDATE requests SET state = ?, lease = NULL, reason_code = ?, reason_title = coalesce(?, reason_title),"
        " changed_at = ?, replaced_by = coalesce(?, replaced_by) WHERE client_mutation_id = ?",
        (state, reason, _TITLES.get(str(reason)), now, replaced_by, client_mutation_id),
    )
    return str(state)


def note_that_it_may_have_left(conn: apsw.Connection, client_mutation_id: str) -> None:
    """Let a request count as claimed, whatever is known of it here."""
    conn.execute("UPDATE requests SET offered = 1 WHERE client_mutation_id = ?", (client_mutation_id,))


def read_unsettled(conn: apsw.Connection) -> list[str]:
    """Return the requests that were taken back and may be in the service, oldest first."""
    sql = "SELECT client_mutation_id FROM requests WHERE state = 'quarantined' AND reason_code = ? ORDER BY sequence"
    return [str(row[0]) for row in conn.execute(sql, (WITHDRAWAL_ASKED,))]


def settle_unknown(conn: apsw.Connection, client_mutation_id: str, now: float) -> None:
    """Record the server's word that it does not have a request that was taken back; changes nothing about others."""
    conn.execute(
        "UPDATE requests SET state = 'discarded', reason_code = ?, reason_title = ?, changed_at = ?"
        " WHERE client_mutation_id = ? AND (state, reason_code) IN (VALUES ('quarantined', ?), ('failed', ?))",
        (WITHDRAWN, _TITLES[WITHDRAWN], now, client_mutation_id, WITHDRAWAL_ASKED, ALREADY_SENT),
    )


def hear_of_job(conn: apsw.Connection, client_mutation_id: str | None, job_status: str, now: float) -> None:
    """Record that the service has a job for a request that was taken back; one that failed makes no document.

    What a person gave up after that stays given up. Requests that were not taken back are not touched.
    """
    state, reason = ("discarded", WITHDRAWN) if job_status == "failed" else ("failed", ALREADY_SENT)
    conn.execute(
        "UPDATE requests SET state = ?, reason_code = ?, reason_title = ?, changed_at = ?, kept_from = NULL"
        " WHERE client_mutation_id = ? AND reason_code <> ? AND (state, reason_code) IN"
        " (VALUES ('quarantined', ?), ('discarded', ?), ('failed', ?))",
        (state, reason, _TITLES[reason], now, client_mutation_id, reason, WITHDRAWAL_ASKED, WITHDRAWN, ALREADY_SENT),
    )


def read_replacement(conn: apsw.Connection, client_mutation_id: str) -> str | None:
    """Return the newest request that an edit put in this one's place, or None when there is none or it was given up."""
    found = conn.execute(
        "WITH RECURSIVE newer (id) AS ("
        " SELECT replaced_by FROM requests WHERE client_mutation_id = ? AND replaced_by IS NOT NULL"
        " UNION SELECT r.replaced_by FROM newer JOIN requests r ON r.client_mutation_id = newer.id"
        " WHERE r.replaced_by IS NOT NULL)"
        " SELECT r.client_mutation_id FROM newer JOIN requests r ON r.client_mutation_id = newer.id"
        " WHERE r.state <> 'discarded' ORDER BY r.sequence DESC LIMIT 1",
        (client_mutation_id,),
    ).fetchone()
    return None if found is None else str(found[0])
