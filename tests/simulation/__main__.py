"""``python -m tests.simulation``: one seed, shown; or the soak.

python -m tests.simulation --seed 4711            what happened in one seed, and which promise broke
python -m tests.simulation --seed 4711 --files    the same on the real driver and real tables
python -m tests.simulation --planted              how many seeds each planted bug takes
python -m tests.simulation --soak                 everything (``make soak``)
python -m tests.simulation --ledger F --minutes 60   seeds in several sittings; F says where to go on
python -m tests.simulation --compiled --seeds 100000 the same seeds, with the world around the client compiled
python -m tests.simulation --fingerprint             one number for what happens in the first thousand seeds
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

from . import compiled
from .arena import arena
from .memory_home import MemoryHome
from .planted import BUGS
from .real_home import RealHome, hooked
from .search import MOST_SEEDS, find
from .seed import run_seed
from .soak import Tally, read_ledger, report, run_many, write_ledger


def main() -> int:
    """Run what the options name; the exit code is 1 when anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one seed")
    parser.add_argument("--files", action="store_true", help="on the real driver and tables")
    parser.add_argument("--planted", action="store_true", help="search for every planted bug")
    parser.add_argument("--soak", action="store_true", help="seeds, planted bugs, schedules, kills")
    parser.add_argument("--fingerprint", action="store_true", help="one number for the first thousand seeds")
    parser.add_argument("--compiled", action="store_true", help="compile the world first (as --soak does)")
    parser.add_argument("--seeds", type=int, default=10_000_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--ledger", type=Path, help="go on where the last sitting with this file ended")
    parser.add_argument("--minutes", type=float, help="stop the seeds after this long")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--once", action="store_true", help="run each seed once, not twice")
    parser.add_argument("--schedules", type=int, default=2_000, help="schedules on the real service")
    parser.add_argument("--kills", type=int, default=5_000, help="kill -9 cycles on real processes")
    parser.add_argument(
        "--contention", type=float, default=10, help="minutes of two programs and a watcher on one home"
    )
    options = parser.parse_args()
    if options.seed is not None:
        return show(options.seed, files=options.files)
    if options.fingerprint:
        print(fingerprint())
        return 0
    failed = False
    if options.planted or options.soak:
        failed |= search()
    if not options.planted:
        failed |= seeds_compiled(options) if options.compiled or options.soak else seeds(options)
    if options.soak:
        failed |= beyond(options)
    return int(failed)


def show(seed: int, *, files: bool) -> int:
    """Replay one seed and print its trace."""
    stats: Counter[str] = Counter()
    with arena(), hooked():
        outcome = run_seed(seed, stats, home=RealHome if files else MemoryHome)
    print(" ".join(outcome.trace))
    print(f"{outcome.steps} steps, {outcome.faults} faults, trace {outcome.digest:08x}")
    print(f"BROKEN: {outcome.broken}" if outcome.broken else "every promise holds")
    return int(outcome.broken is not None)


def fingerprint(seeds: int = 1000) -> int:
    """Return the checksum of all traces of the first seeds."""
    stats: Counter[str] = Counter()
    with arena():
        return zlib.crc32(" ".join(str(run_seed(seed, stats).digest) for seed in range(seeds)).encode())


def search() -> bool:
    """Search for every planted bug; True when one was not found."""
    missed = 0
    for name, (lesson, _) in BUGS.items():
        found = find(name)
        missed += found is None
        shown = f"seed {found[0] - 1}: {found[1]}" if found else "NOT FOUND"
        print(f"planted {name} ({lesson}): {shown}", flush=True)
    print(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs found within {MOST_SEEDS} seeds")
    return missed > 0


def seeds(options: argparse.Namespace) -> bool:
    """Run the seeds; True when one failed."""
    ledger: Path | None = options.ledger
    before = read_ledger(ledger) if ledger is not None else Tally()
    tally, shown = before, time.monotonic()
    running = run_many(
        options.seeds - before.seeds,
        first=options.first + before.seeds,
        minutes=options.minutes,
        workers=options.workers,
        twice=not options.once,
    )
    for done in running:
        tally = before.plus(done)
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            if ledger is not None:
                write_ledger(ledger, tally)
            print(f"{tally.seeds} seeds, {len(tally.broken)} failures, {tally.per_core:.0f}/s per core", flush=True)
    if ledger is not None:
        write_ledger(ledger, tally)
    print(report(tally))
    return bool(tally.broken)


def seeds_compiled(options: argparse.Namespace) -> bool:
    """Run the seeds on the compiled world, if that takes the same way through them; True when one failed."""
    folder = compiled.compile_world()
    if folder is None:
        return seeds(options)
    if (there := compiled.run(folder, "--fingerprint", captured=True).stdout.strip()) != str(fingerprint()):
        print(f"FAILED the compiled world goes another way through the first seeds ({there!r})")
        return True
    wanted = ["--seeds", str(options.seeds), "--first", str(options.first), "--workers", str(options.workers)]
    wanted += ["--minutes", str(options.minutes)] if options.minutes else []
    wanted += ["--ledger", str(options.ledger.absolute())] if options.ledger else []
    wanted += ["--once"] if options.once else []
    return compiled.run(folder, *wanted).returncode != 0


def beyond(options: argparse.Namespace) -> bool:
    """Run what needs the real service and real processes; True when anything failed."""
    import subprocess

    environment = {
        **os.environ,
        "SOAK_SCHEDULES": str(options.schedules),
        "SOAK_KILLS": str(options.kills),
        "SOAK_CONTENTION_MINUTES": str(options.contention),
    }
    tests = [
        "tests/contract/test_model_and_service.py",
        "tests/flows/test_client_kill.py",
        "tests/flows/test_client_contention.py",
        "tests/flows/test_client_over_bad_networks.py",
    ]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", *tests], env=environment, check=False)
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
