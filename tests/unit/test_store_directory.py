"""The directory store keeps every promise of a store, and what is particular to files."""

from __future__ import annotations

import asyncio
import os
import stat as modes
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from document_service.errors import ObjectNotFound, StoreUnavailable
from document_service.keys import KeyStore
from document_service.store import DirectoryStore, open_store
from document_service.store.directory import STALE_SECONDS
from store_promises import StorePromises, content_of, test_sizes_are_told_both_ways  # noqa: F401


class Files:
    def __init__(self, root: Path) -> None:
        self.root = root

    async def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    async def put(self, key: str, content: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    keys = KeyStore.open(tmp_path / "keys")
    keys.create_tenant("t1")
    keys.create_tenant("t2")
    return keys


@pytest.fixture
def store(tmp_path: Path, keys: KeyStore) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store", keys)


@pytest.fixture
def raw(tmp_path: Path) -> Files:
    return Files(tmp_path / "store")


class TestDirectory(StorePromises):
    """Every test of StorePromises, on files."""


async def test_files_are_private_and_nothing_is_left_in_incoming(store: DirectoryStore, raw: Files) -> None:
    await store.put("t1", "doc/a", b"x")
    await store.write_mark("m", b"x")
    for path in [raw.root, *raw.root.rglob("*")]:
        allowed = 0o700 if path.is_dir() else 0o600
        assert modes.S_IMODE(path.stat().st_mode) == allowed, path
    assert list((raw.root / "incoming").iterdir()) == []


async def test_everything_is_synced_before_it_counts(
    store: DirectoryStore, raw: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut: the content under each name, and the names in each folder, are on the disk."""
    names = {"here/a": b"x", "here/b": b"y", "there/c": b"z"}
    await store.put("t1", "here/first", b"")
    await store.put("t1", "there/first", b"")
    folder = raw.root / "objects" / "t1"
    synced: list[tuple[int, set[str]]] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        present = {name for name in names if (folder / name).exists()}
        synced.append((os.fstat(descriptor).st_ino, present))

    monkeypatch.setattr(os, "fsync", noted)
    await store.put_together("t1", names)
    assert len(synced) == len(names) + 2
    for name in names:
        path = folder / name
        assert any(inode == path.stat().st_ino and name not in present for inode, present in synced), name
        assert any(inode == path.parent.stat().st_ino and name in present for inode, present in synced), name


async def test_a_put_that_breaks_off_leaves_nothing(store: DirectoryStore, raw: Files) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield bytes(3_000_000)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put("t1", "cut", cut())
    assert list((raw.root / "incoming").iterdir()) == []
    with pytest.raises(ObjectNotFound):
        await store.stat("t1", "cut")


async def test_a_cancelled_put_leaves_nothing(store: DirectoryStore, raw: Files) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(3_000_000)
        started.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(store.put("t1", "cancelled", endless()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list((raw.root / "incoming").iterdir()) == []


def test_what_an_old_crash_left_is_removed_and_a_running_write_is_not(tmp_path: Path, keys: KeyStore) -> None:
    DirectoryStore(tmp_path / "store", keys)
    old, young = (tmp_path / "store/incoming" / name for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - STALE_SECONDS - 60,) * 2)
    DirectoryStore(tmp_path / "store", keys)
    assert not old.exists()
    assert young.exists()


async def test_an_unmounted_volume_is_not_an_empty_store(store: DirectoryStore, raw: Files) -> None:
    await store.put("t1", "doc", b"x")
    raw.root.rename(raw.root.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable):
        await content_of(store, "t1", "doc")
    with pytest.raises(StoreUnavailable):
        await store.put("t1", "new", b"x")
    with pytest.raises(StoreUnavailable):
        await store.probe()
    raw.root.mkdir()
    (raw.root / "incoming").mkdir()
    with pytest.raises(StoreUnavailable, match="mounted"):
        await store.put("t1", "new", b"x")


async def test_a_full_disk_is_said_so_and_leaves_nothing(
    store: DirectoryStore, raw: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The limit of a file's size refuses a write as a full disk does, with EFBIG for ENOSPC.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StoreUnavailable, match="EFBIG"):
            await store.put("t1", "big", bytes(300_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((raw.root / "incoming").iterdir()) == []


async def test_a_link_in_place_of_an_object_is_not_followed(store: DirectoryStore, raw: Files) -> None:
    await store.put("t1", "real", b"x")
    (raw.root / "objects/t1/link").symlink_to("real")
    with pytest.raises(StoreUnavailable, match="ELOOP"):
        await content_of(store, "t1", "link")


def test_open_store_takes_a_path_and_a_file_url(tmp_path: Path, keys: KeyStore) -> None:
    for location in (tmp_path / "a b", str(tmp_path / "plain"), f"file://{tmp_path}/a%20b"):
        assert isinstance(open_store(location, keys), DirectoryStore)
    for wrong in ("", "http://127.0.0.1/x", "file://elsewhere/x", "s3:///x", "s3://bucket?colour=red"):
        with pytest.raises(ValueError):
            open_store(wrong, keys)


def test_a_store_where_no_folder_can_be_made_is_unavailable(tmp_path: Path, keys: KeyStore) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable):
        DirectoryStore(tmp_path / "file" / "store", keys)
