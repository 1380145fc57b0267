"""Each section of docs/template-language.md prints the picture that stands beside it, in every locale of the example.

Looked at and accepted as ``tests/pictures.py`` says.
"""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from document_service import definitions, sample_patients
from document_service.bindings import lay_out
from document_service.definitions.checks import definition_schema
from document_service.exact_json import dumps_exact
from document_service.typesetting.layout_files import install_layout
from document_service.typesetting.press import Press
from pages import ISSUED_AT, LOGO
from pictures import require_accepted
from requisition import request

DOCS = Path(__file__).parents[2] / "docs"
FORM = DOCS / "examples" / "every-section.json"

#: The foot of the page, which every form has: it is not part of a section.
FOOT_SHARE = 0.12

#: White around what is printed, in pixels.
EDGE = 12


def shown_sections() -> dict[str, dict[str, Any]]:
    """The sections that the document shows, by type."""
    text = (DOCS / "template-language.md").read_text(encoding="utf-8")
    found = re.findall(r"<!-- section: (\w+) -->\n```json\n(.*?)\n```", text, re.DOTALL)
    return {name: definitions.read_json(section) for name, section in found}


SECTIONS = shown_sections()


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Press:
    root = tmp_path_factory.mktemp("layout")
    install_layout(root)
    return Press(root)


def form_of(section: dict[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = copy.deepcopy(definitions.read_json(FORM.read_bytes()))
    form["sections"] = [section]
    return form


def printed(press: Press, section: dict[str, Any], locale: str) -> Image.Image:
    """The section alone on a page, without the page's foot and cut to what is printed."""
    form = form_of(section)
    asked = request(
        locale,
        inputs=sample_patients.sample_inputs(form["inputs"], locale),
        documentNumber="KCC-2025-000481",
        templateName=form["labels"][locale]["title"],
        patientCheck=None,
        verificationUrl="https://documents.example/verify/7Q4MZK2WX9RTN8BV3HCJ",
    )
    filled = sample_patients.for_locale(locale).fill(form["context"])
    model = dict(lay_out(form, definitions.read_json(dumps_exact(filled.resources)), asked))
    (sheet,) = press.print_page_model(model, {"logo": LOGO}, ISSUED_AT, "png").sheets
    page = Image.open(io.BytesIO(sheet)).convert("RGB")
    page = page.crop((0, 0, page.width, int(page.height * (1 - FOOT_SHARE))))
    box = ImageChops.difference(page, Image.new("RGB", page.size, "white")).getbbox()
    assert box is not None, "nothing is printed"
    return page.crop((0, max(box[1] - EDGE, 0), page.width, min(box[3] + EDGE, page.height)))


def test_every_type_of_section_is_shown() -> None:
    types = definition_schema()["$defs"]["section"]["properties"]["type"]["enum"]
    assert list(SECTIONS) == sorted(SECTIONS, key=types.index)
    assert set(SECTIONS) == set(types)
    assert all(section["type"] == name for name, section in SECTIONS.items())


def test_the_example_and_each_shown_section_are_good_definitions() -> None:
    assert definitions.check(definitions.read_json(FORM.read_bytes())) == []
    for name, section in SECTIONS.items():
        assert definitions.check(form_of(section)) == [], name


@pytest.mark.parametrize("name", SECTIONS)
def test_section_looks_as_shown(press: Press, name: str) -> None:
    require_accepted(printed(press, SECTIONS[name], "en"), f"section-{name}.1")
    # The other direction prints as well; how is seen on the platform's forms.
    assert printed(press, SECTIONS[name], "fa-AF").height > EDGE
