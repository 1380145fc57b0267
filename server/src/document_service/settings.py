"""The settings of the service: one frozen value, made once at start from the environment and the flags.

Every setting has a default that works on one machine. A wrong value stops the start with its name, what was
wrong and what is allowed (contract §6). ``document-service settings`` prints each with its value and source.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

PREFIX = "DOCUMENT_SERVICE_"


class SettingError(Exception):
    """A setting has a value that the service cannot start with; the text names it and what is allowed."""


#: A hundred years: no date that is counted back or forward by a setting leaves the calendar.
_LONGEST_SECONDS = 36_500 * 86_400


def parse_duration(text: str) -> timedelta:
    """Read ``90``, ``90s``, ``15m``, ``12h`` or ``400d`` as a time span; a bare number is seconds.

    Raises:
        ValueError: the text is none of these, or not positive.
    """
    match = re.fullmatch(r"([0-9]{1,12})\s*(s|m|h|d|)", text.strip())
    seconds = int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise ValueError("allowed is a positive whole number with s, m, h or d up to 36500d, such as 15m or 400d")
    return timedelta(seconds=seconds)


def _parse_web_address(text: str) -> str:
    parts = _split(text)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("allowed is a URL that starts with http: or https: and names a host")
    return text


def _parse_issuers(text: str) -> str:
    for entry in text.split():
        _parse_web_address(entry)
    return text


def _parse_database_url(text: str) -> str:
    parts = _split(text)
    if parts is None or parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("allowed is postgresql://owner:password@host:port/database")
    if not (parts.username and parts.password and parts.path.strip("/")):
        raise ValueError("a part is missing; allowed is postgresql://owner:password@host:port/database")
    return text


def _parse_store_url(text: str) -> str:
    parts = _split(text)
    folder = parts is not None and parts.scheme == "file" and parts.netloc in ("", "localhost")
    if folder and parts is not None and parts.path.startswith("/"):
        _parse_folder(unquote(parts.path))
    elif parts is None or parts.scheme != "s3" or not parts.hostname:
        raise ValueError("allowed is file:///path or s3://bucket/prefix?endpoint=…&region=…")
    return text


def _split(text: str) -> SplitResult | None:
    """The parts of a URL, or None for text that is none: brackets without an address, a port that is no number."""
    try:
        parts = urlsplit(text)
        return parts if parts.port is None or parts.port > 0 else None
    except ValueError:
        return None


def _parse_folder(text: str) -> Path:
    """A folder that exists, or that can be made; it is made when something is to be kept in it."""
    path = Path(text)
    nearest = next((p for p in (path.absolute(), *path.absolute().parents) if p.exists()), Path("/"))
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is a file; allowed is a folder, or a path at which one can be made")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{nearest} may not be written by this user; allowed is a folder of its own")
    return path


def _parse_port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise ValueError("allowed is a whole number from 0 to 65535 (0 picks a free port)")
    return int(text)


def _parse_positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ValueError("allowed is a whole number from 1")
    return int(text)


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` requests at once, then ``per_second``."""

    burst: float
    per_second: float

    def __str__(self) -> str:
        return f"{self.burst:g}/{self.per_second:g}"


def _parse_rate(least_burst: int) -> Callable[[str], Rate]:
    def parse(text: str) -> Rate:
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9}(?:\.[0-9]{1,3})?)", text.strip())
        rate = Rate(int(match[1]), float(match[2])) if match else None
        if rate is None or rate.burst < least_burst or rate.per_second == 0:
            raise ValueError(
                f"allowed is requests at once, from {least_burst}, and then a second, such as 1000/200 or 60/0.5"
            )
        return rate

    return parse


#: Fifty identical posts at once are answered, whatever the operator sets (contract §2).
_LEAST_BURST = 50


def _parse_name(text: str) -> str:
    if not text or not text.isprintable() or len(text) > 255:
        raise ValueError("allowed is a name of 1 to 255 printable characters")
    return text


def _parse_scope(text: str) -> str:
    if not re.fullmatch(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*", text):
        raise ValueError("allowed is a list of scopes in printable ASCII without quotes, separated by one space")
    return text


def _parse_clamd(text: str) -> str:
    tcp = re.fullmatch(r"tcp:(?:[^:]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", text)
    if not (0 < int(tcp[1]) < 65536 if tcp else re.fullmatch(r"unix:/.+", text)):
        raise ValueError("allowed is unix:/path/to/clamd.sock or tcp:host:port")
    return text


def _parse_level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("allowed is DEBUG, INFO, WARNING or ERROR")
    return text.upper()


def _setting(default: Any, parse: Callable[[str], Any], meaning: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"parse": parse, "meaning": meaning, "secret": secret})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator may choose. Durations are ``timedelta``; sizes are bytes."""

    data_dir: Path = _setting(
        Path("document-service-data"),
        _parse_folder,
        "folder of the embedded database, the objects and the local issuer",
    )
    database_url: str | None = _setting(
        None,
        _parse_database_url,
        "PostgreSQL as its owner role, with password; unset: the service runs its own",
        secret=True,
    )
    object_store_url: str | None = _setting(
        None, _parse_store_url, "where sealed objects live; unset: a folder under the data folder"
    )
    key_dir: Path | None = _setting(
        None, _parse_folder, "folder of the tenants' keys; keep it apart from backups; unset: under the data folder"
    )
    oidc_issuer: str | None = _setting(
        None, _parse_issuers, "issuer of bearer tokens; unset: a local issuer for one machine"
    )
    oidc_audience: str = _setting("document-service", str, "audience that a bearer token must name")
    oidc_client_id: str | None = _setting(
        None, _parse_name, "the client at the issuer that devices sign in as by device flow; unset: tokens only"
    )
    oidc_scope: str = _setting("openid offline_access", _parse_scope, "what devices ask the issuer for at sign-in")
    clamd: str | None = _setting(
        None, _parse_clamd, "the virus scanner; unset: no uploads are taken (503 SCANNER_UNAVAILABLE)"
    )
    public_url: str | None = _setting(
        None, _parse_web_address, "address that devices reach; unset: signed URLs are relative"
    )
    host: str = _setting("127.0.0.1", str, "address that the HTTP API listens on")
    port: int = _setting(3020, _parse_port, "port that the HTTP API listens on")
    workers: int = _setting(max(1, os.cpu_count() or 1), _parse_positive, "typesetting processes; one per core is best")
    signed_url_ttl: timedelta = _setting(timedelta(minutes=15), parse_duration, "life of a signed download URL")
    dedup_window: timedelta = _setting(timedelta(days=400), parse_duration, "how long a clientMutationId is remembered")
    cache_ttl: timedelta = _setting(timedelta(days=7), parse_duration, "how long a device may show a cached document")
    # A device replays its queue in one go, fifty identical posts at once are within the contract, and an integration
    # may keep twenty renders under way; nobody at a keyboard comes near either figure.
    user_rate: Rate = _setting(
        Rate(1000, 200),
        _parse_rate(_LEAST_BURST),
        "requests of one user: at once / then a second; more are answered 429",
    )
    # Several integrations and a hundred devices of one organisation.
    tenant_rate: Rate = _setting(
        Rate(5000, 1000),
        _parse_rate(_LEAST_BURST),
        "requests of one tenant: at once / then a second; more are answered 429",
    )
    # A person with a phone looks at a handful of papers.
    public_rate: Rate = _setting(
        Rate(30, 0.5),
        _parse_rate(1),
        "looks at the public verification page from one address: at once / then a second",
    )
    log_level: str = _setting("INFO", _parse_level, "least severe log entries that are written")

    def make_data_dir(self) -> None:
        """Make the data folder, for this user only.

        Raises:
            SettingError: it cannot be made there.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as reason:
            raise SettingError(
                f"--data-dir or {PREFIX}DATA_DIR is {str(self.data_dir)!r}: no folder can be made there"
                f" ({reason.strerror}); allowed is a path that this user may write."
            ) from None

    @property
    def keys(self) -> Path:
        """The key folder in force."""
        return self.key_dir or self.data_dir / "keys"

    @property
    def objects(self) -> str:
        """The object store's URL in force."""
        return self.object_store_url or (self.data_dir.resolve() / "objects").as_uri()


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One line of ``document-service settings``."""

    name: str
    value: str
    source: str
    meaning: str


def load(
    environment: Mapping[str, str], flags: Mapping[str, str | None] | None = None
) -> tuple[Settings, list[SettingValue]]:
    """Build the settings from flags (strings, first) and environment; also say where each value came from.

    Raises:
        SettingError: a value cannot be read, or a variable with our prefix is not a setting.
    """
    flags = flags or {}
    known = {PREFIX + f.name.upper() for f in fields(Settings)}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingError(f"{unknown[0]} is not a setting; `document-service settings` lists them all.")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for entry in fields(Settings):
        variable = PREFIX + entry.name.upper()
        flag = flags.get(entry.name)
        text = flag if flag is not None else environment.get(variable)
        source = f"--{entry.name.replace('_', '-')}" if flag is not None else variable
        if text is None or text == "":
            sources[entry.name] = "default"
            continue
        try:
            values[entry.name] = entry.metadata["parse"](text)
        except ValueError as reason:
            shown = "(secret)" if entry.metadata["secret"] else repr(text)
            raise SettingError(f"{source} is {shown}: {reason}.") from None
        sources[entry.name] = source
    settings = Settings(**values)
    lines = [
        SettingValue(
            PREFIX + entry.name.upper(),
            _shown(getattr(settings, entry.name), entry.metadata["secret"]),
            sources[entry.name],
            entry.metadata["meaning"],
        )
        for entry in fields(Settings)
    ]
    return settings, lines


def _shown(value: Any, secret: bool) -> str:
    if value is None:
        return "(unset)"
    if secret:
        return "(secret)"
    if isinstance(value, timedelta):
        return f"{int(value.total_seconds())}s"
    return str(value)
