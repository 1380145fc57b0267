"""Who holds a lease: whether another process of this machine is still the one that wrote its name there."""

from __future__ import annotations

import os


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
