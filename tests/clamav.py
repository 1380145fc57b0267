"""A real clamd for the tests, with one signature of ours: the EICAR test file, which no file here may hold.

The signature and the test file are put together from pieces at run time, so that a virus scanner on a developer's
machine leaves the checkout alone.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EICAR = b"".join((b"X5O!P%@AP[4", b"\\PZX54(P^)7CC)7}$", b"EICAR-STANDARD-ANTIVIRUS", b"-TEST-FILE!$H+H*"))
CLAMD = Path("/usr/sbin/clamd")
START_SECONDS = 60.0  # One signature loads in 0.1 s; a busy machine may take its time.


@dataclass(frozen=True)
class RunningClamd:
    """Where it listens, in the form of DOCUMENT_SERVICE_CLAMD, and its process."""

    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def running_clamd(
    folder: Path, *, also: Mapping[str, bytes] | None = None, tells_of_limits: bool = True
) -> Iterator[RunningClamd]:
    """Start clamd in the foreground on a socket in ``folder``; stop it and nothing else at the end.

    ``also`` are further signatures: what they are called, and the bytes that they find.
    """
    database = folder / "signatures"
    database.mkdir()
    signatures = {"Eicar-Test-Signature": EICAR, **(also or {})}
    lines = [f"{name}:0:*:{content.hex()}\n" for name, content in signatures.items()]
    (database / "tests.ndb").write_text("".join(lines))
    # A socket's path may have 107 bytes, which a test's own folder exceeds.
    sockets = Path(f"/tmp/clamd-{os.getpid()}-{time.monotonic_ns()}")  # noqa: S108
    sockets.mkdir(mode=0o700)
    path = sockets / "clamd.sock"
    settings = folder / "clamd.conf"
    settings.write_text(
        f"LocalSocket {path}\nDatabaseDirectory {database}\nTemporaryDirectory {folder}\nForeground yes\n"
        "SelfCheck 0\nMaxThreads 4\nStreamMaxLength 25M\nMaxFileSize 100M\nMaxScanSize 400M\n"
        f"AlertExceedsMax {'yes' if tells_of_limits else 'no'}\n"
    )
    log = folder / "clamd.log"
    with log.open("wb") as output:
        process = subprocess.Popen([str(CLAMD), "-c", str(settings)], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"clamd did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield RunningClamd(f"unix:{path}", process)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(sockets, ignore_errors=True)


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(path))
            connection.sendall(b"zPING\x00")
            return connection.recv(10) == b"PONG\x00"
    except OSError:
        return False
