"""Token buckets for the users and tenants of one process: a guard against a runaway client, not a billing meter."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from document_service.errors import TooManyRequests

#: Buckets that are remembered; the least recently used is forgotten, which only ever gives somebody a full one.
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` requests at once, then ``per_second``."""

    burst: float
    per_second: float


#: A device replays its queue in one go, fifty identical posts at once are within the contract, and an integration
#: may keep twenty renders under way; nobody at a keyboard comes near either figure.
USER_RATE = Rate(1000, 200)

#: Several integrations and a hundred devices of one organisation.
TENANT_RATE = Rate(5000, 1000)

#: The public verification page, by address: a person with a phone looks at a handful of papers.
PUBLIC_RATE = Rate(30, 0.5)


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
