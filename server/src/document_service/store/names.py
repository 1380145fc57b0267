"""What both stores agree on: the values they answer with, and where an object lies.

objects/<tenant>/<name>     sealed content, written once
marks/<name>                small plain records that are replaced in place (the commit high-water mark, the
                            audit head); they hold no patient data, and whoever needs them genuine signs them
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from document_service.keys import safe_file_name

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,3}")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What ``put`` wrote: sizes in bytes of the content and of its sealed form, SHA-256 of the content in
    hex.
    """

    name: str
    size: int
    sha256: str
    sealed_size: int


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What is known of an object without opening it; ``modified`` is the store's clock, in UTC."""

    name: str
    size: int
    sealed_size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One object as it lies in the store: its key below the root, its sealed size in bytes."""

    key: str
    size: int


class SealedFiles(Protocol):
    """The sealed bytes themselves, of every tenant and without any key: what a backup copies.

    Every method raises StoreUnavailable when the store cannot be reached or is full.
    """

    def inventory(self) -> AsyncIterator[SealedFile]:
        """Every object of every tenant; files that other programs left there are none."""

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The sealed bytes, in pieces. Raises ObjectNotFound."""

    async def write(self, key: str, content: AsyncIterable[bytes]) -> None:
        """Store sealed bytes durably under a key of ``inventory``. Raises ObjectExists."""


class ObjectStore(Protocol):
    """Sealed objects that are written once. There are two: a directory and S3.

    Every method raises StoreUnavailable when the store cannot be reached or is full; TenantKeyMissing where
    something is sealed or opened; ValueError for a name that no object may have.
    """

    async def put(self, tenant_id: str, name: str, content: bytes | AsyncIterable[bytes]) -> StoredObject:
        """Seal and store durably. Raises ObjectExists; nothing is visible before all of it is."""

    async def put_together(self, tenant_id: str, contents: Mapping[str, bytes]) -> list[StoredObject]:
        """Like ``put``, several small objects of one tenant by name, for less than one by one; in their order.

        When it raises, some of them may be there: objects that no row names, which housekeeping sweeps.
        """

    def read(self, tenant_id: str, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Open the bytes [start, end). Raises ObjectNotFound, ObjectCorrupt, ValueError for a wrong range."""

    async def stat(self, tenant_id: str, name: str) -> ObjectStat:
        """Raises ObjectNotFound, ObjectCorrupt for a size that no sealed object has."""

    async def delete(self, tenant_id: str, name: str) -> None:
        """Remove for good; an object that is gone already is no error."""

    def list(self, tenant_id: str, prefix: str = "") -> AsyncIterator[ObjectStat]:
        """Every object of the tenant whose name begins with ``prefix``; a cut-off one has size -1."""

    async def write_mark(self, name: str, content: bytes) -> None:
        """Write or replace a mark durably."""

    async def read_mark(self, name: str) -> bytes | None:
        """The mark's content, None when it was never written."""

    @property
    def sealed(self) -> SealedFiles:
        """The sealed bytes, for backup and restore."""

    async def probe(self) -> None:
        """Raises StoreUnavailable unless the store answers and can be written to."""


def object_key(tenant_id: str, name: str) -> str:
    """Where the object lies below the store's root. Raises ValueError for a name that is not a plain path."""
    if not is_object_name(name):
        raise ValueError(f"{name[:120]!r} is not an object name")
    return f"objects/{safe_file_name(tenant_id)}/{name}"


def sealed_key(key: str) -> str:
    """Check a key that came from outside, such as a backup's. Raises ValueError as ``object_key`` does."""
    if not is_sealed_key(key):
        raise ValueError(f"{key[:120]!r} is not the key of an object")
    return key


def is_sealed_key(key: str) -> bool:
    """Whether an object may lie there; what other programs left in a folder or bucket is passed over."""
    top, _, rest = key.partition("/")
    tenant, _, name = rest.partition("/")
    return top == "objects" and tenant != "" and not tenant.startswith(".") and is_object_name(name)


def is_object_name(name: str) -> bool:
    """Whether this is the name of an object within its tenant."""
    return _NAME.fullmatch(name) is not None


def mark_key(name: str) -> str:
    """Where the mark lies below the store's root. Raises ValueError as ``object_key`` does."""
    if not _NAME.fullmatch(name) or "/" in name:
        raise ValueError(f"{name[:120]!r} is not a mark's name")
    return f"marks/{name}"
