"""Intake of render requests: a replay is answered by its job before anything else is looked at (contract §3).

Both entries, asynchronous and synchronous, come through ``accept``; it runs in the caller's transaction and calls
nothing outside the database.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from document_service import definitions, queue, render_jobs, translations
from document_service.database import Connection
from document_service.errors import (
    ExpiredByRequester,
    InputsInvalid,
    LocaleUnsupported,
    MutationWindowPassed,
    NotFound,
    ServiceError,
    TemplateVersionNotEffective,
    TemplateVersionRetired,
    TranslationNotAccepted,
    Unavailable,
    error_of_code,
)
from document_service.keys import KeyStore
from document_service.render_jobs import Job
from document_service.render_requests import RenderRequest
from document_service.templates import Template, Version, parsed, show_in_use, show_version
from document_service.tenants import Tenant
from document_service.tokens import Caller

#: A requestedAt this far ahead of server time is a device with a wrong clock; it is taken, and counted as now.
CLOCK_TOLERANCE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job of a request, and whether this request made it."""

    job: Job
    new: bool


async def accept(
    connection: Connection,
    keys: KeyStore,
    caller: Caller,
    client_mutation_id: str,
    request: RenderRequest,
    requested_at: datetime,
    *,
    window: timedelta,
    kind: str = "async",
    lane: str = "normal",
    bulk_id: str | None = None,
) -> Accepted:
    """Answer a request by the job it already has, or check it, insert its job and enqueue it.

    Raises:
        ClientMutationIdConflict, ClientMutationIdReused: the id belongs to something else.
        MutationWindowPassed, NotFound, TemplateVersionRetired, TemplateVersionNotEffective, ExpiredByRequester,
        LocaleUnsupported, InputsInvalid: the request is refused and its id is not consumed.
    """
    fingerprint = keys.mac(caller.tenant, "render-fingerprint", request.content)
    known = await _replayed(connection, caller, client_mutation_id, fingerprint, kind)
    if known is not None:
        return Accepted(known, False)
    now = datetime.now(UTC)
    if requested_at < now - window:
        raise MutationWindowPassed()
    if requested_at > now + CLOCK_TOLERANCE:
        requested_at = now
    version, tenant = await _check_version(connection, caller, request, now)
    if request.not_after is not None and request.not_after < now:
        raise ExpiredByRequester()
    _check_against_definition(version, request)
    await _check_translation(connection, tenant, version, request.locale)
    job = await render_jobs.insert(
        connection,
        caller,
        client_mutation_id=client_mutation_id,
        request=request,
        fingerprint=fingerprint,
        sealed=keys.seal(caller.tenant, "render-request", request.sealed_part()),
        template_tenant_id=version.tenant_id,
        requested_at=requested_at,
        kind=kind,
        lane=lane,
        bulk_id=bulk_id,
    )
    if job is None:
        # Another request with this id committed since the look-up; it is answered by that one's job.
        known = await _replayed(connection, caller, client_mutation_id, fingerprint, kind)
        if known is None:
            # It was a synchronous one that failed and took its job away: the id is free again.
            raise Unavailable()
        return Accepted(known, False)
    await queue.enqueue(connection, caller.tenant, job.id, job.generation, lane, urgent=kind == "sync")
    return Accepted(job, True)


async def _replayed(
    connection: Connection, caller: Caller, client_mutation_id: str, fingerprint: bytes, kind: str
) -> Job | None:
    """The job that this id already has; None when there is none, or none any more.

    A synchronous job whose render fails is taken away by whoever waits for it. Once another request was answered by it,
    it is that one's promise: it stays, and is tried again like any other.
    """
    known = await render_jobs.find(connection, client_mutation_id)
    if known is None:
        return None
    job = render_jobs.check_replay(known, caller, fingerprint)
    if kind == "sync" or job.kind != "sync":
        return job
    return replace(job, kind="async") if await render_jobs.let_live_on(connection, job) else None


async def retry(connection: Connection, job: Job, *, urgent: bool = False) -> Job:
    """Start and enqueue the next generation of a failed job that was read for update.

    Raises:
        JobStateConflict: the job is not failed, or it was purged.
        ExpiredByRequester, TemplateVersionRetired: as ``check_retry``.
    """
    await check_retry(connection, job)
    job = await render_jobs.retry(connection, job)
    await queue.enqueue(connection, job.tenant_id, job.id, job.generation, job.lane, urgent=urgent)
    return job


async def check_retry(connection: Connection, job: Job) -> None:
    """What a retry checks again.

    Raises:
        ExpiredByRequester: the request's notAfter has passed.
        TemplateVersionRetired: its version was withdrawn.
    """
    if job.not_after is not None and job.not_after < datetime.now(UTC):
        raise ExpiredByRequester()
    version, template, _ = await show_in_use(connection, job.template_version_id)
    if version.withdrawn_at is not None:
        raise TemplateVersionRetired(extra={"currentVersionId": await _current_version(connection, template)})


async def _current_version(connection: Connection, template: Template) -> str | None:
    """The version to ask for instead of one that is out of use; None when the template has none."""
    current = template.current_version_id if template.status == "published" else None
    if current is not None and (await show_version(connection, current)).withdrawn_at is not None:
        return None
    return current


async def why_failed(connection: Connection, job: Job) -> ServiceError:
    """The error of a failed job as the answer of the request that waited for it."""
    assert job.error_code is not None
    error = error_of_code(job.error_code)
    extra: dict[str, object] = {}
    if error is TemplateVersionRetired:
        _, template, _ = await show_in_use(connection, job.template_version_id)
        extra = {"currentVersionId": await _current_version(connection, template)}
    return error(job.error_detail, extra=extra)


async def _check_version(
    connection: Connection, caller: Caller, request: RenderRequest, now: datetime
) -> tuple[Version, Tenant]:
    version, template, tenant = await show_in_use(connection, request.template_version_id)
    if not caller.may_see_facility(template.facility_id):
        raise NotFound("There is no published template version with this id that you may see.")
    if template.status == "retired" or version.withdrawn_at is not None:
        raise TemplateVersionRetired(extra={"currentVersionId": await _current_version(connection, template)})
    early = version.effective_from is not None and now < version.effective_from
    late = version.effective_to is not None and now >= version.effective_to
    if early or (late and not tenant.profile.allow_reprint):
        raise TemplateVersionNotEffective()
    return version, tenant


async def _check_translation(connection: Connection, tenant: Tenant, version: Version, locale: str) -> None:
    """Platform forms in words that nobody reviewed: as the tenant's policy says, or as its administrator answered."""
    if tenant.profile.allow_unreviewed_translations or version.tenant_id == tenant.tenant_id:
        return
    definition = parsed(version)
    if locale in definitions.unreviewed(definition):
        digest = definitions.words_digest(definition, locale)
        if (locale, digest) not in await translations.accepted(connection, version.template_id):
            raise TranslationNotAccepted()


def _check_against_definition(version: Version, request: RenderRequest) -> None:
    definition = parsed(version)
    if request.locale not in definition["locales"]:
        raise LocaleUnsupported(f"/locale: the version has {', '.join(definition['locales'])}.")
    problems = definitions.check_inputs(definition, request.inputs)
    if problems:
        raise InputsInvalid(errors=tuple(problems))
