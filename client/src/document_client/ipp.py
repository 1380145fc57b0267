"""The small part of the Internet Printing Protocol that printing needs, encoded and carried by ourselves.

The wire form is RFC 8010 (encoding) over HTTP POST with ``application/ipp``; names and numbers of operations,
attributes and states are RFC 8011 and CUPS' own extensions. Nothing here writes a file: a document goes from
memory to the spooler's socket, which is why a library or a command with a temporary file is not used.

``encode`` and ``decode`` are pure. ``Spooler.call`` is the one place with input and output.
"""

from __future__ import annotations

import http.client
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Value = int | bool | str | bytes | None
Attributes = dict[str, list[Value]]

# Operation numbers: RFC 8011 section 5.4.15; the 0x4000 ones are CUPS' own.
CREATE_JOB: Final = 0x0005
SEND_DOCUMENT: Final = 0x0006
CANCEL_JOB: Final = 0x0008
GET_JOB_ATTRIBUTES: Final = 0x0009
GET_JOBS: Final = 0x000A
CUPS_GET_DEFAULT: Final = 0x4001
CUPS_GET_PRINTERS: Final = 0x4002

_UPGRADE_REQUIRED: Final = 426
NOT_FOUND: Final = 0x0406
# Statuses below this one are the successful ones (RFC 8011 appendix B.1.2).
FIRST_FAILURE: Final = 0x0100

# Value and delimiter tags: RFC 8010 section 3.5.
OPERATION_GROUP: Final = 0x01
JOB_GROUP: Final = 0x02
_END: Final = 0x03
PRINTER_GROUP: Final = 0x04
INTEGER: Final = 0x21
BOOLEAN: Final = 0x22
ENUM: Final = 0x23
NAME: Final = 0x42
KEYWORD: Final = 0x44
URI: Final = 0x45
_CHARSET: Final = 0x47
_LANGUAGE: Final = 0x48
MIME_TYPE: Final = 0x49
_BEGIN_COLLECTION: Final = 0x34
_END_COLLECTION: Final = 0x37
_WITH_LANGUAGE: Final = frozenset({0x35, 0x36})
# 0x10 to 0x1f say "no value", "unknown" or "unsupported" instead of one.
_OUT_OF_BAND: Final = range(0x10, 0x20)
_FIRST_STRING: Final = 0x40

# A spooler with a thousand printers answers about 500 KB to the few attributes that we ask for.
_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
# One socket write of this size keeps a large document from being copied as a whole.
_PIECE_BYTES: Final = 64 * 1024


class IppError(Exception):
    """The spooler was not reached, or answered something that is no IPP. The text names no document."""


class SpoolerRefused(IppError):
    """The spooler wants something that we do not speak: encryption, or a password (``status`` 401, 403, 426)."""

    def __init__(self, status: int) -> None:
        """Keep the HTTP ``status`` of the refusal."""
        super().__init__(f"the spooler answered HTTP {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One operation: its number, operation attributes and job attributes as (tag, name, value)."""

    operation: int
    attributes: tuple[tuple[int, str, Value], ...]
    job_attributes: tuple[tuple[int, str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A decoded answer: the IPP status and its groups in order, each with its delimiter tag."""

    status: int
    groups: list[tuple[int, Attributes]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the operation was carried out (RFC 8011 appendix B)."""
        return self.status < FIRST_FAILURE

    def of(self, group: int) -> list[Attributes]:
        """All groups with this delimiter tag, such as one for each printer."""
        return [attributes for tag, attributes in self.groups if tag == group]


def encode(request: Request, request_id: int = 1) -> bytes:
    """Write one request in the wire form of RFC 8010, version 2.0, without document data."""
    out = bytearray(struct.pack(">BBHI", 2, 0, request.operation, request_id))
    out.append(OPERATION_GROUP)
    # Charset and language must come first and in this order (RFC 8011 section 4.1.4).
    out += _attribute(_CHARSET, "attributes-charset", "utf-8")
    out += _attribute(_LANGUAGE, "attributes-natural-language", "en")
    out += b"".join(_attributes(request.attributes))
    if request.job_attributes:
        out.append(JOB_GROUP)
        out += b"".join(_attributes(request.job_attributes))
    out.append(_END)
    return bytes(out)


def _attributes(attributes: tuple[tuple[int, str, Value], ...]) -> Iterator[bytes]:
    """Write attributes; one that repeats its predecessor's name becomes a further value of it."""
    previous = ""
    for tag, name, value in attributes:
        yield _attribute(tag, "" if name == previous else name, value)
        previous = name


def _attribute(tag: int, name: str, value: Value) -> bytes:
    if isinstance(value, bool):
        raw = struct.pack(">B", value)
    elif isinstance(value, int):
        raw = struct.pack(">i", value)
    elif isinstance(value, str):
        raw = value.encode()
    else:
        raw = value or b""
    label = name.encode()
    return struct.pack(">BH", tag, len(label)) + label + struct.pack(">H", len(raw)) + raw


def decode(data: bytes) -> Response:
    """Read an answer of the spooler.

    Raises:
        IppError: when the bytes are cut short or are no IPP.
    """
    try:
        return _decode(data)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise IppError("the spooler's answer is no IPP") from error


def _decode(data: bytes) -> Response:
    major, _minor, status, _request_id = struct.unpack_from(">BBHI", data)
    if major not in (1, 2):
        raise IppError("the spooler's answer is no IPP")
    response = Response(status)
    position = 8
    values: list[Value] = []
    depth = 0
    while True:
        tag = data[position]
        position += 1
        if tag == _END:
            return response
        if tag < 0x10:
            response.groups.append((tag, {}))
            continue
        (length,) = struct.unpack_from(">H", data, position)
        name = data[position + 2 : position + 2 + length].decode()
        position += 2 + length
        (length,) = struct.unpack_from(">H", data, position)
        raw = data[position + 2 : position + 2 + length]
        position += 2 + length
        if len(raw) != length:
            raise IppError("the spooler's answer was cut short")
        # Collections (media sizes and the like) are skipped: nothing that printing asks for is one.
        depth += (tag == _BEGIN_COLLECTION) - (tag == _END_COLLECTION)
        if depth or tag == _END_COLLECTION:
            continue
        if name:
            values = response.groups[-1][1].setdefault(name, [])
        values.append(_value(tag, raw))


def _value(tag: int, raw: bytes) -> Value:
    if tag in _OUT_OF_BAND:
        return None
    if tag in (INTEGER, ENUM):
        return int(struct.unpack(">i", raw)[0])
    if tag == BOOLEAN:
        return raw != b"\x00"
    if tag in _WITH_LANGUAGE:
        (language,) = struct.unpack_from(">H", raw)
        return raw[4 + language :].decode()
    return raw.decode() if tag >= _FIRST_STRING else raw


@dataclass(frozen=True, slots=True)
class Spooler:
    """Where the spooler listens: the path of a domain socket, or a host and port.

    ``must_encrypt``: this machine's settings allow nothing in the clear to a port; what a domain socket carries stays
    on the machine.
    """

    socket_path: Path | None = None
    host: str = "localhost"
    port: int = 631
    must_encrypt: bool = False

    def call(self, path: str, request: Request, *, document: bytes = b"", timeout: float) -> Response:
        """Send one operation to the resource ``path``, with ``document`` behind it, and read the answer.

        ``timeout`` is seconds for each wait on the socket.

        Raises:
            SpoolerRefused: HTTP 401, 403 or 426, or ``must_encrypt``; nothing was carried out.
            IppError: no connection, a time-out, or an answer that is no IPP.
        """
        if self.must_encrypt and self.socket_path is None:
            raise SpoolerRefused(_UPGRADE_REQUIRED)
        status, body = self._post(path, encode(request), document, {}, timeout)
        if status == 401 and self.socket_path is not None:
            # CUPS knows who is at the other end of a domain socket; the name only has to be said.
            user = {"Authorization": f"PeerCred {user_name()}"}
            status, body = self._post(path, encode(request), document, user, timeout)
        if status in (401, 403, _UPGRADE_REQUIRED):
            raise SpoolerRefused(status)
        if status != 200:
            raise IppError(f"the spooler answered HTTP {status}")
        return decode(body)

    def _post(
        self, path: str, head: bytes, document: bytes, headers: dict[str, str], timeout: float
    ) -> tuple[int, bytes]:
        connection = self._connection(timeout)
        try:
            connection.request(
                "POST",
                path,
                body=_pieces(head, document),
                headers={
                    "Content-Type": "application/ipp",
                    "Content-Length": str(len(head) + len(document)),
                    "Connection": "close",
                    **headers,
                },
            )
            answer = connection.getresponse()
            body = answer.read(_MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise IppError(f"no answer from the spooler ({type(error).__name__})") from error
        finally:
            connection.close()
        if len(body) > _MAX_ANSWER_BYTES:
            raise IppError("the spooler's answer is too long")
        return answer.status, body

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.socket_path is not None:
            return _DomainSocketConnection(self.socket_path, timeout)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)


class _DomainSocketConnection(http.client.HTTPConnection):
    """HTTP over a domain socket; CUPS wants ``localhost`` as the host there."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _pieces(head: bytes, document: bytes) -> Iterator[bytes]:
    yield head
    for start in range(0, len(document), _PIECE_BYTES):
        yield document[start : start + _PIECE_BYTES]


def user_name() -> str:
    """The operating system's name of who runs this process; CUPS compares it for "my own job"."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
