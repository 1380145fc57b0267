"""The exchanges with FHIR servers over scripted connections: an answer is whole or an error, whatever client asks."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from document_service.errors import FhirInvalid, FhirUnavailable, RenderTooLarge, ServiceError
from document_service.fhir.connections import Connections
from document_service.fhir.exchange import Answer, Exchange, Limits, require_success

TOKEN = "tenant-token-1"
PATIENT = "p-871"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n"
OK = HEAD + b'Content-Length: 7\r\n\r\n{"a":1}'
OTHER = OK.replace(b"1}", b"2}")
LIMITS = Limits(connect=2.0, silence=2.0, answer_bytes=100_000)

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """The service runs on uvloop, the tests mostly on asyncio; transports differ between them."""
    return request.param  # type: ignore[no-any-return]


@dataclass
class Scripted:
    """A server that plays ``script`` on every connection; ``opened`` counts them, ``heads`` keeps what was asked."""

    script: Script
    opened: int = 0
    heads: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """The base address."""
        server = await asyncio.start_server(self._accept, host, 0, ssl=context)
        name = f"[{host}]" if ":" in host else host
        scheme = "https" if context else "http"
        try:
            yield f"{scheme}://{name}:{server.sockets[0].getsockname()[1]}/r4"
        finally:
            server.close()
            for writer in self.writers:
                writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.script(reader, writer)


async def asked(reader: asyncio.StreamReader) -> bytes:
    """The head of the next request, its content read."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.partition(b":")[2]))
    return head


def answering(*pieces: bytes, then_close: bool = False, pause: float = 0.0) -> Scripted:
    """A server that answers every request with ``pieces``."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            made.heads.append(await asked(reader))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            if then_close:
                writer.close()
                return

    made = Scripted(script)
    return made


@contextlib.asynccontextmanager
async def exchanging(base: str, limits: Limits = LIMITS, **more: float) -> AsyncIterator[Exchange]:
    made = Connections(limits.connect, limits.silence, **more)
    try:
        async with asyncio.timeout(30):
            yield Exchange(made, base, TOKEN, limits)
    finally:
        await made.aclose()


async def get(exchange: Exchange) -> Answer:
    return await exchange.get(f"/Patient/{PATIENT}", "patient")


async def post(exchange: Exchange) -> Answer:
    return await exchange.post({"resourceType": "Bundle"}, "batch")


WAYS = pytest.mark.parametrize("ask", [get, post])
Ask = Callable[[Exchange], Awaitable[Answer]]


def answer_of(run: Run, server: Scripted, times: int = 1) -> Answer:
    """What comes of asking ``server``, the same each of ``times``."""
    found: list[Answer] = []

    async def play() -> None:
        async with server.listening() as base, exchanging(base) as exchange:
            for number in range(times):
                found.append(await (get, post)[number % 2](exchange))

    run(play())
    assert all(one == found[0] for one in found)
    return found[0]


def test_a_connection_is_used_again(run: Run) -> None:
    server = answering(OK)
    assert answer_of(run, server, 5) == Answer(200, {"a": 1})
    assert server.opened == 1


def test_what_a_request_says(run: Run) -> None:
    server = answering(OK)
    answer_of(run, server, 2)
    for head, line in zip(server.heads, (b"GET /r4/Patient/p-871", b"POST /r4"), strict=True):
        names = [part.partition(b":")[0].lower() for part in head.split(b"\r\n")[1:-2]]
        assert head.startswith(line + b" HTTP/1.1\r\n")
        assert len(names) == len(set(names))
        assert not {b"cookie", b"proxy-authorization", b"transfer-encoding"} & set(names)
        for part in (b"Accept: application/fhir+json", b"Accept-Encoding: identity", b"Bearer tenant-token-1"):
            assert part in head


@pytest.mark.parametrize(
    ("base", "below", "line"),
    [
        ("/r4", "/Patient?name=a%2Fb%20c&x=1,2|3", "/r4/Patient?name=a%2Fb%20c&x=1,2|3"),
        ("/a%2Fb/r4/", "/Patient/p1", "/a%2Fb/r4/Patient/p1"),
        ("/r4", "/Patient?page=%D9%81+%2B&_getpages=x%3D%3D", "/r4/Patient?page=%D9%81+%2B&_getpages=x%3D%3D"),
        ("/r4", "/Patient?date=ge2020-01-01T00:00:00%2B04:30", "/r4/Patient?date=ge2020-01-01T00:00:00%2B04:30"),
        ("/فارسی", "/Patient/p1", "/%D9%81%D8%A7%D8%B1%D8%B3%DB%8C/Patient/p1"),
    ],
)
def test_a_path_goes_out_as_it_was_written(run: Run, base: str, below: str, line: str) -> None:
    async def play() -> None:
        server = answering(OK)
        async with server.listening() as listening:
            async with exchanging(listening.removesuffix("/r4") + base) as exchange:
                await exchange.get(below, "patient")
            assert server.heads[0].split()[1].decode() == line

    run(play())


def test_an_ipv6_address(run: Run) -> None:
    async def play() -> None:
        server = answering(OK)
        try:
            async with server.listening("::1") as base, exchanging(base) as exchange:
                assert (await get(exchange)).status == 200
                assert f"Host: {base[7:-3]}\r\n".encode() in server.heads[0]
        except OSError:
            pytest.skip("the machine has no IPv6")

    run(play())


def test_a_host_in_other_letters_is_asked_by_its_ascii_name() -> None:
    async def play() -> None:
        looked_up: list[object] = []
        loop = asyncio.get_running_loop()

        async def refuse(host: object, *rest: object, **more: object) -> list[object]:
            looked_up.append(host)
            raise socket.gaierror("no such host")

        loop.getaddrinfo = refuse  # type: ignore[method-assign,assignment]
        async with exchanging("http://Krankenhäuser.example:8080/r4") as exchange:
            with pytest.raises(FhirUnavailable):
                await get(exchange)
        assert looked_up == ["xn--krankenhuser-ncb.example"]

    asyncio.run(play())


@pytest.mark.parametrize("base", ["http:///r4", "http://x:99999/r4", "ftp://x/r4", "http://u:p@x/r4"])
def test_what_is_no_address_is_refused_before_anything_is_asked(base: str) -> None:
    async def play() -> None:
        with pytest.raises(FhirInvalid):
            async with exchanging(base):
                pass

    asyncio.run(play())


@pytest.mark.parametrize(
    "pieces",
    [
        (OK[:7], OK[7:30], OK[30:-1], OK[-1:]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK,),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Type: x/y\r\n\r\n", OK),
        (b'HTTP/1.1 200 OK\r\ncontent-type:application/json\r\nContent-Length:  7  \r\n\r\n{"a":1}',),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b'3;n=v\r\n{"a\r\n', b'4\r\n":1}\r\n0\r\nX: c\r\n\r\n'),
    ],
    ids=["in pieces", "continue", "hints", "spaces", "chunks and a trailer"],
)
def test_the_same_answer_written_otherwise(run: Run, pieces: tuple[bytes, ...]) -> None:
    server = answering(*pieces, pause=0.01)
    assert answer_of(run, server, 2) == Answer(200, {"a": 1})
    assert server.opened == 1


def test_an_answer_without_a_length_ends_with_the_connection(run: Run) -> None:
    server = answering(HEAD + b'\r\n{"a"', b":1}", then_close=True, pause=0.01)
    assert answer_of(run, server, 2) == Answer(200, {"a": 1})
    assert server.opened == 2


@pytest.mark.parametrize(
    "more", [b"Content-Type: text/html", b"Content-Encoding: gzip", b"Content-Encoding: identity, gzip"]
)
def test_an_answer_of_another_kind_is_refused(run: Run, more: bytes) -> None:
    with pytest.raises(FhirInvalid):
        answer_of(run, answering(OK.replace(b"Content-L", more + b"\r\nContent-L")))


def test_a_redirect_is_not_followed_nor_a_cookie_kept(run: Run) -> None:
    away = answering(OK)

    async def play() -> None:
        async with away.listening() as other:
            found = b"HTTP/1.1 307 Elsewhere\r\nLocation: %s\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
            server = answering(found % other.encode())
            async with server.listening() as base, exchanging(base) as exchange:
                for ask in (get, post, get):
                    assert (await ask(exchange)).status == 307
            assert not any(b"ookie" in head for head in server.heads)
        assert away.opened == 0

    run(play())


def test_what_the_server_ends_is_not_used_again(run: Run) -> None:
    server = answering(OK.replace(b"\r\nContent-T", b"\r\nConnection: close\r\nContent-T"))
    assert answer_of(run, server, 3) == Answer(200, {"a": 1})
    assert server.opened == 3


@WAYS
@pytest.mark.parametrize("unasked", [OTHER, OTHER[:-1], b"HTTP/1.1 408 Too Late\r\nContent-Length: 0\r\n\r\n"])
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_an_answer_nobody_asked_for_is_never_the_next_one_s(run: Run, ask: Ask, unasked: bytes, pause: float) -> None:
    """A late or smuggled answer on a kept connection would be another patient's."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await asked(reader):
            if not pause:
                writer.write(OK + unasked)
                continue
            writer.write(OK)
            await writer.drain()
            await asyncio.sleep(pause)
            writer.write(unasked)

    async def play() -> None:
        server = Scripted(script)
        async with server.listening() as base, exchanging(base) as exchange:
            for opened in (1, 2, 3):
                assert await ask(exchange) == Answer(200, {"a": 1})
                assert server.opened == opened
                await asyncio.sleep(3 * pause)

    run(play())


BROKEN = {
    "short": HEAD + b'Content-Length: 8\r\n\r\n{"a":1}',
    "chunks without end": HEAD + b'Transfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n',
    "a chunk cut off": HEAD + b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"a":1}',
    "no number": HEAD + b'Transfer-Encoding: chunked\r\n\r\nxyz\r\n{"a":1}\r\n0\r\n\r\n',
    "two framings": HEAD + b'Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n0\r\n\r\n',
    "two lengths": HEAD + b'Content-Length: 7\r\nContent-Length: 8\r\n\r\n{"a":1} ',
    "two lengths, the longer first": HEAD + b'Content-Length: 8\r\nContent-Length: 7\r\n\r\n{"a":1} ',
    "a length below nothing": HEAD + b'Content-Length: -7\r\n\r\n{"a":1}',
    "half a head": HEAD[:-20],
    "a provisional answer only": b"HTTP/1.1 100 Continue\r\n\r\n",
    "another protocol": b"<html>hello</html>",
    "nothing": b"",
    "a long header": HEAD + b"X: " + b"y" * 100_000 + b'\r\nContent-Length: 7\r\n\r\n{"a":1}',
    "many headers": HEAD + b"X: y\r\n" * 10_000 + b'Content-Length: 7\r\n\r\n{"a":1}',
}


@WAYS
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_what_is_not_a_whole_answer_is_an_outage(
    run: Run, ask: Ask, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """And what is said about it names neither the patient nor the token."""
    caplog.set_level(logging.DEBUG)

    async def play() -> None:
        async with answering(answer, then_close=True).listening() as base, exchanging(base) as exchange:
            with pytest.raises(FhirUnavailable) as caught:
                await ask(exchange)
            logging.getLogger("test").error("refused", exc_info=caught.value)

    run(play())
    assert "the connection to the FHIR server failed" in caplog.text
    assert PATIENT not in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + b'{"a":1}',
        HEAD + b'Transfer-Encoding: gzip\r\n\r\n{"a":',
        HEAD + b'\r\n{"a":',
        b"HTTP/1.1 204 No Content\r\n\r\n",
        HEAD + b"Content-Length: 0\r\n\r\n",
    ],
)
def test_what_has_no_end_or_no_content_is_an_error(run: Run, answer: bytes) -> None:
    with pytest.raises(ServiceError):
        require_success(answer_of(run, answering(answer, then_close=True)), "patient", FhirInvalid)


def test_an_answer_that_a_reset_ends_is_an_error(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(HEAD + b'\r\n{"a":')
        await writer.drain()
        await asyncio.sleep(0.05)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    with pytest.raises(ServiceError):
        answer_of(run, Scripted(script))


def test_trailers_without_end_are_bounded(run: Run) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(HEAD + b'Transfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n0\r\n')
        while True:
            writer.write(b"X: y\r\n" * 1000)
            await writer.drain()

    with pytest.raises(FhirUnavailable):
        answer_of(run, Scripted(script))


@pytest.mark.parametrize("head", [HEAD + b"\r\n", HEAD + b"Content-Length: 1000000000\r\n\r\n"])
def test_what_is_too_much_is_cut_off(run: Run, head: bytes) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await asked(reader)
        writer.write(head)
        while True:
            writer.write(b" " * 10_000)
            sent += 10_000
            await writer.drain()

    with pytest.raises(RenderTooLarge):
        answer_of(run, Scripted(endless))
    assert sent < 20_000_000


@WAYS
def test_silence_ends_the_wait_and_the_connection(run: Run, ask: Ask) -> None:
    async def play() -> None:
        server = answering(OK[:-1])
        async with server.listening() as base, exchanging(base, Limits(silence=0.2)) as exchange:
            for opened in (1, 2):
                with pytest.raises(FhirUnavailable, match="in time"):
                    await ask(exchange)
                assert server.opened == opened

    run(play())


def test_who_gives_up_leaves_no_answer_behind(run: Run) -> None:
    ended: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        await asyncio.sleep(0.2)
        writer.write(OTHER if made.opened == 1 else OK)
        ended.append(await reader.read())

    made = Scripted(script)

    async def play() -> None:
        async with made.listening() as base, exchanging(base) as exchange:
            given_up = asyncio.ensure_future(get(exchange))
            await asyncio.sleep(0.1)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert await get(exchange) == Answer(200, {"a": 1})
            assert made.opened == 2
            assert ended == [b""]

    run(play())


@WAYS
def test_a_connection_that_the_server_gave_up_is_replaced(run: Run, ask: Ask) -> None:
    """Also when it closes in the moment that the next request is on its way."""

    async def closing_on_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK)
        await asked(reader)
        writer.close()

    async def play() -> None:
        for server in (answering(OK, then_close=True), Scripted(closing_on_the_second)):
            async with server.listening() as base, exchanging(base) as exchange:
                for _ in range(4):
                    assert await ask(exchange) == Answer(200, {"a": 1})
                    await asyncio.sleep(0.05)

    run(play())


def test_the_replacement_is_no_other_kept_connection(run: Run) -> None:
    """A server that restarts gives all of them up; the request must not fail on the second of them."""
    stale = False

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made_before = not stale
        while await asked(reader):
            if stale and made_before:
                writer.close()
                return
            await asyncio.sleep(0.05)
            writer.write(OK)

    async def play() -> None:
        nonlocal stale
        async with Scripted(script).listening() as base, exchanging(base) as exchange:
            await asyncio.gather(*(get(exchange) for _ in range(4)))
            stale = True
            for ask in (get, post):
                assert await ask(exchange) == Answer(200, {"a": 1})

    run(play())


@WAYS
def test_a_server_that_never_answers_is_not_asked_for_ever(run: Run, ask: Ask) -> None:
    async def play() -> None:
        server = answering(b"", then_close=True)
        async with server.listening() as base, exchanging(base) as exchange:
            with pytest.raises(FhirUnavailable):
                await ask(exchange)
            assert server.opened <= 2

    run(play())


def test_idle_connections_are_given_up(run: Run) -> None:
    async def play() -> None:
        server = answering(OK)
        async with server.listening() as base, exchanging(base, keep=0.1) as exchange:
            await get(exchange)
            await asyncio.sleep(0.3)
            await get(exchange)
            assert server.opened == 2

    run(play())


def test_exchanges_beside_each_other_have_connections_of_their_own(run: Run) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await asked(reader):
            number = head.split()[1].rpartition(b"/")[2]
            await asyncio.sleep(0.01)
            writer.write(HEAD + b'Content-Length: %d\r\n\r\n{"a":%s}' % (6 + len(number), number))

    async def play() -> None:
        server = Scripted(echo)
        async with server.listening() as base, exchanging(base) as exchange:

            async def one(number: int) -> None:
                assert (await exchange.get(f"/Patient/{number}", "patient")).body == {"a": number}

            for _ in range(3):
                await asyncio.gather(*map(one, range(30)))
            assert 30 <= server.opened < 60

    run(play())


@WAYS
def test_nobody_listens_or_the_name_is_none(run: Run, ask: Ask) -> None:
    async def play() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            for host in (f"127.0.0.1:{taken.getsockname()[1]}", "x" * 63 + ".invalid", "x..invalid", "a b"):
                with pytest.raises((FhirUnavailable, FhirInvalid)):
                    async with exchanging(f"http://{host}/r4") as exchange:
                        await ask(exchange)

    run(play())


def test_the_next_address_of_a_host_is_tried(run: Run) -> None:
    """``localhost`` is commonly ::1 first, where nothing listens here."""

    async def play() -> None:
        server = answering(OK)
        async with server.listening() as base:
            async with exchanging(base.replace("127.0.0.1", "localhost")) as exchange:
                assert await get(exchange) == Answer(200, {"a": 1})
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


def test_a_certificate_must_be_trusted_and_the_host_s(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        ours, trusted = _certificate(tmp_path, "127.0.0.1")
        other, also_trusted = _certificate(tmp_path, "127.0.0.2")
        for context, authority, good in (
            (ours, trusted, True),
            (ours, also_trusted, False),
            (other, also_trusted, False),
        ):
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
            server = answering(OK)
            async with server.listening(context=context) as base, exchanging(base) as exchange:
                for ask in (get, post):
                    if good:
                        assert await ask(exchange) == Answer(200, {"a": 1})
                        assert server.opened == 1
                    else:
                        with pytest.raises(FhirUnavailable):
                            await ask(exchange)
            assert good or not server.heads

    run(play())
