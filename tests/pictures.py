"""Accepted pictures of pages: compared at every run, written when somebody has looked at them.

A change of layout, fonts or engine is looked at, then accepted by

    ACCEPT_PICTURES=1 .venv/bin/python -m pytest tests/golden
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"

# Anti-aliasing differs by a shade between machines; a moved letter differs by more than this on more than that share
# of the page.
SHADE = 48
SHARE = 0.0005


def require_accepted(picture: Image.Image, name: str) -> None:
    """Fail the test when ``picture`` is not the accepted one of this name, or accept it when told to."""
    path = PICTURES / f"{name}.png"
    if os.environ.get("ACCEPT_PICTURES"):
        # Sixteen greys and blues are all that a page has; this makes the files a quarter of the size.
        picture.convert("RGB").quantize(48).save(path, optimize=True)
    assert path.exists(), f"look at {name}, then accept it (see tests/pictures.py)"
    new, kept = picture.convert("L"), Image.open(path).convert("L")
    assert new.size == kept.size, name
    changed = ImageChops.difference(new, kept).point(lambda shade: 255 if shade > SHADE else 0)
    share = ImageStat.Stat(changed).mean[0] / 255
    if share > SHARE:
        new.save(Path(os.environ.get("TMPDIR", "/tmp")) / path.name)  # noqa: S108  # For whoever looks.
    assert share <= SHARE, f"{name} changed: {share:.2%} of it"
