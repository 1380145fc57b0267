"""The world of a seed compiled by mypyc, in a folder of its own: the same seeds in two thirds of the time.

The client stays as it is shipped. What is compiled is what stands around it: the service, the files in memory, the
network, the moves and the promises. The folder is a copy of this package, so that no compiled module can hide what
somebody has changed since; planted bugs and the real tables need modules that can be changed, and run without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent.parent
FOLDER = ROOT / "build" / "simulation"
#: What a seed spends its time in. ``stories`` has loops that mypy takes for unreachable; the rest is seldom run.
MODULES = (
    "beforehand",
    "memory",
    "memory_disk",
    "memory_home",
    "moves",
    "network",
    "profiles",
    "promises",
    "seed",
    "server",
    "world",
)
_SETTINGS = """[mypy]
python_version = 3.11
explicit_package_bases = True
ignore_missing_imports = True
mypy_path = {here}:{client}
"""


def compile_world() -> Path | None:
    """Compile the world and return the folder to run it from, or None (and say why) where that cannot be done."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    package = FOLDER / "tests" / "simulation"
    package.mkdir(parents=True)
    for source in PACKAGE.glob("*.py"):
        shutil.copy2(source, package)
    settings = FOLDER / "mypyc.ini"
    settings.write_text(_SETTINGS.format(here=FOLDER, client=ROOT / "client" / "src"), encoding="utf-8")
    # mypyc makes every warning of the compiler an error, and the warnings of a newer compiler are not ours.
    environment = {**os.environ, "CFLAGS": "-Wno-error -DNDEBUG", "MYPYPATH": ""}
    command = [sys.executable, "-m", "mypyc", "--config-file", str(settings)]
    command += [f"tests/simulation/{name}.py" for name in MODULES]
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        print(f"the seeds run without being compiled, a third slower: {said[-1]}", flush=True)
        return None
    return FOLDER


def run(folder: Path, *arguments: str, captured: bool = False) -> subprocess.CompletedProcess[str]:
    """Run ``python -m tests.simulation`` with these arguments on what was compiled into ``folder``."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=captured, text=True, check=False)
