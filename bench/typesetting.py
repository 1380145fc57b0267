"""How fast the service typesets, beside bare Typst on the same content, one run side by side.

    .venv/bin/python bench/typesetting.py [--rounds N] [--json FILE]

For each locale the full one-page form (twelve tests, logo, QR code, signatures) at PDF/A-2a + PDF/UA-1, warm, other
digits every time. Rounds of bare Typst, our press in the same process and our pool take turns, so that what else the
machine does falls on all three. Then throughput with one and two workers, and the memory of a child over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

# One core a process, for the bare engine as for ours; set before Typst is loaded.
os.environ["RAYON_NUM_THREADS"] = "1"

from bare_typst import CONTENT, ISSUED_AT, LOGO, bare, changed
from document_service.typesetting.jobs import TypesetJob
from document_service.typesetting.layout_files import install_layout
from document_service.typesetting.pool import TypesettingPool
from document_service.typesetting.press import Press
from stand import figure

LOCALES = ("en", "fa-AF", "ps-AF")
WARM_UP = 10


def load(locale: str) -> Any:
    return json.loads((CONTENT / f"{locale}.json").read_text(encoding="utf-8"))


def job(model: Any) -> TypesetJob:
    text = json.dumps(model, ensure_ascii=False).encode()
    return TypesetJob(issued_at=ISSUED_AT, page_model_json=text, images={"logo": LOGO})


def summary(taken: list[float]) -> dict[str, float]:
    """Milliseconds: the fastest, the median and the slow tail."""
    ordered = sorted(taken)
    at = {"p95": 0.95, "p99": 0.99}
    return {
        "min": round(ordered[0], 2),
        "p50": round(statistics.median(ordered), 2),
        **{name: round(ordered[int(len(ordered) * share)], 2) for name, share in at.items()},
    }


async def side_by_side(locale: str, rounds: int, empty: Path, pool: TypesettingPool) -> dict[str, Any]:
    model, chance = load(locale), random.Random(1)
    root = empty / "layout"
    install_layout(root)
    typeset, press = bare(empty), Press(root)
    taken: dict[str, list[float]] = {"bare": [], "press": [], "pool": []}
    for number in range(rounds + WARM_UP):
        one = changed(model, chance)
        started = time.perf_counter()
        typeset(one)
        done_bare = time.perf_counter()
        press.print_page_model(one, {"logo": LOGO}, ISSUED_AT, "pdf")
        done_press = time.perf_counter()
        asked = job(one)
        sent = time.perf_counter()
        await pool.render(asked)
        done_pool = time.perf_counter()
        if number >= WARM_UP:
            taken["bare"].append((done_bare - started) * 1000)
            taken["press"].append((done_press - done_bare) * 1000)
            taken["pool"].append((done_pool - sent) * 1000)
    return {name: summary(times) for name, times in taken.items()}


async def overhead(rounds: int) -> float:
    """Milliseconds that queue, pipe and process add: the pool's time for a document less the child's own."""
    model, chance = load("en"), random.Random(2)
    added = []
    async with TypesettingPool(1) as pool:
        for _ in range(rounds + WARM_UP):
            asked = job(changed(model, chance))
            started = time.perf_counter()
            result = await pool.render(asked)
            added.append((time.perf_counter() - started) * 1000 - result.child_ms)
    return round(statistics.median(added[WARM_UP:]), 2)


async def throughput(workers: int, documents: int) -> dict[str, float]:
    model, chance = load("en"), random.Random(3)
    async with TypesettingPool(workers) as pool:
        jobs = [job(changed(model, chance)) for _ in range(documents)]
        await asyncio.gather(*(pool.render(one) for one in jobs[:WARM_UP]))
        resident = pool.resident_bytes
        started = time.perf_counter()
        slots = asyncio.Semaphore(workers * 2)

        async def one_of(asked: TypesetJob) -> None:
            async with slots:
                await pool.render(asked)

        await asyncio.gather(*map(one_of, jobs))
        seconds = time.perf_counter() - started
        return {
            "documents/s": round(documents / seconds, 1),
            "MB at start": round(resident / 1e6),
            "MB at end": round(pool.resident_bytes / 1e6),
        }


async def measure(rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as empty:
        async with TypesettingPool(1) as pool:
            latency = {locale: await side_by_side(locale, rounds, Path(empty), pool) for locale in LOCALES}
    cores = len(os.sched_getaffinity(0))
    return {
        "cores": cores,
        "latency, ms": latency,
        "pool overhead, ms": await overhead(rounds),
        "throughput": {
            f"{workers} typesetting process{'es' * (workers > 1)}": await throughput(workers, rounds * 4)
            for workers in (1, 2)
        },
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=100)
    arguments.add_argument("--json", type=Path)
    chosen = arguments.parse_args()
    found = asyncio.run(measure(chosen.rounds))
    print(f"{found['cores']} cores; milliseconds a one-page form, PDF/A-2a + PDF/UA-1")
    print(f"{'':8}{'':8}{'min':>8}{'p50':>8}{'p95':>8}{'p99':>8}{'of bare':>9}")
    for locale, engines in found["latency, ms"].items():
        for name, times in engines.items():
            share = times["p50"] / engines["bare"]["p50"]
            figures = "".join(f"{times[key]:8.2f}" for key in ("min", "p50", "p95", "p99"))
            print(f"{locale:8}{name:8}{figures}{share:9.2f}")
    for name in ("bare", "press", "pool"):
        said = {"bare": "bare Typst", "press": "our press", "pool": "our pool"}[name]
        times = found["latency, ms"]["en"][name]
        figure(
            f"one-page form (12 tests, logo, QR, signatures), warm, PDF/A-2a + UA-1: {said}: min, p50, p95, p99",
            "≤ 8 ms" if name == "press" else "",
            ", ".join(f"{times[key]:.1f}" for key in ("min", "p50", "p95", "p99")) + " ms",
        )
    figure("pool overhead a document", "≤ 1 ms", f"{found['pool overhead, ms']} ms")
    for workers, figures in found["throughput"].items():
        figure(f"pool alone, {workers}", "", f"{figures['documents/s']} documents/s")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
