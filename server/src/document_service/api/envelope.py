"""What every request passes through, in this order: request id, size, bearer token; and what every answer carries.

It is one ASGI layer because the contract fixes the order of checks: authentication and size come before the body is
looked at (contract §3).
"""

from __future__ import annotations

import re
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from document_service import tenants
from document_service.api import device_identity, problems, refusals
from document_service.database import tenant_transaction
from document_service.errors import (
    DeviceRevoked,
    InvalidRequest,
    MalformedJson,
    NotAuthenticated,
    NotFound,
    Problem,
    ServiceError,
    TenantKeyMissing,
    TooLarge,
)
from document_service.runtime import Runtime
from document_service.telemetry import log, request_seconds, requests_total
from document_service.tokens import Caller

#: A render request is a few KB; 512 KB leaves room for a draft definition with its labels in many languages.
BODY_LIMIT = 512 * 1024

#: One piece of an upload (PATCH); the file as a whole has its own limit.
UPLOAD_PIECE_LIMIT = 8 * 1024 * 1024

#: Paths below /v1 that need no bearer token: a signed URL carries its own proof.
_OPEN = re.compile(r"/v1/documents/doc_[^/]+/content")

_UPLOAD_PIECE = re.compile(r"/v1/documents/uploads/[^/]+")


class Envelope:
    """The ASGI layer around the application."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        request_id = f"req_{ULID()}"
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        answered = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Sync-Epoch"] = self._runtime.epoch
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, await self._admit(scope, state, receive), send_with_headers)
        except ServiceError as error:
            if answered:
                raise
            await problems.response_of(error, request_id)(scope, receive, send_with_headers)
        except Exception:
            log.exception("request.crashed", request=request_id, method=scope["method"])
            if answered:
                return
            await problems.response_of(ServiceError(), request_id)(scope, receive, send_with_headers)
        finally:
            # The route's template, never the path: a path may carry whatever a caller typed.
            route = getattr(scope.get("route"), "path", "(none)")
            requests_total.labels(route=route, status=f"{answered // 100}xx").inc()
            request_seconds.labels(route=route).observe(time.monotonic() - began)

    async def _admit(self, scope: Scope, state: dict[str, Any], receive: Receive) -> Receive:
        """Say in ``state`` who calls; what the application reads the body from."""
        path = scope["path"]
        if not path.startswith("/v1/") or _OPEN.fullmatch(path):
            return self._limited(scope, receive)
        headers = Headers(scope=scope)
        if device_identity.is_signed(headers, scope["method"], path):
            body = await _whole_body(self._limited(scope, receive))
            state["caller"], state["device_id"] = await device_identity.signing_device(self._runtime, headers, body)
            self._throttle(state["caller"])
            state["by_signature"] = True
            return _replay(body)
        # Of two, a proxy before us may have checked the other one: nobody is both.
        only = headers.getlist("authorization")
        scheme, _, token = (only[0] if len(only) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise NotAuthenticated()
        caller = await self._runtime.verifier.verify(token.strip())
        if not self._runtime.keys.has_tenant(caller.tenant):
            await self._refuse_without_key(caller.tenant)
        self._throttle(caller)
        state["caller"] = caller
        await self._name_device(scope, state, caller, headers)
        # PostgreSQL's text cannot hold this character, so no id and no filter does.
        if "\x00" in path:
            raise NotFound()
        if b"%00" in scope["query_string"]:
            problem = Problem("#query", "NOT_STORABLE", "The query holds the character U+0000; remove it.")
            raise InvalidRequest(errors=(problem,))
        return self._limited(scope, receive)

    def _throttle(self, caller: Caller) -> None:
        """Take the request from the caller's bucket first: what a runaway user is refused costs the tenant nothing."""
        self._runtime.user_throttle.take(f"{caller.tenant}\n{caller.user}")
        self._runtime.tenant_throttle.take(caller.tenant)

    async def _name_device(self, scope: Scope, state: dict[str, Any], caller: Caller, headers: Headers) -> None:
        if "x-device-id" not in headers:
            return
        try:
            state["device_id"] = await device_identity.named_device(self._runtime, caller, headers, scope["path"])
        except DeviceRevoked as refusal:
            await refusals.note(
                self._runtime,
                caller,
                refusal,
                request_id=state["request_id"],
                device_id=headers["x-device-id"],
                method=scope["method"],
                route=None,
                path_parameters={},
            )
            raise

    async def _refuse_without_key(self, tenant_id: str) -> None:
        """Tell an organisation that is not here from one whose key cannot be used now.

        Raises:
            NotFound: the service does not know the tenant, or it was shredded.
            TenantKeyMissing: it is known; the operator restores its key.
        """
        async with tenant_transaction(self._runtime.database.app, tenant_id) as connection:
            await tenants.show(connection, tenant_id)
        raise TenantKeyMissing()

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        piece = scope["method"] == "PATCH" and _UPLOAD_PIECE.fullmatch(scope["path"])
        limit = UPLOAD_PIECE_LIMIT if piece else BODY_LIMIT
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdigit() or int(announced) > limit:
            raise TooLarge(f"The body may have {limit} bytes.")
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise TooLarge(f"The body may have {limit} bytes.")
            return message

        return receive_limited


async def _whole_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise MalformedJson("The connection ended before the body did.")
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return receive
