"""Routes of the template catalogue (contract §2)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import JSONResponse

from document_service import audit, definitions, previewing, publishing, templates, translations
from document_service.api import paging, shapes
from document_service.api.callers import Author, Opened, Reader, TenantAdmin
from document_service.api.exact import ExactRoute
from document_service.database import tenant_transaction
from document_service.errors import (
    DefinitionInvalid,
    Forbidden,
    IdempotencyKeyRequired,
    InvalidRequest,
    NotFound,
    PreconditionRequired,
    Problem,
)
from document_service.exact_json import dumps_exact
from document_service.templates import Filter
from document_service.tokens import Caller

router = APIRouter(prefix="/v1/document-templates", tags=["templates"], route_class=ExactRoute)

#: A device may show the catalogue this long without asking, and a day longer while it asks (stale-while-revalidate).
CATALOGUE_CACHE = "private, max-age=60, stale-while-revalidate=86400"

#: The definition never changes, but whether the version was withdrawn and what its form is called does: ask each time.
VERSION_CACHE = "private, no-cache"

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=200)]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", max_length=2000)]


def _required(if_match: str | None) -> str:
    if if_match is None:
        raise PreconditionRequired()
    return if_match


def _storable(definition: Any) -> str:
    """The definition as the text that is kept.

    Raises:
        InvalidRequest: it could be kept but not be shown again: nested absurdly deep, a number beyond any program's.
    """
    try:
        text = dumps_exact(definition).decode()
        json.dumps(json.loads(text), allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        problem = Problem("/definition", "NOT_STORABLE", "Nest it less deeply, and write numbers as forms print them.")
        raise InvalidRequest(errors=(problem,)) from None
    return text


def _own_facility(caller: Caller, facility_id: str | None) -> None:
    """A form is given to a facility by somebody who is in it; nobody makes what they could not see again."""
    if not caller.may_see_facility(facility_id):
        raise Forbidden("facilityId names a facility that you are not in.")


@router.get("", summary="The catalogue")
async def list_templates(
    caller: Reader,
    runtime: Opened,
    category: shapes.Category | None = None,
    status: Annotated[str | None, Query(pattern="^(draft|published|retired)$")] = None,
    facility_id: Annotated[str | None, Query(alias="facilityId", max_length=64)] = None,
    origin: Annotated[str | None, Query(pattern="^(platform|tenant)$")] = None,
    platform_form_key: Annotated[str | None, Query(alias="platformFormKey", max_length=100)] = None,
    cursor: paging.Cursor = None,
    limit: paging.Limit = paging.DEFAULT_LIMIT,
    if_none_match: IfNoneMatch = None,
) -> Response:
    wanted = Filter(category, status, facility_id, origin, platform_form_key)
    after = paging.decode(cursor)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        state = await templates.list_state(connection)
        etag = shapes.list_etag(state, caller, wanted, after, limit)
        headers = {"ETag": etag, "Cache-Control": CATALOGUE_CACHE, "Vary": "Authorization"}
        if shapes.etag_matches(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        rows = await templates.list_page(connection, caller, wanted, after, limit + 1)
        shipped = await templates.platform_definitions(connection, rows[:limit])
    unreviewed = {template_id: _unreviewed(definition) for template_id, definition in shipped.items()}
    body = paging.page(rows, limit, lambda row: shapes.catalogue_entry(row, unreviewed.get(row.id, ())))
    return JSONResponse(body, headers=headers)


@lru_cache(maxsize=64)  # The product ships nine forms; a tenant may pin each of them to an older version.
def _unreviewed(definition: str) -> tuple[str, ...]:
    return definitions.unreviewed(json.loads(definition))


@router.post("", status_code=201, response_model=shapes.TemplateShape, summary="Create a draft")
async def create(body: shapes.TemplateCreate, caller: Author, runtime: Opened) -> Response:
    text = None if body.definition is None else _storable(body.definition)
    _own_facility(caller, body.facility_id)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.create(
            connection,
            caller,
            name=body.name,
            category=body.category,
            facility_id=body.facility_id,
            definition=text,
        )
        await audit.record(
            connection, caller.tenant, audit.Event("template.create", caller.user, template_id=template.id)
        )
    response = shapes.template_answer(template, 201)
    response.headers["Location"] = f"/v1/document-templates/{template.id}"
    return response


@router.get("/{template_id}", summary="One template with its versions")
async def show(template_id: str, caller: Reader, runtime: Opened, if_none_match: IfNoneMatch = None) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.show(connection, caller, template_id)
        answered = await translations.accepted(connection, template.id)
        # An acceptance is the tenant's own and changes no row of the platform's form.
        etag = f'{template.etag[:-1]}.{len(answered)}"' if answered else template.etag
        if shapes.etag_matches(if_none_match, etag):
            return Response(status_code=304, headers={"ETag": etag})
        versions = await templates.list_versions(connection, template)
    shown = [shapes.detailed_version(version, answered, runtime.keys) for version in versions]
    draft = None
    if template.draft_definition is not None:
        draft = json.loads(template.draft_definition)
    response = shapes.template_answer(template, versions=shown, draft=draft)
    response.headers["ETag"] = etag
    return response


@router.patch("/{template_id}", response_model=shapes.TemplateShape, summary="Edit a template's metadata")
async def edit(
    template_id: str, body: shapes.TemplateEdit, caller: Author, runtime: Opened, if_match: IfMatch = None
) -> Response:
    given = body.model_fields_set
    _own_facility(caller, body.facility_id)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.show_for_edit(connection, caller, template_id, _required(if_match))
        template = await templates.edit(
            connection,
            template,
            name=body.name or template.name,
            category=body.category or template.category,
            facility_id=body.facility_id if "facility_id" in given else template.facility_id,
        )
        # The name is printed, and the category decides how long a document is kept.
        fields = sorted(body.model_dump(by_alias=True, exclude_unset=True))
        changed = audit.Event("template.edit", caller.user, template_id=template.id, detail={"fields": fields})
        await audit.record(connection, caller.tenant, changed)
    return shapes.template_answer(template)


@router.put("/{template_id}/draft", summary="Save the draft's definition; answers every problem in it")
async def save_draft(
    template_id: str, body: dict[str, Any], caller: Author, runtime: Opened, if_match: IfMatch = None
) -> Response:
    definition = body.get("definition") if set(body) == {"definition"} else body
    problems = definitions.check(definition)
    text = _storable(definition)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.show_for_edit(connection, caller, template_id, if_match)
        if if_match is None and template.draft_saved_by not in (None, caller.user):
            # Nobody overwrites a colleague's draft without having read it.
            raise PreconditionRequired("Another author saved this draft; read it and send its ETag as If-Match.")
        template = await templates.save_draft(connection, template, text, caller.user)
        saved = audit.Event("template.draft", caller.user, template_id=template.id)
        await audit.record(connection, caller.tenant, saved)
    return shapes.template_answer(template, problems=_listed(problems))


def _listed(problems: Iterable[Problem]) -> list[dict[str, str]]:
    return [{"pointer": p.pointer, "code": p.code, "title": p.title} for p in problems]


@router.post("/{template_id}/preview", summary="Show the draft as PDF or PNG, with everything found in it")
async def preview(
    template_id: str,
    caller: Author,
    runtime: Opened,
    body: shapes.PreviewRequest | None = None,
    accept: Annotated[str | None, Header(alias="Accept", max_length=1000)] = None,
) -> Response:
    wanted = body or shapes.PreviewRequest()
    named = shapes.preferred(accept, ("application/json", "application/pdf", "image/png"))
    as_png = wanted.format == "png" or (wanted.format is None and named == "image/png")
    shown = await previewing.preview(
        runtime,
        caller,
        template_id,
        previewing.Wanted(
            wanted.locale, wanted.patient_id, wanted.encounter_id, wanted.inputs, "png" if as_png else "pdf"
        ),
    )
    content, pages = b"", 0
    if shown.result is not None:
        pages = shown.result.pages
        content = shown.result.png[min(wanted.page, pages) - 1] if as_png else shown.result.pdf
    media_type = "image/png" if as_png else "application/pdf"
    if named == "application/json":
        return JSONResponse(
            {
                "locale": shown.locale,
                "problems": _listed(shown.problems),
                "warnings": _listed(shown.warnings),
                "pages": pages,
                "contentType": media_type if content else None,
                "content": base64.b64encode(content).decode() if content else None,
            }
        )
    if not content:
        raise DefinitionInvalid(errors=shown.problems)
    headers = {"X-Preview-Pages": str(pages), "X-Preview-Problems": str(len(shown.problems) + len(shown.warnings))}
    return Response(content, headers=headers, media_type=media_type)


@router.post("/{template_id}/publish", status_code=201, summary="Validate, freeze, make current")
async def publish(
    template_id: str,
    caller: Author,
    runtime: Opened,
    request: Request,
    body: shapes.PublishRequest | None = None,
    key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)] = None,
    if_match: IfMatch = None,
) -> Response:
    if not key:
        raise IdempotencyKeyRequired()
    published = await publishing.publish(
        runtime,
        caller,
        template_id,
        key,
        if_match=if_match,
        wanted=publishing.Wanted(
            semver=body.semver if body else None,
            effective_from=body.effective_from if body else None,
            effective_to=body.effective_to if body else None,
        ),
    )
    version = published.version
    headers = {"Location": f"/v1/document-templates/{template_id}/versions/{version.id}"}
    if published.replayed:
        headers["Idempotent-Replayed"] = "true"
    else:
        # The body is the version's alone, so that a repeat is answered by the same; a preview lists them.
        headers["X-Trial-Warnings"] = str(len(published.warnings))
    return JSONResponse(
        shapes.version(version, json.loads(version.definition), runtime.keys),
        200 if published.replayed else 201,
        headers,
    )


@router.post("/{template_id}/retire", response_model=shapes.TemplateShape, summary="Take no new renders")
async def retire(template_id: str, caller: TenantAdmin, runtime: Opened, if_match: IfMatch = None) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.show_for_edit(connection, caller, template_id, if_match)
        template = await templates.retire(connection, template)
        await audit.record(
            connection, caller.tenant, audit.Event("template.retire", caller.user, template_id=template.id)
        )
    return shapes.template_answer(template)


@router.get("/{template_id}/versions/{version_id}", summary="One frozen version")
async def show_version(
    template_id: str, version_id: str, caller: Reader, runtime: Opened, if_none_match: IfNoneMatch = None
) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.show(connection, caller, template_id)
        version = await templates.show_version(connection, version_id)
        if version.template_id != template.id:
            raise NotFound()
    # The definition is frozen; the form's name and category, which are told beside it, are not.
    around = hashlib.sha256(json.dumps([template.name, template.category]).encode()).hexdigest()[:16]
    etag = f'"{version.checksum}.{around}{".withdrawn" if version.withdrawn_at else ""}"'
    headers = {"ETag": etag, "Cache-Control": VERSION_CACHE, "Vary": "Authorization"}
    if shapes.etag_matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    body = shapes.version(version, json.loads(version.definition), runtime.keys)
    body |= {"name": template.name, "category": template.category}
    return JSONResponse(body, headers=headers)


@router.post("/{template_id}/versions/{version_id}/withdraw", summary="Take one dangerous version out of use")
async def withdraw(
    template_id: str,
    version_id: str,
    body: shapes.ReasonRequest,
    caller: TenantAdmin,
    runtime: Opened,
    if_match: IfMatch = None,
) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.show_for_edit(connection, caller, template_id, if_match)
        version = await templates.show_version(connection, version_id)
        if version.template_id != template.id:
            raise NotFound()
        version = await templates.withdraw(connection, version, body.reason, runtime.keys)
        await templates.touch(connection, template)
        await audit.record(
            connection,
            caller.tenant,
            audit.Event("template.withdraw", caller.user, template_id=template.id, detail={"versionId": version.id}),
        )
    return JSONResponse(shapes.version(version, json.loads(version.definition), runtime.keys))
