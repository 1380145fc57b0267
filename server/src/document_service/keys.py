"""The keys of the service: one key per tenant, kept apart from the database and from every backup.

    KEY_DIR/                  0700
      master.key              0600  wraps every other key; more than one entry only while a rotation runs
      signing.key             0600  the service's Ed25519 key (cache policy), wrapped
      tenants/<tenant>.key    0600  the tenant's key encryption key (KEK), wrapped
      tenants/<tenant>.shredded     tombstone: the tenant's key was destroyed and is never made again
      .lock                         held (flock) by whoever changes a file here

A tenant's life here: absent → keyed → shredded. There is no way back from shredded: whatever was sealed under
the key, in the database, the object store and all their old backups, stays sealed (design §6).

Readers take no lock. Every use looks at the key file's identity (about 2 µs), so that another process's shred
or rotation is noticed at once and not when some cache expires. Writers hold the lock, so a leftover temporary
file seen under the lock belongs to a process that died, and is erased.

Overwriting cannot reach old blocks of a solid-state or copy-on-write disk. A shred that must survive a
laboratory is therefore a shred followed by ``rotate_master``: leftover blocks are wrapped by a master key
that is gone too.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from document_service.errors import KeyStoreUnusable, ObjectCorrupt, TenantKeyMissing, TenantShredded

KEY_BYTES: Final = 32  # AES-256 and HMAC-SHA256.
NONCE_BYTES: Final = 12  # The nonce that AES-GCM takes without hashing it (NIST SP 800-38D §8.2).
SEAL_VERSION: Final = 1  # The first byte of every sealed value, so that a later format can be told apart.
TENANT_ID_BYTES: Final = 180  # With a suffix it must fit a file name of 255 bytes.
MASTER_FILE: Final = "master.key"
_TEMPORARY: Final = ".writing-"


def safe_file_name(tenant_id: str) -> str:
    """Return ``tenant_id`` as one path segment: percent-encoded, never hidden, never ``.`` or ``..``.

    Raises ValueError for an empty id and for one whose encoded form is too long for a file name.
    """
    name = quote(tenant_id, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if not tenant_id or len(name) > TENANT_ID_BYTES:
        raise ValueError(f"a tenant id has 1 to {TENANT_ID_BYTES} characters")
    return name


def framed(*parts: bytes) -> bytes:
    """Join ``parts`` with their lengths, so that no two different lists give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@dataclass(frozen=True, slots=True)
class _TenantKeys:
    """An unwrapped KEK, its file, what identifies that (inode, modification time in ns), and its subkeys.

    Subkeys are kept beside the KEK and forgotten with it; each is derived once, which costs as much as ten HMACs.
    """

    kek: bytes
    path: Path
    origin: tuple[int, int]
    sealing: AESGCM
    _mac_keys: dict[str, bytes] = field(default_factory=dict)

    def mac_key(self, purpose: str) -> bytes:
        """The subkey of ``KeyStore.mac``; purposes are a few names of ours."""
        known = self._mac_keys.get(purpose)
        if known is None:
            known = self._mac_keys[purpose] = _subkey(self.kek, f"mac:{purpose}")
        return known


class KeyStore:
    """All keys of one KEY_DIR. Safe for several processes and threads; every method may block on the disk."""

    def __init__(self, key_dir: Path) -> None:
        """Use ``open``: a KeyStore that was not opened has no master key."""
        self._dir = key_dir
        self._tenants_dir = key_dir / "tenants"
        self._masters: dict[str, bytes] = {}
        self._current_master = ""
        self._tenants: dict[str, _TenantKeys] = {}
        self._signing: Ed25519PrivateKey | None = None
        self._signing_kid = ""
        self._signing_public = ""

    @classmethod
    def open(cls, key_dir: Path) -> KeyStore:
        """Open ``key_dir``, making it with a new master and signing key when it is new.

        Also finishes a shred that a crash cut short. Raises KeyStoreUnusable when a file is damaged or
        readable by others, or when keys exist without their master key: a new master would hide that loss.
        """
        store = cls(key_dir)
        try:
            for folder in (key_dir, store._tenants_dir):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with store._locked():
                if not store._master_path.exists():
                    if any(store._tenants_dir.glob("*.key")) or store._signing_path.exists():
                        raise KeyStoreUnusable(
                            f"{store._master_path} is missing, but keys wrapped by it exist; put it back"
                        )
                    store._write_masters(*_new_master())
                store._read_masters()
                store._finish_shreds()
                if not store._signing_path.exists():
                    raw = Ed25519PrivateKey.generate().private_bytes_raw()
                    _replace(store._signing_path, store._wrap(raw, "signing", ""))
            store._read_signing()
        except OSError as error:
            raise KeyStoreUnusable(f"{key_dir}: {error.strerror or error}") from error
        return store

    # --- tenants ------------------------------------------------------------------------------------------

    def create_tenant(self, tenant_id: str) -> bool:
        """Make the tenant's key; False when it has one already. Raises TenantShredded after a shred."""
        path = self._tenant_path(tenant_id)
        with self._locked():
            if self._tombstone(tenant_id).exists():
                raise TenantShredded(f"tenant {tenant_id} was shredded; choose a new tenant id")
            if path.exists():
                return False
            _replace(path, self._wrap(secrets.token_bytes(KEY_BYTES), "tenant", tenant_id))
            return True

    def has_tenant(self, tenant_id: str) -> bool:
        """Whether the tenant's key can be used now."""
        try:
            self._tenant(tenant_id)
        except TenantKeyMissing:
            return False
        return True

    def shred(self, tenant_id: str) -> None:
        """Destroy the tenant's key for ever; repeating it is harmless. Raises TenantKeyMissing if never made.

        Other processes notice at their next use of the key. Blocks the disk for some milliseconds.
        """
        path, tombstone = self._tenant_path(tenant_id), self._tombstone(tenant_id)
        with self._locked():
            if not tombstone.exists():
                if not path.exists():
                    raise TenantKeyMissing(f"tenant {tenant_id} has no key")
                when = datetime.now(UTC).isoformat(timespec="seconds")
                # The tombstone is durable before the key goes: a crash in between is finished at the next
                # start, whereas without it the key could be made anew and the tenant would seem alive.
                _replace(tombstone, {"version": 1, "tenant": tenant_id, "shreddedAt": when})
            _erase(path)
            self._tenants.pop(tenant_id, None)

    def rotate_master(self) -> int:
        """Wrap every key under a new master key and erase the old one; return how many keys were wrapped.

        A crash at any moment leaves every key readable: until the last step both masters are in the file. The
        next call finishes the work.
        """
        with self._locked():
            self._read_masters()
            for path in sorted(self._tenants_dir.glob("*.key")):
                # One that cannot be opened is named before anything is written.
                self._opened(path)
            kid, masters = _new_master()
            self._write_masters(kid, {**self._masters, **masters})
            self._read_masters()
            paths = sorted(self._tenants_dir.glob("*.key"))
            for path in [self._signing_path, *paths]:
                record, raw = self._opened(path)
                _replace(path, self._wrap(raw, str(record["use"]), str(record["tenant"])))
            self._write_masters(kid, masters)
            self._read_masters()
            return len(paths) + 1

    # --- use ----------------------------------------------------------------------------------------------

    def seal(self, tenant_id: str, purpose: str, plaintext: bytes) -> bytes:
        """Encrypt a small value (a sealed column, an object's key) under the tenant's key.

        The result is 29 bytes longer. ``purpose`` names the column or object: a value sealed for another
        purpose or tenant does not open. Raises TenantKeyMissing.
        """
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._tenant(tenant_id).sealing.encrypt(nonce, plaintext, _seal_data(tenant_id, purpose))
        return bytes((SEAL_VERSION,)) + nonce + sealed

    def unseal(self, tenant_id: str, purpose: str, blob: bytes) -> bytes:
        """Decrypt what ``seal`` made. Raises TenantKeyMissing, or ObjectCorrupt for anything but that."""
        sealing = self._tenant(tenant_id).sealing
        if len(blob) < 1 + NONCE_BYTES + 16 or blob[0] != SEAL_VERSION:
            raise ObjectCorrupt("a sealed value does not have the form of one")
        nonce, ciphertext = blob[1 : 1 + NONCE_BYTES], blob[1 + NONCE_BYTES :]
        try:
            return sealing.decrypt(nonce, ciphertext, _seal_data(tenant_id, purpose))
        except InvalidTag as error:
            raise ObjectCorrupt("a sealed value failed its integrity check") from error

    def mac(self, tenant_id: str, purpose: str, data: bytes) -> bytes:
        """Return the HMAC-SHA256 (32 bytes) of ``data`` under the tenant's subkey of ``purpose``."""
        return hmac.digest(self._tenant(tenant_id).mac_key(purpose), data, "sha256")

    def sign(self, purpose: str, data: bytes) -> tuple[str, bytes]:
        """Return (kid, 64-byte Ed25519 signature) over ``"document-service <purpose> v1\\n" + data``."""
        assert self._signing is not None, "KeyStore.open reads the signing key"
        return self._signing_kid, self._signing.sign(f"document-service {purpose} v1\n".encode() + data)

    def public_keys(self) -> list[dict[str, str]]:
        """The keys that verify ``sign``: ``kid`` and the raw public key as unpadded base64url."""
        return [{"kid": self._signing_kid, "publicKey": self._signing_public}]

    # --- files --------------------------------------------------------------------------------------------

    @property
    def _master_path(self) -> Path:
        return self._dir / MASTER_FILE

    @property
    def _signing_path(self) -> Path:
        return self._dir / "signing.key"

    def _tenant_path(self, tenant_id: str) -> Path:
        return self._tenants_dir / f"{safe_file_name(tenant_id)}.key"

    def _tombstone(self, tenant_id: str) -> Path:
        return self._tenants_dir / f"{safe_file_name(tenant_id)}.shredded"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock; the system releases it when a process dies."""
        descriptor = os.open(self._dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for folder in (self._dir, self._tenants_dir):
                for leftover in folder.glob(f"{_TEMPORARY}*"):
                    _erase(leftover)
            yield
        finally:
            os.close(descriptor)

    def _finish_shreds(self) -> None:
        for tombstone in self._tenants_dir.glob("*.shredded"):
            _erase(tombstone.with_name(tombstone.name.removesuffix(".shredded") + ".key"))

    def _tenant(self, tenant_id: str) -> _TenantKeys:
        known = self._tenants.get(tenant_id)
        try:
            path = self._tenant_path(tenant_id) if known is None else known.path
        except ValueError as error:
            raise TenantKeyMissing(f"tenant {tenant_id[:40]!r} has no key") from error
        try:
            found = os.stat(path)
            origin = (found.st_ino, found.st_mtime_ns)
            if known is not None and known.origin == origin:
                return known
            if self._tombstone(tenant_id).exists():
                raise FileNotFoundError
            record = _read_json(path)
        except (FileNotFoundError, KeyStoreUnusable) as error:
            if isinstance(error, KeyStoreUnusable) and not self._tombstone(tenant_id).exists():
                raise
            self._tenants.pop(tenant_id, None)
            raise TenantKeyMissing(f"tenant {tenant_id} has no key") from error
        except OSError as error:
            raise KeyStoreUnusable(f"{path}: {error.strerror or error}") from error
        if record.get("use") != "tenant" or record.get("tenant") != tenant_id:
            raise KeyStoreUnusable(f"{path} holds the key of something else")
        kek = self._unwrap(record, path)
        loaded = self._tenants[tenant_id] = _TenantKeys(kek, path, origin, AESGCM(_subkey(kek, "seal")))
        return loaded

    def _read_masters(self) -> None:
        path = self._master_path
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise KeyStoreUnusable(f"{path} has mode {mode:04o}: others can read it; run chmod 600 on it")
        record = _read_json(path)
        try:
            masters = {kid: base64.b64decode(key, validate=True) for kid, key in record["keys"].items()}
            current = record["current"]
            if any(len(key) != KEY_BYTES for key in masters.values()) or current not in masters:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise KeyStoreUnusable(f"{path} is not a master key file; put the right file back") from error
        self._masters, self._current_master = masters, current

    def _write_masters(self, current: str, masters: dict[str, bytes]) -> None:
        keys = {kid: base64.b64encode(key).decode() for kid, key in masters.items()}
        record = {"version": 1, "current": current, "keys": keys}
        if not self._master_path.exists():
            _replace(self._master_path, record)
            return
        with self._master_path.open("r+b") as old:
            _replace(self._master_path, record)
            # The old file has no name any more; its content is a master key and must not outlive it.
            _overwrite(old.fileno())

    def _read_signing(self) -> None:
        _, raw = self._opened(self._signing_path)
        self._signing = Ed25519PrivateKey.from_private_bytes(raw)
        public = self._signing.public_key().public_bytes_raw()
        self._signing_kid = hashlib.sha256(public).hexdigest()[:16]
        self._signing_public = base64.urlsafe_b64encode(public).rstrip(b"=").decode()

    def _wrap(self, raw: bytes, use: str, tenant_id: str) -> dict[str, object]:
        # The master may have been rotated by another process; under the lock the file is the truth.
        self._read_masters()
        kid, nonce = self._current_master, os.urandom(NONCE_BYTES)
        wrapped = nonce + AESGCM(self._masters[kid]).encrypt(nonce, raw, _wrap_data(use, tenant_id))
        key = base64.b64encode(wrapped).decode()
        return {"version": 1, "use": use, "tenant": tenant_id, "master": kid, "key": key}

    def _opened(self, path: Path) -> tuple[dict[str, Any], bytes]:
        record = _read_json(path)
        return record, self._unwrap(record, path)

    def _unwrap(self, record: dict[str, Any], path: Path) -> bytes:
        if record.get("master") not in self._masters:
            try:
                self._read_masters()
            except OSError as error:
                raise KeyStoreUnusable(f"{self._master_path}: {error.strerror or error}") from error
        try:
            wrapped = base64.b64decode(str(record["key"]), validate=True)
            master = AESGCM(self._masters[str(record["master"])])
            additional = _wrap_data(str(record["use"]), str(record["tenant"]))
            return master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], additional)
        except (KeyError, binascii.Error, InvalidTag, ValueError) as error:
            raise KeyStoreUnusable(f"{path} cannot be opened with {self._master_path}") from error


def _new_master() -> tuple[str, dict[str, bytes]]:
    kid = f"master-{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(4)}"
    return kid, {kid: secrets.token_bytes(KEY_BYTES)}


def _subkey(kek: bytes, use: str) -> bytes:
    info = f"document-service v1 {use}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(kek)


def _seal_data(tenant_id: str, purpose: str) -> bytes:
    return framed(b"document-service seal v1", tenant_id.encode(), purpose.encode())


def _wrap_data(use: str, tenant_id: str) -> bytes:
    return framed(b"document-service key v1", use.encode(), tenant_id.encode())


def _read_json(path: Path) -> dict[str, Any]:
    """Read a key file; a second look settles the case that it was being overwritten in this very moment."""
    for _ in range(2):
        with contextlib.suppress(ValueError):
            record = json.loads(path.read_bytes())
            if isinstance(record, dict):
                return record
    raise KeyStoreUnusable(f"{path} is damaged; put it back from the copy of the key folder")


def _replace(path: Path, record: dict[str, object]) -> None:
    """Write ``record`` as ``path`` so that a crash leaves the old file or the new one, both whole."""
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(record, indent=1).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
    _sync_folder(path.parent)


def _erase(path: Path) -> None:
    """Overwrite, unlink and make both durable; nothing to do when the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _overwrite(descriptor)
    finally:
        os.close(descriptor)
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _overwrite(descriptor: int) -> None:
    os.pwrite(descriptor, os.urandom(os.fstat(descriptor).st_size), 0)
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def probe(key_dir: Path) -> None:
    """Look whether the master key can still be read; what a process has read before says nothing of its folder now.

    Raises KeyStoreUnusable.
    """
    path = key_dir / "master.key"
    try:
        record = _read_json(path)
    except OSError as error:
        raise KeyStoreUnusable(f"{path}: {error.strerror or error}") from error
    if record.get("current") not in record.get("keys", ()):
        raise KeyStoreUnusable(f"{path} is not a master key file; put the right file back")


def shredded_tenants(key_dir: Path) -> set[str]:
    """The tenants whose key was destroyed in this folder; a database from before may not know it."""
    return {str(_read_json(path)["tenant"]) for path in (key_dir / "tenants").glob("*.shredded")}
