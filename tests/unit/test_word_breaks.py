"""A word that is wider than its column gets room from other columns, or a hyphen at a line end; a number never does."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pdfplumber
import pytest

from document_service.bindings import lay_out
from document_service.definitions import read_json
from document_service.errors import RenderTooLarge
from document_service.exact_json import dumps_exact
from document_service.typesetting.column_widths import roomier
from document_service.typesetting.fit import MARGIN
from document_service.typesetting.layout_files import install_layout
from document_service.typesetting.press import Press
from document_service.typesetting.word_breaks import MAY_BREAK, SOFT_HYPHEN, with_breaks
from pages import ISSUED_AT, LOCALES, LOGO, fields, paragraphs, small_page, table
from platform_pages import FORMS, full_inputs, full_resources, request

LONG_NAMES = (
    "Phenoxymethylpenicillin",
    "Hydroxypropylmethylcellulose",
    "Hydroxymethylnitrofurantoin",
    "Medroxyprogesterone",
    "Benzathinebenzylpenicillin",
    "Dextromethorphanhydrobromide",
    "Diethylstilbestrol",
    "Sulfamethoxypyridazine",
    "Chlortetracyclinehydrochloride",
    "Hydroxyprogesteronecaproate",
)


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Press:
    root = tmp_path_factory.mktemp("layout")
    install_layout(root)
    return Press(root)


def _width(text: str) -> float:
    """Half an em for each sign: the rules are the same for any widths."""
    return 0.5 * len(text.replace(SOFT_HYPHEN, ""))


@pytest.mark.parametrize("name", LONG_NAMES)
def test_a_name_is_parted_into_the_fewest_stretches_that_fit(name: str) -> None:
    for room in (4.5, 6.0, 8.0):
        broken = with_breaks(f"{name} 250 mg", room, _width, MARGIN, hyphens=True)
        assert broken is not None
        assert broken.replace(SOFT_HYPHEN, "") == f"{name} 250 mg"
        parts = broken.split(" ")[0].split(SOFT_HYPHEN)
        assert all(_width(part) <= room for part in [*(part + "-" for part in parts[:-1]), parts[-1]])
        assert all(len(part) >= 3 for part in (parts[0], parts[-1]))
    assert with_breaks(name, 4.0, _width, MARGIN, hyphens=False) is None


def test_joined_script_parts_only_where_no_letter_changes_its_form() -> None:
    broken = with_breaks("فینوکسی\u200cمیتایل\u200cپنی\u200cسیلین", 7.0, _width, MARGIN, hyphens=True)
    assert broken is not None
    assert SOFT_HYPHEN in broken
    for before in re.findall(f"(.){SOFT_HYPHEN}", broken):
        assert before in "\u200cاآدذرزژو"


@pytest.mark.parametrize("word", ["12345678901234567890", "1,234,567.890,123", "9" * 60, "1234567890mg"])
def test_a_number_is_never_parted(word: str) -> None:
    assert with_breaks(word, 4.0, _width, MARGIN, hyphens=True) is None


def test_an_identifier_beyond_every_word_parts_outside_its_numbers() -> None:
    broken = with_breaks("ab12" * 11, 4.0, _width, MARGIN, hyphens=True)
    assert broken is not None
    assert broken.replace(MAY_BREAK, "") == "ab12" * 11
    assert {*broken.split(MAY_BREAK)} == {"a", "b", "12"}


def test_room_comes_from_shares_first_and_never_from_millimetres() -> None:
    columns = [{"width": "10mm"}, {"width": "1fr"}, {"width": "auto"}, {"width": "1fr"}]
    widths, content = [28.0, 100.0, 100.0, 100.0], 328.0
    assert roomier(columns, widths, [28.0, 120.0, 50.0, 40.0], content) == [28.0, 120.0, 100.0, 80.0]
    given = roomier(columns, widths, [10.0, 140.0, 50.0, 80.0], content)
    assert given == pytest.approx([28.0, 140.0, 80.0, 80.0])
    assert roomier(columns, widths, [40.0, 90.0, 90.0, 80.0], content)[0] == 40.0, "the number of the hundredth row"
    assert sum(roomier(columns, widths, [300.0] * 4, content)) == content


def _words(pdf: bytes) -> str:
    """What the pages say, with words that a line's end parted put together again."""
    with pdfplumber.open(io.BytesIO(pdf)) as pages:
        text = "\n".join(page.extract_text() for page in pages.pages)
    return re.sub(r"\u00ad|(?<=[a-z])-\n", "", re.sub(r"\u00ad-?\n", "", text))


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("rtl", [False, True])
def test_the_longest_names_print_inside_a_narrow_column(press: Press, rtl: bool, strong: bool) -> None:
    # Each column needs what it has for words of its own: nothing can be given, so the names are parted.
    columns = [{"label": "A", "width": "21mm", "align": "start", "strong": strong} for _ in range(8)]
    rows = [[name] * 8 for name in LONG_NAMES]
    section = table(rows, columns=columns)
    section["columns"][7]["width"] = "1fr"
    pdf = press.print_page_model(small_page(section, rtl=rtl), {}, ISSUED_AT, "pdf").sheets[0]
    left, wide = 18 * 72 / 25.4, 21 * 72 / 25.4
    edges = [left + wide * number for number in range(8)]
    with pdfplumber.open(io.BytesIO(pdf)) as pages:
        letters = [c for page in pages.pages for c in page.chars if c["size"] > 8.9 and c["size"] < 10.1]
        for letter in letters if not rtl else []:
            column = max(edge for edge in edges if edge <= letter["x0"] + 0.1)
            assert letter["x1"] <= column + wide - 5 or column == edges[7], "no letter leaves its column"
        assert any(letter["text"] in ("-", SOFT_HYPHEN) for letter in letters)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", LONG_NAMES)
def test_every_name_can_be_prescribed(press: Press, name: str, locale: str) -> None:
    form = FORMS["outpatient-prescription"]
    medicine = f"{name} 250 mg tablet"
    resources = full_resources(form, locale)
    resources["orders"] = [
        order | {"medicationCodeableConcept": {"text": medicine}}
        for order in resources["orders"]
        if "medicationCodeableConcept" in order
    ]
    inputs = full_inputs(form.key, locale)
    inputs["medicines"] = [{**entry, "medicine": medicine} for entry in inputs["medicines"]]
    page = dict(lay_out(form.definition.encode(), read_json(dumps_exact(resources)), request(form, locale, inputs)))
    text = _words(press.print_page_model(page, {"logo": LOGO}, ISSUED_AT, "pdf").sheets[0])
    assert text.count(name) >= 2, "as ordered and as added by hand"


def test_names_of_any_length_print_in_fields_and_paragraphs(press: Press) -> None:
    longest = "Hydroxypropylmethylcelluloseacetatesuccinate"
    grid = fields(*[("Medicine", longest)] * 4, columns=4)
    for field in grid["fields"]:
        field["strong"] = True
    pdf = press.print_page_model(small_page(grid, paragraphs(longest * 6)), {}, ISSUED_AT, "pdf").sheets[0]
    assert _words(pdf).replace("\n", "").count(longest) >= 6


def test_a_hundred_rows_and_a_thousand_have_room_for_their_number(press: Press) -> None:
    digits = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
    columns = [
        {"label": "No.", "width": "10mm", "align": "start"},
        {"label": "Medicine", "width": "1fr", "align": "start", "strong": True},
    ]
    rows = [[f"\u2066{number}\u2069".translate(digits), "Metformin 500 mg"] for number in range(1, 1002)]
    model = small_page(table(rows, columns=columns), rtl=True)
    assert press.print_page_model(model, {}, ISSUED_AT, "pdf").pages > 10


def test_a_long_number_is_still_refused(press: Press, tmp_path: Path) -> None:
    with pytest.raises(RenderTooLarge, match="/sections/1/rows/0/0 is wider than its column"):
        press.print_page_model(small_page(table([["1" * 39, *["x" * 9] * 5]])), {}, ISSUED_AT, "pdf")
