"""From an HTTP request to a recorded, sealed document: bind, render, seal, store, commit, with many clients at once.

    .venv/bin/python bench/end_to_end.py [--clients 20] [--documents 400] [--workers N]

Starts the service on a fresh folder, an answer machine for FHIR, and the load, all on this machine's cores; then runs
the bare typesetter (bench/bare_typst.py) on as many processes as the service has workers, and prints both and their
ratio. Both print the same page, section by section: twelve tests, logo, QR code, signatures. The load generator and
the FHIR machine take their share of the same cores, as they would in nobody's clinic; so their part is told beside it,
and what the share would be if they ran elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx2
import uvloop

from stand import INPUTS, figure, now, prepare_page, running

HERE = Path(__file__).parent


async def _load(url: str, token: str, version: str, clients: int, documents: int) -> list[float]:
    headers = {"Authorization": f"Bearer {token}"}
    timeout, connector = aiohttp.ClientTimeout(60), aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout, connector=connector) as client:
        durations: list[float] = []
        left = iter(range(documents))

        async def work() -> None:
            for number in left:
                began = now()
                body = {
                    "templateVersionId": version,
                    "patientId": f"bench-patient-{number}",
                    "encounterId": f"bench-encounter-{number}",
                    "inputs": INPUTS,
                    "locale": "en",
                }
                key = {"Idempotency-Key": str(uuid.uuid4())}
                status = 504
                while status == 504:  # Slower than five seconds: the repeat waits for the same document.
                    async with client.post("/v1/documents/generate", headers=key, json=body) as answer:
                        status, text = answer.status, await answer.text()
                if status not in (200, 201):
                    raise SystemExit(f"{status}: {text}")
                durations.append(now() - began)

        await asyncio.gather(*(work() for _ in range(clients)))
        return durations


@dataclass(frozen=True, slots=True)
class Measured:
    """Documents per second, sorted latencies in ms, and CPU milliseconds of a document by part."""

    per_second: float
    latencies: list[float]
    cpu: dict[str, float]

    def at(self, share: float) -> float:
        """The latency that this share of the documents did not exceed."""
        return self.latencies[int(share * (len(self.latencies) - 1))]

    @property
    def foreign(self) -> float:
        """CPU milliseconds of a document that are no part of the service."""
        return self.cpu["load"] + self.cpu["FHIR machine"]


def measure(clients: int, documents: int, workers: int) -> Measured:
    """Load the service with ``workers`` typesetting processes."""
    with running(workers) as stand:
        token = stand.tenant("bench")
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.Client(base_url=stand.url, headers=headers, timeout=60, trust_env=False) as api:
            version = prepare_page(api)
        uvloop.run(_load(stand.url, token, version, clients, 4 * clients))
        before, began = stand.cpu(), now()
        durations = uvloop.run(_load(stand.url, token, version, clients, documents))
        elapsed, after = now() - began, stand.cpu()
    cpu = {part: 1000 * (after[part] - before[part]) / documents for part in after}
    return Measured(documents / elapsed, sorted(1000 * one for one in durations), cpu)


def bare(processes: int, rounds: int) -> tuple[float, float]:
    """Documents per second of the bare typesetter in as many processes, all at once; CPU milliseconds of one."""
    command = [sys.executable, str(HERE / "bare_typst.py"), "--rounds", str(rounds), "--json"]
    running_now = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    told = [json.loads(process.communicate()[0]) for process in running_now]
    return sum(entry["perSecond"] for entry in told), statistics.mean(entry["cpuMs"] for entry in told)


def main() -> None:
    """Measure both in one run and print the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--documents", type=int, default=800)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    for workers in sorted({1, given.workers}):
        before, cpu_before = bare(workers, 150)
        ours = measure(given.clients, given.documents, workers)
        after, cpu_after = bare(workers, 150)
        alone, cpu_alone = (before + after) / 2, (cpu_before + cpu_after) / 2
        cores = len(os.sched_getaffinity(0))
        foreign = ours.per_second * ours.foreign / 1000 / cores
        of = f"end to end over HTTP, {given.clients} clients, {workers} typesetting process{'es' * (workers > 1)}"
        figure(
            f"{of}, share of bare typesetting ({alone:.1f}/s)",
            "≥ 50 %, then 70 %" if workers == cores else "",
            f"{100 * ours.per_second / alone:.0f} %: {ours.per_second:.1f} documents/s",
        )
        figure(
            "… p50, p95, p99",
            "",
            f"{statistics.median(ours.latencies):.0f}, {ours.at(0.95):.0f}, {ours.at(0.99):.0f} ms",
        )
        figure(
            "… CPU ms a document: " + ", ".join(part for part, used in ours.cpu.items() if used >= 0.05),
            "",
            ", ".join(f"{used:.1f}" for used in ours.cpu.values() if used >= 0.05),
        )
        figure(
            f"… share by CPU time, whatever else the machine did (bare: {cpu_alone:.1f} ms a document)",
            "",
            f"{100 * cpu_alone / sum(ours.cpu.values()):.0f} %",
        )
        figure(
            f"… share if load and FHIR machine ran elsewhere ({100 * foreign:.0f} % of the cores are theirs)",
            "",
            f"{100 * ours.per_second / (1 - foreign) / alone:.0f} %",
        )


if __name__ == "__main__":
    main()
