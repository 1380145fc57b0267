"""Our own inspection of files: every hostile one has its code, every honest one passes and becomes PDF/A."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms

from document_service.scanner import REASONS, srgb
from document_service.scanner.filetype import kind_by_content, kind_by_declaration
from document_service.scanner.image_pdf import image_to_pdf, page_size
from document_service.scanner.images import ImageTooLarge, ImageUnreadable, Page, bare_jpeg, count_pages
from document_service.scanner.inspection import convert, inspect, prove_ready
from document_service.scanner.signatures import RULES_FOLDER, Signatures
from document_service.scanner.verdict import verdict_of
from hostile_files import HONEST, HOSTILE, image, pdf_of


@pytest.fixture(scope="module")
def signatures() -> Signatures:
    return Signatures()


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_has_its_code(what: str, signatures: Signatures) -> None:
    data, content_type, name, code = HOSTILE[what]
    verdict = inspect(data, content_type, name, signatures)
    assert (verdict.code, verdict.state) == (code, REASONS[code].state), verdict.findings
    assert verdict.title == REASONS[code].title


@pytest.mark.parametrize("what", HONEST)
def test_an_honest_file_is_accepted(what: str, signatures: Signatures) -> None:
    data, content_type, name, pages = HONEST[what]
    verdict = inspect(data, content_type, name, signatures)
    assert (verdict.state, verdict.code, verdict.findings) == ("accepted", None, ())
    assert verdict.pages == pages


def test_every_code_but_the_size_has_a_hostile_file() -> None:
    assert {code for *_, code in HOSTILE.values()} == set(REASONS) - {"FILE_TOO_LARGE"}


def test_the_gravest_rule_names_the_verdict() -> None:
    order = list(REASONS)
    for index, code in enumerate(order):
        assert verdict_of(order[index:], "pdf", 1).code == code
    assert verdict_of([], "pdf", 1).state == "accepted"
    assert verdict_of([], None, None).code == "FILE_TYPE_MISMATCH"
    with pytest.raises(KeyError):
        verdict_of(["SOMETHING_NEW"], "pdf", 1)


def test_the_self_test_passes_and_notices_rules_that_find_nothing(signatures: Signatures) -> None:
    prove_ready(signatures)

    class Blind:
        def scan(self, data: bytes, kind: str) -> list[object]:
            return []

    with pytest.raises(RuntimeError, match="test signature"):
        prove_ready(Blind())  # type: ignore[arg-type]


def test_no_file_of_the_scanner_holds_the_test_signature() -> None:
    mark = b"7}$" + b"EICAR"
    for folder in (RULES_FOLDER.parent, Path(__file__).parents[1]):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix in (".py", ".yar"):
                assert mark not in path.read_bytes(), path


@pytest.mark.parametrize("what", [what for what in HONEST if "PDF" not in what])
def test_an_image_becomes_a_pdf_with_its_pages_and_pixels(what: str, signatures: Signatures) -> None:
    data, _, _, pages = HONEST[what]
    made, count = convert(data)
    assert (convert(data)[0], count) == (made, pages)
    verdict = inspect(made, "application/pdf", "a.pdf", signatures)
    assert (verdict.state, verdict.pages) == ("accepted", pages)
    with pikepdf.open(io.BytesIO(made)) as pdf, Image.open(io.BytesIO(data)) as original:
        assert not pdf.check_pdf_syntax()
        assert pdf.Root.OutputIntents[0].S == pikepdf.Name.GTS_PDFA1
        for index, page in enumerate(pdf.pages):
            original.seek(index)
            drawn = pikepdf.PdfImage(page.Resources.XObject.P).as_pil_image()
            assert drawn.size == original.size
            if original.mode in ("1", "L", "RGB"):
                assert drawn.convert("RGB").tobytes() == original.convert("RGB").tobytes()


def test_metadata_and_what_follows_the_end_stay_out_of_the_page() -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at the home of Gul Makai"
    data = image("JPEG", exif=exif, comment=b"Gul Makai again") + b"trailing Gul Makai"
    made, _ = image_to_pdf(data, "jpeg")
    assert b"Gul Makai" not in made
    bare = bare_jpeg(data)
    assert bare is not None
    with Image.open(io.BytesIO(bare)) as stripped, Image.open(io.BytesIO(data)) as original:
        assert stripped.tobytes() == original.tobytes()


@pytest.mark.parametrize("turn", range(2, 9))
def test_a_phone_held_sideways_gives_an_upright_page(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    made, _ = image_to_pdf(image("JPEG", (80, 40), exif=exif), "jpeg")
    with pikepdf.open(io.BytesIO(made)) as pdf:
        width, height = (float(pdf.pages[0].MediaBox[index]) for index in (2, 3))
    assert (height > width) is (turn >= 5)


def test_transparent_is_white_and_sixteen_bits_keep_their_greys() -> None:
    output = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(output, "PNG")
    made, _ = image_to_pdf(output.getvalue(), "png")
    assert _first_picture(made).getpixel((0, 0)) == (255, 255, 255)
    deep = Image.new("I;16", (2, 1))
    deep.putpixel((0, 0), 1000)
    deep.putpixel((1, 0), 60000)
    output = io.BytesIO()
    deep.save(output, "PNG")
    picture = _first_picture(image_to_pdf(output.getvalue(), "png")[0])
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [0, 255]


def _first_picture(made: bytes) -> Image.Image:
    with pikepdf.open(io.BytesIO(made)) as pdf:
        return pikepdf.PdfImage(pdf.pages[0].Resources.XObject.P).as_pil_image().copy()


@pytest.mark.parametrize(
    ("width", "height", "dpi", "expected"),
    [
        (2480, 3508, (300, 300), (595.2, 841.9)),  # A4 scanned
        (1748, 2480, (300, 300), (419.5, 595.2)),  # A5 keeps its size
        (4000, 3000, None, (793.7, 595.3)),  # a photograph fits A4, lying
        (3000, 4000, None, (595.3, 793.7)),
        (9000, 9000, (75, 75), (595.3, 595.3)),  # three metres wide: the resolution is wrong
        (30, 30, (300, 300), (595.3, 595.3)),  # a tenth of an inch as well
    ],
)
def test_pages_have_the_size_of_paper(
    width: int, height: int, dpi: tuple[float, float] | None, expected: tuple[float, float]
) -> None:
    assert page_size(Page(width, height, dpi, 3, 8, "png", b"")) == pytest.approx(expected, abs=0.1)


def test_the_profile_is_srgb() -> None:
    """Little CMS reads it and turns its colours into those of its own sRGB."""
    ours = ImageCms.ImageCmsProfile(io.BytesIO(srgb.profile()))
    assert (ours.profile.version, ours.profile.xcolor_space.strip()) == (2.1, "RGB")
    picture = Image.merge("RGB", [Image.linear_gradient("L").rotate(angle) for angle in (0, 90, 180)])
    turned = ImageCms.profileToProfile(picture, ours, ImageCms.createProfile("sRGB"))
    assert turned is not None
    differences = ImageChops.difference(picture, turned).getextrema()
    assert max(high for _, high in differences) <= 1  # type: ignore[misc]


def test_too_many_pages_or_pixels_are_refused_before_decoding() -> None:
    pages = image("TIFF", (1, 1), "1", save_all=True, append_images=[Image.new("1", (1, 1))] * 200)
    with pytest.raises(ImageTooLarge):
        count_pages(pages, "tiff")


def test_what_is_no_image_is_not_converted() -> None:
    for data in (b"", b"hello", pdf_of(), image("GIF"), image("PNG")[:60]):
        with pytest.raises(ImageUnreadable):
            convert(data)


def test_content_name_and_declaration_must_agree() -> None:
    assert kind_by_declaration("IMAGE/TIFF ; x=y", "A B.c.TIF") == "tiff"
    for content_type, name in [("image/tiff", "a.pdf"), ("", "a.pdf"), ("application/pdf", "pdf"), ("text/plain", "a")]:
        assert kind_by_declaration(content_type, name) is None
    assert kind_by_content(b" %PDF-1.4") is None


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_get_a_verdict_and_never_an_exception(data: st.DataObject) -> None:
    whole, content_type, name, _ = HONEST[data.draw(st.sampled_from(sorted(HONEST)))]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = damaged[: data.draw(st.integers(1, len(damaged)))]
    assert inspect(bytes(cut), content_type, name, _shared()).state in ("accepted", "failed", "quarantined")


_signatures: list[Signatures] = []


def _shared() -> Signatures:
    if not _signatures:
        _signatures.append(Signatures())
    return _signatures[0]
