"""Sealed objects in an S3 bucket, by obstore: the same bytes as in a directory.

A sealed object of up to 8 MiB is one conditional PUT (``If-None-Match: *``). A larger one is a multipart
upload, which S3-compatible servers do not all make conditional; so its name is claimed first by a conditional
PUT of an empty object under ``claims/``, and only who holds the claim uploads. A claim that a crash left
behind keeps its name refused, which harms nothing: names are made fresh for every attempt.

Reads ask for the header and the first span in one request. Requests are tried again for up to 10 s by
obstore; whatever fails after that is StoreUnavailable, which the queue retries later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import S3Store

from document_service.errors import ObjectCorrupt, ObjectExists, ObjectNotFound, StoreUnavailable
from document_service.keys import KeyStore
from document_service.store.envelope import (
    BATCH_CHUNKS,
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    Opener,
    Sealer,
    plain_size,
)
from document_service.store.names import (
    ObjectStat,
    SealedFile,
    StoredObject,
    is_object_name,
    is_sealed_key,
    mark_key,
    object_key,
    sealed_key,
)

if TYPE_CHECKING:
    from obstore.store import S3Config

PART_BYTES: Final = 8 * 1024 * 1024  # Above S3's least part size of 5 MiB; 10,000 parts make 80 GB.
FIRST_READ: Final = HEADER_BYTES + BATCH_CHUNKS * SEALED_CHUNK_BYTES  # The header and the first 1 MiB of content.
CONNECT_TIMEOUT: Final = timedelta(seconds=3)  # A store in the same network answers in milliseconds.
REQUEST_TIMEOUT: Final = timedelta(seconds=30)  # 8 MiB at 3 Mbit/s, the slowest line worth having a store on.
RETRY_TIMEOUT: Final = timedelta(seconds=10)  # A render waits for the store; the queue's backoff does the rest.
MAX_RETRIES: Final = 3


def open_bucket(location: str, keys: KeyStore) -> BucketStore:
    """Open ``s3://bucket/prefix?endpoint=…&region=…`` with the credentials of the AWS_… environment
    variables.

    Raises ValueError for a location without bucket or with a parameter that is not one of these.
    """
    parts = urlsplit(location)
    parameters = dict(parse_qsl(parts.query))
    unknown = set(parameters) - {"endpoint", "region"}
    if not parts.hostname or unknown or parts.username or parts.password:
        raise ValueError("S3 is given as s3://bucket/prefix?endpoint=http://host:port&region=name")
    config: S3Config = {"region": parameters.get("region", "us-east-1")}
    endpoint = parameters.get("endpoint")
    if endpoint:
        config["endpoint"] = endpoint
    store = S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        config=config,
        client_options={
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "connect_timeout": CONNECT_TIMEOUT,
            "timeout": REQUEST_TIMEOUT,
        },
        retry_config={"max_retries": MAX_RETRIES, "retry_timeout": RETRY_TIMEOUT},
    )
    return BucketStore(store, keys)


class BucketStore:
    """An ObjectStore in an S3 bucket or below a prefix of one."""

    def __init__(self, bucket: S3Store, keys: KeyStore) -> None:
        """Use ``open_bucket``; nothing is asked of the server before the first use."""
        self._bucket = bucket
        self._keys = keys

    async def put(self, tenant_id: str, name: str, content: bytes | AsyncIterable[bytes]) -> StoredObject:
        """See ObjectStore.put."""
        sealer = Sealer(self._keys, tenant_id, name)
        sealed_size = await self._put_pieces(object_key(tenant_id, name), name, _sealed_pieces(sealer, content))
        return StoredObject(name, sealer.size, sealer.sha256, sealed_size)

    async def put_together(self, tenant_id: str, contents: Mapping[str, bytes]) -> list[StoredObject]:
        """See ObjectStore.put_together: the requests are made beside each other."""
        return await asyncio.gather(*(self.put(tenant_id, name, content) for name, content in contents.items()))

    async def _put_pieces(self, key: str, name: str, pieces: AsyncIterator[bytes | bytearray]) -> int:
        beginning = bytearray()
        async for piece in pieces:
            beginning += piece
            if len(beginning) > PART_BYTES:
                return await self._put_parts(key, name, beginning, pieces)
        await self._create(key, name, bytes(beginning))
        return len(beginning)

    async def _create(self, key: str, name: str, sealed: bytes) -> None:
        try:
            with _translated(name):
                await obstore.put_async(self._bucket, key, sealed, mode="create", use_multipart=False)
        except ObjectNotFound as error:
            raise StoreUnavailable("the bucket does not exist") from error
        except ObjectExists:
            # When the answer to a PUT is lost, its repetition meets our own object. No other begins like this
            # one: a header holds a random nonce, a claim is random.
            if await self._fetch(key, name, 0, HEADER_BYTES) != sealed[:HEADER_BYTES]:
                raise

    async def _put_parts(
        self, key: str, name: str, beginning: bytearray, pieces: AsyncIterator[bytes | bytearray]
    ) -> int:
        claim = f"claims/{key.removeprefix('objects/')}"
        await self._create(claim, name, os.urandom(HEADER_BYTES))
        size = len(beginning)
        caller_failed: BaseException | None = None

        async def parts() -> AsyncIterator[bytes | bytearray]:
            nonlocal size, caller_failed
            yield bytes(beginning)
            try:
                async for piece in pieces:
                    size += len(piece)
                    yield piece
            except BaseException as error:
                caller_failed = error
                raise

        try:
            with _translated(name):
                if await self._exists(key):
                    raise ObjectExists(f"object {name} is already stored")
                await obstore.put_async(self._bucket, key, parts(), use_multipart=True, chunk_size=PART_BYTES)
        except ObjectNotFound as error:
            # The parts, or the bucket: nothing of ours is read here.
            raise StoreUnavailable("the parts of an object were not there to be put together") from error
        except StoreUnavailable:
            # obstore aborts the upload; what the caller's own content raised is not the store's failure.
            if caller_failed is not None:
                raise caller_failed from None
            raise
        finally:
            with contextlib.suppress(BaseError, OSError):
                await obstore.delete_async(self._bucket, claim)
        return size

    async def _exists(self, key: str) -> bool:
        try:
            await obstore.head_async(self._bucket, key)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    async def read(self, tenant_id: str, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """See ObjectStore.read."""
        key = object_key(tenant_id, name)
        try:
            with _translated(name):
                answer = await obstore.get_async(self._bucket, key, options={"range": (0, FIRST_READ)})
                beginning = bytes(await answer.bytes_async())
                sealed_size = answer.meta["size"]
        except StoreUnavailable:
            # A server refuses a range of an empty object; its size tells that it is corrupt, not unavailable.
            await self.stat(tenant_id, name)
            raise
        opener = Opener(self._keys, tenant_id, name, beginning[:HEADER_BYTES], sealed_size)
        for span in opener.spans(start, end):
            if span.end <= len(beginning):
                sealed = beginning[span.start : span.end]
            else:
                sealed = await self._fetch(key, name, span.start, span.end)
            content = opener.open(span, sealed)
            if content:
                yield content

    async def _fetch(self, key: str, name: str, start: int, end: int) -> bytes:
        with _translated(name):
            return bytes(await obstore.get_range_async(self._bucket, key, start=start, end=end))

    async def stat(self, tenant_id: str, name: str) -> ObjectStat:
        """See ObjectStore.stat."""
        with _translated(name):
            meta = await obstore.head_async(self._bucket, object_key(tenant_id, name))
        return ObjectStat(name, plain_size(meta["size"]), meta["size"], meta["last_modified"])

    async def delete(self, tenant_id: str, name: str) -> None:
        """See ObjectStore.delete."""
        with contextlib.suppress(ObjectNotFound), _translated(name):
            await obstore.delete_async(self._bucket, object_key(tenant_id, name))

    async def list(self, tenant_id: str, prefix: str = "") -> AsyncIterator[ObjectStat]:
        """See ObjectStore.list; in order of keys."""
        folder = object_key(tenant_id, "x").removesuffix("x")
        with _translated("a list"):
            pages = obstore.list(self._bucket, prefix=folder)
            async for page in pages:
                for meta in page:
                    # obstore answers paths below its own prefix, as they were given to it.
                    name = str(meta["path"]).removeprefix(folder)
                    if name.startswith(prefix) and is_object_name(name):
                        size = int(meta["size"])
                        try:
                            plain = plain_size(size)
                        except ObjectCorrupt:
                            plain = -1
                        yield ObjectStat(name, plain, size, meta["last_modified"])

    async def write_mark(self, name: str, content: bytes) -> None:
        """See ObjectStore.write_mark."""
        try:
            with _translated(name):
                await obstore.put_async(self._bucket, mark_key(name), content, use_multipart=False)
        except ObjectNotFound as error:
            raise StoreUnavailable("the bucket does not exist") from error

    async def read_mark(self, name: str) -> bytes | None:
        """See ObjectStore.read_mark."""
        try:
            with _translated(name):
                answer = await obstore.get_async(self._bucket, mark_key(name))
                return bytes(await answer.bytes_async())
        except ObjectNotFound:
            return None

    @property
    def sealed(self) -> _SealedBucket:
        """See ObjectStore.sealed."""
        return _SealedBucket(self, self._bucket)

    async def probe(self) -> None:
        """See ObjectStore.probe: writes a mark, which a bucket that is missing or read-only refuses."""
        await self.write_mark("probe", b"")


class _SealedBucket:
    """The sealed objects of a bucket; see SealedFiles."""

    def __init__(self, store: BucketStore, bucket: S3Store) -> None:
        self._store = store
        self._bucket = bucket

    async def inventory(self) -> AsyncIterator[SealedFile]:
        """See SealedFiles.inventory; in order of keys."""
        with _translated("a list"):
            async for page in obstore.list(self._bucket, prefix="objects/"):
                for meta in page:
                    if is_sealed_key(str(meta["path"])):
                        yield SealedFile(str(meta["path"]), int(meta["size"]))

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """See SealedFiles.read."""
        with _translated(key):
            answer = await obstore.get_async(self._bucket, sealed_key(key))
            async for piece in answer.stream():
                yield bytes(piece)

    async def write(self, key: str, content: AsyncIterable[bytes]) -> None:
        """See SealedFiles.write."""

        async def pieces() -> AsyncIterator[bytes | bytearray]:
            async for piece in content:
                yield piece

        await self._store._put_pieces(sealed_key(key), key, pieces())


async def _sealed_pieces(sealer: Sealer, content: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes | bytearray]:
    yield sealer.header
    if isinstance(content, bytes):
        # In pieces, so that the loop breathes between them: sealing 1 MiB takes 0.7 ms, hash included.
        view = memoryview(content)
        step = BATCH_CHUNKS * SEALED_CHUNK_BYTES
        for start in range(0, len(view), step):
            yield sealer.update(bytes(view[start : start + step]))
    else:
        async for piece in content:
            sealed = sealer.update(piece)
            if sealed:
                yield sealed
    yield sealer.finish()


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn obstore's errors, some of which are Python's own, into ours.

    Their texts hold addresses and answers, so they stay in the cause.
    """
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        if "NoSuchBucket" in str(error):
            raise StoreUnavailable("the bucket does not exist") from error
        raise ObjectNotFound(f"object {name} is not in the store") from error
    except (AlreadyExistsError, PreconditionError, FileExistsError) as error:
        raise ObjectExists(f"object {name} is already stored") from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable(f"the bucket did not answer as it should ({type(error).__name__})") from error
