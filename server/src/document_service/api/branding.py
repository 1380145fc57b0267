"""Routes of a tenant's branding: the texts and colours of its pages, and its logo."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.responses import JSONResponse

from document_service import audit, branding, platform_forms, tenants, trials
from document_service.api import shapes
from document_service.api.callers import Opened, TenantAdmin
from document_service.api.exact import ExactRoute
from document_service.branding import Branding, KeptLogo
from document_service.database import Connection, tenant_transaction
from document_service.errors import (
    InvalidRequest,
    LogoRefused,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    Problem,
)
from document_service.exact_json import loads_exact
from document_service.previewing import letterhead_of
from document_service.runtime import Runtime
from document_service.scanner import MAX_LOGO_BYTES, read_logo
from document_service.tenants import Tenant
from document_service.tokens import Caller
from document_service.typesetting.labels import undrawable

router = APIRouter(prefix="/v1/tenant/branding", tags=["branding"], route_class=ExactRoute)

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=200)]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", max_length=2000)]

#: A logo never changes under its name, but its name may change at any time.
LOGO_CACHE = "private, no-cache"


async def _shown(connection: Connection, tenant: Tenant, brand: Branding) -> Response:
    kept = await branding.logo(connection, tenant.tenant_id, brand.logo_sha256) if brand.logo_sha256 else None
    body: dict[str, Any] = {
        "name": brand.name or tenant.name,
        "address": list(brand.address),
        "phone": brand.phone,
        "footer": brand.footer,
        "accent": brand.accent,
        "logo": kept
        and {"sha256": kept.sha256, "contentType": kept.content_type, "width": kept.width, "height": kept.height},
        "updatedAt": brand.updated_at and shapes.instant(brand.updated_at),
    }
    return JSONResponse(body, headers={"ETag": brand.etag})


async def _read_for_edit(connection: Connection, caller: Caller, if_match: str | None) -> tuple[Tenant, Branding]:
    if if_match is None:
        raise PreconditionRequired()
    tenant = await tenants.show(connection, caller.tenant)
    before = await branding.show(connection, caller.tenant)
    if if_match not in ("*", before.etag):
        raise PreconditionFailed()
    return tenant, before


async def _save(
    connection: Connection, caller: Caller, before: Branding, changes: dict[str, Any], action: str
) -> Branding:
    saved = await branding.save(connection, before, changes, caller.user)
    await audit.record(connection, caller.tenant, audit.Event(action, caller.user))
    return saved


@router.get("", summary="What the tenant puts on every page")
async def show(caller: TenantAdmin, runtime: Opened, if_none_match: IfNoneMatch = None) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        brand = await branding.show(connection, caller.tenant)
        if shapes.etag_matches(if_none_match, brand.etag):
            return Response(status_code=304, headers={"ETag": brand.etag})
        return await _shown(connection, await tenants.show(connection, caller.tenant), brand)


@router.put("", summary="Change the texts and colours of every page; what is absent goes back to its default")
async def edit(body: shapes.BrandingEdit, caller: TenantAdmin, runtime: Opened, if_match: IfMatch = None) -> Response:
    changes: dict[str, Any] = {**body.model_dump(), "address": tuple(body.address)}
    changes["accent"] = body.accent or branding.DEFAULT_ACCENT
    problems = branding.check(changes)
    for pointer, _, text in branding.texts(changes):
        if undrawable(text):
            title = f"Replace {', '.join(undrawable(text))}: no font of the service draws it."
            problems.append(Problem(pointer, "GLYPH_MISSING", title))
    if problems:
        raise InvalidRequest(errors=tuple(problems))
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        tenant, before = await _read_for_edit(connection, caller, if_match)
        _, logo = await branding.show_with_logo(connection, caller.tenant)
    await _try_out(runtime, tenant, Branding(**{**_fields(before), **changes}), logo)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        saved = await _save(connection, caller, before, changes, "branding.edit")
        return await _shown(connection, tenant, saved)


@router.get("/logo", summary="The logo's bytes")
async def show_logo(caller: TenantAdmin, runtime: Opened, if_none_match: IfNoneMatch = None) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        brand = await branding.show(connection, caller.tenant)
        if brand.logo_sha256 is None:
            raise NotFound("The tenant has no logo.")
        kept = await branding.logo(connection, caller.tenant, brand.logo_sha256)
    assert kept is not None  # The foreign key holds it.
    headers = {"ETag": f'"{kept.sha256}"', "Cache-Control": LOGO_CACHE}
    if shapes.etag_matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(kept.content, headers=headers, media_type=kept.content_type)


@router.put("/logo", summary="Set the logo: the bytes of a PNG or JPEG of at most 256 KB")
async def put_logo(request: Request, caller: TenantAdmin, runtime: Opened, if_match: IfMatch = None) -> Response:
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > MAX_LOGO_BYTES:
        raise LogoRefused(f"A logo may have {MAX_LOGO_BYTES // 1024} KB.")
    data = await request.body()
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        tenant, before = await _read_for_edit(connection, caller, if_match)
    logo = await read_logo(data)
    changes = {"logo_sha256": logo.sha256}
    await _try_out(runtime, tenant, Branding(**{**_fields(before), **changes}), logo.content)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        kept = KeptLogo(logo.sha256, logo.content_type, logo.width, logo.height, logo.content)
        await branding.keep_logo(connection, caller.tenant, kept, caller.user)
        saved = await _save(connection, caller, before, changes, "branding.logo")
        return await _shown(connection, tenant, saved)


@router.delete("/logo", summary="Print no logo; documents that have one keep it")
async def remove_logo(caller: TenantAdmin, runtime: Opened, if_match: IfMatch = None) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        tenant, before = await _read_for_edit(connection, caller, if_match)
        saved = await _save(connection, caller, before, {"logo_sha256": None}, "branding.logo")
        return await _shown(connection, tenant, saved)


def _fields(brand: Branding) -> dict[str, Any]:
    return {name: getattr(brand, name) for name in Branding.__dataclass_fields__}


async def _try_out(runtime: Runtime, tenant: Tenant, brand: Branding, logo: bytes | None) -> None:
    """Print a form of the platform with it: branding that no page can show would fail every render from then on.

    Raises:
        InvalidRequest: a page with it does not come off the press.
    """
    shipped = platform_forms.catalogue()[0]
    form = trials.Form(loads_exact(shipped.definition), shipped.name, shipped.semver, says_unreviewed=False)
    async with runtime.preview_turn():
        for locale in form.definition["locales"]:
            subject = trials.sample_subject(form.definition, locale)
            sheet = await trials.print_sheet(
                runtime.press, form, locale, letterhead_of(runtime, tenant, brand, logo), subject, marked=False
            )
            if sheet.result is None:
                raise InvalidRequest("No page could be printed with it.", errors=sheet.problems)
