"""Pictures as the engine takes them, which is text: it reads all files as UTF-8; a PNG or JPEG goes inside an SVG."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from typing import TYPE_CHECKING

from document_service.errors import RenderFailed, RenderTooLarge

if TYPE_CHECKING:
    from PIL import Image

# A logo is printed 30 points high: 600 dots an inch are 250 pixels of it. This is room for a whole letterhead's width.
MAX_PIXELS = 4_000_000

_MIME = {"PNG": "image/png", "JPEG": "image/jpeg"}


@lru_cache(maxsize=64)  # The logos of as many tenants; each is at most the upload limit of a logo.
def as_svg(picture: bytes, *, opaque: bool = False) -> bytes:
    """The picture as SVG: an SVG as it is, a PNG or JPEG inside one of its size.

    ``opaque`` puts white behind what is clear in a PNG, for PDF/A-1, which knows no transparency.

    Raises:
        RenderFailed: it is none of these.
        RenderTooLarge: it has more pixels than a letterhead needs.
    """
    if not picture.startswith((b"\x89PNG", b"\xff\xd8")):
        try:
            picture.decode()
        except UnicodeDecodeError:
            raise RenderFailed("a picture is SVG, PNG or JPEG") from None
        return picture
    # Imported where it is needed: most children never see a raster image.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(picture), formats=("PNG", "JPEG")) as image:
            width, height = image.size
            mime = _MIME[image.format or ""]
            if opaque and image.has_transparency_data and width * height <= MAX_PIXELS:
                picture = _on_white(image)
    except (UnidentifiedImageError, OSError, ValueError, KeyError, Image.DecompressionBombError):
        raise RenderFailed("a picture cannot be read") from None
    if width * height > MAX_PIXELS:
        raise RenderTooLarge(f"a picture may have {MAX_PIXELS} pixels")
    content = base64.b64encode(picture).decode()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<image width="{width}" height="{height}" href="data:{mime};base64,{content}"/></svg>'
    ).encode()


def _on_white(image: Image.Image) -> bytes:
    """The picture as a PNG without transparency."""
    from PIL import Image

    clear = image.convert("RGBA")
    white = Image.new("RGBA", clear.size, "white")
    output = io.BytesIO()
    Image.alpha_composite(white, clear).convert("RGB").save(output, "PNG")
    return output.getvalue()
