"""The connections to FHIR servers: aiohttp without what a general client does besides asking.

No redirects, cookies, proxies or decompression, and nothing that a server sends unasked: aiohttp would hand an answer
that waits on a kept connection to whoever asks next, and that would be another patient's
(docs/decisions/0067-fhir-servers-are-asked-by-aiohttp.md).
"""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import httpx2
from yarl import URL

#: An idle connection is given up after this many seconds: servers and firewalls close theirs after five or more, and
#: a request that meets a closed one has to be sent again.
KEEP_SECONDS = 4.5

#: Open connections in all; several times what the jobs in hand and their parallel reads make.
MOST = 100

#: Bytes of one header and of the first line, and headers of an answer. Servers send a few hundred bytes.
HEADER_BYTES = 8190
HEADERS = 128


class _Unanswered(aiohttp.ClientError):
    """The server closed the connection before its answer had begun."""


class Connections:
    """The open connections of a process, shared between tenants: a connection carries nothing from one to the next."""

    def __init__(self, connect: float, silence: float, keep: float = KEEP_SECONDS) -> None:
        """Open nothing yet; certificates are checked as everywhere. To be called in a running event loop.

        ``connect`` and ``silence`` are the seconds to wait for a connection and for the next bytes; ``keep`` those
        that an idle connection is kept.
        """
        # aiohttp's notes at DEBUG may hold addresses, which hold patient ids and search values.
        logging.getLogger("aiohttp").setLevel(logging.WARNING)
        context = httpx2.create_ssl_context()
        context.set_alpn_protocols(["http/1.1"])
        # The system's resolver also where another one is installed, and no memory of its own: a clinic's server moves.
        shared: dict[str, Any] = {"ssl": context, "limit": MOST, "use_dns_cache": False}
        timeout = aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence)
        kept = _Connector(resolver=aiohttp.ThreadedResolver(), keepalive_timeout=keep, **shared)
        fresh = _Connector(resolver=aiohttp.ThreadedResolver(), force_close=True, **shared)
        self._kept, self._fresh = _session(kept, timeout), _session(fresh, timeout)

    async def ask(
        self, method: str, url: URL, headers: dict[str, str], content: bytes | None
    ) -> aiohttp.ClientResponse:
        """Send a read, which may safely be sent twice, and give the answer once its head is there.

        Raises aiohttp's errors, and OSError or UnicodeError for a host that is none. What they say may hold the
        address and the token: nothing of it goes into an error or a log.
        """
        try:
            return await self._kept.request(method, url, headers=headers, data=content, allow_redirects=False)
        except _Unanswered:
            # The server gave a kept connection up in the moment that we used it.
            return await self._fresh.request(method, url, headers=headers, data=content, allow_redirects=False)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._kept.close()
        await self._fresh.close()


class _Connector(aiohttp.TCPConnector):
    """Connections on which nothing lies that was not asked for."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Give a connection; one on which the server has sent something already counts as one that it closed."""
        connection = await super().connect(req, traces, timeout)
        if connection.protocol is None or connection.protocol.should_close:
            connection.close()
            raise _Unanswered
        return connection


def _session(connector: aiohttp.TCPConnector, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        # Tenants may share a host: a session cookie of one must not travel with the next one's request.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        # A compressed answer can unfold to any size before its bytes can be counted.
        auto_decompress=False,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        max_headers=HEADERS,
        middlewares=(_without_retry,),
    )


async def _without_retry(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Name the error on which ``Connections`` asks again: aiohttp does it for GET only, on whichever connection."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        raise _Unanswered from None
