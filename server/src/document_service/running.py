"""Which processes of the service run on a data folder, and where: for who asks, never for who decides.

Each process holds a lock on a small file of its own; the kernel releases it at any death, so a file without a lock is
what a dead process left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """A process: its kind (``serve`` or ``worker``), its pid, and the URL that it listens on, if it does."""

    kind: str
    pid: int
    url: str | None


@contextlib.contextmanager
def announced(data_dir: Path, kind: str, url: str | None = None) -> Iterator[None]:
    """Say that this process runs on ``data_dir`` for as long as the context is open."""
    folder = _folder(data_dir)
    folder.mkdir(exist_ok=True, mode=0o700)
    for entry in folder.iterdir():
        if not Path("/proc", entry.name.rpartition("-")[2]).exists():
            entry.unlink(missing_ok=True)
    path = folder / f"{kind}-{os.getpid()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # Waits for who reads at this moment.
        os.write(descriptor, f"{kind} {os.getpid()} {url or '-'}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def processes(data_dir: Path) -> list[Running]:
    """The processes that run on ``data_dir`` on this machine, by kind and pid."""
    folder = _folder(data_dir)
    found = [_read(entry) for entry in sorted(folder.iterdir())] if folder.is_dir() else []
    return [one for one in found if one is not None]


def _folder(data_dir: Path) -> Path:
    return data_dir / "running"


def _read(path: Path) -> Running | None:
    """What a live process wrote; None when it is dead, or has only just begun."""
    try:
        with path.open(encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                kind, pid, url = file.read().split()
                return Running(kind, int(pid), None if url == "-" else url)
    except (OSError, ValueError):
        pass
    return None
