"""Options of ``document-service`` before and after the verb (contract §5)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from document_service.__main__ import all_commands
from document_service.commands.argv import _options, behind_the_verb
from document_service.commands.counting import counted


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("--json settings", "settings --json"),
        ("--data-dir D --json tenant list", "tenant list --data-dir D --json"),
        ("tenant --json list", "tenant list --json"),
        ("--tenant acme --user u1 token --role CLINICIAN", "token --tenant acme --user u1 --role CLINICIAN"),
        ("--name=North tenant create t --fhir-url u", "tenant create --name=North t --fhir-url u"),
        ("--no-worker serve --port 0", "serve --no-worker --port 0"),
        ("-h serve", "serve -h"),
        ("tenant --help", "tenant --help"),
        ("--version serve", "--version serve"),
        ("--json nothing", "--json nothing"),
        ("--data-dir", "--data-dir"),
        ("", ""),
    ],
)
def test_options_are_read_behind_the_verb(line: str, read: str) -> None:
    assert behind_the_verb(all_commands(), line.split()) == read.split()


def test_no_option_takes_a_value_in_one_place_and_none_in_another() -> None:
    # The root's --version stands before any verb and is read there.
    options = [option for group in all_commands().commands.values() for option in _options(group)]
    flags = {name for option in options if option.is_flag for name in option.opts}
    assert flags.isdisjoint(name for option in options if not option.is_flag for name in option.opts)


def test_the_command_itself_reads_them() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCUMENT_SERVICE_")}
    outputs = [
        subprocess.run(
            [sys.executable, "-m", "document_service", *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=environment,
        ).stdout
        for words in (["--json", "--port", "4711", "settings"], ["settings", "--json", "--port", "4711"])
    ]
    assert outputs[0] == outputs[1]
    assert "4711" in outputs[0]


def test_one_of_a_thing_is_not_told_in_the_plural() -> None:
    assert [counted(count, "key") for count in (0, 1, 2)] == ["0 keys", "1 key", "2 keys"]
