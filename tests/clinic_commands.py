"""The command ``documents`` in this process, beside a model of the service on a loopback port."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client_device import DEFINITION, FORM
from document_client.__main__ import main
from document_client.model import Model, serve

PATIENT = "p1"


# Nothing listens there: every exchange is refused at once.
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Clinic:
    """A model on a loopback port and a home folder, driven by the command line in this process."""

    model: Model
    url: str
    home: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; returns exit code, standard output and standard error."""
        code = main([*arguments, "--home", str(self.home)])
        out, err = self.capture.readouterr()
        return code, out, err

    def cut(self) -> None:
        """Take the connection away."""
        self._move(self.url, NOWHERE)

    def heal(self) -> None:
        """Bring the connection back."""
        self._move(NOWHERE, self.url)

    def _move(self, old: str, new: str) -> None:
        session = self.home / "session.json"
        session.write_text(session.read_text().replace(old, new))

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed and return its JSON."""
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, err + out
        assert err == ""
        return json.loads(out)


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Clinic]:
    monkeypatch.setenv("DOCUMENTS_PASSPHRASE", "correct horse")
    monkeypatch.setenv("CUPS_SERVER", str(tmp_path / "absent.sock"))
    for name in ("DOCUMENTS_HOME", "DOCUMENTS_SERVER"):
        monkeypatch.delenv(name, raising=False)
    model = Model(time.time)
    model.publish(FORM, DEFINITION, key="general-test-requisition")
    with serve(model) as url:
        made = Clinic(model, url, tmp_path / "home", capsys)
        code, _, err = made.run("login", "--server", url, "--token", model.token("clinic", "dr.a"))
        assert code == 0, err
        yield made
