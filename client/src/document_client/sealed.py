"""What other people left in their queues on this device when they signed out: counted, never read.

A request is sent only under the person who made it (contract §4), so that it waits, sealed, until that person signs in
here again. Whoever holds the device must be able to see that it does: nothing else would bring it to anybody's mind.
"""

from __future__ import annotations

from typing import Any

from . import requests
from .account import Account
from .errors import StorageProblem
from .localdb import open_sealed


def count_others(account: Account) -> dict[str, Any]:
    """Return how many people have requests waiting in sealed queues here, how many wait, and how many need a decision.

    A queue that cannot be opened is left out: the next sign-in of its owner sets it aside and says so.
    """
    people = pending = decisions = 0
    for path in sorted(account.home.glob("accounts/*/queue.db")):
        key = account.vault.key(f"queue/{path.parent.name}", create=False)
        if path.parent == account.folder or key is None:
            continue
        try:
            conn = open_sealed(path, key, requests.SCHEMA, durable=True)
        except StorageProblem:
            continue
        try:
            counts = requests.count_states(conn)
        finally:
            conn.close()
        waiting = sum(counts.get(state, 0) for state in requests.PENDING)
        undecided = sum(counts.get(state, 0) for state in requests.ATTENTION)
        people += bool(waiting or undecided)
        pending, decisions = pending + waiting, decisions + undecided
    return {"people": people, "pending": pending, "needDecision": decisions}
