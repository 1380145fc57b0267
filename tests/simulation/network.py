"""The network between the device and the service, and everything that goes wrong on it.

Each fault is an answer given *instead* of the service's (the service never saw the exchange) or *after* it did its
work (the work is done, its answer lost). The names are those of the reaction table and of the lessons; every exchange
may be spoiled, whatever it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from document_client.answers import Answer, Transfer
from document_client.clock import to_text

from .server import BATCH, EVERYTHING, JOBS, Caller, false_policy

if TYPE_CHECKING:
    from .world import Process, World

Make = Callable[["World"], Answer]

HTML = {"content-type": "text/html"}
_CACHE: dict[tuple[int, str, str | None], Answer] = {}


def ours(status: int, code: str, **headers: str) -> Make:
    """Return a maker of a problem document of the service."""
    body = {"code": code, "title": f"title of {code}", "status": status}

    def make(world: World) -> Answer:
        return Answer("answer", status, {**world.server.stamp(), **headers}, body, True)

    return make


def _fixed(answer: Answer) -> Make:
    return lambda world: answer


def _retry_after_date(world: World) -> Answer:
    from email.utils import formatdate

    # By the device's clock, which is what it will be compared with.
    until = formatdate(world.now + world.skew + 90, usegmt=True)
    body = {"code": "UNAVAILABLE", "title": "later", "status": 503}
    return Answer("answer", 503, {**world.server.stamp(), "retry-after": until}, body, True)


#: Given instead of the service's answer.
INSTEAD: dict[str, Make] = {
    "offline": _fixed(Answer("no_connection", detail="ConnectError")),
    "tls": _fixed(Answer("tls", detail="SSLError")),
    "portal 200": _fixed(Answer("answer", 200, HTML)),
    "portal 302": _fixed(Answer("elsewhere", 302, detail="portal.example")),
    "gateway 502": _fixed(Answer("answer", 502, HTML)),
    "filter 403": _fixed(Answer("answer", 403, HTML)),
    "empty 202": _fixed(Answer("answer", 202, {"content-type": "application/json"}, None, True)),
    "no code 500": _fixed(Answer("answer", 500, {}, {"error": "oops"}, True)),
    "other json 200": _fixed(Answer("answer", 200, {}, {"status": "queued", "welcome": True}, True)),
    "portal 204": _fixed(Answer("answer", 204)),
    "cut json 200": _fixed(Answer("answer", 200, {"content-type": "application/json"}, None, False)),
    "401": ours(401, "NOT_AUTHENTICATED"),
    "403": ours(403, "FORBIDDEN"),
    "404": ours(404, "NOT_FOUND"),
    "409": ours(409, "TEMPLATE_VERSION_RETIRED"),
    "410": ours(410, "MUTATION_WINDOW_PASSED"),
    "422": ours(422, "INPUTS_INVALID"),
    "408": ours(408, "TIMEOUT"),
    "425": ours(425, "TOO_EARLY"),
    "429": ours(429, "TOO_MANY_REQUESTS", **{"retry-after": "120"}),
    "429 bare": ours(429, "TOO_MANY_REQUESTS"),
    "503": ours(503, "UNAVAILABLE", **{"retry-after": "30"}),
    "503 date": _retry_after_date,
    "500": ours(500, "INTERNAL"),
    "504": ours(504, "TIMEOUT_UPSTREAM"),
}
#: Given after the service did its work: the answer is lost or replaced on its way back.
AFTER: dict[str, Make] = {
    "lost answer": INSTEAD["offline"],
    "late 502": INSTEAD["gateway 502"],
    "late 500": INSTEAD["500"],
    "late 503": INSTEAD["503"],
    "late garbage": INSTEAD["cut json 200"],
    "late tls": INSTEAD["tls"],
}
#: Delivered to the service twice, as a proxy that retries does.
TWICE = "delivered twice"
#: Delivered once more at some later time, out of order.
LATER = "delivered again later"
#: The service's own answer, changed on its way: see ``_mangle``.
ITEM_FAULTS = ("one 401", "one 403", "one 409", "one 422", "one 429 bare", "one 500", "one 503")
FALSE_POLICIES = ("forged policy", "policy of another key", "policy of another tenant")
MANGLED = ("other id", "left out", "stuck page", "bad page", *FALSE_POLICIES, "no date", *ITEM_FAULTS)
_OF_ONE_ITEM = ("other id", *ITEM_FAULTS)
#: What happens to one request of a batch is met where batches are, so they have faults of their own.
_BATCH_MENU = ("other id", "left out", "lost answer", "500", "404", *ITEM_FAULTS)
#: What happens to bytes on the way.
BYTES = (
    "cut early",
    "cut late",
    "flipped",
    "wrong range",
    "416",
    "whole instead",
    "portal bytes",
    "404 bytes",
    "500 bytes",
)
#: A download that is resumed is rare; some services and proxies send the whole all the same.
WHOLE_SHARE = 0.15
#: Pages of changes are what lives and revocations come by.
_FEED_MENU = (*FALSE_POLICIES, "no date", "stuck page", "bad page")
#: What the service, or anybody on the way, may say of a document that nobody asked for.
_BEFOREHAND_MENU = ("403", "404", "409", "422", "410", "429", "500", "offline", "lost answer")
_BYTES_BEFOREHAND = ("", "416", "wrong range", "cut late", "flipped", "flipped", "404 bytes", "500 bytes")
_LOOKUP_MENU = ("left out", "left out", "lost answer", "500", "portal 200", "offline")
EXCHANGES = (*INSTEAD, *AFTER, TWICE, LATER, *MANGLED)


def exchange(process: Process, method: str, path: str, content: bytes, cmid: str | None, signed: bool) -> Answer:
    """Make one exchange for a process; a crash may come before it leaves and after the service has done its work."""
    world = process.world
    process.hook()
    kind = world.draw_fault(True)
    if not kind and path.endswith("/lookup") and world.draw() < world.lookup_rate:
        # Look-ups are rare, and everything depends on them.
        kind = _LOOKUP_MENU[int(world.draw() * len(_LOOKUP_MENU))]
    elif not kind and path == BATCH and world.draw() < world.batch_rate:
        kind = _BATCH_MENU[int(world.draw() * len(_BATCH_MENU))]
    elif not kind and world.feed_rate and path.startswith("/v1/documents/changes") and world.draw() < world.feed_rate:
        kind = _FEED_MENU[int(world.draw() * len(_FEED_MENU))]
    elif not kind and process.planned and path.endswith("/download-url") and world.draw() < world.beforehand_rate:
        kind = _BEFOREHAND_MENU[int(world.draw() * len(_BEFOREHAND_MENU))]
    make = INSTEAD.get(kind) if kind else None
    if make is not None:
        process.hook()
        world.spoiled(process, kind, path)
        return make(world)
    given = _deliver(process, method, path, content, cmid, signed)
    if kind == TWICE and method == "POST":
        world.spoiled(process, kind, path)
        given = _deliver(process, method, path, content, cmid, signed)
    elif kind == LATER and path in (JOBS, BATCH):
        world.spoiled(process, kind, path)
        world.belated.append((process.caller, path, content, cmid))
    process.hook()
    if kind in AFTER:
        world.spoiled(process, kind, path)
        return AFTER[kind](world)
    if kind in MANGLED:
        return _mangle(world, process, kind, path, given)
    return given


def _deliver(process: Process, method: str, path: str, content: bytes, cmid: str | None, signed: bool) -> Answer:
    world = process.world
    if signed:
        given = world.server.take_events(_json(content))
    else:
        # The token belongs to the session under which the process began.
        caller = process.caller if world.tokens.get(process.session, False) else None
        given = world.server.answer(caller, method, path, content, cmid)
    process.heard_at = world.now
    headers = world.server.stamp()
    if given.headers:
        for name, value in given.headers.items():
            headers[name.lower()] = value
    return Answer("answer", given.status, headers, given.body, given.status != 204)


def _json(content: bytes) -> Any:
    import json

    return json.loads(content)


def _mangle(world: World, process: Process, kind: str, path: str, given: Answer) -> Answer:
    """Return the answer as a broken proxy or a broken service would give it; untouched where it does not apply."""
    body = given.body
    changed: Any = None
    headers = dict(given.headers)
    if given.status >= 300 or not isinstance(body, dict):
        return given
    if kind == "other id" and "clientMutationId" in body:
        changed = {**body, "clientMutationId": "someone-else"}
    elif path == BATCH and kind in _OF_ONE_ITEM:
        changed = _mangle_item(world, kind, body)
    elif kind == "left out" and body.get("items") and path.endswith(("/lookup", "/audit-events", "/batch")):
        changed = {**body, "items": body["items"][:-1]}
    elif "revocations" in body:
        if kind == "stuck page":
            changed = {
                **body,
                "cursor": unquote(path[29:].partition("&policy=")[0]),
                "more": True,
                "documents": [],
                "jobs": [],
                "templates": [],
            }
        elif kind == "bad page":
            changed = {key: value for key, value in body.items() if key != "more"}
        elif kind == "forged policy":
            forged = {"cacheTtlSeconds": 10**9, "prefetch": EVERYTHING, "signature": "forged"}
            changed = {**body, "cachePolicy": {**body["cachePolicy"], **forged}}
        elif kind in FALSE_POLICIES:
            changed = {**body, "cachePolicy": false_policy(kind, process.session[0])}
        elif kind == "no date":
            changed = body
            del headers["date"]
    if changed is None:
        return given
    world.spoiled(process, kind, path)
    return Answer("answer", given.status, headers, changed, True)


def _mangle_item(world: World, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a batch's answer in which one request met something else than the others."""
    items = list(body["items"])
    number = int(world.draw() * len(items))
    item = items[number]
    if kind == "other id":
        items[number] = {**item, "clientMutationId": "someone-else"}
    else:
        said = INSTEAD[kind.removeprefix("one ")](world)
        items[number] = {"clientMutationId": item["clientMutationId"], "status": said.status, "problem": said.body}
    return {"items": items}


def download(
    process: Process, url: str, *, offset: int, size: int, etag: str, have_all: bool, keep: Callable[[int, bytes], None]
) -> Transfer:
    """Do what ``http.Connection.download`` does, on the model's bytes."""
    world = process.world
    process.hook()
    kind = world.draw_fault(False)
    document_id = url.split("/")[3]
    if not kind and document_id in process.planned and world.draw() < world.beforehand_rate:
        kind = _BYTES_BEFOREHAND[int(world.draw() * len(_BYTES_BEFOREHAND))]
    if kind in ("offline", "tls"):
        world.spoiled(process, kind, "content")
        return Transfer("cut", 0, INSTEAD[kind](world))
    headers = {}
    if have_all:
        headers["if-none-match"] = f'"{etag}"'
    elif offset:
        headers = {"range": f"bytes={offset}-", "if-range": f'"{etag}"'}
    given = world.server.content(document_id, headers)
    process.heard_at = world.now
    status, data = given.status, given.content or b""
    # The service reads the bytes when it answers; it may be restored before they arrive.
    whole = world.server.state.contents.get(document_id, b"")
    if kind in _INSTEAD_OF_BYTES:
        world.spoiled(process, kind, "content")
        return _INSTEAD_OF_BYTES[kind](world)
    process.hook()
    if status == 304:
        return Transfer("confirmed")
    if status == 416:
        return Transfer("restart")
    if status not in (200, 206):
        return Transfer("answered", answer=Answer("answer", status, world.server.stamp(), given.body, True))
    if status == 206 and not kind and world.bytes_rate and world.draw() < WHOLE_SHARE:
        kind = "whole instead"
    start = offset if status == 206 else 0
    if kind == "whole instead" and status == 206:
        world.spoiled(process, kind, "content")
        start, data = 0, whole
    elif start + len(data) > size:
        return Transfer("restart", len(data))
    elif kind == "flipped":
        world.spoiled(process, kind, "content")
        data = data[:-1] + bytes([data[-1] ^ 1]) if data else data
    elif kind in ("cut early", "cut late", "lost answer"):
        world.spoiled(process, kind, "content")
        share = {"cut early": 0.3, "cut late": 0.8}.get(kind, 0.0)
        part = data[: int(len(data) * share)]
        if part:
            keep(start, part)
        return Transfer("cut", len(part), INSTEAD["offline"](world))
    # Two pieces, as a socket gives them.
    middle = len(data) // 2
    for piece_start, piece in ((0, data[:middle]), (middle, data[middle:])):
        if piece:
            keep(start + piece_start, piece)
    return Transfer("complete", len(data))


_INSTEAD_OF_BYTES: dict[str | None, Callable[[World], Transfer]] = {
    "wrong range": lambda world: Transfer("restart"),
    "416": lambda world: Transfer("restart"),
    "portal bytes": lambda world: Transfer("answered", answer=Answer("answer", 200, HTML)),
    "404 bytes": lambda world: Transfer("answered", answer=ours(404, "NOT_FOUND")(world)),
    "500 bytes": lambda world: Transfer("answered", answer=ours(500, "INTERNAL")(world)),
}

__all__ = ["BYTES", "EXCHANGES", "Caller", "download", "exchange", "to_text"]
