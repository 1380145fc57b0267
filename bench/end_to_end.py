"""From an HTTP request to a recorded, sealed document: bind, render, seal, store, commit, with many clients at once.

    .venv/bin/python bench/end_to_end.py [--clients 20] [--documents 400] [--workers N]

Starts the service on a fresh folder, an answer machine for FHIR, and the load, all on this machine's cores; then runs
the bare typesetter (bench/bare_typst.py) on as many processes as the service has workers, and prints both and their
ratio. The load generator and the FHIR machine take their share of the same cores, as they would in nobody's clinic.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx2

HERE = Path(__file__).parent

TESTS = [
    ("Complete blood count", "routine"),
    ("Erythrocyte sedimentation rate", "routine"),
    ("Glucose, fasting", "urgent"),
    ("Hemoglobin A1c", "routine"),
    ("Creatinine", "routine"),
    ("Urea", "routine"),
    ("Sodium and potassium", "urgent"),
    ("Alanine aminotransferase", "routine"),
    ("Thyrotropin", "routine"),
    ("C-reactive protein", "stat"),
    ("Urinalysis with microscopy", "routine"),
    ("Ferritin", "routine"),
]


def _inputs(schema: dict[str, Any]) -> dict[str, Any]:
    """Twelve tests in the shape that the form's inputs ask for."""
    asked = schema["properties"].get("tests") or schema["properties"].get("requestedTests")
    name = "tests" if "tests" in schema["properties"] else "requestedTests"
    if asked is None:
        return {}
    members = asked["items"].get("properties", {})
    if not members:
        return {name: [test for test, _ in TESTS]}
    first = next(iter(asked["items"].get("required", members)))
    return {name: [{first: test} for test, _ in TESTS]}


async def _load(url: str, token: str, clients: int, documents: int) -> list[float]:
    headers = {"Authorization": f"Bearer {token}"}
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits, trust_env=False) as client:
        # The form that the figures were taken with; the catalogue holds others beside it.
        asked = await client.get("/v1/document-templates", params={"platformFormKey": "general-test-requisition"})
        form = asked.json()["items"][0]
        path = f"/v1/document-templates/{form['id']}/versions/{form['currentVersionId']}"
        inputs = _inputs((await client.get(path)).json()["definition"]["inputs"])
        durations: list[float] = []
        left = iter(range(documents))

        async def work() -> None:
            for number in left:
                began = time.perf_counter()
                answer = await client.post(
                    "/v1/documents/generate",
                    headers={"Idempotency-Key": str(uuid.uuid4())},
                    json={
                        "templateVersionId": form["currentVersionId"],
                        "patientId": f"bench-patient-{number}",
                        "encounterId": f"bench-encounter-{number}",
                        "inputs": inputs,
                        "locale": "en",
                    },
                )
                if answer.status_code != 201:
                    raise SystemExit(f"{answer.status_code}: {answer.text}")
                durations.append(time.perf_counter() - began)

        await asyncio.gather(*(work() for _ in range(clients)))
        return durations


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def measure(clients: int, documents: int, workers: int) -> dict[str, float]:
    """Documents per second and latencies in ms of the service with ``workers`` typesetting processes."""
    with tempfile.TemporaryDirectory() as folder:
        data = ["--data-dir", f"{folder}/data"]
        program = [sys.executable, "-m", "document_service"]
        fhir = subprocess.Popen([sys.executable, str(HERE / "static_fhir.py")], stdout=subprocess.PIPE, text=True)
        service = None
        try:
            create = [*program, "tenant", "create", "bench", "--fhir-url", _line(fhir), *data]
            subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
            token = subprocess.run(
                [*program, "token", "--tenant", "bench", "--user", "u", *data],
                check=True,
                text=True,
                capture_output=True,
            ).stdout.strip()
            service = subprocess.Popen(
                [*program, "serve", "--port", "0", "--workers", str(workers), *data], stdout=subprocess.PIPE, text=True
            )
            url = _line(service).removeprefix("listening on ")
            asyncio.run(_load(url, token, clients, 2 * clients))
            began = time.perf_counter()
            durations = sorted(asyncio.run(_load(url, token, clients, documents)))
            elapsed = time.perf_counter() - began
        finally:
            for process in (service, fhir):
                if process is not None:
                    process.terminate()
                    process.wait()
    return {
        "perSecond": documents / elapsed,
        "p50": 1000 * statistics.median(durations),
        "p95": 1000 * durations[int(0.95 * len(durations))],
        "p99": 1000 * durations[int(0.99 * len(durations))],
    }


def bare(processes: int, rounds: int) -> float:
    """Documents per second of the bare typesetter in as many processes, all at once."""
    command = [sys.executable, str(HERE / "bare_typst.py"), "--rounds", str(rounds), "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    told = [json.loads(process.communicate()[0]) for process in running]
    return sum(float(entry["perSecond"]) for entry in told)


def main() -> None:
    """Measure both in one run and print the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    for workers in sorted({1, given.workers}):
        before = bare(workers, 150)
        ours = measure(given.clients, given.documents, workers)
        after = bare(workers, 150)
        alone = (before + after) / 2
        print(
            f"workers {workers}: {ours['perSecond']:.1f} documents/s end to end (p50 {ours['p50']:.0f}, "
            f"p95 {ours['p95']:.0f}, p99 {ours['p99']:.0f} ms), bare typesetter {alone:.1f}/s, "
            f"share {100 * ours['perSecond'] / alone:.0f} %"
        )


if __name__ == "__main__":
    main()
