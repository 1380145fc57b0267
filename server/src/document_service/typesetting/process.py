"""One typesetting child as its parent holds it: started, spoken to over a socket pair, and ended.

Children are spawned, never forked: a fork after a compile hangs, always (design §4). Only processes that this module
started are ever signalled, through the handle that it keeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from document_service.errors import RenderMemory, RenderTooLarge, ServiceError, TypesettingCrashed
from document_service.typesetting import wire

CHILD_COMMAND = (sys.executable, "-I", "-B", "-m", "document_service.typesetting.child")

# Loading Typst, the fonts and the bindings takes 0.5 s; a machine under full load needs a multiple.
START_SECONDS = 30.0

# A one-page document is about 60 KB and comes in one piece; larger ones in a few.
_CHUNK = 256 * 1024

# What a dying process leaves on standard error is looked at for two known sentences, never shown or logged.
_STDERR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use: seconds a job, bytes of address space, and when it is replaced."""

    wall_seconds: float
    memory_bytes: int
    renders: int
    resident_bytes: int


class Child:
    """A running child. ``exchange`` is called by one task at a time."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, limits: Limits) -> None:
        """Take over a started process and our end of its socket pair."""
        self._process = process
        self._channel = channel
        self._limits = limits
        self._renders = 0
        self._worn = False
        self.engine: dict[str, str] = {}
        self.resident_bytes = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def worn_out(self) -> bool:
        """Whether it is time for a fresh process: too many renders, too much memory, or it asked to go."""
        return self._worn or self._renders >= self._limits.renders

    async def exchange(self, request: bytes) -> tuple[dict[str, Any], list[bytes]]:
        """Send one job and wait for its reply, without a time limit of its own.

        Raises:
            TypesettingCrashed, RenderMemory, RenderTooLarge: the process ended or spoke nonsense.
        """
        loop = asyncio.get_running_loop()
        self._renders += 1
        try:
            await loop.sock_sendall(self._channel, request)
            head, blobs = await self._read(loop)
        except (OSError, EOFError):
            raise await self._post_mortem() from None
        except wire.BrokenFrame:
            raise RenderTooLarge("the document is larger than a render may be") from None
        self.resident_bytes = head.get("resident", 0)
        self._worn = bool(head.get("retire")) or self.resident_bytes > self._limits.resident_bytes
        return head, blobs

    async def greet(self) -> None:
        """Wait until the child is warm and says which engine it is.

        Raises:
            TypesettingCrashed: it ended before, or did not come up in time.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                head, _ = await self._read(asyncio.get_running_loop())
        except (OSError, EOFError, TimeoutError, wire.BrokenFrame):
            words = await self._last_words()
            await self.end()
            last_line = words.decode(errors="replace").strip().rpartition("\n")[2]
            raise TypesettingCrashed(f"a typesetting process did not start: {last_line[:200]}") from None
        self.engine = head["engine"]

    async def _read(self, loop: asyncio.AbstractEventLoop) -> tuple[dict[str, Any], list[bytes]]:
        received = bytearray()
        while len(received) < wire.LENGTHS.size:
            received += await self._some(loop)
        head_length, body_length = wire.lengths(bytes(received[: wire.LENGTHS.size]))
        whole = wire.LENGTHS.size + head_length + body_length
        while len(received) < whole:
            received += await self._some(loop)
        return wire.unpack(memoryview(received)[wire.LENGTHS.size :], head_length)

    async def _some(self, loop: asyncio.AbstractEventLoop) -> bytes:
        chunk = await loop.sock_recv(self._channel, _CHUNK)
        if not chunk:
            raise EOFError
        return chunk

    async def _post_mortem(self) -> ServiceError:
        """Say what ended the process: Rust ends it when memory runs out, and when its stack does."""
        words = await self._last_words()
        if b"memory allocation of" in words or b"MemoryError" in words:
            return RenderMemory()
        if b"overflowed its stack" in words:
            return RenderTooLarge("the document is nested too deep")
        return TypesettingCrashed()

    async def _last_words(self) -> bytes:
        assert self._process.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            # The socket closes a moment before the process is gone.
            await asyncio.to_thread(self._process.wait, 1.0)
        os.set_blocking(self._process.stderr.fileno(), False)
        with contextlib.suppress(OSError):
            return os.read(self._process.stderr.fileno(), _STDERR_BYTES)
        return b""

    async def end(self) -> None:
        """Kill the process and wait until it is gone; nothing of a job is worth saving."""
        self._channel.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        if self._process.stderr is not None:
            self._process.stderr.close()


def spawn(command: Sequence[str], limits: Limits, root: Path, proxy: str) -> Child:
    """Start a child; ``root`` is a folder with the layout library, ``proxy`` an address where nothing listens."""
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = {
            "channel": theirs.fileno(),
            "parent": os.getpid(),
            "memory": limits.memory_bytes,
            "root": str(root),
        }
        process = subprocess.Popen(
            [*command, json.dumps(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            cwd=root,
            env=_environment(root, proxy),
            start_new_session=True,
        )
    ours.setblocking(False)
    return Child(process, ours, limits)


def _environment(root: Path, proxy: str) -> dict[str, str]:
    """Nothing is inherited: no credentials, no paths, no proxy that would let a package import hang for minutes."""
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy)
    return {
        "LANG": "C.UTF-8",
        "HOME": str(root),
        "RAYON_NUM_THREADS": "1",
        # One core a child: more malloc arenas would only spread its memory.
        "MALLOC_ARENA_MAX": "1",
        **proxies,
        **{name.lower(): value for name, value in proxies.items()},
    }
