"""Token buckets for the users and tenants of one process: a guard against a runaway client, not a billing meter."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from document_service.errors import TooManyRequests
from document_service.settings import Rate

#: Buckets that are remembered; the least recently used is forgotten, which only ever gives somebody a full one.
REMEMBERED = 10_000


class Throttle:
    """The buckets of one rate."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Take one request from the bucket of ``key``.

        Raises:
            TooManyRequests: it is empty; ``Retry-After`` says in how many seconds it will not be.
        """
        now = self._clock()
        left, since = self._buckets.pop(key, (self._rate.burst, now))
        left = min(self._rate.burst, left + (now - since) * self._rate.per_second)
        if left < 1:
            self._buckets[key] = (left, now)
            wait = math.ceil((1 - left) / self._rate.per_second)
            raise TooManyRequests(headers={"Retry-After": str(max(1, wait))})
        self._buckets[key] = (left - 1, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
