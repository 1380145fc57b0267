"""The catalogue of a tenant with 5,000 templates: a page of the list, filtered pages, and a refresh without news.

    .venv/bin/python bench/catalogue.py [--templates N] [--rounds N]

One caller on a kept connection over loopback, so a round holds the whole way: token, transaction, SQL, JSON. Every
page has 100 entries, the most that the API gives. Prints medians and 95th percentiles in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from document_service import identifiers
from document_service.postgres import connection_info
from stand import figure, running

LIST = "/v1/document-templates"


async def _fill(data_dir: Path, count: int) -> None:
    """Rows as ``create`` writes them; 5,000 requests would measure the rate limit."""
    info = connection_info(data_dir)
    connection = await asyncpg.connect(
        host=str(info.socket_dir), port=info.port, user=info.user, password=info.password, database=info.database
    )
    try:
        await connection.executemany(
            """INSERT INTO document.templates (tenant_id, id, name, category, facility_id, created_by)
               VALUES ('bench', $1, $2, $3, $4, 'bench')""",
            [
                (
                    identifiers.new("template"),
                    f"Form {number}",
                    ("letter", "report", "consent")[number % 3],
                    f"ward-{number % 40}" if number % 2 else None,
                )
                for number in range(count)
            ],
        )
        await connection.execute("ANALYZE document.templates")
    finally:
        await connection.close()


def _measure(client: httpx2.Client, rounds: int, expected: int, **arguments: Any) -> tuple[float, float]:
    times = []
    for number in range(rounds + rounds // 10):
        began = time.perf_counter()
        answer = client.get(LIST, **arguments)
        took = (time.perf_counter() - began) * 1000
        if answer.status_code == 429:
            time.sleep(float(answer.headers["retry-after"]))
            continue
        if answer.status_code != expected:
            raise SystemExit(f"{answer.status_code}: {answer.text}")
        # A tenth of the rounds warms up and is not counted.
        if number >= rounds // 10:
            times.append(took)
    times.sort()
    return statistics.median(times), times[int(len(times) * 0.95)]


def measure(count: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Median and 95th percentile in ms of each kind of request."""
    with running(1) as stand:
        token = stand.tenant("bench")
        asyncio.run(_fill(Path(stand.data[1]), count))
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.Client(base_url=stand.url, headers=headers, timeout=30, trust_env=False) as client:
            first = client.get(LIST, params={"limit": 100})
            cursor = first.json()["nextCursor"]
            filtered = {"limit": 100, "category": "letter", "facilityId": "ward-9"}
            shipped = {"limit": 100, "origin": "platform"}
            news = {"If-None-Match": first.headers["etag"]}
            return {
                "first page": _measure(client, rounds, 200, params={"limit": 100}),
                "second page": _measure(client, rounds, 200, params={"limit": 100, "cursor": cursor}),
                "category and facility": _measure(client, rounds, 200, params=filtered),
                "the platform's forms": _measure(client, rounds, 200, params=shipped),
                "refresh, nothing new": _measure(client, rounds, 304, params={"limit": 100}, headers=news),
            }


def main() -> int:
    """Measure, and print the rows of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--templates", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    figures = measure(options.templates, options.rounds)
    print(f"{f'{options.templates} templates':28}{'median ms':>12}{'p95 ms':>12}")
    for name, (median, late) in figures.items():
        print(f"{name:28}{median:12.1f}{late:12.1f}")
    listed = f"catalogue list of {options.templates} templates, a page of 100, p95"
    figure(listed, "< 50 ms", f"{figures['first page'][1]:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
