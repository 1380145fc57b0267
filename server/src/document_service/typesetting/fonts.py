"""The fonts of every document, and which characters they have.

Document Sans is Noto Sans at two fixed weights with the signs that it lacks (≤ ≥ ≠ ≈ √ ∞ ∆, from Open Sans, which
Noto Sans was drawn from); ``scripts/make_fonts.py`` makes it and ``typefaces/`` keeps it. Amiri covers Dari and Pashto.
Noto's Arabic fonts are not used: their dots are separate glyphs, and no engine then gives text that can be searched
(design §4). A character that no font has prints as an empty box, so it is refused before.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from fontTools.ttLib import TTFont

from document_service.errors import GlyphMissing, Problem

FONT_FAMILIES = ("Document Sans", "Amiri")

TYPEFACES = Path(__file__).parent / "typefaces"

# Characters that steer and draw nothing: joiners, word joiner, isolates and marks of direction, and the line break.
# Overrides and embeddings (U+202A…U+202E) are not among them: they can make a dose read otherwise than it is stored.
STEERING = frozenset("\n\u200c\u200d\u200e\u200f\u061c\u2060\u2066\u2067\u2068\u2069")

_ASCII = bytes(range(0x20, 0x7F))

# JSON writes control characters as escapes; all but the line break are refused.
_ESCAPED_CONTROL = re.compile(r"\\[utrbf]")


@dataclass(frozen=True, slots=True)
class FontFiles:
    """The cuts that are used; nothing is set in italics, which neither Naskh nor a fax needs."""

    sans: Path
    sans_strong: Path
    naskh: Path
    naskh_strong: Path

    def __iter__(self) -> Iterator[Path]:
        return iter((self.sans, self.sans_strong, self.naskh, self.naskh_strong))


def font_files() -> FontFiles:
    amiri = Path(str(files("fontpkg_amiri") / "files"))
    return FontFiles(
        TYPEFACES / "DocumentSans-Regular.ttf",
        TYPEFACES / "DocumentSans-SemiBold.ttf",
        amiri / "Amiri-Regular.ttf",
        amiri / "Amiri-Bold.ttf",
    )


def fonts_digest() -> str:
    """SHA-256 hex over the font files in their order: a part of what a re-render must match."""
    digest = hashlib.sha256()
    for path in font_files():
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@cache
def drawable() -> frozenset[str]:
    """Every character that may appear: those that a font has in each of its weights, and the steering ones."""
    sans, sans_strong, naskh, naskh_strong = (_characters_of(path) for path in font_files())
    printed = (sans & sans_strong) | (naskh & naskh_strong)
    return frozenset(c for c in printed if ord(c) >= 0x20 and not 0x202A <= ord(c) <= 0x202E) | STEERING


def _characters_of(path: Path) -> frozenset[str]:
    with TTFont(path, lazy=True) as font:
        return frozenset(map(chr, font.getBestCmap()))


def check_glyphs(page_model: dict[str, Any], text: str) -> None:
    """Refuse a page model with a character that would not print; ``text`` is its JSON, searched first as a whole.

    Raises:
        GlyphMissing: names the section, the place in it and the code point, never the text.
    """
    # Signs of ASCII are most of a page, and every font has them: what is left to look up is little.
    rare = text.encode(errors="surrogatepass").translate(None, _ASCII).decode(errors="surrogatepass")
    if drawable().issuperset(rare) and not ("\\" in text and _ESCAPED_CONTROL.search(text)):
        return
    for pointer, character in _characters(page_model):
        if character not in drawable():
            code_point = f"U+{ord(character):04X}"
            raise GlyphMissing(
                f"{code_point} in {_place(page_model, pointer)} has no glyph; replace it in the record or the form",
                errors=(Problem(pointer, "GLYPH_MISSING", f"{code_point} has no glyph in the document fonts."),),
                extra={"codePoint": code_point},
            )


def _characters(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        for character in dict.fromkeys(value):
            yield pointer, character
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _characters(member, f"{pointer}/{key}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _characters(member, f"{pointer}/{index}")


def _place(page_model: dict[str, Any], pointer: str) -> str:
    parts = pointer.split("/")[1:]
    if parts[0] == "sections" and len(parts) > 1:
        kind = page_model["sections"][int(parts[1])].get("type", "unknown")
        return f"section {int(parts[1]) + 1} ({kind}) at {pointer}"
    return f"the page model at {pointer}"
