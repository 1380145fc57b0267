"""The template catalogue as this device last saw it: read-only, shown at once with its age, refreshed when online.

Freshness of the list: *fresh* within the server's ``max-age``, *stale* within ``stale-while-revalidate`` after that
(shown at once and refreshed in the background), *expired* beyond (shown with a warning). A failed refresh empties
nothing.
Functions take the connection of the cache database and run inside the caller's transaction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import apsw

from .clock import from_text
from .errors import TemplateAmbiguous, TemplateIsDraft, TemplateNotInUse, TemplateUnknown
from .localdb import single_row

Freshness = Literal["fresh", "stale", "expired", "never"]

# The list's first limits, until the server has said otherwise: five minutes fresh, then a day of being shown at once.
SCHEMA = """
    CREATE TABLE templates (template_id TEXT PRIMARY KEY, body TEXT NOT NULL, generation INTEGER NOT NULL);
    CREATE TABLE versions (version_id TEXT PRIMARY KEY, template_id TEXT NOT NULL, body TEXT NOT NULL, etag TEXT);
    CREATE TABLE catalogue (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        etag TEXT, refreshed_at REAL, max_age REAL NOT NULL, stale REAL NOT NULL
    );
    INSERT INTO catalogue VALUES (1, NULL, NULL, 300, 86400);
"""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The templates with the age of the list in seconds (None = never fetched)."""

    items: list[dict[str, Any]]
    age: float | None
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class Chosen:
    """A template and the version of it that a request would name."""

    template: dict[str, Any]
    version: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Search:
    """What the catalogue is narrowed to; None = any.

    ``name``: words that the name or the platform form's key has, in any order and case. ``everything``: also what
    cannot be requested: drafts, retired forms, and those whose version was withdrawn.
    """

    name: str | None = None
    category: str | None = None
    locale: str | None = None
    everything: bool = False

    def finds(self, template: Mapping[str, Any]) -> bool:
        """Whether a template of the catalogue (with its ``locales``) is looked for."""
        names = f"{_fold(template.get('name'))} {_fold(template.get('platformFormKey'))}"
        wanted = None if self.locale is None else self.locale.casefold()
        # A language alone finds its regions: fa finds fa-AF.
        locales = [locale.casefold() for locale in template["locales"]]
        return (
            (self.everything or _in_use(template))
            and all(word in names for word in (self.name or "").casefold().split())
            and self.category in (None, template.get("category"))
            and (wanted is None or any(locale == wanted or locale.split("-")[0] == wanted for locale in locales))
        )


def _in_use(template: Mapping[str, Any]) -> bool:
    return template.get("status") == "published" and not template.get("currentVersionWithdrawn", False)


def read_catalogue(conn: apsw.Connection, now: float, search: Search | None = None) -> Catalogue:
    """Return the templates that ``search`` finds (those that can be requested, when left out).

    Each has its current version's ``semver``, the instant ``inForceFrom`` from which the service makes
    documents by it (None: it does already), ``locales``, and of a platform form the ``unreviewedLocales``: those
    whose words nobody has reviewed.
    """
    search = search or Search()
    refreshed, max_age, stale = single_row(conn, "SELECT refreshed_at, max_age, stale FROM catalogue")
    items = []
    for (body,) in conn.execute("SELECT body FROM templates ORDER BY json_extract(body, '$.name'), template_id"):
        template = json.loads(body)
        version = read_version(conn, template.get("currentVersionId"))
        template["semver"] = version.get("semver") if version else None
        template["inForceFrom"] = begins_later(version, now)
        definition = (version or {}).get("definition", {})
        template["locales"] = definition.get("locales", [])
        told = definition.get("translations") or {}
        # The first locale is the language that the form was written in.
        template["unreviewedLocales"] = [
            locale
            for locale in template["locales"][1:]
            if template.get("origin") == "platform" and not (told.get(locale) or {}).get("reviewedBy")
        ]
        if search.finds(template):
            items.append(template)
    if refreshed is None:
        return Catalogue(items, None, "never")
    age = max(now - refreshed, 0.0)
    freshness: Freshness = "fresh" if age <= max_age else "stale" if age <= max_age + stale else "expired"
    return Catalogue(items, age, freshness)


def once_known(show: Callable[[], Catalogue], act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do what names a template; on a device that never saw the catalogue, again after ``show`` has fetched it.

    An old catalogue stays: it is what offline work relies on. Raises TemplateUnknown.
    """
    try:
        return act()
    except TemplateUnknown:
        if show().freshness == "never":
            raise
        return act()


def begins_later(version: Mapping[str, Any] | None, now: float) -> str | None:
    """Return from when a version makes documents (RFC 3339), or None when it does already."""
    begins = (version or {}).get("effectiveFrom")
    return str(begins) if begins and from_text(str(begins)) > now else None


def was_fetched(conn: apsw.Connection) -> bool:
    """Return whether the list was ever fetched as a whole."""
    return conn.execute("SELECT refreshed_at FROM catalogue").get is not None


def read_etag(conn: apsw.Connection) -> str | None:
    """Return the ETag of the list last fetched."""
    value = conn.execute("SELECT etag FROM catalogue").get
    return None if value is None else str(value)


def save_list(
    conn: apsw.Connection,
    items: Sequence[Mapping[str, Any]],
    etag: str | None,
    cache_control: str,
    now: float,
    generation: int,
) -> None:
    """Replace the list by what the server answered."""
    conn.execute("DELETE FROM templates")
    for item in items:
        save_template(conn, item, generation)
    touch(conn, now, etag=etag, cache_control=cache_control)


def touch(conn: apsw.Connection, now: float, *, etag: str | None = None, cache_control: str = "") -> None:
    """Record that the list is as the server has it now (a 304, or a complete change feed).

    ``now`` is the server's time as far as it is known (``Reading.birth``): by a clock that is ahead an old list would
    look fresh, and a stale form current, until the right time has caught up.
    """
    conn.execute("UPDATE catalogue SET refreshed_at = ?, etag = coalesce(?, etag)", (now, etag))
    for column, directive in (("max_age", "max-age"), ("stale", "stale-while-revalidate")):
        found = re.search(rf"{directive}=(\d+)", cache_control)
        if found:
            conn.execute(f"UPDATE catalogue SET {column} = ?", (float(found[1]),))


def end_freshness(conn: apsw.Connection, now: float) -> None:
    """Let the list be old at ``now``, the first time of the server that is known here.

    It was dated by a clock that nobody had checked. The feed, which brought the time, confirms the list at its end.
    """
    conn.execute("UPDATE catalogue SET refreshed_at = min(refreshed_at, ? - max_age - stale)", (now,))


def save_template(conn: apsw.Connection, template: Mapping[str, Any], generation: int) -> None:
    """Insert or replace one template."""
    conn.execute(
        "INSERT INTO templates VALUES (?,?,?) ON CONFLICT (template_id) DO UPDATE SET body = excluded.body,"
        " generation = excluded.generation",
        (template["id"], json.dumps(template), generation),
    )


def sweep(conn: apsw.Connection, generation: int) -> None:
    """Remove templates that a whole listing did not name."""
    conn.execute("DELETE FROM templates WHERE generation <> ?", (generation,))


def read_missing_versions(conn: apsw.Connection) -> list[tuple[str, str]]:
    """Return (template id, version id) of published templates whose current definition is not here yet."""
    return [
        (str(template_id), str(version_id))
        for template_id, version_id in conn.execute(
            "SELECT template_id, json_extract(body, '$.currentVersionId') AS version_id FROM templates"
            " WHERE version_id IS NOT NULL AND json_extract(body, '$.status') = 'published'"
            " AND version_id NOT IN (SELECT version_id FROM versions) ORDER BY template_id"
        )
    ]


def save_version(conn: apsw.Connection, version: Mapping[str, Any], template_id: str, etag: str | None) -> None:
    """Keep one frozen version."""
    conn.execute(
        "INSERT OR REPLACE INTO versions VALUES (?,?,?,?)", (version["id"], template_id, json.dumps(version), etag)
    )


def read_version(conn: apsw.Connection, version_id: str | None) -> dict[str, Any] | None:
    """Return one version's body, or None."""
    row = conn.execute("SELECT body FROM versions WHERE version_id = ?", (version_id,)).fetchone()
    return None if row is None else json.loads(row[0])


def choose(conn: apsw.Connection, wanted: str) -> Chosen:
    """Find a template by template id, version id, or (case does not matter) name or platform form key.

    Raises TemplateUnknown, TemplateAmbiguous, TemplateIsDraft or TemplateNotInUse.
    """
    folded = wanted.strip().casefold()
    known = [json.loads(row[0]) for row in conn.execute("SELECT body FROM templates ORDER BY template_id")]
    matches = [t for t in known if wanted in (t["id"], t.get("currentVersionId"))]
    if not matches:
        row = conn.execute("SELECT template_id, body FROM versions WHERE version_id = ?", (wanted,)).fetchone()
        if row is not None:
            matches = [t for t in known if t["id"] == row[0]]
            if matches:
                return _checked(matches[0], json.loads(row[1]))
    if not matches:
        named = [t for t in known if folded in (_fold(t.get("name")), _fold(t.get("platformFormKey")))]
        # A retired form must not make the form in use ambiguous.
        matches = [t for t in named if t.get("status") == "published"] or named
    if not matches:
        raise TemplateUnknown(f"{wanted!r} is not in the catalogue on this device")
    if len(matches) > 1:
        raise TemplateAmbiguous(", ".join(f"{t['id']} ({t.get('origin')})" for t in matches))
    template = matches[0]
    version = read_version(conn, template.get("currentVersionId"))
    if version is None and template.get("status") == "published":
        raise TemplateUnknown("the template's definition is not on this device yet; run `documents sync`")
    return _checked(template, version or {})


def _checked(template: dict[str, Any], version: dict[str, Any]) -> Chosen:
    if template.get("status") == "draft":
        raise TemplateIsDraft(str(template["id"]))
    if template.get("status") != "published":
        raise TemplateNotInUse(f"{template['id']} is {template.get('status')}")
    current = version.get("id") == template.get("currentVersionId")
    if version.get("withdrawn") or (current and template.get("currentVersionWithdrawn", False)):
        raise TemplateNotInUse(f"version {version.get('semver')} was withdrawn")
    return Chosen(template, version)


def _fold(text: object) -> str:
    return str(text or "").casefold()
