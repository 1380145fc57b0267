"""The model's batch route: up to fifty requests, each answered as if it had come alone (contract §2)."""

from __future__ import annotations

from typing import Any

from .rules import Model
from .wire import Caller, ModelAnswer, problem

MOST_ITEMS = 50


def submit_batch(model: Model, caller: Caller, body: Any) -> ModelAnswer:
    """Answer ``POST /v1/documents/render-jobs/batch``."""
    listed = body.get("items") if isinstance(body, dict) else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_ITEMS:
        return problem(422, "INVALID_REQUEST")
    items = []
    for request in listed:
        given = model.submit(caller, request, None)
        named = request.get("clientMutationId") if isinstance(request, dict) else None
        kind = "job" if given.status < 400 else "problem"
        items.append({"clientMutationId": named, "status": given.status, kind: given.body})
    return ModelAnswer(200, {"items": items})
