"""Whether the cluster's files are the ones that this service wrote, or a copy of them that was put in their place.

The number of the inode of ``global/pg_control`` is kept beside the cluster. PostgreSQL writes that file in place and
never replaces it, and no copy of a folder (cp, rsync, tar, a backup, another machine) keeps the number. So a data
folder that went back as a whole is noticed at its first start, although nothing inside it can tell. A copy that was
written over the files in place keeps their inodes and is not seen; devices bear witness there (docs/decisions/0100).
"""

from __future__ import annotations

import os
from pathlib import Path

from document_service.postgres.cluster import Layout, sync_folder


def is_copy(data_dir: Path) -> bool:
    """Whether the cluster's files are other files than at the last start; False before the first."""
    known = _note(data_dir)
    try:
        return known.read_text(encoding="ascii").strip() != str(_inode(data_dir))
    except FileNotFoundError:
        return False


def remember(data_dir: Path) -> None:
    """Take these files for the cluster's from now on; whoever depends on the difference has acted on it."""
    note, text = _note(data_dir), f"{_inode(data_dir)}\n"
    if note.exists() and note.read_text(encoding="ascii") == text:
        return
    fresh = note.with_suffix(f".{os.getpid()}")
    with fresh.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(note)
    sync_folder(note.parent)


def _note(data_dir: Path) -> Path:
    return Layout(data_dir).home / "files"


def _inode(data_dir: Path) -> int:
    return (Layout(data_dir).cluster / "global" / "pg_control").stat().st_ino
