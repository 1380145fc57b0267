"""Options work before or after the verb: they are moved behind it before click reads the line (contract §5)."""

from __future__ import annotations

from collections.abc import Sequence

import click


def options_behind_verb(root: click.Group, argv: Sequence[str]) -> list[str]:
    """Return ``argv`` with the options that stand before the (innermost) verb moved behind it.

    A group that names a ``default_verb`` gets it when no verb of its own follows.
    """
    takes_value: set[str] | None = None
    path: list[str] = []
    moved: list[str] = []
    rest = list(argv)
    group: click.Command = root
    while rest and isinstance(group, click.Group):
        token = rest[0]
        if token == "--":
            break
        if token.startswith("-") and token != "-":
            moved.append(rest.pop(0))
            if takes_value is None:
                # Only a line that begins with an option needs every verb's options.
                takes_value = _value_options(root)
            if "=" not in token and token in takes_value and rest:
                moved.append(rest.pop(0))
            continue
        found = _verb(group, token)
        if found is None:
            break
        path.append(rest.pop(0))
        group = found
    if isinstance(group, click.Group) and not rest and {"--help", "-h"} & set(moved):
        # Help of a group: it has no other options to read.
        return [*path, "--help"]
    default = getattr(group, "default_verb", None)
    if isinstance(group, click.Group) and default:
        path.append(default)
    return [*path, *moved, *rest]


def _value_options(command: click.Command) -> set[str]:
    """Return the names of all options below ``command`` that take a value."""
    names: set[str] = set()
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count:
            names.update(parameter.opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = _verb(command, name)
            names |= _value_options(inner) if inner else set()
    return names


def _verb(group: click.Group, name: str) -> click.Command | None:
    return group.get_command(click.Context(group), name)
