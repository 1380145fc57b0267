"""One version everywhere, and a changelog that knows it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import document_client
import document_service

ROOT = Path(__file__).parent.parent.parent


def test_both_distributions_have_one_version() -> None:
    versions = {
        tomllib.loads((ROOT / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        for name in ("server", "client")
    }
    assert versions == {document_service.__version__} == {document_client.__version__}


def test_the_changelog_begins_with_what_is_not_released() -> None:
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections[0].startswith("Unreleased")
    released = [section for section in sections[1:] if section.startswith(document_service.__version__)]
    # The version in the code is either the one being prepared or the last one released.
    assert f"({document_service.__version__})" in sections[0] or sections[1:2] == released[:1] != []


def test_no_text_holds_the_marks_of_a_merge() -> None:
    marks = re.compile(r"^(?:<<<<<<<|>>>>>>>) ", re.MULTILINE)
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "client").rglob("*.md")]
    assert [path.name for path in texts if marks.search(path.read_text(encoding="utf-8"))] == []


def test_the_openapi_document_names_the_version() -> None:
    assert f'"version": "{document_service.__version__}"' in (ROOT / "docs/openapi.json").read_text(encoding="utf-8")
