"""What happens where the world cannot be compiled. That it goes the same way through the seeds each soak asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation import compiled


def test_where_nothing_can_be_compiled_that_is_said_and_the_seeds_run_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "FOLDER", tmp_path / "built")
    monkeypatch.setattr(compiled, "MODULES", ("no_such_module",))
    assert compiled.compile_world() is None
    assert "the seeds run without being compiled" in capsys.readouterr().out
