"""Every option works before or after the verb (contract §5): those before it are moved behind it for click to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click


def behind_the_verb(root: click.Group, line: Sequence[str]) -> list[str]:
    """The words of a command line with the options before the innermost verb moved behind it.

    A line without a verb, with an unknown one, or that asks for the version stays as it is: click answers it.
    """
    words, verbs, options = list(line), list[str](), list[str]()
    command: click.Command = root
    with_value = {name for option in _options(root) if not option.is_flag for name in option.opts}
    while words and isinstance(command, click.Group):
        if words[0].startswith("-"):
            if words[0] == "--" or (words[0] == "--version" and not verbs):
                return list(line)
            options.append(words.pop(0))
            if options[-1] in with_value and words:
                options.append(words.pop(0))
            continue
        if words[0] not in command.commands:
            return list(line)
        verbs.append(words.pop(0))
        command = command.commands[verbs[-1]]
    return [*verbs, *options, *words]


def _options(command: click.Command) -> Iterator[click.Option]:
    """Every option of a command and of those below it."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield parameter
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from _options(below)
