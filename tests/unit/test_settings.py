"""Settings: each has a default and a meaning, and a wrong value stops the start by its name (contract §6)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from document_service.settings import PREFIX, SettingError, Settings, load, parse_duration

#: What contract §6 names; clients and runbooks rely on these.
OF_THE_CONTRACT = {
    "DATA_DIR", "DATABASE_URL", "OBJECT_STORE_URL", "KEY_DIR", "OIDC_ISSUER", "OIDC_AUDIENCE", "CLAMD", "PUBLIC_URL",
    "SIGNED_URL_TTL", "DEDUP_WINDOW", "CACHE_TTL", "LOG_LEVEL",
}  # fmt: skip

#: Values that each setting refuses, and words that the refusal says. None: any text is a value.
WRONG: dict[str, tuple[str, tuple[str, ...]] | None] = {
    "data_dir": ("folder", ("/dev/null/x", "/etc/passwd")),
    "database_url": (
        "owner:password@host",
        (
            "mysql://x",
            "postgresql://u:p@h:notaport/db",
            "postgresql://u@h/db",
            "postgresql://u:p@h",
            "postgresql://u:p@[h/db",
        ),
    ),
    "object_store_url": ("s3:", ("gopher://x", "s3:", "s3://", "file:x", "file://elsewhere/x")),
    "key_dir": ("folder", ("/dev/null/x",)),
    "oidc_issuer": ("https:", ("issuer.example", "https:/x", "https://a.example http:///b")),
    "oidc_audience": None,
    "clamd": ("tcp:host:port", ("localhost:3310", "tcp:127.0.0.1:99999", "tcp:h:0", "unix:x")),
    "public_url": ("https:", ("ftp://x", "http://", "https://h:99999")),
    "host": None,
    "port": ("65535", ("65536",)),
    "workers": ("from 1", ("0",)),
    "signed_url_ttl": ("15m", ("15 minutes",)),
    "dedup_window": ("400d", ("-1d",)),
    "cache_ttl": ("positive", ("0",)),
    "oidc_client_id": ("printable", ("a\nb",)),
    "oidc_scope": ("one space", ("openid  offline_access",)),
    "user_rate": ("from 50", ("49/200",)),
    "tenant_rate": ("1000/200", ("5000",)),
    "public_rate": ("60/0.5", ("30/0",)),
    "log_level": ("WARNING", ("LOUD",)),
}


def test_every_setting_of_the_contract_is_there() -> None:
    assert {f.name.upper() for f in fields(Settings)} >= OF_THE_CONTRACT


def test_every_setting_has_a_meaning_and_a_line_of_its_own() -> None:
    _, lines = load({})
    assert [line.name for line in lines] == [PREFIX + f.name.upper() for f in fields(Settings)]
    assert all(len(line.meaning) > 10 and line.source == "default" for line in lines)


def test_every_setting_has_a_wrong_value_here() -> None:
    assert set(WRONG) == {f.name for f in fields(Settings)}


@pytest.mark.parametrize(
    ("name", "value", "word"), [(name, value, wrong[0]) for name, wrong in WRONG.items() if wrong for value in wrong[1]]
)
def test_a_wrong_value_names_the_setting_and_what_is_allowed(name: str, value: str, word: str) -> None:
    with pytest.raises(SettingError) as refused:
        load({PREFIX + name.upper(): value})
    assert PREFIX + name.upper() in str(refused.value)
    assert "allowed is" in str(refused.value)
    assert word in str(refused.value)


@pytest.mark.parametrize(
    "environment",
    [
        {"CLAMD": "tcp:[::1]:3310", "OIDC_ISSUER": "https://a.example#org https://b.example/x"},
        {"DATABASE_URL": "postgresql://u:p%40@db.example/x", "OBJECT_STORE_URL": "s3://b/p?endpoint=http://h:1"},
        {"KEY_DIR": "not/there/yet", "PUBLIC_URL": "https://documents.example:8443/below"},
    ],
)
def test_right_values_of_every_form(environment: dict[str, str]) -> None:
    load({PREFIX + name: value for name, value in environment.items()})


def test_a_flag_is_named_as_the_flag() -> None:
    with pytest.raises(SettingError, match=r"^--port is 'x'"):
        load({PREFIX + "PORT": "3020"}, {"port": "x"})


def test_a_flag_wins_over_the_environment() -> None:
    settings, lines = load({PREFIX + "PORT": "1"}, {"port": "2"})
    assert settings.port == 2
    assert next(line for line in lines if line.name.endswith("PORT")).source == "--port"


def test_a_misspelt_variable_stops_the_start() -> None:
    with pytest.raises(SettingError, match="DOCUMENT_SERVICE_CACHE_TLT is not a setting"):
        load({PREFIX + "CACHE_TLT": "7d"})


def test_secrets_are_neither_listed_nor_quoted() -> None:
    _, lines = load({PREFIX + "DATABASE_URL": "postgresql://owner:hunter2@db/x"})
    assert not any("hunter2" in line.value for line in lines)
    with pytest.raises(SettingError) as refused:
        load({PREFIX + "DATABASE_URL": "mysql://owner:hunter2@db/x"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("400d", 34_560_000), (" 5 m ", 300)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0", "0d", "-1", "1.5h", "1w", "d", "9999999999999d", "١٥m"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="allowed is"):
        parse_duration(text)


def test_the_command_stops_with_the_code_for_configuration(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "document_service", "serve", "--data-dir", str(tmp_path / "d"), "--port", "seventy"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert "--port is 'seventy': allowed is a whole number from 0 to 65535" in done.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"HOST": "999.1.1.1"}, "--host and --port are '999.1.1.1'"),
        ({"OBJECT_STORE_URL": "s3://bucket?x=1"}, "DOCUMENT_SERVICE_OBJECT_STORE_URL cannot be used"),
        ({"OIDC_ISSUER": "http://login.example"}, "DOCUMENT_SERVICE_OIDC_ISSUER cannot be used"),
        ({"DATA_DIR": "/proc/nothing/here"}, "DOCUMENT_SERVICE_DATA_DIR is '/proc/nothing/here'"),
    ],
)
def test_what_only_the_start_can_tell_is_refused_by_its_name_as_well(
    tmp_path: Path, environment: dict[str, str], named: str
) -> None:
    done = _serve(tmp_path, environment)
    assert (done.returncode, done.stdout) == (78, "")
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = _serve(tmp_path, {"PORT": str(taken.getsockname()[1])})
    assert done.returncode == 78
    assert "a free port" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_database_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    done = _serve(tmp_path, {"DATABASE_URL": "postgresql://owner:hunter2@127.0.0.1:1/db"})
    assert done.returncode == 69
    assert "PostgreSQL does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def _serve(tmp_path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    settings = {"DATA_DIR": str(tmp_path / "data"), "PORT": "0", **environment}
    return subprocess.run(
        [sys.executable, "-m", "document_service", "serve"],
        env={"PATH": os.environ["PATH"], **{PREFIX + name: value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
