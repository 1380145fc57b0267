"""Machine-readable codes as pictures for the layout."""

from __future__ import annotations

from importlib.metadata import version

import zxingcpp

from document_service.errors import RenderTooLarge

# A verification address is under 100 characters; at 1 KB a QR code is too dense to scan from a 22 mm print.
MAX_CONTENT = 1024

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
    return str(code.to_svg(scale=1, add_hrt=False, add_quiet_zones=False)).encode()
