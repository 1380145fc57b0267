"""``make bench``: every measurement of this folder, one after the other, each side by side with its yardstick.

python -m bench              all of them, about eight minutes on an idle machine of two cores
python -m bench end_to_end   one

Parts print what they found; what belongs into the table of docs/benchmarks.md they print as a row of it
(``stand.figure``). At the end the rows of all parts follow once more as one table, with machine, day and command.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent

#: In the order of the road: the typesetter alone, our pool and other engines, over HTTP, the bytes back, the device.
PARTS: dict[str, list[str]] = {
    "bare_typst": [],
    "typesetting": [],
    "engines": [],
    "memory": [],
    "end_to_end": [],
    "fairness": [],
    "download_store": [],
    "fhirpath": [],
    "device": [],
    "documents": [],
    "catalogue": [],
    "preview": [],
}


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{len(os.sched_getaffinity(0))} cores ({model}), {pages / 2**30:.0f} GB of memory, "
        f"Python {platform.python_version()}, Typst {version('typst')}, load before the run {os.getloadavg()[0]:.1f}"
    )


def _run(name: str) -> tuple[int, list[str]]:
    """Run one part, show what it prints as it comes; its exit code and its rows of the table."""
    print(f"== {name}", flush=True)
    rows = []
    command = [sys.executable, str(HERE / f"{name}.py"), *PARTS[name]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as part:
        assert part.stdout is not None
        for line in part.stdout:
            print(line, end="", flush=True)
            if line.startswith("| "):
                rows.append(line)
    return part.returncode, rows


def main() -> int:
    """Run the parts that were named, or all; the first exit code that is not zero."""
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print(f"bench: there is no {unknown[0]}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 64
    machine, began = _machine(), time.monotonic()
    worst, table = 0, []
    for name in wanted:
        code, rows = _run(name)
        worst = worst or code
        table += rows
    command = " ".join(["make bench"] if len(sys.argv) == 1 else ["python -m bench", *wanted])
    print(f"\n`{command}`, {time.strftime('%Y-%m-%d')}, {time.monotonic() - began:.0f} s; {machine}\n")
    print("| | Target | Measured |\n|---|---|---|")
    print("".join(table), end="")
    return worst


if __name__ == "__main__":
    sys.exit(main())
