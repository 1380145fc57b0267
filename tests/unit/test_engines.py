"""Who must run a test that needs an outside engine, and who may leave it out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import engines

INSTALLER = Path(__file__).resolve().parents[2] / "scripts/install-engines"


@pytest.fixture
def absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> engines.Engine:
    """An engine whose one file is not there yet."""
    engine = replace(engines.ENGINES["qpdf"], files=(tmp_path / "qpdf",))
    monkeypatch.setitem(engines.ENGINES, "qpdf", engine)
    return engine


def never(name: str) -> str:
    raise AssertionError(f"{name} must not be installed")


def bringing(engine: engines.Engine) -> Callable[[str], str]:
    def install(name: str) -> str:
        for path in engine.files:
            path.touch()
        return f"installed: {name}"

    return install


def test_an_engine_that_is_there_is_not_installed(absent: engines.Engine) -> None:
    bringing(absent)("qpdf")
    assert engines.demand("qpdf", is_root=True, is_ci=True, install=never) == absent


def test_root_installs_a_missing_engine(absent: engines.Engine) -> None:
    assert engines.demand("qpdf", is_root=True, is_ci=False, install=bringing(absent)) == absent


@pytest.mark.parametrize(("is_root", "is_ci"), [(True, False), (False, True), (True, True)])
def test_root_and_ci_fail_without_the_engine(absent: engines.Engine, is_root: bool, is_ci: bool) -> None:
    with pytest.raises(pytest.fail.Exception, match="qpdf is missing and could not be installed: no network"):
        engines.demand("qpdf", is_root=is_root, is_ci=is_ci, install=lambda name: "no network")


def test_an_ordinary_user_is_told_what_was_not_run(absent: engines.Engine) -> None:
    with pytest.raises(pytest.skip.Exception, match="not run: qpdf is not installed"):
        engines.demand("qpdf", is_root=False, is_ci=False, install=never)


def test_an_engine_of_root_is_not_run_by_others_even_in_ci() -> None:
    with pytest.raises(pytest.skip.Exception, match="not run: cups needs root"):
        engines.demand("cups", is_root=False, is_ci=True, install=never)


def test_the_installer_knows_the_same_engines() -> None:
    done = subprocess.run([INSTALLER, "--packages"], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(engines.ENGINES)
    for name in engines.ENGINES:
        subprocess.run([INSTALLER, "--packages", name], capture_output=True, check=True)


def test_the_installer_refuses_an_unknown_engine() -> None:
    done = subprocess.run([INSTALLER, "teapot"], capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "no engine is called 'teapot'" in done.stderr
