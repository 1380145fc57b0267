"""Templates and their versions: the tenant's forms, and the platform's, which every tenant may read.

State chart of a template (the server is the authority; a device only reads):

    draft ──publish──▶ published ──retire──▶ retired
                        │      ▲
                        └──────┘ save a next draft, publish it: the current version serves meanwhile

A version published for a later day waits: until its ``effectiveFrom`` the one before it stays current. A tenant may pin
a platform form to one of its versions (``template_pins``); that is then the current one for this tenant.

A version never changes once published; it may be withdrawn, once, with a reason. Both are held by trigger and by
grants as well as here. The checksum is verified whenever a version is loaded for a render.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from document_service import changes, identifiers, tenants
from document_service.database import Connection, NotUnique
from document_service.errors import (
    NotFound,
    PlatformTemplateImmutable,
    PreconditionFailed,
    TemplateNameConflict,
    TemplateStateConflict,
)
from document_service.tenants import PLATFORM, Sealer, Tenant
from document_service.tokens import Caller

_REASON = "version-withdrawn-reason"

CATEGORIES = (
    "prescription",
    "lab_requisition",
    "report",
    "letter",
    "consent",
    "discharge_summary",
    "referral",
    "scanned_record",
    "other",
)


@dataclass(frozen=True, slots=True)
class Template:
    """One row of ``templates``; ``draft_definition`` is JSON text as it was saved."""

    tenant_id: str
    id: str
    name: str
    category: str
    status: str
    origin: str
    platform_form_key: str | None
    forked_from_platform_form_key: str | None
    forked_from_version_id: str | None
    facility_id: str | None
    current_version_id: str | None
    draft_definition: str | None
    draft_saved_by: str | None
    revision: int
    created_at: datetime
    updated_at: datetime
    created_by: str
    #: The version of a platform form that this tenant stays with; then it is the current one too.
    pinned_version_id: str | None = None
    #: Whether the current version was taken out of use; then there is none to be requested.
    current_version_withdrawn: bool = False

    @property
    def etag(self) -> str:
        """The strong entity tag of this state of the template."""
        pinned = f".{self.pinned_version_id}" if self.pinned_version_id else ""
        return f'"{self.id}.{self.revision}{pinned}"'


@dataclass(frozen=True, slots=True)
class Version:
    """One row of ``template_versions``; ``definition`` is JSON text, frozen."""

    tenant_id: str
    id: str
    template_id: str
    semver: str
    definition: str
    checksum: str
    effective_from: datetime | None
    effective_to: datetime | None
    published_at: datetime
    published_by: str
    idempotency_key: str | None
    withdrawn_at: datetime | None
    withdrawn_reason_sealed: bytes | None


def _columns(noun: type[Template] | type[Version], alias: str, prefix: str = "") -> str:
    own = {
        "current_version_id": f"coalesce(p.version_id, {alias}.current_version_id)",
        "pinned_version_id": "p.version_id",
        "current_version_withdrawn": f"""EXISTS (SELECT FROM template_versions c WHERE c.tenant_id = {alias}.tenant_id
            AND c.id = coalesce(p.version_id, {alias}.current_version_id) AND c.withdrawn_at IS NOT NULL)""",
    }
    return ", ".join(f"{own.get(name, f'{alias}.{name}')} AS {prefix}{name}" for name in noun.__dataclass_fields__)


#: Templates as the tenant of the transaction sees them: with its pins of platform forms.
_PINS = "LEFT JOIN template_pins p ON p.tenant_id = current_tenant() AND p.template_id = t.id"
_SEEN = f"SELECT {_columns(Template, 't')} FROM templates t {_PINS}"
_NAMED = "SELECT * FROM templates WHERE tenant_id = $1 AND category = $2 AND lower(name) = lower($3)"
_IN_USE = f"""SELECT {_columns(Version, "v", "v_")}, {_columns(Template, "t", "t_")}, {tenants.COLUMNS}
    FROM template_versions v JOIN templates t ON t.tenant_id = v.tenant_id AND t.id = v.template_id {_PINS}
    JOIN tenants tenant ON tenant.tenant_id = current_tenant() WHERE v.id = $1"""
_IN_USE_BY_JOB = (
    _IN_USE.removesuffix("$1")
    + """(SELECT j.template_version_id FROM document_render_jobs j
    WHERE j.tenant_id = current_tenant() AND j.id = $1)"""
)


def text_checksum(definition: str) -> str:
    """SHA-256 (hex) of the stored text, which is canonical JSON when it was published."""
    return hashlib.sha256(definition.encode()).hexdigest()


def parsed(version: Version) -> Any:
    """The version's definition as JSON values; do not change them. A version never changes, so it is kept."""
    return _parsed(version.definition)


@lru_cache(maxsize=256)  # A tenant uses a few dozen forms; a parsed one takes about 100 KB.
def _parsed(definition: str) -> Any:
    return json.loads(definition)


async def create(
    connection: Connection,
    caller: Caller,
    *,
    name: str,
    category: str,
    facility_id: str | None = None,
    definition: str | None = None,
    forked_from: Version | None = None,
    forked_form_key: str | None = None,
) -> Template:
    """Make a draft.

    Raises:
        TemplateNameConflict: the tenant has a template of this category and name.
    """
    row = await connection.fetchrow(
        """INSERT INTO templates (tenant_id, id, name, category, facility_id, draft_definition, draft_saved_by,
               created_by, forked_from_platform_form_key, forked_from_version_id)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING *""",
        caller.tenant,
        identifiers.new("template"),
        name,
        category,
        facility_id,
        definition,
        caller.user,
        forked_form_key,
        forked_from.id if forked_from else None,
    )
    if row is None:
        raise _name_conflict(await connection.fetchrow(_NAMED, caller.tenant, category, name))
    template = Template(**row)
    await _announce(connection, template)
    return template


async def show(connection: Connection, caller: Caller, template_id: str, *, for_update: bool = False) -> Template:
    """Read a template that the caller may see: the tenant's own of its facilities, or the platform's.

    Raises:
        NotFound: there is none such.
    """
    row = await connection.fetchrow(f"{_SEEN} WHERE t.id = $1", template_id)
    if row is not None and for_update and row["tenant_id"] == caller.tenant:
        row = await connection.fetchrow(
            f"{_SEEN} WHERE t.tenant_id = $1 AND t.id = $2 FOR UPDATE OF t", caller.tenant, template_id
        )
    if row is None or not caller.may_see_facility(row["facility_id"]):
        raise NotFound()
    return Template(**row)


async def show_for_edit(
    connection: Connection, caller: Caller, template_id: str, if_match: str | None = None
) -> Template:
    """Read and lock a template of the tenant before an edit.

    Raises:
        NotFound: there is none such.
        PlatformTemplateImmutable: it is one of the platform's forms.
        PreconditionFailed: ``if_match`` names an older state.
    """
    template = await show(connection, caller, template_id, for_update=True)
    if template.origin == "platform":
        raise PlatformTemplateImmutable()
    if if_match is not None and if_match not in ("*", template.etag):
        raise PreconditionFailed()
    return template


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list is narrowed to; None = any."""

    category: str | None = None
    status: str | None = None
    facility_id: str | None = None
    origin: str | None = None
    platform_form_key: str | None = None


async def list_page(
    connection: Connection, caller: Caller, wanted: Filter, after_id: str | None, limit: int
) -> list[Template]:
    """Templates that the caller may see, newest first, at most ``limit`` after ``after_id``."""
    facilities = None if caller.facilities is None else sorted(caller.facilities)
    rows = await connection.fetch(
        # The page first: pins and withdrawals are looked up for its rows alone.
        f"""SELECT {_columns(Template, "t")} FROM (
               SELECT * FROM templates
               WHERE ($1::text IS NULL OR category = $1) AND ($2::text IS NULL OR status = $2)
                 AND ($3::text IS NULL OR facility_id = $3) AND ($4::text IS NULL OR origin = $4)
                 AND ($5::text IS NULL OR platform_form_key = $5)
                 AND ($6::text[] IS NULL OR facility_id IS NULL OR facility_id = ANY ($6))
                 AND ($7::text IS NULL OR id < $7)
               ORDER BY id DESC LIMIT $8
           ) t {_PINS} ORDER BY t.id DESC""",
        wanted.category,
        wanted.status,
        wanted.facility_id,
        wanted.origin,
        wanted.platform_form_key,
        facilities,
        after_id,
        limit,
    )
    return [Template(**row) for row in rows]


async def platform_definitions(connection: Connection, listed: list[Template]) -> dict[str, str]:
    """The current definition (JSON text) of each platform form in ``listed``, by the template's id."""
    current = {one.current_version_id: one.id for one in listed if one.origin == "platform" and one.current_version_id}
    if not current:
        return {}
    rows = await connection.fetch("SELECT id, definition FROM template_versions WHERE id = ANY ($1)", list(current))
    return {current[row["id"]]: row["definition"] for row in rows}


async def list_state(connection: Connection) -> str:
    """A short text that changes whenever any template that this tenant can read changes."""
    state: str = await connection.fetchval(
        """SELECT count(*) || '.' || coalesce(sum(revision), 0) || '.' || coalesce(max(updated_at)::text, '') || '.' ||
               coalesce((SELECT string_agg(version_id, ' ' ORDER BY version_id) FROM template_pins), '')
           FROM templates"""
    )
    return hashlib.sha256(state.encode()).hexdigest()[:32]


async def list_by_ids(connection: Connection, caller: Caller, ids: list[str]) -> list[Template]:
    """The templates of these ids that the caller may see."""
    rows = await connection.fetch(f"{_SEEN} WHERE t.id = ANY ($1)", ids)
    return [Template(**row) for row in rows if caller.may_see_facility(row["facility_id"])]


async def edit(
    connection: Connection, template: Template, *, name: str, category: str, facility_id: str | None
) -> Template:
    """Change the metadata of a template that ``show_for_edit`` locked.

    Raises:
        TemplateStateConflict: it is retired.
        TemplateNameConflict: another template has the name.
    """
    if template.status == "retired":
        raise TemplateStateConflict("A retired template is not edited; create a new one.")
    holder = await connection.fetchrow(_NAMED, template.tenant_id, category, name)
    if holder is not None and holder["id"] != template.id:
        raise _name_conflict(holder)
    try:
        return await _update(connection, template, name=name, category=category, facility_id=facility_id)
    except NotUnique:
        # Somebody else took the name since it was looked for.
        raise TemplateNameConflict() from None


async def save_draft(connection: Connection, template: Template, definition: str, saved_by: str) -> Template:
    """Store the draft's definition (JSON text) of a template that ``show_for_edit`` locked.

    Raises:
        TemplateStateConflict: it is retired.
    """
    if template.status == "retired":
        raise TemplateStateConflict("A retired template takes no draft; fork it or create a new one.")
    return await _update(connection, template, draft_definition=definition, draft_saved_by=saved_by)


def _name_conflict(holder: Any) -> TemplateNameConflict:
    if holder is not None and holder["status"] == "retired":
        return TemplateNameConflict("It is that of a retired template, which the pages it printed still name.")
    return TemplateNameConflict()


async def find_by_name(connection: Connection, tenant_id: str, category: str, name: str) -> Template | None:
    """The tenant's template of this category and name (in any case of letters), locked."""
    row = await connection.fetchrow(f"{_NAMED} FOR UPDATE", tenant_id, category, name)
    return Template(**row) if row else None


async def find_publish(connection: Connection, template: Template, idempotency_key: str) -> Version | None:
    """The version that an earlier publish with this key made."""
    row = await connection.fetchrow(
        "SELECT * FROM template_versions WHERE tenant_id = $1 AND template_id = $2 AND idempotency_key = $3",
        template.tenant_id,
        template.id,
        idempotency_key,
    )
    return Version(**row) if row else None


async def show_platform_form(connection: Connection, key: str) -> Template:
    """A platform form as the product ships it, whatever the tenant pinned.

    Raises:
        NotFound: there is none with this key.
    """
    row = await connection.fetchrow("SELECT * FROM templates WHERE platform_form_key = $1", key)
    if row is None:
        raise NotFound("The product ships no form with this key.")
    return Template(**row)


async def latest_semver(connection: Connection, template: Template) -> tuple[int, int, int] | None:
    """The highest published version number of a template."""
    rows = await connection.fetch(
        "SELECT semver FROM template_versions WHERE tenant_id = $1 AND template_id = $2",
        template.tenant_id,
        template.id,
    )
    return max((parse_semver(row["semver"]) for row in rows), default=None)


def parse_semver(text: str) -> tuple[int, int, int]:
    """Read ``1.2.3``.

    Raises:
        ValueError: it is not three whole numbers.
    """
    major, minor, patch = (int(part) for part in text.split("."))
    return major, minor, patch


async def publish(
    connection: Connection,
    template: Template,
    *,
    definition: str,
    checksum: str,
    semver: str,
    published_by: str,
    idempotency_key: str | None,
    effective_from: datetime | None = None,
    effective_to: datetime | None = None,
) -> Version:
    """Freeze a checked definition (canonical JSON text) as the current version of a locked template.

    One for a later day waits while the version before it serves; ``promote_due`` makes it current on its day.

    Raises:
        TemplateStateConflict: the template is retired, or the number is taken.
    """
    if template.status == "retired":
        raise TemplateStateConflict("A retired template is not published again; create a new one.")
    row = await connection.fetchrow(
        """INSERT INTO template_versions (tenant_id, id, template_id, semver, definition, checksum, effective_from,
               effective_to, published_by, idempotency_key)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING *""",
        template.tenant_id,
        identifiers.new("version"),
        template.id,
        semver,
        definition,
        checksum,
        effective_from,
        effective_to,
        published_by,
        idempotency_key,
    )
    if row is None:
        raise TemplateStateConflict(f"Version {semver} exists already; publish under the next number.")
    version = Version(**row)
    waits = (
        template.current_version_id is not None and effective_from is not None and effective_from > datetime.now(UTC)
    )
    current = template.current_version_id if waits else version.id
    frozen = {"draft_definition": None, "draft_saved_by": None}
    await _update(connection, template, status="published", current_version_id=current, **frozen)
    return version


async def promote_due(connection: Connection) -> int:
    """Make waiting versions current whose ``effectiveFrom`` has come, in every tenant; how many. System role only."""
    count: int = await connection.fetchval("SELECT document.promote_due_versions()")
    return count


async def retire(connection: Connection, template: Template) -> Template:
    """Take no new renders of a published template; its documents stay.

    Raises:
        TemplateStateConflict: it is a draft.
    """
    if template.status == "draft":
        raise TemplateStateConflict("A draft was never published and cannot be retired.")
    if template.status == "retired":
        return template
    return await _update(connection, template, status="retired")


async def withdraw(connection: Connection, version: Version, reason: str, sealer: Sealer) -> Version:
    """Take one dangerous version out of use; a second withdrawal keeps the first reason."""
    if version.withdrawn_at is not None:
        return version
    row = await connection.fetchrow(
        """UPDATE template_versions SET withdrawn_at = now(), withdrawn_reason_sealed = $3
           WHERE tenant_id = $1 AND id = $2 RETURNING *""",
        version.tenant_id,
        version.id,
        sealer.seal(version.tenant_id, _REASON, reason.encode()),
    )
    return Version(**row)


def withdrawn_reason(version: Version, sealer: Sealer) -> str | None:
    """Why a version was withdrawn, opened; None when it was not."""
    if version.withdrawn_reason_sealed is None:
        return None
    return sealer.unseal(version.tenant_id, _REASON, version.withdrawn_reason_sealed).decode()


async def touch(connection: Connection, template: Template) -> Template:
    """Announce a template whose versions changed."""
    return await _update(connection, template, status=template.status)


async def show_version(connection: Connection, version_id: str) -> Version:
    """Read a version that the tenant can see.

    Raises:
        NotFound: there is none such.
        TemplateStateConflict: the stored definition no longer has its checksum.
    """
    row = await connection.fetchrow("SELECT * FROM template_versions WHERE id = $1", version_id)
    if row is None:
        raise NotFound("There is no published template version with this id that you may see.")
    version = Version(**row)
    if text_checksum(version.definition) != version.checksum:
        raise TemplateStateConflict("The stored definition differs from its checksum; the operator restores it.")
    return version


async def show_in_use(
    connection: Connection, version_id: str | None = None, *, job_id: str | None = None
) -> tuple[Version, Template, Tenant]:
    """Read a version, its template and the transaction's tenant in one round trip, as intake and the worker need them.

    The version is named by its id, or by a job that prints it.

    Raises:
        NotFound, TemplateStateConflict: as ``show_version``. NotFound too when the tenant is no more.
    """
    # Two statements and not one with a choice in it: PostgreSQL would plan that anew at every render.
    row = await connection.fetchrow(_IN_USE if job_id is None else _IN_USE_BY_JOB, job_id or version_id)
    if row is None:
        raise NotFound("There is no published template version with this id that you may see.")
    version = Version(**{name: row[f"v_{name}"] for name in Version.__dataclass_fields__})
    if text_checksum(version.definition) != version.checksum:
        raise TemplateStateConflict("The stored definition differs from its checksum; the operator restores it.")
    template = Template(**{name: row[f"t_{name}"] for name in Template.__dataclass_fields__})
    return version, template, tenants.from_joined(row)


async def list_versions(connection: Connection, template: Template) -> list[Version]:
    """Every version of a template, newest first."""
    rows = await connection.fetch(
        "SELECT * FROM template_versions WHERE tenant_id = $1 AND template_id = $2 ORDER BY published_at DESC, id DESC",
        template.tenant_id,
        template.id,
    )
    return [Version(**row) for row in rows]


async def install_platform_form(
    connection: Connection, *, key: str, name: str, category: str, semver: str, definition: str
) -> bool:
    """Ship one version of a platform form (canonical JSON text); whether it was new. Owner role, in ``migrate``.

    Every tenant's feed is told, so that devices learn of it at their next sync.
    """
    row = await connection.fetchrow("SELECT * FROM templates WHERE platform_form_key = $1 FOR UPDATE", key)
    if row is None:
        row = await connection.fetchrow(
            """INSERT INTO templates (tenant_id, id, name, category, origin, platform_form_key, created_by)
               VALUES ($1, $2, $3, $4, 'platform', $5, 'platform') RETURNING *""",
            PLATFORM,
            identifiers.new("template"),
            name,
            category,
            key,
        )
    template = Template(**row)
    latest = await latest_semver(connection, template)
    if latest is not None and latest >= parse_semver(semver):
        return False
    await publish(
        connection,
        template,
        definition=definition,
        checksum=text_checksum(definition),
        semver=semver,
        published_by=PLATFORM,
        idempotency_key=None,
    )
    await connection.execute(
        """INSERT INTO changes (tenant_id, kind, entity_id)
           SELECT tenant_id, 'template', $1 FROM tenants WHERE tenant_id <> $2""",
        template.id,
        PLATFORM,
    )
    return True


async def announce_platform_forms(connection: Connection, tenant_id: str) -> None:
    """Put every platform form into the feed of a new tenant. Owner role."""
    await connection.execute(
        """INSERT INTO changes (tenant_id, kind, entity_id)
           SELECT $1, 'template', t.id FROM templates t WHERE t.tenant_id = $2 AND NOT EXISTS
               (SELECT FROM changes c WHERE c.tenant_id = $1 AND c.kind = 'template' AND c.entity_id = t.id)""",
        tenant_id,
        PLATFORM,
    )


async def _update(connection: Connection, template: Template, **values: Any) -> Template:
    columns = list(values)
    assignments = ", ".join(f"{column} = ${index}" for index, column in enumerate(columns, start=3))
    row = await connection.fetchrow(
        f"""UPDATE templates SET {assignments}, revision = revision + 1, updated_at = now()
            WHERE tenant_id = $1 AND id = $2 RETURNING *""",
        template.tenant_id,
        template.id,
        *values.values(),
    )
    same = row["current_version_id"] == template.current_version_id
    updated = Template(**row, current_version_withdrawn=same and template.current_version_withdrawn)
    await _announce(connection, updated)
    return updated


async def _announce(connection: Connection, template: Template) -> None:
    if template.tenant_id == PLATFORM:
        return
    facilities = None if template.facility_id is None else [template.facility_id]
    await changes.record(connection, template.tenant_id, "template", template.id, facility_ids=facilities)
