"""Encrypted SQLite files: the one place that opens them and the one way to write to them.

SQLite3MultipleCiphers with the cipher ``aegis``, which authenticates every page: a flipped bit is an error, not wrong
data. The raw key is random and comes from the vault; it is never beside the file in the clear. Measurements and what
was rejected are in docs/decisions/0030.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from .errors import LocalFileUnreadable, StorageFull, StorageProblem

# Another process commits in under 10 ms; ten seconds also covers a disk that hangs while it spins up.
BUSY_MILLISECONDS = 10_000
# Of the library's kinds of AEGIS with 256-bit keys: two lanes read a copy of 500 KB a quarter faster than one. What is
# kept nowhere else stays with the one lane that it began with (docs/decisions/0039).
_CACHE_ALGORITHM = "aegis-256x2"
# One page holds a whole request or event; larger pages made blobs of 500 KB a third faster to read than 4096.
PAGE_SIZE = 16_384
# The journal is folded into the file at 1 MB: SQLite's own thousand pages would be 16 MB of these for each database.
CHECKPOINT_PAGES = 64
# What SQLite or ``transaction`` raises for a page that fails its check.
DAMAGE = (LocalFileUnreadable, apsw.CorruptError, apsw.NotADBError)
# Below this much free space an input/output error of SQLite is told as a full disk.
_FULL_BELOW_BYTES = 256 * 1024


def open_sealed(path: Path, key: bytes, schema: Sequence[str], *, durable: bool) -> apsw.Connection:
    """Open or create the encrypted database ``path`` and bring it to the newest of ``schema`` (one script a version).

    ``durable``: every commit reaches the disk before it returns (queue and audit); otherwise the last commits may be
    lost with the power, never half written (cache). Raises LocalFileUnreadable, StorageFull, StorageProblem.
    """
    created = not path.exists()
    if created:
        # SQLite would create the file readable by everyone that the umask lets in.
        with _failures(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with _failures(path):
        conn = apsw.Connection(str(path))
        conn.set_busy_timeout(BUSY_MILLISECONDS)
        conn.pragma("cipher", "aegis")
        if not durable:
            conn.pragma("algorithm", _CACHE_ALGORITHM)
        conn.pragma("key", "raw:" + key.hex())
        conn.pragma("page_size", PAGE_SIZE)
        conn.pragma("temp_store", 2)
        conn.pragma("secure_delete", 1)
        if conn.pragma("journal_mode") != "wal":
            conn.pragma("journal_mode", "wal")
        conn.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        conn.pragma("journal_size_limit", CHECKPOINT_PAGES * PAGE_SIZE)
        conn.pragma("synchronous", "full" if durable else "normal")
        conn.pragma("foreign_keys", 1)
        _migrate(conn, schema)
    # A key that was not set makes SQLite write plaintext without a word.
    if _begins_in_the_clear(path):
        conn.close()
        raise LocalFileUnreadable(f"{path.name} is not encrypted")
    return conn


def _begins_in_the_clear(path: Path) -> bool:
    """Look at the file's first bytes by SQLite's own layer: whoever closes a descriptor of a file beside it drops the
    locks that this process holds on the file, and another program would think that nobody has it open."""
    file = apsw.VFSFile("unix", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        return file.xRead(16, 0).startswith(b"SQLite format 3")
    finally:
        file.xClose()


def _migrate(conn: apsw.Connection, schema: Sequence[str]) -> None:
    if conn.pragma("user_version") == len(schema):
        return
    conn.execute("BEGIN IMMEDIATE")
    try:
        present = conn.pragma("user_version")
        if present > len(schema):
            raise StorageProblem("the file was written by a newer version of this program; update the program")
        for script in schema[present:]:
            conn.execute(script)
        conn.pragma("user_version", len(schema))
        conn.execute("COMMIT")
    except BaseException:
        conn.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def transaction(conn: apsw.Connection) -> Iterator[None]:
    """Run the block in one transaction; plain ``BEGIN`` would meet busy errors that no timeout waits for.

    Raises StorageFull when the disk is full, LocalFileUnreadable when a page fails its check, StorageProblem otherwise.
    """
    with _failures(Path(conn.filename)):
        conn.execute("BEGIN IMMEDIATE")
        try:
            yield
            conn.execute("COMMIT")
        except BaseException:
            # A full disk may already have rolled the transaction back.
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def on_the_disk(conn: apsw.Connection) -> Iterator[None]:
    """Let the commits of the block, and all before them, outlive a power cut, in a database that is not durable.

    Outside a transaction, for SQLite changes this between transactions only.
    """
    before = conn.pragma("synchronous")
    conn.pragma("synchronous", "full")
    try:
        yield
    finally:
        conn.pragma("synchronous", before)


class snapshot:
    """Let every read of the block see one state of the database, whatever other programs write meanwhile."""

    __slots__ = ("_conn", "_mine")

    def __init__(self, conn: apsw.Connection) -> None:
        """Inside a transaction of the caller there is one state already."""
        self._conn, self._mine = conn, not conn.in_transaction

    def __enter__(self) -> None:
        if self._mine:
            self._conn.execute("BEGIN")

    def __exit__(self, *rest: object) -> None:
        # A page that failed its check may already have ended it.
        if self._mine and self._conn.in_transaction:
            self._conn.execute("COMMIT")


def has_moved(conn: apsw.Connection) -> bool:
    """Return whether the file that is open is not the one of its name any more."""
    moved = ctypes.c_int(0)
    conn.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, ctypes.addressof(moved))
    return moved.value != 0


def is_readable(conn: apsw.Connection) -> bool:
    """Return whether every page of a database passes its check."""
    try:
        return bool(conn.pragma("quick_check", 1) == "ok")
    except (apsw.NotADBError, apsw.CorruptError):
        return False


@contextlib.contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as failure:
        raise LocalFileUnreadable(path.name) from failure
    except apsw.FullError as failure:
        raise StorageFull() from failure
    except (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as failure:
        if _is_full(path):
            raise StorageFull() from failure
        raise StorageProblem(f"{path.name}: {failure}") from failure
    except apsw.BusyError as failure:
        raise StorageProblem(f"{path.name} is in use by another program for too long") from failure
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull() from failure
        raise StorageProblem(f"{path.name}: {failure.strerror}") from failure


def _is_full(path: Path) -> bool:
    try:
        state = os.statvfs(path.parent)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < _FULL_BELOW_BYTES


def single_row(conn: apsw.Connection, sql: str) -> tuple[Any, ...]:
    """Return the only row of a query over a table that always has one."""
    row = conn.execute(sql).fetchone()
    if row is None:
        raise LocalFileUnreadable(Path(conn.filename).name)
    return tuple(row)


def remove_files(path: Path) -> None:
    """Delete a database with its journal files."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")


def name_aside(path: Path, stamp: str) -> Path:
    """Return the name that a database has once it is set aside."""
    return path.with_name(f"{path.name}.set-aside-{stamp}")


def set_aside(path: Path, stamp: str) -> None:
    """Rename what of a database, its journal and its envelope stands here still; the database is the last of them."""
    target = name_aside(path, stamp)
    for suffix in (".envelope", "-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{target}{suffix}")
