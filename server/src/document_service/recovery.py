"""The tenant's recovery key: what opens a device's request queue or audit outbox whose own key is lost.

A device wraps the key of each for the tenant's X25519 key (HPKE, RFC 9180) and keeps the envelope beside the file. When
the device has lost its keys it asks with the envelopes, signed by its enrolled key; the operator answers with the keys
of the files, wrapped for that device alone. No request, no record and no patient's data pass through here.

The private key is derived from the tenant's key: it is in every copy of the key folder and gone with a shred.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import rfc8785
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from document_service.errors import ObjectCorrupt
from document_service.keys import KeyStore

SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)
_ENVELOPE: Final = "document-client queue-recovery v1"
_REQUEST: Final = b"document-client queue-recovery request v1\n"
_ANSWER: Final = "document-service queue-recovery answer v1"

#: A file of a hundred envelopes has 30 KB; a device has one for each person who worked on it.
MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What a device asks for: its id, the key that the answer is wrapped for, and (file, account, envelope) each."""

    device_id: str
    answer_key: bytes
    items: list[tuple[str, str, bytes]]
    content: dict[str, Any]
    signature: bytes

    def is_signed_by(self, public_key: bytes) -> bool:
        """Whether the device with this Ed25519 key signed it."""
        bare = {name: value for name, value in self.content.items() if name != "signature"}
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(self.signature, _REQUEST + rfc8785.dumps(bare))
        except (InvalidSignature, ValueError):
            return False
        return True


def public_key(keys: KeyStore, tenant_id: str) -> dict[str, str]:
    """The tenant's recovery key as devices get it in their cache policy. Raises TenantKeyMissing."""
    public = _private(keys, tenant_id).public_key().public_bytes_raw()
    return {"kid": hashlib.sha256(public).hexdigest()[:16], "publicKey": _encoded(public)}


def read(content: bytes, tenant_id: str) -> Asked:
    """What a device's file asks for; raises ValueError when it is not such a file, or another tenant's."""
    try:
        parsed = json.loads(content[: MOST_BYTES + 1])
        if parsed["version"] != 1 or parsed["tenant"] != tenant_id:
            raise ValueError("it asks for another tenant")
        items = [(str(item["file"]), str(item["account"]), _decoded(item["sealed"])) for item in parsed["items"]]
        return Asked(
            str(parsed["deviceId"]), _decoded(parsed["publicKey"]), items, parsed, _decoded(parsed["signature"])
        )
    except (KeyError, TypeError, binascii.Error, RecursionError) as failure:
        raise ValueError("this is not what `documents recover --ask` writes") from failure


def answer(keys: KeyStore, tenant_id: str, asked: Asked) -> dict[str, Any]:
    """The files' keys, wrapped for the device that asked.

    Raises:
        TenantKeyMissing: the tenant was shredded, or its key is not in the key folder.
        ObjectCorrupt: an envelope was not made for this tenant's key.
    """
    private = _private(keys, tenant_id)
    items = []
    for file, account, envelope in asked.items:
        try:
            file_key = SUITE.decrypt(envelope, private, info=_info(_ENVELOPE, tenant_id, account))
        except (InvalidTag, ValueError) as error:
            raise ObjectCorrupt(f"the envelope of {file} was not made for the recovery key of this tenant") from error
        recipient = X25519PublicKey.from_public_bytes(asked.answer_key)
        sealed = SUITE.encrypt(file_key, recipient, info=_info(_ANSWER, tenant_id, file))
        items.append({"file": file, "account": account, "sealed": _encoded(sealed)})
    return {"version": 1, "tenant": tenant_id, "deviceId": asked.device_id, "items": items}


def _private(keys: KeyStore, tenant_id: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(keys.mac(tenant_id, "queue-recovery", b"x25519 1"))


def _info(use: str, *names: str) -> bytes:
    return "\n".join((use, *names)).encode()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
