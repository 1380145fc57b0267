"""Flags shared by every command, and how a command runs its coroutine."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Coroutine
from dataclasses import fields
from typing import Any

import click

from document_service.settings import SettingError, Settings, SettingValue, load

#: The settings that a person would type; the others are given by the environment.
FLAGS = ("data_dir", "host", "port", "workers", "public_url", "log_level", "clamd")


class Options:
    """Flags given before and after the verb, together; the one after wins."""

    def __init__(self) -> None:
        self.flags: dict[str, str | None] = {}

    def settings(self) -> Settings:
        """The settings in force, for a command that works on what is there.

        Raises:
            SettingError: a value cannot be read, or nothing is in the data folder yet.
        """
        settings = self.first_settings()
        if not has_begun(settings):
            raise SettingError(
                f"there is nothing in the data folder {self.data_folder(settings)}. Name the folder that `serve` uses"
                " with --data-dir DIR or DOCUMENT_SERVICE_DATA_DIR. (A new one is begun by `serve`, or by"
                " `tenant create T --fhir-url URL`.)"
            )
        return settings

    def first_settings(self) -> Settings:
        """The settings in force, for a command that may be the first one in a data folder.

        Raises:
            SettingError: a value cannot be read, or the keys are another user's.
        """
        settings = load(os.environ, self.flags)[0]
        _require_own(settings)
        return settings

    def begin(self) -> Settings:
        """`first_settings`, and a word on standard error when this command begins a data folder.

        Raises:
            SettingError: a value cannot be read.
        """
        settings = self.first_settings()
        if not has_begun(settings):
            click.echo(f"beginning a new data folder, {self.data_folder(settings)}", err=True)
        return settings

    @property
    def names_folder(self) -> bool:
        """Whether somebody chose the data folder, so that it is not the default below the working folder."""
        return next(line.source for line in self.lines() if line.name == "DOCUMENT_SERVICE_DATA_DIR") != "default"

    def data_folder(self, settings: Settings) -> str:
        """The data folder's path, and that nobody chose it when it is the default."""
        path = str(settings.data_dir.absolute())
        return path if self.names_folder else f"{path} (the default, for no folder was named)"

    def lines(self) -> list[SettingValue]:
        """Each setting with value and source."""
        return load(os.environ, self.flags)[1]


def _require_own(settings: Settings) -> None:
    """Refuse to work on another user's keys: what root writes there, the service could not read."""
    try:
        owner = (settings.keys / "master.key").stat().st_uid
    except OSError:
        return
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise SettingError(
            f"{settings.keys.absolute()} belongs to {name}: run this as that user (sudo -u {name} document-service …)."
        )


def has_begun(settings: Settings) -> bool:
    """Whether the data folder holds a database; true where the database is elsewhere."""
    return settings.database_url is not None or (settings.data_dir / "postgres").exists()


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data-dir`` and the other flags to a command; they are kept in ``Options``."""

    def remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(Options).flags[parameter.name or ""] = value

    meanings = {entry.name: entry.metadata["meaning"] for entry in fields(Settings)}
    for name in reversed(FLAGS):
        command = click.option(
            f"--{name.replace('_', '-')}",
            expose_value=False,
            callback=remember,
            metavar=name.upper(),
            help=f"{meanings[name][0].upper()}{meanings[name][1:]}.",
        )(command)
    return command


def run(work: Coroutine[Any, Any, Any]) -> Any:
    import uvloop

    return uvloop.run(work)
