"""Processes of this machine: who holds a lease, and that the memory of a command never becomes a file."""

from __future__ import annotations

import contextlib
import os

# prctl(2): the kernel then writes no core dump of this process, whatever the limits and the core pattern say.
_PR_SET_DUMPABLE = 4


def keep_memory_off_the_disk() -> None:
    """Let no crash of this process leave a core dump: keys and documents are in its memory in the clear."""
    try:
        import resource
    except ImportError:
        # Windows writes no dumps of console programs by itself.
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        # A core pattern that is a pipe (systemd-coredump) is called in spite of the limit.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def started(pid: int) -> str:
    """Return when a process started, in kernel ticks; empty where the system does not tell. It unmasks a reused pid."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def is_alive(owner: str) -> bool:
    """Return whether the process that wrote ``owner`` ("pid:start:…") into a lease still runs."""
    pid, _, rest = owner.partition(":")
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return started(int(pid)) == rest.partition(":")[0]
