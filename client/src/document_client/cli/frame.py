"""What every command shares: its options, one client, one way to print an answer and to end with the right code."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..client import DocumentClient
from ..errors import ClientError
from ..words import choose_language, error_title

Command = TypeVar("Command", bound=Callable[..., Any])


class Screen:
    """Where a command's answer goes: JSON for programs, words for people."""

    def __init__(self, as_json: bool) -> None:
        """``as_json``: one JSON value on standard output and nothing else."""
        self.as_json = as_json

    def answer(self, value: Any, words: Callable[[], None]) -> None:
        """Print ``value`` as JSON, or let ``words`` print for people."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False, indent=1))
        else:
            words()

    def note(self, text: str) -> None:
        """Say something beside the answer."""
        if not self.as_json:
            click.echo(text, err=True)


def shared(command: Command) -> Command:
    """Add ``--home`` and ``--json``, and hand the command a ``client`` and a ``screen``."""

    @functools.wraps(command)
    def run(*args: Any, home: str | None, as_json: bool, **options: Any) -> Any:
        screen = Screen(as_json)
        with DocumentClient(home, ask_passphrase=_ask_passphrase) as client:
            return command(client, screen, *args, **options)

    run = click.option("--json", "as_json", is_flag=True, help="Answer in JSON on standard output.")(run)
    home_help = "Home folder of the client; also DOCUMENTS_HOME."
    return click.option("--home", metavar="DIR", help=home_help)(run)  # type: ignore[return-value]


def given(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Refuse an option that is there and empty: a script's unset variable would leave out a check without a word."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty; leave the option out, or give it a value")
    return value


def _ask_passphrase() -> str | None:
    if not sys.stdin.isatty():
        return None
    return (
        str(click.prompt("Passphrase of this device", hide_input=True, err=True, default="", show_default=False))
        or None
    )


def fail(failure: ClientError, as_json: bool) -> int:
    """Print an error in plain words, or as JSON, and return the exit code of its class."""
    if as_json:
        click.echo(json.dumps({"error": failure.as_json()}, ensure_ascii=False, indent=1))
        return failure.exit_code
    click.echo(f"documents: {failure.title}", err=True)
    also(lambda language: error_title(failure.code, language), err=True)
    if failure.errors:
        for pointer, title in failure.errors:
            click.echo(f"  {pointer}: {title}", err=True)
    elif failure.detail and failure.detail != failure.title:
        click.echo(f"  {failure.detail}", err=True)
    return failure.exit_code


def also(say: Callable[[str], str | None], *, err: bool = False) -> None:
    """Say the same once more in the person's language, where that is not English."""
    language = choose_language()
    text = say(language) if language else None
    if text:
        click.echo(f"  {text}", err=err)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table for people; rich is imported here because it takes longer to load than most commands to run."""
    from rich.console import Console
    from rich.table import Table

    made = Table(title=title or None, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    # Beside a terminal (a pipe, a log) rich would fold at 80 columns; wide enough keeps one row on one line.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(made)


def age(seconds: float | None) -> str:
    """Return an age in words."""
    if seconds is None:
        return "never"
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def duration(seconds: float) -> str:
    """Return a length of time in words, rounded up."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size(count: int) -> str:
    """Return a number of bytes in words, in the units of the progress bars: a kB is 1,000 bytes."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
