"""The root key of a vault: held by the operating system's keyring, or wrapped by a passphrase; and what it seals.

``unlock`` is the part of the key file that says how: the method, what it needs (the keyring's entry, or salt and cost
of Argon2id with the wrapped key), and a ``check`` by which the right key is known.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from typing import Any

from .errors import KeyringLost, KeyringMissing

# OWASP's second recommendation for Argon2id with room to spare: about 0.1 s on a clinic's machine, once per command.
ARGON2_MEMORY_KIB = 64 * 1024
ARGON2_PASSES = 3
ARGON2_LANES = 4
_KEYRING_SERVICE = "document-client"
# Back-ends of operating systems that keep secrets sealed. Everything else is refused: null, fail, plaintext files.
_TRUSTED_BACKENDS = ("SecretService", "libsecret", "kwallet", "macOS", "Windows")


def find_keyring() -> Any | None:
    """Return a back-end of the operating system that seals secrets, or None; null and plaintext ones are refused."""
    try:
        import keyring
        import keyring.backend

        chosen = keyring.get_keyring()
    except Exception:  # A broken desktop session raises anything; then there is no keyring.
        return None
    candidates = [chosen, *getattr(chosen, "backends", [])]
    for candidate in candidates:
        module = type(candidate).__module__
        if module.startswith("keyring.backends.") and module.rsplit(".", 1)[-1] in _TRUSTED_BACKENDS:
            return candidate
    return None


def lock_in_keyring(root: bytes, entry: str) -> dict[str, Any]:
    """Give the root key to the keyring under the name ``entry``; raises KeyringMissing or KeyringLost."""
    keyring = find_keyring()
    if keyring is None:
        raise KeyringMissing()
    try:
        keyring.set_password(_KEYRING_SERVICE, entry, base64.b64encode(root).decode())
    except Exception as failure:  # Each back-end has its own errors for a locked keyring.
        raise KeyringLost(type(failure).__name__) from failure
    return {"method": "keyring", "entry": entry, "check": wrap(root, "check", b"vault")}


def forget_in_keyring(entry: str) -> None:
    """Remove an entry of the keyring that no key file names any more; one that is not there is as good."""
    keyring = find_keyring()
    if keyring is not None:
        # A locked keyring keeps a key that opens nothing but an old copy of the key file; the next rekey tries again.
        with contextlib.suppress(Exception):
            keyring.delete_password(_KEYRING_SERVICE, entry)


def entry_of(unlock: dict[str, Any], device_id: str) -> str:
    """Return the name of the keyring's entry; the first key files did not say it."""
    return str(unlock.get("entry") or device_id)


def root_from_keyring(unlock: dict[str, Any], device_id: str) -> bytes:
    """Return the root key that the keyring holds; raises KeyringLost."""
    keyring = find_keyring()
    try:
        kept = keyring.get_password(_KEYRING_SERVICE, entry_of(unlock, device_id)) if keyring is not None else None
    except Exception as failure:  # Each back-end has its own errors for a locked keyring.
        raise KeyringLost(type(failure).__name__) from failure
    if not kept:
        raise KeyringLost()
    root = base64.b64decode(kept)
    if not fits(root, unlock["check"]):
        raise KeyringLost("the keyring holds another installation's key")
    return root


def lock_by_passphrase(root: bytes, passphrase: str) -> dict[str, Any]:
    """Wrap the root key by a passphrase."""
    unlock: dict[str, Any] = {
        "method": "passphrase",
        "salt": base64.b64encode(secrets.token_bytes(16)).decode(),
        "memoryKiB": ARGON2_MEMORY_KIB,
        "passes": ARGON2_PASSES,
        "lanes": ARGON2_LANES,
        "check": wrap(root, "check", b"vault"),
    }
    unlock["root"] = wrap(stretch(passphrase, unlock), "root", root)
    return unlock


def stretch(passphrase: str, unlock: dict[str, Any]) -> bytes:
    """Return the key that a passphrase stands for, at the cost that ``unlock`` names."""
    from argon2.low_level import Type, hash_secret_raw

    return hash_secret_raw(
        passphrase.encode(),
        base64.b64decode(unlock["salt"]),
        time_cost=int(unlock["passes"]),
        memory_cost=int(unlock["memoryKiB"]),
        parallelism=int(unlock["lanes"]),
        hash_len=32,
        type=Type.ID,
    )


def wrap(key: bytes, name: str, secret: bytes) -> str:
    """Seal a secret under a key; the name belongs to it (AES-256-GCM, associated data)."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, secret, b"document-client v1|" + name.encode())
    return base64.b64encode(nonce + sealed).decode()


def unwrap(key: bytes, name: str, sealed: str) -> bytes:
    """Return the secret; raises ValueError when the key or the text is not the right one."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    raw = base64.b64decode(sealed)
    try:
        return AESGCM(key).decrypt(raw[:12], raw[12:], b"document-client v1|" + name.encode())
    except InvalidTag:
        raise ValueError("not sealed with this key") from None


def fits(root: bytes, check: str) -> bool:
    """Return whether this is the root key that made the check."""
    try:
        return unwrap(root, "check", check) == b"vault"
    except ValueError:
        return False
