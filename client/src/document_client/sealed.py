"""What other people left in their queues on this device when they signed out: counted, never read.

A request is sent only under the person who made it (contract §4), so that it waits, sealed, until that person signs in
here again. Whoever holds the device must be able to see that it does: nothing else would bring it to anybody's mind.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from . import requests
from .account import Account, open_as_it_is, read_session
from .errors import ClientError, SignInNeeded
from .localdb import DAMAGE
from .vault import Unlocking, Vault, open_vault
from .words import sentence


def need_session(home: Path, unlocking: Unlocking) -> None:
    """Raise SignInNeeded where nobody is signed in; its detail says what waits here, when the keys need no question."""
    if read_session(home) is not None:
        return
    try:
        counts = _count(home, open_vault(home, replace(unlocking, ask=None)), None)
    except ClientError:
        raise SignInNeeded() from None
    raise SignInNeeded(sentence("sealed here", **counts) if counts["people"] else None)


def count_others(account: Account) -> dict[str, Any]:
    """Return how many people have requests waiting in sealed queues here, how many wait, and how many need a decision.

    A queue that cannot be opened is left out: the next sign-in of its owner sets it aside and says so.
    """
    return _count(account.home, account.vault, account.folder)


def _count(home: Path, vault: Vault, besides: Path | None) -> dict[str, Any]:
    people = pending = decisions = 0
    for path in sorted(home.glob("accounts/*/queue.db")):
        if path.parent == besides:
            continue
        conn = open_as_it_is(path, vault, f"queue/{path.parent.name}", requests.SCHEMA)
        if conn is None:
            continue
        try:
            counts = requests.count_states(conn)
        except DAMAGE:
            continue
        finally:
            conn.close()
        waiting = sum(counts.get(state, 0) for state in requests.PENDING)
        undecided = sum(counts.get(state, 0) for state in requests.ATTENTION)
        people += bool(waiting or undecided)
        pending, decisions = pending + waiting, decisions + undecided
    return {"people": people, "pending": pending, "needDecision": decisions}
