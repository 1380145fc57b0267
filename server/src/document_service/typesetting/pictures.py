"""Pictures as the engine takes them, which is text: it reads all files as UTF-8, so a PNG or JPEG is a list of bytes.

Inside an SVG, as they were before, they were decoded and compressed again for every document.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from document_service.errors import RenderFailed, RenderTooLarge

if TYPE_CHECKING:
    from PIL import Image

# A logo is printed 30 points high: 600 dots an inch are 250 pixels of it. This is room for a whole letterhead's width.
MAX_PIXELS = 4_000_000

_RASTER = (b"\x89PNG", b"\xff\xd8")

# The size in the root of an SVG; both in one unit, or both in none.
_SVG_ROOT = re.compile(r"<svg\b[^>]*>", re.DOTALL)
_SVG_SIZE = re.compile(r"""\s(width|height)=["']([0-9.]+)(px|pt|mm|cm|in)?["']""")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as ``data.typ`` reads it, and its width over its height; None where that is not plain to see."""

    source: bytes
    ratio: float | None


@lru_cache(maxsize=64)  # The logos of as many tenants; each is at most four times the upload limit of a logo.
def prepared(picture: bytes, *, opaque: bool = False) -> Picture:
    """The picture ready to be handed over: an SVG as it is, a PNG or JPEG as the list of its bytes.

    ``opaque`` puts white behind what is clear in a PNG, for PDF/A-1, which knows no transparency.

    Raises:
        RenderFailed: it is none of these.
        RenderTooLarge: it has more pixels than a letterhead needs.
    """
    if not picture.startswith(_RASTER):
        try:
            return Picture(picture, _svg_ratio(picture.decode()))
        except UnicodeDecodeError:
            raise RenderFailed("a picture is SVG, PNG or JPEG") from None
    # Imported where it is needed: most children never see a raster image.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(picture), formats=("PNG", "JPEG")) as image:
            width, height = image.size
            if opaque and image.has_transparency_data and width * height <= MAX_PIXELS:
                picture = _on_white(image)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        raise RenderFailed("a picture cannot be read") from None
    if width * height > MAX_PIXELS:
        raise RenderTooLarge(f"a picture may have {MAX_PIXELS} pixels")
    return Picture(json.dumps(list(picture), separators=(",", ":")).encode(), width / height)


def _svg_ratio(text: str) -> float | None:
    root = _SVG_ROOT.search(text)
    sizes = {name: (float(size), unit) for name, size, unit in _SVG_SIZE.findall(root[0])} if root else {}
    width, height = sizes.get("width", (0.0, "")), sizes.get("height", (0.0, ""))
    return width[0] / height[0] if width[0] and height[0] and width[1] == height[1] else None


def _on_white(image: Image.Image) -> bytes:
    """The picture as a PNG without transparency."""
    from PIL import Image

    clear = image.convert("RGBA")
    white = Image.new("RGBA", clear.size, "white")
    output = io.BytesIO()
    Image.alpha_composite(white, clear).convert("RGB").save(output, "PNG")
    return output.getvalue()
