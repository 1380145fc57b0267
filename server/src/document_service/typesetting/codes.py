"""Machine-readable codes as pictures for the layout."""

from __future__ import annotations

import math
import re
from importlib.metadata import version
from typing import Any

import zxingcpp

from document_service.errors import RenderTooLarge

# A verification address is under 100 characters; at 1 KB a QR code is too dense to scan from a 22 mm print.
MAX_CONTENT = 1024

# A dark module is a zero byte.
_DARK = re.compile(rb"\x00+")

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
    image: Any = code.to_image(scale=1, add_hrt=False, add_quiet_zones=False)
    rows = bytes(image)
    side = math.isqrt(len(rows))
    # One path of horizontal runs: a quarter of the time and the bytes of the library's own SVG.
    runs = [
        f"M{run.start()} {y}h{run.end() - run.start()}v1h{run.start() - run.end()}z"
        for y in range(side)
        for run in _DARK.finditer(rows[y * side : (y + 1) * side])
    ]
    path = "".join(runs)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{side}" height="{side}">'
        f'<path d="{path}"/></svg>'
    ).encode()
