"""Every fault of the proxy, seen by a plain HTTP client or a bare socket on the other side."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from document_service.fault_proxy import Answer, FaultProxy, Faults, page, problem
from document_service.fault_proxy.framing import Body, End, Head, MessageSplitter, Opaque, Part

CONTENT = bytes(range(256)) * 200


class Upstream(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.carried_out: list[str] = []
        super().__init__(("127.0.0.1", 0), UpstreamHandler)


class UpstreamHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Upstream)
        self.server.carried_out.append(self.path)
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n")
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(CONTENT[start:])

    do_HEAD = do_GET

    def do_POST(self) -> None:
        assert isinstance(self.server, Upstream)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.carried_out.append(f"{self.path} {len(body)}")
        self.send_response(202)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


@pytest.fixture(scope="module")
def upstream_server() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def upstream(upstream_server: Upstream) -> Upstream:
    upstream_server.carried_out.clear()
    return upstream_server


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[FaultProxy]:
    with FaultProxy(f"http://127.0.0.1:{upstream.server_port}") as started:
        yield started


def connect(proxy: FaultProxy, timeout: float = 5.0) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)


def ask(
    connection: http.client.HTTPConnection,
    path: str = "/",
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def test_a_perfect_network_passes_everything_and_counts(proxy: FaultProxy, upstream: Upstream) -> None:
    connection = connect(proxy)
    for _ in range(2):
        assert ask(connection)[:2] == (200, CONTENT)
    assert ask(connection, "/chunked")[:2] == (200, b"hello world")
    assert ask(connection, method="HEAD")[:2] == (200, b"")
    assert ask(connection, "/in", method="POST", body=b"x" * 100_000)[:2] == (202, b"ok")
    counts = proxy.counts()
    assert (counts.connections, counts.requests, counts.answered_here) == (1, 5, 0)
    assert 100_000 < counts.bytes_up < 101_000
    assert 2 * len(CONTENT) < counts.bytes_down < 2 * len(CONTENT) + 1_500
    assert proxy.requests()[-1] == ("POST", "/in")
    assert upstream.carried_out[-1] == "/in 100000"
    proxy.reset_counts()
    assert proxy.counts().bytes_up == 0
    assert proxy.requests() == []


def test_refuse_ends_connections_and_keeps_the_port(proxy: FaultProxy) -> None:
    connection = connect(proxy)
    ask(connection)
    proxy.apply(Faults(network="refuse"))
    with pytest.raises(ConnectionResetError):
        ask(connection)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            ask(connect(proxy))
    proxy.heal()
    assert ask(connect(proxy))[0] == 200


def test_blackhole_takes_the_connection_and_says_nothing_until_it_heals(proxy: FaultProxy) -> None:
    proxy.apply(Faults(network="blackhole"))
    with pytest.raises(TimeoutError):
        ask(connect(proxy, timeout=0.1))
    patient = connect(proxy)
    patient.request("GET", "/")
    threading.Timer(0.1, proxy.heal).start()
    assert patient.getresponse().read() == CONTENT


def test_a_round_trip_costs_its_time_and_the_handshake_another(proxy: FaultProxy) -> None:
    proxy.apply(Faults(round_trip_seconds=0.1))
    connection = connect(proxy)
    begin = time.monotonic()
    ask(connection)
    first = time.monotonic() - begin
    ask(connection)
    second = time.monotonic() - begin - first
    assert 0.2 <= first < 1.2
    assert 0.1 <= second < 1.1


def test_bandwidth_is_one_link_for_all_connections(proxy: FaultProxy) -> None:
    # 51,200 bytes at 256,000 a second: 0.2 s for one, 0.4 s for two at once.
    proxy.apply(Faults(bytes_per_second_down=256_000))
    begin = time.monotonic()
    threads = [threading.Thread(target=lambda: ask(connect(proxy))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.4 <= time.monotonic() - begin < 1.4


def test_bandwidth_up_and_a_change_of_weather_on_the_way(proxy: FaultProxy, upstream: Upstream) -> None:
    proxy.apply(Faults(bytes_per_second_up=100_000))
    begin = time.monotonic()
    ask(connect(proxy), "/in", method="POST", body=b"x" * 20_000)
    assert 0.2 <= time.monotonic() - begin < 1.5
    # At 1,000 bytes a second this would take 20 s.
    proxy.apply(Faults(bytes_per_second_up=1_000))
    threading.Timer(0.1, proxy.heal).start()
    ask(connect(proxy), "/in", method="POST", body=b"x" * 20_000)
    assert time.monotonic() - begin < 5
    assert upstream.carried_out == ["/in 20000", "/in 20000"]


def test_loss_is_a_late_piece_and_the_seed_decides_which(upstream: Upstream) -> None:
    def seconds(loss: float) -> float:
        with FaultProxy(f"127.0.0.1:{upstream.server_port}", seed=1) as proxy:
            proxy.apply(Faults(loss=loss))
            begin = time.monotonic()
            ask(connect(proxy), "/in", method="POST", body=b"x")
            return time.monotonic() - begin

    assert seconds(0.0) < 0.4
    assert seconds(1.0) >= 0.4


@pytest.mark.parametrize("limit", [0, 40_000])
def test_reset_after_bytes_down_delivers_exactly_these(proxy: FaultProxy, upstream: Upstream, limit: int) -> None:
    proxy.apply(Faults(reset_after_down=limit, times=1))
    got = b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as sock:
        sock.sendall(b"GET /lost HTTP/1.1\r\nHost: x\r\n\r\n")
        reset = False
        while not reset:
            try:
                got += sock.recv(65536)
            except ConnectionResetError:
                reset = True
    assert len(got) == limit
    # The upstream carried it out: only the answer is lost.
    assert upstream.carried_out == ["/lost"]
    assert ask(connect(proxy))[:2] == (200, CONTENT)


def test_reset_after_bytes_up_keeps_the_rest_from_the_upstream(proxy: FaultProxy, upstream: Upstream) -> None:
    proxy.apply(Faults(reset_after_up=5_000))
    with pytest.raises(ConnectionError):
        ask(connect(proxy), "/in", method="POST", body=b"x" * 3_000_000)
    proxy.heal()
    assert ask(connect(proxy))[0] == 200
    assert not any(entry.startswith("/in 3") for entry in upstream.carried_out)


def test_a_body_is_cut_as_often_as_wanted_and_can_be_resumed(proxy: FaultProxy) -> None:
    proxy.apply(Faults(cut_body_after=15_000, path="/content", times=3))
    assert ask(connect(proxy), "/other")[1] == CONTENT
    got = b""
    cuts: list[int] = []
    while len(got) < len(CONTENT):
        connection = connect(proxy)
        connection.request("GET", "/content", headers={"Range": f"bytes={len(got)}-"})
        answer = connection.getresponse()
        try:
            got += answer.read()
        except http.client.IncompleteRead as error:
            got += error.partial
            cuts.append(len(error.partial))
    assert (got, cuts) == (CONTENT, [15_000] * 3)
    assert proxy.counts().bytes_down < 2 * len(CONTENT) + 2_000


def test_a_content_range_can_lie(proxy: FaultProxy) -> None:
    proxy.apply(Faults(shift_content_range=7))
    status, body, headers = ask(connect(proxy), headers={"Range": "bytes=100-"})
    assert (status, body) == (206, CONTENT[100:])
    assert headers["Content-Range"] == f"bytes 107-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert ask(connect(proxy))[2]["Content-Range"].startswith("bytes 0-")


def test_a_portal_answers_everything_and_the_upstream_hears_nothing(proxy: FaultProxy, upstream: Upstream) -> None:
    proxy.apply(Faults(portal=b"<html>Welcome to the hotel</html>"))
    connection = connect(proxy)
    for method, body in (("GET", None), ("POST", b"x" * 200_000), ("GET", None)):
        status, answer, headers = ask(connection, "/in", method=method, body=body)
        assert (status, answer) == (200, b"<html>Welcome to the hotel</html>")
        assert headers["Content-Type"].startswith("text/html")
    assert ask(connection, method="HEAD")[1] == b""
    assert upstream.carried_out == []
    assert proxy.counts().answered_here == 4


@pytest.mark.parametrize("status", [401, 403, 409, 410, 422, 429, 500, 503])
def test_prepared_problems_come_as_often_as_wanted(proxy: FaultProxy, status: int) -> None:
    proxy.answer_next(problem(status, "SOME_CODE", headers={"Retry-After": "2"}, path="/render-jobs"), times=2)
    connection = connect(proxy)
    assert ask(connection, "/other")[0] == 200
    for _ in range(2):
        got, body, headers = ask(connection, "/v1/documents/render-jobs", method="POST", body=b"{}")
        assert got == status
        assert json.loads(body)["code"] == "SOME_CODE"
        assert headers["Content-Type"] == "application/problem+json"
        assert headers["Retry-After"] == "2"
    assert ask(connection, "/v1/documents/render-jobs", method="POST", body=b"{}")[0] == 202


def test_prepared_pages_and_odd_answers_come_in_order_and_heal_drops_them(proxy: FaultProxy) -> None:
    proxy.answer_next(page(502))
    proxy.answer_next(Answer(299, b"{", {"Content-Type": "application/json"}))
    proxy.answer_next(page(502), times=5)
    connection = connect(proxy)
    assert ask(connection)[:2] == (502, b"<!doctype html><title>Gateway</title>")
    assert ask(connection)[:2] == (299, b"{")
    proxy.heal()
    assert ask(connection)[0] == 200


def test_an_upstream_that_is_down_is_a_reset(upstream: Upstream) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with FaultProxy(f"127.0.0.1:{closed.getsockname()[1]}") as proxy:
            with pytest.raises(ConnectionResetError):
                ask(connect(proxy))
            proxy.apply(Faults(portal=b"page"))
            assert ask(connect(proxy))[:2] == (200, b"page")


def test_other_protocols_pass_as_bytes_both_ways() -> None:
    def echo(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=echo, args=(listener,))
        thread.start()
        with FaultProxy(f"127.0.0.1:{listener.getsockname()[1]}") as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as sock:
                sock.sendall(b"zINSTREAM\0\x00\x01GET is no request here")
                sock.shutdown(socket.SHUT_WR)
                got = b""
                while data := sock.recv(65536):
                    got += data
            assert got == b"zINSTREAM\0\x00\x01GET is no request here"
            assert proxy.counts().requests == 0
        thread.join()


async def test_it_serves_asynchronous_code_too(proxy: FaultProxy) -> None:
    proxy.answer_next(problem(503, "UNAVAILABLE"))
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 503")
    writer.close()


def test_it_stops_twice_and_frees_its_port_and_thread(upstream: Upstream) -> None:
    proxy = FaultProxy(f"127.0.0.1:{upstream.server_port}").start()
    port = proxy.port
    with pytest.raises(OSError, match="in use"), socket.create_server(("127.0.0.1", port)):
        pass
    ask(connect(proxy))
    proxy.stop()
    proxy.stop()
    with FaultProxy(f"127.0.0.1:{upstream.server_port}", port=port) as again:
        assert ask(connect(again))[0] == 200
    assert not [thread for thread in threading.enumerate() if thread.name == "fault-proxy"]
    with pytest.raises(RuntimeError, match="not started"):
        proxy.heal()


def test_an_upstream_without_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="its port"):
        FaultProxy("http://clinic.example")


# --- framing --------------------------------------------------------------------------------------------------

REQUESTS = (
    b"POST /a?b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n"
    b"PUT /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    b"DELETE /e HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
)


@given(st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=12))
def test_framing_does_not_depend_on_how_the_bytes_arrive(sizes: list[int]) -> None:
    splitter = MessageSplitter("request")
    parts: list[Part] = []
    position = turn = 0
    while position < len(REQUESTS):
        size = sizes[turn % len(sizes)]
        parts += splitter.feed(REQUESTS[position : position + size])
        position += size
        turn += 1
    assert [(part.method, part.target) for part in parts if isinstance(part, Head)] == [
        ("POST", "/a?b"),
        ("GET", "/c"),
        ("PUT", "/d"),
        ("DELETE", "/e"),
    ]
    assert sum(isinstance(part, End) for part in parts) == 4
    assert b"".join(part.raw for part in parts if not isinstance(part, End)) == REQUESTS


@given(st.sampled_from(["request", "response"]), st.binary(max_size=300))
def test_framing_never_loses_a_byte_of_anything(kind: str, noise: bytes) -> None:
    stream = noise + b"\r\n\r\n" + b"x" * 40
    splitter = MessageSplitter("request" if kind == "request" else "response")
    out = b"".join(part.raw for part in splitter.feed(stream) if not isinstance(part, End))
    assert stream.startswith(out)


def test_responses_without_a_body_are_known() -> None:
    stream = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
    )
    parts = list(MessageSplitter("response", deque(["HEAD", "GET", "GET"])).feed(stream))
    assert [part.status for part in parts if isinstance(part, Head)] == [100, 200, 304, 200]
    assert parts[-1] == Body(b"until the end")
    assert sum(isinstance(part, End) for part in parts) == 2
    assert list(MessageSplitter("response").feed(b"HTTP/1.1 101 Switching\r\n\r\n\x00raw"))[-1] == Opaque(b"\x00raw")
