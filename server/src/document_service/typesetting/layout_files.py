"""The layout library as files: in the package, by content for its digest, and in the folder that the engine reads.

The engine parses whatever it is handed with a job, every time: with the library among it, that was a tenth of a page.
A file that it finds in its root folder it parses once, and looks at each time whether the content is still the same.
So the pool writes the library into the private folder of its children, who may write nothing, and a job brings the
entry and its data. The folder and not the package itself: an upgrade in place must not change what is printed by
processes that told another digest.
"""

from __future__ import annotations

from pathlib import Path

LAYOUT_DIR = Path(__file__).parent / "layout"

#: The one file that is handed over with every job; the engine takes no job without it.
ENTRY = "main.typ"

#: What the layout's ``data`` undoes: the engine parses each file as a source, and so finds one comment.
_DATA_MARK = b"/*"


def as_data(content: bytes) -> bytes:
    """``content`` as the layout's ``data`` reads it: nothing in it can be taken for markup."""
    return _DATA_MARK + content


def layout_sources() -> dict[str, bytes]:
    """The files of the layout library by name, as this version of the product brings them."""
    return {path.name: path.read_bytes() for path in sorted(LAYOUT_DIR.iterdir()) if path.suffix in (".typ", ".json")}


def install_layout(root: Path) -> None:
    """Write the layout library into ``root``, for the presses that are made there; what is there already stays.

    Called before each child is started: folders of this kind are tidied up behind a service that runs for weeks.
    """
    root.mkdir(mode=0o700, exist_ok=True)
    for name, source in layout_sources().items():
        if not (root / name).exists():
            # Whole or not at all: another child may be about to read it.
            unfinished = root / f".{name}"
            unfinished.write_bytes(source if name.endswith(".typ") else as_data(source))
            unfinished.replace(root / name)


def installed_layout(root: Path) -> dict[str, bytes]:
    """The files of the layout library by name, as ``install_layout`` left them in ``root``; empty when it did not."""
    found = {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.suffix in (".typ", ".json")}
    return {name: source.removeprefix(_DATA_MARK) for name, source in found.items()}
