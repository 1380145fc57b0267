"""Branding: what a tenant puts on every page of every form.

A change makes later renders differ and leaves stored documents as they are. A document's snapshot holds the texts and
colours of its render and the SHA-256 of its logo; logos are kept for ever under that name, so that a document can be
rendered again as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from document_service.database import Connection
from document_service.errors import PreconditionFailed, Problem
from document_service.formatting.isolation import UnprintableText, clean
from document_service.tenants import Tenant

#: A dark blue with a contrast of 8.6:1 on white; until the tenant chooses its own.
DEFAULT_ACCENT = "#1f4e79"

#: WCAG 2.2, 1.4.3: text needs 4.5:1 against its ground; headings are set in the accent, on white paper.
LEAST_CONTRAST = 4.5

#: What fits beside a logo in the smallest letterhead (A5): one line of name, six lines of address, one of footer.
MOST_LINES = 6
MOST_CHARACTERS = {"name": 120, "address": 120, "phone": 40, "footer": 200}

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class Branding:
    """One row of ``branding``; a tenant without one has revision 0 and the defaults."""

    tenant_id: str
    name: str | None = None
    address: tuple[str, ...] = ()
    phone: str | None = None
    footer: str | None = None
    accent: str = DEFAULT_ACCENT
    logo_sha256: str | None = None
    revision: int = 0
    updated_at: datetime | None = None
    updated_by: str | None = None

    @property
    def etag(self) -> str:
        """The strong entity tag of this state."""
        return f'"branding.{self.revision}"'

    def letterhead(self, tenant: Tenant) -> dict[str, Any]:
        """The ``tenant`` member of a render's request (docs/template-language.md): plain JSON values."""
        name = self.name or tenant.name
        return {
            "name": name,
            "address": list(self.address),
            "phone": self.phone,
            "footer": self.footer,
            "accent": self.accent,
            "digits": tenant.profile.digits,
            "calendar": tenant.profile.calendar,
            "logo": {"alt": name, "sha256": self.logo_sha256} if self.logo_sha256 else None,
        }


def contrast(colour: str) -> float:
    """The contrast of a ``#rrggbb`` colour against white, from 1 to 21 (WCAG 2.2, relative luminance)."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def check(values: dict[str, Any]) -> list[Problem]:
    """Every problem of new values by field (``name``, ``address``, ``phone``, ``footer``, ``accent``); [] = good."""
    return list(_problems(values))


def _problems(values: dict[str, Any]) -> Iterator[Problem]:
    for pointer, field, text in texts(values):
        if len(text) > MOST_CHARACTERS[field]:
            yield Problem(pointer, "TOO_LONG", f"Write at most {MOST_CHARACTERS[field]} characters.")
        try:
            if not clean(text).strip() or "\n" in text:
                yield Problem(pointer, "TEXT_UNPRINTABLE", "Write one line of text.")
        except UnprintableText:
            yield Problem(pointer, "TEXT_UNPRINTABLE", "Remove control characters.")
    if len(values.get("address") or ()) > MOST_LINES:
        yield Problem("/address", "TOO_MANY", f"Write at most {MOST_LINES} lines.")
    accent = values.get("accent")
    if accent is None:
        return
    if not _COLOUR.fullmatch(accent):
        yield Problem("/accent", "VALUE_SHAPE", "Write the colour as #rrggbb, such as #1f4e79.")
    elif contrast(accent) < LEAST_CONTRAST:
        yield Problem(
            "/accent",
            "CONTRAST_TOO_LOW",
            f"Choose a darker colour: {contrast(accent):.1f}:1 on white, and text needs {LEAST_CONTRAST}:1.",
        )


def texts(values: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every text of the values as (pointer, field, text)."""
    for field in ("name", "phone", "footer"):
        if values.get(field) is not None:
            yield f"/{field}", field, values[field]
    for index, line in enumerate(values.get("address") or ()):
        yield f"/address/{index}", "address", line


async def show(connection: Connection, tenant_id: str) -> Branding:
    """The tenant's branding; the defaults when it has chosen nothing."""
    row = await connection.fetchrow("SELECT * FROM branding WHERE tenant_id = $1", tenant_id)
    return Branding(tenant_id) if row is None else _from_row(row)


async def show_with_logo(connection: Connection, tenant_id: str) -> tuple[Branding, bytes | None]:
    """The branding and the bytes of its logo, for a render."""
    row = await connection.fetchrow(
        """SELECT b.*, l.content AS logo FROM branding b
           LEFT JOIN logos l ON l.tenant_id = b.tenant_id AND l.sha256 = b.logo_sha256 WHERE b.tenant_id = $1""",
        tenant_id,
    )
    if row is None:
        return Branding(tenant_id), None
    values = dict(row)
    return _from_row(values), values.pop("logo")


async def save(
    connection: Connection, before: Branding, changes: dict[str, Any], saved_by: str, *, only_after: bool = True
) -> Branding:
    """Store ``changes`` (checked) over ``before``, which ``show`` gave; with ``only_after`` of that state only.

    Raises:
        PreconditionFailed: it was changed since it was read.
    """
    values = {f: getattr(before, f) for f in ("name", "address", "phone", "footer", "accent", "logo_sha256")} | changes
    row = await connection.fetchrow(
        """INSERT INTO branding AS b (tenant_id, name, address, phone, footer, accent, logo_sha256, updated_by)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
           ON CONFLICT (tenant_id) DO UPDATE SET name = $2, address = $3, phone = $4, footer = $5, accent = $6,
               logo_sha256 = $7, updated_by = $8, updated_at = now(), revision = b.revision + 1
           WHERE b.revision = $9 OR NOT $10 RETURNING *""",
        before.tenant_id,
        values["name"],
        list(values["address"]),
        values["phone"],
        values["footer"],
        values["accent"].lower(),
        values["logo_sha256"],
        saved_by,
        before.revision,
        only_after,
    )
    if row is None:
        raise PreconditionFailed()
    return _from_row(row)


@dataclass(frozen=True, slots=True)
class KeptLogo:
    """One row of ``logos``: a checked picture; width and height in pixels."""

    sha256: str
    content_type: str
    width: int
    height: int
    content: bytes


async def keep_logo(connection: Connection, tenant_id: str, kept: KeptLogo, created_by: str) -> None:
    """Store a checked picture under its SHA-256; one that is there already stays."""
    await connection.execute(
        """INSERT INTO logos (tenant_id, sha256, content_type, width, height, content, created_by)
           VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING""",
        tenant_id,
        kept.sha256,
        kept.content_type,
        kept.width,
        kept.height,
        kept.content,
        created_by,
    )


async def logo(connection: Connection, tenant_id: str, sha256: str) -> KeptLogo | None:
    """A picture that the tenant uses or used."""
    row = await connection.fetchrow(
        "SELECT sha256, content_type, width, height, content FROM logos WHERE tenant_id = $1 AND sha256 = $2",
        tenant_id,
        sha256,
    )
    return None if row is None else KeptLogo(**row)


def _from_row(row: Any) -> Branding:
    values = {name: row[name] for name in Branding.__dataclass_fields__}
    return Branding(**values | {"address": tuple(values["address"])})
