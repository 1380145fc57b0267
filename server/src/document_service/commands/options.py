"""Flags shared by every command, and how a command runs its coroutine."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from dataclasses import fields
from typing import Any

import click

from document_service.settings import Settings, SettingValue, load

#: The settings that a person would type; the others are given by the environment.
FLAGS = ("data_dir", "host", "port", "workers", "public_url", "log_level", "clamd")


class Options:
    """Flags given before and after the verb, together; the one after wins."""

    def __init__(self) -> None:
        self.flags: dict[str, str | None] = {}

    def settings(self) -> Settings:
        """The settings in force.

        Raises:
            SettingError: a value cannot be read.
        """
        return load(os.environ, self.flags)[0]

    def lines(self) -> list[SettingValue]:
        """Each setting with value and source."""
        return load(os.environ, self.flags)[1]


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
