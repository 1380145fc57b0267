"""``documents sync --watch``: cycle after cycle, soon after new work and patient without a connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import requests
from .errors import ClientError, Misconfigured, SignInNeeded

if TYPE_CHECKING:
    from .client import DocumentClient
    from .cycle import Report

# Nothing new costs one small round trip; a minute keeps a clinic's list and revocations fresh.
POLL_SECONDS = 60.0
# How soon work that another program queues is noticed.
LOOK_SECONDS = 1.0

Tell = Callable[["Report | None", "ClientError | None"], object]


def watch(
    client: DocumentClient,
    tell: Tell,
    *,
    budget: int | None = None,
    cycles: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Sync until interrupted (or ``cycles`` times).

    Errors that a person must mend end it (SignInNeeded, Misconfigured); others are told and waited out.
    """
    done = 0
    while cycles is None or done < cycles:
        done += 1
        try:
            report = client.sync(budget=budget, eager=False)
            tell(report, None)
        except (SignInNeeded, Misconfigured):
            raise
        except ClientError as failure:
            tell(None, failure)
        if cycles is None or done < cycles:
            _wait_for_work(client, sleep)


def _wait_for_work(client: DocumentClient, sleep: Callable[[float], None]) -> None:
    """Wait for the poll interval (jittered), until a request is due, or until another program wrote to the queue."""
    account = client.account()
    end = time.monotonic() + POLL_SECONDS * random.uniform(0.8, 1.2)
    seen = account.queue.pragma("data_version")
    while time.monotonic() < end:
        sleep(LOOK_SECONDS)
        due = requests.next_due(account.queue)
        if due is not None and 0 < due <= account.clock().now:
            return
        if account.queue.pragma("data_version") != seen:
            return
