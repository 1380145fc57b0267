"""The key store: what is sealed opens only for its tenant and purpose, and a shred is for ever."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from document_service.errors import KeyStoreUnusable, ObjectCorrupt, TenantKeyMissing, TenantShredded
from document_service.keys import KeyStore, framed, safe_file_name

# A child process that dies as a power cut would end it: at its Nth rename or unlink, before the call is made.
DYING = """
import os, sys
from pathlib import Path
from document_service.keys import KeyStore
keys, left = KeyStore.open(Path(sys.argv[1])), int(sys.argv[2])
def hook(event, arguments):
    global left
    if event in ("os.rename", "os.remove"):
        left -= 1
        if left == 0:
            os._exit(9)
sys.addaudithook(hook)
getattr(keys, sys.argv[3])(*sys.argv[4:])
"""


@pytest.fixture
def key_dir(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def keys(key_dir: Path) -> KeyStore:
    keys = KeyStore.open(key_dir)
    keys.create_tenant("clinic-a")
    keys.create_tenant("clinic-b")
    return keys


def dies(key_dir: Path, at: int, verb: str, *arguments: str) -> bool:
    command = [sys.executable, "-c", DYING, str(key_dir), str(at), verb, *arguments]
    code = subprocess.run(command, check=False, timeout=60).returncode
    assert code in (0, 9)
    return code == 9


def test_sealed_values_open_and_hide(keys: KeyStore) -> None:
    blob = keys.seal("clinic-a", "documents.title", b"Gul Makai")
    assert keys.unseal("clinic-a", "documents.title", blob) == b"Gul Makai"
    assert b"Gul" not in blob
    assert len(blob) == len(b"Gul Makai") + 29
    assert keys.seal("clinic-a", "documents.title", b"Gul Makai") != blob


def test_a_sealed_value_opens_for_nothing_else(keys: KeyStore) -> None:
    blob = keys.seal("clinic-a", "documents.title", b"x")
    for tenant, purpose in (("clinic-b", "documents.title"), ("clinic-a", "documents.reason")):
        with pytest.raises(ObjectCorrupt):
            keys.unseal(tenant, purpose, blob)
    for place in range(len(blob)):
        altered = bytearray(blob)
        altered[place] ^= 0x40
        with pytest.raises(ObjectCorrupt):
            keys.unseal("clinic-a", "documents.title", bytes(altered))
    for length in range(len(blob)):
        with pytest.raises(ObjectCorrupt):
            keys.unseal("clinic-a", "documents.title", blob[:length])


def test_macs_differ_by_tenant_purpose_and_data_and_last(keys: KeyStore, key_dir: Path) -> None:
    uses = [("clinic-a", "p", b"d"), ("clinic-b", "p", b"d"), ("clinic-a", "q", b"d"), ("clinic-a", "p", b"e")]
    macs = [keys.mac(*use) for use in uses]
    assert len(set(macs)) == 4
    keys.rotate_master()
    assert [KeyStore.open(key_dir).mac(*use) for use in uses] == macs


def test_the_service_key_signs_and_stays(keys: KeyStore, key_dir: Path) -> None:
    kid, signature = keys.sign("cache-policy", b"clinic-a\n{}")
    [public] = keys.public_keys()
    assert public["kid"] == kid
    raw = base64.urlsafe_b64decode(public["publicKey"] + "=")
    verifier = Ed25519PublicKey.from_public_bytes(raw)
    verifier.verify(signature, b"document-service cache-policy v1\nclinic-a\n{}")
    with pytest.raises(InvalidSignature):
        verifier.verify(signature, b"document-service other v1\nclinic-a\n{}")
    keys.rotate_master()
    assert KeyStore.open(key_dir).public_keys() == [public]


def test_unknown_tenants_have_no_key(keys: KeyStore) -> None:
    uses: list[Callable[[], object]] = [
        lambda: keys.seal("nobody", "p", b""),
        lambda: keys.unseal("nobody", "p", bytes(40)),
        lambda: keys.mac("nobody", "p", b""),
        lambda: keys.shred("nobody"),
        lambda: keys.seal("", "p", b""),
        lambda: keys.seal("x" * 300, "p", b""),
    ]
    for use in uses:
        with pytest.raises((TenantKeyMissing, ValueError)):
            use()
    assert not keys.has_tenant("nobody")


def test_a_tenant_is_made_once(keys: KeyStore) -> None:
    blob = keys.seal("clinic-a", "p", b"x")
    assert keys.create_tenant("clinic-a") is False
    assert keys.unseal("clinic-a", "p", blob) == b"x"


def test_two_stores_racing_to_make_a_tenant_agree_on_its_key(key_dir: Path) -> None:
    stores = [KeyStore.open(key_dir) for _ in range(8)]
    barrier = threading.Barrier(len(stores))

    def make(store: KeyStore) -> tuple[bool, bytes]:
        barrier.wait()
        return store.create_tenant("raced"), store.mac("raced", "p", b"x")

    with ThreadPoolExecutor(len(stores)) as pool:
        made = list(pool.map(make, stores))
    assert sum(new for new, _ in made) == 1
    assert len({mac for _, mac in made}) == 1


def test_processes_opening_a_new_folder_at_once_agree(key_dir: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from document_service.keys import KeyStore;"
        "k = KeyStore.open(Path(sys.argv[1])); k.create_tenant('t');"
        "print(k.mac('t', 'p', b'x').hex(), k.public_keys())"
    )
    command = [sys.executable, "-c", program, str(key_dir)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {child.communicate(timeout=60)[0] for child in children}
    assert all(child.returncode == 0 for child in children)
    assert len(answers) == 1


def test_a_shred_is_for_ever(keys: KeyStore, key_dir: Path) -> None:
    blob = keys.seal("clinic-a", "p", b"x")
    keys.shred("clinic-a")
    keys.shred("clinic-a")
    for store in (keys, KeyStore.open(key_dir)):
        assert not store.has_tenant("clinic-a")
        with pytest.raises(TenantKeyMissing):
            store.unseal("clinic-a", "p", blob)
        with pytest.raises(TenantShredded):
            store.create_tenant("clinic-a")
        assert store.has_tenant("clinic-b")


def test_a_shred_is_noticed_by_a_store_that_has_the_key_in_memory(keys: KeyStore, key_dir: Path) -> None:
    keys.seal("clinic-a", "p", b"x")
    KeyStore.open(key_dir).shred("clinic-a")
    with pytest.raises(TenantKeyMissing):
        keys.seal("clinic-a", "p", b"x")


def test_a_key_put_back_after_a_shred_stays_dead(keys: KeyStore, key_dir: Path) -> None:
    path = key_dir / "tenants" / "clinic-a.key"
    copy = path.read_bytes()
    keys.shred("clinic-a")
    path.write_bytes(copy)
    with pytest.raises(TenantKeyMissing):
        keys.mac("clinic-a", "p", b"x")
    assert not KeyStore.open(key_dir).has_tenant("clinic-a")
    assert not path.exists()


def test_shredding_overwrites_the_file(keys: KeyStore, key_dir: Path) -> None:
    path = key_dir / "tenants" / "clinic-a.key"
    wrapped = json.loads(path.read_bytes())["key"].encode()
    os.link(path, key_dir / "another name of the same blocks")
    keys.shred("clinic-a")
    assert wrapped not in (key_dir / "another name of the same blocks").read_bytes()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_shred_cut_short_is_finished_at_the_next_start(keys: KeyStore, key_dir: Path, at: int) -> None:
    died = dies(key_dir, at, "shred", "clinic-a")
    tombstone = (key_dir / "tenants/clinic-a.shredded").exists()
    store = KeyStore.open(key_dir)
    assert store.has_tenant("clinic-a") is (not tombstone)
    assert died or tombstone
    store.shred("clinic-a")
    assert sorted(path.name for path in (key_dir / "tenants").iterdir()) == [
        "clinic-a.shredded",
        "clinic-b.key",
    ]


def test_rotation_keeps_every_key_and_destroys_the_old_master(keys: KeyStore, key_dir: Path) -> None:
    old = json.loads((key_dir / "master.key").read_bytes())
    os.link(key_dir / "master.key", key_dir / "another name of the same blocks")
    running = KeyStore.open(key_dir)
    blob = running.seal("clinic-a", "p", b"x")
    assert keys.rotate_master() == 3
    new = json.loads((key_dir / "master.key").read_bytes())
    assert len(new["keys"]) == 1
    assert new["current"] != old["current"]
    secret = old["keys"][old["current"]].encode()
    for path in key_dir.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
    for store in (keys, running, KeyStore.open(key_dir)):
        assert store.unseal("clinic-a", "p", blob) == b"x"
    assert running.create_tenant("made after the rotation by a store opened before it")
    assert KeyStore.open(key_dir).has_tenant("made after the rotation by a store opened before it")


def test_a_rotation_cut_short_anywhere_loses_nothing(keys: KeyStore, key_dir: Path) -> None:
    blob = keys.seal("clinic-b", "p", b"x")
    mac = keys.mac("clinic-a", "p", b"x")
    at = 1
    while dies(key_dir, at, "rotate_master"):
        store = KeyStore.open(key_dir)
        assert (store.unseal("clinic-b", "p", blob), store.mac("clinic-a", "p", b"x")) == (b"x", mac)
        at += 1
    # The master twice, the signing key and two tenants, and for each death the leftover of the one before.
    assert at >= 6
    assert len(json.loads((key_dir / "master.key").read_bytes())["keys"]) == 1
    assert keys.unseal("clinic-b", "p", blob) == b"x"
    assert not list(key_dir.rglob(".writing-*"))


def test_readers_are_not_disturbed_by_rotations(keys: KeyStore, key_dir: Path) -> None:
    blob = keys.seal("clinic-a", "p", b"x")
    running = True

    def read() -> int:
        store, count = KeyStore.open(key_dir), 0
        while running:
            assert store.unseal("clinic-a", "p", blob) == b"x"
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for _ in range(10):
                keys.rotate_master()
        finally:
            running = False
        assert all(reader.result() > 10 for reader in readers)


def test_files_are_private(keys: KeyStore, key_dir: Path) -> None:
    for path in [key_dir, *key_dir.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_master_that_others_can_read_is_refused(keys: KeyStore, key_dir: Path) -> None:
    (key_dir / "master.key").chmod(0o640)
    with pytest.raises(KeyStoreUnusable, match="chmod 600"):
        KeyStore.open(key_dir)


def test_a_lost_master_is_never_replaced(keys: KeyStore, key_dir: Path) -> None:
    (key_dir / "master.key").unlink()
    with pytest.raises(KeyStoreUnusable, match="put it back"):
        KeyStore.open(key_dir)
    assert not (key_dir / "master.key").exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\x00\xff", b'{"current": "a", "keys": {"a": "AAAA"}}'])
def test_damaged_files_are_named(keys: KeyStore, key_dir: Path, content: bytes) -> None:
    tenant, master = key_dir / "tenants/clinic-a.key", key_dir / "master.key"
    tenant.write_bytes(content)
    with pytest.raises(KeyStoreUnusable, match=r"clinic-a\.key"):
        keys.mac("clinic-a", "p", b"")
    master.write_bytes(content)
    with pytest.raises(KeyStoreUnusable, match=r"master\.key"):
        KeyStore.open(key_dir)


def test_another_tenants_key_file_is_not_taken(keys: KeyStore, key_dir: Path) -> None:
    tenants = key_dir / "tenants"
    (tenants / "clinic-a.key").write_bytes((tenants / "clinic-b.key").read_bytes())
    with pytest.raises(KeyStoreUnusable):
        keys.mac("clinic-a", "p", b"")
    record = json.loads((tenants / "clinic-b.key").read_bytes())
    (tenants / "clinic-a.key").write_text(json.dumps({**record, "tenant": "clinic-a"}))
    with pytest.raises(KeyStoreUnusable):
        keys.mac("clinic-a", "p", b"")


@given(st.text(min_size=1, max_size=20))
def test_every_tenant_id_has_its_own_plain_file_name(tenant_id: str) -> None:
    try:
        name = safe_file_name(tenant_id)
    except (ValueError, UnicodeEncodeError):
        return
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isascii()
    assert name.isprintable()


def test_tenant_ids_that_look_like_paths_stay_in_the_folder(key_dir: Path) -> None:
    keys = KeyStore.open(key_dir)
    for tenant_id in (".", "..", "../x", "a/b", "کلینیک", ".hidden", "a%2Fb"):
        assert keys.create_tenant(tenant_id), tenant_id
    assert len(list((key_dir / "tenants").iterdir())) == 7
    assert sorted(path.name for path in key_dir.iterdir()) == [".lock", "master.key", "signing.key", "tenants"]


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_framing_is_unambiguous(one: list[bytes], other: list[bytes]) -> None:
    assert (framed(*one) == framed(*other)) is (one == other)
