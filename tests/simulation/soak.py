"""Many seeds on every core, each run twice; then what was met, how often, and how fast.

The second run of a seed happens in the same process with everything made anew: its trace must be the same. That it is
the same in another process, with other hash seeds, is a test of its own.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .arena import arena
from .seed import LEAST_FAULTS, LEAST_STEPS, run_seed

#: Seeds given to a worker at once: half a second of work, so that a time limit is kept and counting costs nothing.
CHUNK = 500
#: More failures say nothing more; the first are what somebody looks at.
MOST_SHOWN = 10
_LIST_SOURCES = f"""import sys, {__name__}
for name in sorted(sys.modules):
    source = getattr(sys.modules[name], "__file__", None)
    if source and name.partition(".")[0] in ("document_client", "tests"):
        # A compiled module lies beside what it was made from, which is what counts.
        folder, _, file = source.rpartition("/")
        print(folder + "/" + file.partition(".")[0] + ".py")
"""


@dataclass(slots=True)
class Tally:
    """What a run of seeds came to."""

    seeds: int = 0
    steps: int = 0
    faults: int = 0
    cpu: float = 0.0
    stats: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count another worker's seeds in."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.faults += other.faults
        self.cpu += other.cpu
        self.stats.update(other.stats)
        self.broken += other.broken

    def plus(self, other: Tally) -> Tally:
        """Return the sum of two."""
        total = Tally()
        total.add(self)
        total.add(other)
        return total

    @property
    def per_core(self) -> float:
        """Seeds per second of one core."""
        return self.seeds / self.cpu if self.cpu else 0.0


def run_chunk(bounds: tuple[int, int, bool]) -> Tally:
    """Run the seeds of a range."""
    first, last, twice = bounds
    tally, again = Tally(), Counter[str]()
    began = time.process_time()
    with arena(tally.stats):
        outcomes = [(seed, run_seed(seed, tally.stats)) for seed in range(first, last)]
    if twice:
        with arena():
            seconds = [run_seed(seed, again).digest for seed, _ in outcomes]
    else:
        seconds = [outcome.digest for _, outcome in outcomes]
    for (seed, outcome), digest in zip(outcomes, seconds, strict=True):
        tally.seeds += 1
        tally.steps += outcome.steps
        tally.faults += outcome.faults
        if outcome.broken is not None:
            tally.broken.append((seed, outcome.broken))
        elif digest != outcome.digest:
            tally.broken.append((seed, "the second run of the seed went another way"))
        elif outcome.steps < LEAST_STEPS or outcome.faults < LEAST_FAULTS:
            tally.broken.append((seed, f"only {outcome.steps} steps and {outcome.faults} faults"))
    tally.cpu = time.process_time() - began
    return tally


def run_many(
    seeds: int, *, first: int = 0, minutes: float | None = None, workers: int = 1, twice: bool = True
) -> Iterator[Tally]:
    """Run seeds on ``workers`` cores until they are done or the time is over; yields the tally so far."""
    total = Tally()
    deadline = time.monotonic() + minutes * 60 if minutes else None
    bounds = ((start, min(start + CHUNK, first + seeds), twice) for start in range(first, first + seeds, CHUNK))
    if workers == 1:
        for bound in bounds:
            total.add(run_chunk(bound))
            yield total
            if (deadline and time.monotonic() > deadline) or len(total.broken) >= MOST_SHOWN:
                return
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        # In order, so that what was done when the time is over is one range without holes.
        for tally in pool.imap(run_chunk, bounds):
            total.add(tally)
            yield total
            if (deadline and time.monotonic() > deadline) or len(total.broken) >= MOST_SHOWN:
                pool.terminate()
                return


@cache
def code_digest() -> str:
    """Return a digest of the sources that a seed runs: seeds of other sources are other seeds."""
    # A new process, for this one may have loaded what no seed needs.
    listed = subprocess.run([sys.executable, "-c", _LIST_SOURCES], capture_output=True, text=True, check=True)
    digest = hashlib.sha256()
    for path in map(Path, listed.stdout.splitlines()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def read_ledger(path: Path) -> Tally:
    """Return what earlier sittings came to with the same sources; an empty tally when there is nothing of them."""
    if not path.exists():
        return Tally()
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept.pop("code") != code_digest():
        return Tally()
    broken = [(int(seed), str(text)) for seed, text in kept.pop("broken")]
    return Tally(**{**kept, "stats": Counter(kept["stats"]), "broken": broken})


def write_ledger(path: Path, tally: Tally) -> None:
    """Keep what was done, whole or not at all; seeds 0 to ``tally.seeds`` are in it."""
    kept: dict[str, Any] = {"seeds": tally.seeds, "steps": tally.steps, "faults": tally.faults, "cpu": tally.cpu}
    kept |= {"stats": dict(tally.stats), "broken": tally.broken}
    waiting = path.with_suffix(".new")
    waiting.write_text(json.dumps({"code": code_digest(), **kept}), encoding="utf-8")
    waiting.replace(path)


def report(tally: Tally) -> str:
    """Return what was met, as text: reaction rows, faults, crash points, ends of runs."""
    lines = [
        f"{tally.seeds} seeds, {len(tally.broken)} failures, {tally.per_core:.0f} seeds/s per core"
        f" (mean {tally.steps / max(tally.seeds, 1):.0f} steps, {tally.faults / max(tally.seeds, 1):.1f} faults)",
    ]
    groups = {"row ": "rows of the reaction table", "fault ": "faults", "crash ": "crash points (effect, moment in it)"}
    groups["stopped "] = "how runs ended"
    for prefix, title in groups.items():
        found = {name.removeprefix(prefix): n for name, n in tally.stats.items() if name.startswith(prefix)}
        shown = ", ".join(f"{name} {n}" for name, n in sorted(found.items(), key=lambda pair: -pair[1]))
        rare = sum(n < 1000 for n in found.values())
        lines.append(f"{title} ({len(found)}, {rare} of them under 1,000): {shown}")
    lines += [f"FAILED {text}: python -m tests.simulation --seed {seed}" for seed, text in tally.broken[:MOST_SHOWN]]
    return "\n".join(lines)
