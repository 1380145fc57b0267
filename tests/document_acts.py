"""What people do with documents, as calls of the API that many tests make."""

from __future__ import annotations

import uuid
from typing import Any

import httpx2

from running_service import Api, request_for


def made(api: Api, patient: str = "demo-patient-noorzai") -> dict[str, Any]:
    """A fresh document of a patient."""
    request = request_for(api.platform_version(), patient=patient)
    for field in ("clientMutationId", "requestedAt"):
        del request[field]
    answer = api.post("/v1/documents/generate", json=request, headers={"Idempotency-Key": str(uuid.uuid4())})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def supersede(api: Api, old: str, new: str, key: str | None = None, reason: str = "wrong dose") -> httpx2.Response:
    return api.post(
        f"/v1/documents/{old}/supersede",
        json={"byDocumentId": new, "reason": reason},
        headers={"Idempotency-Key": key or str(uuid.uuid4())},
    )


def void(api: Api, document: str, key: str | None = None, reason: str = "wrong patient") -> httpx2.Response:
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    return api.post(f"/v1/documents/{document}/void", json={"reason": reason}, headers=headers)


def changes_after(api: Api, cursor: str) -> dict[str, Any]:
    """Everything that changed since a cursor, pages joined; each page repeats the revocations that it must know."""
    seen: dict[str, Any] = {"documents": [], "revocations": []}
    while True:
        page = api.get("/v1/documents/changes", params={"cursor": cursor}).json()
        seen["documents"] += page["documents"]
        seen["revocations"] += [entry for entry in page["revocations"] if entry not in seen["revocations"]]
        cursor = page["cursor"]
        if not page["more"]:
            return {**seen, "cursor": cursor}
