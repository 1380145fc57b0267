"""What HTTP promises of methods on every route: HEAD wherever there is GET, and in a 405 every method that there is.

RFC 9110 section 9.1: "All general-purpose servers MUST support the methods GET and HEAD"; what watches ``/health/live``
or looks for the size of a list asks by HEAD. Section 15.5.6: ``Allow`` lists the methods that the resource takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def allowed(routes: Sequence[BaseRoute], scope: Scope) -> list[str]:
    """The methods of all routes at the path of ``scope``, in order; HEAD is among them where GET is."""
    found: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


class Heads:
    """The ASGI layer that answers HEAD as GET without its body, but where a route has an answer of its own to HEAD."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """``routes`` are those of the application inside ``app``."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or self._has_its_own(scope):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        read = {**scope, "method": "GET"}
        try:
            await self._app(read, receive, send_head)
        finally:
            # What the envelope counts requests by.
            scope["route"] = read.get("route")

    def _has_its_own(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in self._routes)
