"""The bucket store keeps every promise of a store, on a real S3 server, and says when the server is gone."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import obstore
import pytest
from obstore.store import S3Store

from document_service.errors import ObjectExists, StoreUnavailable
from document_service.keys import KeyStore
from document_service.store import open_store
from document_service.store.s3 import PART_BYTES, BucketStore
from seaweedfs import Seaweed, free_ports, running_seaweed
from store_promises import StorePromises, content_of, in_pieces


class Bucket:
    def __init__(self, seaweed: Seaweed, prefix: str) -> None:
        config = {"endpoint": seaweed.endpoint, "region": "us-east-1"}
        options = {"allow_http": True}
        self.bucket = S3Store(seaweed.bucket, prefix=prefix, config=config, client_options=options)

    async def get(self, key: str) -> bytes:
        return bytes(await (await obstore.get_async(self.bucket, key)).bytes_async())

    async def put(self, key: str, content: bytes) -> None:
        await obstore.put_async(self.bucket, key, content)

    async def keys(self) -> list[str]:
        return [meta["path"] async for page in obstore.list(self.bucket) for meta in page]


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    keys = KeyStore.open(tmp_path / "keys")
    keys.create_tenant("t1")
    keys.create_tenant("t2")
    return keys


@pytest.fixture
def prefix(seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    return hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]


@pytest.fixture
def store(seaweed: Seaweed, keys: KeyStore, prefix: str) -> BucketStore:
    return cast(BucketStore, open_store(seaweed.location(prefix), keys))


@pytest.fixture
def raw(seaweed: Seaweed, prefix: str) -> Bucket:
    return Bucket(seaweed, prefix)


class TestBucket(StorePromises):
    """Every test of StorePromises, on S3."""


async def test_a_large_object_goes_up_in_parts_and_is_readable_by_range(store: BucketStore, raw: Bucket) -> None:
    content = os.urandom(2 * PART_BYTES + 12_345)
    stored = await store.put("t1", "large", in_pieces(content, 700_000))
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert (await store.stat("t1", "large")).sealed_size == stored.sealed_size
    assert await content_of(store, "t1", "large") == content
    assert (
        await content_of(store, "t1", "large", PART_BYTES - 5, PART_BYTES + 5)
        == content[PART_BYTES - 5 : PART_BYTES + 5]
    )
    assert await raw.keys() == ["objects/t1/large"], "the claim is gone"
    with pytest.raises(ObjectExists):
        await store.put("t1", "large", content)
    assert await content_of(store, "t1", "large", 0, 10) == content[:10]


async def test_of_many_large_writers_of_a_name_one_wins(store: BucketStore) -> None:
    contents = [bytes([number]) * (PART_BYTES + 1) for number in range(4)]

    async def write(content: bytes) -> bool:
        try:
            await store.put("t1", "race", content)
        except ObjectExists:
            return False
        return True

    won = await asyncio.gather(*map(write, contents))
    assert sum(won) == 1
    assert await content_of(store, "t1", "race") == contents[won.index(True)]


async def test_a_large_put_that_breaks_off_leaves_nothing(store: BucketStore, raw: Bucket) -> None:
    async def cut():  # type: ignore[no-untyped-def]
        yield bytes(PART_BYTES + 1)
        yield bytes(PART_BYTES)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put("t1", "cut", cut())
    assert await raw.keys() == []


async def test_the_bytes_are_those_of_the_directory(
    store: BucketStore, raw: Bucket, keys: KeyStore, tmp_path: Path
) -> None:
    directory = open_store(tmp_path / "directory", keys)
    content = os.urandom(200_000)
    await directory.put("t1", "same", content)
    await raw.put("objects/t1/same", (tmp_path / "directory/objects/t1/same").read_bytes())
    assert await content_of(store, "t1", "same") == content


async def test_a_server_that_is_gone_a_missing_bucket_and_a_wrong_key_are_unavailable(
    seaweed: Seaweed, keys: KeyStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("document_service.store.s3.MAX_RETRIES", 0)
    gone = open_store(f"s3://documents/x?endpoint=http://127.0.0.1:{free_ports(1)[0]}", keys)
    missing = open_store(f"s3://nowhere/x?endpoint={seaweed.endpoint}", keys)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused = open_store(seaweed.location(prefix), keys)
    for store in (gone, missing, refused):
        with pytest.raises(StoreUnavailable):
            await store.probe()
        with pytest.raises(StoreUnavailable):
            await store.put("t1", "x", b"x")
    for store in (gone, refused):
        with pytest.raises(StoreUnavailable):
            await content_of(store, "t1", "x")
