"""Every refusal and failure that the service can answer, in one tree.

    ServiceError
    ├── InvalidRequest            400 and 422: the caller can mend the request
    ├── NotAuthenticated          401
    ├── Forbidden                 403
    ├── NotFound                  404
    ├── Conflict                  409, 410 and 412: the state of a record forbids it
    ├── TooLarge                  413
    ├── RenderFailed              a job's own error: bad data, never retried
    └── Unavailable               503 and 504: may pass, retried with backoff

Each class carries the stable ``code`` of the wire, the HTTP ``status``, a ``title`` that a person can act on and
``retryable``: whether a render job that met it is tried again. Neither title nor detail ever holds patient data;
they name fields, bindings and ids only (contract §2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of a problem document's ``errors`` list: where (JSON pointer), which rule, and the remedy."""

    pointer: str
    code: str
    title: str


class ServiceError(Exception):
    """The root of everything that the service answers as ``application/problem+json`` (RFC 9457)."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The service met an error of its own; the request id leads to its log entry."
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: tuple[Problem, ...] = (),
        headers: dict[str, str] | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        """Keep ``detail`` (never patient data), field ``errors``, response ``headers`` and ``extra`` members."""
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.extra = extra or {}


# --- The caller's request -------------------------------------------------------------------------------------


class InvalidRequest(ServiceError):
    code = "INVALID_REQUEST"
    status = 400
    title = "The request does not have the shape that this route takes; see errors for each field."


class MalformedJson(InvalidRequest):
    code = "MALFORMED_JSON"
    title = "The body is not valid JSON; send UTF-8 JSON as application/json."


class IdempotencyKeyMismatch(InvalidRequest):
    code = "IDEMPOTENCY_KEY_MISMATCH"
    title = "clientMutationId and its headers differ; send one id, or the same id in each place."


class IdempotencyKeyRequired(InvalidRequest):
    code = "IDEMPOTENCY_KEY_REQUIRED"
    title = "This route needs an Idempotency-Key header; send a UUID made once per user action."


class InvalidCursor(InvalidRequest):
    code = "INVALID_CURSOR"
    title = "The cursor is not one that this service gave; start without a cursor."


class DefinitionInvalid(InvalidRequest):
    code = "DEFINITION_INVALID"
    status = 422
    title = "The definition has problems; errors lists each with its JSON pointer and remedy."


class LogoRefused(InvalidRequest):
    code = "LOGO_REFUSED"
    status = 422
    title = "The logo is not taken; send a PNG or JPEG of at most 256 KB."


class InputsInvalid(InvalidRequest):
    code = "INPUTS_INVALID"
    status = 422
    title = "The inputs do not follow the template's schema; see errors for each field."


class IdempotencyKeyReused(InvalidRequest):
    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422
    title = "This Idempotency-Key was already used for another action; make a new one per action."


class LocaleUnsupported(InvalidRequest):
    code = "LOCALE_UNSUPPORTED"
    status = 422
    title = "The template version has no labels for this locale; choose one of its locales."


class ClientMutationIdReused(InvalidRequest):
    code = "CLIENT_MUTATION_ID_REUSED"
    status = 422
    title = "This clientMutationId was already used for a request with other content; make a new id per action."


# --- The caller -----------------------------------------------------------------------------------------------


class NotAuthenticated(ServiceError):
    code = "NOT_AUTHENTICATED"
    status = 401
    title = "Sign in: the request needs a valid bearer token."


class TokenExpired(NotAuthenticated):
    code = "TOKEN_EXPIRED"
    title = "The token has expired; sign in again."


class Forbidden(ServiceError):
    code = "FORBIDDEN"
    status = 403
    title = "Your roles do not allow this; ask your tenant's administrator."


class PlatformTemplateImmutable(Forbidden):
    code = "PLATFORM_TEMPLATE_IMMUTABLE"
    title = "Platform forms cannot be changed; fork the form and edit the copy."


class SignatureInvalid(Forbidden):
    code = "SIGNATURE_INVALID"
    title = "The download link is not valid; ask for a new one."


class SignatureExpired(Forbidden):
    code = "SIGNATURE_EXPIRED"
    title = "The download link has expired; ask for a new one."


class DeviceRevoked(Forbidden):
    code = "DEVICE_REVOKED"
    title = "This device was revoked: its copies are removed; an administrator enrols a new installation."


class NotFound(ServiceError):
    code = "NOT_FOUND"
    status = 404
    title = "There is nothing with this id that you may see."


# --- The state of a record ------------------------------------------------------------------------------------


class Conflict(ServiceError):
    code = "CONFLICT"
    status = 409
    title = "The current state of the record does not allow this."


class TemplateStateConflict(Conflict):
    code = "TEMPLATE_STATE_CONFLICT"
    title = "The template's state does not allow this; read the template and choose an action that it does."


class TemplateNameConflict(Conflict):
    code = "TEMPLATE_NAME_CONFLICT"
    title = "Another template of this category has this name; choose another name."


class Cancelled(Conflict):
    code = "CANCELLED"
    title = "The bulk request was cancelled before this document was begun; retry it if it is wanted."


class TemplateVersionRetired(Conflict):
    code = "TEMPLATE_VERSION_RETIRED"
    title = "The template was retired or this version withdrawn; request the current version instead."


class TemplateVersionNotEffective(Conflict):
    code = "TEMPLATE_VERSION_NOT_EFFECTIVE"
    title = "This version is outside its effective dates; request a version in effect."


class TranslationNotAccepted(Conflict):
    code = "TRANSLATION_NOT_ACCEPTED"
    title = "Nobody has reviewed this translation; a tenant administrator accepts it first, or choose another locale."


class ExpiredByRequester(Conflict):
    code = "EXPIRED_BY_REQUESTER"
    title = "The request's notAfter has passed; nothing is rendered. Make a new request if it is still wanted."


class ClientMutationIdConflict(Conflict):
    code = "CLIENT_MUTATION_ID_CONFLICT"
    title = "This clientMutationId cannot be used; make a new one."


class JobStateConflict(Conflict):
    code = "JOB_STATE_CONFLICT"
    title = "Only a failed job can be retried."


class MutationWindowPassed(Conflict):
    code = "MUTATION_WINDOW_PASSED"
    status = 410
    title = "The request is older than the deduplication window; look for its document before asking again."


class DocumentWithdrawn(Conflict):
    code = "DOCUMENT_WITHDRAWN"
    status = 410
    title = "The document was withdrawn and is no longer served; read its metadata for the reason."


class DocumentStateConflict(Conflict):
    code = "DOCUMENT_STATE_CONFLICT"
    title = "The document was withdrawn already; read it and its replacement."


class HoldConflict(Conflict):
    code = "HOLD_CONFLICT"
    title = "A legal hold does not allow this, or cannot be placed; `document-service hold list` shows what is held."


class DocumentPatientDiffers(Conflict):
    code = "DOCUMENT_PATIENT_DIFFERS"
    title = "The two documents are of different patients; choose a replacement of the same patient."


class DeviceKeyDiffers(Conflict):
    code = "DEVICE_KEY_DIFFERS"
    title = "A device with this id is enrolled with another key; make a new installation."


class FeedReset(Conflict):
    code = "FEED_RESET"
    status = 410
    title = "The change feed starts anew for you; read it again from an empty cursor."


class UploadOffsetConflict(Conflict):
    code = "UPLOAD_OFFSET_CONFLICT"
    title = "The piece does not begin where the upload ends; go on at the Upload-Offset of this answer."


class UploadIncomplete(Conflict):
    code = "UPLOAD_INCOMPLETE"
    title = "Bytes are missing; send the rest from Upload-Offset, then finalize."


class UploadStateConflict(Conflict):
    code = "UPLOAD_STATE_CONFLICT"
    title = "The upload's state does not allow this; read the upload."


class UploadQuotaExceeded(Conflict):
    code = "UPLOAD_QUOTA_EXCEEDED"
    title = "Too many bytes are on the way already; wait until earlier uploads are finished."


class PreconditionFailed(Conflict):
    code = "PRECONDITION_FAILED"
    status = 412
    title = "The record changed since you read it; read it again and repeat the edit."


class MethodNotAllowed(InvalidRequest):
    code = "METHOD_NOT_ALLOWED"
    status = 405
    title = "This route does not take this method; see /docs."


class RangeNotSatisfiable(InvalidRequest):
    code = "RANGE_NOT_SATISFIABLE"
    status = 416
    title = "The document has no such bytes; Content-Range says how many it has. Ask for the whole of it."


class PreconditionRequired(InvalidRequest):
    code = "PRECONDITION_REQUIRED"
    status = 428
    title = "Edits need an If-Match header with the ETag that you read."


class TooLarge(ServiceError):
    code = "TOO_LARGE"
    status = 413
    title = "The body is larger than this route takes."


class TooManyRequests(ServiceError):
    code = "TOO_MANY_REQUESTS"
    status = 429
    title = "Too many requests; wait for Retry-After."


class UnsupportedMediaType(InvalidRequest):
    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
    title = "This route takes another content type; see /docs."


class ChecksumMismatch(InvalidRequest):
    code = "CHECKSUM_MISMATCH"
    status = 422
    title = "The bytes differ from their checksum; send them again."


class FileTypeRefused(InvalidRequest):
    code = "FILE_TYPE_MISMATCH"
    status = 422
    title = "Uploads are PDF, JPEG, PNG or TIFF, with the extension and content type of what they are."


class FileTooLarge(TooLarge):
    code = "FILE_TOO_LARGE"
    title = "An upload may have 25 MB; scan the paper with a lower resolution."


# --- A render job's own failure: data that will not mend itself by trying again -----------------------------------


class RenderFailed(ServiceError):
    code = "RENDER_FAILED"
    status = 422
    title = "The document could not be rendered."


class BindingRequired(RenderFailed):
    code = "BINDING_REQUIRED"
    title = "A required value is missing in the patient's record; complete the record and retry."


class BindingFailed(RenderFailed):
    code = "BINDING_FAILED"
    title = "A binding of the template could not be evaluated on this record."


class DataIncomplete(RenderFailed):
    code = "DATA_INCOMPLETE"
    title = "The FHIR server's answer was incomplete; nothing is printed from part of a record."


class PatientUnknown(RenderFailed):
    code = "PATIENT_UNKNOWN"
    title = "The FHIR server does not know this patient; check the patient id."


class PatientInactive(RenderFailed):
    code = "PATIENT_INACTIVE"
    title = "The patient's record is inactive or merged into another; choose the record in use."


class ResourceUnknown(RenderFailed):
    code = "RESOURCE_UNKNOWN"
    title = "The FHIR server does not know a resource that the form needs; check the ids of the request."


class WrongPatient(RenderFailed):
    code = "WRONG_PATIENT"
    title = "The FHIR server answered with a resource of another patient; nothing is printed."


class PatientMismatch(RenderFailed):
    code = "PATIENT_MISMATCH"
    title = "The birth date or identifier differs from the patient's record; check that it is the right patient."


class ModifierUnknown(RenderFailed):
    code = "MODIFIER_UNKNOWN"
    title = "The record carries a modifier that this form does not know and that may change its meaning."


class FhirRefused(RenderFailed):
    code = "FHIR_REFUSED"
    title = "The FHIR server refused the read; the tenant's administrator checks its token and scopes."


class FhirNotConfigured(RenderFailed):
    code = "FHIR_NOT_CONFIGURED"
    title = "This organisation has no FHIR server yet; the operator gives its address with `tenant create --fhir-url`."


class FhirInvalid(RenderFailed):
    code = "FHIR_INVALID"
    title = "The FHIR server's answer is not FHIR R4 JSON; the tenant's administrator checks its address."


class GlyphMissing(RenderFailed):
    code = "GLYPH_MISSING"
    title = "A character has no glyph in the document fonts; it would print as an empty box."


class RenderTimeout(RenderFailed):
    code = "RENDER_TIMEOUT"
    title = "Typesetting took longer than its limit."


class RenderMemory(RenderFailed):
    code = "RENDER_MEMORY"
    title = "Typesetting needed more memory than its limit."


class WorkersLost(RenderFailed):
    code = "WORKERS_LOST"
    title = "Every worker that began this document ended in the middle of it; tell the operator, then retry."


class RenderTooLarge(RenderFailed):
    code = "RENDER_TOO_LARGE"
    title = "The document or its data is larger than the limits of a render."


# --- What may pass --------------------------------------------------------------------------------------------


class Unavailable(ServiceError):
    code = "UNAVAILABLE"
    status = 503
    title = "A part of the service is not available; try again later."
    retryable = True


class DatabaseUnavailable(Unavailable):
    code = "DATABASE_UNAVAILABLE"
    title = "The database is not available; try again later."


class DatabaseFolderHeld(DatabaseUnavailable):
    code = "DATABASE_FOLDER_HELD"
    title = "Another process runs the database of this data folder; stop it or choose another folder."


class DatabaseStartFailed(DatabaseUnavailable):
    code = "DATABASE_START_FAILED"
    title = "The embedded PostgreSQL could not be started; the detail says why, or set DATABASE_URL."


class StoreUnavailable(Unavailable):
    code = "STORE_UNAVAILABLE"
    title = "The document store is not available; try again later."


class FhirUnavailable(Unavailable):
    code = "FHIR_UNAVAILABLE"
    title = "The FHIR server is not available or too slow; try again later."


class IssuerUnavailable(Unavailable):
    code = "ISSUER_UNAVAILABLE"
    title = "The sign-in service does not answer, so the token could not be checked; try again later."


class GenerateTimeout(Unavailable):
    code = "GENERATE_TIMEOUT"
    status = 504
    title = "The document is not ready yet; it is made all the same. Repeat the request, or look at renderJobId."


class ScannerUnavailable(Unavailable):
    code = "SCANNER_UNAVAILABLE"
    title = "Files cannot be examined for malware now, so none is taken; try again later."


class ScannerAnswerInvalid(ScannerUnavailable):
    code = "SCANNER_ANSWER_INVALID"
    title = "The malware scanner answers in words that mean nothing, so no file is taken; tell your IT support."


class TypesettingBusy(Unavailable):
    code = "TYPESETTING_BUSY"
    title = "All typesetting processes are busy; try again shortly."


class TypesettingCrashed(Unavailable):
    code = "TYPESETTING_CRASHED"
    title = "A typesetting process ended unexpectedly; the job is tried again."


class ConversionFailed(ServiceError):
    code = "CONVERSION_FAILED"
    status = 422
    title = "The image could not be made a PDF; scan the paper again as a PDF."


class ObjectCorrupt(ServiceError):
    code = "OBJECT_CORRUPT"
    status = 500
    title = "The stored object failed its integrity check and is not served; the operator has been told."


class TenantKeyMissing(ServiceError):
    code = "TENANT_KEY_MISSING"
    status = 503
    title = "The tenant's key is not available; its documents cannot be opened."


class TenantShredded(Conflict):
    code = "TENANT_SHREDDED"
    title = "The tenant's key was destroyed on purpose; the id is never used again."


class KeyStoreUnusable(ServiceError):
    code = "KEY_STORE_UNUSABLE"
    status = 503
    title = "The key folder cannot be used; run document-service doctor on the server."


class BackupRefused(ServiceError):
    code = "BACKUP_REFUSED"
    title = "The backup or restore was refused, and nothing was changed."


class NotRenderedHere(ServiceError):
    code = "NOT_RENDERED_HERE"
    title = "The document cannot be rendered again; `document-service store verify` checks its bytes."


class ObjectExists(Conflict):
    code = "OBJECT_EXISTS"
    title = "An object of this name is already stored; objects are never overwritten."


class ObjectNotFound(ServiceError):
    code = "OBJECT_NOT_FOUND"
    status = 500
    title = "The stored object of this record is missing; the operator runs document-service store verify."


def error_of_code(code: str) -> type[ServiceError]:
    """The class of a stable code; of several that share one, the first of the tree."""
    pending: list[type[ServiceError]] = [ServiceError]
    while pending:
        candidate = pending.pop(0)
        if candidate.code == code:
            return candidate
        pending.extend(candidate.__subclasses__())
    return ServiceError
