"""How soon a planted bug is found."""

from __future__ import annotations

from collections import Counter

from .arena import arena
from .planted import BUGS, planted
from .seed import run_seed

#: A bug that a thousand schedules do not show would need luck to be found at all.
MOST_SEEDS = 1000


def find(name: str, first: int = 0, most: int = MOST_SEEDS) -> tuple[int, str] | None:
    """Return (how many seeds it took, the promise that broke) or None."""
    stats: Counter[str] = Counter()
    with arena(), planted(name):
        for number in range(most):
            broken = run_seed(first + number, stats).broken
            if broken is not None:
                return number + 1, broken
    return None


def find_all(first: int = 0) -> dict[str, tuple[int, str] | None]:
    """Search for every planted bug."""
    return {name: find(name, first) for name in BUGS}
