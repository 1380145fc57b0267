"""The child process: limits first, then one job after another from the socket it was given, until that closes.

Whatever a template or a record makes it do, it can do it only here: no network (proxies point at a closed port), no
file written (RLIMIT_FSIZE 0), memory bounded (RLIMIT_AS), and the parent kills it at the wall limit.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from document_service.bindings import lay_out, read_json
from document_service.errors import RenderFailed, RenderMemory, RenderTooLarge, ServiceError, TypesettingCrashed
from document_service.typesetting import wire
from document_service.typesetting.press import Press, Printed

_PR_SET_PDEATHSIG = 1

# Enough for sockets, the three standard streams and the memory-mapped fonts.
MAX_OPEN_FILES = 64

Reply = tuple[dict[str, Any], tuple[bytes, ...]]
Produce = Callable[[Press, dict[str, Any], dict[str, bytes]], Printed]


def set_limits(memory_bytes: int, parent: int) -> None:
    """Bound this process and tie its life to the parent's. Exits when the parent is already gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    # The terminal's Ctrl-C is the parent's to handle: it ends its children in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def produce(press: Press, head: dict[str, Any], blobs: dict[str, bytes]) -> Printed:
    """Turn one job into printed sheets: read the JSON, lay it out, print it.

    Raises:
        ServiceError: a binding, the data or the layout refused; with its own code.
    """
    images = {name.removeprefix("image:"): blob for name, blob in blobs.items() if name.startswith("image:")}
    page_model = _page_model(blobs)
    return press.print_page_model(page_model, images, datetime.fromisoformat(head["issuedAt"]), head["output"])


def _page_model(blobs: dict[str, bytes]) -> dict[str, Any]:
    try:
        if "pageModel" in blobs:
            ready: dict[str, Any] = json.loads(blobs["pageModel"])
            return ready
        # The definition goes on as bytes: its plan is kept by their digest.
        resources, request = read_json(blobs["resources"]), read_json(blobs["request"])
    except RecursionError:
        raise RenderTooLarge("the data is nested too deep") from None
    except ValueError:
        raise RenderFailed("the render's input is not JSON") from None
    return dict(lay_out(blobs["definition"], resources, request))


def answer(press: Press, head: dict[str, Any], blobs: dict[str, bytes], produce_one: Produce) -> Reply:
    """Do one job and put its sheets, or its refusal, into a reply. ``retire`` asks the parent for a fresh child."""
    try:
        printed = produce_one(press, head, blobs)
    except ServiceError as error:
        return _refused(error), ()
    except MemoryError:
        return _refused(RenderMemory()) | {"retire": True}, ()
    except RecursionError:
        return _refused(RenderTooLarge("the data is nested too deep")), ()
    except BaseException as error:
        # A panic of the engine arrives as a BaseException; its text may quote the document, so only its kind goes on.
        return _refused(TypesettingCrashed(f"typesetting met {type(error).__name__}")) | {"retire": True}, ()
    return {
        "pages": printed.pages,
        "pageModelDigest": printed.page_model_digest,
        "warnings": list(printed.warnings),
    }, printed.sheets


def _refused(error: ServiceError) -> dict[str, Any]:
    return {
        "error": {
            "code": error.code,
            "detail": error.detail,
            "errors": [[p.pointer, p.code, p.title] for p in error.errors],
            "extra": error.extra,
        }
    }


def resident_bytes() -> int:
    """The memory that this process holds now, for the parent's recycling mark."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _receive(channel: socket.socket) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    prefix = _exactly(channel, wire.LENGTHS.size)
    if prefix is None:
        return None
    head_length, body_length = wire.lengths(bytes(prefix))
    frame = _exactly(channel, head_length + body_length)
    if frame is None:
        return None
    head, blobs = wire.unpack(memoryview(frame), head_length)
    return head, dict(zip(head["names"], blobs, strict=True))


def _exactly(channel: socket.socket, count: int) -> bytearray | None:
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        received = channel.recv_into(view)
        if received == 0:
            return None
        view = view[received:]
    return buffer


def warm_up(press: Press) -> None:
    """Print one page of made-up text in each direction, so that the first real job finds fonts and layout loaded."""
    for direction, words in (("ltr", "Ready ≤ 1"), ("rtl", "آماده است")):
        model = {
            "lang": "en" if direction == "ltr" else "fa",
            "region": "AF",
            "dir": direction,
            "page": {
                "size": "A4",
                "orientation": "portrait",
                "margins": {"top": 18, "right": 18, "bottom": 18, "left": 18},
            },
            "title": words,
            "tenant": {"name": words, "lines": [words], "footer": None},
            "colors": {"accent": "#1f4e79"},
            "identity": {"patient": words, "items": [[words, words]], "pageOf": "{page} {pages}"},
            "sections": [
                {"type": "header", "title": words, "subtitle": None},
                {"type": "table", "columns": [{"label": words}], "rows": [[words]], "empty": None, "title": None},
            ],
        }
        press.print_page_model(model, {}, datetime.fromisoformat("2000-01-01T00:00:00+00:00"), "pdf")


def serve(channel: socket.socket, press: Press, produce_one: Produce = produce) -> None:
    """Answer jobs from ``channel`` until the parent closes it."""
    while (job := _receive(channel)) is not None:
        started = time.perf_counter()
        head, sheets = answer(press, *job, produce_one)
        taken = (time.perf_counter() - started) * 1000
        channel.sendall(wire.pack(head | {"resident": resident_bytes(), "ms": taken}, sheets))


def main(arguments: Mapping[str, Any], produce_one: Produce = produce) -> None:
    """Run as a child: ``arguments`` hold the socket's number, the parent's pid, the memory limit and the root."""
    set_limits(arguments["memory"], arguments["parent"])
    channel = socket.socket(fileno=arguments["channel"])
    press = Press(Path(arguments["root"]))
    warm_up(press)
    channel.sendall(wire.pack({"engine": press.engine}))
    serve(channel, press, produce_one)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
