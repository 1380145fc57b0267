"""What is on the paper: the words of a document's first page and the address in its QR code."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import pdfplumber
import zxingcpp

#: Characters that order a line and print nothing.
_MARKS = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Paper:
    """The first page of a document as somebody holds it."""

    address: str
    words: str


def plain(text: str) -> str:
    """A line as it is seen: without the marks of its direction, one space between words."""
    return re.sub(r"\s+", " ", _MARKS.sub("", text))


def read_paper(pdf: bytes) -> Paper:
    """Read the only QR code of the first page, and its words."""
    with pdfplumber.open(io.BytesIO(pdf)) as opened:
        page = opened.pages[0]
        (found,) = zxingcpp.read_barcodes(page.to_image(resolution=150).original)
        return Paper(str(found.text), plain(page.extract_text()))
