"""Two tenants, one with 20,000 queued jobs: how long the other's single job waits until it is begun.

    .venv/bin/python bench/fairness.py [--queued N] [--singles N]

The first tenant's jobs are queued in bulk by an API without workers, so that all of them wait; then a worker starts in
a process of its own and is given a few seconds to be busy with them.
"""

from __future__ import annotations

import argparse
import contextlib
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx2

from stand import INPUTS, PROGRAM, Stand, figure, line_of, now, prepare_page, running, start

#: What one bulk request may hold.
BULK = 1000


def _caller(stand: Stand, tenant: str) -> httpx2.Client:
    token = stand.tenant(tenant)
    return httpx2.Client(base_url=stand.url, headers={"Authorization": f"Bearer {token}"}, timeout=120, trust_env=False)


def _request(version: str) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    return {"templateVersionId": version, "locale": "en", "inputs": INPUTS, "requestedAt": at}


def _queue(api: httpx2.Client, version: str, count: int) -> None:
    for begun in range(0, count, BULK):
        items = [
            {
                "clientMutationId": str(uuid.uuid4()),
                "patientId": f"bench-patient-{begun + one}",
                "encounterId": f"bench-encounter-{begun + one}",
            }
            for one in range(min(BULK, count - begun))
        ]
        answer = api.post("/v1/documents/render-jobs/bulk", json=_request(version) | {"items": items})
        refused = [item for item in answer.json().get("items", [{"status": 0}]) if item["status"] != 202]
        if answer.status_code != 202 or refused:
            raise SystemExit(f"{answer.status_code}: {refused[:1] or answer.text}")


def _wait_of_one(api: httpx2.Client, version: str) -> float:
    """Seconds from the acceptance of a job to its start."""
    whom = {"patientId": "bench-patient-0", "encounterId": "bench-encounter-0"}
    body = _request(version) | {"clientMutationId": str(uuid.uuid4())} | whom
    job = api.post("/v1/documents/render-jobs", json=body).raise_for_status().json()
    while job["status"] in ("queued", "running"):
        time.sleep(0.05)
        job = api.get(f"/v1/documents/render-jobs/{job['id']}").raise_for_status().json()
    if job["status"] != "completed":
        raise SystemExit(f"the single job failed: {job['error']}")
    return (datetime.fromisoformat(job["startedAt"]) - datetime.fromisoformat(job["createdAt"])).total_seconds()


def main() -> None:
    """Queue, start the worker, measure the other tenant's jobs one after the other."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--queued", type=int, default=20_000)
    arguments.add_argument("--singles", type=int, default=10)
    chosen = arguments.parse_args()
    with running(1, "--no-worker") as stand, contextlib.ExitStack() as started:
        big, small = _caller(stand, "big"), _caller(stand, "small")
        version, other = prepare_page(big), prepare_page(small)
        began = now()
        _queue(big, version, chosen.queued)
        queued_in = now() - began
        worker = start(started, [*PROGRAM, "worker", *stand.data])
        line_of(worker)
        time.sleep(3)
        waits = sorted(_wait_of_one(small, other) for _ in range(chosen.singles))
        # The worker ends before PostgreSQL does; what is left in the queue goes with the folder.
    figure(
        f"a single job of one tenant starts while another has {chosen.queued:,} queued",
        "≤ 1 s",
        f"{waits[len(waits) // 2]:.2f} s, at most {waits[-1]:.2f} s of {len(waits)}",
    )
    figure(f"… {chosen.queued:,} jobs accepted in bulk, one client", "", f"{chosen.queued / queued_in:.0f} jobs/s")


if __name__ == "__main__":
    main()
