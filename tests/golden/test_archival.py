"""Every platform form in every language is PDF/A-2a and PDF/UA-1, as three programs that are not ours judge it.

So is the same form as PDF/A-1b, where its definition asks for that; PDFBox Preflight is the judge.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pdfplumber
import pikepdf
import pytest
from PIL import Image

from document_service.definitions import read_json
from document_service.exact_json import dumps_exact
from document_service.typesetting.layout_files import install_layout
from document_service.typesetting.pool import TypesettingPool
from document_service.typesetting.press import Press
from engines import PREFLIGHT_JARS, EngineRequirement
from pages import ISSUED_AT, small_page, table
from platform_pages import FORMS, LOCALES, full_job

#: Each looks at all the pages in one go: starting one takes longer than judging a page. TAG-002 of outloud takes the
#: running line of a page (patient, number, page x of y) for prose that nobody reads, unless it recurs on a second
#: page; that what stands in it is read elsewhere is proved below.
CHECKERS = {
    "outloud": ["outloud", "--quiet", "--skip", "TAG-002"],
    "pdfua": ["pdfua", "check", "--min-severity", "error"],
}


async def _printed(folder: Path, archival: str | None = None) -> list[Path]:
    paths = []
    async with TypesettingPool(1) as pool:
        for key in FORMS:
            for locale in LOCALES:
                path = folder / f"{key}.{locale}.pdf"
                job = full_job(key, locale)
                if archival is not None:
                    chosen = {**read_json(job.definition_json), "archival": archival}
                    job = replace(job, definition_json=dumps_exact(chosen))
                path.write_bytes((await pool.render(job)).pdf)
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


@pytest.mark.parametrize("program", CHECKERS)
def test_rows_that_go_with_the_signatures_are_still_accessible(program: str, tmp_path: Path) -> None:
    install_layout(tmp_path)
    slot = {"label": "Clinician", "name": None, "date": None}
    signature = {"type": "signature", "slots": [slot], "note": None}
    for count in range(20, 50, 3):
        model = small_page(table([[f"Row{number}", "x"] for number in range(count)]), signature)
        (tmp_path / f"{count}.pdf").write_bytes(Press(tmp_path).print_page_model(model, {}, ISSUED_AT, "pdf").sheets[0])
    first, *rest = CHECKERS[program]
    command = [str(Path(sys.executable).with_name(first)), *rest, *map(str, sorted(tmp_path.glob("*.pdf")))]
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


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same for definitions that choose PDF/A-1b."""
    return asyncio.run(_printed(tmp_path_factory.mktemp("oldest"), "a-1b"))


def _page_with_a_clear_logo(empty: Path) -> bytes:
    """Logos that one can look through are common, and PDF/A-1 knows no transparency."""
    picture = io.BytesIO()
    Image.new("RGBA", (60, 40), (20, 80, 120, 100)).save(picture, "PNG")
    model = small_page(archival="a-1b")
    install_layout(empty)
    return Press(empty).print_page_model(model, {"logo": picture.getvalue()}, ISSUED_AT, "pdf").sheets[0]


def test_every_form_can_be_pdf_a_1b(oldest: list[Path], require_engine: EngineRequirement, tmp_path: Path) -> None:
    require_engine("pdfbox")
    folder = oldest[0].parent
    (folder / "clear-logo.pdf").write_bytes(_page_with_a_clear_logo(tmp_path))
    checker = "org.apache.pdfbox.preflight.Validator_A1b"
    command = ["java", "-cp", ":".join(PREFLIGHT_JARS), checker, "batch", str(folder)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    said = checked.stdout + checked.stderr
    assert said.count("is a valid PDF/A-1b file") == len(oldest) + 1, said
    assert "not a valid" not in said


def test_a_pdf_a_1b_says_so_and_claims_nothing_else(oldest: list[Path]) -> None:
    for path in oldest:
        with pikepdf.open(path) as pdf:
            assert pdf.check_pdf_syntax() == [], path.name
            assert pdf.pdf_version == "1.4", path.name
            metadata = pdf.open_metadata()
            assert (metadata["pdfaid:part"], metadata["pdfaid:conformance"]) == ("1", "B"), path.name
            assert "pdfuaid:part" not in metadata, path.name


def test_a_pdf_a_1b_looks_like_the_other(archive: list[Path], oldest: list[Path]) -> None:
    for usual, old in zip(archive, oldest, strict=True):
        with pdfplumber.open(usual) as one, pdfplumber.open(old) as other:
            for page, same in zip(one.pages, other.pages, strict=True):
                assert page.to_image(72).original.tobytes() == same.to_image(72).original.tobytes(), old.name
