"""What sealing costs: reading and writing objects in the sealed directory against plain files.

    .venv/bin/python bench/download_store.py [--rounds N] [--folder D]

Both sides do the same round trip from the event loop to a thread and back, on warm files, and nothing else runs in
this process. Writing is durable on both sides (file and folder synced). Prints medians and 95th percentiles in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from document_service.keys import KeyStore
from document_service.store import DirectoryStore

SIZES = {"60 KB": 60_000, "500 KB": 500_000, "10 MB": 10_000_000}


async def measure(rounds: int, use: Callable[[int], Awaitable[object]]) -> tuple[float, float]:
    """Median and 95th percentile of ``use`` in milliseconds, after a tenth of the rounds unmeasured."""
    times = []
    for round_number in range(rounds + rounds // 10):
        start = time.perf_counter()
        await use(round_number)
        times.append((time.perf_counter() - start) * 1000)
    measured = sorted(times[rounds // 10 :])
    return statistics.median(measured), measured[int(len(measured) * 0.95)]


def write_plain(path: Path, content: bytes) -> None:
    """Write as durably as the store does, without sealing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, content)
    os.fsync(descriptor)
    os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def compare(root: Path, rounds: int) -> None:
    keys = KeyStore.open(root / "keys")
    keys.create_tenant("bench")
    store = DirectoryStore(root / "store", keys)
    plain = root / "plain"
    plain.mkdir()
    print(f"{'':24}{'plain ms':>18}{'sealed ms':>18}{'ratio':>8}")
    for name, size in SIZES.items():
        content = os.urandom(size)
        count = max(20, rounds // (1 + size // 1_000_000))

        async def put_plain(number: int, size: int = size, content: bytes = content) -> None:
            await asyncio.to_thread(write_plain, plain / f"{size}-{number}", content)

        async def put_sealed(number: int, size: int = size, content: bytes = content) -> None:
            await store.put("bench", f"{size}/{number}", content)

        async def read_plain(number: int, size: int = size, count: int = count) -> None:
            await asyncio.to_thread((plain / f"{size}-{number % count}").read_bytes)

        async def read_sealed(number: int, size: int = size, count: int = count) -> None:
            async for _ in store.read("bench", f"{size}/{number % count}"):
                pass

        for verb, bare, sealed in (("write", put_plain, put_sealed), ("read", read_plain, read_sealed)):
            low, high = await measure(count, bare)
            sealed_low, sealed_high = await measure(count, sealed)
            print(
                f"{verb + ' ' + name:24}{low:>10.2f} {high:>7.2f}{sealed_low:>10.2f} {sealed_high:>7.2f}"
                f"{sealed_low / low:>8.1f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure; default: the system's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(compare(Path(folder), options.rounds))


if __name__ == "__main__":
    main()
