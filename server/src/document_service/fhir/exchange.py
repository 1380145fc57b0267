"""One HTTP exchange with a tenant's FHIR server: bounded, without redirects, cookies or proxies.

The tenant's token goes to the tenant's own base address and nowhere else: an exchange takes only paths below it.
Proxies of the environment are not used, because a proxy would see the token of a server on plain HTTP; certificates
of a private authority are taken from ``SSL_CERT_FILE`` as everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import httpx2
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from document_service.errors import (
    FhirInvalid,
    FhirRefused,
    FhirUnavailable,
    RenderTooLarge,
    ServiceError,
)
from document_service.exact_json import dumps_exact, loads_exact
from document_service.fhir.compartment import address
from document_service.fhir.connections import Connections

_NO_ADDRESS = "The tenant's FHIR address is not an http:// or https:// address."

_HEADER = re.compile(r"[\x20-\x7e]+")

_JSON_TYPES = frozenset({"application/fhir+json", "application/json", "text/json", "application/json+fhir"})

# Answers after which the same request may succeed later (RFC 9110 §15, RFC 8470 for 425).
_MAY_PASS = frozenset({408, 425, 429})

# A server that asks for more patience than this is down as far as a waiting clinician is concerned.
_MAX_RETRY_AFTER_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a FHIR server's time and data one job may take. Times in seconds, sizes in bytes."""

    # A server on the clinic's network answers the handshake in milliseconds; three seconds span a satellite uplink.
    connect: float = 3.0
    # The longest silence inside an answer; a search over a large record took up to 2 s on a small HAPI server.
    silence: float = 10.0
    # The whole of a job's reading. Three attempts of it, with backoff, stay below two minutes.
    total: float = 15.0
    # One answer, and all answers of one job. A chart of 500 results is about 1 MB.
    answer_bytes: int = 10 * 1024 * 1024
    job_bytes: int = 20 * 1024 * 1024
    # Resources of one search. A table of more rows is a mistake in the template, not a form.
    resources: int = 2000
    pages: int = 40
    # Reads in flight beside each other where the server takes no batch (design §5: few parallel reads).
    parallel: int = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: its status and its JSON object, None when the body was not JSON."""

    status: int
    body: dict[str, Any] | None
    retry_after: str | None = None

    @property
    def outcome(self) -> bool:
        """Whether the body is the OperationOutcome of a FHIR server, or empty as some leave it."""
        return self.body == {} or (self.body is not None and self.body.get("resourceType") == "OperationOutcome")


class Exchange:
    """All exchanges of one job with one base address."""

    def __init__(self, connections: Connections, base_url: str, token: str | None, limits: Limits) -> None:
        """Raise FhirInvalid when ``base_url`` is not a plain http(s) address, or ``token`` fits in no header."""
        self._origin, self._path = _base(base_url)
        if token and not _HEADER.fullmatch(token):
            raise FhirInvalid("The tenant's FHIR token has a character that no HTTP header may have.")
        self.base_url = base_url.rstrip("/")
        self._connections = connections
        self._limits = limits
        self._received = 0
        self._headers = {
            "User-Agent": "document-service",
            "Accept": "application/fhir+json",
            # A compressed answer can unfold to any size before its bytes can be counted.
            "Accept-Encoding": "identity",
            # Without this a server may ignore a search parameter and answer with more than was asked for.
            "Prefer": "handling=strict",
        }
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    async def get(self, below: str, what: str) -> Answer:
        """GET the base address + ``below`` ("/Patient/1"); ``what`` names it in errors. Errors as in :meth:`_send`."""
        try:
            target = httpx2.URL(self.base_url + below).raw_path.decode("ascii")
        except httpx2.InvalidURL:
            raise FhirInvalid(_NO_ADDRESS) from None
        return await self._send("GET", target, self._headers, None, what)

    async def post(self, body: object, what: str) -> Answer:
        """POST a Bundle to the base address itself."""
        headers = self._headers | {"Content-Type": "application/fhir+json"}
        return await self._send("POST", self._path, headers, dumps_exact(body), what)

    def below_base(self, link: str) -> str | None:
        """Turn a link of an answer into what :meth:`get` takes; None when it leads away from the base address."""
        ours = address(self.base_url)
        try:
            absolute = urljoin(self.base_url + "/", link)
        except ValueError:
            return None
        theirs = address(absolute)
        if ours is None or theirs is None or theirs[:3] != ours[:3] or ".." in theirs[3]:
            return None
        if theirs[3] != ours[3] and not theirs[3].startswith(ours[3] + "/"):
            return None
        query = urlsplit(absolute).query
        path = theirs[3][len(ours[3]) :]
        return f"{path}?{query}" if query else path

    async def _send(
        self, method: str, target: str, headers: dict[str, str], content: bytes | None, what: str
    ) -> Answer:
        """Send and read to the end.

        Raises FhirUnavailable (no connection, silence, cut off), FhirInvalid (a success that is not JSON) and
        RenderTooLarge. A status that is not 2xx comes back as an Answer: what it means depends on the read.
        """
        # Encoded already: the path and its escapes go out as they were written.
        url = URL(self._origin + target, encoded=True)
        try:
            async with await self._connections.ask(method, url, headers, content) as response:
                return await self._receive(response, what)
        except TimeoutError:
            raise FhirUnavailable(f"{what}: the FHIR server did not answer in time.") from None
        except (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError):
            raise FhirUnavailable(f"{what}: the connection to the FHIR server failed.") from None

    async def _receive(self, response: aiohttp.ClientResponse, what: str) -> Answer:
        if len(response.headers.getall("Content-Length", ())) > 1:
            # The parser in C refuses it; the one in Python, on a machine without a wheel, takes one of them.
            raise aiohttp.ClientPayloadError
        raw = bytearray()
        async for piece in response.content.iter_any():
            self._received += len(piece)
            raw += piece
            if len(raw) > self._limits.answer_bytes or self._received > self._limits.job_bytes:
                raise RenderTooLarge(f"{what}: the FHIR server's answers are larger than a render takes.")
        kind = _header(response, "Content-Type").partition(";")[0].strip().lower()
        encoded = _header(response, "Content-Encoding").lower() not in ("", "identity")
        success = 200 <= response.status < 300
        body = None
        if kind in _JSON_TYPES and not encoded:
            body = _json_object(bytes(raw))
        elif not raw and not success:
            body = {}
        if success and body is None:
            raise FhirInvalid(f"{what}: the answer is not a JSON object of type application/fhir+json.")
        return Answer(response.status, body, response.headers.get("Retry-After"))


def _header(response: aiohttp.ClientResponse, name: str) -> str:
    """A header; one that comes twice is one list (RFC 9110 §5.2), empty when there is none."""
    return ", ".join(response.headers.getall(name, ()))


@lru_cache(maxsize=1024)  # A tenant has one; reading it costs as much as the rest of an exchange.
def _base(base_url: str) -> tuple[str, str]:
    """The base address as it is asked: scheme with host and port, and path."""
    parsed = address(base_url)
    if parsed is None or parsed[0] not in ("http", "https") or urlsplit(base_url).query:
        raise FhirInvalid(_NO_ADDRESS)
    try:
        url = httpx2.URL(base_url.rstrip("/"))
        origin = f"{parsed[0]}://{url.netloc.decode('ascii')}"
        # What names no host for aiohttp either ends here, without the exception that quotes it.
        if not URL(origin, encoded=True).raw_host:
            raise FhirInvalid(_NO_ADDRESS)
        return origin, url.raw_path.decode("ascii")
    except (httpx2.InvalidURL, ValueError):
        raise FhirInvalid(_NO_ADDRESS) from None


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        parsed = loads_exact(raw)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def require_success(answer: Answer, what: str, unknown: type[ServiceError]) -> dict[str, Any]:
    """Give the body of a success; raise what another status means, ``unknown`` for 404 and 410 of a FHIR server."""
    status = answer.status
    if 200 <= status < 300 and answer.body is not None:
        return answer.body
    if status in (401, 403):
        raise FhirRefused(f"{what}: the FHIR server answered {status}.")
    if status >= 500 or status in _MAY_PASS:
        after = answer.retry_after or ""
        usable = re.fullmatch(r"[0-9]{1,4}", after) and int(after) <= _MAX_RETRY_AFTER_SECONDS
        raise FhirUnavailable(
            f"{what}: the FHIR server answered {status}.", headers={"Retry-After": after} if usable else {}
        )
    # A 404 of a portal, a proxy or some other program must not read as "this patient does not exist".
    if status in (404, 410) and answer.outcome:
        raise unknown(f"{what}: the FHIR server answered {status}.")
    raise FhirInvalid(f"{what}: the FHIR server answered {status}.")
