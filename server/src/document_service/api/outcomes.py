"""What each route answers and refuses: one table, for the OpenAPI document, for docs/http-api.md and for the tests.

A route that is not in the table, and a code that an answer carries without standing here, fail the tests.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from document_service import errors, provenance
from document_service.api import answers, shapes, sign_in
from document_service.api.callers import RoleCheck, any_caller
from document_service.api.problems import MEDIA_TYPE
from document_service.errors import ServiceError

_JSON = "application/json"
_PDF = "application/pdf"

#: Answers that can be had in another form too: its media type and shape.
_OTHER_FORMS: dict[type[BaseModel], tuple[str, type[BaseModel]]] = {
    answers.AuditPage: ("application/fhir+json", answers.AuditBundle)
}

#: Answers that have no form of ours: the media type of the one that they have.
_OWN_FORMS: dict[type[BaseModel], str] = {answers.ProvenanceResource: provenance.MEDIA_TYPE}

#: The same resource as before; only its entity tag is answered.
_NOT_MODIFIED = {304: ""}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers by status: a shape, a media type, or nothing; and the refusals that are this route's own."""

    answers: dict[int, type[BaseModel] | str]
    refuses: tuple[type[ServiceError], ...] = ()


_RENDER_REQUEST = (
    errors.NotFound,
    errors.IdempotencyKeyMismatch,
    errors.ClientMutationIdReused,
    errors.ClientMutationIdConflict,
    errors.TemplateVersionRetired,
    errors.TemplateVersionNotEffective,
    errors.LocaleUnsupported,
    errors.InputsInvalid,
    errors.TranslationNotAccepted,
)
_EDIT = (errors.PreconditionFailed, errors.PlatformTemplateImmutable, errors.TemplateStateConflict)
_STORE = (errors.StoreUnavailable, errors.ObjectCorrupt, errors.ObjectNotFound)
# An address that is no document's is asked for a token like any other.
_CONTENT = (
    errors.NotAuthenticated,
    errors.SignatureInvalid,
    errors.SignatureExpired,
    errors.DocumentWithdrawn,
    *_STORE,
)

_GUARDED = (errors.PreconditionFailed, errors.PreconditionRequired)

_BRANDING = "/v1/tenant/branding"
_TEMPLATES, _JOBS, _UPLOADS = "/v1/document-templates", "/v1/documents/render-jobs", "/v1/documents/uploads"

OUTCOMES: dict[tuple[str, str], Outcome] = {
    ("GET", "/health/live"): Outcome({200: answers.Liveness}),
    ("GET", "/health/ready"): Outcome({200: answers.Readiness, 503: answers.Readiness}),
    ("GET", "/metrics"): Outcome({200: "text/plain"}),
    ("GET", "/.well-known/document-service"): Outcome({200: answers.ServiceDescription}),
    ("GET", "/.well-known/oauth-protected-resource"): Outcome({200: sign_in.ProtectedResource}),
    ("GET", _TEMPLATES): Outcome({200: answers.TemplatePage, **_NOT_MODIFIED}, (errors.InvalidCursor,)),
    ("POST", _TEMPLATES): Outcome({201: shapes.TemplateShape}, (errors.TemplateNameConflict,)),
    ("GET", _TEMPLATES + "/{template_id}"): Outcome({200: answers.TemplateDetail, **_NOT_MODIFIED}),
    ("PATCH", _TEMPLATES + "/{template_id}"): Outcome(
        {200: shapes.TemplateShape}, (*_EDIT, errors.PreconditionRequired, errors.TemplateNameConflict)
    ),
    ("PUT", _TEMPLATES + "/{template_id}/draft"): Outcome(
        {200: answers.SavedDraft}, (*_EDIT, errors.PreconditionRequired)
    ),
    ("POST", _TEMPLATES + "/{template_id}/publish"): Outcome(
        {201: answers.VersionShape, 200: answers.VersionShape},
        (
            *_EDIT,
            errors.IdempotencyKeyRequired,
            errors.IdempotencyKeyReused,
            errors.DefinitionInvalid,
            errors.TypesettingBusy,
        ),
    ),
    ("POST", _TEMPLATES + "/{template_id}/preview"): Outcome(
        {200: answers.PreviewShape},
        (
            errors.TemplateStateConflict,
            errors.DefinitionInvalid,
            errors.LocaleUnsupported,
            errors.TypesettingBusy,
            errors.FhirUnavailable,
            errors.RenderFailed,
        ),
    ),
    ("POST", _TEMPLATES + "/{template_id}/accept-translation"): Outcome(
        {200: answers.DetailedVersion}, (errors.TemplateStateConflict, errors.LocaleUnsupported)
    ),
    ("POST", _TEMPLATES + "/{template_id}/fork"): Outcome(
        {201: shapes.TemplateShape}, (errors.TemplateStateConflict, errors.TemplateNameConflict)
    ),
    ("GET", _TEMPLATES + "/{template_id}/origin"): Outcome({200: answers.OriginShape}, (errors.TemplateStateConflict,)),
    ("PUT", _TEMPLATES + "/{template_id}/pin"): Outcome({200: shapes.TemplateShape}, (errors.TemplateStateConflict,)),
    ("DELETE", _TEMPLATES + "/{template_id}/pin"): Outcome(
        {200: shapes.TemplateShape}, (errors.TemplateStateConflict,)
    ),
    ("POST", _TEMPLATES + "/{template_id}/retire"): Outcome({200: shapes.TemplateShape}, _EDIT),
    ("GET", _TEMPLATES + "/{template_id}/versions/{version_id}"): Outcome(
        {200: answers.NamedVersion, **_NOT_MODIFIED}, (errors.TemplateStateConflict,)
    ),
    ("POST", _TEMPLATES + "/{template_id}/versions/{version_id}/withdraw"): Outcome({200: answers.VersionShape}, _EDIT),
    ("GET", _BRANDING): Outcome({200: answers.BrandingShape, **_NOT_MODIFIED}),
    ("PUT", _BRANDING): Outcome({200: answers.BrandingShape}, (*_GUARDED, errors.TypesettingBusy)),
    ("GET", _BRANDING + "/logo"): Outcome({200: "image/png", **_NOT_MODIFIED}, (errors.NotFound,)),
    ("PUT", _BRANDING + "/logo"): Outcome(
        {200: answers.BrandingShape},
        (*_GUARDED, errors.LogoRefused, errors.ScannerUnavailable, errors.TypesettingBusy),
    ),
    ("DELETE", _BRANDING + "/logo"): Outcome({200: answers.BrandingShape}, _GUARDED),
    ("GET", "/v1/documents/changes"): Outcome(
        {200: answers.ChangesPage, 204: ""}, (errors.InvalidCursor, errors.FeedReset, errors.NotFound)
    ),
    ("POST", "/v1/documents/audit-events"): Outcome({200: answers.DeviceEventsAnswer}),
    ("POST", "/v1/devices"): Outcome({201: answers.DeviceShape, 200: answers.DeviceShape}, (errors.DeviceKeyDiffers,)),
    ("GET", "/v1/devices"): Outcome({200: answers.DevicePage}, (errors.InvalidCursor,)),
    ("POST", "/v1/devices/{device_id}/revoke"): Outcome({200: answers.DeviceShape}),
    ("POST", _JOBS): Outcome(
        {202: shapes.JobShape, 200: shapes.JobShape},
        (*_RENDER_REQUEST, errors.MutationWindowPassed, errors.ExpiredByRequester),
    ),
    ("GET", _JOBS): Outcome({200: answers.JobPage}, (errors.InvalidCursor,)),
    ("GET", _JOBS + "/{job_id}"): Outcome({200: shapes.JobShape, **_NOT_MODIFIED}),
    ("POST", _JOBS + "/{job_id}/retry"): Outcome(
        {202: shapes.JobShape}, (errors.JobStateConflict, errors.ExpiredByRequester, errors.TemplateVersionRetired)
    ),
    ("POST", _JOBS + "/lookup"): Outcome({200: answers.LookupAnswer}),
    ("POST", _JOBS + "/batch"): Outcome({200: answers.BatchAnswer}),
    ("POST", _JOBS + "/bulk"): Outcome({202: answers.BulkAnswer}),
    ("GET", _JOBS + "/bulk/{bulk_id}"): Outcome({200: answers.BulkShape}),
    ("POST", _JOBS + "/bulk/{bulk_id}/cancel"): Outcome({200: answers.BulkShape}),
    ("GET", "/verify/{code}"): Outcome(
        {200: answers.Verification}, (errors.NotFound, errors.TooManyRequests, errors.DatabaseUnavailable)
    ),
    ("POST", "/v1/documents/generate"): Outcome(
        {201: shapes.DocumentShape, 200: shapes.DocumentShape},
        (
            *_RENDER_REQUEST,
            *_STORE,
            errors.IdempotencyKeyRequired,
            errors.Cancelled,
            errors.RenderFailed,
            errors.DocumentWithdrawn,
            errors.FhirUnavailable,
            errors.TypesettingBusy,
            errors.TypesettingCrashed,
            errors.GenerateTimeout,
        ),
    ),
    ("POST", _UPLOADS): Outcome(
        {201: answers.UploadShape},
        (errors.FileTooLarge, errors.FileTypeRefused, errors.UploadQuotaExceeded, errors.ScannerUnavailable),
    ),
    ("GET", _UPLOADS): Outcome({200: answers.UploadPage}, (errors.InvalidCursor,)),
    ("HEAD", _UPLOADS + "/{upload_id}"): Outcome({200: ""}),
    ("GET", _UPLOADS + "/{upload_id}"): Outcome({200: answers.UploadShape}),
    ("PATCH", _UPLOADS + "/{upload_id}"): Outcome(
        {204: ""},
        (
            errors.UnsupportedMediaType,
            errors.UploadOffsetConflict,
            errors.UploadStateConflict,
            errors.FileTooLarge,
            errors.ChecksumMismatch,
            errors.StoreUnavailable,
        ),
    ),
    ("POST", _UPLOADS + "/{upload_id}/finalize"): Outcome(
        {202: answers.UploadShape},
        (
            errors.UploadIncomplete,
            errors.UploadStateConflict,
            errors.ScannerUnavailable,
        ),
    ),
    ("POST", _UPLOADS + "/{upload_id}/rescan"): Outcome(
        {202: answers.UploadShape}, (errors.UploadStateConflict, errors.ScannerUnavailable)
    ),
    ("POST", _UPLOADS + "/{upload_id}/destroy"): Outcome(
        {200: answers.UploadShape}, (errors.UploadStateConflict, errors.HoldConflict, errors.StoreUnavailable)
    ),
    ("GET", "/v1/documents"): Outcome({200: answers.DocumentPage}, (errors.InvalidCursor,)),
    ("GET", "/v1/documents/{document_id}"): Outcome({200: shapes.DocumentShape, **_NOT_MODIFIED}),
    ("GET", "/v1/documents/{document_id}/provenance"): Outcome({200: answers.ProvenanceResource}),
    ("POST", "/v1/documents/{document_id}/download-url"): Outcome(
        {200: answers.SignedUrl}, (errors.DocumentWithdrawn,)
    ),
    ("POST", "/v1/documents/{document_id}/supersede"): Outcome(
        {200: shapes.DocumentShape},
        (
            errors.IdempotencyKeyRequired,
            errors.IdempotencyKeyReused,
            errors.DocumentStateConflict,
            errors.DocumentPatientDiffers,
        ),
    ),
    ("POST", "/v1/documents/{document_id}/void"): Outcome(
        {200: shapes.DocumentShape},
        (errors.IdempotencyKeyRequired, errors.IdempotencyKeyReused, errors.DocumentStateConflict),
    ),
    ("GET", "/v1/documents/{document_id}/holders"): Outcome({200: answers.HoldersAnswer}),
    ("GET", "/v1/audit-events"): Outcome({200: answers.AuditPage}, (errors.InvalidCursor, errors.ObjectCorrupt)),
    ("GET", "/v1/documents/{document_id}/content"): Outcome(
        {200: _PDF, 206: _PDF, **_NOT_MODIFIED}, (*_CONTENT, errors.RangeNotSatisfiable)
    ),
    ("HEAD", "/v1/documents/{document_id}/content"): Outcome({200: "", **_NOT_MODIFIED}, _CONTENT),
}

#: What every route with a bearer token may answer besides its own refusals.
_BEHIND_A_TOKEN = (
    errors.NotAuthenticated,
    errors.TokenExpired,
    errors.IssuerUnavailable,
    errors.NotFound,
    errors.DeviceRevoked,
    errors.TenantKeyMissing,
    errors.TooManyRequests,
    errors.DatabaseUnavailable,
)


@dataclass(frozen=True, slots=True)
class Described:
    """One route as the documents show it; ``roles`` is None where no token is needed, empty for any signed-in user."""

    method: str
    path: str
    summary: str
    tag: str
    name: str
    roles: tuple[str, ...] | None
    outcome: Outcome | None
    refuses: tuple[type[ServiceError], ...]


def described(routers: Sequence[APIRouter]) -> Iterator[Described]:
    """Every route of the API, in the order in which they are looked up."""
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in sorted(route.methods or ()):
                outcome = OUTCOMES.get((method, route.path))
                roles = _roles_of(route)
                refuses = () if outcome is None else _refusals(route, roles, outcome)
                yield Described(
                    method, route.path, route.summary or "", str(route.tags[0]), route.name, roles, outcome, refuses
                )


def _roles_of(route: APIRoute) -> tuple[str, ...] | None:
    for dependency in route.dependant.dependencies:
        if isinstance(dependency.call, RoleCheck):
            return dependency.call.roles
        if dependency.call is any_caller:
            return ()
    return None


def _refusals(route: APIRoute, roles: tuple[str, ...] | None, outcome: Outcome) -> tuple[type[ServiceError], ...]:
    given: list[type[ServiceError]] = []
    for refusal in outcome.refuses:
        given += _branch(refusal) if refusal is errors.RenderFailed else [refusal]
    if roles is not None:
        given += _BEHIND_A_TOKEN
    if roles:
        given.append(errors.Forbidden)
    if route.path.startswith("/v1/"):
        given += [errors.InvalidRequest, errors.TooLarge]
    if route.path.endswith("/content"):
        given += [errors.NotFound, errors.TenantKeyMissing, errors.DatabaseUnavailable]
    if route.body_field is not None:
        given.append(errors.MalformedJson)
    given.append(ServiceError)
    return tuple(sorted(dict.fromkeys(given), key=lambda refusal: (refusal.status, refusal.code)))


def _branch(root: type[ServiceError]) -> list[type[ServiceError]]:
    return [root, *(found for child in root.__subclasses__() for found in _branch(child))]


def openapi(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    """The OpenAPI document with every answer and refusal of every route."""
    if app.openapi_schema:
        return app.openapi_schema
    with warnings.catch_warnings():
        # GET and HEAD of one function share an operation id until it is set below.
        warnings.filterwarnings("ignore", message="Duplicate Operation ID")
        document = FastAPI.openapi(app)
    models: list[type[BaseModel]] = [shapes.ProblemBody]
    for row in OUTCOMES.values():
        models += [answer for answer in row.answers.values() if not isinstance(answer, str)]
    models += [form for _, form in _OTHER_FORMS.values()]
    models = sorted(dict.fromkeys(models), key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    document["components"]["schemas"].update(definitions["$defs"])
    for route in described(routers):
        if route.outcome is None:
            continue
        operation = document["paths"][route.path][route.method.lower()]
        operation["operationId"] = f"{route.tag}-{route.name}".replace(" ", "-") + (
            "-head" if route.method == "HEAD" else ""
        )
        operation["responses"] = dict(_responses(route, route.outcome))
        if route.roles is not None:
            operation["x-roles"] = list(route.roles)
    # The framework keeps a route's methods in a set, whose order changes from process to process.
    document["paths"] = {path: dict(sorted(operations.items())) for path, operations in document["paths"].items()}
    _prune(document)
    # A route of two methods keeps them in a set, whose order changes from process to process.
    document["paths"] = {path: dict(sorted(operations.items())) for path, operations in document["paths"].items()}
    app.openapi_schema = document
    return document


def _responses(route: Described, outcome: Outcome) -> Iterator[tuple[str, dict[str, Any]]]:
    by_status: dict[int, list[type[ServiceError]]] = {}
    for refusal in route.refuses:
        by_status.setdefault(refusal.status, []).append(refusal)
    answered = set(outcome.answers)
    if route.method == "GET" and not isinstance(outcome.answers.get(200, ""), str):
        answered.add(304)  # Every read in JSON has an entity tag (representations.py).
    for status in sorted({*answered, *by_status}):
        body: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        content: dict[str, Any] = {}
        answer = outcome.answers.get(status)
        if isinstance(answer, str):
            content |= {answer: {}} if answer else {}
        elif answer is not None:
            content[_OWN_FORMS.get(answer, _JSON)] = {"schema": {"$ref": f"#/components/schemas/{answer.__name__}"}}
            if route.path.endswith(("/generate", "/preview")):
                content[_PDF] = {}
            if answer in _OTHER_FORMS:
                media, form = _OTHER_FORMS[answer]
                content[media] = {"schema": {"$ref": f"#/components/schemas/{form.__name__}"}}
        refusals = by_status.get(status, [])
        if refusals:
            body["description"] = " ".join(f"`{refusal.code}`: {refusal.title}" for refusal in refusals)
            body["x-codes"] = [refusal.code for refusal in refusals]
            if route.method != "HEAD":
                content[MEDIA_TYPE] = {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
        if content:
            body["content"] = content
        yield str(status), body


def _prune(document: dict[str, Any]) -> None:
    """Leave out the schemas that nothing refers to: the framework's own validation error, for one."""
    schemas = document["components"]["schemas"]
    while unused := [name for name in schemas if f'#/components/schemas/{name}"' not in json.dumps(document)]:
        for name in unused:
            del schemas[name]
