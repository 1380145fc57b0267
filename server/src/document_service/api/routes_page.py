"""``/docs``: the routes of openapi.json as a page that a person reads.

It is made here, holds no script and loads nothing: a clinic's network may reach no other host, and a script from one
would run at the address of the service.
"""

from __future__ import annotations

from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

#: Nothing but the page's own style.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
}

_METHODS = ("get", "post", "put", "patch", "delete", "head")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:1rem/1.45 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}}
h2{{font-size:1.1rem;margin-top:2.5rem;border-top:1px solid #999;padding-top:1rem}}code,h2{{font-family:monospace}}
dt{{font-weight:bold;margin-top:.4rem}}dd{{margin-left:1.5rem}}summary{{cursor:pointer}}</style></head>
<body><h1>{title} {version}</h1><p>{description} The machine's version of this page is
<a href="/openapi.json">openapi.json</a>.</p>{routes}<h1 id="shapes">Shapes</h1>{shapes}</body></html>
"""


async def show(request: Request) -> Response:
    """Answer with the page."""
    return HTMLResponse(render(request.app.openapi()), headers=_HEADERS)


def render(described: dict[str, Any]) -> str:
    """The page of an OpenAPI 3.1 description."""
    routes = [
        _route(method, path, operations[method])
        for path, operations in described["paths"].items()
        for method in _METHODS
        if method in operations
    ]
    shapes = described.get("components", {}).get("schemas", {})
    info = {name: escape(described["info"][name]) for name in ("title", "version", "description")}
    return _PAGE.format(
        **info, routes="".join(routes), shapes="".join(_shape(name, one) for name, one in sorted(shapes.items()))
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    facts = []
    if operation.get("x-roles"):
        facts.append(("Role", escape(" or ".join(operation["x-roles"]))))
    for parameter in operation.get("parameters", []):
        needed = "" if parameter.get("required") else ", optional"
        text = f"{escape(parameter['in'])}: {_type(parameter.get('schema', {}))}{needed}"
        facts.append((f"<code>{escape(parameter['name'])}</code>", text))
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        facts.append((f"Body, <code>{escape(kind)}</code>", _type(body.get("schema", {}))))
    for status, answer in operation["responses"].items():
        given = [_type(body.get("schema", {})) for body in answer.get("content", {}).values()]
        text = f"{escape(answer.get('description', ''))} {', '.join(dict.fromkeys(given))}"
        facts.append((f"Answer {escape(status)}", text))
    rows = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts)
    more = f"<details><summary>More</summary><dl>{rows}</dl></details>"
    return f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(operation.get('summary', ''))}</p>{more}"


def _shape(name: str, schema: dict[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = "".join(
        f"<dt><code>{escape(field)}</code>{'' if field in needed else ', optional'}</dt>"
        f"<dd>{_type(one)} {escape(one.get('description', ''))}</dd>"
        for field, one in schema.get("properties", {}).items()
    )
    body = f"<dl>{rows}</dl>" if rows else f"<p>{_type(schema)}</p>"
    return f'<h2 id="{escape(name)}">{escape(name)}</h2>{body}'


def _type(schema: dict[str, Any]) -> str:
    """What a JSON Schema allows, in words; a shape by its name, as a link."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    for alternatives in ("anyOf", "oneOf", "allOf"):
        if alternatives in schema:
            return " or ".join(_type(one) for one in schema[alternatives])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    said = escape(str(schema.get("type", "anything")))
    bounds = [
        f"{name} {schema[name]}" for name in ("format", "maxLength", "minimum", "maximum", "pattern") if name in schema
    ]
    return f"{said} ({escape(', '.join(bounds))})" if bounds else said
