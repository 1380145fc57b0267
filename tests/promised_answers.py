"""Every answer that a test receives is held against docs/openapi.json: its status, its code and its body."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx2
import jsonschema

from document_service.api import create_app


@cache
def _document() -> dict[str, Any]:
    return create_app(None).openapi()


@cache
def _routes() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    routes = []
    for path, operations in _document()["paths"].items():
        pattern = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))
        routes += [(method.upper(), pattern, operation) for method, operation in operations.items()]
    return routes


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": schema, "components": _document()["components"]})


def check_promised(response: httpx2.Response) -> None:
    """Fail the test when an answer of a known route is not one that the OpenAPI document promises."""
    request = response.request
    operation = _operation_of(request.method, request.url.path)
    if operation is None:
        return
    where = f"{request.method} {request.url.path} → {response.status_code}"
    promised = operation["responses"].get(str(response.status_code))
    content_type = response.headers.get("content-type", "").split(";")[0]
    response.read()
    is_json = content_type.endswith("json") and bool(response.content)
    code = response.json().get("code") if content_type == "application/problem+json" and is_json else None
    assert promised is not None, f"{where} ({code}) is not in api/outcomes.py"
    if code is not None and response.status_code in (429, 503):
        assert response.headers["retry-after"].isdigit(), f"{where}: Retry-After is missing"
    if code is not None:
        assert code in promised.get("x-codes", ()), f"{where}: {code} is not in api/outcomes.py"
    if is_json:
        schema = promised["content"][content_type]["schema"]["$ref"]
        fault = next(_validator(schema).iter_errors(response.json()), None)
        # Only the place and the rule: a body may hold what must not stand in a test's log.
        assert fault is None, f"{where}: {fault.json_path} breaks {fault.validator} of {schema}"


def _operation_of(method: str, path: str) -> dict[str, Any] | None:
    for promised, pattern, operation in _routes():
        if promised == method and pattern.fullmatch(path):
            return operation
    return None
