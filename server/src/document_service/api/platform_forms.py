"""Routes of what a tenant does with the platform's forms: fork, compare, pin or follow, answer for translations."""

from __future__ import annotations

import json

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from document_service import audit, definitions, origins, pinning, templates, translations
from document_service.api import shapes
from document_service.api.callers import Author, Opened, TenantAdmin
from document_service.api.exact import ExactRoute
from document_service.database import tenant_transaction
from document_service.errors import LocaleUnsupported, TemplateStateConflict

router = APIRouter(prefix="/v1/document-templates", tags=["templates"], route_class=ExactRoute)


@router.post(
    "/{template_id}/fork", status_code=201, response_model=shapes.TemplateShape, summary="Copy a platform form"
)
async def fork(template_id: str, caller: Author, runtime: Opened, body: shapes.ForkRequest | None = None) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        origin = await templates.show(connection, caller, template_id)
        if origin.origin != "platform" or origin.current_version_id is None:
            raise TemplateStateConflict("Only a platform form is forked; edit your own template instead.")
        version = await templates.show_version(connection, origin.current_version_id)
        template = await templates.create(
            connection,
            caller,
            name=(body.name if body else None) or origin.name,
            category=origin.category,
            definition=version.definition,
            forked_from=version,
            forked_form_key=origin.platform_form_key,
        )
        detail = {"forkedFromVersionId": version.id}
        made = audit.Event("template.fork", caller.user, template_id=template.id, detail=detail)
        await audit.record(connection, caller.tenant, made)
    response = shapes.template_answer(template, 201)
    response.headers["Location"] = f"/v1/document-templates/{template.id}"
    return response


@router.get("/{template_id}/origin", summary="How a fork differs from what the platform ships today")
async def show_origin(template_id: str, caller: Author, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        three = await origins.read(connection, await templates.show(connection, caller, template_id))
    return JSONResponse(shapes.origin(await origins.compare(three)))


@router.put("/{template_id}/pin", response_model=shapes.TemplateShape, summary="Stay with a version of a platform form")
async def pin(template_id: str, body: shapes.PinRequest, caller: TenantAdmin, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        return shapes.template_answer(await pinning.pin(connection, caller, template_id, body.version_id))


@router.delete("/{template_id}/pin", response_model=shapes.TemplateShape, summary="Follow a platform form again")
async def follow(template_id: str, caller: TenantAdmin, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        return shapes.template_answer(await pinning.follow(connection, caller, template_id))


@router.post("/{template_id}/accept-translation", summary="Answer for a locale that nobody reviewed")
async def accept_translation(
    template_id: str, body: shapes.AcceptTranslation, caller: TenantAdmin, runtime: Opened
) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        template = await templates.show(connection, caller, template_id)
        if template.origin != "platform" or template.current_version_id is None:
            raise TemplateStateConflict(
                "Only the translations of platform forms are accepted; your own forms are yours."
            )
        version = await templates.show_version(connection, template.current_version_id)
        definition = json.loads(version.definition)
        if body.locale not in definition["locales"]:
            raise LocaleUnsupported(f"/locale: the form has {', '.join(definition['locales'])}.")
        new = await translations.accept(
            connection,
            caller.tenant,
            template_id=template.id,
            version_id=version.id,
            locale=body.locale,
            words_digest=definitions.words_digest(definition, body.locale),
            accepted_by=caller.user,
        )
        if new:
            detail = {"versionId": version.id, "locale": body.locale}
            await audit.record(
                connection,
                caller.tenant,
                audit.Event("template.accept-translation", caller.user, template_id=template.id, detail=detail),
            )
        answered = await translations.accepted(connection, template.id)
    return JSONResponse(shapes.detailed_version(version, answered, runtime.keys))
