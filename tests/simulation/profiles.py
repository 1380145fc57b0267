"""What a seed is like: which faults it knows and how often, who works on the device, what people do.

A seed that knew every fault all the time would meet none of them in depth; each takes one of a thousand profiles,
drawn once with a fixed seed, in which some faults are frequent and most are absent (swarm testing).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate

from . import network

#: Moves and how often they are made when a profile has them.
MOVES: dict[str, float] = {
    "ask": 2.2,
    "run": 5.0,
    "time": 1.2,
    "look": 0.8,
    "open": 0.5,
    "mode": 0.4,
    "mend_mode": 0.6,
    "clock": 0.3,
    "slip": 0.06,
    "reboot": 0.1,
    "restore": 0.5,
    "restore_unnoticed": 0.1,
    "announce": 0.1,
    "backup": 0.25,
    "revoke": 0.2,
    "retire": 0.06,
    "publish": 0.1,
    "work": 0.4,
    "lazy_server": 0.15,
    "break_patient": 0.15,
    "mend_patient": 0.2,
    "attend": 0.5,
    "take_back": 0.3,
    "switch": 0.25,
    "sign_out": 0.1,
    "lose_cache": 0.08,
    "power_copy": 0.12,
    "power_cut": 0.15,
    "token": 0.2,
    "policy": 0.12,
    "device_revoked": 0.06,
    "device_trusted": 0.1,
    "belated": 0.3,
    "sleep": 0.15,
    "print": 0.15,
    "shorten": 0.03,
    "disaster": 0.05,
    "hand_over": 0.1,
    "recall": 0.12,
    "forgotten": 0.04,
    "astray": 0.08,
    "second_thoughts": 0.1,
    "crowd": 0.06,
    "dismissal": 0.06,
    "overtaken": 0.16,
    "lid": 0.1,
}
#: The moves of a tenant whose policy says what comes before anybody asks.
BEFOREHAND: dict[str, float] = {"rule": 0.4, "colleague": 0.8, "ward": 3.0, "replace": 0.2}
ALWAYS = (
    "ask",
    "run",
    "time",
    "look",
    "work",
    "attend",
    "mend_mode",
    "device_trusted",
    "mend_patient",
    "backup",
    "power_copy",
)
#: Some seeds are about one thing: their moves are frequent, and crashes rare enough to let them happen.
THEMES: dict[str, dict[str, float]] = {
    "anything": {},
    "clock": {
        "clock": 1.6,
        "slip": 0.4,
        "shorten": 0.3,
        "astray": 0.4,
        "lid": 0.4,
        "time": 2.0,
        "look": 2.5,
        "policy": 1.2,
        "reboot": 0.2,
        "run": 6.0,
    },
    "restore": {"restore": 1.0, "disaster": 0.4, "backup": 0.6, "open": 0.8, "attend": 0.6, "run": 7.0, "ask": 2.5},
    "device": {"device_revoked": 0.5, "recall": 0.5, "open": 1.0, "print": 0.6, "look": 1.0, "run": 6.0},
    "people": {"switch": 1.0, "hand_over": 1.0, "open": 0.6, "run": 6.0, "ask": 3.0},
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of seed. Rates are probabilities for each exchange and for each effect."""

    users: tuple[tuple[str, str], ...]
    fault_rate: float
    crash_rate: float
    other_rate: float
    menu: tuple[str, ...]
    lookup_rate: float
    feed_rate: float
    bytes_rate: float
    batch_rate: float
    beforehand_rate: float
    batching: bool
    older_service: bool
    bytes_menu: tuple[str, ...]
    moves: tuple[str, ...]
    weights: tuple[float, ...]
    steps: int


def make(dice: random.Random, number: int) -> Profile:
    """Draw a profile; one of four has prefetch rules, by dice of their own, for the others stay what they are."""
    name = dice.choice(("anything", "anything", "anything", "clock", "clock", "restore", "restore", "device", "people"))
    theme = THEMES[name]
    chosen = [move for move in MOVES if move in ALWAYS or move in theme or dice.random() < 0.4]
    weights = [theme.get(move, MOVES[move]) * dice.choice((0.5, 1.0, 1.0, 2.0)) for move in chosen]
    ward = random.Random(number).random() < 0.25
    if ward:
        chosen += BEFOREHAND
        weights += BEFOREHAND.values()
    users = [("clinic", "a")]
    if dice.random() < (0.8 if name == "people" else 0.3):
        users.append(dice.choice((("clinic", "b"), ("clinic", "b"), ("other", "a"))))
    total = sum(weights)
    return Profile(
        users=tuple(users),
        fault_rate=dice.choice((0.05, 0.15, 0.15, 0.3) if name in ("anything", "people") else (0.0, 0.04, 0.1)),
        crash_rate=dice.choice((0.0, 0.02, 0.05, 0.1) if name in ("anything", "people") else (0.0, 0.01, 0.04)),
        other_rate=1.0,
        menu=tuple(dice.sample(network.EXCHANGES, dice.randint(2, 8))),
        lookup_rate=dice.choice((0.2, 0.4, 0.8)),
        feed_rate=dice.choice((0.0, 0.0, 0.15)),
        batch_rate=dice.choice((0.0, 0.1, 0.4)),
        beforehand_rate=0.35 if ward else 0.0,
        batching=dice.random() < 0.6,
        older_service=dice.random() < 0.1,
        bytes_rate=dice.choice((0.0, 0.2, 0.5)),
        bytes_menu=tuple(dice.sample(("offline", "tls", "lost answer", *network.BYTES), dice.randint(1, 5))),
        moves=tuple(chosen),
        weights=tuple(value / total for value in accumulate(weights)),
        steps=dice.choice((40, 40, 50, 60)),
    )


_dice = random.Random(20261122)
PROFILES = tuple(make(_dice, number) for number in range(1000))
