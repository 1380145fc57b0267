"""The parent's side of the inspecting processes: one file for each, killed when its time is over.

Starting one takes about 0.4 s of imports and self-test, so the next one is started ahead and waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Any, Final

from document_service.errors import ScannerUnavailable

START_SECONDS: Final = 30.0  # 0.4 s alone; a machine that starts everything at once takes ten times that.
ANSWER_SECONDS: Final = 20.0  # The largest accepted image takes 6 s on one slow core.
ANSWER_BYTES: Final = 256 * 1024 * 1024  # A PDF of the largest images is smaller; more is not an answer of ours.


class ProcessStopped(Exception):
    """The process ended or was killed without an answer; ``reason`` is "time" or "end"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Inspectors:
    """Runs requests in fresh processes, at most ``concurrency`` at once."""

    def __init__(self, concurrency: int = 2, answer_seconds: float = ANSWER_SECONDS) -> None:
        """``concurrency``: two, since a scan uses a core and renders need the other."""
        self._slots = asyncio.Semaphore(concurrency)
        self._answer_seconds = answer_seconds
        self._ahead: asyncio.Task[Process] | None = None

    def start(self) -> None:
        """Start a process ahead of the first request."""
        if self._ahead is None:
            self._ahead = asyncio.create_task(_start_process())

    async def stop(self) -> None:
        """End the waiting process; requests under way end on their own."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            with contextlib.suppress(asyncio.CancelledError, ScannerUnavailable):
                await _end(await ahead)

    async def ask(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Send a request with its file; return the answer and the bytes that come with it.

        Raises ProcessStopped, and ScannerUnavailable when no process can be started.
        """
        async with self._slots:
            process = await self._take()
            try:
                async with asyncio.timeout(self._answer_seconds):
                    return await _exchange(process, request, data)
            except TimeoutError as error:
                raise ProcessStopped("time") from error
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                raise ProcessStopped("end") from error
            finally:
                await _end(process)

    async def _take(self) -> Process:
        ahead, self._ahead = self._ahead, None
        process: Process | None = None
        if ahead is not None:
            # One that failed to start, or was killed while it waited, is not the file's fault.
            with contextlib.suppress(ScannerUnavailable):
                process = await ahead
            if process is not None and process.returncode is not None:
                process = None
        if process is None:
            process = await _start_process()
        self.start()
        return process


async def _start_process() -> Process:
    command = [sys.executable, "-I", "-X", "utf8", "-m", "document_service.scanner.child"]
    # Nothing of our environment, where database addresses and credentials are, but what finds libraries.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, cwd="/"
        )
    except OSError as error:
        raise ScannerUnavailable("no process for the inspection can be started") from error
    ready = False
    try:
        async with asyncio.timeout(START_SECONDS):
            answer, _ = await _receive(process)
        if not answer.get("ready"):
            raise ScannerUnavailable(f"the inspection does not start: {answer.get('error')}")
        ready = True
        return process
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        raise ScannerUnavailable("the inspection does not start") from error
    finally:
        if not ready:
            await _end(process)


async def _exchange(process: Process, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    assert process.stdin is not None
    head = json.dumps({**request, "size": len(data)}).encode()
    process.stdin.write(len(head).to_bytes(4, "big") + head)
    process.stdin.write(data)
    await process.stdin.drain()
    return await _receive(process)


async def _receive(process: Process) -> tuple[dict[str, Any], bytes]:
    assert process.stdout is not None
    length = int.from_bytes(await process.stdout.readexactly(4), "big")
    if length > 1 << 20:
        raise ValueError("the answer is longer than any")
    answer = json.loads(await process.stdout.readexactly(length))
    if not isinstance(answer, dict) or not 0 <= answer["size"] <= ANSWER_BYTES:
        raise ValueError("the answer is not one")
    return answer, await process.stdout.readexactly(answer["size"])


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
