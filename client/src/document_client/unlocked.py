"""Remember an unlocked vault for some minutes in the kernel's memory, so that `status` need not stretch again.

Argon2id costs about 0.1 s on purpose. Linux keeps small secrets for a user's processes in its key retention service:
never on disk, gone at reboot, and gone by itself after a time limit (the auto-lock). What is kept is the root key under
a mask that takes the passphrase and a short stretch to make: whoever reads the entry may try a hundred passphrases a
second and not millions, and a wrong one gives a wrong key. An entry's name, which more programs may see, says which
vault it is of and nothing of the passphrase. Where the system call is missing or forbidden (most containers), nothing
is remembered and nothing else changes.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

# Long enough for one consultation, short enough for a device left on a table.
REMEMBER_SECONDS = 600
# scrypt of 4 MiB: about 10 ms, beside the 100 ms that remembering saves.
_COST, _BLOCK = 2**12, 8
_USER_SESSION_KEYRING = -5
_SET_TIMEOUT, _READ, _SEARCH = 15, 11, 10
_CALLS = {"x86_64": (248, 250), "aarch64": (217, 219)}


def recall(path: Path, salt: str, passphrase: str) -> bytes | None:
    """Return the root key that was remembered for this vault, or None; a wrong passphrase gives a wrong key.

    The caller compares it (``rootkey.fits``).
    """
    import ctypes

    calls = _system_calls()
    if calls is None:
        return None
    libc, _, control = calls
    name = _name(path, salt)
    found = libc.syscall(control, _SEARCH, _USER_SESSION_KEYRING, b"user", name, 0)
    if found < 0:
        return None
    buffer = ctypes.create_string_buffer(64)
    length = libc.syscall(control, _READ, found, buffer, len(buffer), 0)
    return _masked(buffer.raw[:32], salt, passphrase) if length == 32 else None


def remember(path: Path, salt: str, passphrase: str, root: bytes) -> None:
    """Keep ``root`` for REMEMBER_SECONDS; silently does nothing where the kernel does not offer it."""
    calls = _system_calls()
    if calls is None or os.environ.get("DOCUMENTS_REMEMBER") == "0":
        return
    libc, add, control = calls
    kept = _masked(root, salt, passphrase)
    made = libc.syscall(add, b"user", _name(path, salt), kept, len(kept), _USER_SESSION_KEYRING)
    if made >= 0:
        libc.syscall(control, _SET_TIMEOUT, made, REMEMBER_SECONDS, 0, 0)


def _name(path: Path, salt: str) -> bytes:
    # Another passphrase has another salt (``rekey``), and so another entry.
    return b"document-client:" + hashlib.sha256(f"{path.resolve()}\0{salt}".encode()).hexdigest()[:32].encode()


def _masked(secret: bytes, salt: str, passphrase: str) -> bytes:
    mask = hashlib.scrypt(passphrase.encode(), salt=salt.encode(), n=_COST, r=_BLOCK, p=1, dklen=len(secret))
    return bytes(left ^ right for left, right in zip(secret, mask, strict=True))


def _system_calls() -> tuple[Any, int, int] | None:
    """Return the C library and the numbers of add_key and keyctl, or None where there are none."""
    numbers = _CALLS.get(os.uname().machine) if sys.platform == "linux" else None
    if numbers is None:
        return None
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True), *numbers
    except (ImportError, OSError):
        return None
