"""Small private files: what a killed program leaves of them, with and without files that have no name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from document_client import files
from document_client.vault import Unlocking, create_vault


def _killed_while_writing(path: Path) -> None:
    """Write ``path`` in a process of its own, and end it when the bytes are there and the name is not."""
    child = os.fork()
    if child == 0:  # pragma: no cover - it is killed.
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        files.write_private(path, b"patient")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def _knows_nameless_files(folder: Path) -> bool:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except (AttributeError, OSError):
        return False
    return True


def test_a_killed_writer_leaves_nothing_of_a_document(tmp_path: Path) -> None:
    (tmp_path / "out.pdf").write_bytes(b"before")
    _killed_while_writing(tmp_path / "out.pdf")
    if not _knows_nameless_files(tmp_path):
        # Then a lock of all writers is needed to tell what a killed one left; the key file has one.
        files.sweep_unfinished(tmp_path / "out.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["out.pdf"]
    assert (tmp_path / "out.pdf").read_bytes() == b"before"


@pytest.mark.parametrize("missing", ["O_TMPFILE", "link"])
def test_where_files_have_a_name_at_once_they_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "O_TMPFILE":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    else:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError("this file system has no such links")

        monkeypatch.setattr(os, "link", refuse)
    for content in (b"one", b"two"):
        files.write_private(tmp_path / "x", content)
        assert [path.name for path in tmp_path.iterdir()] == ["x"]
        assert (tmp_path / "x").read_bytes() == content
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_a_destroyed_key_is_in_no_copy_that_a_killed_program_left(tmp_path: Path) -> None:
    vault = create_vault(tmp_path, "dev_1", Unlocking(passphrase="correct horse"))
    vault.put("cache", b"k" * 32)
    left = tmp_path / ".vault.json.0123456789ab"
    left.write_bytes((tmp_path / "vault.json").read_bytes())
    other = tmp_path / ".vault.json.notes"
    other.write_bytes(b"somebody's own")
    vault.destroy("cache")
    assert not left.exists()
    assert other.exists()
