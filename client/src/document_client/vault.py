"""The keys of one installation: made here, wrapped, and never beside the data in the clear.

``vault.json`` holds one random key for each encrypted database, the device's Ed25519 key and the session token, each
sealed under the vault's root key (AES-256-GCM, the name as associated data). The root key itself is held by the
operating system's keyring, or wrapped by a passphrase through Argon2id (64 MiB, 3 passes, 4 lanes). A wrong passphrase
costs an escalating delay. Losing a cache key costs a download; losing a queue key sets the queue file aside.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import (
    KeyFileMissing,
    KeyFileUnreadable,
    KeysChanged,
    PassphraseDelayed,
    PassphraseNeeded,
    PassphraseWrong,
)
from .files import exclusive, make_folder, sweep_unfinished, write_private
from .rootkey import (
    entry_of,
    find_keyring,
    fits,
    forget_in_keyring,
    lock_by_passphrase,
    lock_in_keyring,
    root_from_keyring,
    stretch,
    unwrap,
    wrap,
)

# Three slips of the finger are free; then 1 s, 2 s, 4 s … up to five minutes.
FREE_FAILURES = 3
LONGEST_DELAY_SECONDS = 300.0

AskPassphrase = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Unlocking:
    """How a person proves to be the owner: the passphrase given, or a way to ask for it; and the time for the delay."""

    passphrase: str | None = None
    ask: AskPassphrase | None = None
    wall: Callable[[], float] = time.time


class Vault:
    """An unlocked vault. Its root key lives in this object only."""

    def __init__(self, path: Path, root: bytes) -> None:
        """Wrap the file ``path`` with its 32-byte ``root`` key; use ``open_vault`` to get one."""
        self._path = path
        self._root = root

    @property
    def device_id(self) -> str:
        """The ``dev_`` id of this installation."""
        return str(_load(self._path)["deviceId"])

    def key(self, name: str, *, create: bool = True) -> bytes | None:
        """Return the 32-byte key ``name``; made when absent, or None when ``create`` is false."""
        sealed = _load(self._path)["keys"].get(name)
        if sealed is not None:
            return self._unseal(name, sealed)
        if not create:
            return None
        with _edited(self._path, self._root) as content:
            # Another process may have made it between the look and the lock.
            if name not in content["keys"]:
                content["keys"][name] = self._seal(name, secrets.token_bytes(32))
            return self._unseal(name, content["keys"][name])

    def put(self, name: str, secret: bytes) -> None:
        """Seal ``secret`` (a token, a key) under ``name``, replacing what was there."""
        with _edited(self._path, self._root) as content:
            content["keys"][name] = self._seal(name, secret)

    def replace(
        self, secrets_by_name: Mapping[str, bytes | None], *, in_place_of: tuple[str, bytes] | None = None
    ) -> bool:
        """Seal several secrets at once, or remove those that are None: all of them or, after a crash, none.

        ``in_place_of``: only while that name still holds that secret. Returns whether it was done.
        """
        with _edited(self._path, self._root) as content:
            if in_place_of is not None:
                name, former = in_place_of
                sealed = content["keys"].get(name)
                if sealed is None or self._unseal(name, sealed) != former:
                    return False
            for name, secret in secrets_by_name.items():
                if secret is None:
                    content["keys"].pop(name, None)
                else:
                    content["keys"][name] = self._seal(name, secret)
        return True

    def destroy(self, name: str) -> None:
        """Remove the key ``name``; what was sealed with it can never be read again."""
        with _edited(self._path, self._root) as content:
            content["keys"].pop(name, None)

    def rename(self, name: str, new_name: str) -> None:
        """Keep the key ``name`` under another name (a file that was set aside keeps its key).

        A key that has the new name already stays, and so does ``name``, which is then a newer one.
        """
        with _edited(self._path, self._root) as content:
            keys = content["keys"]
            if name in keys and new_name not in keys:
                keys[new_name] = self._seal(new_name, self._unseal(name, keys.pop(name)))

    def sign(self, data: bytes) -> bytes:
        """Return the device's Ed25519 signature over ``data``."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = self.key("device", create=False)
        if private is None:
            raise KeyFileUnreadable("the device's own key is not in the key file")
        return Ed25519PrivateKey.from_private_bytes(private).sign(data)

    def public_key(self) -> str:
        """Return the device's public key, base64url without padding."""
        return str(_load(self._path)["devicePublicKey"])

    def _seal(self, name: str, secret: bytes) -> str:
        return wrap(self._root, name, secret)

    def _unseal(self, name: str, sealed: str) -> bytes:
        try:
            return unwrap(self._root, name, sealed)
        except ValueError as failure:
            if not fits(self._root, _load(self._path)["unlock"]["check"]):
                raise KeysChanged() from failure
            raise KeyFileUnreadable(f"the key {name} in the key file is damaged") from failure


def vault_exists(home: Path) -> bool:
    """Return whether this home folder has a key file."""
    return (home / "vault.json").exists()


def read_unlock_method(home: Path) -> str | None:
    """Return ``keyring`` or ``passphrase``, or None without a key file."""
    return str(_load(home / "vault.json")["unlock"]["method"]) if vault_exists(home) else None


def read_failures(home: Path) -> int:
    """Return how many wrong passphrases were given since the last right one."""
    return int(_load(home / "vault.json")["failures"]["count"]) if vault_exists(home) else 0


def create_vault(home: Path, device_id: str, unlocking: Unlocking) -> Vault:
    """Make the vault of a new installation, held by the keyring or, when there is none or a passphrase is given, by it.

    Where another program has made one meanwhile (a person types for as long as she likes), that one is opened: what
    was sealed with its keys could never be read under others. Raises PassphraseNeeded when there is neither keyring
    nor passphrase, and what ``open_vault`` raises.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    make_folder(home)
    root = secrets.token_bytes(32)
    passphrase = unlocking.passphrase
    keyring = None if passphrase else find_keyring()
    if keyring is None:
        if passphrase is None and unlocking.ask:
            passphrase = unlocking.ask()
            # Typed unseen for the first time: a slip would lock the owner out for ever.
            if passphrase and unlocking.ask() != passphrase:
                raise PassphraseWrong("the two passphrases differ; nothing was made")
        if not passphrase:
            raise PassphraseNeeded("this machine has no keyring, so a passphrase must protect the keys")
        unlock = lock_by_passphrase(root, passphrase)
    else:
        unlock = lock_in_keyring(root, device_id)
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    content: dict[str, Any] = {
        "version": 1,
        "deviceId": device_id,
        "devicePublicKey": base64.urlsafe_b64encode(public).decode().rstrip("="),
        "unlock": unlock,
        "failures": {"count": 0, "until": 0},
        "keys": {"device": wrap(root, "device", private.private_bytes_raw())},
    }
    path = home / "vault.json"
    with exclusive(path.with_name("vault.lock")):
        made = not path.exists()
        if made:
            _write(path, content)
    if not made:
        if keyring is not None:
            forget_in_keyring(device_id)
        return open_vault(home, replace(unlocking, passphrase=passphrase))
    if passphrase:
        from .unlocked import remember

        remember(path, unlock["salt"], passphrase, root)
    return Vault(path, root)


def open_vault(home: Path, unlocking: Unlocking) -> Vault:
    """Unlock the vault of ``home``.

    Raises KeyFileMissing, KeyFileUnreadable, KeyringLost, PassphraseNeeded, PassphraseWrong or PassphraseDelayed.
    """
    path = home / "vault.json"
    content = _load(path)
    unlock = content["unlock"]
    if unlock["method"] == "keyring":
        return Vault(path, root_from_keyring(unlock, content["deviceId"]))
    passphrase = unlocking.passphrase or (unlocking.ask() if unlocking.ask else None)
    if not passphrase:
        raise PassphraseNeeded()
    # One guess at a time, or many at once would share one delay. Who waits here meets the count of the one before.
    with exclusive(path.with_name("vault.lock")):
        return Vault(path, _root_from_passphrase(path, passphrase, unlocking.wall))


def _root_from_passphrase(path: Path, passphrase: str, wall: Callable[[], float]) -> bytes:
    """Return the root key and count, with the lock of the key file held."""
    from .unlocked import recall, remember

    content = _load(path)
    unlock, failures = content["unlock"], int(content["failures"]["count"])
    if unlock["method"] != "passphrase":
        # Another program has given the keys to the keyring while this one waited.
        raise KeysChanged()
    remaining = _delay_left(content, wall())
    if remaining > 0:
        raise PassphraseDelayed(f"wait {remaining:.0f} s before the next try")
    root = recall(path, unlock["salt"], passphrase)
    if root is None or not fits(root, unlock["check"]):
        try:
            root = unwrap(stretch(passphrase, unlock), "root", unlock["root"])
        except ValueError:
            _write(path, content | {"failures": _one_more(failures, wall())})
            raise PassphraseWrong() from None
        remember(path, unlock["salt"], passphrase, root)
    if failures:
        _write(path, content | {"failures": {"count": 0, "until": 0}})
    return root


def rekey(home: Path, vault: Vault, passphrase: str | None) -> Vault:
    """Seal every key of a vault under a new root key, held by a new passphrase or (None) by the keyring.

    One replacement of the key file decides: before it the old way in works, after it the new one. The keyring gets the
    new root key under another name first, and gives up the old one last, so that a crash in between leaves at most an
    entry that nothing names. Returns the vault under its new key; another program that has it open is told KeysChanged.
    Raises KeyringMissing, KeyringLost, KeyFileUnreadable or the storage's errors; the old way in then still works.
    """
    path, root = home / "vault.json", secrets.token_bytes(32)
    with _edited(path, vault._root) as content:
        device_id = str(content["deviceId"])
        former = entry_of(content["unlock"], device_id) if content["unlock"]["method"] == "keyring" else None
        entries = {device_id, f"{device_id}/2"}
        if passphrase is None:
            content["unlock"] = lock_in_keyring(root, next(iter(sorted(entries - {former}))))
            entries -= {content["unlock"]["entry"]}
        else:
            content["unlock"] = lock_by_passphrase(root, passphrase)
        keys = content["keys"]
        content["keys"] = {name: wrap(root, name, vault._unseal(name, sealed)) for name, sealed in keys.items()}
        content["failures"] = {"count": 0, "until": 0}
    for entry in entries:
        forget_in_keyring(entry)
    return Vault(path, root)


def _delay_left(content: dict[str, Any], now: float) -> float:
    left = float(content["failures"]["until"]) - now
    # A clock that was set back must not lock the owner out for years.
    return min(left, LONGEST_DELAY_SECONDS)


def _one_more(failures: int, now: float) -> dict[str, float]:
    beyond = failures + 1 - FREE_FAILURES
    delay = min(2.0 ** (beyond - 1), LONGEST_DELAY_SECONDS) if beyond > 0 else 0.0
    return {"count": failures + 1, "until": now + delay if delay else 0}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise KeyFileMissing(f"{path} is missing") from None
    except (OSError, ValueError) as failure:
        raise KeyFileUnreadable(f"{path}") from failure
    if not isinstance(content, dict) or content.get("version") != 1 or "unlock" not in content:
        raise KeyFileUnreadable(f"{path}")
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace the key file, with its lock held."""
    # A copy that a killed program left holds keys that were destroyed since, or are about to be.
    sweep_unfinished(path)
    write_private(path, json.dumps(content, indent=1).encode())


class _edited:
    """Read, change and replace the key file under a lock, so that two processes never lose each other's keys."""

    def __init__(self, path: Path, root: bytes | None = None) -> None:
        """``root``: what is written was sealed under it, so it must still be the key of this file."""
        self._path = path
        self._root = root
        self._lock = exclusive(path.with_name("vault.lock"))

    def __enter__(self) -> dict[str, Any]:
        self._lock.__enter__()
        try:
            self._content = _load(self._path)
            if self._root is not None and not fits(self._root, self._content["unlock"]["check"]):
                raise KeysChanged()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self._content

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                _write(self._path, self._content)
        finally:
            self._lock.__exit__(None, None, None)
