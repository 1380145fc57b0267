"""What answers hold besides single records: pages, versions, links, and the sums of a device's requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from document_service.api.shapes import DocumentShape, Instant, JobShape, ProblemBody, Shape, TemplateShape


class FieldProblem(Shape):
    """One fault in what was sent: where (JSON pointer), which rule, and the remedy."""

    pointer: str
    code: str
    title: str


class Withdrawal(Shape):
    """Why and when a version was taken out of use."""

    reason: str | None
    at: Instant


class Translation(Shape):
    """Who reviewed the words of a locale; ``accepted``: the tenant answers for words that nobody reviewed."""

    locale: str
    reviewed: bool
    reviewed_by: str | None
    accepted: bool


class VersionShape(Shape):
    """One frozen version of a template; caller-supplied values are described by ``definition.inputs``."""

    id: str
    template_id: str
    semver: str
    definition: dict[str, Any]
    checksum: str
    effective_from: Instant | None
    effective_to: Instant | None
    published_at: Instant
    withdrawn: Withdrawal | None


class DetailedVersion(VersionShape):
    """A version as its template shows it, with the state of its translations."""

    translations: list[Translation]


class PreviewShape(Shape):
    """Everything found in a form, and its page (base64) unless something kept it from being printed.

    ``problems`` would refuse a publish; ``warnings`` would not.
    """

    locale: str | None
    problems: list[FieldProblem]
    warnings: list[FieldProblem]
    pages: int
    content_type: str | None
    content: str | None


class LogoShape(Shape):
    """The tenant's logo; its bytes are at ``/v1/tenant/branding/logo``."""

    sha256: str
    content_type: str
    width: int
    height: int


class BrandingShape(Shape):
    """What the tenant puts on every page."""

    name: str
    address: list[str]
    phone: str | None
    footer: str | None
    accent: str
    logo: LogoShape | None
    updated_at: Instant | None


class NamedVersion(VersionShape):
    """A version with its template's name and category."""

    name: str
    category: str


class TemplateDetail(TemplateShape):
    """A template with its versions, newest first, and its draft."""

    versions: list[DetailedVersion]
    draft: Any = None


class NumberedVersion(Shape):
    """A version by its id and number."""

    version_id: str
    semver: str


class OriginDifference(Shape):
    """One difference of a fork: what it and the newest platform version say there, and who made the difference."""

    pointer: str
    kind: Literal["missing", "additional", "different"]
    by: Literal["platform", "tenant", "both"]
    fork: Any
    platform: Any


class OriginShape(Shape):
    """Where a fork came from; ``upToDate`` when everything that the platform changed since is in it."""

    template_id: str
    platform_form_key: str
    forked_from: NumberedVersion
    newest: NumberedVersion
    up_to_date: bool
    differences: list[OriginDifference]


class SavedDraft(TemplateShape):
    """A template whose draft was saved, and everything that keeps the draft from being published."""

    problems: list[FieldProblem]


class CatalogueEntry(TemplateShape):
    """A template in the catalogue; ``unreviewedLocales`` are those of a platform form whose words nobody reviewed."""

    unreviewed_locales: list[str]


class TemplatePage(Shape):
    """A page of the catalogue."""

    items: list[CatalogueEntry]
    next_cursor: str | None


class JobPage(Shape):
    """A page of render jobs."""

    items: list[JobShape]
    next_cursor: str | None


class DocumentPage(Shape):
    """A page of documents."""

    items: list[DocumentShape]
    next_cursor: str | None


class SignedUrl(Shape):
    """A short-lived address of a document's bytes; relative when the service does not know its own address."""

    url: str
    expires_at: Instant


class LookupEntry(Shape):
    """Whether the service knows a clientMutationId."""

    client_mutation_id: UUID
    known: bool
    job: JobShape | None = None


class LookupAnswer(Shape):
    """One entry for each id that was asked for."""

    items: list[LookupEntry]


class BatchEntry(Shape):
    """The answer of one request of a batch: its status, and the job or the problem."""

    client_mutation_id: Any = None
    status: int
    job: JobShape | None = None
    problem: ProblemBody | None = None


class BatchAnswer(Shape):
    """One entry for each request, in their order."""

    items: list[BatchEntry]


class Revocation(Shape):
    """A document that devices must not show any more."""

    document_id: str
    reason: str


class PrefetchRule(Shape):
    """Which documents of its feed a device fetches beforehand: of these categories (none: all), so many days old."""

    categories: list[str]
    days: int
    max_bytes: int


class RecoveryKey(Shape):
    """The tenant's X25519 key (base64url) for which devices wrap the key of their queue."""

    kid: str
    public_key: str


class CachePolicy(Shape):
    """How long and how much a device may keep; signed by the service (contract §4)."""

    version: int
    cache_ttl_seconds: int
    lease_seconds: int
    dedup_window_days: int
    quota_bytes: int
    on_expiry: str
    stamp_prints: bool
    prefetch: PrefetchRule | None
    recovery_key: RecoveryKey
    signature: str


class ChangesPage(Shape):
    """What changed for the caller, in commit order; ``revocations`` is complete up to now on every page."""

    cursor: str
    more: bool
    revocations: list[Revocation]
    templates: list[TemplateShape]
    jobs: list[JobShape]
    documents: list[DocumentShape]
    cache_policy: CachePolicy


class DeviceShape(Shape):
    """An installation of the client."""

    id: str
    name: str | None
    user_id: str
    created_at: Instant
    last_seen_at: Instant
    revoked_at: Instant | None
    public_key: str


class DevicePage(Shape):
    """Devices, newest first."""

    items: list[DeviceShape]
    next_cursor: str | None


class Holder(Shape):
    """What one user did with a document on one device; ``copy`` is what became of the sealed copy there."""

    user_id: str | None
    device_id: str | None
    device_name: str | None
    device_last_seen_at: Instant | None
    first_at: Instant
    last_at: Instant
    viewed: int
    linked: int
    downloaded: int
    opened: int
    printed: int
    saved: int
    copy_state: Annotated[Literal["kept", "dropped", "expired", "purged"] | None, Field(alias="copy")]


class HoldersAnswer(Shape):
    """Everybody who had a document in hand."""

    document_id: str
    status: str
    items: list[Holder]


class AuditEntry(Shape):
    """One event of the trail; ``chainSequence`` is null until it was chained, at most two seconds."""

    id: str
    action: str
    outcome: Literal["success", "failure"]
    actor: str
    recorded_at: Instant
    occurred_at: Instant | None
    device_id: str | None
    document_id: str | None
    job_id: str | None
    template_id: str | None
    upload_id: str | None
    patient_id: str | None
    request_id: str | None
    chain_sequence: int | None
    detail: dict[str, Any]


class AuditBundle(BaseModel):
    """A page of the trail with ``format=fhir``: a FHIR R4 searchset of AuditEvent resources."""

    resourceType: Literal["Bundle"]
    type: Literal["searchset"]
    link: list[dict[str, str]] = []
    entry: list[dict[str, Any]] = []


class ProvenanceResource(BaseModel):
    """A FHIR R4 Provenance: what a document was made from."""

    resourceType: Literal["Provenance"]
    id: str
    target: list[dict[str, Any]]
    entity: list[dict[str, Any]] = []


class AuditPage(Shape):
    """A page of the trail, newest first; with ``format=fhir`` a Bundle of AuditEvent resources instead."""

    items: list[AuditEntry]
    next_cursor: str | None


class DeviceEventOutcome(Shape):
    """What became of one audit event of a device."""

    event_id: str | None
    result: Literal["accepted", "duplicate", "refused"]
    reason: str | None = None
    flags: list[str] = Field(default_factory=list)


class DeviceEventsAnswer(Shape):
    """One entry for each event, in their order."""

    items: list[DeviceEventOutcome]


class UploadReason(Shape):
    """Why an upload was not accepted."""

    code: str
    title: str | None


class UploadShape(Shape):
    """An upload on its way: its state, and how many bytes have arrived."""

    id: str
    status: Literal["receiving", "scanning", "accepted", "quarantined", "failed"]
    offset: int
    size: int
    patient_id: str
    encounter_id: str | None
    created_at: Instant
    updated_at: Instant
    document_id: str | None = None
    reason: UploadReason | None = None


class UploadPage(Shape):
    """A page of uploads."""

    items: list[UploadShape]
    next_cursor: str | None


class Liveness(Shape):
    """The process answers."""

    status: Literal["live"]


class Readiness(Shape):
    """Whether the service can serve, and the state of each part."""

    status: Literal["ready", "not ready"]
    components: dict[str, str]


class PolicyKey(Shape):
    """A public key that signs cache policies: Ed25519, raw, base 64 for URLs."""

    kid: str
    public_key: str


class ServiceDescription(Shape):
    """What a client needs to know before it signs in."""

    service: Literal["document-service"]
    version: str
    issuer: str | None
    policy_keys: list[PolicyKey]
    time: Instant


class BulkAnswer(Shape):
    """POST /v1/documents/render-jobs/bulk: each item on its own."""

    id: str
    items: list[BatchEntry]


class BulkProgress(Shape):
    """How many jobs of a bulk request are in each state."""

    queued: int
    running: int
    completed: int
    failed: int


class BulkShape(Shape):
    """A bulk request and how far it has come."""

    id: str
    template_version_id: str
    items: int
    created_at: Instant
    cancelled_at: Instant | None
    progress: BulkProgress


class Verification(Shape):
    """What the public page says of a printed document, for programs."""

    status: Literal["genuine", "superseded", "withdrawn"]
    number: str
    issued_at: Instant | None
    issuer: str
