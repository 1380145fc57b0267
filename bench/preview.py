"""A preview as an author asks for it: a word of the draft is changed and saved, then one page is shown.

    .venv/bin/python bench/preview.py [--rounds N]

One caller on a kept connection over loopback; the form is the bare typesetter's page (bench/content/requisition.json)
with letterhead and logo. Every round shows a definition that nobody has seen before, so that nothing kept from the
last one helps. Prints medians and 95th percentiles in ms for the saving and for PDF and PNG, with a made-up patient
and with one read from the FHIR machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx2

from stand import HERE, figure, now, prepare_page, running

ROUTE = "/v1/document-templates"
FORM = (HERE / "content" / "requisition.json").read_text(encoding="utf-8")


def _timed(call: Callable[[], httpx2.Response]) -> float:
    """The ms of one answer; asks again later when the service says that it is asked too often."""
    while True:
        began = now()
        answer = call()
        took = (now() - began) * 1000
        if answer.status_code != 429:
            answer.raise_for_status()
            return took
        time.sleep(float(answer.headers["retry-after"]))


def measure(rounds: int) -> dict[str, list[float]]:
    """The ms of every round by what was done; a tenth more rounds warm up and are not counted."""
    wanted = {
        "PDF": {"format": "pdf"},
        "PNG": {"format": "png"},
        "PDF of a real patient": {"format": "pdf", "patientId": "bench-patient", "encounterId": "bench-encounter"},
    }
    times: dict[str, list[float]] = {"saving": [], **{name: [] for name in wanted}}
    with running(1) as stand, httpx2.Client(base_url=stand.url, timeout=30, trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {stand.tenant('bench')}"
        prepare_page(client)
        path = f"{ROUTE}/{client.get(ROUTE, params={'origin': 'tenant'}).json()['items'][0]['id']}"
        for number in range(rounds + rounds // 10):
            counted = number >= rounds // 10
            for name, body in wanted.items():
                definition = _changed(f"{number} {name}")
                saved = _timed(lambda: client.put(f"{path}/draft", json=definition))  # noqa: B023  # Called at once.
                shown = _timed(lambda: client.post(f"{path}/preview", json=body))  # noqa: B023  # Called at once.
                if counted:
                    times["saving"].append(saved)
                    times[name].append(shown)
    return times


def _changed(mark: str) -> Any:
    definition = json.loads(FORM)
    for labels in definition["labels"].values():
        labels["subtitle"] = f"{labels['subtitle']} {mark}"
    return definition


def main() -> int:
    """Measure, and print the row of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=60)
    times = measure(parser.parse_args().rounds)
    late = {name: sorted(found)[int(len(found) * 0.95)] for name, found in times.items()}
    middle = {name: statistics.median(found) for name, found in times.items()}
    print(f"{'':28}{'median ms':>12}{'p95 ms':>12}")
    for name in times:
        print(f"{name:28}{middle[name]:12.1f}{late[name]:12.1f}")
    pdf, png = (f"{middle[name]:.0f}, {late[name]:.0f} ms" for name in ("PDF", "PNG"))
    figure("preview of a changed draft, one page: PDF, and PNG: p50, p95", "< 300 ms", f"{pdf}; {png}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
