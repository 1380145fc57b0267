"""The drain lease: one sender of a user's requests at a time, across processes (contract §4).

The lease is one row of the queue database: who holds it, until when, and a fencing token that grows with every taking.
Every write of a drain begins with ``renew`` under its token, in the same transaction: a process that slept while
another took over changes nothing. Time is the plain wall clock: it is compared between processes of one machine only.
"""

from __future__ import annotations

import apsw

from .errors import LeaseLost
from .localdb import single_row

# Longer than every time limit of one exchange together (connect 10 s, read 30 s), and renewed before each.
LEASE_SECONDS = 120.0
# The holder may have renewed after the other one read its clock: that far ahead is no wrong clock.
_AHEAD_SECONDS = 30.0


def take(conn: apsw.Connection, owner: str, now: float, *, owner_is_dead: bool) -> int | None:
    """Take the drain lease and return its fencing token, or None while another living owner holds it.

    A lease that ends further ahead than any lease can was written under a wrong clock and does not count. Requests
    that a former holder was sending go back to the queue: the server's dedup makes sending them again harmless.
    """
    token, holder, until = single_row(conn, "SELECT token, owner, until FROM drain")
    held = bool(holder) and holder != owner and now < until <= now + LEASE_SECONDS + _AHEAD_SECONDS
    if held and not owner_is_dead:
        return None
    conn.execute("UPDATE drain SET token = ?, owner = ?, until = ?", (token + 1, owner, now + LEASE_SECONDS))
    conn.execute("UPDATE requests SET state = 'queued', lease = NULL WHERE state = 'sending'")
    return int(token) + 1


def read_owner(conn: apsw.Connection) -> str:
    """Return who holds the drain lease; empty when nobody does."""
    return str(conn.execute("SELECT owner FROM drain").get)


def renew(conn: apsw.Connection, token: int, now: float) -> None:
    """Prolong the lease; every write of a drain begins with this. Raises LeaseLost when another one took it."""
    conn.execute("UPDATE drain SET until = ? WHERE token = ? AND owner <> ''", (now + LEASE_SECONDS, token))
    if not conn.changes():
        raise LeaseLost()


def release(conn: apsw.Connection, token: int) -> None:
    """Let go of the lease, if it is still ours."""
    conn.execute("UPDATE drain SET owner = '', until = 0 WHERE token = ?", (token,))
