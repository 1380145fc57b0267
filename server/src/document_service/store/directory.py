"""Sealed objects in a folder of this machine: durable when ``put`` returns, never half there.

    ROOT/incoming/…     being written; what a crash leaves here is removed at the next start
    ROOT/objects/…      see names

An object is written to a new file, synced, linked under its name (which refuses a name that is taken), and
the folder is synced: after a power cut the object is there whole or not at all. Files are 0600, folders 0700.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Final

from document_service.errors import ObjectCorrupt, ObjectExists, ObjectNotFound, StoreUnavailable
from document_service.keys import KeyStore
from document_service.store.envelope import (
    BATCH_CHUNKS,
    CHUNK_BYTES,
    HEADER_BYTES,
    Opener,
    Sealer,
    Span,
    plain_size,
    reading_buffer,
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

STALE_SECONDS: Final = 24 * 3600  # No upload or render writes one file for a day; younger ones may be another's.
_BATCH_BYTES: Final = BATCH_CHUNKS * CHUNK_BYTES


class DirectoryStore:
    """An ObjectStore in a folder."""

    def __init__(self, root: Path, keys: KeyStore) -> None:
        """Make the folders below ``root`` and remove what old crashes left. Raises StoreUnavailable."""
        self._root = root
        self._keys = keys
        self._incoming = root / "incoming"
        _prepare(root)

    async def put(self, tenant_id: str, name: str, content: bytes | AsyncIterable[bytes]) -> StoredObject:
        """See ObjectStore.put."""
        if isinstance(content, bytes):
            (stored,) = await self.put_together(tenant_id, {name: content})
            return stored
        target = self._root / object_key(tenant_id, name)
        sealer = Sealer(self._keys, tenant_id, name)
        file = await asyncio.to_thread(_Incoming, self._incoming, target)
        try:
            pending = [sealer.header]
            held = 0
            async for piece in content:
                pending.append(piece)
                held += len(piece)
                if held >= _BATCH_BYTES:
                    pieces, pending, held = pending, [], 0
                    await asyncio.to_thread(_write_sealed, file, sealer, pieces)
            await asyncio.to_thread(_write_sealed, file, sealer, pending, last=True)
        finally:
            await asyncio.to_thread(file.close)
        return StoredObject(name, sealer.size, sealer.sha256, file.written)

    async def put_together(self, tenant_id: str, contents: Mapping[str, bytes]) -> list[StoredObject]:
        """See ObjectStore.put_together: one hop to a thread, and each folder is synced once."""
        targets = {name: self._root / object_key(tenant_id, name) for name in contents}
        return await asyncio.to_thread(self._put_bytes, tenant_id, contents, targets)

    def _put_bytes(
        self, tenant_id: str, contents: Mapping[str, bytes], targets: Mapping[str, Path]
    ) -> list[StoredObject]:
        stored = []
        with contextlib.ExitStack() as opened:
            files = []
            for name, content in contents.items():
                sealer = Sealer(self._keys, tenant_id, name)
                file = opened.enter_context(contextlib.closing(_Incoming(self._incoming, targets[name])))
                for piece in (sealer.header, sealer.update(content), sealer.finish()):
                    file.write(piece)
                stored.append(StoredObject(name, sealer.size, sealer.sha256, file.written))
                files.append(file)
            _commit(files)
        return stored

    async def read(self, tenant_id: str, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """See ObjectStore.read."""
        path = self._root / object_key(tenant_id, name)
        file, opener, spans, content = await asyncio.to_thread(self._open, path, tenant_id, name, start, end)
        with file:
            while content:
                yield content
                span = next(spans, None)
                content = b"" if span is None else await asyncio.to_thread(_fetch, file, opener, span)

    def _open(
        self, path: Path, tenant_id: str, name: str, start: int, end: int | None
    ) -> tuple[FileIO, Opener, Iterator[Span], bytes]:
        """Open the file and its first span in one go: most documents fit in one.

        A FileIO and not a bare descriptor: it closes itself when the caller was cancelled meanwhile.
        """
        with self._translated_missing(name):
            file = FileIO(path, "r", opener=_open_no_follow)
        try:
            with _translated(name):
                header = os.pread(file.fileno(), HEADER_BYTES, 0)
                size = os.fstat(file.fileno()).st_size
            opener = Opener(self._keys, tenant_id, name, header, size)
            spans = opener.spans(start, end)
            span = next(spans, None)
            return file, opener, spans, b"" if span is None else _fetch(file, opener, span)
        except BaseException:
            file.close()
            raise

    async def stat(self, tenant_id: str, name: str) -> ObjectStat:
        """See ObjectStore.stat."""
        path = self._root / object_key(tenant_id, name)
        with self._translated_missing(name):
            found = await asyncio.to_thread(os.lstat, path)
        return _stat_of(name, found.st_size, found.st_mtime, plain_size(found.st_size))

    async def delete(self, tenant_id: str, name: str) -> None:
        """See ObjectStore.delete."""
        path = self._root / object_key(tenant_id, name)

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                _sync_folder(path.parent)

        with _translated(name):
            await asyncio.to_thread(remove)

    async def list(self, tenant_id: str, prefix: str = "") -> AsyncIterator[ObjectStat]:
        """See ObjectStore.list; in order of names within a folder."""
        top = self._root / object_key(tenant_id, "x")
        folder = top.parent
        with _translated("the store's folder"):
            found = await asyncio.to_thread(lambda: sorted(_walk(folder)))
        for name, size, modified in found:
            if name.startswith(prefix) and is_object_name(name):
                try:
                    plain = plain_size(size)
                except ObjectCorrupt:
                    plain = -1
                yield _stat_of(name, size, modified, plain)

    async def write_mark(self, name: str, content: bytes) -> None:
        """See ObjectStore.write_mark."""
        target = self._root / mark_key(name)

        def write() -> None:
            with contextlib.closing(_Incoming(self._incoming, target)) as file:
                file.write(content)
                _commit([file], replace=True)

        await asyncio.to_thread(write)

    async def read_mark(self, name: str) -> bytes | None:
        """See ObjectStore.read_mark."""
        path = self._root / mark_key(name)
        try:
            with self._translated_missing(name):
                return await asyncio.to_thread(path.read_bytes)
        except ObjectNotFound:
            return None

    @property
    def sealed(self) -> SealedFolder:
        """See ObjectStore.sealed."""
        return SealedFolder(self._root)

    async def probe(self) -> None:
        """See ObjectStore.probe: writes and removes a small file."""

        def write() -> None:
            with contextlib.closing(_Incoming(self._incoming, self._incoming)) as file:
                file.write(bytes(4096))

        await asyncio.to_thread(write)

    @contextlib.contextmanager
    def _translated_missing(self, name: str) -> Iterator[None]:
        """A missing file is a missing object, unless the store itself is gone: a volume that is not mounted."""
        with _translated(name):
            try:
                yield
            except FileNotFoundError as error:
                if not (self._root / "objects").is_dir():
                    raise StoreUnavailable(f"{self._root} is not there; is its volume mounted?") from error
                raise ObjectNotFound(f"object {name} is not in the store") from error


class SealedFolder:
    """The sealed files below a store's root, or in a backup, which has the same folders."""

    def __init__(self, root: Path) -> None:
        """Make the folders below ``root`` where they are missing. Raises StoreUnavailable."""
        self._root = root
        _prepare(root)

    async def inventory(self) -> AsyncIterator[SealedFile]:
        """See SealedFiles.inventory; in order of keys."""
        with _translated("the store's folder"):
            found = await asyncio.to_thread(lambda: sorted(_walk(self._root / "objects")))
        for name, size, _ in found:
            if is_sealed_key(f"objects/{name}"):
                yield SealedFile(f"objects/{name}", size)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """See SealedFiles.read."""
        with _translated(key):
            try:
                file = await asyncio.to_thread(FileIO, self._root / sealed_key(key), "r", opener=_open_no_follow)
            except FileNotFoundError as error:
                raise ObjectNotFound(f"object {key} is not in the store") from error
        with file, _translated(key):
            while piece := await asyncio.to_thread(file.read, _BATCH_BYTES):
                yield piece

    async def write(self, key: str, content: AsyncIterable[bytes]) -> None:
        """See SealedFiles.write."""
        target = self._root / sealed_key(key)
        file = await asyncio.to_thread(_Incoming, self._root / "incoming", target)
        try:
            async for piece in content:
                await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(_commit, [file])
        finally:
            await asyncio.to_thread(file.close)


def _prepare(root: Path) -> None:
    with _translated("the store's folder"):
        for folder in (root, root / "incoming", root / "objects", root / "marks"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_folder(root)
        for leftover in (root / "incoming").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < time.time() - STALE_SECONDS:
                    leftover.unlink()


class _Incoming:
    """A file on its way into the store; ``close`` without ``commit`` leaves nothing."""

    def __init__(self, folder: Path, target: Path) -> None:
        self._path = folder / secrets.token_hex(12)
        self._target = target
        self.written = 0
        with _translated("the store's folder"):
            self._file = FileIO(self._path, "x", opener=_open_private)

    def write(self, content: bytes | bytearray) -> None:
        with _translated(self._target.name):
            view = memoryview(content)
            while view:
                view = view[self._file.write(view) :]
        self.written += len(content)

    def publish(self, *, replace: bool = False) -> Path:
        """Sync the content and give the file its name; durable when the folder, the answer, is synced too."""
        with _translated(self._target.name):
            os.fsync(self._file.fileno())
            publish = os.replace if replace else os.link
            try:
                try:
                    publish(self._path, self._target)
                except FileNotFoundError:
                    _make_folders(self._target.parent)
                    publish(self._path, self._target)
            except FileExistsError as error:
                raise ObjectExists(f"object {self._target.name} is already stored") from error
            if not replace:
                self._path.unlink()
        return self._target.parent

    def close(self) -> None:
        self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def _commit(files: Iterable[_Incoming], *, replace: bool = False) -> None:
    """Make files durable under their names; a folder that several of them lie in is synced once."""
    for folder in {file.publish(replace=replace) for file in files}:
        with _translated("the store's folder"):
            _sync_folder(folder)


def _write_sealed(file: _Incoming, sealer: Sealer, pieces: list[bytes], *, last: bool = False) -> None:
    if file.written == 0:
        file.write(pieces.pop(0))
    file.write(sealer.update(b"".join(pieces)))
    if last:
        file.write(sealer.finish())
        _commit([file])


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _open_no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _fetch(file: FileIO, opener: Opener, span: Span) -> bytes:
    buffer = reading_buffer(span.end - span.start)
    with _translated("an object"):
        count = os.preadv(file.fileno(), [buffer], span.start)
    return opener.open(span, buffer[:count])


def _walk(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Every file below ``folder`` as (name, size in bytes, modification time), skipping what vanishes
    meanwhile.
    """
    for parent, _, files in os.walk(folder):
        for file in files:
            path = Path(parent, file)
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                yield path.relative_to(folder).as_posix(), found.st_size, found.st_mtime


def _stat_of(name: str, sealed: int, modified: float, size: int) -> ObjectStat:
    return ObjectStat(name, size, sealed, datetime.fromtimestamp(modified, UTC))


def _make_folders(folder: Path) -> None:
    """Make ``folder`` durable with every parent below the store's own folders, which must exist already."""
    missing = []
    while not folder.exists():
        if folder.name in ("objects", "marks", "incoming"):
            raise StoreUnavailable(f"{folder} is not there; is its volume mounted?")
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn the system's refusals into StoreUnavailable; the detail says which kind, never a path of content."""
    try:
        yield
    except OSError as error:
        kind = errno.errorcode.get(error.errno or 0, "an error")
        raise StoreUnavailable(f"{what}: {kind}, {os.strerror(error.errno or 0)}") from error
