"""Every platform form in every locale looks as it did when somebody last looked at it (see ``tests/pictures.py``)."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from document_service.bindings import lay_out
from document_service.definitions import read_json
from document_service.exact_json import dumps_exact
from document_service.typesetting.layout_files import install_layout
from document_service.typesetting.press import Press
from pages import LOCALES, LOGO, full_page
from pictures import PICTURES, require_accepted
from platform_pages import FORMS, ISSUED_AT, full_inputs, full_resources, request, twelve_orders


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Press:
    root = tmp_path_factory.mktemp("layout")
    install_layout(root)
    return Press(root)


def page_model(key: str, locale: str, **members: Any) -> dict[str, Any]:
    """The form with everything filled in, native digits and both calendars: the widest that a page can be asked for.

    ``members`` are read instead of what the full record has of their names.
    """
    form = FORMS[key]
    resources = read_json(dumps_exact(full_resources(form, locale) | members))
    return dict(lay_out(form.definition.encode(), resources, request(form, locale, full_inputs(key, locale))))


def compare(press: Press, model: dict[str, Any], name: str) -> None:
    sheets = press.print_page_model(model, {"logo": LOGO}, ISSUED_AT, "png").sheets
    for number, sheet in enumerate(sheets, 1):
        require_accepted(Image.open(io.BytesIO(sheet)), f"{name}.{number}")
    assert not (PICTURES / f"{name}.{len(sheets) + 1}.png").exists(), f"{name} has fewer pages than its pictures"


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("form", FORMS)
def test_platform_form_looks_as_accepted(press: Press, form: str, locale: str) -> None:
    compare(press, page_model(form, locale), f"{form}.{locale}")


@pytest.mark.parametrize("locale", LOCALES)
def test_twelve_ordinary_tests_and_their_signatures_are_one_sheet(press: Press, locale: str) -> None:
    model = page_model("general-test-requisition", locale, orders=twelve_orders(locale))
    assert len(press.print_page_model(model, {"logo": LOGO}, ISSUED_AT, "png").sheets) == 1
    compare(press, model, f"general-test-requisition-12.{locale}")


@pytest.mark.parametrize("locale", LOCALES)
def test_full_page_looks_as_accepted(press: Press, locale: str) -> None:
    compare(press, full_page(locale), f"full-page.{locale}")
