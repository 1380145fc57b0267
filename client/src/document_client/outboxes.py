"""Evidence that no session speaks for: the outboxes of tenants that nobody is signed in to here any more.

What was opened and printed before a sign-out must still reach the service: by the next session of the tenant, or by the
device's own signature without any (contract §2, §4). For that the vault keeps, sealed, where each outbox belongs. An
outbox that cannot be opened, read or sent is left as it is.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import audit
from . import effects as fx
from .account import Account, Session, open_as_it_is
from .answers import Answer
from .clock import TimeSource
from .cycle import Cycle
from .enrolment import was_ever_enrolled
from .errors import EvidenceNeedsSignIn, EvidenceSent, EvidenceWaits, SignInNeeded
from .evidence import signed_headers
from .http import Connection, Transport
from .localdb import DAMAGE, transaction
from .sync import send_evidence
from .vault import Vault


@dataclass(slots=True)
class Left:
    """How many records were sent by the device's signature, and how many wait for another time.

    ``unheard`` of those that wait belong to a service that never took this device: its signature says nothing there.
    """

    sent: int = 0
    waiting: int = 0
    unheard: int = 0


def note_outbox(vault: Vault, session: Session) -> None:
    """Keep for which tenant and which server the session's outbox is, so that it can be sent without a session."""
    name, content = f"outbox/{session.outbox_id}", {"server": session.server, "tenant": session.tenant}
    known = vault.key(name, create=False)
    if known is None or json.loads(known) != content:
        vault.put(name, json.dumps(content).encode())


def count_left(home: Path, vault: Vault) -> int:
    """Return how many records wait in all outboxes of this device."""
    return sum(_count(box, vault) or 0 for box in _find(home))


def count_unheard(home: Path, vault: Vault) -> int:
    """Return how many of those belong to a service that never took this device, and do not hear its signature."""
    return sum(_count(box, vault) or 0 for box in _find(home) if not was_ever_enrolled(vault, box.parent.name))


def find_unreadable(home: Path, vault: Vault) -> list[Path]:
    """Return the outboxes that cannot be read; each is set aside when somebody of its tenant signs in."""
    return [box for box in _find(home) if _count(box, vault) is None]


def send_left(
    home: Path, vault: Vault, time: TimeSource, transport: Transport | None, *, besides: str | None = None
) -> Left:
    """Send what waits in every outbox by the device's signature, but not in the one named ``besides``."""
    left = Left()
    for box in _find(home):
        if box.parent.name != besides and _count(box, vault):
            left.sent += _send(box, vault, time, transport)
            waiting = _count(box, vault) or 0
            left.waiting += waiting
            left.unheard += 0 if was_ever_enrolled(vault, box.parent.name) else waiting
    return left


def send_others(account: Account, transport: Transport | None) -> int:
    """Send what waits in the outboxes of other tenants than the session's; returns how many records went."""
    own = account.session.outbox_id
    return send_left(account.home, account.vault, account.time, transport, besides=own).sent


def send_without_session(home: Path, vault: Vault, time: TimeSource, transport: Transport | None) -> NoReturn:
    """Send what waits on a device where nobody is signed in, and raise EvidenceWaits, EvidenceSent or SignInNeeded.

    EvidenceNeedsSignIn, where all that waits is of a device that the service does not know.
    """
    left = send_left(home, vault, time, transport)
    if left.waiting and left.waiting == left.unheard:
        raise EvidenceNeedsSignIn(f"{left.waiting} wait, {left.sent} were sent")
    if left.waiting:
        raise EvidenceWaits(f"{left.waiting} wait, {left.sent} were sent")
    if left.sent:
        raise EvidenceSent(f"sent just now by this device's signature: {left.sent}")
    raise SignInNeeded()


def _find(home: Path) -> list[Path]:
    return sorted(home.glob("outboxes/*/audit.db"))


def _open(box: Path, vault: Vault) -> Any:
    return open_as_it_is(box, vault, f"audit/{box.parent.name}", audit.SCHEMA)


def _count(box: Path, vault: Vault) -> int | None:
    """Return how many records wait in an outbox; None when it cannot be read."""
    conn = _open(box, vault)
    if conn is None:
        return None
    try:
        return audit.count_states(conn).get("pending", 0)
    except DAMAGE:
        return None
    finally:
        conn.close()


def _send(box: Path, vault: Vault, time: TimeSource, transport: Transport | None) -> int:
    where = vault.key(f"outbox/{box.parent.name}", create=False)
    conn = _open(box, vault)
    if where is None or conn is None:
        return 0
    belongs = json.loads(where)
    cycle = Cycle(clock=time.wall, random=random.random)
    connection = Connection(belongs["server"], None, transport)
    steps = send_evidence(cycle)
    try:
        outcome: Any = None
        while True:
            outcome = _perform(steps.send(outcome), conn, vault, belongs["tenant"], connection)
    except (StopIteration, *DAMAGE):
        return cycle.report.events_sent
    finally:
        connection.close()
        conn.close()


def _perform(effect: fx.Effect, conn: Any, vault: Vault, tenant: str, connection: Connection) -> Any:
    if isinstance(effect, fx.ReadEvents):
        return fx.Offer(*audit.read_offer(conn))
    if isinstance(effect, fx.PostSigned):
        headers = signed_headers(vault, tenant, effect.content)
        answer: Answer = connection.send(
            "POST", effect.path, content=effect.content, headers=headers, authenticated=False
        )
        return answer
    assert isinstance(effect, fx.MarkEvents)
    with transaction(conn):
        return audit.mark(conn, effect.results, effect.offer)
