"""What a request leaves in the audit trail: who, with which device, under which request id."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from document_service import audit
from document_service.documents import Document
from document_service.tokens import Caller


def event(request: Request, caller: Caller, action: str, document: Document | None = None, **more: Any) -> audit.Event:
    """The event of an act on a document, or on nothing that has an id."""
    return audit.Event(
        action,
        caller.user,
        document_id=None if document is None else document.id,
        patient_id=more.pop("patient_id", None) if document is None else document.patient_id,
        device_id=getattr(request.state, "device_id", None),
        request_id=request.state.request_id,
        **more,
    )
