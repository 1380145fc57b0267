"""Our client of clamd, ClamAV's daemon (its protocol: clamd(8), section COMMANDS). It fails closed.

Clean is exactly the answer ``stream: OK``. A refusal, a reset, silence, an answer that ends early and one in
other words are all ScannerUnavailable: the file stays where it was, unread, and is scanned again later. Words that
clamd does not use are ScannerAnswerInvalid, so that an operator can tell a wrong address from a daemon that is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from document_service.errors import ScannerAnswerInvalid, ScannerUnavailable

CONNECT_SECONDS: Final = 3.0  # A daemon on this machine or network that does not accept by then is not well.
COMMAND_SECONDS: Final = 5.0  # PING waits only for a free thread.
SCAN_SECONDS: Final = 60.0  # 10 MB take 0.03–3 s by their content; clamd itself gives up after 120 s.
CHUNK_BYTES: Final = 256 * 1024  # Larger chunks are not faster, and each is a copy.
# clamd's default StreamMaxLength. A longer stream is cut off with an error in the middle, so it is not begun.
STREAM_BYTES: Final = 25 * 1024 * 1024
LEVELS: Final = 101  # MaxRecursion may be at most 100; the archive has 9 KB.
_FOUND: Final = re.compile(rb"stream: ([\x21-\x7e]{1,200}) FOUND\x00")
_VERSION: Final = re.compile(rb"ClamAV ([^/\x00]{1,60})(?:/(\d+)/([A-Za-z0-9: ]{10,40}))?\x00")


@dataclass(frozen=True, slots=True)
class ClamdVersion:
    """The engine's version, and number and time (UTC) of its signatures; None when they have no official
    date.
    """

    engine: str
    signatures: int | None
    signatures_at: datetime | None


class Clamd:
    """A clamd at ``unix:/path`` or ``tcp:host:port``; every command has a connection of its own."""

    def __init__(self, address: str) -> None:
        """Raises ValueError for an address of another form."""
        scheme, _, rest = address.partition(":")
        host, _, port = rest.rpartition(":")
        self._path = rest if scheme == "unix" and rest.startswith("/") else None
        self._endpoint: tuple[str, int] | None = None
        if scheme == "tcp" and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            self._endpoint = (host.removeprefix("[").removesuffix("]"), int(port))
        if self._path is None and self._endpoint is None:
            raise ValueError("clamd's address is unix:/path or tcp:host:port")

    async def ping(self) -> None:
        """Raises ScannerUnavailable unless clamd answers PONG."""
        if await self._command(b"zPING\x00") != b"PONG\x00":
            raise ScannerUnavailable("clamd does not answer its PING")

    async def version(self) -> ClamdVersion:
        """Raises ScannerUnavailable."""
        found = _VERSION.fullmatch(await self._command(b"zVERSION\x00"))
        if found is None:
            raise ScannerUnavailable("clamd does not tell its version")
        engine, number, date = found.groups()
        signatures_at = None
        if date is not None:
            with contextlib.suppress(ValueError):
                # clamd writes the time of its signatures by asctime, in its own zone; a day matters, not an hour.
                signatures_at = datetime.strptime(date.decode(), "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
        return ClamdVersion(engine.decode(errors="replace"), int(number) if number else None, signatures_at)

    async def scan(self, data: bytes) -> str | None:
        """Return the name of the signature that ``data`` matches, None when clamd says that it is clean.

        Raises ScannerUnavailable for every other answer, and ValueError for more than clamd takes.
        """
        if len(data) > STREAM_BYTES:
            raise ValueError("the file is longer than clamd's stream")
        async with self._connected(SCAN_SECONDS) as (reader, writer):
            writer.write(b"zINSTREAM\x00")
            view = memoryview(data)
            for start in range(0, len(data), CHUNK_BYTES):
                chunk = view[start : start + CHUNK_BYTES]
                writer.write(len(chunk).to_bytes(4, "big"))
                writer.write(chunk)
                await writer.drain()
            writer.write(bytes(4))
            await writer.drain()
            answer = await _answer(reader)
        if answer == b"stream: OK\x00":
            return None
        found = _FOUND.fullmatch(answer)
        if found is None:
            raise ScannerAnswerInvalid("clamd's answer is neither clean nor a finding")
        return found[1].decode()

    async def tells_of_limits(self) -> bool:
        """Whether clamd reports a file that it could not look into wholly (AlertExceedsMax) or calls it clean.

        Asked with an archive nested deeper than MaxRecursion can be set; what is inside of it is an empty file.
        Raises ScannerUnavailable.
        """
        return await self.scan(_nested(LEVELS)) is not None

    async def _command(self, command: bytes) -> bytes:
        async with self._connected(COMMAND_SECONDS) as (reader, writer):
            writer.write(command)
            await writer.drain()
            return await _answer(reader)

    @contextlib.asynccontextmanager
    async def _connected(self, seconds: float) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(seconds):
                async with asyncio.timeout(CONNECT_SECONDS):
                    if self._path is not None:
                        reader, writer = await asyncio.open_unix_connection(self._path)
                    else:
                        assert self._endpoint is not None
                        reader, writer = await asyncio.open_connection(*self._endpoint)
                yield reader, writer
        except TimeoutError as error:
            raise ScannerUnavailable("clamd did not answer in time") from error
        except (OSError, EOFError) as error:
            raise ScannerUnavailable(f"clamd is not reached ({type(error).__name__})") from error
        finally:
            if writer is not None:
                # The answer is read or given up; unsent bytes are of no use to anybody.
                writer.transport.abort()


def _nested(levels: int) -> bytes:
    content = b""
    for _ in range(levels):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
            writer.writestr("a.zip", content)
        content = archive.getvalue()
    return content


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Read until clamd's closing NUL. Raises IncompleteReadError, an EOFError, when the answer ends before."""
    try:
        return await reader.readuntil(b"\x00")
    except asyncio.LimitOverrunError as error:
        raise ScannerAnswerInvalid("clamd's answer does not end") from error
