"""What every object store promises; the directory's and the bucket's tests both inherit all of it.

A subclass's module has the fixtures ``store`` and ``keys`` (with tenants "t1" and "t2"), and ``raw``: the
stored bytes below the store, read and written behind its back.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from document_service.errors import ObjectCorrupt, ObjectExists, ObjectNotFound, TenantKeyMissing
from document_service.keys import KeyStore
from document_service.store import ObjectStore
from document_service.store.envelope import (
    CHUNK_BYTES,
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    plain_size,
    sealed_size,
)

# Around a chunk's edge, and several chunks.
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7]


class Raw(Protocol):
    async def get(self, key: str) -> bytes: ...
    async def put(self, key: str, content: bytes) -> None: ...


async def content_of(store: ObjectStore, tenant: str, name: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(tenant, name, start, end)])


async def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


class StorePromises:
    @pytest.mark.parametrize("size", SIZES)
    async def test_what_is_put_is_read(self, store: ObjectStore, size: int) -> None:
        content = os.urandom(size)
        stored = await store.put("t1", f"doc/size-{size}", content)
        assert (stored.size, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
        assert stored.sealed_size == sealed_size(size)
        assert await content_of(store, "t1", f"doc/size-{size}") == content
        stat = await store.stat("t1", f"doc/size-{size}")
        assert (stat.name, stat.size, stat.sealed_size) == (stored.name, size, stored.sealed_size)

    async def test_pieces_of_any_length_make_the_same_object(self, store: ObjectStore) -> None:
        content = os.urandom(1_300_000)
        for step in (777, CHUNK_BYTES, 1_000_000):
            stored = await store.put("t1", f"pieces/{step}", in_pieces(content, step))
            assert stored.sha256 == hashlib.sha256(content).hexdigest()
            assert await content_of(store, "t1", f"pieces/{step}") == content

    async def test_ranges_are_cut_exactly(self, store: ObjectStore) -> None:
        content = os.urandom(2_500_000)
        await store.put("t1", "ranges", content)
        edge = CHUNK_BYTES
        cases = [(0, 1), (5, 5), (edge - 1, edge + 1), (edge, 2 * edge), (1_048_570, 1_048_580)]
        cases += [(2_499_999, 2_500_000), (2_500_000, 2_500_000), (100, 9_999_999), (1_100_000, 2_400_000)]
        for start, end in cases:
            assert await content_of(store, "t1", "ranges", start, end) == content[start:end], (start, end)
        with pytest.raises(ValueError, match="range"):
            await content_of(store, "t1", "ranges", 2_500_001)

    async def test_a_name_is_written_once(self, store: ObjectStore) -> None:
        await store.put("t1", "once", b"first")
        for second in (b"second", in_pieces(b"second", 2)):
            with pytest.raises(ObjectExists):
                await store.put("t1", "once", second)
        assert await content_of(store, "t1", "once") == b"first"

    async def test_several_are_stored_together_each_under_its_name(self, store: ObjectStore) -> None:
        contents = {"pair/page": os.urandom(70_000), "pair/snapshot": b"", "another/place": b"x"}
        stored = await store.put_together("t1", contents)
        assert [one.name for one in stored] == list(contents)
        for one in stored:
            content = contents[one.name]
            assert (one.size, one.sha256) == (len(content), hashlib.sha256(content).hexdigest())
            assert one.sealed_size == sealed_size(len(content))
            assert await content_of(store, "t1", one.name) == content

    async def test_together_none_takes_the_place_of_another(self, store: ObjectStore) -> None:
        await store.put("t1", "there", b"first")
        with pytest.raises(ObjectExists):
            await store.put_together("t1", {"there": b"second", "new": b"x"})
        assert await content_of(store, "t1", "there") == b"first"

    async def test_of_many_writers_of_a_name_one_wins(self, store: ObjectStore) -> None:
        async def write(number: int) -> int | None:
            try:
                await store.put("t1", "race", str(number).encode())
            except ObjectExists:
                return None
            return number

        winners = [number for number in await asyncio.gather(*map(write, range(12))) if number is not None]
        assert len(winners) == 1
        assert await content_of(store, "t1", "race") == str(winners[0]).encode()

    async def test_what_is_not_there_is_not_found(self, store: ObjectStore) -> None:
        await store.put("t1", "mine", b"x")
        for tenant, name in (("t1", "nothing"), ("t2", "mine")):
            with pytest.raises(ObjectNotFound):
                await content_of(store, tenant, name)
            with pytest.raises(ObjectNotFound):
                await store.stat(tenant, name)

    async def test_delete_is_for_good_and_repeatable(self, store: ObjectStore) -> None:
        await store.put("t1", "gone", b"x")
        await store.delete("t1", "gone")
        await store.delete("t1", "gone")
        with pytest.raises(ObjectNotFound):
            await store.stat("t1", "gone")

    async def test_list_shows_the_tenants_own_objects(self, store: ObjectStore) -> None:
        for tenant, name in (("t1", "list/a"), ("t1", "list/b"), ("t1", "other"), ("t2", "list/c")):
            await store.put(tenant, name, b"xyz")
        found = [stat async for stat in store.list("t1", "list/")]
        assert [(stat.name, stat.size) for stat in found] == [("list/a", 3), ("list/b", 3)]
        assert [stat async for stat in store.list("t1", "nothing/")] == []

    async def test_nothing_readable_lies_in_the_store(self, store: ObjectStore, raw: Raw) -> None:
        await store.put("t1", "secret", b"Gul Makai Ahmadzai" * 100)
        assert b"Makai" not in await raw.get("objects/t1/secret")

    @pytest.mark.parametrize("size", [10, 3 * CHUNK_BYTES])
    async def test_one_flipped_bit_anywhere_is_refused(self, store: ObjectStore, raw: Raw, size: int) -> None:
        content = os.urandom(size)
        await store.put("t1", f"flip-{size}", content)
        sealed = await raw.get(f"objects/t1/flip-{size}")
        places = [0, 4, 5, 30, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 9, len(sealed) - 1]
        for place in places:
            altered = bytearray(sealed)
            altered[place] ^= 1
            await raw.put(f"objects/t1/flip-{size}", bytes(altered))
            with pytest.raises(ObjectCorrupt):
                await content_of(store, "t1", f"flip-{size}")
        await raw.put(f"objects/t1/flip-{size}", sealed)
        assert await content_of(store, "t1", f"flip-{size}") == content

    async def test_cut_lengthened_swapped_and_moved_objects_are_refused(self, store: ObjectStore, raw: Raw) -> None:
        await store.put("t1", "whole", os.urandom(3 * CHUNK_BYTES))
        await store.put("t1", "other", os.urandom(3 * CHUNK_BYTES))
        sealed, other = await raw.get("objects/t1/whole"), await raw.get("objects/t1/other")
        one = HEADER_BYTES + SEALED_CHUNK_BYTES
        two = one + SEALED_CHUNK_BYTES
        wrong = {
            "cut at a chunk's edge": sealed[:two],
            "cut within a chunk": sealed[: two + 100],
            "cut within the header": sealed[:40],
            "empty": b"",
            "lengthened": sealed + bytes(20),
            "chunks swapped": b"".join((sealed[:HEADER_BYTES], sealed[one:two], sealed[HEADER_BYTES:one])),
            "another's chunks": sealed[:HEADER_BYTES] + other[HEADER_BYTES:],
            "another's object": other,
        }
        for what, content in wrong.items():
            await raw.put("objects/t1/whole", content)
            with pytest.raises(ObjectCorrupt):
                assert await content_of(store, "t1", "whole") is None, what
        # An object of one tenant, copied into another's folder by somebody with access to the disk.
        await raw.put("objects/t2/whole", sealed)
        with pytest.raises(ObjectCorrupt):
            await content_of(store, "t2", "whole")

    async def test_after_a_shred_nothing_opens(self, store: ObjectStore, raw: Raw, keys: KeyStore) -> None:
        await store.put("t1", "before", b"content")
        sealed = await raw.get("objects/t1/before")
        keys.shred("t1")
        for _ in range(2):
            with pytest.raises(TenantKeyMissing):
                await content_of(store, "t1", "before")
            # The object as an old backup would bring it back.
            await raw.put("objects/t1/before", sealed)
        with pytest.raises(TenantKeyMissing):
            await store.put("t1", "after", b"content")
        assert [stat.name async for stat in store.list("t1")] == ["before"]
        await store.delete("t1", "before")

    async def test_master_rotation_leaves_objects_readable(self, store: ObjectStore, keys: KeyStore) -> None:
        await store.put("t1", "kept", b"content")
        keys.rotate_master()
        assert await content_of(store, "t1", "kept") == b"content"

    @pytest.mark.parametrize(
        "name", ["", "..", "a/../b", "/a", "a/", "a//b", ".hidden", "a b", "a\nb", "a" * 101, "a/b/c/d/e"]
    )
    async def test_a_name_that_is_no_plain_path_is_refused(self, store: ObjectStore, name: str) -> None:
        with pytest.raises(ValueError, match="not an object name"):
            await store.put("t1", name, b"x")

    async def test_marks_are_replaced_in_place(self, store: ObjectStore) -> None:
        assert await store.read_mark("high-water") is None
        for content in (b"1", b"", b"22"):
            await store.write_mark("high-water", content)
            assert await store.read_mark("high-water") == content

    async def test_a_cut_off_object_is_listed_as_such(self, store: ObjectStore, raw: Raw) -> None:
        await raw.put("objects/t1/cut", bytes(HEADER_BYTES + 3))
        assert [(stat.name, stat.size) async for stat in store.list("t1")] == [("cut", -1)]
        with pytest.raises(ObjectCorrupt):
            await store.stat("t1", "cut")

    async def test_probe_is_content_with_a_working_store(self, store: ObjectStore) -> None:
        await store.probe()
        assert [stat async for stat in store.list("t1")] == []


def test_sizes_are_told_both_ways() -> None:
    for size in [*SIZES, 10 * CHUNK_BYTES - 1, 10 * CHUNK_BYTES]:
        assert plain_size(sealed_size(size)) == size
    for impossible in (0, HEADER_BYTES, HEADER_BYTES + 15, HEADER_BYTES + SEALED_CHUNK_BYTES + 16):
        with pytest.raises(ObjectCorrupt):
            plain_size(impossible)
