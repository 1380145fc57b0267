"""A queue or an outbox whose key is lost: the envelope that was made in time, asking the operator, taking back.

    in every cycle      queue.db.envelope    the queue's key, wrapped (HPKE) for the tenant's key of the signed policy
                        audit.db.envelope    the same for the outbox
    the key is lost     queue.db.set-aside-T and queue.db.set-aside-T.envelope; a new queue is in use
    ask(file)           the envelopes, with a key for the answer, signed by the device    → to the operator
    take_back(file)     the operator's answer opens the old files; what they held comes back

Requests come back under their own ids as *quarantined* (``RECOVERED``), and are not sent by themselves: whoever lost
the queue may have asked for the same again, under another id. One that had been taken back or replaced comes back as
that. What had been sent is answered by its job, for the id is the same. Rows go to the queue of the person who made
them. Records of opening and printing need nobody's decision: they happened. They come back under their own ids, and the
next sync sends them, marked as recovered; what had arrived before counts once. The old file stays, as
``queue.db.recovered-T``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from . import audit, feed, requests, withdrawals
from .account import Account, Session, find_set_aside, open_kept
from .errors import FileUnreadable, LocalFileUnreadable, NothingToRecover, StorageProblem
from .files import write_private
from .localdb import DAMAGE, open_sealed, transaction
from .policy import decode
from .vault import Vault

_ENVELOPE = "document-client queue-recovery v1"
_REQUEST = b"document-client queue-recovery request v1\n"
_ANSWER = "document-service queue-recovery answer v1"
RECOVERED = withdrawals.RECOVERED
_TITLE = "It was in a queue whose key was lost. Retry it, or discard it if it was asked for again meanwhile."
# Asking again while an answer is on its way must not make that answer useless.
_ANSWER_KEY = "recovery-answer"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the two files that exist nowhere else differ in.

    ``listings`` name the rows in two orders, of the table and of an index: where a page of one is damaged, the other
    may still name what comes after it.
    """

    key_name: str
    schema: tuple[str, ...]
    listings: tuple[str, str]
    read: Callable[[apsw.Connection, Any], Any]


_KINDS = {
    "queue.db": _Kind(
        "queue",
        requests.SCHEMA,
        (
            "SELECT client_mutation_id FROM requests ORDER BY sequence",
            "SELECT client_mutation_id FROM requests ORDER BY client_mutation_id",
        ),
        requests.read,
    ),
    "audit.db": _Kind(
        "audit",
        audit.SCHEMA,
        ("SELECT sequence FROM events ORDER BY sequence", "SELECT sequence FROM events ORDER BY event_id"),
        audit.read_row,
    ),
}


@dataclass(frozen=True, slots=True)
class Aside:
    """A queue or outbox that was set aside: its file, and whether an envelope or the key itself is here."""

    path: Path
    has_envelope: bool
    has_key: bool

    @property
    def owner_id(self) -> str:
        """The folder of the person whose queue, or of the tenant whose outbox, it is."""
        return self.path.parent.name

    @property
    def in_use(self) -> Path:
        """The file that took its place."""
        return self.path.with_name(self.path.name.partition(".set-aside-")[0])


@dataclass(frozen=True, slots=True)
class Back:
    """How many requests, and how many records of opening and printing, came back that were not here."""

    requests: int = 0
    records: int = 0


def keep_envelopes(account: Account) -> None:
    """Wrap the keys of queue and outbox for the tenant's recovery key, unless that is done for these keys."""
    session = account.session
    _keep_envelope(account, account.folder / "queue.db")
    _keep_envelope(account, account.home / "outboxes" / session.outbox_id / "audit.db")


def _keep_envelope(account: Account, file: Path) -> None:
    key = account.vault.key(f"{_KINDS[file.name].key_name}/{file.parent.name}", create=False)
    named = feed.read_recovery_key(account.cache)
    if key is None or named is None:
        return
    path, check = _envelope_of(file), hashlib.sha256(key).hexdigest()[:16]
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
    info = _info(_ENVELOPE, account.session.tenant, file.parent.name)
    content = {"version": 1, "kid": named["kid"], "check": check}
    content["sealed"] = _encoded(_suite().encrypt(key, public, info=info))
    write_private(path, json.dumps(content).encode())


def count_undecided(queue: apsw.Connection) -> int:
    """Return how many requests came back from a file that was set aside and wait for a person's decision."""
    return int(
        queue.execute("SELECT count(*) FROM requests WHERE state = 'quarantined' AND reason_code = ?", (RECOVERED,)).get
    )


def find_asides(home: Path, vault: Vault) -> list[Aside]:
    """Return the queues and outboxes that were set aside on this device and not taken back."""
    found = []
    for path in map(Path, find_set_aside(home)):
        aside = Aside(path, _envelope_of(path).exists(), False)
        if aside.in_use.name in _KINDS:
            found.append(Aside(path, aside.has_envelope, vault.key(_kept_name(aside), create=False) is not None))
    return found


def ask(account: Account, file: Path) -> int:
    """Write what the operator needs to open the set-aside files; returns how many. Raises NothingToRecover."""
    import rfc8785
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    items = []
    named = feed.read_recovery_key(account.cache)
    for aside in find_asides(account.home, account.vault):
        if aside.has_envelope:
            envelope = json.loads(_envelope_of(aside.path).read_bytes())
            # Another tenant's operator cannot open it, and would refuse all of them for it.
            if named is None or envelope["kid"] == named["kid"]:
                items.append({"file": aside.path.name, "account": aside.owner_id, "sealed": envelope["sealed"]})
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


def take_back(account: Account, file: Path | None = None) -> Back:
    """Take back what the set-aside files held; returns how much of it is new here.

    With the operator's answer in ``file``, or (None) those whose key is still in the vault: a damaged file gives what
    of it can be read. Raises FileUnreadable when the answer is not for this device, NothingToRecover.
    """
    found = find_asides(account.home, account.vault)
    opened = (
        [(aside, account.vault.key(_kept_name(aside), create=False)) for aside in found if aside.has_key]
        if file is None
        else _opened_by(account, found, file)
    )
    if not opened:
        raise NothingToRecover(None if file is None else _say_when_done(account, file))
    counts = dict.fromkeys(_KINDS, 0)
    for aside, key in opened:
        if key is not None:
            counts[aside.in_use.name] += _take_back(account, aside, key)
    return Back(counts["queue.db"], counts["audit.db"])


def _say_when_done(account: Account, file: Path) -> str | None:
    """Return the sentence for an answer whose files were all taken back before."""
    asked = {_recovered_name(str(item["file"])) for item in json.loads(file.read_bytes())["items"]}
    here = {path.name for path in account.home.glob("*/*/*.recovered-*")}
    return "already recovered: what this answer opens was taken back before" if asked and asked <= here else None


def _recovered_name(name: str) -> str:
    return name.replace(".set-aside-", ".recovered-")


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
        answered = sealed.get((aside.owner_id, aside.path.name))
        if answered is None:
            continue
        try:
            info = _info(_ANSWER, account.session.tenant, aside.path.name)
            opened.append((aside, _suite().decrypt(answered, private, info=info)))
        except (InvalidTag, ValueError) as failure:
            raise FileUnreadable("the answer was made for another device or tenant") from failure
    return opened


def _take_back(account: Account, aside: Aside, key: bytes) -> int:
    """Copy the rows of one set-aside file into the one in use; it is renamed when all of them were read."""
    kind = _KINDS[aside.in_use.name]
    try:
        old = open_sealed(aside.path, key, kind.schema, durable=True)
    except LocalFileUnreadable:
        if aside.has_key:
            # The file is damaged where it begins; it stays for somebody who knows more.
            return 0
        raise
    try:
        rows, whole = _read_rows(old, kind)
    finally:
        old.close()
    with _in_use(account, aside, kind) as conn, transaction(conn):
        add = _add_requests if kind.key_name == "queue" else _add_records
        count = add(account, aside, conn, rows)
    if whole:
        target = aside.path.with_name(_recovered_name(aside.path.name))
        for suffix in (".envelope", "-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{aside.path}{suffix}", f"{target}{suffix}")
    return count


def _read_rows(old: apsw.Connection, kind: _Kind) -> tuple[list[Any], bool]:
    """Return the rows that can be read, oldest first, and whether everything could be read."""
    rows: dict[Any, Any] = {}
    whole = True
    for listing in kind.listings:
        names, listed = _list(old, listing)
        whole = whole and listed
        for name in names:
            if name not in rows:
                try:
                    rows[name] = kind.read(old, name)
                except DAMAGE:
                    whole = False
        if whole:
            break
    return sorted((row for row in rows.values() if row is not None), key=lambda row: int(row.sequence)), whole


def _list(old: apsw.Connection, listing: str) -> tuple[list[Any], bool]:
    names: list[Any] = []
    try:
        names.extend(name for (name,) in old.execute(listing))
    except DAMAGE:
        return names, False
    return names, True


@contextmanager
def _in_use(account: Account, aside: Aside, kind: _Kind) -> Iterator[apsw.Connection]:
    """The database that took the place of one that was set aside, open: the session's own or another's."""
    own = {account.session.account_id: account.queue, account.session.outbox_id: account.audit}.get(aside.owner_id)
    if own is not None:
        yield own
        return
    conn = open_kept(aside.in_use, account.vault, f"{kind.key_name}/{aside.owner_id}", kind.schema, account.notices)
    try:
        yield conn
    except DAMAGE as failure:
        # It must not count as damage of the session's own file, which has the same name.
        raise StorageProblem("a file of somebody else cannot be read; their next sign-in sets it aside") from failure
    finally:
        conn.close()


def _add_records(account: Account, aside: Aside, outbox: apsw.Connection, rows: list[audit.Row]) -> int:
    return audit.take_back(outbox, rows)


def _add_requests(account: Account, aside: Aside, queue: apsw.Connection, rows: list[requests.Request]) -> int:
    now, count = account.clock().now, 0
    for row in rows:
        # Another tenant's or person's name in it would send a request under somebody who did not make it.
        owner = Session(account.session.server, row.tenant_id, row.user_id, {}, "").account_id
        if row.state in ("done", "discarded") or owner != aside.owner_id:
            continue
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
        # Nobody knows any more whether the service has it: whoever gives it up must hear the service's word.
        withdrawals.note_that_it_may_have_left(queue, row.client_mutation_id)
        if row.reason_code in withdrawals.TAKEN_BACK:
            # What a person was told is not sent stays unsent; the next sync asks once more whether it had arrived.
            withdrawals.give_up(queue, row.client_mutation_id, now, replaced_by=row.replaced_by)
        else:
            requests.quarantine(queue, row.client_mutation_id, RECOVERED, _TITLE, now)
        count += 1
    return count


def _envelope_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.envelope")


def _kept_name(aside: Aside) -> str:
    """The name under which ``account`` kept the key of a file that it set aside."""
    return f"set-aside/{aside.path.name}/{_KINDS[aside.in_use.name].key_name}/{aside.owner_id}"


def _suite() -> Any:
    from cryptography.hazmat.primitives import hpke

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)


def _info(use: str, *names: str) -> bytes:
    return "\n".join((use, *names)).encode()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
