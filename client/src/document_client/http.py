"""The network's edge: one keep-alive HTTP/1.1 connection, no retry of its own, and what came back as a plain value.

Nothing here raises for what a network does: an ``Answer`` says whether there was one and what it was. Redirects are
followed on the same origin only; credentials never go anywhere else. What an answer means is judged in ``reactions``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from . import __version__
from .answers import Answer, Transfer
from .errors import ServerAddressWrong

CONNECT_SECONDS = 10.0
# A render request is answered in milliseconds; thirty seconds cover a 64 kbit/s link with a full upload queue.
READ_SECONDS = 30.0
# A page of changes or a template's definition; a larger "JSON" answer is not one of ours.
MAX_JSON_BYTES = 16 * 1024 * 1024
_MAX_REDIRECTS = 3
# The seam at which tests put a model of a server.
Transport = httpx2.BaseTransport


class Connection:
    """A connection to one server. ``transport`` is the seam at which tests put a model server."""

    def __init__(
        self,
        server: str,
        token: str | None,
        transport: httpx2.BaseTransport | None = None,
        *,
        device_id: str | None = None,
        renew: Callable[[str], str | None] | None = None,
    ) -> None:
        """Prepare to talk to ``server`` (an http or https URL, a path is kept); raises ServerAddressWrong.

        ``device_id`` goes where the token goes: the service answers a revoked device so that it purges its copies.
        ``renew`` is given the token that was refused and returns a newer one, or None.
        """
        self.server = normalize_address(server)
        self._token = token
        self._renew = renew
        self._device_id = device_id
        host = urlsplit(self.server).hostname or ""
        self._client = httpx2.Client(
            transport=transport,
            # A proxy of the environment never stands between this machine and itself.
            trust_env=not (host == "localhost" or host.startswith("127.") or host == "::1"),
            http2=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            headers={"User-Agent": f"document-client/{__version__}"},
        )
        # Every byte of an empty answer's request counts on a slow link: keeping the connection is HTTP/1.1's default,
        # any media type is what no Accept means, and the service compresses by gzip alone.
        for name in ("Connection", "Accept"):
            del self._client.headers[name]
        self._client.headers["Accept-Encoding"] = "gzip"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def renew(self) -> bool:
        """Go on with a newer token; returns whether there is one. The token is asked for at the issuer, not here."""
        newer = self._renew(self._token) if self._renew and self._token else None
        self._token = newer or self._token
        return newer is not None

    def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        authenticated: bool = True,
        read_seconds: float = READ_SECONDS,
    ) -> Answer:
        """Make one exchange and return what came back."""
        sent = dict(headers or {})
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            with self._exchange(method, path, content, sent, authenticated, read_seconds) as response:
                if isinstance(response, Answer):
                    return response
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > MAX_JSON_BYTES:
                        return Answer("answer", response.status_code, _lower(response), detail="too large")
                return _as_answer(response, bytes(body))
        except _FAILURES as failure:
            return _as_failure(failure)

    def download(
        self, url: str, *, offset: int, size: int, etag: str, have_all: bool, keep: Callable[[int, bytes], None]
    ) -> Transfer:
        """Fetch the bytes at a signed ``url`` from ``offset`` on, handing pieces to ``keep(start, bytes)`` in order.

        ``etag`` is the SHA-256 that the whole must have: ``If-Range`` makes a changed document start again, and
        ``have_all`` asks only whether it is still the same (``If-None-Match``). No bearer token is sent. More
        bytes than ``size`` are not the document's: what sends them without end must not fill the disk.
        """
        headers = {"Accept-Encoding": "identity"}
        if have_all:
            headers["If-None-Match"] = f'"{etag}"'
        elif offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": f'"{etag}"'}
        received = 0
        try:
            with self._exchange("GET", url, None, headers, False, READ_SECONDS) as response:
                if isinstance(response, Answer):
                    return Transfer("answered", answer=response)
                status = response.status_code
                if status == 304 and have_all:
                    return Transfer("confirmed")
                if status == 416:
                    return Transfer("restart")
                if status not in (200, 206) or "html" in response.headers.get("content-type", ""):
                    return Transfer("answered", answer=_as_answer(response, response.read()[:MAX_JSON_BYTES]))
                start = offset if status == 206 else 0
                if status == 206 and not _continues(response.headers.get("content-range", ""), offset):
                    return Transfer("restart")
                for piece in response.iter_bytes():
                    received += len(piece)
                    if start + len(piece) > size:
                        return Transfer("restart", received)
                    keep(start, piece)
                    start += len(piece)
            return Transfer("complete", received)
        except _FAILURES as failure:
            return Transfer("cut", received, _as_failure(failure))

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: dict[str, str],
        authenticated: bool,
        read_seconds: float,
    ) -> Iterator[httpx2.Response | Answer]:
        url = urljoin(self.server + "/", path.lstrip("/")) if "://" not in path else path
        if authenticated and self._token and same_origin(url, self.server):
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
            if self._device_id:
                headers["X-Device-Id"] = self._device_id
        timeout = httpx2.Timeout(read_seconds, connect=CONNECT_SECONDS)
        for _ in range(_MAX_REDIRECTS + 1):
            with self._client.stream(method, url, content=content, headers=headers, timeout=timeout) as response:
                if response.status_code not in (301, 302, 303, 307, 308):
                    yield response
                    return
                target = _target(url, response.headers.get("location", ""))
                # 301 to 303 would turn a POST into a GET: such an answer is a portal's, not ours.
                if not same_origin(target, url) or (response.status_code < 307 and method not in ("GET", "HEAD")):
                    yield Answer("elsewhere", response.status_code, detail=urlsplit(target).hostname or "")
                    return
            url = target
        yield Answer("elsewhere", detail="too many redirects")


_FAILURES = (httpx2.TransportError, httpx2.InvalidURL, httpx2.DecodingError, ssl.SSLError, OSError)


def _target(url: str, location: str) -> str:
    """Return where a redirect leads; nowhere, when that is no address at all."""
    try:
        target = urljoin(url, location)
        _origin(target)
    except ValueError:
        return ""
    return target


def normalize_address(server: str) -> str:
    """Return the server's URL without a trailing slash; raises ServerAddressWrong."""
    try:
        parts = urlsplit(server.strip())
        # What is no name and no number for a port is found here, and not by whoever connects to it.
        _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        raise ServerAddressWrong(f"{server!r} is not an http or https URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ServerAddressWrong(f"{server!r} is not an http or https URL")
    return server.strip().rstrip("/")


def same_origin(left: str, right: str) -> bool:
    """Return whether two URLs have the same scheme, host and port."""
    return _origin(left) == _origin(right)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default


def _continues(content_range: str, offset: int) -> bool:
    unit, _, rest = content_range.partition(" ")
    return unit == "bytes" and rest.split("-", 1)[0] == str(offset)


def _lower(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _as_answer(response: httpx2.Response, body: bytes) -> Answer:
    import json

    headers = _lower(response)
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    parsed: Any = None
    is_json = kind == "application/json" or kind.endswith("+json")
    if is_json and body:
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            is_json = False
    return Answer("answer", response.status_code, headers, parsed, is_json)


def _as_failure(failure: Exception) -> Answer:
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return Answer("tls", detail=type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    # Only the class: the text of an exception may hold the URL, and a signed URL must not reach a log.
    return Answer("no_connection", detail=type(failure).__name__)
