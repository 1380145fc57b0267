"""Every platform form in every locale looks as it did when somebody last looked at it.

The pictures are those of ``docs/pictures``. A change of layout, fonts or engine is looked at, then accepted by

    ACCEPT_PICTURES=1 .venv/bin/python -m pytest tests/golden/test_pictures.py
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from document_service.bindings import lay_out
from document_service.definitions import read_json
from document_service.exact_json import dumps_exact
from document_service.typesetting.press import Press
from pages import LOCALES, LOGO, full_page
from platform_pages import FORMS, ISSUED_AT, full_inputs, full_resources, request

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"

# Anti-aliasing differs by a shade between machines; a moved letter differs by more than this on more than that share
# of the page.
SHADE = 48
SHARE = 0.0005


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Press:
    return Press(tmp_path_factory.mktemp("empty"))


def page_model(key: str, locale: str) -> dict[str, Any]:
    """The form with everything filled in, native digits and both calendars: the widest that a page can be asked for."""
    form = FORMS[key]
    resources = read_json(dumps_exact(full_resources(form, locale)))
    return dict(lay_out(form.definition.encode(), resources, request(form, locale, full_inputs(key, locale))))


def compare(press: Press, model: dict[str, Any], name: str) -> None:
    sheets = press.print_page_model(model, {"logo": LOGO}, ISSUED_AT, "png").sheets
    for number, sheet in enumerate(sheets, 1):
        path = PICTURES / f"{name}.{number}.png"
        if os.environ.get("ACCEPT_PICTURES"):
            # Sixteen greys and blues are all that the page has; this makes the files a quarter of the size.
            Image.open(io.BytesIO(sheet)).convert("RGB").quantize(48).save(path, optimize=True)
        assert path.exists(), f"look at page {number} of {name}, then accept it (see above)"
        new, kept = Image.open(io.BytesIO(sheet)).convert("L"), Image.open(path).convert("L")
        assert new.size == kept.size
        changed = ImageChops.difference(new, kept).point(lambda shade: 255 if shade > SHADE else 0)
        share = ImageStat.Stat(changed).mean[0] / 255
        if share > SHARE:
            new.save(Path(os.environ.get("TMPDIR", "/tmp")) / path.name)  # noqa: S108  # For whoever looks.
        assert share <= SHARE, f"page {number} of {name} changed: {share:.2%} of it"
    extra = PICTURES / f"{name}.{len(sheets) + 1}.png"
    assert not extra.exists(), f"{name} has fewer pages than its pictures"


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("form", FORMS)
def test_platform_form_looks_as_accepted(press: Press, form: str, locale: str) -> None:
    compare(press, page_model(form, locale), f"{form}.{locale}")


@pytest.mark.parametrize("locale", LOCALES)
def test_full_page_looks_as_accepted(press: Press, locale: str) -> None:
    compare(press, full_page(locale), f"full-page.{locale}")
