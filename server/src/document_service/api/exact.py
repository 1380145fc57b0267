"""Bodies whose numbers stay as they were written: a dose of 1.10 must not become 1.1 on its way in.

A body that two programs may read in two ways is refused (RFC 7493, I-JSON): a member named twice, half of a surrogate
pair. What was asked for must be what is compared, sealed and printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from document_service.errors import MalformedJson
from document_service.exact_json import loads_exact

#: The escape of a surrogate; only then is the parsed body looked at for one without its partner.
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class _NamedTwice(ValueError):
    """An object has two members of one name."""


class ExactRequest(Request):
    """A request whose JSON keeps decimals as ``Decimal``."""

    async def json(self) -> Any:
        """Parse the body once.

        Raises:
            MalformedJson: it is not JSON, or not JSON that every reader understands alike.
        """
        if not hasattr(self, "_exact"):
            body = await self.body()
            try:
                self._exact = loads_exact(body, object_pairs_hook=_members)
                if _SURROGATE_ESCAPE.search(body):
                    json.dumps(self._exact, ensure_ascii=False, default=str).encode()
            except _NamedTwice:
                raise MalformedJson("An object has two members of one name; send each once.") from None
            except UnicodeEncodeError:
                raise MalformedJson("A text holds half of a surrogate pair; send whole characters.") from None
            except (ValueError, RecursionError):
                raise MalformedJson() from None
        return self._exact


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _NamedTwice
    return members


class ExactRoute(APIRoute):
    """A route whose handler is given an ``ExactRequest``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the framework's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(ExactRequest(request.scope, request.receive))

        return handle
