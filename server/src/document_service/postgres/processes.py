"""PostgreSQL's processes: how they are started, and how they are told from strangers."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = "/proc/self/cwd"
"""The data directory as the server is told it. The kernel resolves this link without walking the path, so the
account needs no right on any folder above a cluster that it is started in."""

_NAME_PREFIX = "docservice-"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class PidFile:
    """The lines of postmaster.pid that matter here: 1 (pid), 5 (socket folder) and 8 (state)."""

    pid: int
    socket_dir: str
    ready: bool


def environment() -> dict[str, str]:
    """Return the environment of PostgreSQL's programs: ours could hold PGPORT, PGOPTIONS or secrets."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def dies_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """Return what a child does before exec, after it became the account: ask for a signal at our death.

    It has to come after the change of user, which clears the request. The signal comes when the *thread* that
    forked ends, so the postmaster is never started from a pool thread.
    """
    parent = os.getpid()

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A core file would hold rows of the database.
        if _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(1)  # The parent died before the request; nobody would ever stop this child.

    return prepare


def cluster_name(cluster: Path) -> str:
    """Return the name that every process of the server on ``cluster`` shows in its command line.

    Root in a container without CAP_SYS_PTRACE may not read another user's working directory, but anybody may
    read command lines; so this is how our own processes are known there.
    """
    return _NAME_PREFIX + hashlib.sha256(os.fsencode(cluster)).hexdigest()[:12]


def read_pid_file(cluster: Path) -> PidFile | None:
    """Return what postmaster.pid says, or None when it is absent or not completely written yet.

    Raises PermissionError when the cluster is another user's.
    """
    try:
        # Never through a link or into a FIFO: the folder belongs to the account, and we may be root.
        descriptor = os.open(cluster / "postmaster.pid", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        lines = os.fsdecode(file.read(4096)).splitlines()
    try:
        pid = abs(int(lines[0]))  # A single-user server writes its pid negated.
    except (IndexError, ValueError):
        return None
    ready = len(lines) >= 8 and lines[7].strip() == "ready"
    return PidFile(pid, lines[4] if len(lines) >= 5 else "", ready)


def works_in(pid: int, cluster: Path) -> bool | None:
    """Whether ``pid`` is a PostgreSQL process of ``cluster``; None when that cannot be found out.

    The pid alone proves nothing: it may have been given to a stranger since.
    """
    folder = Path("/proc", str(pid))
    try:
        home = cluster.stat()
        if (folder / "comm").read_bytes().strip() != b"postgres" or folder.stat().st_uid != home.st_uid:
            return False
        command = (folder / "cmdline").read_bytes()
        names = re.findall(_NAME_PREFIX.encode() + rb"[0-9a-f]{12}", command)
        if names or not command:  # A zombie has no command line, and works nowhere any more.
            return cluster_name(cluster).encode() in names
    except (FileNotFoundError, ProcessLookupError):
        return False
    try:
        there = os.stat(folder / "cwd")
    except PermissionError:
        return None
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (home.st_dev, home.st_ino)


def server_processes(cluster: Path) -> list[int]:
    """Return the pids that certainly are PostgreSQL processes of ``cluster``."""
    pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal())
    return [pid for pid in pids if works_in(pid, cluster)]


def last_lines(text: str) -> str:
    """Return the end of what a program said, on one line. It holds settings and paths, never data."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it said nothing"
