"""Preview: a form shown before it is used, with everything found wrong with it. Nothing is stored, no number is taken.

The page says across its middle that it is a preview. It shows the bundled made-up patient, or a real one from the
tenant's FHIR server, which is audited like any other reading of a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from document_service import audit, branding, definitions, patient_access, templates, tenants, trials
from document_service.branding import Branding
from document_service.database import Connection, tenant_transaction
from document_service.errors import (
    FhirNotConfigured,
    LocaleUnsupported,
    Problem,
    TemplateStateConflict,
)
from document_service.fhir import FhirSnapshot
from document_service.runtime import Runtime
from document_service.templates import Template
from document_service.tenants import Tenant
from document_service.tokens import Caller
from document_service.trials import Form, Letterhead, Subject
from document_service.typesetting.jobs import Output, TypesetResult


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show; ``locale`` None = the form's first, ``patient_id`` None = the made-up patient, ``inputs`` None =
    made-up inputs."""

    locale: str | None = None
    patient_id: str | None = None
    encounter_id: str | None = None
    inputs: Mapping[str, Any] | None = None
    output: Output = "pdf"


@dataclass(frozen=True, slots=True)
class Preview:
    """What was found, and the page unless something kept it from being printed.

    ``problems`` would refuse a publish; ``warnings`` would not.
    """

    locale: str | None
    result: TypesetResult | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one transaction reads for a preview."""

    template: Template
    definition: Any
    version: str
    tenant: Tenant
    letterhead: Letterhead


def letterhead_of(runtime: Runtime, tenant: Tenant, brand: Branding, logo: bytes | None) -> Letterhead:
    """What the tenant puts on its pages, as trials and previews take it."""
    public = runtime.settings.public_url
    return Letterhead(
        tenant=brand.letterhead(tenant),
        time_zone=tenant.profile.time_zone,
        images={} if logo is None else {"logo": logo},
        # A code of the usual length, which nobody ever gave out: the public page says that it is unknown.
        verification_url=f"{public.rstrip('/')}/verify/preview-preview-previ" if public else None,
    )


async def preview(runtime: Runtime, caller: Caller, template_id: str, wanted: Wanted) -> Preview:
    """Show the draft, or the current version where there is no draft, and everything found on the way.

    Raises:
        NotFound: there is no such template that the caller may see.
        TemplateStateConflict: it has neither a draft nor a version.
        LocaleUnsupported: the form has no such locale.
        TypesettingBusy: the press has no room.
        ServiceError: the real patient's record could not be read, as a render would say it.
    """
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        shown = await _load(connection, runtime, caller, template_id)
    problems = await asyncio.to_thread(definitions.check, shown.definition)
    if problems:
        return Preview(wanted.locale, None, tuple(problems))
    locale = wanted.locale or shown.definition["locales"][0]
    if locale not in shown.definition["locales"]:
        raise LocaleUnsupported(f"/locale: the form has {', '.join(shown.definition['locales'])}.")
    subject = await _subject(runtime, caller, shown, locale, wanted)
    form = Form(shown.definition, shown.template.name, shown.version)
    async with runtime.preview_turn():
        found = await asyncio.to_thread(trials.static_problems, shown.definition)
        sheet = await trials.print_sheet(runtime.press, form, locale, shown.letterhead, subject, output=wanted.output)
    return Preview(locale, sheet.result, trials.joined(found, sheet.problems), sheet.warnings)


async def _load(connection: Connection, runtime: Runtime, caller: Caller, template_id: str) -> _Shown:
    template = await templates.show(connection, caller, template_id)
    if template.draft_definition is not None:
        definition, version = definitions.read_json(template.draft_definition), "draft"
    elif template.current_version_id is not None:
        current = await templates.show_version(connection, template.current_version_id)
        definition, version = definitions.read_json(current.definition), current.semver
    else:
        raise TemplateStateConflict("There is nothing to show; save a draft first.")
    tenant = await tenants.show(connection, caller.tenant)
    brand, logo = await branding.show_with_logo(connection, caller.tenant)
    return _Shown(template, definition, version, tenant, letterhead_of(runtime, tenant, brand, logo))


async def _subject(runtime: Runtime, caller: Caller, shown: _Shown, locale: str, wanted: Wanted) -> Subject:
    sample = trials.sample_subject(shown.definition, locale, inputs=wanted.inputs)
    if wanted.patient_id is None:
        return sample
    snapshot = await _read(runtime, shown, wanted.patient_id, wanted.encounter_id, sample.inputs)
    patient_access.require(caller, snapshot, shown.definition["context"])
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        await audit.record(
            connection,
            caller.tenant,
            audit.Event("template.preview", caller.user, template_id=shown.template.id, patient_id=wanted.patient_id),
        )
    return Subject(snapshot.resources, sample.inputs, sample.inputs_made_up, as_of=snapshot.as_of)


async def _read(
    runtime: Runtime, shown: _Shown, patient_id: str, encounter_id: str | None, inputs: Mapping[str, Any]
) -> FhirSnapshot:
    tenant = shown.tenant
    if tenant.fhir_url is None:
        raise FhirNotConfigured()
    return await runtime.fhir.read(
        tenant.fhir_url,
        tenant.fhir_token(runtime.keys),
        shown.definition["context"],
        patient_id,
        encounter_id,
        inputs=inputs,
    )
