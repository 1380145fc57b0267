"""Status is derived, never remembered: five facts, two sentences, and what the device holds (contract §4)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from . import audit, cache, feed, requests, sealed, withdrawals
from .account import Account, find_set_aside
from .clock import to_text
from .recovery import count_undecided


@dataclass(frozen=True, slots=True)
class Status:
    """The five facts, whether the two sentences hold, and the state of cache, clock and audit outbox.

    ``taken_back``: how many of the quarantined need no decision, only a sync that asks whether they had arrived.
    ``recovered``: how many of them came back from a file that was set aside; the service has refused none of those.
    ``sealed``: what other people left on this device, which only they can send.
    """

    pending: int
    quarantined: int
    taken_back: int
    recovered: int
    failed: int
    last_attempt: str | None
    last_success: str | None
    everything_sent: bool
    everything_received: bool
    acknowledged: int
    last_stop: str | None
    cache: dict[str, Any]
    clock: dict[str, Any]
    audit: dict[str, Any]
    sealed: dict[str, Any]
    set_aside: list[str]
    notices: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return the status as the ``--json`` output shows it."""
        return {_camel(name): value for name, value in asdict(self).items()}


def read_status(account: Account) -> Status:
    """Return the status of the signed-in user's work on this device; no network, nothing written but the clock."""
    with account.watched():
        counts = requests.count_states(account.queue)
        pending = sum(counts.get(state, 0) for state in requests.PENDING)
        quarantined, failed = counts.get("quarantined", 0), counts.get("failed", 0)
        acknowledged = counts.get("acknowledged", 0)
        if acknowledged:
            # A document that can never fit here is not on its way: it needs a decision.
            oversized = list(cache.read_oversized(account.cache, account.policy()))
            stuck = requests.count_awaiting(account.queue, oversized)
            acknowledged, failed = acknowledged - stuck, failed + stuck
        events = audit.count_states(account.audit)
        return Status(
            pending=pending,
            quarantined=quarantined,
            taken_back=len(withdrawals.read_unsettled(account.queue)),
            recovered=count_undecided(account.queue),
            failed=failed,
            last_attempt=_instant(requests.read_fact(account.queue, "last_attempt")),
            last_success=_instant(requests.read_fact(account.queue, "last_success")),
            everything_sent=pending == 0 and quarantined == 0,
            everything_received=acknowledged == 0 and failed == 0,
            acknowledged=acknowledged,
            last_stop=requests.read_fact(account.queue, "last_stop"),
            cache=_read_cache(account),
            clock=_read_clock(account),
            audit={"pending": events.get("pending", 0), "refused": events.get("refused", 0)},
            sealed=sealed.count_others(account),
            set_aside=find_set_aside(account.home),
            notices=list(account.notices),
        )


def _read_cache(account: Account) -> dict[str, Any]:
    reading, policy = account.clock(), account.policy()
    locked = account.is_locked(reading, policy)
    entries = cache.read_entries(account.cache)
    states = [entry.state(policy, reading.now, locked=locked) for entry in entries]
    expiries = [
        expires
        for entry, state in zip(entries, states, strict=True)
        if state == "available" and (expires := entry.expires_at(policy)) is not None
    ]
    contact, _ = feed.read_contact(account.cache)
    return {
        "documents": states.count("available"),
        "expired": states.count("expired"),
        "waiting": states.count("waiting"),
        "bytes": cache.count_bytes(account.cache),
        "quotaBytes": policy.quota,
        "nextExpiry": to_text(min(expiries)) if expiries else None,
        "ttlSeconds": policy.ttl,
        "locked": locked,
        "locksAt": to_text(contact.server_time + policy.lease) if contact else None,
        "policyProblem": feed.read_policy_problem(account.cache),
    }


def _read_clock(account: Account) -> dict[str, Any]:
    reading = account.clock()
    contact, _ = feed.read_contact(account.cache)
    return {
        "now": to_text(reading.now),
        "device": to_text(account.time.wall()),
        "confidence": reading.confidence,
        "lastContact": to_text(contact.server_time) if contact else None,
    }


def _instant(text: str | None) -> str | None:
    return to_text(float(text)) if text else None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
