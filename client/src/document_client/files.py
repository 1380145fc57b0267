"""Small private files: whole or not at all, readable by the owner only, safe between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

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
    """Replace ``path`` by ``content``: a temporary file with mode 0600, fsync, rename, fsync of the folder.

    Raises StorageFull or StorageProblem; the former content is then untouched and nothing is left behind.
    """
    temporary = ""
    try:
        unfinished = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        temporary = str(unfinished)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as failure:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{path} could not be written") from failure
        raise StorageProblem(f"{path}: {failure.strerror}") from failure


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
