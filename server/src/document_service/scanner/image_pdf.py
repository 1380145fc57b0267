"""Pictures as a PDF/A-1b: one page for each, nothing else in the file.

A-1b is the strictest of the archival forms and a picture needs no more; what satisfies it opens in every
viewer. No title, name or date is written: what the record is called stands in the database, sealed.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Name, Stream

from document_service.scanner import srgb
from document_service.scanner.images import Page, read_pages
from document_service.scanner.verdict import Kind

A4_POINTS: Final = (595.276, 841.89)  # 210 × 297 mm at 72 points an inch.
# Pages are kept at their own size up to A3 and 5 % more for a scanner's margin; anything else is fitted into A4.
LARGEST_POINTS: Final = (884.0, 1250.0)
SMALLEST_POINTS: Final = 72.0  # An inch: smaller than any paper, so the resolution must be wrong.
_XMP: Final = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/">
<pdfaid:part>1</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance></rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def image_to_pdf(data: bytes, kind: Kind) -> tuple[bytes, int]:
    """Return the PDF of an image and its number of pages; the same image gives the same bytes.

    Raises images.ImageTooLarge and images.ImageUnreadable.
    """
    with pikepdf.new() as pdf:
        for page in read_pages(data, kind):
            _add_page(pdf, page)
        _make_archival(pdf)
        output = BytesIO()
        pdf.save(
            output,
            deterministic_id=True,
            # PDF/A-1 has no object streams, and its metadata are readable without a decoder.
            object_stream_mode=pikepdf.ObjectStreamMode.disable,
            compress_streams=False,
            min_version="1.4",
            force_version="1.4",
        )
        return output.getvalue(), len(pdf.pages)


def _add_page(pdf: pikepdf.Pdf, page: Page) -> None:
    colours = Name.DeviceGray if page.channels == 1 else Name.DeviceRGB
    picture = Stream(
        pdf,
        page.data,
        Type=Name.XObject,
        Subtype=Name.Image,
        Width=page.width,
        Height=page.height,
        ColorSpace=colours,
        BitsPerComponent=page.bits,
    )
    if page.coding == "jpeg":
        picture.Filter = Name.DCTDecode
    else:
        picture.Filter = Name.FlateDecode
        picture.DecodeParms = Dictionary(
            Predictor=15, Colors=page.channels, BitsPerComponent=page.bits, Columns=page.width
        )
    width, height = page_size(page)
    drawing = Stream(pdf, f"q {width:.3f} 0 0 {height:.3f} 0 0 cm /P Do Q".encode())
    pdf.pages.append(
        pikepdf.Page(
            pdf.make_indirect(
                Dictionary(
                    Type=Name.Page,
                    MediaBox=Array([0, 0, round(width, 3), round(height, 3)]),
                    Resources=Dictionary(XObject=Dictionary(P=picture)),
                    Contents=drawing,
                )
            )
        )
    )


def page_size(page: Page) -> tuple[float, float]:
    """Width and height in points: the scan's own size where its resolution tells one, else fitted into A4."""
    if page.dpi is not None:
        width, height = page.width / page.dpi[0] * 72, page.height / page.dpi[1] * 72
        short, long = sorted((width, height))
        if short >= SMALLEST_POINTS and short <= LARGEST_POINTS[0] and long <= LARGEST_POINTS[1]:
            return width, height
    across, down = A4_POINTS if page.height >= page.width else A4_POINTS[::-1]
    scale = min(across / page.width, down / page.height)
    return page.width * scale, page.height * scale


def _make_archival(pdf: pikepdf.Pdf) -> None:
    profile = Stream(pdf, srgb.profile(), N=3, Alternate=Name.DeviceRGB)
    intent = Dictionary(
        Type=Name.OutputIntent,
        S=Name.GTS_PDFA1,
        OutputConditionIdentifier="sRGB",
        Info="sRGB IEC61966-2.1",
        DestOutputProfile=pdf.make_indirect(profile),
    )
    pdf.Root.OutputIntents = Array([intent])
    metadata = Stream(pdf, _XMP, Type=Name.Metadata, Subtype=Name.XML)
    pdf.Root.Metadata = pdf.make_indirect(metadata)
