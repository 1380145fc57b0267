"""Make the document fonts: fixed weights of Noto Sans, with the signs from Open Sans that it lacks.

    .venv/bin/python scripts/make_fonts.py

The variable Noto Sans of ``fontpkg-noto-sans`` is instanced at two weights: a fixed cut spares the engine the
interpolation of every glyph of every document (a twelfth of a render), and a sign inside the font spares it a third
font to subset and embed. The results are kept in the repository, so a document's bytes do not depend on the versions
of fontTools or of the font packages; ``sources.json`` says what they were made of. Both fonts are under the SIL Open
Font License 1.1 without a reserved name; the result has a name of its own all the same, for it is neither.
"""

from __future__ import annotations

import hashlib
import io
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from fontTools.merge import Merger
from fontTools.merge import Options as MergeOptions
from fontTools.subset import Options as SubsetOptions
from fontTools.subset import Subsetter
from fontTools.ttLib import TTFont
from fontTools.ttLib.scaleUpem import scale_upem
from fontTools.varLib.instancer import instantiateVariableFont

OUT = Path(__file__).parents[1] / "server/src/document_service/typesetting/typefaces"
FAMILY = "Document Sans"
WEIGHTS = {"Regular": 400, "SemiBold": 600}
# Comparators and signs of clinical text that Noto Sans leaves to its mathematical sister.
SIGNS = "≤≥≠≈√∞∆"
# What text needs; small capitals, old-style figures and the rest are never asked for.
FEATURES = ["ccmp", "locl", "mark", "mkmk", "kern", "liga", "rlig"]


def source(package: str, name: str) -> Path:
    return Path(str(files(package) / "files" / name))


NOTO = source("fontpkg_noto_sans", "NotoSans[wdth,wght].ttf")
OPEN = source("fontpkg_open_sans", "OpenSans[wdth,wght].ttf")


def cut(path: Path, weight: int, characters: set[int] | None = None) -> TTFont:
    """One weight of a variable font, with only the features of running text and, if given, only ``characters``."""
    font = TTFont(path, recalcTimestamp=False)
    options = SubsetOptions(layout_features=FEATURES, notdef_outline=True, name_IDs=["*"], hinting=False)
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=characters if characters is not None else font.getBestCmap())
    subsetter.subset(font)
    fixed = instantiateVariableFont(font, {"wght": weight, "wdth": 100})
    # Variation leaves tables that only a variable font may have.
    for tag in ("STAT", "MVAR", "HVAR", "avar", "fvar", "gvar"):
        if tag in fixed:
            del fixed[tag]
    return fixed


def saved(font: TTFont, path: Path) -> Path:
    font.save(path, reorderTables=True)
    return path


def make(name: str, weight: int, work: Path) -> bytes:
    """The bytes of one cut."""
    noto = cut(NOTO, weight)
    missing = {ord(sign) for sign in SIGNS} - set(noto.getBestCmap())
    signs = cut(OPEN, weight, missing)
    scale_upem(signs, noto["head"].unitsPerEm)
    for tag in ("GSUB", "GPOS", "GDEF"):
        if tag in signs:
            del signs[tag]
    created = noto["head"].created
    parts = [saved(noto, work / f"noto-{name}.ttf"), saved(signs, work / f"signs-{name}.ttf")]
    merged = Merger(options=MergeOptions()).merge([str(part) for part in parts])
    rename(merged, name, weight)
    merged["head"].created = merged["head"].modified = created
    merged.recalcTimestamp = False
    buffer = io.BytesIO()
    merged.save(buffer, reorderTables=True)
    return buffer.getvalue()


def rename(font: TTFont, name: str, weight: int) -> None:
    table: Any = font["name"]
    licence = [str(record) for record in table.names if record.nameID in (0, 13, 14)]
    table.names = []
    words = {
        0: " ".join(dict.fromkeys(text for text in licence if "Copyright" in text))
        or "Copyright 2022 The Noto Project Authors; Copyright 2020 The Open Sans Project Authors",
        1: f"{FAMILY} {name}",
        2: "Regular",
        3: f"{FAMILY} {name} 1",
        4: f"{FAMILY} {name}",
        5: "Version 1.000",
        6: f"{FAMILY.replace(' ', '')}-{name}",
        13: "This Font Software is licensed under the SIL Open Font License, Version 1.1.",
        14: "https://openfontlicense.org",
        16: FAMILY,
        17: name,
    }
    for identifier, text in words.items():
        table.setName(text, identifier, 3, 1, 0x409)
    font["OS/2"].usWeightClass = weight


def main() -> None:
    OUT.mkdir(exist_ok=True)
    work = OUT / "work"
    work.mkdir(exist_ok=True)
    for name, weight in WEIGHTS.items():
        content = make(name, weight, work)
        (OUT / f"DocumentSans-{name}.ttf").write_bytes(content)
        print(name, len(content), hashlib.sha256(content).hexdigest()[:16])
    for leftover in work.iterdir():
        leftover.unlink()
    work.rmdir()
    for package in ("fontpkg_noto_sans", "fontpkg_open_sans"):
        text = (files(package) / "LICENSE").read_text(encoding="utf-8")
        (OUT / f"LICENSE-{package.removeprefix('fontpkg_')}").write_text(text, encoding="utf-8")
    made_of = {
        "fontTools": version("fonttools"),
        NOTO.name: hashlib.sha256(NOTO.read_bytes()).hexdigest(),
        OPEN.name: hashlib.sha256(OPEN.read_bytes()).hexdigest(),
    }
    (OUT / "sources.json").write_text(json.dumps(made_of, indent=2) + "\n")


if __name__ == "__main__":
    main()
