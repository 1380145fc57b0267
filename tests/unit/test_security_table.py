"""The table against OWASP ASVS 5.0 chapter V5 in docs/security.md: whole, and with tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from document_service import uploads
from document_service.scanner import MAX_BYTES, MAX_LOGO_BYTES
from document_service.scanner.child import MEMORY_BYTES
from document_service.scanner.images import MAX_FRAMES, MAX_PIXELS, MAX_TOTAL_PIXELS
from document_service.scanner.isolation import ANSWER_SECONDS
from document_service.scanner.logos import MAX_LOGO_PIXELS

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs/security.md").read_text(encoding="utf-8")

#: The requirements of the chapter, as published in May 2025.
SECTIONS = {1: 1, 2: 6, 3: 3, 4: 3}
LINES = [f"V5.{section}.{line}" for section, last in SECTIONS.items() for line in range(1, last + 1)]


def rows() -> dict[str, list[str]]:
    found = [line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith("| V5.")]
    return {cells[0].strip(): [cell.strip() for cell in cells] for cells in found}


def test_every_line_of_the_chapter_has_its_row_and_a_test() -> None:
    assert list(rows()) == LINES
    for number, cells in rows().items():
        assert len(cells) == 4, number
        assert all(cells), number
        assert "::" in cells[3], number


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > len(LINES)
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"{path} has no {name}"


def test_the_limits_are_those_of_the_code() -> None:
    told = rows()["V5.1.1"][2]
    for fact in (
        f"at most {MAX_BYTES:,} bytes",
        f"{MAX_PIXELS // 10**6} million pixels a page",
        f"{MAX_FRAMES} pages",
        f"{MAX_TOTAL_PIXELS // 10**6} million pixels a file",
        f"{MEMORY_BYTES >> 30} GiB of memory",
        f"{ANSWER_SECONDS:.0f} s for the inspection",
        f"{MAX_LOGO_BYTES // 1024} KB",
        f"{MAX_LOGO_PIXELS // 10**6} million pixels.",
    ):
        assert fact in told
    quota = rows()["V5.2.4"][2]
    for fact in (
        f"{uploads.OPEN_FILES_PER_USER} files and {uploads.OPEN_BYTES_PER_USER >> 20} MB on the way",
        f"{uploads.DAILY_FILES_PER_USER:,} files and {uploads.DAILY_BYTES_PER_USER >> 30} GB begun within a day",
        f"after {['zero', 'one', 'two', 'three'][uploads.ABANDONED_AFTER.days]} days",
    ):
        assert fact in quota
