"""A slice of the simulation for every run of the tests; ``make soak`` runs millions of seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from document_client.model import Model
from simulation.arena import arena
from simulation.memory_home import MemoryHome
from simulation.planted import BUGS
from simulation.real_home import RealHome, hooked
from simulation.search import MOST_SEEDS, find
from simulation.seed import run_seed
from simulation.server import Server
from simulation.soak import run_many

#: A quarter of a minute on two cores that do nothing else; each seed runs twice.
SEEDS = 3_000
#: The real driver takes about sixty times as long as its double.
SEEDS_ON_TABLES = 100
REPOSITORY = Path(__file__).parents[2]
#: Seeds that once broke, with what was in them: a download that was answered as a whole while the service was restored;
#: a crash while a refusal of what replaces an own copy was written down; a page that was stored after a sleep, while
#: another program had begun the listing again; evidence that was marked as sent after a sleep, while the service was
#: restored; a clock that was ahead at the fetch on a network that takes `Date` away; a power cut that took the
#: confirmation of a copy away, whose shorter life the promise went on to count; a download that ended, after a sleep,
#: in a cache that was destroyed meanwhile, and was counted for the same document in the next one (twice); evidence that
#: a restore lost after the last person had signed out, and nobody signed in again.
ONCE_BROKEN = (35_605, 54_326, 4_003_980, 623_563, 658_153, 5_699_340, 7_614_662, 7_920_144, 8_209_428)


def test_every_promise_holds_in_every_seed() -> None:
    *_, tally = run_many(SEEDS, first=1, workers=os.cpu_count() or 1)
    assert tally.seeds == SEEDS
    shown = [f"{text}: python -m tests.simulation --seed {seed}" for seed, text in tally.broken]
    assert not shown, "\n".join(shown)
    rows = {name for name in tally.stats if name.startswith("row ")}
    assert len(rows) == 10, "a row of the reaction table was never met"
    print(f"{tally.per_core:.0f} seeds/s per core, each twice")


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_once_broke_holds(seed: int) -> None:
    with arena():
        assert run_seed(seed, Counter()).broken is None


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    found = find(name)
    assert found is not None, f"{BUGS[name][0]}: not found in {MOST_SEEDS} seeds"


def test_nothing_is_left_of_a_planted_bug() -> None:
    before = run_seed(3, Counter()).digest
    find(next(iter(BUGS)))
    assert run_seed(3, Counter()).digest == before


def test_the_double_never_differs_from_the_real_driver() -> None:
    with arena(), hooked():
        for seed in range(50_000, 50_000 + SEEDS_ON_TABLES):
            double, double_files = _run(seed, MemoryHome)
            real, real_files = _run(seed, RealHome)
            assert double.trace == real.trace, f"seed {seed}"
            assert double.broken == real.broken, f"seed {seed}"
            assert double_files == real_files, f"seed {seed}"


def test_the_quick_model_answers_as_the_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, compared = Server.changes, Counter[int]()

    def both(server: Server, caller: Any, cursor: str) -> Any:
        answer = quick(server, caller, cursor)
        said = Model.changes(server, caller, cursor)
        assert (answer.status, answer.body) == (said.status, said.body)
        compared[answer.status] += 1
        return answer

    monkeypatch.setattr(Server, "changes", both)
    with arena():
        broken = [run_seed(seed, Counter()).broken for seed in range(60_000, 60_100)]
    assert not any(broken)
    assert min(compared[200], compared[410]) > 10


def _run(seed: int, kind: Any) -> tuple[Any, Any]:
    files: list[Any] = []

    def make(device_id: str) -> Any:
        home = kind(device_id)
        close = home.close

        def keep() -> None:
            files.append(home.dump())
            close()

        home.close = keep
        return home

    return run_seed(seed, Counter(), home=make), files


def test_a_seed_is_the_same_in_every_process() -> None:
    script = (
        "from collections import Counter\n"
        "from tests.simulation.arena import arena\n"
        "from tests.simulation.seed import run_seed\n"
        "with arena(): print([run_seed(seed, Counter()).digest for seed in range(200)])\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(said[0]) > 1000


def test_one_line_reproduces_a_seed() -> None:
    arguments = [sys.executable, "-m", "tests.simulation", "--seed", "7"]
    done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "every promise holds" in done.stdout
    assert f"trace {run_in_arena(7):08x}" in done.stdout


def run_in_arena(seed: int) -> int:
    with arena():
        return run_seed(seed, Counter()).digest
