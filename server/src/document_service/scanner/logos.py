"""An organisation's logo: a small PNG or JPEG, opened where hostile files are opened, and drawn anew.

What is kept are pixels of our own writing: no metadata, no colour profile, nothing behind the picture's end. It is
also made as small as paper needs, because every render embeds it.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image, ImageOps

from document_service.errors import LogoRefused
from document_service.scanner.images import ImageTooLarge, ImageUnreadable
from document_service.scanner.isolation import Inspectors, ProcessStopped

MAX_LOGO_BYTES: Final = 256 * 1024  # A logo drawn for print is 20 to 100 KB.
MAX_LOGO_PIXELS: Final = 4_000_000  # 2,000 by 2,000; what a designer exports at most.
# It stands 30 pt high beside the organisation's name: 200 pixels are 480 dots an inch there, as sharp as an office
# printer prints. Twice that made every document of a drawn logo 11 KB larger for nothing that an eye finds.
MAX_HEIGHT: Final = 200
MAX_WIDTH: Final = 800

_MAGIC: Final = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}


@dataclass(frozen=True, slots=True)
class Logo:
    """A checked picture; width and height in pixels."""

    content_type: str
    content: bytes
    width: int
    height: int

    @property
    def sha256(self) -> str:
        """What snapshots and rows name the picture by (hex)."""
        return hashlib.sha256(self.content).hexdigest()


async def read_logo(data: bytes) -> Logo:
    """Check and redraw a picture in a process of its own.

    Raises:
        LogoRefused: it is too large, of another type, or cannot be read.
        ScannerUnavailable: no process can be started.
    """
    if len(data) > MAX_LOGO_BYTES:
        raise LogoRefused(f"A logo may have {MAX_LOGO_BYTES // 1024} KB.")
    if _format_of(data) is None:
        raise LogoRefused("Send a PNG or JPEG picture; SVG may hold programs and is not taken.")
    inspectors = Inspectors(concurrency=1)
    try:
        answer, content = await inspectors.ask({"verb": "logo"}, data)
    except ProcessStopped:
        raise LogoRefused("The picture cannot be read within its limits.") from None
    finally:
        await inspectors.stop()
    if "error" in answer:
        raise LogoRefused(
            f"The picture cannot be read, or has more than {MAX_LOGO_PIXELS // 1_000_000} million pixels."
        )
    return Logo(answer["contentType"], content, answer["width"], answer["height"])


def redraw(data: bytes) -> tuple[dict[str, Any], bytes]:
    """In the inspecting process: the picture's own facts, and its bytes drawn anew.

    Raises ImageUnreadable, ImageTooLarge.
    """
    name = _format_of(data)
    if name is None:
        raise ImageUnreadable("not a PNG or JPEG")
    try:
        with Image.open(io.BytesIO(data), formats=[name]) as image:
            if not 0 < image.width * image.height <= MAX_LOGO_PIXELS:
                raise ImageTooLarge
            image.load()
            drawn = _drawn(image, name)
            output = io.BytesIO()
            # Quality 92 without subsampling keeps the edges of letters; PNG loses nothing.
            options = {"quality": 92, "subsampling": 0} if name == "JPEG" else {"optimize": True}
            drawn.save(output, name, **options)
    except (ImageTooLarge, ImageUnreadable, MemoryError):
        raise
    except Exception as error:
        # Decoders raise whatever they stumble on; all of it means that the picture is not there.
        raise ImageUnreadable(type(error).__name__) from error
    facts = {"contentType": f"image/{name.lower()}", "width": drawn.width, "height": drawn.height}
    return facts, output.getvalue()


def _format_of(data: bytes) -> str | None:
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def _drawn(image: Image.Image, name: str) -> Image.Image:
    """Upright, in plain colours, no larger than print needs, on a canvas without metadata."""
    upright = ImageOps.exif_transpose(image)
    clear = "A" in upright.getbands() or "transparency" in upright.info
    mode = "RGBA" if name == "PNG" and clear else "L" if upright.mode in ("1", "L") else "RGB"
    plain = upright.convert(mode)
    plain.thumbnail((MAX_WIDTH, MAX_HEIGHT), Image.Resampling.LANCZOS)
    bare = Image.new(mode, plain.size)
    bare.paste(plain)
    return bare
