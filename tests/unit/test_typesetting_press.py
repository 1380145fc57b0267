"""One page model to paper: order of letters, numbers of pages, codes, archive and accessibility rules."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pdfplumber
import pikepdf
import pytest
import typst
import zxingcpp
from PIL import Image

from document_service import definitions
from document_service.bindings import lay_out
from document_service.errors import GlyphMissing, RenderFailed, RenderTooLarge
from document_service.typesetting import codes
from document_service.typesetting.fit import STRONG, load_advances
from document_service.typesetting.fonts import drawable, font_files
from document_service.typesetting.layout_files import install_layout, layout_sources
from document_service.typesetting.left_to_right import without_isolates
from document_service.typesetting.press import MAX_DEPTH, LayoutMissing, Press, Printed, _depth
from pages import CONTENT, ISSUED_AT, LOCALES, LOGO, fields, full_page, paragraphs, small_page, table
from platform_pages import FORMS, full_job

STEERING = re.compile("[\u200b-\u200f\u2060\u2066-\u2069]")


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Press:
    root = tmp_path_factory.mktemp("layout")
    install_layout(root)
    return Press(root)


def printed(press: Press, model: dict[str, Any], output: str = "pdf", logo: bytes | None = LOGO) -> Printed:
    return press.print_page_model(model, {"logo": logo} if logo else {}, ISSUED_AT, output)


def text_of(pdf: bytes) -> str:
    with pdfplumber.open(io.BytesIO(pdf)) as document:
        return "\n".join(page.extract_text() or "" for page in document.pages)


@pytest.mark.parametrize("locale", LOCALES)
def test_full_form_is_one_sound_page(press: Press, locale: str, tmp_path: Path) -> None:
    result = printed(press, full_page(locale))
    assert (result.pages, result.warnings) == (1, ())
    path = tmp_path / "form.pdf"
    path.write_bytes(result.sheets[0])
    with pikepdf.open(path) as pdf:
        assert pdf.check_pdf_syntax() == []
        metadata = pdf.open_metadata()
        assert metadata["pdfaid:part"] == "2"
        assert metadata["pdfaid:conformance"] == "A"
        assert metadata["pdfuaid:part"] == "1"
        assert not STEERING.search(str(metadata["dc:title"]))
        assert metadata["xmp:CreateDate"] == "2025-11-09T10:02:00+00:00"
    for command in (["outloud", "--quiet", str(path)], ["pdfua", "check", "--min-severity", "error", str(path)]):
        checked = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_same_input_same_bytes_in_another_process(press: Press, tmp_path: Path) -> None:
    here = hashlib.sha256(printed(press, full_page("ps-AF")).sheets[0]).hexdigest()
    script = (
        "import hashlib, json, sys, pathlib, datetime\n"
        "from document_service.typesetting.layout_files import install_layout\n"
        "from document_service.typesetting.press import Press\n"
        "install_layout(pathlib.Path(sys.argv[1]))\n"
        "press = Press(pathlib.Path(sys.argv[1]))\n"
        "content = pathlib.Path(sys.argv[2])\n"
        "model = json.loads((content / 'ps-AF.json').read_text())\n"
        "made = press.print_page_model(model, {'logo': (content / 'logo.svg').read_bytes()},\n"
        "    datetime.datetime.fromisoformat('2025-11-09T14:32:00+04:30'), 'pdf')\n"
        "print(hashlib.sha256(made.sheets[0]).hexdigest())\n"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", script, str(empty), str(CONTENT)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == here
    other = full_page("ps-AF")
    other["identity"]["items"][0][1] = "GTR-2025-000482"
    assert hashlib.sha256(printed(press, other).sheets[0]).hexdigest() != here


@pytest.mark.parametrize("locale", LOCALES)
def test_code_on_the_page_reads_back(press: Press, locale: str) -> None:
    model = full_page(locale)
    content = next(section["content"] for section in model["sections"] if section["type"] == "qr")
    image = Image.open(io.BytesIO(printed(press, model, "png").sheets[0]))
    assert [code.text for code in zxingcpp.read_barcodes(image)] == [content]


@pytest.mark.parametrize("locale", ["fa-AF", "ps-AF"])
def test_naskh_extracts_whole_words_in_order(press: Press, locale: str) -> None:
    model = full_page(locale)
    pdf = printed(press, model).sheets[0]
    extracted = _logical_text(pdf)
    for section in model["sections"]:
        if section["type"] == "table":
            for row in section["rows"]:
                # Brackets are mirrored glyphs, and come out as drawn when letters are read backwards.
                for word in re.findall(r"\w+", STEERING.sub("", row[1])):
                    assert word in extracted, word


def _logical_text(pdf: bytes) -> str:
    """What a reader gets: each run by its ActualText or its ToUnicode map, in the order of the content stream."""
    with pdfplumber.open(io.BytesIO(pdf)) as document:
        chars = document.pages[0].chars
    return STEERING.sub("", "".join(char["text"] for char in chars)) + STEERING.sub(
        "", "".join(char["text"] for char in reversed(chars))
    )


def test_identity_number_and_page_are_on_every_page(press: Press) -> None:
    rows = [[str(number), "Hemoglobin in blood"] for number in range(120)]
    result = printed(press, small_page(table(rows)))
    assert result.pages > 2
    with pdfplumber.open(io.BytesIO(result.sheets[0])) as document:
        for number, page in enumerate(document.pages, 1):
            text = page.extract_text()
            assert f"Page {number} of {result.pages}" in text
            assert "Ahmadzai, Maryam" in text
            assert "T-1" in text
            # The header of the table is repeated.
            assert "Column 0" in text


def test_page_numbers_take_the_digits_of_the_locale(press: Press) -> None:
    model = small_page(paragraphs(*["x"] * 200), rtl=True)
    model["identity"] |= {"digits": "۰۱۲۳۴۵۶۷۸۹", "pageOf": "صفحه {page} از {pages}"}
    result = printed(press, model)
    text = text_of(result.sheets[0])
    assert result.pages > 1
    assert "۲" in text


def test_page_break_does_not_part_a_row_or_a_signature(press: Press) -> None:
    slots = {"type": "signature", "slots": [{"label": "Clinician", "name": "Dr. Rahimi", "date": "Date"}], "note": None}
    for filling in range(30, 48):
        result = printed(press, small_page(table([["r", "x"]] * filling), slots))
        with pdfplumber.open(io.BytesIO(result.sheets[0])) as document:
            texts = [page.extract_text() for page in document.pages]
        assert sum("Clinician" in text and "Dr. Rahimi" in text for text in texts) == 1


SIGNATURE = {"type": "signature", "slots": [{"label": "By hand", "name": None, "date": None}], "note": None}


@pytest.mark.parametrize("before", ["table", "fieldGrid", "paragraphs"])
@pytest.mark.parametrize("rtl", [False, True], ids=["ltr", "rtl"])
def test_signatures_never_stand_alone_on_a_sheet(press: Press, before: str, rtl: bool) -> None:
    """However full the sheet is: something of what is signed stands above the signatures."""
    sheets = set()
    for count in range(1, 60):
        if before == "table":
            sections = [table([[f"Row{number}", "x"] for number in range(count)])]
        else:
            signed = fields(("Signed words", "here")) if before == "fieldGrid" else paragraphs("Signed words")
            sections = [paragraphs(*["Line"] * count), signed]
        result = printed(press, small_page(*sections, SIGNATURE, rtl=rtl))
        sheets.add(result.pages)
        with pdfplumber.open(io.BytesIO(result.sheets[0])) as document:
            last = document.pages[-1].extract_text()
            text = "\n".join(page.extract_text() for page in document.pages)
        assert "By hand" in last
        assert ("Row" if before == "table" else "Signed words") in last, count
        if before == "table":
            assert [int(number) for number in re.findall(r"Row(\d+)", text)] == list(range(count))
    assert {1, 2} <= sheets


@pytest.mark.parametrize("strong", [False, True])
def test_a_table_without_rows_keeps_its_heading(press: Press, strong: bool) -> None:
    """Or "none recorded" stands under the rows of the table before it, and denies what they say."""
    problems = table([["Diabetes mellitus type 2"]], title="Current problems")
    medicines = table([], title="Current medicines", empty="None recorded")
    medicines["columns"][0]["strong"] = strong
    text = text_of(printed(press, small_page(problems, medicines)).sheets[0])
    found = [text.find(words) for words in ("Current problems", "Diabetes", "Current medicines", "None recorded")]
    assert -1 not in found, text
    assert found == sorted(found), text


@pytest.mark.parametrize("key", FORMS)
@pytest.mark.parametrize("kind", ["full", "without rows"])
def test_no_heading_of_a_platform_form_is_left_out(press: Press, key: str, kind: str) -> None:
    """The layout may drop nothing that the page model says; headings are what a reader finds values by."""
    job = full_job(key, "en")
    model = lay_out(
        *(definitions.read_json(part) for part in (job.definition_json, job.resources_json, job.request_json))
    )
    if kind == "without rows":
        for section in model["sections"]:
            section |= {"rows": [], "missing": [], "empty": "None recorded"} if section["type"] == "table" else {}
    text = _letters(text_of(printed(press, model).sheets[0]))
    said = [
        words
        for section in model["sections"]
        for words in (section.get("title"), section.get("empty") if not section.get("rows", True) else None)
        if words
    ]
    assert [words for words in said if _letters(words) not in text] == []


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def test_sections_without_a_header_are_still_accessible(press: Press) -> None:
    model = small_page(fields(("Name", "Maryam")))
    model["sections"] = [fields(("Name", "Maryam")) | {"title": "Patient"}, table([["a"]])]
    assert printed(press, model).pages == 1


@pytest.mark.parametrize("size", ["A4", "A5", "A6", "Letter"])
@pytest.mark.parametrize("orientation", ["portrait", "landscape"])
def test_papers(press: Press, size: str, orientation: str) -> None:
    page = {"size": size, "orientation": orientation, "margins": {"top": 10, "right": 10, "bottom": 10, "left": 10}}
    result = printed(press, small_page(fields(("Name", "Maryam")), page=page))
    with pikepdf.open(io.BytesIO(result.sheets[0])) as pdf:
        _, _, width, height = (float(edge) for edge in pdf.pages[0].mediabox)
    short, long = {"A4": (595, 842), "A5": (420, 595), "A6": (298, 420), "Letter": (612, 792)}[size]
    assert (round(width), round(height)) == ((short, long) if orientation == "portrait" else (long, short))


def test_a_column_may_be_strong_in_its_first_lines_only(press: Press) -> None:
    columns = [{"label": "Medicine", "width": "1fr", "align": "start", "strong": "firstLine"}]
    for rtl, bold in ((False, "SemiBold"), (True, "Bold")):
        section = table([["\u2066Quinine\u2069\n\u2066Zz\u2069"]], columns=columns)
        pdf = printed(press, small_page(section, rtl=rtl)).sheets[0]
        with pdfplumber.open(io.BytesIO(pdf)) as pages:
            fonts = {char["text"]: char["fontname"] for char in pages.pages[0].chars if char["text"] in "QZ"}
        assert bold in fonts["Q"]
        assert bold not in fonts["Z"]


def test_signs_that_the_main_fonts_lack_are_drawn(press: Press) -> None:
    for rtl in (False, True):
        text = text_of(printed(press, small_page(paragraphs("\u2066≤ 41 ≥ 40 ≠ ≈\u2069"), rtl=rtl)).sheets[0])
        assert all(sign in text for sign in "≤≥≠≈")


def test_logo_may_be_a_raster_image(press: Press) -> None:
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.new("RGB", (200, 80), "#1f4e79").save(buffer, kind)
        assert printed(press, small_page(), logo=buffer.getvalue()).pages == 1
    with pytest.raises(RenderFailed):
        printed(press, small_page(), logo=b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(RenderFailed):
        printed(press, small_page(), logo=b"\xff\xfenot a picture")
    buffer = io.BytesIO()
    Image.new("1", (4000, 4000)).save(buffer, "PNG")
    with pytest.raises(RenderTooLarge):
        printed(press, small_page(), logo=buffer.getvalue())


def test_a_preview_of_a_pdf_a_1b_form_keeps_its_translucent_mark(press: Press) -> None:
    result = printed(press, small_page(archival="a-1b", mark="PREVIEW"))
    with pikepdf.open(io.BytesIO(result.sheets[0])) as pdf:
        assert pdf.open_metadata()["pdfaid:part"] == "2"
    assert "\nW\nE\nI\nV\nE\nR\nP\n" in text_of(result.sheets[0]), "it runs up the page"


def test_layout_never_formats_and_never_calls_out() -> None:
    """The library is ours alone: no packages, no evaluation of text, no reading but of what it was handed."""
    for name, source in layout_sources().items():
        if name.endswith(".typ"):
            code = "\n".join(line for line in source.decode().splitlines() if not line.strip().startswith("//"))
            assert "@preview" not in code
            assert not re.search(r"\beval\(|\bplugin\(|sys\.inputs|datetime\.today", code), name
            assert len(re.findall(r"\bread\(", code)) == (1 if name == "data.typ" else 0)


def test_a_press_without_its_library_is_none(tmp_path: Path) -> None:
    with pytest.raises(LayoutMissing):
        Press(tmp_path)


def test_widths_are_never_underestimated(tmp_path: Path) -> None:
    """Rows of fixed height rest on this: what the engine sets is never wider than the bound."""
    advances = load_advances()
    words = sorted({word for locale in LOCALES for word in _strings(full_page(locale))})
    chance = random.Random(7)
    dari = "ابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهیآأئؤةًّ" + "ټډړږښڼګېۍۀ"
    words += ["".join(chance.choice(dari) for _ in range(chance.randint(1, 14))) for _ in range(150)]
    words += ["".join(chance.choice("ABCWMwmilj 0189.,-/()%") for _ in range(20)) for _ in range(100)]
    for direction in ("ltr", "rtl"):
        for strong in (False, True):
            factor = STRONG if strong else 1.0
            for word, width in zip(words, _engine_widths(tmp_path, words, direction, strong), strict=True):
                assert width <= advances[direction].width(word) * factor + 0.01, (direction, strong, word)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for member in value.values() for text in _strings(member)]
    return [text for member in value for text in _strings(member)] if isinstance(value, list) else []


def _engine_widths(empty: Path, words: list[str], direction: str, strong: bool) -> list[float]:
    look = json.loads(layout_sources()["look.json"])[direction]
    weight = look["strong"] if strong else "regular"
    source = (
        f'#set text(font: ({json.dumps(look["fonts"])[1:-1]}), size: 100pt, weight: "{weight}", '
        f"dir: {direction}, kerning: false)\n"
        '#context [#metadata(json("w.json").map(w => measure(text(w)).width.pt())) <w>]'
    )
    compiler = typst.Compiler(
        {"main.typ": source.encode(), "w.json": json.dumps(words).encode()},
        root=str(empty),
        font_paths=sorted({str(path.parent) for path in font_files()}),
        ignore_system_fonts=True,
    )
    return [width / 100 for width in json.loads(compiler.query("<w>", field="value", one=True))]


@pytest.mark.parametrize("length", [1, 20, 75, 400, 1024])
def test_a_codes_picture_is_its_modules(length: int) -> None:
    """Drawn again from the path, run by run, the picture is the code that the library made, module for module."""
    content = "".join(random.Random(length).choices("abcdefXYZ0123456789/:-", k=length))
    code = zxingcpp.create_barcode(content, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    modules = bytes(codes._modules(code))
    picture = codes.qr_svg(content).decode()
    side = int(re.findall(r'viewBox="0 0 (\d+) \1"', picture)[0])
    drawn = bytearray(b"\xff" * side * side)
    runs = re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", picture)
    assert "".join(f"M{x} {y}h{right}v1h-{left}z" for x, y, right, left in runs) in picture
    for x, y, right, left in (map(int, run) for run in runs):
        assert right == left
        drawn[y * side + x : y * side + x + right] = bytes(right)
    assert bytes(drawn) == modules


LEFT_TO_RIGHT = '{"a": "\u2066500 mg – 1.10 %\u2069 · \u2068x\u2069 ≤ 3 °C Müller Ωmega Кабул"}'


def test_isolates_go_only_where_nothing_runs_from_right_to_left() -> None:
    bare = without_isolates(LEFT_TO_RIGHT, "ltr")
    assert bare == re.sub("[\u2066\u2068\u2069]", "", LEFT_TO_RIGHT)
    assert without_isolates(LEFT_TO_RIGHT, "rtl") == LEFT_TO_RIGHT
    # Every character that Unicode writes from right to left, or that asks for it, keeps the page as it is.
    for point in range(0x110000):
        if 0xD800 <= point < 0xE000:
            continue
        if unicodedata.bidirectional(chr(point)) in ("R", "AL", "AN", "RLE", "RLO", "RLI"):
            page = f"{LEFT_TO_RIGHT}{chr(point)}"
            assert without_isolates(page, "ltr") == page, hex(point)


def test_a_page_without_isolates_has_the_same_letters_in_the_same_places(press: Press) -> None:
    """The same page twice, told apart by one letter of Dari that is part of its metadata only."""
    model = isolated(full_page("en"))
    kept = model | {"plainTitle": model["title"] + " آ"}
    with_isolates, without = (_placed(printed(press, one).sheets[0]) for one in (kept, model))
    assert without == with_isolates
    assert len(without) > 1000


def isolated(value: Any, key: str = "") -> Any:
    """The page model with every text that is shown isolated, as the bindings give it."""
    if isinstance(value, str):
        return f"\u2066{value}\u2069" if re.search(r"\d", value) and key not in FIXED_TEXTS else value
    if isinstance(value, list):
        return [isolated(item, key) for item in value]
    if isinstance(value, dict):
        return {name: isolated(item, name) for name, item in value.items()}
    return value


FIXED_TEXTS = {"accent", "width", "size", "content", "align"}


def _placed(pdf: bytes) -> list[tuple[str, float, float]]:
    """Every letter of the first page with its place, in hundredths of a point."""
    with pdfplumber.open(io.BytesIO(pdf)) as opened:
        letters = opened.pages[0].chars
    return sorted(
        (letter["text"], round(letter["x0"], 2), round(letter["top"], 2))
        for letter in letters
        if letter["text"].strip() and not STEERING.search(letter["text"])
    )


def test_every_font_has_what_is_not_looked_up() -> None:
    assert drawable().issuperset(map(chr, range(0x20, 0x7F)))


@pytest.mark.parametrize(
    ("value", "depth"),
    [("flat", 1), ([[], {}], 3), ({"a": [{"b": []}]}, 5), ("]}", 1), ("[" * 40, 1), ([["[" * 40]], 3), ('"]', 1)],
)
def test_depth_is_counted_outside_of_texts(value: Any, depth: int) -> None:
    assert _depth(json.dumps({"value": value})) == depth


@pytest.mark.parametrize("levels", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 500])
def test_depth_is_counted_beyond_the_limit(levels: int) -> None:
    assert _depth("[" * levels + "]" * levels) == levels


@pytest.mark.parametrize("sign", ["\x7f", "\ud800", "\t", "\x00", "\u202e", "😀", "漢"])
def test_signs_without_a_glyph_are_refused(press: Press, sign: str) -> None:
    with pytest.raises(GlyphMissing) as refused:
        printed(press, small_page(fields(("Name", f"a{sign}b"))))
    assert refused.value.extra["codePoint"] == f"U+{ord(sign):04X}"
