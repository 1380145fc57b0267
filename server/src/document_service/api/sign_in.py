"""How a device learns where to sign in, before it has a token: protected resource metadata (RFC 9728).

The standard names the issuers. Which client a device is there and what it asks for is this service's to say, in the
member ``device_sign_in``: with it, `documents login --server URL` needs nothing else to be typed.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse

from document_service.api.callers import Opened
from document_service.settings import Settings
from document_service.tokens import parse_issuers

router = APIRouter(tags=["operations"])


class DeviceSignIn(BaseModel):
    """The device flow (RFC 8628) at ``issuer``; ``resource`` (RFC 8707) goes along where it is not null."""

    model_config = ConfigDict(extra="forbid")

    issuer: str
    client_id: str
    scope: str
    resource: str | None
    tenant_claim: str


class ProtectedResource(BaseModel):
    """The members that RFC 9728 names, and ours; without an issuer there is nowhere to sign in."""

    model_config = ConfigDict(extra="forbid")

    resource: str
    resource_name: str
    authorization_servers: list[str]
    bearer_methods_supported: list[str]
    device_sign_in: DeviceSignIn | None


@router.get("/.well-known/oauth-protected-resource", summary="Where a device signs in (RFC 9728)")
async def protected_resource(request: Request, runtime: Opened) -> Response:
    settings = runtime.settings
    address = settings.public_url or str(request.base_url)
    return JSONResponse(describe(settings, address.rstrip("/")), headers={"Cache-Control": "no-cache"})


def describe(settings: Settings, address: str) -> dict[str, Any]:
    """The metadata of the service at ``address``; the first of several issuers is where devices sign in."""
    issuers = parse_issuers(settings.oidc_issuer, settings.oidc_audience) if settings.oidc_issuer else ()
    sign_in = None
    if issuers and settings.oidc_client_id:
        # RFC 8707 wants an absolute URI. Where the audience is a plain word the issuer adds it by its own settings,
        # and some issuers refuse a parameter that they do not know.
        is_address = settings.oidc_audience.startswith(("https://", "http://"))
        sign_in = DeviceSignIn(
            issuer=issuers[0].url,
            client_id=settings.oidc_client_id,
            scope=settings.oidc_scope,
            resource=settings.oidc_audience if is_address else None,
            tenant_claim=issuers[0].tenant_claim,
        )
    return ProtectedResource(
        resource=address,
        resource_name="document-service",
        authorization_servers=[issuer.url for issuer in issuers],
        bearer_methods_supported=["header"],
        device_sign_in=sign_in,
    ).model_dump()
