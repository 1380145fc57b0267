"""Publishing a draft: everything wrong with it is said at once, a trial render proves the rest, then it is frozen."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from document_service import audit, branding, definitions, templates, tenants, trials
from document_service.database import tenant_transaction
from document_service.errors import (
    DefinitionInvalid,
    IdempotencyKeyReused,
    InvalidRequest,
    PreconditionFailed,
    Problem,
    TemplateStateConflict,
)
from document_service.previewing import letterhead_of
from document_service.runtime import Runtime
from document_service.templates import Template, Version
from document_service.tokens import Caller


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the author chose for the new version; None = by the service."""

    semver: str | None = None
    effective_from: datetime | None = None
    effective_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """The version; whether an earlier call with the same key had made it; what the trial noted about it."""

    version: Version
    replayed: bool = False
    warnings: tuple[Problem, ...] = ()


async def publish(
    runtime: Runtime, caller: Caller, template_id: str, idempotency_key: str, *, if_match: str | None, wanted: Wanted
) -> Published:
    """Validate, try out in every locale, freeze and make current; no transaction is open while pages are printed.

    Raises:
        DefinitionInvalid: the draft has problems, all of them listed.
        TypesettingBusy: the press has no room for the trial; nothing was published.
        TemplateStateConflict: there is no draft, or the number is taken or too low.
        IdempotencyKeyReused: an earlier version was published with this key, and another draft is there now.
        PreconditionFailed, NotFound, PlatformTemplateImmutable: as for every edit.
    """
    if wanted.effective_from and wanted.effective_to and wanted.effective_from >= wanted.effective_to:
        raise InvalidRequest(errors=(Problem("/effectiveTo", "RANGE", "effectiveTo lies after effectiveFrom."),))
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.show_for_edit(connection, caller, template_id)
        earlier = await templates.find_publish(connection, template, idempotency_key)
        if earlier is not None:
            # Publishing changes the state, so a repeat never names the present one: whoever does means a later draft,
            # and would take the earlier version for it.
            if if_match == template.etag:
                raise IdempotencyKeyReused()
            return Published(earlier, True)
        template = await templates.show_for_edit(connection, caller, template_id, if_match)
        definition = _draft_of(template)
        tenant = await tenants.show(connection, caller.tenant)
        brand, logo = await branding.show_with_logo(connection, caller.tenant)
    problems = await asyncio.to_thread(definitions.check, definition)
    if problems:
        raise DefinitionInvalid(errors=tuple(problems))
    form = trials.Form(definition, template.name, says_unreviewed=False)
    async with runtime.preview_turn():
        verdict = await trials.try_out(runtime.press, form, letterhead_of(runtime, tenant, brand, logo))
    if verdict.problems:
        raise DefinitionInvalid(errors=verdict.problems)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        # Checked outside the transaction; the lock and the revision say whether it is still the same draft.
        checked, template = template, await templates.show_for_edit(connection, caller, template_id)
        earlier = await templates.find_publish(connection, template, idempotency_key)
        if earlier is not None:
            return Published(earlier, True)
        if template.etag != checked.etag:
            raise PreconditionFailed()
        version = await templates.publish(
            connection,
            template,
            definition=definitions.canonical_json(definition),
            checksum=definitions.canonical_checksum(definition),
            semver=await _next_semver(connection, template, wanted.semver),
            published_by=caller.user,
            idempotency_key=idempotency_key,
            effective_from=wanted.effective_from,
            effective_to=wanted.effective_to,
        )
        await audit.record(
            connection,
            caller.tenant,
            audit.Event("template.publish", caller.user, template_id=template.id, detail={"versionId": version.id}),
        )
    return Published(version, warnings=verdict.warnings)


def _draft_of(template: Template) -> Any:
    if template.status == "retired":
        raise TemplateStateConflict("A retired template is not published again; create a new one.")
    if template.draft_definition is None:
        raise TemplateStateConflict("There is no draft to publish; save one first.")
    return definitions.read_json(template.draft_definition)


async def _next_semver(connection: Any, template: Template, chosen: str | None) -> str:
    latest = await templates.latest_semver(connection, template)
    if chosen is not None:
        if latest is not None and templates.parse_semver(chosen) <= latest:
            raise TemplateStateConflict(f"Version {'.'.join(map(str, latest))} exists; choose a higher number.")
        return chosen
    if latest is None:
        return "1.0.0"
    assert template.draft_definition is not None
    # The newest and not the current one: a version may be waiting for its day.
    newest = (await templates.list_versions(connection, template))[0]
    return derive_semver(latest, json.loads(newest.definition), json.loads(template.draft_definition))


def derive_semver(latest: tuple[int, int, int], before: Any, after: Any) -> str:
    """The next number: major when the inputs change (devices hold requests), minor for data or layout, else patch."""
    major, minor, patch = latest
    if before.get("inputs") != after.get("inputs"):
        return f"{major + 1}.0.0"
    if _without_words(before) != _without_words(after):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def _without_words(definition: Any) -> dict[str, Any]:
    # Who reviewed a translation is about its words.
    return {name: value for name, value in definition.items() if name not in ("labels", "translations")}
