"""A queue whose key is lost: the envelope that was made in time, asking the operator, and taking the requests back.

    in every cycle      queue.db.envelope    the queue's key, wrapped (HPKE) for the tenant's key of the signed policy
    the key is lost     queue.db.set-aside-T and queue.db.set-aside-T.envelope; a new queue is in use
    ask(file)           the envelopes, with a key for the answer, signed by the device    → to the operator
    take_back(file)     the operator's answer opens the old queue; its requests come back

They come back under their own ids as *quarantined* (``RECOVERED``), and are not sent by themselves: whoever lost the
queue may have asked for the same again, under another id. What had been sent is answered by its job, for the id is the
same. Rows go to the queue of the person who made them. The old file stays, as ``queue.db.recovered-T``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from . import feed, requests
from .account import Account, Session, find_set_aside
from .errors import FileUnreadable, LocalFileUnreadable, NothingToRecover
from .files import write_private
from .localdb import open_sealed, transaction
from .policy import decode
from .vault import Vault

_ENVELOPE = "document-client queue-recovery v1"
_REQUEST = b"document-client queue-recovery request v1\n"
_ANSWER = "document-service queue-recovery answer v1"
_TITLE = "It was in a queue whose key was lost. Retry it, or discard it if it was asked for again meanwhile."
# Asking again while an answer is on its way must not make that answer useless.
_ANSWER_KEY = "recovery-answer"


@dataclass(frozen=True, slots=True)
class Aside:
    """A queue that was set aside: its file, and whether an envelope or the key itself is here."""

    path: Path
    has_envelope: bool
    has_key: bool

    @property
    def account_id(self) -> str:
        """The folder of the person whose queue it is."""
        return self.path.parent.name


def keep_envelope(account: Account) -> None:
    """Wrap the queue's key for the tenant's recovery key, unless that is done for this queue and this key."""
    key = account.vault.key(f"queue/{account.session.account_id}", create=False)
    named = feed.read_recovery_key(account.cache)
    if key is None or named is None:
        return
    path, check = account.folder / "queue.db.envelope", hashlib.sha256(key).hexdigest()[:16]
    try:
        known = json.loads(path.read_bytes())
        if (known["kid"], known["check"]) == (named["kid"], check):
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        public = X25519PublicKey.from_public_bytes(decode(named["publicKey"]))
    except (binascii.Error, ValueError):
        return
    info = _info(_ENVELOPE, account.session.tenant, account.session.account_id)
    content = {"version": 1, "kid": named["kid"], "check": check}
    content["sealed"] = _encoded(_suite().encrypt(key, public, info=info))
    write_private(path, json.dumps(content).encode())


def find_queues(home: Path, vault: Vault) -> list[Aside]:
    """Return the queues that were set aside on this device and not taken back."""
    paths = [Path(path) for path in find_set_aside(home)]
    return [
        Aside(path, _envelope_of(path).exists(), vault.key(_kept_name(path), create=False) is not None)
        for path in paths
        if path.name.startswith("queue.db.")
    ]


def ask(account: Account, file: Path) -> int:
    """Write what the operator needs to open the set-aside queues; returns how many. Raises NothingToRecover."""
    import rfc8785
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    items = []
    for aside in find_queues(account.home, account.vault):
        if aside.has_envelope:
            envelope = json.loads(_envelope_of(aside.path).read_bytes())
            items.append({"file": aside.path.name, "account": aside.account_id, "sealed": envelope["sealed"]})
    if not items:
        raise NothingToRecover()
    raw = account.vault.key(_ANSWER_KEY)
    assert raw is not None
    public = X25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()
    content: dict[str, Any] = {
        "version": 1,
        "tenant": account.session.tenant,
        "deviceId": account.vault.device_id,
        "publicKey": _encoded(public),
        "items": items,
    }
    content["signature"] = _encoded(account.vault.sign(_REQUEST + rfc8785.dumps(content)))
    write_private(file, json.dumps(content, indent=1).encode())
    return len(items)


def take_back(account: Account, file: Path | None = None) -> int:
    """Take back the requests of set-aside queues; returns how many are new here.

    With the operator's answer in ``file``, or (None) those whose key is still in the vault: a damaged queue gives what
    of it can be read. Raises FileUnreadable when the answer is not for this device, NothingToRecover.
    """
    found = find_queues(account.home, account.vault)
    opened = (
        [(aside, account.vault.key(_kept_name(aside.path), create=False)) for aside in found if aside.has_key]
        if file is None
        else _opened_by(account, found, file)
    )
    if not opened:
        raise NothingToRecover()
    return sum(_take_back(account, aside, key) for aside, key in opened if key is not None)


def _opened_by(account: Account, found: list[Aside], file: Path) -> list[tuple[Aside, bytes | None]]:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    raw = account.vault.key(_ANSWER_KEY, create=False)
    if raw is None:
        raise FileUnreadable("this device has not asked")
    private = X25519PrivateKey.from_private_bytes(raw)
    try:
        answer = json.loads(file.read_bytes())
        sealed = {(item["account"], item["file"]): decode(item["sealed"]) for item in answer["items"]}
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise FileUnreadable("this is not an answer of `document-service tenant recover`") from failure
    opened: list[tuple[Aside, bytes | None]] = []
    for aside in found:
        answered = sealed.get((aside.account_id, aside.path.name))
        if answered is None:
            continue
        try:
            info = _info(_ANSWER, account.session.tenant, aside.path.name)
            opened.append((aside, _suite().decrypt(answered, private, info=info)))
        except (InvalidTag, ValueError) as failure:
            raise FileUnreadable("the answer was made for another device or tenant") from failure
    return opened


def _take_back(account: Account, aside: Aside, key: bytes) -> int:
    """Copy the requests of one set-aside queue into the queues of who made them; the file moves when all were read."""
    try:
        old = open_sealed(aside.path, key, requests.SCHEMA, durable=True)
    except LocalFileUnreadable:
        if aside.has_key:
            # The file is damaged where it begins; it stays for somebody who knows more.
            return 0
        raise
    try:
        rows, whole = _read_rows(old)
    finally:
        old.close()
    # Another tenant's or person's name in it would send a request under somebody who did not make it.
    mine = [row for row in rows if _owner_of(row, account).account_id == aside.account_id]
    count = _add(account, aside.account_id, mine)
    if whole:
        target = aside.path.with_name(aside.path.name.replace(".set-aside-", ".recovered-"))
        for suffix in (".envelope", "-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{aside.path}{suffix}", f"{target}{suffix}")
    return count


def _read_rows(old: apsw.Connection) -> tuple[list[requests.Request], bool]:
    """Return the requests that can be read and were not finished, and whether everything could be read."""
    try:
        return [row for row in requests.read_all(old) if row.state != "done"], True
    except (apsw.CorruptError, apsw.NotADBError):
        pass
    rows: list[requests.Request] = []
    with contextlib.suppress(apsw.CorruptError, apsw.NotADBError):
        for (cmid,) in old.execute("SELECT client_mutation_id FROM requests ORDER BY sequence"):
            with contextlib.suppress(apsw.CorruptError, apsw.NotADBError):
                found = requests.read(old, cmid)
                rows += [found] if found is not None and found.state not in ("done", "discarded") else []
    return rows, False


def _owner_of(row: requests.Request, account: Account) -> Session:
    return Session(account.session.server, row.tenant_id, row.user_id, {}, "")


def _add(account: Account, account_id: str, rows: list[requests.Request]) -> int:
    own = account_id == account.session.account_id
    if own:
        queue = account.queue
    else:
        key = account.vault.key(f"queue/{account_id}")
        assert key is not None
        queue = open_sealed(account.home / "accounts" / account_id / "queue.db", key, requests.SCHEMA, durable=True)
    now, count = account.clock().now, 0
    try:
        with transaction(queue):
            for row in rows:
                if requests.read(queue, row.client_mutation_id) is not None:
                    continue
                requests.insert(
                    queue,
                    client_mutation_id=row.client_mutation_id,
                    tenant_id=row.tenant_id,
                    user_id=row.user_id,
                    body=row.body,
                    template_name=row.template_name,
                    template_version_id=row.template_version_id,
                    patient_id=row.patient_id,
                    requested_at=row.requested_at,
                )
                requests.quarantine(queue, row.client_mutation_id, "RECOVERED", _TITLE, now)
                count += 1
    finally:
        if not own:
            queue.close()
    return count


def _envelope_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.envelope")


def _kept_name(path: Path) -> str:
    """The name under which ``account`` kept the key of a file that it set aside."""
    return f"set-aside/{path.name}/queue/{path.parent.name}"


def _suite() -> Any:
    from cryptography.hazmat.primitives import hpke

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)


def _info(use: str, *names: str) -> bytes:
    return "\n".join((use, *names)).encode()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
