"""Dari and Pashto under the English line: nothing is missing, values are filled in, Latin text keeps its direction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from document_client import errors
from document_client.__main__ import main
from document_client.errors import ClientError
from document_client.words import LANGUAGES, choose_language, error_title, sentence

WORDS = json.loads(files("document_client").joinpath("words.json").read_bytes())


def kinds(kind: type[ClientError] = ClientError) -> Iterator[type[ClientError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def test_every_error_has_a_title_in_both_languages_and_none_is_left_over() -> None:
    codes = {kind.code for kind in kinds() if kind.__module__ == errors.__name__}
    assert set(WORDS["errors"]) == codes
    for code, titles in WORDS["errors"].items():
        assert set(titles) == set(LANGUAGES), code
        for title in titles.values():
            assert re.search("[\u0600-\u06ff]", title), code


def test_a_translation_names_the_same_commands_and_values_as_the_english() -> None:
    for name, texts in WORDS["sentences"].items():
        values = set(re.findall(r"{\w+}", texts["en"]))
        for language in LANGUAGES:
            assert set(re.findall(r"{\w+}", texts[language])) == values, name
    for kind in kinds():
        for language in LANGUAGES:
            title = WORDS["errors"].get(kind.code, {}).get(language, "")
            named = set(re.findall(r"`([^`]+)`", title))
            assert named <= set(re.findall(r"`([^`]+)`", kind.title)) | {"documents sync"}, kind.code


def test_no_translation_pretends_to_be_reviewed() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    assert WORDS["reviewedBy"] == dict.fromkeys(LANGUAGES)
    assert "No native speaker has reviewed these" in manual


def test_latin_text_inside_is_isolated() -> None:
    title = error_title("SIGN_IN_NEEDED", "fa-AF")
    assert title is not None
    assert "\u2066`documents login --server URL --token TOKEN`\u2069" in title
    assert error_title("SIGN_IN_NEEDED", None) is None
    assert "\u2066" not in sentence("sent")


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, None),
        ({"LANG": "en_US.UTF-8"}, None),
        ({"LANG": "fa_AF.UTF-8"}, "fa-AF"),
        ({"LANG": "ps_AF"}, "ps-AF"),
        ({"LANG": "fa_IR.UTF-8"}, "fa-AF"),
        ({"LANG": "fa_AF", "LC_ALL": "C"}, None),
        ({"LANG": "fa_AF", "DOCUMENTS_LANGUAGE": "en"}, None),
        ({"DOCUMENTS_LANGUAGE": "ps"}, "ps-AF"),
        ({"LANG": "psi_XX"}, None),
    ],
)
def test_the_language_is_the_persons(environment: dict[str, str], language: str | None) -> None:
    assert choose_language(environment) == language


def test_the_translation_follows_the_english_line_and_json_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCUMENTS_LANGUAGE", "ps-AF")
    assert main(["status", "--home", str(tmp_path)]) == 77
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("documents: Nobody is signed in")
    assert "ننوتلي" in said[1]
    assert main(["status", "--home", str(tmp_path), "--json"]) == 77
    assert "ننوتلي" not in capsys.readouterr().out


def test_the_passphrase_may_be_a_credential_of_the_service_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from document_client import DocumentClient

    kept = tmp_path / "passphrase"
    kept.write_text("correct horse\n")
    monkeypatch.delenv("DOCUMENTS_PASSPHRASE", raising=False)
    monkeypatch.setenv("DOCUMENTS_PASSPHRASE_FILE", str(kept))
    assert DocumentClient(tmp_path / "home")._unlocking.passphrase == "correct horse"
    monkeypatch.setenv("DOCUMENTS_PASSPHRASE_FILE", str(tmp_path / "absent"))
    assert main(["status", "--home", str(tmp_path)]) == 78
    assert "DOCUMENTS_PASSPHRASE_FILE" in capsys.readouterr().err
