"""Token buckets: fifty at once pass, a flood does not, and the wait that is told is enough."""

from __future__ import annotations

import pytest

from document_service.errors import TooManyRequests
from document_service.settings import Rate, Settings
from document_service.throttle import Throttle


def test_a_burst_passes_and_the_next_waits_as_long_as_it_is_told() -> None:
    now = [0.0]
    throttle = Throttle(Rate(3, 0.5), clock=lambda: now[0])
    for _ in range(3):
        throttle.take("nurse")
    with pytest.raises(TooManyRequests) as refused:
        throttle.take("nurse")
    assert refused.value.headers == {"Retry-After": "2"}
    throttle.take("doctor")
    now[0] += 2
    throttle.take("nurse")


def test_fifty_identical_posts_at_once_are_within_the_users_rate() -> None:
    throttle = Throttle(Settings().user_rate, clock=lambda: 0.0)
    for _ in range(50):
        throttle.take("nurse")
