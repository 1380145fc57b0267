"""The stamp on a printed copy: on every page, legible whatever its turn, and never on the stored bytes."""

from __future__ import annotations

import io
import re

import pikepdf
import pytest

from document_client.errors import StampFailed
from document_client.policy import CachePolicy, parse_policy
from document_client.stamping import stamp, stamp_text

AS_OF = "2026-11-22T13:04:55.123Z"


def pdf(pages: int = 1, *, turn: int = 0, size: tuple[int, int] = (595, 842)) -> bytes:
    document = pikepdf.new()
    for _ in range(pages):
        page = document.add_blank_page(page_size=size)
        page.obj["/Rotate"] = turn
        # A page that leaves a changed graphics state behind.
        page.contents_add(b"0.5 0 0 0.5 9 9 cm")
    made = io.BytesIO()
    document.save(made)
    return made.getvalue()


def contents(data: bytes) -> list[bytes]:
    with pikepdf.open(io.BytesIO(data)) as document:
        found = []
        for page in document.pages:
            page.contents_coalesce()
            found.append(page.obj["/Contents"].read_bytes())
        return found


def test_the_line_says_the_copy_and_the_age_of_its_data() -> None:
    assert stamp_text(2, AS_OF) == "PRINTED OFFLINE, COPY 2, AS OF 2026-11-22 13:04 UTC"
    assert stamp_text(31, None) == "PRINTED OFFLINE, COPY 31"


def test_every_page_is_stamped_outside_what_the_page_left_behind() -> None:
    original = pdf(3)
    kept = bytes(original)
    stamped = contents(stamp(original, copy=1, as_of=AS_OF))
    assert original == kept
    assert len(stamped) == 3
    for content in stamped:
        head, artifact = content.split(b"/Artifact BMC")
        # What the page did is closed before the stamp begins.
        assert head.lstrip().startswith(b"q")
        assert head.rstrip().endswith(b"Q")
        assert b"0.5 0 0 0.5 9 9 cm" in head
        assert artifact.count(b"q ") == artifact.count(b" Q") > 30
        assert artifact.rstrip().endswith(b"EMC")


def test_the_same_copy_has_the_same_bytes_and_another_copy_has_not() -> None:
    original = pdf()
    assert stamp(original, copy=1, as_of=AS_OF) == stamp(original, copy=1, as_of=AS_OF)
    assert stamp(original, copy=1, as_of=AS_OF) != stamp(original, copy=2, as_of=AS_OF)


@pytest.mark.parametrize("locale", ["fa-AF", "ps-AF"])
def test_words_in_dari_and_pashto_are_outlines_and_need_no_font(locale: str) -> None:
    plain, more = (contents(stamp(pdf(), copy=1, as_of=AS_OF, locale=name))[0] for name in ("en", locale))
    assert len(more) > len(plain) + 5000
    with pikepdf.open(io.BytesIO(stamp(pdf(), copy=1, as_of=AS_OF, locale=locale))) as document:
        assert "/Font" not in document.pages[0].obj.get("/Resources", {})


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [(595, 842), (842, 595), (120, 200)])
def test_the_stamp_stays_on_the_paper_however_it_is_turned(turn: int, size: tuple[int, int]) -> None:
    drawn = contents(stamp(pdf(turn=turn, size=size), copy=99, as_of=AS_OF, locale="ps-AF"))[0].split(b"BMC q")[1]
    place = [float(number) for number in re.search(rb"([-\d. ]+) cm", drawn)[1].split()]  # type: ignore[index]
    box = [float(number) for number in re.search(rb"1 g ([-\d. ]+) re", drawn)[1].split()]  # type: ignore[index]
    for x, y in ((box[0], box[1]), (box[0] + box[2], box[1] + box[3])):
        across = place[0] * x + place[2] * y + place[4]
        up = place[1] * x + place[3] * y + place[5]
        assert -0.01 <= across <= size[0] + 0.01
        assert -0.01 <= up <= size[1] + 0.01


@pytest.mark.parametrize("broken", [b"", b"no PDF at all", b"%PDF-1.7\n%%EOF"])
def test_what_cannot_be_stamped_is_refused(broken: bytes) -> None:
    with pytest.raises(StampFailed):
        stamp(broken, copy=1, as_of=None)


def test_the_policy_says_whether_copies_are_stamped() -> None:
    wire = {"cacheTtlSeconds": 1, "leaseSeconds": 1}
    assert parse_policy(wire).stamp_prints is False
    assert parse_policy({**wire, "stampPrints": True}).shortened(0.5) == CachePolicy(
        ttl=0.5, lease=1.0, stamp_prints=True
    )
