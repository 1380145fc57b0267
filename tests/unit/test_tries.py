"""The pauses between the tries of a job: wide, by chance, and what the server asked for."""

from __future__ import annotations

import pytest

from document_service.errors import FhirUnavailable
from document_service.render_jobs import BACKOFF, LONGEST_PAUSE, TRIES, pause_before_next


def test_each_pause_is_longer_and_no_two_jobs_keep_time() -> None:
    assert len(BACKOFF) == TRIES - 1
    first = {pause_before_next(FhirUnavailable(), 0).total_seconds() for _ in range(200)}
    second = {pause_before_next(FhirUnavailable(), 1).total_seconds() for _ in range(200)}
    assert 1.5 <= min(first) < max(first) <= 2.5
    assert 11.25 <= min(second) < max(second) <= 18.75
    assert min(len(first), len(second)) > 100


@pytest.mark.parametrize(
    ("asked", "seconds"), [("30", 30), ("9999", LONGEST_PAUSE), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("1", None)]
)
def test_a_server_is_given_the_time_that_it_asks_for(asked: str, seconds: float | None) -> None:
    pause = pause_before_next(FhirUnavailable(headers={"Retry-After": asked}), 0).total_seconds()
    assert pause == seconds if seconds is not None else 1.5 <= pause <= 2.5
