"""The folder of a pool's children, below the system's temporary one: held by a lock while its process lives.

It has the layout library in it and nothing of any patient: a job and its pages travel over the child's socket, and a
child may write no file (``RLIMIT_FSIZE`` 0). The pool removes it at its end. A process that is killed cannot, so the
next pool that starts does: a folder whose lock nobody holds is a dead process's, for the kernel gives up the lock with
the last breath of whoever held it, in whatever container. Cleaners that know such locks (systemd-tmpfiles) leave a live
folder alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

# Not the prefix of builds that held no lock: the folder of a living one could not be told from a dead one's.
PREFIX = "document-service-typesetter-"


class PrivateFolder:
    """A folder of this process alone. Use ``make``."""

    def __init__(self, path: Path, lock: int) -> None:
        """Take over a folder and the descriptor that holds its lock."""
        self.path = path
        self._lock = lock

    @classmethod
    def make(cls) -> PrivateFolder:
        """Make a folder that nobody else may enter, and hold it."""
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = _hold(path)
            # None: between the two, a pool that starts took it for a dead process's, and is removing it.
            if lock is not None:
                return cls(path, lock)

    def ensure(self) -> None:
        """Go on in a new folder where a cleaner took this one; its old name may be anybody's by now."""
        if not _is_at(self.path, self._lock):
            os.close(self._lock)
            fresh = PrivateFolder.make()
            self.path, self._lock = fresh.path, fresh._lock

    def remove(self) -> None:
        """Delete the folder and let it go."""
        if _is_at(self.path, self._lock):
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_abandoned() -> int:
    """Delete the folders of this user's dead processes; returns how many. Whatever keeps one from it is passed over."""
    removed = 0
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = _open(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid() and _is_at(path, lock):
                    shutil.rmtree(path)
                    removed += 1
            finally:
                os.close(lock)
    return removed


def _hold(path: Path) -> int | None:
    """Return a descriptor that holds the folder's lock, or None when the folder is another's or gone."""
    try:
        lock = _open(path)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        try:
            # A file system without locks lets nobody else take one either, so nobody removes the folder.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
    if not _is_at(path, lock):
        os.close(lock)
        return None
    return lock


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_at(path: Path, lock: int) -> bool:
    """Whether the folder that a descriptor holds is the one of this name."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(lock))
    except FileNotFoundError:
        return False
