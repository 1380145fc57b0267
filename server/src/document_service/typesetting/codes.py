"""Machine-readable codes as pictures for the layout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import zxingcpp

from document_service.errors import RenderTooLarge

# A verification address is under 100 characters; at 1 KB a QR code is too dense to scan from a 22 mm print.
MAX_CONTENT = 1024

# Patient numbers have 6 to 36 characters; what does not fit the label is refused by its width.
MAX_ON_LABEL = 100

# A dark module is a zero byte.
_LIGHT = b"\xff"

ENGINE = f"zxing-cpp {version('zxing-cpp')}"


def qr_svg(content: str) -> bytes:
    """Draw ``content`` as a QR code (level M: survives 15 % damage, as a folded or stained sheet has), without the
    quiet zone, which the layout leaves around it.

    Raises:
        RenderTooLarge: the content is too long to scan from paper.
    """
    if not content or len(content) > MAX_CONTENT:
        raise RenderTooLarge(f"a QR code holds 1 to {MAX_CONTENT} characters")
    code = zxingcpp.create_barcode(content, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    rows = bytes(_modules(code))
    side = math.isqrt(len(rows))
    return _svg(rows, side, side)


@dataclass(frozen=True, slots=True)
class Barcode:
    """A code for a label: its picture without quiet zone, and its size in modules (one high for bars)."""

    svg: bytes
    width: int
    height: int


def barcode(content: str, kind: str) -> Barcode:
    """Draw ``content`` as ``code128`` or ``dataMatrix``.

    Raises:
        RenderTooLarge: it is empty or longer than any label holds.
        ValueError: it holds characters that the code does not have.
    """
    if not content or len(content) > MAX_ON_LABEL:
        raise RenderTooLarge(f"a label's code holds 1 to {MAX_ON_LABEL} characters")
    bars = kind == "code128"
    code = zxingcpp.create_barcode(
        content, zxingcpp.BarcodeFormat.Code128 if bars else zxingcpp.BarcodeFormat.DataMatrix
    )
    image = memoryview(_modules(code))
    height, width = image.shape or (0, 0)
    rows = image.tobytes()
    # All rows of bars are alike; the layout stretches one to the height that it has.
    return Barcode(_svg(rows, width, 1 if bars else height), width, 1 if bars else height)


def _modules(code: Any) -> Any:
    """A picture with a byte for each module, zero for a dark one."""
    return code.to_image(scale=1, add_hrt=False, add_quiet_zones=False)


def _svg(rows: bytes, width: int, height: int) -> bytes:
    # One path of horizontal runs: a quarter of the time and the bytes of the library's own SVG. A row is split at its
    # light modules, and all numbers are written once: half of a QR code's time was writing them again.
    starts = [f"M{x} " for x in range(width)]
    ends = [f"h{length}v1h-{length}z" for length in range(width + 1)]
    runs: list[str] = []
    for y in range(height):
        x, at = 0, str(y)
        for dark in rows[y * width : (y + 1) * width].split(_LIGHT):
            length = len(dark)
            if length:
                runs += (starts[x], at, ends[length])
            x += length + 1
    path = "".join(runs)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<path d="{path}"/></svg>'
    ).encode()
