"""The forms shipped with the product, each a JSON file of this folder with its name, category and version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from document_service.definitions import canonical_json, read_json

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class PlatformForm:
    """One shipped form; ``definition`` is its canonical JSON text, ``semver`` the version this product ships."""

    key: str
    name: str
    category: str
    semver: str
    definition: str


@cache
def catalogue() -> tuple[PlatformForm, ...]:
    """Every shipped form, by key: ``index.json`` names them, a file each holds the definition."""
    index = json.loads((_FOLDER / "index.json").read_text(encoding="utf-8"))
    return tuple(
        PlatformForm(
            entry["key"],
            entry["name"],
            entry["category"],
            entry["semver"],
            canonical_json(read_json((_FOLDER / f"{entry['key']}.json").read_bytes())),
        )
        for entry in index
    )
