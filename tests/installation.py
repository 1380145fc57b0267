"""An installation of the client as the service sees it: a key of its own, a chain of audit events, a signature."""

from __future__ import annotations

import base64
import hashlib
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx2
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from document_service import identifiers
from running_service import Api

EVENTS = "/v1/documents/audit-events"


class Installation:
    """The key and the audit chain of one installation, as the client keeps them."""

    def __init__(self) -> None:
        self.id = identifiers.new("device")
        self.key = Ed25519PrivateKey.generate()
        self.last = "0" * 64
        self.sequence = 0

    @property
    def public_key(self) -> str:
        return text(self.key.public_key().public_bytes_raw())

    def enrol(self, api: Api, **more: Any) -> httpx2.Response:
        return api.post("/v1/devices", json={"deviceId": self.id, "publicKey": self.public_key, **more})

    def event(self, action: str, user: str = "nurse", **more: Any) -> dict[str, Any]:
        self.sequence += 1
        event = {
            "eventId": f"evt_{uuid.uuid4().hex}",
            "deviceId": self.id,
            "userId": user,
            "sequence": self.sequence,
            "action": action,
            "documentId": None,
            "documentSha256": None,
            "occurredAt": datetime.now(UTC).isoformat(),
            "clock": "trusted",
            "previousHash": self.last,
            **more,
        }
        event["hash"] = self.last = hashlib.sha256(rfc8785.dumps(event)).hexdigest()
        return event

    def signed(self, tenant: str, content: bytes) -> dict[str, str]:
        message = b"document-service audit-events v1\n" + hashlib.sha256(content).hexdigest().encode()
        return {
            "Content-Type": "application/json",
            "X-Device-Id": self.id,
            "X-Device-Tenant": tenant,
            "X-Device-Signature": text(self.key.sign(message)),
        }


def text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
