"""What the model's rules take and give: callers, answers, problems, and the shapes of rows on the wire."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageProblem
from ..inputs import check_inputs

_CANONICAL = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from the token's claims; ``facilities`` None: the whole tenant."""

    tenant: str
    user: str
    facilities: frozenset[str] | None = None

    def sees(self, row: dict[str, Any]) -> bool:
        """Return whether a job or document of the model may be seen: one's own, or of a common facility."""
        if row["_tenant"] != self.tenant:
            return False
        theirs = row.get("_facilities")
        if self.facilities is None or theirs is None or row.get("_user") == self.user:
            return True
        return not self.facilities.isdisjoint(theirs)


@dataclass(slots=True)
class ModelAnswer:
    """An answer before it is put on the wire: JSON in ``body``, or bytes in ``content``."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None


def problem(status: int, code: str, title: str = "", **headers: str) -> ModelAnswer:
    """Return a problem document."""
    body = {"type": "about:blank", "title": title or code, "status": status, "code": code, "requestId": "req_model"}
    return ModelAnswer(status, body, {"Content-Type": "application/problem+json", **headers})


def public(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the members that only the model knows."""
    return {name: value for name, value in row.items() if name[0] != "_"}


def base64url(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def fingerprint_of(body: dict[str, Any]) -> str:
    """Return what makes two requests the same: every field but requestedAt, absent = null (contract §3)."""
    return _CANONICAL.encode({k: v for k, v in body.items() if k != "requestedAt" and v is not None})


def shape_problem(body: Any, header_id: str | None) -> ModelAnswer | None:
    """Return the refusal of a body that is no render request, or None."""
    needed = ("clientMutationId", "templateVersionId", "patientId", "inputs", "locale", "requestedAt")
    if not isinstance(body, dict) or any(name not in body for name in needed):
        return problem(422, "INVALID_REQUEST")
    if header_id is not None and header_id != body["clientMutationId"]:
        return problem(400, "IDEMPOTENCY_KEY_MISMATCH")
    return None


def misfit(definition: dict[str, Any], body: dict[str, Any]) -> ModelAnswer | None:
    """Return the refusal of a request that does not fit its form, or None."""
    if body["locale"] not in definition.get("locales", [body["locale"]]):
        return problem(422, "LOCALE_UNSUPPORTED")
    if "inputs" in definition:
        try:
            check_inputs(body["inputs"], definition["inputs"])
        except UsageProblem:
            return problem(422, "INPUTS_INVALID")
    return None


def small_pdf(text: str) -> bytes:
    """Return a small but whole PDF of one empty page, with the text in its information dictionary."""
    head = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    page = (
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj 4 0 obj<</Title("
        + text.encode()
        + b")>>endobj\n"
    )
    return head + page + b"trailer<</Root 1 0 R/Info 4 0 R>>\n%%EOF\n"


def unless_known(answer: ModelAnswer, cursor: str, mark: str | None) -> ModelAnswer:
    """Return 204 in place of a page that has nothing new for whoever names the end of its policy's signature."""
    page = answer.body
    if answer.status != 200 or not mark or len(mark) < 8 or page["cursor"] != cursor:
        return answer
    if any(page[name] for name in ("revocations", "templates", "jobs", "documents")):
        return answer
    return ModelAnswer(204, content=b"") if page["cachePolicy"]["signature"].endswith(mark) else answer


def part_of(data: bytes, sha256: str, headers: dict[str, str]) -> ModelAnswer:
    """Return what a GET of stored bytes gets, by Range, If-Range and If-None-Match."""
    etag = f'"{sha256}"'
    given = {"ETag": etag, "Content-Type": "application/pdf", "Accept-Ranges": "bytes"}
    if headers.get("if-none-match") == etag:
        return ModelAnswer(304, None, given, b"")
    wanted = headers.get("range", "")
    if wanted.startswith("bytes=") and headers.get("if-range", etag) == etag:
        start = int(wanted[6:].split("-")[0])
        if start >= len(data):
            return problem(416, "RANGE_NOT_SATISFIABLE")
        given["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return ModelAnswer(206, None, given, data[start:])
    return ModelAnswer(200, None, given, data)
