"""Who calls, as handlers take it, and the roles that a route asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from document_service.errors import Forbidden
from document_service.runtime import Runtime
from document_service.tokens import AUDITOR, CLINICIAN, DOCUMENT_AUTHOR, TENANT_ADMIN, Caller

#: Only says in the OpenAPI document what the envelope has already checked.
_bearer = HTTPBearer(auto_error=False, description="A JWT of the configured issuer; tenant, roles, facilities.")

_REMEDY = "This needs the role {}; ask your tenant's administrator."


async def runtime_of(request: Request) -> Runtime:
    """The open parts of this process."""
    runtime: Runtime = request.app.state.runtime
    return runtime


async def any_caller(request: Request, _: Annotated[object, Depends(_bearer)] = None) -> Caller:
    """The verified caller of a /v1 route."""
    caller: Caller = request.state.caller
    return caller


@dataclass(frozen=True, slots=True)
class RoleCheck:
    """Lets a caller through who has one of ``roles``; the documents read the roles from here."""

    roles: tuple[str, ...]

    async def __call__(self, caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
        """The caller.

        Raises:
            Forbidden: the caller has none of the roles.
        """
        if not caller.has_role(*self.roles):
            raise Forbidden(_REMEDY.format(" or ".join(self.roles)))
        return caller


def _holding(*roles: str) -> RoleCheck:
    return RoleCheck(roles)


Opened = Annotated[Runtime, Depends(runtime_of)]
AnyCaller = Annotated[Caller, Depends(any_caller)]
#: Whoever works with documents or forms may read the catalogue.
Reader = Annotated[Caller, Depends(_holding(CLINICIAN, DOCUMENT_AUTHOR, TENANT_ADMIN))]
Clinician = Annotated[Caller, Depends(_holding(CLINICIAN))]
Author = Annotated[Caller, Depends(_holding(DOCUMENT_AUTHOR))]
TenantAdmin = Annotated[Caller, Depends(_holding(TENANT_ADMIN))]
Auditor = Annotated[Caller, Depends(_holding(AUDITOR))]
AuditorOrAdmin = Annotated[Caller, Depends(_holding(AUDITOR, TENANT_ADMIN))]
#: Senders see their own uploads; those who look after the quarantine see all.
UploadReader = Annotated[Caller, Depends(_holding(CLINICIAN, AUDITOR, TENANT_ADMIN))]
