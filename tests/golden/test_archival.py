"""Every platform form in every language is PDF/A-2a and PDF/UA-1, as three programs that are not ours judge it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pdfplumber
import pikepdf
import pytest

from document_service.typesetting.pool import TypesettingPool
from engines import EngineRequirement
from platform_pages import FORMS, LOCALES, full_job

#: Each looks at all the pages in one go: starting one takes longer than judging a page. TAG-002 of outloud takes the
#: running line of a page (patient, number, page x of y) for prose that nobody reads, unless it recurs on a second
#: page; that what stands in it is read elsewhere is proved below.
CHECKERS = {
    "outloud": ["outloud", "--quiet", "--skip", "TAG-002"],
    "pdfua": ["pdfua", "check", "--min-severity", "error"],
}


async def _printed(folder: Path) -> list[Path]:
    paths = []
    async with TypesettingPool(1) as pool:
        for key in FORMS:
            for locale in LOCALES:
                path = folder / f"{key}.{locale}.pdf"
                path.write_bytes((await pool.render(full_job(key, locale))).pdf)
                paths.append(path)
    return paths


#: Labels are cut apart: they name the patient and no document.
SHEETS = ("patient-label-sheet",)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every form in every language, printed from a full record."""
    return asyncio.run(_printed(tmp_path_factory.mktemp("archive")))


@pytest.mark.parametrize("program", CHECKERS)
def test_every_form_passes(archive: list[Path], program: str) -> None:
    first, *rest = CHECKERS[program]
    command = [str(Path(sys.executable).with_name(first)), *rest, *map(str, archive)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_form_is_a_sound_file(archive: list[Path], require_engine: EngineRequirement) -> None:
    require_engine("qpdf")
    for path in archive:
        checked = subprocess.run(["qpdf", "--check", str(path)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{path.name}: {checked.stdout}{checked.stderr}"


def test_every_form_says_what_it_is(archive: list[Path]) -> None:
    for path in archive:
        with pikepdf.open(path) as pdf:
            metadata = pdf.open_metadata()
            claimed = [metadata[name] for name in ("pdfaid:part", "pdfaid:conformance", "pdfuaid:part")]
            assert claimed == ["2", "A", "1"], path.name
            assert path.name.split(".")[1].split("-")[0] == str(pdf.Root.Lang).split("-")[0], path.name
            assert metadata["dc:title"]


@pytest.mark.parametrize("key", FORMS)
def test_what_the_running_line_says_is_read_aloud_too(archive: list[Path], key: str) -> None:
    """The running line is an artifact, as PDF/UA wants of it: a screen reader passes over it on every page."""
    path = next(path for path in archive if path.name == f"{key}.en.pdf")
    with pdfplumber.open(path) as pdf:
        spoken = "".join(char["text"] for char in pdf.pages[0].chars if char["mcid"] is not None)
    spoken = spoken.replace("\u00a0", " ")
    for said in ("Sample Patient", "SAMPLE-0001"):
        assert said in spoken, said
    if key not in SHEETS:
        assert "KCC-2026-000481" in spoken
