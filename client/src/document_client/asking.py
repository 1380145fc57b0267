"""When a run asked for what it is about to store, and what the device knew then.

Between an answer and its storing a device may sleep for days, and another program may store something newer. What is
stored is therefore dated by its question, and never takes the place of what came since.
"""

from __future__ import annotations

from collections.abc import Callable

from . import feed
from .account import Account
from .answers import Answer
from .errors import LeaseLost

# A page names every revocation up to now, and its Date is the server's time: an older one is not used any more.
HEARD_SECONDS = 5.0


class Questions:
    """The last question of each kind, by the monotonic clock, which counts sleep too; None when it is not known."""

    def __init__(self, account: Account) -> None:
        """Begin with nothing asked."""
        self._account = account
        self.changes: float | None = None
        # When the page of changes was here at the latest; what went by since is not in its Date.
        self.heard: float | None = None
        self.content: float | None = None
        self.listing: float | None = None
        self._pages = 0
        self._cursor = ""

    def ask_changes(self, path: str, send: Callable[[str], Answer]) -> Answer:
        """Return the page of changes that a watch has been waiting for, if it still holds, or ask for one."""
        now, waited, self._account.heard = self._account.time.monotonic(), self._account.heard, None
        self._pages = feed.read_pages(self._account.cache)
        if waited is not None and waited[0] == path and now - waited[2] < HEARD_SECONDS:
            # When a watch's question left is not known.
            self.changes, self.heard = None, waited[2]
            return waited[1]
        self.changes = now
        answer = send(path)
        self.heard = self._account.time.monotonic()
        return answer

    def ask_content(self) -> None:
        """The bytes of a document, or their confirmation, are asked for."""
        self.content = self._account.time.monotonic()

    def ask_listing(self) -> None:
        """The whole list of templates is asked for."""
        self.listing = self._account.time.monotonic()
        self._cursor = feed.read_cursor(self._account.cache)

    def begin_changes(self, asked_from: str) -> None:
        """Raise LeaseLost when another program has applied a page since this one was asked for.

        Its contact and its policy are newer than this page's: what the policy shortened must not grow again, also where
        it is what was in force before; and what it revoked stays revoked, also where no answer has a date.
        """
        feed.check_cursor(self._account.cache, asked_from)
        if feed.read_pages(self._account.cache) != self._pages:
            raise LeaseLost()
        feed.count_page(self._account.cache)

    def is_listing_overtaken(self) -> bool:
        """Return whether the feed was read on since the list was asked for: it knows changes that the list may lack."""
        return feed.read_cursor(self._account.cache) != self._cursor

    def born(self, asked: float | None) -> float:
        """Return when a life begins whose question left at ``asked``; what went by since, asleep too, is part of it.

        Inside the transaction that stores it: a reading before that may be older than another program's first contact,
        which was to end every life that began by it (docs/decisions/0111).
        """
        birth = self._account.clock().birth
        return birth if asked is None else birth - max(self._account.time.monotonic() - asked, 0.0)
