"""docs/client.md is complete: every verb, option, setting and exit code is in it, and its example runs."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click
import pytest

from document_client import DocumentClient, errors
from document_client.__main__ import build
from document_client.errors import ClientError
from document_client.model import Model, ModelTransport

MANUAL = Path(__file__).parents[2] / "docs" / "client.md"
SOURCE = Path(errors.__file__).parent


def test_every_verb_and_option_is_in_the_manual() -> None:
    text = MANUAL.read_text()

    def check(command: click.Command, name: str) -> None:
        if isinstance(command, click.Group):
            for verb in command.list_commands(click.Context(command)):
                inner = command.get_command(click.Context(command), verb)
                assert inner is not None
                check(inner, f"{name} {verb}".strip())
            return
        assert name in text, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                documented = any(option in text for option in parameter.opts)
                common = set(parameter.opts) & {"--category", "--title", "--template", "--all", "--confirm", "--once"}
                assert documented or common, f"{name} {parameter.opts}"

    check(build(), "")


def test_every_setting_that_the_client_reads_is_in_the_manual() -> None:
    read = set()
    for path in SOURCE.rglob("*.py"):
        read |= set(re.findall(r"DOCUMENTS_[A-Z_]+", path.read_text()))
    text = MANUAL.read_text()
    assert not [name for name in read if f"`{name}`" not in text]


def test_every_exit_code_is_in_the_manual() -> None:
    codes = {kind.exit_code for kind in ClientError.__subclasses__()}
    text = MANUAL.read_text()
    assert not [code for code in codes if f"| {code} |" not in text]


def test_the_example_of_the_manual_runs(tmp_path: Path) -> None:
    model = Model(time.time)
    model.publish("General Test Requisition", {"language": 1, "locales": ["en"], "inputs": {"type": "object"}})
    client = DocumentClient(tmp_path / "home", passphrase="p", transport=ModelTransport(model))
    client.login("https://documents.test", model.token("clinic", "dr.a"))
    queued = client.request("General Test Requisition", patient="p-1", inputs={"reason": "fever"})
    assert client.sync(wait_seconds=10).success
    [document] = client.documents.list()
    assert client.documents.read(document["id"]).content.startswith(b"%PDF")
    assert client.queue.show(queued["clientMutationId"])["status"] == "done"
    client.close()


@pytest.mark.parametrize("name", ["queue", "documents"])
def test_the_parts_of_the_api_are_in_the_manual(name: str, tmp_path: Path) -> None:
    text = MANUAL.read_text()
    part = getattr(DocumentClient(tmp_path), name)
    for verb in (v for v in dir(part) if not v.startswith("_")):
        assert f"`{verb}`" in text, verb
