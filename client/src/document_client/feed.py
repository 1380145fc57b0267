"""The change feed as kept here: pages applied with their cursor in one transaction, the signed policy, the contact.

Applying a page once or ten times ends in the same state. Revocations are complete up to now on every page and are
applied before anything is stored. After a 410 the feed is read again from an empty cursor; what that listing does not
name is removed from cache and catalogue, never from queue or audit (contract §4).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import apsw

from . import cache, recalls, templates
from .clock import Contact, Highest
from .errors import LeaseLost
from .localdb import single_row
from .policy import CachePolicy, parse_policy

ROUTE = "/v1/documents/changes?cursor="
# Of the policy's signature: 48 bits tell a tenant's policies apart, and each byte counts (contract §4).
MARK_CHARACTERS = 8

SCHEMA = (
    cache.SCHEMA
    + templates.SCHEMA
    + """
    CREATE TABLE feed (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        cursor TEXT NOT NULL, generation INTEGER NOT NULL, sweeping INTEGER NOT NULL,
        policy TEXT, policy_problem TEXT, local_ttl REAL
    );
    INSERT INTO feed VALUES (1, '', 1, 0, NULL, NULL, NULL);
    CREATE TABLE contact (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        server_time REAL, monotonic REAL, boot TEXT, highest REAL NOT NULL
    );
    INSERT INTO contact VALUES (1, NULL, NULL, NULL, 0);
    """,
    recalls.SCHEMA_WITHDRAWN,
    recalls.SCHEMA_REPLACED,
    # What was seen before has no monotonic reading: it stands until it is seen again.
    """
    ALTER TABLE contact ADD COLUMN highest_monotonic REAL NOT NULL DEFAULT 0;
    ALTER TABLE contact ADD COLUMN highest_boot TEXT NOT NULL DEFAULT '';
    """,
    "ALTER TABLE feed ADD COLUMN pages INTEGER NOT NULL DEFAULT 0;",
)

_CONTACT_COLUMNS = "server_time, monotonic, boot, highest, highest_monotonic, highest_boot"


def policy_mark(conn: apsw.Connection) -> str:
    """Return the part of the query that names the policy kept here: the service then need not send it again."""
    wire, cursor = single_row(conn, "SELECT policy, cursor FROM feed")
    if not wire or not cursor:
        return ""
    return "&policy=" + quote(str(json.loads(wire).get("signature") or "")[-MARK_CHARACTERS:], safe="")


def read_cursor(conn: apsw.Connection) -> str:
    """Return where the feed was read to; empty at the start."""
    return str(conn.execute("SELECT cursor FROM feed").get)


def read_pages(conn: apsw.Connection) -> int:
    """Return how many pages of changes were applied here: what a page leaves may be what was there before it."""
    return int(conn.execute("SELECT pages FROM feed").get)


def count_page(conn: apsw.Connection) -> None:
    """Count a page of changes, inside the transaction that begins to apply it."""
    conn.execute("UPDATE feed SET pages = pages + 1")


def check_cursor(conn: apsw.Connection, asked_from: str) -> None:
    """Raise LeaseLost when another program has read on, or begun again, since a page was asked for.

    The end of an old list would end a listing that begins, and remove all that it had not named yet.
    """
    if read_cursor(conn) != asked_from:
        raise LeaseLost()


def start_again(conn: apsw.Connection) -> None:
    """Begin a whole listing: what it does not name is removed when it is complete."""
    conn.execute("UPDATE feed SET cursor = '', generation = generation + 1, sweeping = 1")


def apply_page(conn: apsw.Connection, page: Mapping[str, Any], now: float) -> None:
    """Apply one page with its cursor."""
    cache.revoke(conn, page["revocations"])
    generation, sweeping = single_row(conn, "SELECT generation, sweeping FROM feed")
    for template in page["templates"]:
        templates.save_template(conn, template, generation)
    for job in page["jobs"]:
        cache.save_job(conn, job)
    for document in page["documents"]:
        cache.save_document(conn, document, generation)
    cache.want_own(conn)
    conn.execute("UPDATE feed SET cursor = ?", (page["cursor"],))
    if not page["more"]:
        if sweeping:
            cache.sweep(conn, generation)
            templates.sweep(conn, generation)
            conn.execute("UPDATE feed SET sweeping = 0")
        templates.touch(conn, now)


def save_listing(
    conn: apsw.Connection, items: Sequence[Mapping[str, Any]], etag: str | None, cache_control: str, now: float
) -> None:
    """Replace the list of templates by what the server answered; a listing of the feed that is under way keeps it."""
    generation = int(conn.execute("SELECT generation FROM feed").get)
    templates.save_list(conn, items, etag, cache_control, now, generation)


# --- Policy and contact ---------------------------------------------------------------------------------------


def save_policy(conn: apsw.Connection, wire: Mapping[str, Any]) -> None:
    """Keep a verified policy."""
    conn.execute("UPDATE feed SET policy = ?, policy_problem = NULL", (json.dumps(wire),))


def note_policy_problem(conn: apsw.Connection, problem: str) -> None:
    """Remember that the last policy was not taken over, and why; the former one stays in force."""
    conn.execute("UPDATE feed SET policy_problem = ?", (problem,))


def read_policy(conn: apsw.Connection) -> CachePolicy:
    """Return the policy in force here: the last verified one, or the defaults, shortened by the local setting."""
    return _in_force(*single_row(conn, "SELECT policy, local_ttl FROM feed"))


def _in_force(wire: str | None, local_ttl: float | None) -> CachePolicy:
    policy = _parsed(wire) if wire else CachePolicy()
    return policy.shortened(local_ttl)


@lru_cache(maxsize=8)
def _parsed(wire: str) -> CachePolicy:
    """Return the policy of a stored text; it is asked for several times in each command and seldom changes."""
    return parse_policy(json.loads(wire))


def read_recovery_key(conn: apsw.Connection) -> dict[str, str] | None:
    """Return the tenant's recovery key (kid, publicKey) of the last verified policy, or None."""
    wire = conn.execute("SELECT policy FROM feed").get
    named = json.loads(wire).get("recoveryKey") if wire else None
    fits = isinstance(named, dict) and all(isinstance(named.get(name), str) for name in ("kid", "publicKey"))
    return named if fits else None


def read_policy_problem(conn: apsw.Connection) -> str | None:
    """Return why the server's last policy was not taken over, or None."""
    value = conn.execute("SELECT policy_problem FROM feed").get
    return None if value is None else str(value)


def read_local_ttl(conn: apsw.Connection) -> float | None:
    """Return the life in seconds that this device was told to keep to; None without one."""
    found: float | None = conn.execute("SELECT local_ttl FROM feed").get
    return found


def save_local_ttl(conn: apsw.Connection, seconds: float | None) -> None:
    """Set the local time to live of copies; it may only shorten the policy's."""
    conn.execute("UPDATE feed SET local_ttl = ?", (seconds,))


def read_contact(conn: apsw.Connection) -> tuple[Contact | None, Highest]:
    """Return the last contact (None before the first) and the highest time seen."""
    return _contact(*single_row(conn, f"SELECT {_CONTACT_COLUMNS} FROM contact"))


def read_terms(conn: apsw.Connection) -> tuple[Contact | None, Highest, CachePolicy]:
    """Return the last contact, the highest time seen and the policy in force, in one look at the file."""
    wire, local_ttl, *contact = single_row(conn, f"SELECT policy, local_ttl, {_CONTACT_COLUMNS} FROM feed, contact")
    return *_contact(*contact), _in_force(wire, local_ttl)


def _contact(server_time: float | None, monotonic: float, boot: str, *highest: Any) -> tuple[Contact | None, Highest]:
    return None if server_time is None else Contact(server_time, monotonic, boot), Highest(*highest)


def save_contact(conn: apsw.Connection, contact: Contact, highest: Highest) -> None:
    """Record an authenticated server time, and the highest time seen, which starts again from it."""
    conn.execute(
        "UPDATE contact SET server_time = ?, monotonic = ?, boot = ?,"
        " highest = ?, highest_monotonic = ?, highest_boot = ?",
        (contact.server_time, contact.monotonic, contact.boot, highest.time, highest.monotonic, highest.boot),
    )


def save_highest(conn: apsw.Connection, seen: Highest) -> None:
    """Record the highest time seen, so that a clock set back later extends nothing."""
    conn.execute(
        "UPDATE contact SET highest = max(highest, :now), highest_monotonic = :monotonic, highest_boot = :boot"
        " WHERE highest < :now OR highest_boot <> :boot",
        {"now": seen.time, "monotonic": seen.monotonic, "boot": seen.boot},
    )
