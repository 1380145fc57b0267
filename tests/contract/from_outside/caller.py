"""Somebody who calls the HTTP API, and what must hold for whatever is answered (contract §2, §3, §6)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from contract.from_outside.shapes import PROBLEM

#: What the fixture ``request_for`` gives: a maker of render requests.
Request = Callable[..., dict[str, Any]]

JOBS = "/v1/documents/render-jobs"
GENERATE = "/v1/documents/generate"

#: A render takes 50 ms; a busy machine gets time to spare.
RENDER_SECONDS = 60.0


class Caller(httpx2.Client):
    """An HTTP client with a bearer token that holds every answer against what is promised for all."""

    def __init__(self, url: str, token: str | None = None) -> None:
        super().__init__(
            base_url=url,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
            event_hooks={"response": [check_answer]},
        )

    def form(self, key: str = "general-test-requisition") -> dict[str, Any]:
        """A platform form, as the catalogue names it."""
        (found,) = self.get("/v1/document-templates", params={"platformFormKey": key}).json()["items"]
        return dict(found)

    def finished(self, job_id: str) -> dict[str, Any]:
        """Wait for the end of a job."""
        deadline = time.monotonic() + RENDER_SECONDS
        while True:
            job: dict[str, Any] = self.get(f"{JOBS}/{job_id}").json()
            if job["status"] in ("completed", "failed"):
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.05)

    def render(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask for a document and wait for its job to end."""
        answer = self.post(JOBS, json=request)
        assert answer.status_code == 202, answer.text
        return self.finished(answer.json()["id"])

    def generate(self, request: dict[str, Any], key: str | None = None, **headers: str) -> httpx2.Response:
        """``generate`` with a key of its own; of a render request, the fields that it does not take are left out."""
        body = {name: value for name, value in request.items() if name not in ("clientMutationId", "requestedAt")}
        return self.post(GENERATE, json=body, headers={"Idempotency-Key": key or new_id(), **headers})

    def known(self, *ids: str) -> list[bool]:
        """Which of these clientMutationIds the service knows."""
        return [item["known"] for item in self.post(f"{JOBS}/lookup", json={"clientMutationIds": ids}).json()["items"]]

    def every(self, path: str, **query: str) -> list[dict[str, Any]]:
        """All items of a list, page by page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.get(path, params={**query, "limit": "100", **({"cursor": cursor} if cursor else {})}).json()
            items += page["items"]
            cursor = page["nextCursor"]
            if cursor is None:
                return items

    def url_of(self, document_id: str) -> str:
        """A fresh signed URL of a document."""
        answer = self.post(f"/v1/documents/{document_id}/download-url")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["url"])

    def without_token(self) -> Caller:
        """Whoever holds a URL, without any token."""
        return Caller(str(self.base_url))


def check_answer(response: httpx2.Response) -> None:
    """§3: every reply carries X-Sync-Epoch. §2, §6: every error is a problem of one shape, with a title and a code."""
    where = f"{response.request.method} {response.request.url.path} → {response.status_code}"
    assert response.headers.get("x-sync-epoch"), f"{where}: no X-Sync-Epoch"
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    response.read()
    assert response.headers["content-type"].startswith("application/problem+json"), f"{where}: {response.text[:200]}"
    problem = response.json()
    assert set(problem) >= PROBLEM, f"{where}: {problem}"
    assert problem["status"] == response.status_code, f"{where}: {problem}"
    assert problem["title"], f"{where}: {problem}"
    assert problem["code"] == problem["code"].upper(), f"{where}: {problem}"
    for entry in problem.get("errors") or []:
        assert set(entry) >= {"pointer", "code", "title"}, f"{where}: {problem}"
        # What is wrong with a query or a header is no part of a document; the place of it is named all the same.
        assert entry["pointer"] == "" or entry["pointer"].startswith(("/", "#query/", "#header/")), (
            f"{where}: {problem}"
        )
    if response.status_code == 429:
        assert response.headers.get("retry-after"), f"{where}: no Retry-After"


def code_of(response: httpx2.Response) -> tuple[int, str | None]:
    """Status and problem code of an answer."""
    return response.status_code, response.json().get("code") if response.status_code >= 400 else None


def new_id() -> str:
    """An id made once per action of a person."""
    return str(uuid.uuid4())


def instant(**away: float) -> str:
    """Now, or so far away, as RFC 3339 UTC."""
    return (datetime.now(UTC) + timedelta(**away)).strftime("%Y-%m-%dT%H:%M:%SZ")
