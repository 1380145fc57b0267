"""The middle of the system: produce (read the data, render, store; no database), then commit (one transaction)."""

from __future__ import annotations

import json
import secrets
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from document_service import (
    __version__,
    audit,
    branding,
    documents,
    identifiers,
    patient_access,
    queue,
    render_jobs,
)
from document_service.database import Connection, tenant_transaction
from document_service.errors import (
    ExpiredByRequester,
    FhirNotConfigured,
    NotFound,
    RenderMemory,
    RenderTimeout,
    ServiceError,
    TemplateVersionRetired,
    WorkersLost,
)
from document_service.exact_json import dumps_exact
from document_service.fhir import FhirSnapshot
from document_service.queue import TryAgain
from document_service.render_jobs import Attempt
from document_service.render_requests import open_sealed_part
from document_service.runtime import Runtime
from document_service.telemetry import log, render_seconds
from document_service.templates import Template, Version, parsed, show_in_use, show_version
from document_service.tenants import Tenant
from document_service.tokens import Caller
from document_service.typesetting.jobs import TypesetJob, TypesetResult

#: The cause of an attempt that ended because its data belong into the large lane.
DATA_LARGE = "DATA_LARGE"


class LargeLane(Exception):
    """The job belongs into the large lane; ``cause`` is the code of what says so."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Work:
    """What an attempt needs, read in the transaction that started it."""

    attempt: Attempt
    tenant: Tenant
    version: Version
    template: Template
    brand: branding.Branding
    logo: bytes | None


@dataclass(frozen=True, slots=True)
class Produced:
    """A document that is stored and not yet recorded: its row, ready to insert."""

    document: documents.Document


async def run_attempt(runtime: Runtime, tenant_id: str, job_id: str) -> None:
    """Start, produce and commit one attempt of a job; record how it failed.

    Raises:
        TryAgain: the failure may pass and the job is queued again.
        DatabaseUnavailable: nothing is known to be recorded; the queue hands the entry out again.
    """
    began = time.monotonic()
    async with tenant_transaction(runtime.database.app, tenant_id) as connection:
        work = await _start(connection, tenant_id, job_id)
    if work is None:
        return
    try:
        _check_still_wanted(work)
        produced = await produce(runtime, work)
        await commit(runtime, work, produced)
        render_seconds.labels(outcome="completed").observe(time.monotonic() - began)
    except LargeLane as larger:
        await _move_to_large_lane(runtime, work, larger.cause, time.monotonic() - began)
        render_seconds.labels(outcome=larger.cause).observe(time.monotonic() - began)
    except ServiceError as error:
        delay = await _record_failure(runtime, work, error, time.monotonic() - began)
        render_seconds.labels(outcome=error.code).observe(time.monotonic() - began)
        if delay is not None:
            raise TryAgain(delay) from None


async def _start(connection: Connection, tenant_id: str, job_id: str) -> Work | None:
    try:
        version, template, tenant = await show_in_use(connection, job_id=job_id)
    except NotFound:
        return None
    brand, logo = await branding.show_with_logo(connection, tenant_id)
    # Last, because it locks the tenant's counter of numbers: other jobs of the tenant wait until this transaction ends.
    attempt = await render_jobs.start(connection, job_id)
    return None if attempt is None else Work(attempt, tenant, version, template, brand, logo)


def _check_still_wanted(work: Work) -> None:
    """A withdrawn version is dangerous and an expired request is not wanted: neither is rendered; nor is poison."""
    job = work.attempt.job
    if work.attempt.is_poison:
        raise WorkersLost(f"{render_jobs.STARTS_LIMIT} workers in a row were lost.")
    if work.version.withdrawn_at is not None:
        raise TemplateVersionRetired("The version was withdrawn after the request was accepted.")
    if job.not_after is not None and datetime.now(UTC) > job.not_after:
        raise ExpiredByRequester()


async def produce(runtime: Runtime, work: Work) -> Produced:
    """Read the patient's data, typeset it and store the sealed bytes; touches no table.

    Raises the ServiceError that becomes the job's error; its class says whether another try may help. Raises LargeLane
    when the job is in the ordinary lane and belongs into the other.
    """
    job, tenant, version = work.attempt.job, work.tenant, work.version
    inputs, patient_check = open_sealed_part(
        runtime.keys.unseal(tenant.tenant_id, "render-request", work.attempt.request_sealed)
    )
    snapshot = await _read_fhir(runtime, work, inputs)
    requester = Caller(
        tenant.tenant_id, job.created_by, frozenset(), None if job.facility_ids is None else frozenset(job.facility_ids)
    )
    subject = patient_access.require(requester, snapshot, parsed(version)["context"])
    resources_json = snapshot.resources_json()
    issued_at = datetime.now(UTC).replace(microsecond=0)
    verify_code = secrets.token_urlsafe(18)
    request = _request_of(runtime, work, inputs, patient_check, issued_at, snapshot, verify_code)
    request_json = dumps_exact(request)
    typeset = await _typeset(
        runtime,
        TypesetJob(
            issued_at=issued_at,
            definition_json=version.definition.encode(),
            resources_json=resources_json,
            request_json=request_json,
            images={} if work.logo is None else {"logo": work.logo},
            large=job.lane == "large",
            rows=max((len(found) for found in snapshot.resources.values() if isinstance(found, list)), default=0),
        ),
    )
    kept = zlib.compress(
        json.dumps(
            {
                "request": request_json.decode(),
                "resources": resources_json.decode(),
                "checksum": version.checksum,
                "engine": dict(typeset.engine),
                "pageModel": typeset.page_model_digest,
                "service": __version__,
                "issuedAt": issued_at.isoformat(),
            }
        ).encode(),
        1,  # The fastest level: the snapshot is written on every render and read almost never.
    )
    names = [f"{issued_at:%Y/%m}/{identifiers.new('object')}" for _ in range(2)]
    stored, snapshot_object = await runtime.store.put_together(
        tenant.tenant_id, dict(zip(names, (typeset.pdf, kept), strict=True))
    )
    return Produced(
        documents.Document(
            tenant_id=tenant.tenant_id,
            id=identifiers.new("document"),
            number=job.document_number or "",
            kind="generated",
            status="current",
            category=work.template.category,
            title=work.template.name,
            patient_id=job.patient_id,
            encounter_id=job.encounter_id,
            facility_id=snapshot.facility or work.template.facility_id,  # The encounter's, else that of the form.
            content_type="application/pdf",
            size=stored.size,
            sha256=stored.sha256,
            original_sha256=None,
            pages=typeset.pages,
            template_tenant_id=version.tenant_id,
            template_version_id=version.id,
            render_job_id=job.id,
            upload_id=None,
            requested_at=job.requested_at,
            rendered_at=issued_at,
            data_as_of=snapshot.as_of,
            locale=job.locale,
            supersedes=None,
            superseded_by=None,
            withdrawn_at=None,
            object_name=stored.name,
            snapshot_name=snapshot_object.name,
            original_name=None,
            engine=dict(typeset.engine),
            provenance=[dict(entry) for entry in snapshot.provenance],
            verify_code=verify_code,
            issuer=request["tenant"]["name"],
            created_at=datetime.now(UTC),
            created_by=job.created_by,
            security_label=subject.security_label,
        )
    )


async def _typeset(runtime: Runtime, job: TypesetJob) -> TypesetResult:
    """Typeset in the lane that the job is in; what is too much for the ordinary one is LargeLane."""
    assert runtime.typesetting is not None
    if job.needs_large_lane and not job.large:
        raise LargeLane(DATA_LARGE)
    try:
        return await runtime.typesetting.render(job)
    except (RenderTimeout, RenderMemory) as exceeded:
        if job.large:
            raise
        raise LargeLane(exceeded.code) from None


async def commit(runtime: Runtime, work: Work, produced: Produced) -> bool:
    """Record artifact, audit, events and the finished job in one transaction; False when another attempt won.

    The loser's objects are swept by housekeeping.
    """
    document, job = produced.document, work.attempt.job
    recorded = None
    runtime.recording.add(job.id)
    try:
        async with tenant_transaction(runtime.database.app, document.tenant_id) as connection:
            # Who waits in this process is told by it; a repeat that waits in another one looks by itself.
            elsewhere = job.id not in runtime.waiting
            if not await render_jobs.finish(
                connection, work.attempt, document.id, document.facility_id, announce=elsewhere
            ):
                if (await show_version(connection, work.version.id)).withdrawn_at is not None:
                    raise TemplateVersionRetired("The version was withdrawn while the request was rendered.")
                log.info("attempt.overtaken", job=job.id, attempt=work.attempt.number)
                return False
            if not await documents.insert(connection, document, runtime.keys):
                raise RuntimeError("a job that was not finished has a document")
            await audit.record(
                connection,
                document.tenant_id,
                audit.Event(
                    "document.generate",
                    document.created_by,
                    document_id=document.id,
                    job_id=job.id,
                    patient_id=document.patient_id,
                    detail={"templateVersionId": job.template_version_id, "sha256": document.sha256},
                ),
            )
            await queue.release(connection, document.tenant_id, job.lane)
        recorded = document
    finally:
        runtime.recording.discard(job.id)
        runtime.finish(job.id, recorded)
    return True


async def _read_fhir(runtime: Runtime, work: Work, inputs: dict[str, Any]) -> FhirSnapshot:
    tenant, job = work.tenant, work.attempt.job
    if tenant.fhir_url is None:
        raise FhirNotConfigured()
    return await runtime.fhir.read(
        tenant.fhir_url,
        tenant.fhir_token(runtime.keys),
        parsed(work.version)["context"],
        job.patient_id,
        job.encounter_id,
        inputs=inputs,
    )


def _request_of(
    runtime: Runtime,
    work: Work,
    inputs: dict[str, Any],
    patient_check: dict[str, Any] | None,
    issued_at: datetime,
    snapshot: FhirSnapshot,
    verify_code: str,
) -> dict[str, Any]:
    """What the layout needs besides definition and data; part of the snapshot that `prove` renders from."""
    profile = work.tenant.profile
    public = runtime.settings.public_url
    return {
        "locale": work.attempt.job.locale,
        "inputs": inputs,
        "documentNumber": work.attempt.job.document_number,
        "issuedAt": issued_at.isoformat(),
        "dataAsOf": snapshot.as_of.isoformat(),
        "templateName": work.template.name,
        "templateVersion": work.version.semver,
        "timeZone": profile.time_zone,
        "tenant": work.brand.letterhead(work.tenant),
        "verificationUrl": f"{public.rstrip('/')}/verify/{verify_code}" if public else None,
        "patientCheck": patient_check,
    }


async def _move_to_large_lane(runtime: Runtime, work: Work, cause: str, seconds: float) -> None:
    tenant_id, number = work.attempt.job.tenant_id, work.attempt.number
    log.info("attempt.moved", job=work.attempt.job.id, attempt=number, lane="large", code=cause)
    async with tenant_transaction(runtime.database.app, tenant_id) as connection:
        job = await render_jobs.move_to_large_lane(connection, work.attempt, cause, seconds)
        if job is not None:
            await queue.release(connection, tenant_id, work.attempt.job.lane)
            await queue.enqueue(connection, tenant_id, job.id, job.generation, job.lane, urgent=job.kind == "sync")


async def _record_failure(runtime: Runtime, work: Work, error: ServiceError, seconds: float) -> Any:
    job = work.attempt.job
    log.warning("attempt.failed", job=job.id, attempt=work.attempt.number, lane=job.lane, code=error.code)
    async with tenant_transaction(runtime.database.app, job.tenant_id) as connection:
        failure = await render_jobs.fail(connection, work.attempt, error, seconds)
        if failure.final:
            await audit.record(
                connection,
                job.tenant_id,
                audit.Event(
                    "document.generate",
                    job.created_by,
                    outcome="failure",
                    job_id=job.id,
                    patient_id=job.patient_id,
                    # The account of the number, when the job and its row are gone: every gap has one.
                    detail={"code": error.code, "number": job.document_number},
                ),
            )
            await queue.release(connection, job.tenant_id, job.lane)
    return failure.again_after
