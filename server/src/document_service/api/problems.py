"""Errors as RFC 9457 problem documents, one way for every route."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse

from document_service.errors import InvalidRequest, MalformedJson, Problem, ServiceError

MEDIA_TYPE = "application/problem+json"


def body_of(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The problem document of an error; extension members never hide the standard ones."""
    body: dict[str, Any] = {
        **error.extra,
        "type": f"urn:document-service:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        # Always there, for programs that show it and nothing else; where there is no more to say, the title again.
        "detail": error.detail or error.title,
        "requestId": request_id,
    }
    if error.errors:
        body["errors"] = [{"pointer": p.pointer, "code": p.code, "title": p.title} for p in error.errors]
    return body


def response_of(error: ServiceError, request_id: str) -> JSONResponse:
    """The HTTP answer of an error."""
    headers = {"Cache-Control": "no-store", **error.headers}
    if error.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    if error.status in (429, 503):
        headers.setdefault("Retry-After", "5")
    return JSONResponse(body_of(error, request_id), error.status, headers, MEDIA_TYPE)


#: What pydantic calls a fault, in words that name the remedy; input values are never repeated.
_REMEDIES = {
    "missing": "This field is required.",
    "extra_forbidden": "This field is not known here; remove it.",
    "string_type": "Send text.",
    "dict_type": "Send an object.",
    "model_attributes_type": "Send a JSON object, as application/json.",
    "string_unicode": "The text holds half of a surrogate pair; send whole characters.",
    "list_type": "Send a list.",
    "int_type": "Send a whole number.",
    "bool_type": "Send true or false.",
    "string_pattern_mismatch": "The text does not have the shape of this field.",
    "string_too_long": "The text is longer than this field takes.",
    "string_too_short": "The text is shorter than this field takes.",
    "too_long": "The list is longer than this field takes.",
    "too_short": "The list is shorter than this field takes.",
    "uuid_parsing": "Send a UUID such as 0b9fbd3e-6d3c-4a0e-9a53-0d2c7a3f3a11.",
    "uuid_type": "Send a UUID such as 0b9fbd3e-6d3c-4a0e-9a53-0d2c7a3f3a11.",
    "datetime_from_date_parsing": "Send an RFC 3339 instant such as 2026-11-22T08:30:00Z.",
    "datetime_parsing": "Send an RFC 3339 instant such as 2026-11-22T08:30:00Z.",
    "datetime_type": "Send an RFC 3339 instant such as 2026-11-22T08:30:00Z.",
    "timezone_aware": "The instant needs an offset, such as Z.",
    "enum": "Send one of the allowed values.",
    "literal_error": "Send one of the allowed values.",
    "greater_than_equal": "The number is too small.",
    "less_than_equal": "The number is too large.",
    "int_parsing": "Send a whole number.",
}


def from_validation(error: RequestValidationError) -> ServiceError:
    """Translate a shape error: every fault at once, with a JSON pointer, without repeating what was sent."""
    problems = []
    for fault in error.errors():
        where, *path = fault["loc"]
        if fault["type"] == "json_invalid":
            return MalformedJson()
        if where == "body":
            pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
        else:
            pointer = f"#{where}/{'/'.join(map(str, path))}"
        title = _REMEDIES.get(fault["type"])
        if title is None:
            # Our own validators raise ValueError with a remedy; other texts of the library may quote the input.
            reason = fault.get("ctx", {}).get("error")
            title = str(reason) if isinstance(reason, ValueError) else "This value is not allowed."
        problems.append(Problem(pointer, fault["type"].upper(), title))
    return InvalidRequest(errors=tuple(problems))
