"""The folders of typesetters: what is in them, and that they go with their process, at the latest at a next start."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from document_service.typesetting.layout_files import layout_sources
from document_service.typesetting.private_folder import PREFIX, PrivateFolder, remove_abandoned
from running_service import Service, request_for


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the system that only this test uses."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def folders(temporary: Path) -> set[Path]:
    return set(temporary.glob("document-service-typeset*"))


def test_a_killed_service_leaves_no_patient_in_its_folder_and_the_next_start_removes_it(
    temporary: Path, tmp_path: Path, fhir_url: str
) -> None:
    service = Service(tmp_path / "data", TMPDIR=str(temporary)).start()
    other = Service(tmp_path / "other", TMPDIR=str(temporary))
    try:
        [dead] = folders(temporary)
        with service.caller(service.create_tenant(fhir_url)) as api:
            assert api.render(request_for(api.platform_version()))["status"] == "completed"
            api.post("/v1/documents/render-jobs", json=request_for(api.platform_version()))
            service.kill()
        assert folders(temporary) == {dead}
        # The layout library alone, byte for byte: nothing of a job, not even a cut-off one.
        assert {path.name for path in dead.rglob("*")} == set(layout_sources())
        for name, source in layout_sources().items():
            assert (dead / name).read_bytes().removeprefix(b"/*") == source
        other.start()
        [living] = folders(temporary)
        assert living != dead
        service.start()
        assert living in folders(temporary), "its process lives"
        assert len(folders(temporary)) == 2
        other.kill()
        other.start()
        assert living not in folders(temporary)
    finally:
        service.stop()
        other.stop()
    assert folders(temporary) == set()


_HOLD = """
import sys, time
from document_service.typesetting.private_folder import PrivateFolder
print(PrivateFolder.make().path, flush=True)
time.sleep(60)
"""


def test_a_folder_is_removed_when_its_process_is_killed_and_not_before(temporary: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdout=subprocess.PIPE, text=True, env={"TMPDIR": str(temporary)}
    )
    assert holder.stdout is not None
    held = Path(holder.stdout.readline().strip())
    try:
        assert remove_abandoned() == 0
        assert held.is_dir()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert remove_abandoned() == 1
    assert not held.exists()


def test_nothing_else_is_touched(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    (temporary / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    (temporary / f"{PREFIX}file").write_text("no folder")
    # One of a build that held no lock: whether its process lives cannot be told.
    (temporary / "document-service-typesetting-old").mkdir()
    before = set(temporary.iterdir())
    assert remove_abandoned() == 0
    assert set(temporary.iterdir()) == before
    assert (tmp_path / "precious" / "file").read_text() == "mine"


def test_a_folder_that_a_cleaner_took_is_replaced_under_another_name(temporary: Path) -> None:
    folder = PrivateFolder.make()
    taken = folder.path
    folder.ensure()
    assert folder.path == taken
    taken.rmdir()
    # Somebody else's now, with whatever they put there.
    taken.mkdir()
    (taken / "main.typ").write_text("planted")
    folder.ensure()
    assert folder.path != taken
    assert remove_abandoned() == 1, "nobody holds the planted one"
    folder.remove()
    assert folders(temporary) == set()


def test_many_that_start_and_sweep_at_once_never_lose_a_living_folder(temporary: Path) -> None:
    lost: list[Path] = []

    def begin() -> None:
        for _ in range(40):
            remove_abandoned()
            folder = PrivateFolder.make()
            remove_abandoned()
            if not folder.path.is_dir():
                lost.append(folder.path)
            folder.remove()

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert folders(temporary) == set()
