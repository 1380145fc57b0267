"""Several reads in one exchange where the server takes a batch, else beside each other.

Whether a server takes batches is learnt by trying, once an hour for each base address: a CapabilityStatement is
hundreds of kilobytes, and the ones that deny what the server does, or promise what it refuses, are many.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from document_service.errors import FhirInvalid, FhirUnavailable
from document_service.fhir.exchange import Answer, Exchange, Limits, require_success
from document_service.fhir.reads import Read

T = TypeVar("T")

# A server that took no batch is tried again after this long: it may have been upgraded.
RETRY_BATCH_SECONDS = 3600.0

# Addresses remembered, one a tenant; about 100 bytes each.
MAX_REMEMBERED = 10_000

# How servers without batch answer to a POST at their base address. 403 is a token that may read but not post.
_NO_BATCH = frozenset({400, 403, 404, 405, 406, 411, 413, 415, 422})

# Answers of a server that is to be left alone for a while; any other 5xx, and a connection that ends, may be how a
# server without batch takes a POST that it does not understand, so the reads are tried one by one before giving up.
_BUSY = frozenset({503})


class BatchReader:
    """Fetches groups of reads; remembers which base addresses take no batch."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Nothing is known of any server yet."""
        self._limits = limits
        self._monotonic = monotonic
        self._without_batch: OrderedDict[str, float] = OrderedDict()

    async def fetch(self, exchange: Exchange, reads: Sequence[Read]) -> list[Answer]:
        """Give the answer of each read, in their order; a refused read is an Answer with its own status."""
        if len(reads) > 1 and self._may_batch(exchange.base_url):
            answers = await self._together(exchange, reads)
            if answers is not None:
                return answers
            answers = await self._beside_each_other(exchange, reads)
            if any(answer.status < 500 for answer in answers):
                # Only a server that answers reads is one without batch; one that is down is asked for a batch again.
                self._remember(exchange.base_url)
            return answers
        return await self._beside_each_other(exchange, reads)

    async def _together(self, exchange: Exchange, reads: Sequence[Read]) -> list[Answer] | None:
        bundle = {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [{"request": {"method": "GET", "url": read.url}} for read in reads],
        }
        try:
            answer = await exchange.post(bundle, "batch")
        except FhirUnavailable:
            return None
        if answer.status in _NO_BATCH or (answer.status >= 500 and answer.status not in _BUSY):
            return None
        body = require_success(answer, "batch", FhirInvalid)
        entries = body.get("entry")
        if body.get("type") != "batch-response" or not isinstance(entries, list) or len(entries) != len(reads):
            raise FhirInvalid("batch: the answer is not a batch-response with one entry for each read.")
        return [_entry(entry) for entry in entries]

    async def _beside_each_other(self, exchange: Exchange, reads: Sequence[Read]) -> list[Answer]:
        calls = [partial(exchange.get, "/" + read.url, read.what) for read in reads]
        return await gather_few(self._limits.parallel, calls)

    def _may_batch(self, base_url: str) -> bool:
        tried = self._without_batch.get(base_url)
        return tried is None or self._monotonic() - tried > RETRY_BATCH_SECONDS

    def _remember(self, base_url: str) -> None:
        self._without_batch[base_url] = self._monotonic()
        self._without_batch.move_to_end(base_url)
        while len(self._without_batch) > MAX_REMEMBERED:
            self._without_batch.popitem(last=False)


async def gather_few(parallel: int, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Await ``calls``, at most ``parallel`` at a time; the first failure cancels the rest and is raised itself."""
    gate = asyncio.Semaphore(parallel)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _entry(entry: object) -> Answer:
    response = entry.get("response") if isinstance(entry, dict) else None
    status = response.get("status") if isinstance(response, dict) else None
    if not isinstance(entry, dict) or not isinstance(response, dict) or not isinstance(status, str):
        raise FhirInvalid("batch: an entry of the answer has no status.")
    # "200 OK": the code and a phrase (FHIR R4 Bundle.entry.response.status).
    code = status[:3]
    if not (code.isascii() and code.isdigit()) or status[3:4].strip():
        raise FhirInvalid("batch: an entry of the answer has no status.")
    resource = entry.get("resource")
    if code.startswith("2"):
        if not isinstance(resource, dict):
            raise FhirInvalid("batch: an entry of the answer has no resource.")
        return Answer(int(code), resource)
    return Answer(int(code), {})
