"""Whether memory stays flat: one pool over many renders, its children's and its own resident memory along the way.

    .venv/bin/python bench/memory.py [--renders N]

``make bench`` makes 2,000, twice the life of a child; 10,000 take two minutes on an idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
from pathlib import Path

from bare_typst import changed
from document_service.typesetting.pool import TypesettingPool
from stand import figure
from typesetting import job, load

#: How often memory is looked at.
SAMPLES = 10


def _own_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(renders: int) -> list[tuple[int, int]]:
    """The largest child's and this process's resident bytes, after each tenth of the renders."""
    model, chance = load("en"), random.Random(5)
    workers = len(os.sched_getaffinity(0))
    found = []
    async with TypesettingPool(workers) as pool:
        for _ in range(SAMPLES):

            async def some() -> None:
                for _ in range(renders // SAMPLES // workers):
                    await pool.render(job(changed(model, chance)))

            await asyncio.gather(*(some() for _ in range(workers)))
            found.append((pool.resident_bytes, _own_bytes()))
    return found


def main() -> None:
    """Print the first, the largest and the last look."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--renders", type=int, default=2000)
    renders = arguments.parse_args().renders
    found = asyncio.run(measure(renders))
    for name, at in (("a typesetting process", 0), ("the process that feeds them", 1)):
        sizes = [one[at] / 1e6 for one in found]
        figure(
            f"memory of {name} over {renders:,} renders: after a tenth, at most, at the end",
            "flat",
            f"{sizes[0]:.0f}, {max(sizes):.0f}, {sizes[-1]:.0f} MB",
        )


if __name__ == "__main__":
    main()
