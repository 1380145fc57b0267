"""Encrypted objects in a folder or on S3: the same bytes, the same promises (design §6).

The object-store library is imported in this package only, and only when S3 is used.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from document_service.keys import KeyStore
from document_service.store.directory import DirectoryStore, SealedFolder
from document_service.store.names import ObjectStat, ObjectStore, SealedFile, SealedFiles, StoredObject

__all__ = [
    "BEGUN_ANEW",
    "DirectoryStore",
    "ObjectStat",
    "ObjectStore",
    "SealedFile",
    "SealedFiles",
    "SealedFolder",
    "StoredObject",
    "holds_objects",
    "lacks_objects",
    "open_store",
]


#: A file of this name in the store's folder says that its objects are gone for good, and that it may begin anew.
BEGUN_ANEW = "begun-anew"


def holds_objects(location: str) -> bool | None:
    """Whether the store is a folder with objects in it; None: a bucket, which is not asked.

    Nothing is made, as opening would.
    """
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    return any(path.is_file() for path in (Path(unquote(parts.path)) / "objects").rglob("*"))


def lacks_objects(location: str) -> bool:
    """Whether the store is a folder without an object, and nobody has said that it may begin anew (``BEGUN_ANEW``)."""
    root = Path(unquote(urlsplit(location).path))
    return holds_objects(location) is False and not (root / BEGUN_ANEW).exists()


def open_store(location: str | Path, keys: KeyStore) -> ObjectStore:
    """Open the store at a path, ``file:///path`` or ``s3://bucket/prefix?endpoint=…&region=…``.

    S3 credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the other variables of the AWS
    tools, never from the location. Raises ValueError for another form, StoreUnavailable when a folder cannot
    be used.
    """
    if isinstance(location, Path):
        return DirectoryStore(location, keys)
    parts = urlsplit(location)
    if parts.scheme == "s3":
        from document_service.store.s3 import open_bucket

        return open_bucket(location, keys)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return DirectoryStore(Path(unquote(parts.path)), keys)
    if not parts.scheme and location:
        return DirectoryStore(Path(location), keys)
    raise ValueError("the object store is a path, file:///path or s3://bucket/prefix?endpoint=…&region=…")
