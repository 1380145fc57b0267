"""The PDF of an image is PDF/A-1b in the eyes of a checker that is not ours: PDFBox Preflight."""

from __future__ import annotations

import subprocess
from pathlib import Path

from document_service.scanner.inspection import convert
from engines import PREFLIGHT_JARS, EngineRequirement
from hostile_files import HONEST


def test_every_kind_of_image_becomes_pdf_a(require_engine: EngineRequirement, tmp_path: Path) -> None:
    require_engine("pdfbox")
    images = [what for what in HONEST if "PDF" not in what]
    listed = tmp_path / "all"
    listed.mkdir()
    for what in images:
        (listed / f"{what}.pdf").write_bytes(convert(HONEST[what][0])[0])
    checker = "org.apache.pdfbox.preflight.Validator_A1b"
    command = ["java", "-cp", ":".join(PREFLIGHT_JARS), checker, "batch", str(listed)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    said = checked.stdout + checked.stderr
    assert said.count("is a valid PDF/A-1b file") == len(images), said
    assert "not a valid" not in said
