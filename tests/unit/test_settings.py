"""Settings: each has a default and a meaning, and a wrong value stops the start by its name (contract §6)."""

from __future__ import annotations

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

#: A value that each setting refuses, and words that its refusal says. None: any text is a value.
WRONG = {
    "data_dir": None,
    "database_url": ("mysql://x", "postgresql:"),
    "object_store_url": ("gopher://x", "s3:"),
    "key_dir": None,
    "oidc_issuer": ("issuer.example", "https:"),
    "oidc_audience": None,
    "oidc_client_id": ("a\nb", "printable"),
    "oidc_scope": ("openid  offline_access", "one space"),
    "clamd": ("localhost:3310", "tcp:host:port"),
    "public_url": ("ftp://x", "https:"),
    "host": None,
    "port": ("65536", "65535"),
    "workers": ("0", "from 1"),
    "signed_url_ttl": ("15 minutes", "15m"),
    "dedup_window": ("-1d", "400d"),
    "cache_ttl": ("0", "positive"),
    "user_rate": ("49/200", "from 50"),
    "tenant_rate": ("5000", "1000/200"),
    "public_rate": ("30/0", "60/0.5"),
    "log_level": ("LOUD", "WARNING"),
}


def test_every_setting_of_the_contract_is_there() -> None:
    assert {f.name.upper() for f in fields(Settings)} >= OF_THE_CONTRACT


def test_every_setting_has_a_meaning_and_a_line_of_its_own() -> None:
    _, lines = load({})
    assert [line.name for line in lines] == [PREFIX + f.name.upper() for f in fields(Settings)]
    assert all(len(line.meaning) > 10 and line.source == "default" for line in lines)


def test_every_setting_has_a_wrong_value_here() -> None:
    assert set(WRONG) == {f.name for f in fields(Settings)}


@pytest.mark.parametrize("name", [name for name, wrong in WRONG.items() if wrong])
def test_a_wrong_value_names_the_setting_and_what_is_allowed(name: str) -> None:
    wrong = WRONG[name]
    assert wrong is not None
    with pytest.raises(SettingError) as refused:
        load({PREFIX + name.upper(): wrong[0]})
    assert PREFIX + name.upper() in str(refused.value)
    assert "allowed is" in str(refused.value)
    assert wrong[1] in str(refused.value)


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
