"""Which device a request comes from: by the header that it sends, or by its own signature alone.

``X-Device-Id`` beside a bearer token says on which installation the user works. It is a statement and no proof, and
gives no right; a device that is not enrolled is not named in the trail. A revoked one is answered 403 DEVICE_REVOKED on
every route, which is what makes an honest client destroy its cache; only its audit events are still taken.

The signature stands in for the bearer token on one route: the audit outbox of a device must reach the service when its
user was deactivated or its session is over. It is ``X-Device-Signature``, the base64url Ed25519 signature by the
enrolled key over ``document-service audit-events v1`` and a line break and the SHA-256 of the body in hex, with
``X-Device-Tenant`` and ``X-Device-Id``. A repeat of a signed body changes nothing: events are taken once by their id.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from document_service import devices, identifiers
from document_service.database import tenant_transaction
from document_service.errors import DeviceRevoked, NotAuthenticated
from document_service.runtime import Runtime
from document_service.tokens import Caller, tenant_id_problem

AUDIT_EVENTS_PATH = "/v1/documents/audit-events"

_SIGNED = b"document-service audit-events v1\n"

#: An Ed25519 signature is 64 bytes, 86 characters in base64url without padding.
_SIGNATURE_CHARACTERS = 88


async def named_device(runtime: Runtime, caller: Caller, headers: Mapping[str, str], path: str) -> str | None:
    """The enrolled device that the request names, or None.

    Raises:
        DeviceRevoked: it was revoked, and this is not the intake of its audit events.
    """
    device_id = headers.get("x-device-id", "")
    if not identifiers.is_id("device", device_id):
        return None
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        device = await devices.find(connection, device_id)
        if device is None:
            return None
        await devices.note_contact(connection, device)
    if device.revoked_at is not None and path != AUDIT_EVENTS_PATH:
        raise DeviceRevoked()
    return device.id


def is_signed(headers: Mapping[str, str], method: str, path: str) -> bool:
    """Whether the request is to be admitted by its device's signature."""
    return (
        method == "POST"
        and path == AUDIT_EVENTS_PATH
        and "x-device-signature" in headers
        and "authorization" not in headers
    )


async def signing_device(runtime: Runtime, headers: Mapping[str, str], body: bytes) -> tuple[Caller, str]:
    """The device whose signature the request carries, as a caller without any role, and its id.

    Raises:
        NotAuthenticated: the device is not enrolled there, or the signature is not its own; which one is not said.
    """
    tenant, device_id = headers.get("x-device-tenant", ""), headers.get("x-device-id", "")
    signature = _decoded(headers.get("x-device-signature", ""))
    refused = NotAuthenticated("The device's signature is not valid; sign in, or enrol the device.")
    if tenant_id_problem(tenant) is not None or not identifiers.is_id("device", device_id) or signature is None:
        raise refused
    if not runtime.keys.has_tenant(tenant):
        raise refused
    async with tenant_transaction(runtime.database.app, tenant) as connection:
        device = await devices.find(connection, device_id)
        if device is None:
            raise refused
        try:
            digest = hashlib.sha256(body).hexdigest().encode()
            Ed25519PublicKey.from_public_bytes(device.public_key).verify(signature, _SIGNED + digest)
        except (InvalidSignature, ValueError):
            raise refused from None
        # Not before: whoever knows a lost device's id would have its copies reported as purged.
        await devices.note_contact(connection, device)
    return Caller(tenant, device.id, frozenset(), frozenset()), device.id


def _decoded(text: str) -> bytes | None:
    if len(text) > _SIGNATURE_CHARACTERS:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
