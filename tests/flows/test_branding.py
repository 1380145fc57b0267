"""Branding on the real service: every form carries it, a change is for later renders, and it never breaks a page."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pdfplumber
import pytest
from PIL import Image, ImageDraw

from running_service import Api, Service, request_for

ROUTE = "/v1/tenant/branding"


@pytest.fixture(scope="module")
def tenant(service: Service, fhir_url: str) -> str:
    """One tenant for the module; tests set what they look at."""
    return service.create_tenant(fhir_url, "--name", "Karte Seh Clinic", "--phone", "+93 20 555 0100")


@pytest.fixture(scope="module")
def api(service: Service, tenant: str) -> Iterator[Api]:
    """A caller with every role in that tenant."""
    with service.caller(tenant) as caller:
        yield caller


def logo(colour: str = "#b3261e", size: tuple[int, int] = (600, 300), kind: str = "PNG") -> bytes:
    """A drawn picture."""
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((10, 10, size[0] - 10, size[1] - 10), fill=colour)
    output = io.BytesIO()
    (picture.convert("RGB") if kind == "JPEG" else picture).save(output, kind)
    return output.getvalue()


def put(api: Api, **values: Any) -> dict[str, Any]:
    """Change the texts and colours over the state that is there."""
    etag = api.get(ROUTE).headers["etag"]
    answer = api.put(ROUTE, json=values, headers={"If-Match": etag})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def put_logo(api: Api, picture: bytes, kind: str = "png") -> Any:
    """Send a logo over the state that is there."""
    etag = api.get(ROUTE).headers["etag"]
    return api.put(ROUTE + "/logo", content=picture, headers={"If-Match": etag, "Content-Type": f"image/{kind}"})


def rendered(api: Api, locale: str = "en") -> bytes:
    """The bytes of a fresh document."""
    job = api.render(request_for(api.platform_version(), locale=locale))
    assert job["status"] == "completed", job
    return bytes(api.content(job["documentId"]).content)


def test_what_the_operator_set_is_shown(api: Api) -> None:
    shown = api.get(ROUTE)
    assert (shown.json()["name"], shown.json()["phone"], shown.json()["logo"]) == (
        "Karte Seh Clinic",
        "+93 20 555 0100",
        None,
    )
    assert api.get(ROUTE, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304


def test_every_form_carries_it_and_old_documents_stay(api: Api) -> None:
    job = api.render(request_for(api.platform_version()))
    before = api.content(job["documentId"]).content
    put(api, name="Noor Hospital", address=["Street 4", "Kabul"], footer="Licence 4417", accent="#7A1F1F")
    assert put_logo(api, logo()).status_code == 200
    for locale in ("en", "fa-AF", "ps-AF"):
        with pdfplumber.open(io.BytesIO(rendered(api, locale))) as pdf:
            page = pdf.pages[0]
            words = page.extract_text()
            assert "Noor Hospital" in words
            assert "Licence 4417" in words
            assert len(page.images) >= 1
    assert api.content(job["documentId"]).content == before
    put(api)
    assert api.get(ROUTE).json()["name"] == "Karte Seh Clinic"


def test_the_logo_is_drawn_anew_and_small(api: Api) -> None:
    with_text = io.BytesIO()
    picture = Image.open(io.BytesIO(logo(size=(1800, 900), kind="JPEG")))
    picture.save(with_text, "JPEG", comment=b"secret comment")
    answer = put_logo(api, with_text.getvalue() + b"trailing program", "jpeg").json()["logo"]
    assert (answer["contentType"], answer["width"], answer["height"]) == ("image/jpeg", 400, 200)
    kept = api.get(ROUTE + "/logo")
    assert b"secret comment" not in kept.content
    assert b"trailing program" not in kept.content
    assert kept.headers["etag"] == f'"{answer["sha256"]}"'
    gone = api.delete(ROUTE + "/logo", headers={"If-Match": api.get(ROUTE).headers["etag"]})
    assert (gone.status_code, gone.json()["logo"]) == (200, None)
    assert api.get(ROUTE + "/logo").status_code == 404


def bomb() -> bytes:
    """A PNG of 30,000 by 30,000 pixels in a few KB."""
    output = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(output, "PNG", compress_level=9)
    return output.getvalue()


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        b"\x89PNG\r\n\x1a\n" + zlib.compress(b"no picture"),
        b"\xff\xd8\xff" + b"\x00" * 500,
        b"GIF89a" + b"\x00" * 500,
        logo() + b"\x00" * 300_000,
        bomb(),
    ],
    ids=["empty", "svg", "broken-png", "broken-jpeg", "gif", "too-large", "bomb"],
)
def test_what_is_no_small_picture_is_refused(api: Api, hostile: bytes) -> None:
    answer = put_logo(api, hostile)
    assert (answer.status_code, answer.json()["code"]) == (422, "LOGO_REFUSED")


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({"accent": "#ffee00"}, "/accent", "CONTRAST_TOO_LOW"),
        ({"accent": "red"}, "/accent", "VALUE_SHAPE"),
        ({"name": "x" * 121}, "/name", "TOO_LONG"),
        ({"name": "a\nb"}, "/name", "TEXT_UNPRINTABLE"),
        ({"footer": "Clinic \u0007"}, "/footer", "TEXT_UNPRINTABLE"),
        ({"footer": "医院"}, "/footer", "GLYPH_MISSING"),
        ({"address": ["ok", "  "]}, "/address/1", "TEXT_UNPRINTABLE"),
        ({"address": ["line"] * 7}, "/address", "TOO_MANY"),
    ],
)
def test_what_a_page_cannot_show_is_refused(api: Api, values: dict[str, Any], pointer: str, code: str) -> None:
    answer = api.put(ROUTE, json=values, headers={"If-Match": api.get(ROUTE).headers["etag"]})
    assert answer.status_code == 400
    assert (pointer, code) in [(problem["pointer"], problem["code"]) for problem in answer.json()["errors"]]


def test_two_editors_do_not_overwrite_each_other(api: Api) -> None:
    etag = api.get(ROUTE).headers["etag"]
    assert api.put(ROUTE, json={}).status_code == 428
    assert api.put(ROUTE, json={"footer": "first"}, headers={"If-Match": etag}).status_code == 200
    assert api.put(ROUTE, json={"footer": "second"}, headers={"If-Match": etag}).status_code == 412
    assert api.get(ROUTE).json()["footer"] == "first"


def test_only_an_administrator_and_only_the_own_tenant(service: Service, fhir_url: str, tenant: str, api: Api) -> None:
    with service.caller(tenant, roles=("CLINICIAN", "DOCUMENT_AUTHOR", "AUDITOR")) as other:
        assert other.get(ROUTE).status_code == 403
        assert other.put(ROUTE, json={}, headers={"If-Match": "*"}).status_code == 403
    put(api, footer="ours")
    with service.caller(service.create_tenant(fhir_url)) as stranger:
        assert stranger.get(ROUTE).json()["footer"] is None


def test_the_command_sets_it_too(service: Service, fhir_url: str, tmp_path: Path) -> None:
    file = tmp_path / "logo.png"
    file.write_bytes(logo())
    options = ("--footer", "Open day and night", "--accent", "#14532d", "--logo", str(file), "--address", "Kabul")
    with service.caller(service.create_tenant(fhir_url, *options)) as caller:
        shown = caller.get(ROUTE).json()
        assert (shown["footer"], shown["accent"], shown["address"]) == ("Open day and night", "#14532d", ["Kabul"])
        assert shown["logo"]["contentType"] == "image/png"
    with pytest.raises(AssertionError, match="--accent"):
        service.command("tenant", "create", "pale", "--accent", "#eeeeee")
