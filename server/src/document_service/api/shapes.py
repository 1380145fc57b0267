"""The JSON of the wire: what requests may hold and what answers do hold (contract §6). Unknown fields are refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from starlette.responses import JSONResponse, Response

from document_service import definitions, identifiers, templates
from document_service.api.mutation_ids import MutationId
from document_service.documents import Document
from document_service.origins import Origin
from document_service.render_jobs import Job
from document_service.templates import Template, Version
from document_service.tenants import Sealer
from document_service.tokens import Caller


def instant(value: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond only where there are any."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def from_epoch_seconds(seconds: int) -> datetime:
    """The instant of a Unix time."""
    return datetime.fromtimestamp(seconds, UTC)


def _own_id(kind: str) -> Any:
    def check(text: str) -> str:
        if not identifiers.is_id(kind, text):
            raise ValueError(f"Send an id that begins with {identifiers.PREFIXES[kind]}, as the service gave it.")
        return text

    return AfterValidator(check)


def _fhir_id(text: str) -> str:
    if not identifiers.FHIR_ID.fullmatch(text):
        raise ValueError("Send a FHIR id: up to 64 letters, digits, hyphens and dots, without the resource type.")
    return text


def _only_text(value: Any) -> Any:
    # pydantic would read a bare number as seconds since 1970; the contract's instants are RFC 3339 text.
    if not isinstance(value, str | datetime):
        raise ValueError("Send an RFC 3339 instant such as 2026-11-22T08:30:00Z.")
    return value


def _whole_date(value: Any) -> Any:
    # pydantic would read a number as days since 1970, and take an instant for its date.
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("Send a whole date such as 1978-06-02.")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("Send an instant between the years 1 and 9999, in UTC.") from None


Instant = Annotated[
    AwareDatetime, BeforeValidator(_only_text), AfterValidator(_in_utc), PlainSerializer(instant, return_type=str)
]
FhirId = Annotated[str, AfterValidator(_fhir_id)]
TemplateId = Annotated[str, _own_id("template")]
VersionId = Annotated[str, _own_id("version")]
DocumentId = Annotated[str, _own_id("document")]
DeviceId = Annotated[str, _own_id("device")]
Locale = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
Category = Literal[
    "prescription",
    "lab_requisition",
    "report",
    "letter",
    "consent",
    "discharge_summary",
    "referral",
    "scanned_record",
    "other",
]


def _plain_text(text: str) -> str:
    if "\x00" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ValueError("The text holds a character that cannot be stored; remove it.")
    return text


#: Blanks alone name nothing in a list and are no reason in a trail.
_SOMETHING = r"\S"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_SOMETHING), AfterValidator(_plain_text)]
Reason = Annotated[str, Field(min_length=1, max_length=1000, pattern=_SOMETHING), AfterValidator(_plain_text)]


class Shape(BaseModel):
    """The root of every shape."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=False)


class PatientCheck(Shape):
    """What the requester knows of the patient; compared when the document is rendered."""

    birth_date: Annotated[date, BeforeValidator(_whole_date)] | None = None
    identifier: Annotated[str, Field(max_length=200)] | None = None


class RenderContent(Shape):
    """What is asked for; the same for asynchronous, synchronous and bulk requests."""

    template_version_id: VersionId
    patient_id: FhirId
    encounter_id: FhirId | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)
    locale: Locale
    patient_check: PatientCheck | None = None


class GenerateRequest(RenderContent):
    """POST /v1/documents/generate."""


class RenderJobRequest(RenderContent):
    """POST /v1/documents/render-jobs; the clientMutationId may come in a header instead."""

    client_mutation_id: MutationId | None = None
    requested_at: Instant
    not_after: Instant | None = None


class LookupRequest(Shape):
    """POST /v1/documents/render-jobs/lookup."""

    client_mutation_ids: Annotated[list[UUID], Field(max_length=500)]


class BatchRequest(Shape):
    """POST /v1/documents/render-jobs/batch: items are full requests, each answered on its own."""

    # Anything: one that is no object is refused as that item, and never the others with it.
    items: Annotated[list[Any], Field(min_length=1, max_length=50)]


class DeviceEvents(Shape):
    """POST /v1/documents/audit-events; each event is judged on its own."""

    # Anything: one that is no object is refused as that event, and the device's other evidence arrives.
    events: Annotated[list[Any], Field(max_length=500)]


class UploadCreate(Shape):
    """POST /v1/documents/uploads: what the file is, before its bytes."""

    file_name: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_plain_text)]
    content_type: Annotated[str, Field(max_length=100)]
    size: Annotated[int, Field(ge=1, strict=True)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    patient_id: FhirId
    encounter_id: FhirId | None = None
    category: Category
    title: Name


class TemplateCreate(Shape):
    """POST /v1/document-templates."""

    name: Name
    category: Category
    facility_id: FhirId | None = None
    definition: dict[str, Any] | None = None


class TemplateEdit(Shape):
    """PATCH /v1/document-templates/{id}: what is absent stays."""

    name: Name | None = None
    category: Category | None = None
    facility_id: FhirId | None = None


class PublishRequest(Shape):
    """POST …/publish: all optional; the version number follows from what changed when none is given."""

    semver: Annotated[str, Field(pattern=r"^(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})$")] | None = None
    effective_from: Instant | None = None
    effective_to: Instant | None = None


class PreviewRequest(Shape):
    """POST …/preview: all optional; the form's first locale, a made-up patient and made-up inputs by default."""

    locale: Locale | None = None
    patient_id: FhirId | None = None
    encounter_id: FhirId | None = None
    inputs: dict[str, Any] | None = None
    format: Literal["pdf", "png"] | None = None
    page: Annotated[int, Field(ge=1, le=1000)] = 1


class AcceptTranslation(Shape):
    """POST …/accept-translation: the locale whose unreviewed words the tenant answers for."""

    locale: Locale


class BrandingEdit(Shape):
    """PUT /v1/tenant/branding: everything but the logo; what is absent or null goes back to its default."""

    name: str | None = None
    address: list[str] = Field(default_factory=list)
    phone: str | None = None
    footer: str | None = None
    accent: str | None = None


class ForkRequest(Shape):
    """POST …/fork: the copy's name, when it is not the form's own."""

    name: Name | None = None


class PinRequest(Shape):
    """PUT …/pin: the version of the platform form that the tenant stays with."""

    version_id: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_plain_text)]


class ReasonRequest(Shape):
    """An action that needs a reason."""

    reason: Reason


def _ed25519_key(value: Any) -> bytes:
    try:
        raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (TypeError, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError("Send the 32 bytes of an Ed25519 public key in base64url.")
    return raw


class DeviceEnrolment(Shape):
    """POST /v1/devices; the service makes an id when the device has none."""

    device_id: DeviceId | None = None
    name: Name | None = None
    public_key: Annotated[
        bytes,
        BeforeValidator(_ed25519_key),
        WithJsonSchema({"type": "string", "description": "Raw Ed25519 public key, base64url.", "maxLength": 44}),
    ]


class OptionalReasonRequest(Shape):
    """An action that may say why."""

    reason: Reason | None = None


class SupersedeRequest(Shape):
    """POST /v1/documents/{id}/supersede."""

    by_document_id: DocumentId
    reason: Reason


class ProblemBody(BaseModel):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    requestId: str
    errors: list[dict[str, str]] | None = None


class JobError(Shape):
    """Why a job failed."""

    code: str
    title: str
    detail: str | None


class AttemptCause(Shape):
    """An attempt that ended without the document: an error's code, WORKER_LOST, SERVICE_LOST or DATA_LARGE."""

    attempt: int
    code: str
    seconds: float


class JobShape(Shape):
    """A render job."""

    id: str
    client_mutation_id: str
    status: Literal["queued", "running", "completed", "failed"]
    template_version_id: str
    patient_id: str
    encounter_id: str | None
    locale: str
    requested_at: Instant
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    attempts: int
    attempt_causes: list[AttemptCause]
    document_id: str | None
    purged_at: Instant | None = None
    error: JobError | None


class TemplateShape(Shape):
    """A template."""

    id: str
    name: str
    category: str
    status: Literal["draft", "published", "retired"]
    origin: Literal["platform", "tenant"]
    platform_form_key: str | None
    forked_from_platform_form_key: str | None
    facility_id: str | None
    current_version_id: str | None
    pinned_version_id: str | None
    current_version_withdrawn: bool
    created_at: Instant
    updated_at: Instant


class DocumentShape(Shape):
    """A document's metadata."""

    id: str
    number: str
    kind: Literal["generated", "uploaded"]
    status: Literal["current", "superseded", "entered-in-error"]
    category: str
    title: str
    patient_id: str
    encounter_id: str | None
    facility_id: str | None
    content_type: str
    size: int
    sha256: str
    original_sha256: str | None
    pages: int | None
    template_version_id: str | None
    render_job_id: str | None
    requested_at: Instant | None
    rendered_at: Instant | None
    data_as_of: Instant | None
    supersedes: str | None
    superseded_by: str | None
    withdrawn_at: Instant | None = None
    purged_at: Instant | None = None


def _optional(value: datetime | None) -> str | None:
    return None if value is None else instant(value)


def job(job: Job) -> dict[str, Any]:
    """A job as the wire shows it; a tombstone has no document any more."""
    body: dict[str, Any] = {
        "id": job.id,
        "clientMutationId": job.client_mutation_id,
        "status": job.status,
        "templateVersionId": job.template_version_id,
        "patientId": job.patient_id,
        "encounterId": job.encounter_id,
        "locale": job.locale,
        "requestedAt": instant(job.requested_at),
        "createdAt": instant(job.created_at),
        "startedAt": _optional(job.started_at),
        "finishedAt": _optional(job.finished_at),
        "attempts": job.attempts,
        "attemptCauses": job.attempt_causes,
        "documentId": None if job.purged_at else job.document_id,
        "error": None
        if job.error_code is None
        else {"code": job.error_code, "title": job.error_title, "detail": job.error_detail},
    }
    if job.purged_at is not None:
        body["purgedAt"] = instant(job.purged_at)
    return body


def template(template: Template) -> dict[str, Any]:
    """A template as the wire shows it."""
    return {
        "id": template.id,
        "name": template.name,
        "category": template.category,
        "status": template.status,
        "origin": template.origin,
        "platformFormKey": template.platform_form_key,
        "forkedFromPlatformFormKey": template.forked_from_platform_form_key,
        "facilityId": template.facility_id,
        "currentVersionId": template.current_version_id,
        "pinnedVersionId": template.pinned_version_id,
        "currentVersionWithdrawn": template.current_version_withdrawn,
        "createdAt": instant(template.created_at),
        "updatedAt": instant(template.updated_at),
    }


def catalogue_entry(shown: Template, unreviewed: tuple[str, ...]) -> dict[str, Any]:
    """A template as the catalogue lists it, with the locales of a platform form whose words nobody has reviewed."""
    return {**template(shown), "unreviewedLocales": list(unreviewed)}


def version(version: Version, definition: Any, sealer: Sealer) -> dict[str, Any]:
    """A version as the wire shows it; ``definition`` is the parsed text."""
    withdrawn = None
    if version.withdrawn_at is not None:
        withdrawn = {"reason": templates.withdrawn_reason(version, sealer) or "", "at": instant(version.withdrawn_at)}
    return {
        "id": version.id,
        "templateId": version.template_id,
        "semver": version.semver,
        "definition": definition,
        "checksum": version.checksum,
        "effectiveFrom": _optional(version.effective_from),
        "effectiveTo": _optional(version.effective_to),
        "publishedAt": instant(version.published_at),
        "withdrawn": withdrawn,
    }


def template_answer(shown: Template, status: int = 200, **more: Any) -> Response:
    """A template as an answer, with the entity tag of this state of it."""
    return JSONResponse({**template(shown), **more}, status, {"ETag": shown.etag})


def detailed_version(shown: Version, answered: frozenset[tuple[str, str]], sealer: Sealer) -> dict[str, Any]:
    """A version with who reviewed each locale, and which unreviewed ones the tenant has answered for."""
    definition = json.loads(shown.definition)
    told = definition.get("translations") or {}
    unreviewed = definitions.unreviewed(definition)
    states = [
        {
            "locale": locale,
            "reviewed": locale not in unreviewed,
            "reviewedBy": (told.get(locale) or {}).get("reviewedBy"),
            "accepted": (locale, definitions.words_digest(definition, locale)) in answered,
        }
        for locale in definition["locales"]
    ]
    return {**version(shown, definition, sealer), "translations": states}


def origin(origin: Origin) -> dict[str, Any]:
    """Where a fork came from and how it differs, as the wire shows it."""
    return {
        "templateId": origin.form.id,
        "platformFormKey": origin.form.platform_form_key,
        "forkedFrom": {"versionId": origin.forked.id, "semver": origin.forked.semver},
        "newest": {"versionId": origin.newest.id, "semver": origin.newest.semver},
        "upToDate": origin.up_to_date,
        "differences": [
            {"pointer": one.pointer, "kind": one.kind, "by": one.by, "fork": one.fork, "platform": one.platform}
            for one in origin.differences
        ],
    }


def document(document: Document) -> dict[str, Any]:
    """A document as the wire shows it; one that was taken back or purged says since when."""
    body: dict[str, Any] = {
        "id": document.id,
        "number": document.number,
        "kind": document.kind,
        "status": document.status,
        "category": document.category,
        "title": document.title,
        "patientId": document.patient_id,
        "encounterId": document.encounter_id,
        "facilityId": document.facility_id,
        "contentType": document.content_type,
        "size": document.size,
        "sha256": document.sha256,
        "originalSha256": document.original_sha256,
        "pages": document.pages,
        "templateVersionId": document.template_version_id,
        "renderJobId": document.render_job_id,
        "requestedAt": _optional(document.requested_at),
        "renderedAt": _optional(document.rendered_at),
        "dataAsOf": _optional(document.data_as_of),
        "supersedes": document.supersedes,
        "supersededBy": document.superseded_by,
    }
    if document.withdrawn_at is not None:
        body["withdrawnAt"] = instant(document.withdrawn_at)
    if document.purged_at is not None:
        body["purgedAt"] = instant(document.purged_at)
    return body


_ETAGS = re.compile(r'\*|(?:W/)?"[^"]*"')


def etag_matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names this entity (weak comparison, RFC 9110 §13.1.2)."""
    if not header:
        return False
    names = _ETAGS.findall(header)
    return "*" in names or any(name.removeprefix("W/") == etag for name in names)


def preferred(accept: str | None, offered: tuple[str, ...]) -> str | None:
    """The media type of ``offered`` that an Accept header wants most, the first of equals; None when it names none."""
    best: tuple[float, str] | None = None
    for part in (accept or "").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        weight = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 0.0
        if name in offered and weight > 0 and (best is None or weight > best[0]):
            best = (weight, name)
    return best and best[1]


def list_etag(state: str, caller: Caller, *parts: object) -> str:
    """The entity tag of a list: what it is made of, for whom, and which page."""
    facilities = None if caller.facilities is None else sorted(caller.facilities)
    text = repr((state, caller.tenant, facilities, parts))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
