"""What a request leaves in the audit trail: who, with which device, under which request id; refusals included."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from document_service import audit
from document_service.documents import Document
from document_service.tokens import Caller


def event(request: Request, caller: Caller, action: str, document: Document | None = None, **more: Any) -> audit.Event:
    """The event of an act on a document, or on nothing that has a patient."""
    given: dict[str, Any] = {
        "device_id": getattr(request.state, "device_id", None),
        "request_id": request.state.request_id,
    }
    if document is not None:
        given |= {"document_id": document.id, "patient_id": document.patient_id}
    return audit.Event(action, caller.user, **{**given, **more})
