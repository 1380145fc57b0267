"""Bodies whose numbers stay as they were written: a dose of 1.10 must not become 1.1 on its way in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from document_service.exact_json import loads_exact


class ExactRequest(Request):
    """A request whose JSON keeps decimals as ``Decimal``."""

    async def json(self) -> Any:
        """Parse the body once.

        Raises:
            RequestValidationError: it is not JSON; answered as MALFORMED_JSON.
        """
        if not hasattr(self, "_exact"):
            try:
                self._exact = loads_exact(await self.body())
            except ValueError:
                raise RequestValidationError(
                    [{"type": "json_invalid", "loc": ("body",), "msg": "", "input": None}]
                ) from None
        return self._exact


class ExactRoute(APIRoute):
    """A route whose handler is given an ``ExactRequest``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the framework's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(ExactRequest(request.scope, request.receive))

        return handle
