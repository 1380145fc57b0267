"""``documents sync --watch``: cycle after cycle, soon after new work and patient without a connection.

Between cycles the service is asked for changes and may take half a minute to answer (``wait``): one small round trip
for each half minute, and a revocation or a finished document is here within a second. The answer is handed to the next
cycle, which need not ask again. Where the service does not wait, or there is no connection, a cycle runs each minute.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from . import feed, requests
from .answers import Answer
from .errors import ClientError, EvidenceWaits, KeysChanged, Misconfigured, SignInNeeded

if TYPE_CHECKING:
    from .client import DocumentClient
    from .cycle import Report

# Nothing new costs one small round trip; a minute keeps a clinic's list and revocations fresh.
POLL_SECONDS = 60.0
# Contract §2: the service waits up to 30 s; networks cut silent connections after a minute or less.
LISTEN_SECONDS = 30
# A service that knows no waiting answers at once; twice this is longer than any answer takes to come.
_TOO_SOON_SECONDS = 2.0
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

    Errors that a person must mend end it (SignInNeeded, Misconfigured); others are told and waited out. Nobody signed
    in ends it too, once the evidence that was left here is sent.
    """
    done = 0
    listening = Listening(client)
    while cycles is None or done < cycles:
        done += 1
        reached = nobody = False
        try:
            report = client.sync(budget=budget, eager=False)
            reached = report.stopped is None
            tell(report, None)
        except (SignInNeeded, Misconfigured):
            raise
        except KeysChanged as failure:
            # The next cycle unlocks again, with the keyring or the passphrase that this program was started with.
            client.close()
            tell(None, failure)
            sleep(LOOK_SECONDS)
            continue
        except EvidenceWaits as failure:
            nobody = True
            tell(None, failure)
        except ClientError as failure:
            tell(None, failure)
        if nobody:
            # There is no queue to look at: what is left is evidence, and it is tried again.
            sleep(POLL_SECONDS)
        elif cycles is None or done < cycles:
            try:
                _wait_for_work(client, sleep, listening if reached else None)
            except ClientError as failure:
                # It is told by the next cycle too, if it lasts.
                tell(None, failure)
                sleep(LOOK_SECONDS)


class Listening:
    """One question for changes at a time, which the service may keep for ``LISTEN_SECONDS``, in a thread of its own."""

    def __init__(self, client: DocumentClient) -> None:
        """Ask nothing yet."""
        self._client = client
        self._thread: threading.Thread | None = None
        self._answered: tuple[str, Answer, float] | None = None
        self._waits = True
        self._rests = False

    def begin(self) -> None:
        """Ask, unless a question is open, the last one failed just now, or the service does not keep questions."""
        if not self._waits or (self._thread is not None and self._thread.is_alive()):
            return
        if self._rests:
            # What refuses this question may let the cycle's own pass: without a pause they would follow on each other.
            self._rests = False
            return
        account = self._client.account()
        cursor = feed.read_cursor(account.cache)
        if not cursor:
            return
        path = feed.ROUTE + quote(cursor, safe="") + feed.policy_mark(account.cache)
        connected = self._client._connected(account)
        self._answered = None

        def ask() -> None:
            began, asked = time.monotonic(), account.time.monotonic()
            with connected as connection:
                answer = connection.send("GET", f"{path}&wait={LISTEN_SECONDS}", read_seconds=2.0 * LISTEN_SECONDS)
            served = answer.status == 204 or (answer.status == 200 and isinstance(answer.body, dict))
            self._rests = not served
            if served and not _tells_something(answer) and time.monotonic() - began < _TOO_SOON_SECONDS:
                # It would be asked again and again without a pause.
                self._waits = False
            heard = account.time.monotonic()
            if heard - asked < 2.0 * LISTEN_SECONDS:
                # What took longer than it may may be from before a sleep.
                self._answered = (path, answer, heard)

        self._thread = threading.Thread(target=ask, name="listen-for-changes", daemon=True)
        self._thread.start()

    def hear(self) -> bool:
        """Return whether the service has answered; its answer then is what the next cycle reads."""
        if self._answered is None:
            return False
        self._client.account().heard, self._answered = self._answered, None
        return True


def _tells_something(answer: Answer) -> bool:
    kinds = ("revocations", "templates", "jobs", "documents")
    return isinstance(answer.body, dict) and any(answer.body.get(kind) for kind in kinds)


def _wait_for_work(client: DocumentClient, sleep: Callable[[float], None], listening: Listening | None) -> None:
    """Wait until the service has something to say, a request is due, or another program wrote to the queue.

    Without a service that answers: for the poll interval, jittered.
    """
    account = client.account()
    end = time.monotonic() + POLL_SECONDS * random.uniform(0.8, 1.2)
    with account.watched():
        seen = account.queue.pragma("data_version")
        if listening is not None:
            listening.begin()
        while time.monotonic() < end:
            sleep(LOOK_SECONDS)
            if listening is not None and listening.hear():
                return
            due = requests.next_due(account.queue)
            if due is not None and 0 < due <= account.clock().now:
                return
            if account.queue.pragma("data_version") != seen:
                return
