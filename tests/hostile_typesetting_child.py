"""A typesetting child that does what a hostile template or record might make the real one do.

The pool starts it as it starts its own child, with the same limits; a page model of ``{"hostile": NAME}`` chooses
the misdeed, and any other is printed as usual.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import typst

from document_service.errors import RenderFailed
from document_service.typesetting import child
from document_service.typesetting.press import Press, Printed


def _spin() -> None:
    while True:
        pass


def _eat_memory() -> None:
    """Ask for more than the limit in one piece: piece by piece proves the same and takes a busy machine seconds."""
    bytearray(4 * 1024**3)


def _end_as_rust_does_without_memory() -> None:
    os.write(2, b"memory allocation of 2147483648 bytes failed\n")
    os.abort()


def _fetch_a_package() -> None:
    """What the engine does for an import: a request by the proxy of the environment; it must be refused at once."""
    started = time.monotonic()
    try:
        urllib.request.urlopen("http://packages.example/preview.tar.gz", timeout=30)
    except OSError as error:
        speed = "at once" if time.monotonic() - started < 0.2 else "slowly"
        raise RenderFailed(f"network: {type(error).__name__} {speed}") from None


def _import_a_package() -> None:
    """A source that no job can bring in, compiled by the engine itself: the fetch is refused at once."""
    started = time.monotonic()
    try:
        typst.Compiler(None, root=os.getcwd()).compile({"main.typ": b'#import "@preview/cetz:0.3.0"'})
    except typst.TypstError as error:
        speed = "at once" if time.monotonic() - started < 2 else "slowly"
        raise RenderFailed(f"package: {type(error).__name__} {speed}") from None


def _write_a_file() -> None:
    try:
        Path("/tmp", f"hostile-{os.getpid()}").write_bytes(b"x")  # noqa: S108  # Nothing may ever be there.
    except OSError as error:
        raise RenderFailed(f"file: {type(error).__name__}") from None


def _inherited() -> None:
    """Say which variables and open files the child was given."""
    files = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # The listing's own descriptor is gone by now.
            files.append(os.readlink(f"/proc/self/fd/{name}").split(":")[0])
    raise RenderFailed(json.dumps({"variables": sorted(os.environ), "files": sorted(files)}))


MISDEEDS = {
    "spin": _spin,
    "sleep": lambda: time.sleep(3600),
    "memory": _eat_memory,
    "rust memory": _end_as_rust_does_without_memory,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "nonsense": lambda: None,
    "network": _fetch_a_package,
    "package": _import_a_package,
    "file": _write_a_file,
    "inherited": _inherited,
    "panic": lambda: (_ for _ in ()).throw(BaseException("the patient's name")),
}


def produce(press: Press, head: dict[str, Any], blobs: dict[str, bytes]) -> Printed:
    model = json.loads(blobs["pageModel"])
    if "hostile" not in model:
        return child.produce(press, head, blobs)
    if model["hostile"] == "nonsense":
        channel = socket.socket(fileno=os.dup(json.loads(sys.argv[1])["channel"]))
        channel.sendall(b"\xff" * 64)
    MISDEEDS[model["hostile"]]()
    return Printed((b"%PDF",), 1, "", ())


if __name__ == "__main__":
    child.main(json.loads(sys.argv[1]), produce)
