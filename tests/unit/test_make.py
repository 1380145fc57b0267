"""The commands of the Makefile: listed by `make help`, and named in the documents only when they exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from longest_first import LONGEST, TESTS, place

ROOT = Path(__file__).parent.parent.parent


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_help_lists_every_command() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {line.split()[0] for line in shown.stdout.splitlines()} == targets()


def test_documents_name_commands_that_exist() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"`make ([a-z]+)", path.read_text(encoding="utf-8")):
            assert name in targets(), f"{path.relative_to(ROOT)} names `make {name}`"


def test_the_longest_files_are_there_and_come_first() -> None:
    files = sorted((path for path in TESTS.rglob("test_*.py")), key=place)
    assert [path.relative_to(TESTS).as_posix() for path in files[: len(LONGEST)]] == list(LONGEST)
    assert files[-1].parent.name == "unit"
