"""The leak hunt: markers that somebody would notice, searched in every file that a scenario left."""

from __future__ import annotations

from pathlib import Path


def readable(folder: Path, *markers: str) -> list[str]:
    """Return which markers are readable in which file below ``folder``, in UTF-8, UTF-16 and hexadecimal."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for marker in markers:
            forms = (marker.encode(), marker.encode("utf-16-le"), marker.encode().hex().encode())
            if any(form in content for form in forms) or marker in str(path):
                found.append(f"{marker} in {path}")
    return found
