"""Small private files: whole or not at all, readable by the owner only, safe between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import HomeUnusable, StorageFull, StorageProblem

# Owner only: every file under the home folder tells at least who worked when.
_FOLDER_MODE = 0o700


def home_folder(named: str | os.PathLike[str] | None) -> Path:
    """Return the client's home folder: ``named``, else ``DOCUMENTS_HOME``, else ``~/.local/share/documents``.

    Raises HomeUnusable when a file stands where the folder should be.
    """
    named = named or os.environ.get("DOCUMENTS_HOME") or None
    shared = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    home = Path(named) if named is not None else Path(shared) / "documents"
    nearest = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise HomeUnusable(f"{home} (--home or DOCUMENTS_HOME): {nearest} is a file")
    return home


def make_folder(path: Path) -> None:
    """Create ``path`` and its parents for the owner only; raises HomeUnusable or StorageFull."""
    try:
        # mkdir(parents=True) would give the folders above the mode that the umask lets through.
        for folder in [*reversed(path.parents), path]:
            if not folder.exists():
                folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{path} could not be created") from failure
        raise HomeUnusable(f"{path}: {failure.strerror}") from failure


def write_private(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a file without a name, mode 0600, fsync; then its name, fsync of the folder.

    Whoever is killed while it is written leaves nothing, where the system knows files without a name (Linux).
    Raises StorageFull or StorageProblem; the former content is then untouched and nothing is left behind.
    """
    unfinished = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        if not _written_nameless(unfinished, content):
            with open(unfinished, "xb", opener=_open_private) as stream:
                _write_through(stream, content)
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except OSError as failure:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{path} could not be written") from failure
        raise StorageProblem(f"{path}: {failure.strerror}") from failure


def sweep_unfinished(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it; only for who holds the lock that all its writers hold."""
    for left in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 12}"):
        with contextlib.suppress(OSError):
            left.unlink()


def _written_nameless(path: Path, content: bytes) -> bool:
    """Make ``path`` of a file that has no name until it is whole; False where the system cannot do that."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        # No such folder, no room, or no such files: who makes one with a name is told which.
        return False
    with os.fdopen(descriptor, "wb") as stream:
        _write_through(stream, content)
        try:
            # The link is followed to the file that the descriptor is only where a folder is named; it is not used.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError:
            return False
    return True


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _write_through(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Make a rename or a removal in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes; the system lets go of it when a process dies."""
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` beside others that do; ``exclusive_if_free`` does not get it meanwhile."""
    with _locked(path, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` if nobody does; yields whether it is held."""
    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
        yield held


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[bool]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{path} could not be created") from failure
        raise HomeUnusable(f"{path}: {failure.strerror}") from failure
    try:
        try:
            fcntl.flock(descriptor, how)
            held = True
        except BlockingIOError:
            held = False
        yield held
    finally:
        os.close(descriptor)
