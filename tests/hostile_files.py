"""Files that a clinic's scanner never makes, put together in memory for the tests of the scanner."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pikepdf
from pikepdf import Array, Dictionary, Name, Stream
from PIL import Image

from clamav import EICAR


def pdf_of(change: object = None, **save: object) -> bytes:
    """A one-page PDF; ``change`` is called with the open document."""
    with pikepdf.new() as pdf:
        pdf.add_blank_page(page_size=(595, 842))
        if callable(change):
            change(pdf)
        output = io.BytesIO()
        pdf.save(output, **save)  # type: ignore[arg-type]
        return output.getvalue()


def pdf_with_action(action: str, **entries: object) -> bytes:
    def change(pdf: pikepdf.Pdf) -> None:
        pdf.Root.OpenAction = pdf.make_indirect(Dictionary(S=Name(f"/{action}"), **entries))

    return pdf_of(change)


def pdf_with_script_in_object_stream() -> bytes:
    """The word JavaScript stands in no raw byte of it: its dictionary is compressed with others."""

    def change(pdf: pikepdf.Pdf) -> None:
        action = Dictionary(S=Name.JavaScript, JS="app.alert(1)")
        pdf.Root.Names = Dictionary(JavaScript=Dictionary(Names=Array(["a", pdf.make_indirect(action)])))

    data = pdf_of(change, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    assert b"JavaScript" not in data
    return data


def pdf_with_hex_escaped_name() -> bytes:
    """Both names are written with escapes, and the script is as much shorter, so that all offsets hold."""
    plain = pdf_with_action("JavaScript", JS="1+1+1")
    escaped = plain.replace(b"/JavaScript", b"/J#61vaScript").replace(b"/JS", b"/#4aS")
    assert len(escaped) == len(plain) + 4
    return escaped.replace(b"(1+1+1)", b"(1)")


def pdf_with_attachment(content: bytes) -> bytes:
    def change(pdf: pikepdf.Pdf) -> None:
        pdf.attachments["letter.txt"] = pikepdf.AttachedFileSpec(pdf, content)

    return pdf_of(change, compress_streams=True)


def pdf_with_xfa() -> bytes:
    def change(pdf: pikepdf.Pdf) -> None:
        pdf.Root.AcroForm = Dictionary(Fields=Array([]), XFA=Stream(pdf, b"<xdp:xdp/>"))

    return pdf_of(change)


def pdf_with_media() -> bytes:
    def change(pdf: pikepdf.Pdf) -> None:
        annotation = Dictionary(Type=Name.Annot, Subtype=Name.RichMedia, Rect=Array([0, 0, 1, 1]))
        pdf.pages[0].Annots = Array([annotation])

    return pdf_of(change)


def pdf_with_stream_outside() -> bytes:
    def change(pdf: pikepdf.Pdf) -> None:
        pdf.Root.Outside = pdf.make_indirect(Stream(pdf, b"", F=r"\\elsewhere\share\x"))

    return pdf_of(change)


def encrypted_pdf(user: str) -> bytes:
    return pdf_of(encryption=pikepdf.Encryption(owner="owner", user=user))


def pdf_hidden_in_older_revision() -> bytes:
    """The newest revision has a harmless catalogue; the action of the first is still in the file."""
    first = pdf_with_action("JavaScript", JS="app.alert(1)")
    start = int(first.rsplit(b"startxref", 1)[1].split()[0])
    root = first.index(b"/OpenAction")
    number = int(first[:root].rsplit(b" 0 obj", 1)[0].split()[-1])
    pages = first[root:].split(b"/Pages ", 1)[1].split()[0].decode()
    harmless = f"{number} 0 obj\n<< /Type /Catalog /Pages {pages} 0 R >>\nendobj\n".encode()
    offset = len(first)
    size = first.rsplit(b"/Size ", 1)[1].split()[0].decode()
    table = f"xref\n{number} 1\n{offset:010} 00000 n \ntrailer\n"
    trailer = f"<< /Size {size} /Root {number} 0 R /Prev {start} >>\n"
    end = f"startxref\n{offset + len(harmless)}\n%%EOF\n"
    return first + harmless + (table + trailer + end).encode()


def image(form: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **save: object) -> bytes:
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    output = io.BytesIO()
    picture.save(output, form, **save)  # type: ignore[arg-type]
    return output.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes whose header promises ``width`` × ``height`` pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def zip_of(**files: bytes) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return output.getvalue()


def windows_program() -> bytes:
    return b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\x00\x00" + bytes(200)


def jpeg_with_comment(comment: bytes) -> bytes:
    whole = image("JPEG")
    return whole[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + whole[2:]


# What it is, how it is declared, its name, and the code that its verdict must carry. Found without clamd.
HOSTILE: dict[str, tuple[bytes, str, str, str]] = {
    "EICAR plain": (EICAR, "application/pdf", "a.pdf", "MALWARE_FOUND"),
    "EICAR in a PDF's attachment": (pdf_with_attachment(EICAR), "application/pdf", "a.pdf", "MALWARE_FOUND"),
    "EICAR after 1 MB": (bytes(1_000_000) + EICAR, "image/png", "a.png", "MALWARE_FOUND"),
    "EICAR behind an image": (image("PNG") + bytes(1_000_000) + EICAR, "image/png", "a.png", "MALWARE_FOUND"),
    "script in an object stream": (pdf_with_script_in_object_stream(), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "script by an escaped name": (pdf_with_hex_escaped_name(), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "script in an older revision": (pdf_hidden_in_older_revision(), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "launch": (pdf_with_action("Launch", F="cmd.exe"), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "form that sends": (pdf_with_action("SubmitForm", F="http://x"), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "file elsewhere": (pdf_with_action("GoToR", F=r"\\x\y"), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "stream elsewhere": (pdf_with_stream_outside(), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "attachment": (pdf_with_attachment(b"hello"), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "XFA": (pdf_with_xfa(), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "rich media": (pdf_with_media(), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "program": (windows_program(), "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "program in an image": (image("JPEG") + windows_program(), "image/jpeg", "a.jpg", "ACTIVE_CONTENT"),
    "ELF in an image": (image("PNG") + b"\x7fELF\x02\x01\x01", "image/png", "a.png", "ACTIVE_CONTENT"),
    "shell script": (b"#!/bin/sh\n", "application/pdf", "a.pdf", "ACTIVE_CONTENT"),
    "PDF and ZIP": (pdf_of() + zip_of(a=b"x"), "application/pdf", "a.pdf", "POLYGLOT"),
    "image and ZIP": (image("JPEG") + zip_of(a=b"x"), "image/jpeg", "a.jpg", "POLYGLOT"),
    "image and PDF": (jpeg_with_comment(b"%PDF-1.4"), "image/jpeg", "a.jpg", "POLYGLOT"),
    "page in an image": (jpeg_with_comment(b"<script>alert(1)</script>"), "image/jpeg", "a.jpg", "POLYGLOT"),
    "page before a PDF": (b"%PDF-1.4\n%<html><script>\n" + pdf_of()[9:], "application/pdf", "a.pdf", "POLYGLOT"),
    "PDF that begins late": (b"GIF89a" + pdf_of(), "application/pdf", "a.pdf", "POLYGLOT"),
    "encrypted PDF": (encrypted_pdf("secret"), "application/pdf", "a.pdf", "FILE_ENCRYPTED"),
    "PDF that forbids printing": (encrypted_pdf(""), "application/pdf", "a.pdf", "FILE_ENCRYPTED"),
    "pixel flood": (png_claiming(100_000, 100_000), "image/png", "a.png", "IMAGE_TOO_LARGE"),
    "cut image": (image("JPEG", (640, 480))[:-800], "image/jpeg", "a.jpg", "FILE_UNREADABLE"),
    "cut PDF": (pdf_of()[:-60], "application/pdf", "a.pdf", "FILE_UNREADABLE"),
    "PDF without pages": (b"%PDF-1.4\n%%EOF\n", "application/pdf", "a.pdf", "FILE_UNREADABLE"),
    "nothing": (b"", "application/pdf", "a.pdf", "FILE_UNREADABLE"),
    "text": (b"hello", "application/pdf", "a.pdf", "FILE_TYPE_MISMATCH"),
    "image called a PDF": (image("PNG"), "application/pdf", "a.pdf", "FILE_TYPE_MISMATCH"),
    "image with another's name": (image("PNG"), "image/png", "a.jpg", "FILE_TYPE_MISMATCH"),
    "image without a name": (image("PNG"), "image/png", "", "FILE_TYPE_MISMATCH"),
    "GIF": (image("GIF"), "image/gif", "a.gif", "FILE_TYPE_MISMATCH"),
    "ZIP": (zip_of(a=b"x"), "application/zip", "a.zip", "POLYGLOT"),
    "marks repeated": (image("PNG") + b"MZ" * 200_000, "image/png", "a.png", "FILE_TOO_COMPLEX"),
}

# Files that must be accepted, and the pages that they have.
HONEST: dict[str, tuple[bytes, str, str, int]] = {
    "PDF": (pdf_of(), "application/pdf", "a.pdf", 1),
    "PDF with object streams": (
        pdf_of(object_stream_mode=pikepdf.ObjectStreamMode.generate),
        "application/pdf; charset=binary",
        "SCAN 1.PDF",
        1,
    ),
    "JPEG": (image("JPEG"), "image/jpeg", "a.b.jpeg", 1),
    "grey JPEG": (image("JPEG", mode="L"), "image/jpeg", "a.jpg", 1),
    "CMYK JPEG": (image("JPEG", mode="CMYK"), "image/jpeg", "a.jpg", 1),
    "progressive JPEG": (image("JPEG", progressive=True), "image/jpeg", "a.jpg", 1),
    "PNG": (image("PNG"), "image/png", "a.png", 1),
    "PNG with palette": (image("PNG", mode="P"), "image/png", "a.png", 1),
    "PNG with transparency": (image("PNG", mode="RGBA"), "image/png", "a.png", 1),
    "PNG of 16 bits": (image("PNG", mode="I;16"), "image/png", "a.png", 1),
    "fax": (image("TIFF", mode="1", compression="group4"), "image/tiff", "a.tif", 1),
    "TIFF of three pages": (
        image("TIFF", save_all=True, append_images=[Image.new("L", (9, 9)), Image.new("1", (20, 5))]),
        "image/tiff",
        "a.tiff",
        3,
    ),
}
