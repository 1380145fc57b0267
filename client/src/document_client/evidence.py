"""Sending the audit outbox by the device's own signature, when no session may speak for it any more.

A deactivated user's prints and a revoked device's purge must still reach the service. The service takes audit events,
and nothing else, when the body is signed by the device's enrolled key (contract §2).
"""

from __future__ import annotations

import base64
import hashlib

from .vault import Vault

_SIGNED = b"document-service audit-events v1\n"


def signed_headers(vault: Vault, tenant: str, content: bytes) -> dict[str, str]:
    """Return the headers that stand in for a bearer token on a POST of ``content`` to the audit intake."""
    signature = vault.sign(_SIGNED + hashlib.sha256(content).hexdigest().encode())
    return {
        "X-Device-Id": vault.device_id,
        "X-Device-Tenant": tenant,
        "X-Device-Signature": base64.urlsafe_b64encode(signature).decode().rstrip("="),
    }
