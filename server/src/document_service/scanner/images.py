"""Images on their way in: measured before they are decoded, decoded before they are believed, made PDF/A
pages.

A page holds the picture alone: of a JPEG the compressed picture as it was, without its metadata (a phone
writes where the picture was taken) and without whatever follows its end; of PNG and TIFF the pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageOps, MpoImagePlugin, TiffImagePlugin

from document_service.scanner.verdict import Kind

# A4 at 600 dpi has 35 million pixels and the largest phone camera in use 50; as RGB that is 180 MB.
MAX_PIXELS: Final = 60_000_000
MAX_FRAMES: Final = 200  # A long fax. A TIFF's frames are decoded one by one.
MAX_TOTAL_PIXELS: Final = 800_000_000  # 200 pages of A4 at 200 dpi; at 100 million a second this takes 8 s.
_FORMATS: Final[dict[Kind, list[str]]] = {"jpeg": ["JPEG"], "png": ["PNG"], "tiff": ["TIFF"]}
# Pillow's own limit speaks later and by warnings; ours speaks first.
Image.MAX_IMAGE_PIXELS = None
# Imported so that Pillow need not import them after the process has given up its rights.
_PLUGINS: Final = (MpoImagePlugin, TiffImagePlugin)


class ImageTooLarge(ValueError):
    """The image's header tells more pixels or pages than are decoded here."""


class ImageUnreadable(ValueError):
    """The image cannot be decoded to its end."""


@dataclass(frozen=True, slots=True)
class Page:
    """One picture, upright: width and height in pixels, resolution in dots per inch or None, and its coding.

    ``data`` is a JPEG (``coding`` "jpeg"), or the zlib stream of PNG rows (``coding`` "png").
    """

    width: int
    height: int
    dpi: tuple[float, float] | None
    channels: int
    bits: int
    coding: str
    data: bytes


def count_pages(data: bytes, kind: Kind) -> int:
    """Decode every page and return their number. Raises ImageTooLarge before decoding, ImageUnreadable."""
    return sum(1 for _ in _frames(data, kind))


def read_pages(data: bytes, kind: Kind) -> Iterator[Page]:
    """Decode the pages one by one. Raises as ``count_pages`` does."""
    for frame in _frames(data, kind):
        yield _jpeg_page(data, frame) if kind == "jpeg" else _pixels_page(frame)


def _frames(data: bytes, kind: Kind) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS[kind]) as image:
            # A JPEG's further frames are a phone's depth maps and thumbnails, a PNG's are an animation.
            count = int(getattr(image, "n_frames", 1)) if kind == "tiff" else 1
            if count > MAX_FRAMES:
                raise ImageTooLarge
            total = 0
            for index in range(count):
                if count > 1:
                    image.seek(index)
                pixels = image.width * image.height
                total += pixels
                if pixels > MAX_PIXELS or total > MAX_TOTAL_PIXELS:
                    raise ImageTooLarge
                if not pixels:
                    raise ImageUnreadable
                image.load()
                yield image
    except (ImageTooLarge, ImageUnreadable, MemoryError):
        raise
    except Exception as error:
        # Pillow's decoders raise whatever they stumble on (OSError, SyntaxError, ValueError, struct.error,
        # EOFError, ZeroDivisionError …); all of it means that the picture is not there.
        raise ImageUnreadable(type(error).__name__) from error


def _jpeg_page(data: bytes, image: Image.Image) -> Page:
    upright = image.getexif().get(0x0112, 1) == 1
    if upright and image.mode in ("L", "RGB"):
        bare = bare_jpeg(data)
        if bare is not None:
            channels = len(image.getbands())
            return Page(image.width, image.height, _dpi(image), channels, 8, "jpeg", bare)
    turned = ImageOps.exif_transpose(image)
    turned = turned if turned.mode in ("L", "RGB") else turned.convert("RGB")
    output = io.BytesIO()
    # Turning decodes and encodes once more; quality 95 without subsampling loses nothing that an eye finds.
    turned.save(output, "JPEG", quality=95, subsampling=0)
    bare = bare_jpeg(output.getvalue())
    if bare is None:
        raise ImageUnreadable
    return Page(turned.width, turned.height, _dpi(image), len(turned.getbands()), 8, "jpeg", bare)


def bare_jpeg(data: bytes) -> bytes | None:
    """Return the JPEG with its picture's segments only; None when its segments do not follow the standard.

    Kept are tables, frames and scans (ITU T.81 B.1.1.3) and Adobe's APP14, which says how colours are coded.
    """
    kept = [b"\xff\xd8"]
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # A fill byte.
            position += 1
            continue
        if marker == 0xD9:
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA:
            end = _scan_end(data, end)
        application = 0xE0 <= marker <= 0xEF and marker != 0xEE
        if not application and marker != 0xFE:
            kept.append(data[position:end])
        position = end
    if data[position : position + 2] != b"\xff\xd9":
        return None
    return b"".join((*kept, b"\xff\xd9"))


def _scan_end(data: bytes, position: int) -> int:
    """Where the compressed data that begin at ``position`` end: at the first marker that is not a restart."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            return len(data)
        following = data[position + 1]
        if following != 0 and not 0xD0 <= following <= 0xD7 and following != 0xFF:
            return position
        position += 1 if following == 0xFF else 2


def _pixels_page(image: Image.Image) -> Page:
    flat = _flattened(ImageOps.exif_transpose(image))
    output = io.BytesIO()
    flat.save(output, "PNG", compress_level=6)
    bits = 1 if flat.mode == "1" else 8
    rows = b"".join(_image_data(output.getvalue()))
    return Page(flat.width, flat.height, _dpi(image), len(flat.getbands()), bits, "png", rows)


def _flattened(image: Image.Image) -> Image.Image:
    """The image as 1-bit, grey or RGB, on white paper where it is transparent, which PDF/A-1 has no word for."""
    if image.mode in ("1", "L", "RGB"):
        if "transparency" not in image.info:
            return image
        image = image.convert("RGBA")
    if image.mode.startswith(("I", "F")):
        # 16-bit and float greys: scaled by what they hold, for a cut at 255 would whiten the whole picture.
        low, high = (float(value) for value in image.convert("F").getextrema())  # type: ignore[arg-type]
        scale = 255 / (high - low) if high > low else 0.0
        return image.convert("F").point(lambda value: value * scale - low * scale).convert("L")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        return paper
    return image.convert("RGB")


def _image_data(png: bytes) -> Iterator[bytes]:
    """The IDAT chunks of a PNG that Pillow wrote: one zlib stream, which PDF's predictor 15 reads as it is."""
    position = 8
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        if png[position + 4 : position + 8] == b"IDAT":
            yield png[position + 8 : position + 8 + length]
        position += 12 + length


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """The resolution when it is one: cameras write 72 or 1 for "unknown"."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 75 <= across <= 2400 and 75 <= down <= 2400 else None
