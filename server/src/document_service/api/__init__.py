"""The HTTP API: the only place that knows the web framework. Handlers own the transactions."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from document_service import __version__
from document_service.api import (
    audit,
    branding,
    bulk,
    changes,
    device_audit,
    devices,
    documents,
    holders,
    operations,
    outcomes,
    platform_forms,
    problems,
    refusals,
    render_jobs,
    routes_page,
    sign_in,
    templates,
    uploads,
    verification,
    withdrawals,
)
from document_service.api.envelope import Envelope
from document_service.api.feed_watch import FeedWatch
from document_service.api.methods import Heads, allowed
from document_service.api.representations import Representations
from document_service.errors import InvalidRequest, MethodNotAllowed, NotFound, ServiceError
from document_service.runtime import Runtime
from document_service.telemetry import log

#: Paths of one word come before those with an id in the same place.
ROUTERS = tuple(
    module.router
    for module in (
        operations,
        sign_in,
        platform_forms,
        templates,
        branding,
        changes,
        device_audit,
        devices,
        bulk,
        render_jobs,
        uploads,
        withdrawals,
        holders,
        audit,
        documents,
        verification,
    )
)


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return outcomes.openapi(self, ROUTERS)


def create_app(runtime: Runtime | None) -> FastAPI:
    """The application without its envelope; with no runtime it only describes itself (openapi.json)."""
    app = _Application(
        title="Document Service",
        version=__version__,
        description="Clinical documents from live FHIR R4 data, with an offline contract.",
        # A redirect would name the host that the caller wrote, and a device sends its requests to one address only.
        redirect_slashes=False,
        # The framework's pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
    )
    app.state.runtime = runtime
    app.state.feed_watch = None if runtime is None else FeedWatch(runtime)
    for router in ROUTERS:
        # The routes themselves, which is all that ours have. An included router is a level of its own, at which the
        # framework looks through every route of every router before: half a percent of a render's processor time.
        app.router.routes.extend(router.routes)
    app.add_route("/docs", routes_page.show, include_in_schema=False)
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _crash)
    return app


def serve_app(runtime: Runtime) -> ASGIApp:
    """The application as it is served."""
    app = create_app(runtime)
    return Envelope(Heads(Representations(app), app.router.routes), runtime)


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", "req_none"))


async def _service_error(request: Request, error: Any) -> Response:
    await refusals.note_request(request, error)
    return problems.response_of(error, _request_id(request))


async def _validation_error(request: Request, error: Any) -> Response:
    return problems.response_of(problems.from_validation(error), _request_id(request))


async def _http_error(request: Request, error: Any) -> Response:
    if isinstance(error.__cause__, ServiceError):
        # The framework wraps what the envelope raises while the body is read.
        return problems.response_of(error.__cause__, _request_id(request))
    known: dict[int, ServiceError] = {
        404: NotFound("There is no such route; see /docs."),
        405: MethodNotAllowed(headers={"Allow": ", ".join(allowed(request.app.router.routes, request.scope))}),
    }
    return problems.response_of(known.get(error.status_code, InvalidRequest()), _request_id(request))


async def _crash(request: Request, error: Any) -> Response:
    log.exception("request.failed", request=_request_id(request), error=type(error).__name__)
    return problems.response_of(ServiceError(), _request_id(request))
