"""Our client of clamd against daemons that misbehave: nothing but a clean answer is clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from document_service.errors import ScannerUnavailable
from document_service.scanner import clamd as clamd_module
from document_service.scanner.clamd import STREAM_BYTES, Clamd, ClamdVersion

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def daemon(talk: Talk) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answering(answer: bytes, received: bytearray | None = None) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = await reader.readuntil(b"\x00")
        if command == b"zINSTREAM\x00":
            while length := int.from_bytes(await reader.readexactly(4), "big"):
                chunk = await reader.readexactly(length)
                if received is not None:
                    received.extend(chunk)
        writer.write(answer)
        await writer.drain()

    return talk


async def test_a_clean_stream_is_sent_whole() -> None:
    received, data = bytearray(), bytes(range(256)) * 4000
    async with daemon(answering(b"stream: OK\x00", received)) as address:
        assert await Clamd(address).scan(data) is None
    assert bytes(received) == data


async def test_a_finding_is_named() -> None:
    async with daemon(answering(b"stream: Eicar-Test-Signature FOUND\x00")) as address:
        assert await Clamd(address).scan(b"x") == "Eicar-Test-Signature"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00",
        b"stream: OK",  # cut off: the rest might have been anything
        b"stream: OK\n",
        b"stream: ok\x00",
        b"stream: OK \x00",
        b" stream: OK\x00",
        b"stream: OKAY\x00",
        b"1: stream: OK\x00",
        b"OK\x00",
        b"stream:  FOUND\x00",
        b"stream: a b FOUND\x00",
        b"INSTREAM size limit exceeded. ERROR\x00",
        b"stream: Can't allocate memory ERROR\x00",
        b"HTTP/1.1 200 OK\r\n\r\nstream: OK\x00",
        b"\xff\xfe\x00",
        b"x" * 200_000,
    ],
)
async def test_any_other_answer_is_not_clean(answer: bytes) -> None:
    async with daemon(answering(answer)) as address:
        with pytest.raises(ScannerUnavailable):
            await Clamd(address).scan(b"x" * 1000)


async def test_a_daemon_that_dies_in_mid_scan_is_not_clean() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(400_000)
        writer.transport.abort()

    async with daemon(talk) as address:
        with pytest.raises(ScannerUnavailable):
            await Clamd(address).scan(bytes(20_000_000))


@pytest.mark.parametrize("reads", [True, False])
async def test_a_silent_daemon_is_not_clean(monkeypatch: pytest.MonkeyPatch, reads: bool) -> None:
    monkeypatch.setattr(clamd_module, "SCAN_SECONDS", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while reads and await reader.read(1 << 20):
            pass
        await asyncio.sleep(2)

    async with daemon(talk) as address:
        with pytest.raises(ScannerUnavailable, match="in time"):
            await Clamd(address).scan(bytes(20_000_000))


async def test_no_daemon_is_unavailable(tmp_path: Path) -> None:
    async with daemon(answering(b"")) as address:
        pass
    for gone in (address, f"unix:{tmp_path}/none"):
        for use in (Clamd(gone).scan(b"x"), Clamd(gone).ping(), Clamd(gone).version()):
            with pytest.raises(ScannerUnavailable):
                await use


async def test_what_is_longer_than_the_daemon_reads_is_not_begun() -> None:
    with pytest.raises(ValueError, match="longer"):
        await Clamd("tcp:127.0.0.1:1").scan(bytes(STREAM_BYTES + 1))


async def test_ping_and_version() -> None:
    async with daemon(answering(b"PONG\x00")) as address:
        await Clamd(address).ping()
        with pytest.raises(ScannerUnavailable):
            await Clamd(address).version()
    async with daemon(answering(b"PING\x00")) as address:
        with pytest.raises(ScannerUnavailable):
            await Clamd(address).ping()
    expected = ClamdVersion("1.4.6", 27500, datetime(2026, 11, 21, 9, 25, 0, tzinfo=UTC))
    async with daemon(answering(b"ClamAV 1.4.6/27500/Sat Nov 21 09:25:00 2026\x00")) as address:
        assert await Clamd(address).version() == expected
    async with daemon(answering(b"ClamAV 1.4.6\x00")) as address:
        assert await Clamd(address).version() == ClamdVersion("1.4.6", None, None)


@pytest.mark.parametrize(
    "address",
    ["", "tcp:", "tcp:host", "tcp:host:", "tcp:host:0", "tcp:host:70000", "tcp:host:x", "unix:", "unix:a", "/a"],
)
def test_a_wrong_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="unix:/path or tcp:host:port"):
        Clamd(address)
