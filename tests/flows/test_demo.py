"""The demo's promise: exit 0 only when every step held. The walk itself is the main job, end to end."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from document_service.demo import run_demo
from document_service.demo.report import print_report
from document_service.demo.stage import Stage, StageError
from document_service.demo.walk import Walk


def test_the_whole_walk_holds_and_leaves_three_documents(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert run_demo(folder=folder) == 0
    # Numbers are given as jobs finish, so which language gets which is not fixed.
    assert {path.name.partition("-00000")[2][2:] for path in (folder / "pdfs").iterdir()} == {
        "en.pdf",
        "fa-AF.pdf",
        "ps-AF.pdf",
    }
    # No name of a patient lies readable in what service and device keep, as text or as escaped JSON.
    names = [
        form for name in ("Noorzai", "رحیمی", "احمدزۍ") for form in (name.encode(), json.dumps(name)[1:-1].encode())
    ]
    for path in folder.rglob("*"):
        if path.is_file() and path.parent != folder / "pdfs":
            content = path.read_bytes()
            assert not any(name in content for name in names), path
    assert not (folder / "service.pid").exists()
    # A second walk begins anew in the folder of the first.
    Stage(folder, Console(file=io.StringIO())).clear()
    assert list((folder / "pdfs").iterdir()) == []


def test_a_folder_of_somebody_else_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    assert run_demo(folder=tmp_path) == 69
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_a_step_that_does_not_hold_ends_the_walk(tmp_path: Path) -> None:
    class Stageless(Stage):
        def start_fhir(self) -> None:
            raise StageError("there is [no] server")

    shown = io.StringIO()
    console = Console(file=shown, width=120)
    walk = Walk(Stageless(tmp_path, console))
    assert not walk.run()
    assert [(step.held, step.seen) for step in walk.steps] == [(False, "there is [no] server")]
    print_report(console, walk)
    assert "there is [no] server" in shown.getvalue()
    assert "NO" in shown.getvalue()
