"""The process that opens hostile files: one file each, then it ends (``python -m
document_service.scanner.child``).

It proves that it works, gives up what it does not need (as root also its user), and says so; only then does
it take a file from its parent's pipe. What the file then breaks is a process without rights, files or network
of its own making, which the parent kills when its time is over.

    parent → child   length (4 bytes), JSON {verb, contentType, fileName, size}, the file
    child → parent   length, JSON {"ready": true}; then length, JSON answer with size, bytes of that size
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
from typing import BinaryIO, Final

from document_service.scanner.images import ImageTooLarge, ImageUnreadable
from document_service.scanner.inspection import convert, inspect, prove_ready
from document_service.scanner.logos import redraw
from document_service.scanner.signatures import Signatures

MEMORY_BYTES: Final = 1 << 30  # 60 million pixels as RGBA and once more as RGB are 420 MB; the rest is the parts'.
CPU_SECONDS: Final = 30  # Above the parent's limit of wall time, for the case that the parent is gone.
NOBODY: Final = 65534  # The user and group that own nothing, on every Linux.


def give_up_rights() -> None:
    """Limit this process to computing: no new files, processes or core dumps, bounded memory and time."""
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 1
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: used + CPU_SECONDS,
        resource.RLIMIT_FSIZE: 0,
        # A core dump would hold the file.
        resource.RLIMIT_CORE: 0,
        # Its pipes are open; nothing else may be.
        resource.RLIMIT_NOFILE: 8,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def main() -> None:
    """Serve one request on standard input and output."""
    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb")
    # A library that prints would otherwise write into the answer.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    try:
        signatures = Signatures()
        prove_ready(signatures)
        give_up_rights()
    except Exception as error:
        # No file has been read: the text can only be about the installation.
        _send(answers, {"ready": False, "error": f"{type(error).__name__}: {error}"})
        sys.exit(70)
    _send(answers, {"ready": True})
    length = requests.read(4)
    if len(length) < 4:
        return  # The parent needs no more scans, or is gone.
    request = json.loads(requests.read(int.from_bytes(length, "big")))
    data = requests.read(int(request["size"]))
    if len(data) != request["size"]:
        return
    try:
        if request["verb"] == "convert":
            pdf, pages = convert(data)
            _send(answers, {"pages": pages}, pdf)
        elif request["verb"] == "logo":
            _send(answers, *redraw(data))
        else:
            verdict = inspect(data, request["contentType"], request["fileName"], signatures)
            _send(answers, dataclasses.asdict(verdict))
    except MemoryError:
        _send(answers, {"error": "memory"})
    except (ImageUnreadable, ImageTooLarge):
        _send(answers, {"error": "unreadable"})


def _send(answers: BinaryIO, answer: dict[str, object], data: bytes = b"") -> None:
    head = json.dumps({**answer, "size": len(data)}).encode()
    answers.write(len(head).to_bytes(4, "big") + head)
    answers.write(data)
    answers.flush()


if __name__ == "__main__":
    main()
