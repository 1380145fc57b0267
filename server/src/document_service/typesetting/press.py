"""The press: one page model in, PDF or PNG bytes out, by Typst and the layout library beside this file.

It is made once per child process. The root folder holds the layout library and nothing else, and is the package folder
too: nothing else on the machine and nothing on the network can be read. What belongs to a job is handed over as bytes
at every call (a dict given to ``Compiler`` is dropped silently on the second call; ``str`` values would be read from
disk).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typst

from document_service.errors import GlyphMissing, RenderFailed, RenderTooLarge
from document_service.typesetting import codes
from document_service.typesetting.fit import fitted, load_advances
from document_service.typesetting.fonts import FONT_FAMILIES, STEERING, check_glyphs, font_files, fonts_digest
from document_service.typesetting.layout_files import ENTRY, as_data, installed_layout
from document_service.typesetting.left_to_right import without_isolates
from document_service.typesetting.pictures import prepared
from document_service.typesetting.signed_rows import signed_table, with_holds, with_rows_carried, without_signatures

# PDF/A-2a for the archive, PDF/UA-1 for readers who listen (design §4).
PDF_STANDARDS: list[typst.PDFStandard] = ["a-2a", "ua-1"]
# What a definition may choose instead. PDF/A-1 is PDF 1.4, in which the foot of a page cannot be told from its text:
# Typst refuses PDF/UA-1 with it (decision 15).
A_1B: list[typst.PDFStandard] = ["a-1b"]

# A preview is for a screen: 110 dots an inch show an A4 page 910 wide.
PREVIEW_PPI = 110

# A page model is nested five deep; Typst and Python would both recurse on more.
MAX_DEPTH = 32

# Typst writes the page tree as its first object.
_PAGE_COUNT = re.compile(rb"/Type/Pages/Count (\d+)")
_HEADER_BYTES = 256

_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ROUND = bytes.maketrans(b"[]{}", b"()()")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


class FontsMissing(Exception):
    """The installation lacks a font. Typst would print pages without a letter on them, and call them good."""


class LayoutMissing(Exception):
    """The folder that a press was given holds no layout library, or not any more: a fresh child finds it again."""


@dataclass(frozen=True, slots=True)
class Printed:
    """What came off the press: one PDF or the PNG pages, the SHA-256 of the page model, and Typst's warnings."""

    sheets: tuple[bytes, ...]
    pages: int
    page_model_digest: str
    warnings: tuple[str, ...]


class Press:
    """Typst with its fonts and the layout library loaded. Not for more than one thread."""

    def __init__(self, root: Path) -> None:
        """Load fonts and layout; ``root`` is a folder that ``install_layout`` has filled.

        Raises:
            FontsMissing, LayoutMissing: the installation lacks a font, or the folder lacks the library.
        """
        sources = installed_layout(root)
        if ENTRY not in sources:
            raise LayoutMissing(f"there is no layout library in {root}")
        self._root, self._library, self._entry = root, tuple(sources), sources[ENTRY]
        self._looks = json.loads(sources["look.json"])
        self._advances = load_advances()
        fonts = typst.Fonts(
            include_system_fonts=False,
            include_embedded_fonts=False,
            # Typst looks for fonts in folders; a file's own path finds nothing, without a word.
            font_paths=sorted({str(path.parent) for path in font_files()}),
        )
        missing = set(FONT_FAMILIES) - set(fonts.families())
        if missing:
            raise FontsMissing(f"Typst does not find {', '.join(sorted(missing))}; reinstall the font packages")
        folder = str(root)
        self._compiler = typst.Compiler(
            None, root=folder, font_paths=fonts, package_path=folder, package_cache_path=folder
        )
        layout = hashlib.sha256()
        for name, source in sources.items():
            layout.update(f"{name}\n{len(source)}\n".encode() + source)
        self.engine = {
            "engine": f"typst {version('typst')}",
            "layout": layout.hexdigest(),
            "fonts": fonts_digest(),
            "codes": codes.ENGINE,
        }

    def print_page_model(
        self, page_model: dict[str, Any], images: Mapping[str, bytes], issued_at: datetime, output: str
    ) -> Printed:
        """Lay the page model out as ``output`` (``pdf`` or ``png``); ``issued_at`` becomes the creation time.

        Raises:
            GlyphMissing: a character has no glyph.
            RenderTooLarge: the model is nested too deep, or a code holds too much.
            RenderFailed: the layout library refused the model.
        """
        try:
            model = self._with_logo(page_model, images)
            text = _written(model)
            check_glyphs(model, text)
            sources = {ENTRY: self._entry}
            sizes: dict[int, tuple[int, int]] = {}
            pictures = {name: prepared(content, opaque="archival" in model) for name, content in images.items()}
            for name, picture in pictures.items():
                sources[_picture_name(name)] = as_data(picture.source)
            for index, section in enumerate(model["sections"]):
                if section["type"] == "qr":
                    sources[f"code-{index}"] = as_data(codes.qr_svg(section["content"]))
                elif section["type"] == "labels" and section["barcode"]:
                    code = codes.barcode(section["barcode"]["content"], section["barcode"]["format"])
                    sources[f"code-{index}"] = as_data(code.svg)
                    sizes[index] = (code.width, code.height)
            logo = pictures["logo"].ratio if "logo" in pictures else None
            ready = _spoken(model) | fitted(
                with_holds(model), self._looks[model["dir"]], self._advances[model["dir"]], sizes, logo
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            # The text of such an error quotes the value that it met.
            raise RenderFailed("the page model does not have the shape that the layout takes") from None
        sheets, warnings = self._compile(ready, sources, output, issued_at)
        pages = len(sheets) if output == "png" else _page_count(sheets[0])
        return Printed(sheets, pages, hashlib.sha256(text.encode()).hexdigest(), warnings)

    def _with_logo(self, model: dict[str, Any], images: Mapping[str, bytes]) -> dict[str, Any]:
        """The picture decides whether there is a logo; a tenant without one gets none, and no empty frame."""
        if "logo" not in images:
            return model | {"logo": None}
        return model if model.get("logo") else model | {"logo": {"alt": model["tenant"]["name"]}}

    def _compile(
        self, model: dict[str, Any], sources: dict[str, bytes], output: str, issued_at: datetime
    ) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
        """Print for one page first, and again with counted pages when there are more.

        A page number that Typst has to look up costs a second layout of everything, and most documents are one page.
        Where the rows alone are higher than a page, the first attempt is spared. Signatures that would stand alone take
        rows with them (``signed_rows``).
        """

        def run(model: dict[str, Any], kind: str) -> tuple[tuple[bytes, ...], tuple[str, ...], int]:
            page = without_isolates(json.dumps(model | {"run": kind}, ensure_ascii=False), model["dir"])
            sources["page.json"] = as_data(page.encode())
            sheets, warnings = self._typst(sources, None if output == "png" else _standards(model), issued_at)
            return sheets, warnings, len(sheets) if output == "png" else _page_count(sheets[0])

        if not model["tall"]:
            sheets, warnings, pages = run(model, "1")
            if pages == 1:
                return sheets, warnings
        sheets, warnings, pages = run(model, "many")
        table = signed_table(model)
        if pages > 1 and table is not None and run(without_signatures(model, table), "many")[2] < pages:
            sheets, warnings, _ = run(with_rows_carried(model, table), "many")
        return sheets, warnings

    def _typst(
        self, sources: dict[str, bytes], standards: list[typst.PDFStandard] | None, issued_at: datetime
    ) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
        preview = standards is None
        try:
            made, warnings = self._compiler.compile_with_warnings(
                sources,  # type: ignore[type-var]  # The stub does not know of the dict that the engine takes.
                format="png" if preview else "pdf",
                ppi=PREVIEW_PPI if preview else None,
                pdf_standards=standards,
                timestamp=issued_at,
            )
        except typst.TypstError as error:
            if not all((self._root / name).exists() for name in self._library):
                raise LayoutMissing("files of the layout library are gone") from None
            raise _refusal(error) from None
        sheets = made if isinstance(made, list) else [made or b""]
        return tuple(sheets), tuple(_without_values(w.message) for w in warnings)


def _standards(model: dict[str, Any]) -> list[typst.PDFStandard]:
    """The standards of the page model's PDF. A preview's mark is translucent, which PDF/A-1 forbids; it is no archive
    copy either."""
    return A_1B if "archival" in model and not model.get("mark") else PDF_STANDARDS


def _spoken(model: dict[str, Any]) -> dict[str, Any]:
    """Title and author for the file's metadata, where controls of direction would show as boxes.

    A preview's mark is drawn as an artifact, which is seen and not read; so the title says it.
    """
    title = model.get("plainTitle") or model["title"]
    if model.get("mark"):
        title = f"{model['mark']} – {title}"
    spoken = {"title": title, "author": model["tenant"]["name"]}
    return {"spoken": {key: "".join(c for c in text if c not in STEERING) for key, text in spoken.items()}}


def _written(model: dict[str, Any]) -> str:
    try:
        text = json.dumps(model, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise RenderTooLarge("the page model is nested too deep") from None
    if _depth(text) > MAX_DEPTH:
        raise RenderTooLarge(f"the page model is nested deeper than {MAX_DEPTH}")
    return text


def _depth(text: str) -> int:
    """How deep the JSON ``text`` nests: first as if brackets never stood in strings, exactly when that is deep."""
    brackets = text.encode(errors="replace").translate(_ROUND, _ALL_BUT_BRACKETS)
    for depth in range(MAX_DEPTH + 1):
        if not brackets:
            return depth
        # What holds no bracket goes, so the rest is one level less deep.
        brackets = brackets.replace(b"()", b"")
    return _deepest(_STRING_OR_BRACKET.findall(text))


def _deepest(tokens: Iterable[str]) -> int:
    depth = deepest = 0
    for token in tokens:
        if token in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in "]}":
            depth -= 1
    return deepest


def _picture_name(name: str) -> str:
    """Pictures share one folder with the layout's files, so their names may not look like one of those."""
    if not re.fullmatch(r"[a-z]{1,32}", name):
        raise RenderFailed("a picture's name is one lower-case word")
    return name


def _page_count(pdf: bytes) -> int:
    match = _PAGE_COUNT.search(pdf, 0, _HEADER_BYTES)
    if match is None:
        raise RenderFailed("the typesetter's PDF does not start with its page tree; the engine has changed")
    return int(match[1])


def _without_values(message: str) -> str:
    """Typst quotes what it met; a log or an answer may only say what kind of thing that was."""
    return re.sub(r"[`\"“‘].*[`\"”’]", "…", message, flags=re.DOTALL)[:300]


def _refusal(error: typst.TypstError) -> RenderFailed:
    message = str(error.message)
    if "could not be displayed" in message or "glyph" in message:
        return GlyphMissing("the fonts cannot draw a combination of characters in this document")
    if "longer than 32767" in message:
        return RenderTooLarge("a word of the document is longer than a PDF can hold")
    return RenderFailed(f"the layout refused the page model: {_without_values(message)}")
