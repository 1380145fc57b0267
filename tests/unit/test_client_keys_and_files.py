"""Keys and local files: wrong passphrases, lost keys, damaged files, a full disk; nothing queued is ever lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest

from client_device import SERVER, Device, made_device
from document_client import DocumentClient, account, localdb, queueing, requests, vault, watching
from document_client.account import find_set_aside, open_as_it_is
from document_client.doctor import examine
from document_client.errors import (
    DocumentRevoked,
    KeyFileMissing,
    KeyFileUnreadable,
    KeyringLost,
    LocalFileUnreadable,
    PassphraseDelayed,
    PassphraseNeeded,
    PassphraseWrong,
    QueueSetAside,
    StorageFull,
    StorageProblem,
)
from document_client.localdb import PAGE_SIZE, has_moved, open_sealed, set_aside, transaction
from document_client.model import Fault
from document_client.purging import purge_caches
from document_client.recovery import find_asides, take_back
from document_client.vault import Unlocking, Vault, create_vault, open_vault
from kept_keyring import keep_in_keyring


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


def database(device: Device, name: str) -> Path:
    [path] = device.home.glob(f"*/*/{name}")
    return path


# --- the vault ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["theirs", "mine"])
def test_a_key_file_that_another_sign_in_made_meanwhile_is_not_replaced(tmp_path: Path, typed: str) -> None:
    made: list[bytes | None] = []

    def ask() -> str:
        # The person still types; another program signs in, and seals the first request.
        if not made:
            made.append(create_vault(tmp_path, "dev_other", Unlocking("theirs")).key("queue/a"))
        return typed

    if typed == "mine":
        with pytest.raises(PassphraseWrong):
            create_vault(tmp_path, "dev_mine", Unlocking(ask=ask))
    else:
        assert create_vault(tmp_path, "dev_mine", Unlocking(ask=ask)).device_id == "dev_other"
    assert open_vault(tmp_path, Unlocking("theirs")).key("queue/a", create=False) == made[0]


def test_a_wrong_passphrase_changes_nothing_and_costs_an_escalating_delay(tmp_path: Path) -> None:
    create_vault(tmp_path, "dev_1", Unlocking("right"))
    clock = [1000.0]

    def at(passphrase: str) -> Unlocking:
        return Unlocking(passphrase, wall=lambda: clock[0])

    for _ in range(3):
        with pytest.raises(PassphraseWrong):
            open_vault(tmp_path, at("wrong"))
    delays = []
    for _ in range(11):
        with pytest.raises(PassphraseWrong):
            open_vault(tmp_path, at("wrong"))
        with pytest.raises(PassphraseDelayed) as refused:
            open_vault(tmp_path, at("right"))
        delays.append(float(str(refused.value.detail).split()[1]))
        clock[0] += delays[-1] + 0.5
    assert delays[:5] == [1, 2, 4, 8, 16]
    assert delays[-1] == 300
    open_vault(tmp_path, at("right"))
    with pytest.raises(PassphraseWrong):
        open_vault(tmp_path, at("wrong"))
    open_vault(tmp_path, at("right"))


def test_a_clock_set_back_locks_nobody_out_for_long(tmp_path: Path) -> None:
    create_vault(tmp_path, "dev_1", Unlocking("right"))
    for _ in range(4):
        with pytest.raises(PassphraseWrong):
            open_vault(tmp_path, Unlocking("wrong", wall=lambda: 2e9))
    with pytest.raises(PassphraseDelayed, match="wait 300 s"):
        open_vault(tmp_path, Unlocking("right", wall=lambda: 1e9))


def test_without_keyring_and_passphrase_no_keys_are_made(tmp_path: Path) -> None:
    with pytest.raises(PassphraseNeeded):
        create_vault(tmp_path / "home", "dev_1", Unlocking())
    assert not (tmp_path / "home" / "vault.json").exists()


def test_the_key_file_is_private_and_holds_no_key_in_the_clear(tmp_path: Path) -> None:
    made = create_vault(tmp_path, "dev_1", Unlocking("right"))
    key = made.key("queue/a")
    assert key is not None
    path = tmp_path / "vault.json"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    import base64

    assert key.hex() not in text
    assert base64.b64encode(key).decode() not in text
    assert open_vault(tmp_path, Unlocking("right")).key("queue/a", create=False) == key


def test_two_programs_that_make_a_key_at_once_get_the_same(tmp_path: Path) -> None:
    made = create_vault(tmp_path, "dev_1", Unlocking("right"))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda n: Vault(tmp_path / "vault.json", made._root).key("k"), range(40)))
    assert len(keys) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 2}'])
def test_a_damaged_key_file_is_said(tmp_path: Path, content: bytes) -> None:
    create_vault(tmp_path, "dev_1", Unlocking("right"))
    (tmp_path / "vault.json").write_bytes(content)
    with pytest.raises(KeyFileUnreadable):
        open_vault(tmp_path, Unlocking("right"))


def test_the_device_signs_with_its_own_key(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from document_client.policy import decode

    made = create_vault(tmp_path, "dev_1", Unlocking("p"))
    Ed25519PublicKey.from_public_bytes(decode(made.public_key())).verify(made.sign(b"data"), b"data")


KEYRINGS = {
    "fail": ("keyring.backends.fail", "Keyring"),
    "null": ("keyring.backends.null", "Keyring"),
    "plaintext": ("keyrings.alt.file", "PlaintextKeyring"),
    "encrypted file": ("keyrings.alt.file", "EncryptedKeyring"),
}


@pytest.mark.parametrize("name", KEYRINGS)
def test_keyrings_that_do_not_seal_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_in_keyring(monkeypatch, *KEYRINGS[name])
    assert vault.find_keyring() is None


def test_the_systems_keyring_holds_the_root_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep_in_keyring(monkeypatch, "keyring.backends.SecretService", "Keyring")
    made = create_vault(tmp_path, "dev_1", Unlocking())
    key = made.key("k")
    assert open_vault(tmp_path, Unlocking()).key("k") == key
    assert "root" not in json.loads((tmp_path / "vault.json").read_text())["unlock"]
    kept.clear()
    with pytest.raises(KeyringLost):
        open_vault(tmp_path, Unlocking())


# --- encrypted databases ----------------------------------------------------------------------------------------


def test_a_database_is_never_plaintext(device: Device) -> None:
    device.ask("marker-patient")
    device.client.sync()
    device.client.close()
    for name in ("queue.db", "cache.db", "audit.db"):
        path = database(device, name)
        assert not path.read_bytes().startswith(b"SQLite format 3")
        assert path.stat().st_mode & 0o077 == 0
        with pytest.raises(LocalFileUnreadable):
            localdb.open_sealed(path, os.urandom(32), requests.SCHEMA, durable=True)


def test_queue_and_audit_reach_the_disk_with_each_commit(device: Device) -> None:
    account = device.client.account()
    settings = {
        name: (conn.pragma("synchronous"), conn.pragma("journal_mode"), conn.pragma("page_size"))
        for name, conn in (("queue", account.queue), ("audit", account.audit), ("cache", account.cache))
    }
    assert settings == {"queue": (2, "wal", 16384), "audit": (2, "wal", 16384), "cache": (1, "wal", 16384)}


def test_a_newer_file_is_left_alone(device: Device, tmp_path: Path) -> None:
    from document_client.errors import StorageProblem

    path, key = tmp_path / "x.db", os.urandom(32)
    localdb.open_sealed(path, key, ("CREATE TABLE a (b)", "CREATE TABLE c (d)"), durable=True).close()
    with pytest.raises(StorageProblem, match="newer version"):
        localdb.open_sealed(path, key, ("CREATE TABLE a (b)",), durable=True)


# --- damage ---------------------------------------------------------------------------------------------------


def test_a_missing_key_file_is_said_and_touches_nothing(device: Device) -> None:
    device.ask()
    device.client.close()
    (device.home / "vault.json").unlink()
    before = database(device, "queue.db").read_bytes()
    with pytest.raises(KeyFileMissing):
        device.another().status()
    assert database(device, "queue.db").read_bytes() == before


def test_signing_in_without_the_old_keys_sets_the_queue_aside(device: Device) -> None:
    device.ask()
    device.client.close()
    content = database(device, "queue.db").read_bytes()
    (device.home / "vault.json").unlink()
    fresh = device.another()
    notices = fresh.login("https://documents.test", device.token())["notices"]
    assert any("queue.db" in notice for notice in notices)
    aside = [Path(path) for path in find_set_aside(device.home)]
    assert content in [path.read_bytes() for path in aside]
    assert fresh.status().set_aside
    assert fresh.queue.list() == []
    assert fresh.sync().success


def test_a_damaged_cache_is_filled_again(device: Device) -> None:
    cmid = device.ask()
    device.client.sync()
    device.client.close()
    path = database(device, "cache.db")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(os.urandom(40_000))
    client = device.another()
    assert any("cache" in notice for notice in client.status().notices)
    assert client.queue.show(cmid)["status"] == "done"
    assert client.sync().downloaded == 1
    assert client.documents.read(client.documents.list()[0]["id"]).content


def test_a_flipped_bit_in_the_cache_is_never_shown(device: Device) -> None:
    device.ask()
    original = device.model._document

    def larger(job: dict[str, Any]) -> dict[str, Any]:
        made = original(job)
        content = os.urandom(200_000)
        device.model.state.contents[made["id"]] = content
        made |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return made

    device.model._document = larger  # type: ignore[method-assign]
    assert device.client.sync().downloaded == 1
    [document] = device.client.documents.list()
    content = device.client.documents.read(document["id"]).content
    device.client.account().cache.pragma("wal_checkpoint", "truncate")
    device.client.close()
    path = database(device, "cache.db")
    whole = path.read_bytes()
    found = 0
    for page in range(1, len(whole) // 16_384):
        path.write_bytes(whole)
        with path.open("r+b") as stream:
            stream.seek(page * 16_384 + 9000)
            stream.write(bytes([whole[page * 16_384 + 9000] ^ 1]))
        client = device.another()
        try:
            assert client.documents.read(document["id"]).content == content, "a page that was not needed"
        except LocalFileUnreadable:
            found += 1
        finally:
            client.close()
    # The document alone has twelve pages.
    assert found >= 12


@pytest.mark.parametrize("damage", ["garbage", "truncated", "header"])
def test_a_damaged_queue_is_set_aside_and_the_person_is_told(device: Device, damage: str) -> None:
    device.ask()
    device.client.close()
    path = database(device, "queue.db")
    content = path.read_bytes()
    damaged = {"garbage": os.urandom(50_000), "truncated": content[:9000], "header": os.urandom(100) + content[100:]}
    path.write_bytes(damaged[damage])
    client = device.another()
    status = client.status()
    assert len(status.set_aside) == 1
    assert Path(status.set_aside[0]).read_bytes() == damaged[damage]
    assert any("queue.db" in notice for notice in status.notices)
    assert client.queue.list() == []
    client.close()
    assert len(device.another().status().set_aside) == 1, "every later status says so"


def test_a_program_that_still_has_the_damaged_queue_open_leaves_the_new_one_in_place(device: Device) -> None:
    device.ask()
    watching, path = device.client.account(), database(device, "queue.db")
    set_aside(path, "earlier")
    # Another command has made a new queue, and somebody asks.
    cmid = device.another().request("General Test Requisition", "p2")["clientMutationId"]
    with pytest.raises(StorageProblem), watching.watched():
        raise LocalFileUnreadable("queue.db")
    assert watching.closed
    assert device.another().queue.show(cmid)["status"] == "queued"
    assert len(find_set_aside(device.home)) == 1


def test_what_is_asked_for_after_another_program_set_the_queue_aside_goes_into_the_new_one(device: Device) -> None:
    device.ask()
    other = device.another().account()
    with pytest.raises(QueueSetAside), other.watched():
        raise LocalFileUnreadable("queue.db")
    # This program had the file open all the time and met no damage.
    cmid = device.ask("p2")
    assert [item["clientMutationId"] for item in device.another().queue.list()] == [cmid]


def clear_the_cache(device: Device) -> DocumentClient:
    """Let another program meet a damaged cache, and fill a new one; returns it."""
    with pytest.raises(LocalFileUnreadable), device.another().account().watched():
        raise LocalFileUnreadable("cache.db")
    other = device.another()
    other.sync()
    return other


def test_what_a_program_hears_after_another_one_replaced_the_cache_reaches_the_new_one(device: Device) -> None:
    device.ask()
    device.client.sync()
    [document] = device.client.documents.list()
    clear_the_cache(device)
    device.model.revoke(document["id"], "entered in error")
    device.client.sync()
    with pytest.raises(DocumentRevoked):
        device.another().documents.read(document["id"])
    cmid = device.ask("p2")
    device.client.sync()
    assert device.status_of(cmid) == "done"
    assert [item["state"] for item in device.another().documents.list() if item["state"] == "available"]


def test_a_cache_that_another_program_purged_shows_nothing_here(device: Device) -> None:
    device.ask()
    device.client.sync()
    assert len(device.client.documents.list()) == 1
    purge_caches(clear_the_cache(device).account())
    assert device.client.documents.list() == []


def test_a_purge_by_a_program_whose_cache_was_replaced_reaches_the_new_one(device: Device) -> None:
    device.ask()
    device.client.sync()
    old = device.client.account()
    other = clear_the_cache(device)
    assert len(other.documents.list()) == 1
    purge_caches(old)
    assert other.documents.list() == []


def test_a_refresh_beside_a_program_that_clears_the_cache_goes_on_with_the_new_one(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = DocumentClient._refresh

    def meanwhile(client: DocumentClient, observe: Any) -> Any:
        clear_the_cache(device)
        return plain(client, observe)

    monkeypatch.setattr(DocumentClient, "_refresh", meanwhile)
    assert device.client.templates(refresh=True).items


def test_a_damaged_outbox_that_nobody_speaks_for_is_not_called_sent(device: Device) -> None:
    device.ask()
    device.client.sync()
    device.client.documents.read(device.client.documents.list()[0]["id"])
    device.transport.offline = True
    path, page = database(device, "audit.db"), page_of(device.client.account().audit, "events_by_state")
    device.client.logout(keep_sealed=True)
    corrupt(path, page)
    records = [finding["text"] for finding in examine(device.client) if finding["part"] == "records"]
    assert records
    assert "everything is sent" not in records


@pytest.mark.parametrize("failure", [apsw.CorruptError("x"), StorageFull()])
def test_a_watch_outlives_what_goes_wrong_while_it_waits(
    device: Device, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(conn: apsw.Connection) -> float:
        raise failure

    told: list[Any] = []
    device.transport.offline = True
    monkeypatch.setattr(requests, "next_due", fail)
    watching.watch(device.client, lambda report, problem: told.append(problem), cycles=2, sleep=lambda seconds: None)
    assert any(isinstance(problem, StorageProblem) for problem in told)


@pytest.mark.parametrize("act", ["request", "retry", "discard", "edit"])
def test_nothing_is_decided_in_a_queue_that_was_set_aside_meanwhile(
    device: Device, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    cmid = device.ask()
    working, other, plain = device.client.account(), device.another().account(), queueing.deciding_on
    with transaction(working.queue):
        requests.quarantine(working.queue, cmid, "X", "x", 1.0)

    def meanwhile(path: Path) -> Any:
        monkeypatch.setattr(queueing, "deciding_on", plain)
        with pytest.raises(QueueSetAside), other.watched():
            raise LocalFileUnreadable("queue.db")
        return plain(path)

    monkeypatch.setattr(queueing, "deciding_on", meanwhile)
    acts: dict[str, Callable[[], object]] = {
        "request": lambda: device.ask("p2"),
        "retry": lambda: device.client.queue.retry(cmid),
        "discard": lambda: device.client.queue.discard(cmid, confirmation=cmid),
        "edit": lambda: device.client.queue.edit(cmid, {"patient": "p2"}),
    }
    with pytest.raises(StorageProblem, match="run the command again"):
        acts[act]()
    assert device.client.queue.list() == []
    take_back(device.client.account())
    [back] = device.client.queue.list()
    assert (back["clientMutationId"], back["status"]) == (cmid, "quarantined")


def corrupt(path: Path, page: int) -> None:
    """Flip a bit of a page."""
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE_SIZE + PAGE_SIZE // 2] ^= 1
    path.write_bytes(content)


def page_of(conn: apsw.Connection, name: str) -> int:
    conn.pragma("wal_checkpoint", "truncate")
    return int(conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get)


def test_damage_of_another_tenants_outbox_is_not_taken_for_the_own_ones(device: Device) -> None:
    """Reading and sending what waits there works; noting that it arrived does not."""
    device.ask()
    device.client.sync()
    device.client.documents.read(device.client.documents.list()[0]["id"])
    path, page = database(device, "audit.db"), page_of(device.client.account().audit, "sqlite_autoindex_events_1")
    device.client.login(SERVER, device.token("dr.b", "other"), keep_sealed=True)
    corrupt(path, page)

    def accept(request: httpx2.Request) -> httpx2.Response:
        items = [{"eventId": event["eventId"], "result": "accepted"} for event in json.loads(request.content)["events"]]
        return httpx2.Response(200, headers={"x-sync-epoch": "epoch-1"}, json={"items": items})

    device.transport.faults.append(Fault("POST /v1/documents/audit-events", accept, 99, False))
    for _ in range(3):
        assert device.client.sync().success
    assert find_set_aside(device.home) == []


def test_damage_of_another_persons_queue_keeps_nobody_from_working(device: Device) -> None:
    device.ask()
    path, page = database(device, "queue.db"), page_of(device.client.account().queue, "requests_by_state")
    device.client.login(SERVER, device.token("dr.b"), keep_sealed=True)
    corrupt(path, page)
    assert device.client.status().pending == 0
    assert find_set_aside(device.home) == []


def test_a_look_at_a_file_drops_no_lock_of_this_process(device: Device) -> None:
    """POSIX drops all of them with any descriptor of the file; another program would then delete the journal in use."""
    device.client.account()
    device.another().account()
    for name in ("queue.db", "audit.db", "cache.db"):
        inode = database(device, name).stat().st_ino
        held = [line for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line]
        assert held, name


def overtake_at_the_damage(monkeypatch: pytest.MonkeyPatch, other: threading.Thread) -> None:
    """Let the other program get as far as it can before the first one does anything about the damage it meets."""

    def overtaken(path: Path, *given: Any, **named: Any) -> apsw.Connection:
        try:
            return open_sealed(path, *given, **named)
        except LocalFileUnreadable:
            if other.ident is None:
                other.start()
                other.join(2)
            raise

    monkeypatch.setattr(account, "open_sealed", overtaken)


def test_of_two_programs_that_meet_a_damaged_queue_one_sets_it_aside(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.client.close()
    path = database(device, "queue.db")
    path.write_bytes(os.urandom(50_000))
    asked: list[str] = []

    def ask() -> None:
        asked.append(device.another().request("General Test Requisition", "p1")["clientMutationId"])

    other = threading.Thread(target=ask)
    overtake_at_the_damage(monkeypatch, other)
    status = device.another().status()
    other.join(20)
    assert len(status.set_aside) == 1
    assert [item["clientMutationId"] for item in device.another().queue.list()] == asked
    assert len(find_set_aside(device.home)) == 1


def test_of_two_programs_that_meet_a_damaged_cache_one_replaces_it(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.client.close()
    database(device, "cache.db").write_bytes(os.urandom(50_000))
    second = device.another()
    other = threading.Thread(target=second.account)
    overtake_at_the_damage(monkeypatch, other)
    mine = device.another().account()
    other.join(20)
    assert not has_moved(second.account().cache), "the other program works in a file that is gone"
    assert not has_moved(mine.cache)


def test_what_no_session_speaks_for_is_looked_at_and_neither_made_nor_set_aside(device: Device) -> None:
    cmid = device.ask()
    path, home = database(device, "queue.db"), device.home
    key_name = f"queue/{path.parent.name}"
    device.client.close()
    keys = open_vault(home, Unlocking("correct horse"))

    def look() -> int | None:
        conn = open_as_it_is(path, keys, key_name, requests.SCHEMA)
        if conn is None:
            return None
        with closing(conn):
            return len(requests.read_all(conn))

    before = sorted(home.rglob("*"))
    assert look() == 1
    mark, kept = path.with_name("queue.db.setting-aside"), path.read_bytes()
    mark.write_bytes(b"now")
    assert look() is None, "somebody is setting it aside"
    mark.unlink()
    path.write_bytes(os.urandom(len(kept)))
    assert look() is None, "it is damaged"
    path.unlink()
    assert look() is None
    assert not path.exists()
    path.write_bytes(kept)
    assert sorted(home.rglob("*")) == before
    assert device.another().queue.show(cmid)["status"] == "queued"


class Killed(BaseException):
    """The program ends here."""


@contextmanager
def killed_after(steps: int) -> Iterator[None]:
    """Let this many names of files change in the block, and no more; the block ends by that."""
    left = [steps]

    def cut(change: Callable[..., None]) -> Callable[..., None]:
        def perform(*given: Any, **named: Any) -> None:
            if not left[0]:
                raise Killed
            change(*given, **named)
            left[0] -= 1

        return perform

    with pytest.MonkeyPatch.context() as dying, pytest.raises(Killed):  # noqa: PT012
        for name in ("rename", "replace", "unlink"):
            dying.setattr(os, name, cut(getattr(os, name)))
        yield


# The mark, the key, the envelope, the journal and its index, the queue itself, the mark again.
STEPS_OF_SETTING_ASIDE = 7


@pytest.mark.parametrize("steps", range(STEPS_OF_SETTING_ASIDE))
def test_a_kill_while_a_queue_is_set_aside_separates_nothing(device: Device, steps: int) -> None:
    asked = {device.ask(f"p{n}") for n in range(3)}
    path, working = database(device, "queue.db"), device.client.account()
    path.with_name("queue.db.envelope").write_bytes(b"sealed")
    # What was asked for stays in the journal, as it does while another program has the file open.
    working.queue.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    with killed_after(steps), working.watched():
        raise LocalFileUnreadable("queue.db")

    client = device.another()
    status = client.status()
    if steps:
        [aside] = find_asides(device.home, client.account().vault)
        assert (aside.has_key, aside.has_envelope) == (True, True)
        assert status.set_aside == [os.fspath(aside.path)]
        assert any("queue.db" in notice for notice in status.notices)
        assert client.queue.list() == []
        assert take_back(client.account()).requests == len(asked)
    assert {item["clientMutationId"] for item in client.queue.list()} == asked
    client.close()
    assert device.another().status().notices == []


def test_what_took_the_place_of_a_queue_stays_where_only_the_end_of_setting_it_aside_is_missing(
    device: Device,
) -> None:
    device.client.close()
    path = database(device, "queue.db")
    path.write_bytes(os.urandom(50_000))
    # Nothing but the queue and its key is there to be renamed.
    with killed_after(STEPS_OF_SETTING_ASIDE - 4):
        device.another().status()
    [mark] = path.parent.glob("queue.db.setting-aside")
    kept = mark.read_bytes()
    cmid = device.another().request("General Test Requisition", "p2")["clientMutationId"]
    mark.write_bytes(kept)
    assert device.another().queue.show(cmid)["status"] == "queued"
    assert not mark.exists()
    assert len(find_set_aside(device.home)) == 1


def test_a_key_that_is_kept_is_not_replaced_by_a_newer_one(tmp_path: Path) -> None:
    made = create_vault(tmp_path, "dev_1", Unlocking("right"))
    old = made.key("queue/a")
    made.rename("queue/a", "kept")
    newer = made.key("queue/a")
    made.rename("queue/a", "kept")
    assert (made.key("kept", create=False), made.key("queue/a", create=False)) == (old, newer)


def test_a_flipped_bit_in_the_queue_is_never_read_as_data(device: Device) -> None:
    for n in range(60):
        device.ask(f"p{n}", reason="x" * 3000)
    device.client.close()
    vault_file = (device.home / "vault.json").read_bytes()
    path = database(device, "queue.db")
    whole = path.read_bytes()
    found = 0
    for page in range(2, len(whole) // 16_384, 3):
        content = bytearray(whole)
        content[page * 16_384 + 7000] ^= 1
        path.write_bytes(content)
        client = device.another()
        try:
            assert len(client.queue.list()) == 60, "a page that was not needed"
        except QueueSetAside as told:
            found += 1
            aside = Path(str(told.detail).removeprefix("kept as "))
            assert aside.read_bytes() == content
            assert client.status().set_aside
            (device.home / "vault.json").write_bytes(vault_file)
            aside.unlink()
        finally:
            client.close()
    assert found


def test_a_damaged_outbox_is_set_aside(device: Device) -> None:
    device.ask()
    device.client.sync()
    device.client.documents.read(device.client.documents.list()[0]["id"])
    device.client.close()
    database(device, "audit.db").write_bytes(os.urandom(40_000))
    status = device.another().status()
    assert [path for path in status.set_aside if "audit.db" in path]


# --- a full disk ------------------------------------------------------------------------------------------------


def ask_until_full(device: Device) -> list[str]:
    """Queue requests until the disk refuses one; returns those that were taken."""
    taken: list[str] = []
    for n in range(1000):
        try:
            taken.append(device.ask(f"q{n}", reason="x" * 4000))
        except StorageFull:
            return taken
    raise AssertionError("the disk never was full")


def test_a_full_queue_refuses_loudly_and_keeps_what_is_there(device: Device) -> None:
    kept = [device.ask(f"p{n}") for n in range(3)]
    queue = device.client.account().queue
    queue.pragma("max_page_count", queue.pragma("page_count"))
    added = ask_until_full(device)
    queue.pragma("max_page_count", 1_000_000)
    assert [item["clientMutationId"] for item in device.client.queue.list()] == kept + added
    assert device.client.sync().acknowledged == len(kept + added)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, which only root can make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = os.geteuid() == 0 and os.system(f"mount -t tmpfs -o size=4m tmpfs {folder} 2>/dev/null") == 0
    if not made:
        pytest.skip("making a small disk needs root; the page limit above tests the same refusal")
    yield folder
    os.system(f"umount -l {folder}")


@pytest.mark.root
def test_a_full_disk_refuses_the_request_and_touches_nothing_queued(small_disk: Path) -> None:
    with made_device(small_disk / "home") as device:
        kept = [device.ask(f"p{n}") for n in range(2)]
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass
        added = ask_until_full(device)
        device.client.close()
        (small_disk / "filler").unlink(missing_ok=True)
        client = device.another()
        assert [item["clientMutationId"] for item in client.queue.list()] == kept + added
        assert client.sync().acknowledged == len(kept + added)


def test_writing_with_a_read_only_folder_is_a_storage_problem(device: Device, tmp_path: Path) -> None:
    from document_client.errors import StorageProblem
    from document_client.files import write_private

    with pytest.raises(StorageProblem):
        write_private(tmp_path / "missing" / "x", b"x")


def test_the_home_folder_is_private(device: Device) -> None:
    for path in [device.home, *device.home.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_copied_home_of_another_installation_does_not_open(device: Device, tmp_path: Path) -> None:
    device.ask()
    device.client.close()
    shutil.copytree(device.home, tmp_path / "stolen")
    thief = DocumentClient(tmp_path / "stolen", passphrase="guess")
    with pytest.raises(PassphraseWrong):
        thief.status()


def test_apsw_has_the_ciphers() -> None:
    assert "Multiple Ciphers" in str(getattr(apsw, "mc_version", ""))
