"""The connections to FHIR servers: what is kept, what is refused, and that an answer is whole or an error."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from document_service.fhir.wire import HEAD_BYTES, KEEP_SECONDS, Broken, Connections, Place, Raw, TooMuch

REQUEST = b"GET /r4/metadata HTTP/1.1\r\nHost: fhir.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\n{}"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """The service runs on uvloop, the tests mostly on asyncio; transports differ between them."""
    return request.param  # type: ignore[no-any-return]


@dataclass
class Scripted:
    """A server that plays ``script`` on every connection; ``opened`` counts them."""

    script: Script
    opened: int = 0
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> AsyncIterator[Place]:
        server = await asyncio.start_server(self._accept, host, 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield Place(host, self.port, context is not None)
        finally:
            server.close()
            for writer in self.writers:
                writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.script(reader, writer)


def answering(*pieces: bytes, then_close: bool = False, pause: float = 0.0) -> Scripted:
    """A server that answers every request with ``pieces``."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            if then_close:
                writer.close()
                return

    return Scripted(script)


def connections(**more: Any) -> Connections:
    return Connections(ssl.create_default_context(), **more)


async def ask(made: Connections, place: Place, most: int = 1000, silence: float = 2.0) -> Raw:
    taken = 0

    def take(size: int) -> bool:
        nonlocal taken
        taken += size
        return taken <= most

    return await made.ask(place, REQUEST, take, connect=2.0, silence=silence)


def answer_of(run: Run, server: Scripted, times: int = 1) -> Raw:
    """What comes of asking ``server``, the same each of ``times``."""
    found: list[Raw] = []

    async def play() -> None:
        made = connections()
        async with server.listening() as place:
            for _ in range(times):
                found.append(await ask(made, place))
            await made.aclose()

    run(play())
    assert all(one == found[0] for one in found)
    return found[0]


def test_a_connection_is_used_again(run: Run) -> None:
    server = answering(OK)
    assert answer_of(run, server, 5) == Raw(200, {"content-type": "a/b", "content-length": "2"}, b"{}")
    assert server.opened == 1


@pytest.mark.parametrize(
    "pieces",
    [
        (OK[:7], OK[7:30], OK[30:-1], OK[-1:]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK,),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Type: x/y\r\n\r\n", OK),
        (b"HTTP/1.1 200 OK\r\ncontent-type:a/b\r\nContent-Length:  2  \r\n\r\n{}",),
    ],
    ids=["in pieces", "continue", "hints", "spaces"],
)
def test_the_same_answer_written_otherwise(run: Run, pieces: tuple[bytes, ...]) -> None:
    server = answering(*pieces, pause=0.01)
    assert answer_of(run, server, 2) == Raw(200, {"content-type": "a/b", "content-length": "2"}, b"{}")
    assert server.opened == 1


def test_chunks_and_a_trailer(run: Run) -> None:
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nX-One: a\r\nX-One: b\r\n\r\n"
    server = answering(head, b"3;name=value\r\nabc\r\n", b"2\r\nde\r\n0\r\nX-One: c\r\n\r\n", pause=0.01)
    assert answer_of(run, server, 2) == Raw(404, {"transfer-encoding": "chunked", "x-one": "a, b"}, b"abcde")
    assert server.opened == 1


def test_an_answer_without_a_length_ends_with_the_connection(run: Run) -> None:
    server = answering(b"HTTP/1.1 200 OK\r\n\r\n{", b"}", then_close=True, pause=0.01)
    assert answer_of(run, server, 2).content == b"{}"
    assert server.opened == 2


@pytest.mark.parametrize(
    "answer", [OK.replace(b"\r\nContent-T", b"\r\nConnection: close\r\nContent-T"), OK + b"HTTP", OK + b"no HTTP"]
)
def test_what_the_server_ends_or_overfills_is_not_used_again(run: Run, answer: bytes) -> None:
    server = answering(answer)
    assert answer_of(run, server, 3).content == b"{}"
    assert server.opened == 3


def test_a_second_answer_in_one_piece_is_no_part_of_the_first(run: Run) -> None:
    second = b"HTTP/1.1 500 Oops\r\nContent-Type: c/d\r\nContent-Length: 3\r\n\r\nbad"
    server = answering(OK + second)
    assert answer_of(run, server, 2) == Raw(200, {"content-type": "a/b", "content-length": "2"}, b"{}")
    assert server.opened == 2


def test_an_answer_nobody_asked_for_is_never_the_next_one_s(run: Run) -> None:
    """A late or smuggled answer on a kept connection would be another patient's."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(OK.replace(b"{}", b"[]"))

    async def play() -> None:
        made, server = connections(), Scripted(script)
        async with server.listening() as place:
            assert (await ask(made, place)).content == b"{}"
            await asyncio.sleep(0.2)
            assert (await ask(made, place)).content == b"{}"
            assert server.opened == 2

    run(play())


BROKEN = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nConten",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
    b"<html>hello</html>",
    b"",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * (2 * HEAD_BYTES) + b"\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * HEAD_BYTES + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"X: y\r\n" * HEAD_BYTES * 2 + b"\r\n",
]


@pytest.mark.parametrize("answer", BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_what_is_not_a_whole_answer_is_broken(run: Run, answer: bytes) -> None:
    async def play() -> None:
        made, server = connections(), answering(answer, then_close=True)
        async with server.listening() as place:
            with pytest.raises(Broken):
                await ask(made, place)

    run(play())


def test_what_is_too_much_is_cut_off(run: Run) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(1000))
            await writer.drain()

    async def play() -> None:
        made = connections()
        async with Scripted(endless).listening() as place:
            with pytest.raises(TooMuch):
                await ask(made, place, most=50_000)

    run(play())


def test_silence_ends_the_wait_and_the_connection(run: Run) -> None:
    async def play() -> None:
        made, server = connections(), answering(OK[:-1])
        async with server.listening() as place:
            for opened in (1, 2):
                with pytest.raises(TimeoutError):
                    await ask(made, place, silence=0.1)
                assert server.opened == opened

    run(play())


def test_who_gives_up_leaves_no_answer_behind(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(OK)

    async def play() -> None:
        made, server = connections(), Scripted(script)
        async with server.listening() as place:
            given_up = asyncio.create_task(ask(made, place))
            await asyncio.sleep(0.1)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert (await ask(made, place)).content == b"{}"
            assert server.opened == 2

    run(play())


def test_a_connection_that_the_server_gave_up_is_replaced(run: Run) -> None:
    """Also when it closes in the moment that the next request is on its way."""

    async def closing_on_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def play() -> None:
        made = connections()
        for server in (answering(OK, then_close=True), Scripted(closing_on_the_second)):
            async with server.listening() as place:
                for _ in range(3):
                    assert (await ask(made, place)).content == b"{}"
                    await asyncio.sleep(0.05)
                assert server.opened == 3

    run(play())


def test_a_server_that_never_answers_is_not_asked_for_ever(run: Run) -> None:
    async def play() -> None:
        made, server = connections(), answering(b"", then_close=True)
        async with server.listening() as place:
            with pytest.raises(Broken):
                await ask(made, place)
            assert server.opened == 1

    run(play())


def test_idle_connections_are_given_up(run: Run) -> None:
    async def play() -> None:
        now = 0.0
        made, server = connections(monotonic=lambda: now), answering(OK)
        async with server.listening() as place:
            await ask(made, place)
            now += KEEP_SECONDS + 0.1
            await ask(made, place)
            assert server.opened == 2

    run(play())


def test_exchanges_beside_each_other_have_connections_of_their_own(run: Run) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            name = head.split()[1]
            await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name))

    async def play() -> None:
        made, server = connections(), Scripted(echo)
        async with server.listening() as place:

            async def one(number: int) -> None:
                request = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number
                answer = await made.ask(place, request, lambda size: True, connect=2.0, silence=2.0)
                assert answer.content == b"/%d" % number

            for _ in range(3):
                await asyncio.gather(*map(one, range(30)))
            assert 30 <= server.opened < 60
            await made.aclose()

    run(play())


def test_nobody_listens_or_the_name_is_none(run: Run) -> None:
    async def play() -> None:
        made = connections()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            for place in (Place("127.0.0.1", taken.getsockname()[1], False), Place("x" * 70 + ".invalid", 80, False)):
                with pytest.raises(Broken):
                    await ask(made, place)

    run(play())


def test_the_next_address_of_a_host_is_tried(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        made, server = connections(), answering(OK)
        async with server.listening() as place:
            loop = asyncio.get_running_loop()
            resolve = loop.getaddrinfo

            async def two(host: Any, port: Any, **more: Any) -> Any:
                # Nothing listens on the first: 127.0.0.9 refuses, on which the second is tried.
                refusing = await resolve("127.0.0.9", port, **more)
                return refusing + await resolve("127.0.0.1", port, **more)

            class Loop:
                getaddrinfo = staticmethod(two)
                create_connection = staticmethod(loop.create_connection)
                create_future = staticmethod(loop.create_future)

            with monkeypatch.context() as patched:
                patched.setattr("document_service.fhir.wire.asyncio.get_running_loop", Loop)
                opened = await made._open(Place("clinic.example", place.port, False))
            assert (await opened.ask(REQUEST, lambda size: True, 2.0)).content == b"{}"
            opened.close()
            assert server.opened == 1

    run(play())


def _certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate for ``name`` that signs itself; where the certificate lies."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path, key_path)
    return context, path


def test_a_certificate_must_be_trusted_and_the_host_s(run: Run, tmp_path: Path) -> None:
    async def play() -> None:
        ours, trusted = _certificate(tmp_path, "127.0.0.1")
        other, also_trusted = _certificate(tmp_path, "127.0.0.2")
        for context, authority, good in ((ours, trusted, True), (ours, None, False), (other, also_trusted, False)):
            made, server = Connections(ssl.create_default_context(cafile=authority)), answering(OK)
            async with server.listening(context=context) as place:
                if good:
                    assert (await ask(made, place)).content == b"{}"
                    assert (await ask(made, place)).content == b"{}"
                    assert server.opened == 1
                    await made.aclose()
                else:
                    with pytest.raises(Broken):
                        await ask(made, place)

    run(play())
