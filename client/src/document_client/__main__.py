"""``documents``: the command line's entry. Exit codes: see ``errors`` and contract §5."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


def build() -> click.Group:
    """Return the command ``documents`` with everything below it."""
    import click

    from . import __version__
    from .cli import document_commands as documents
    from .cli import queue_commands, session_commands, work_commands

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="documents")
    def root() -> None:
        """Request, receive, open and print clinical documents, with or without a connection."""

    for command in (
        session_commands.login,
        session_commands.logout,
        session_commands.whoami,
        work_commands.templates,
        work_commands.request,
        queue_commands.queue,
        work_commands.sync,
        documents.list_,
        documents.open_,
        documents.save,
        documents.print_,
        work_commands.generate,
        work_commands.upload,
        session_commands.status,
        session_commands.doctor,
        session_commands.passphrase,
    ):
        root.add_command(command)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    import click

    from .cli.argv import options_behind_verb
    from .cli.frame import fail
    from .errors import ClientError

    root = build()
    arguments = options_behind_verb(root, list(sys.argv[1:] if argv is None else argv))
    as_json = "--json" in arguments
    try:
        outcome = root.main(arguments, prog_name="documents", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except ClientError as failure:
        return fail(failure, as_json)
    except click.UsageError as failure:
        from .errors import UsageProblem

        if as_json:
            return fail(UsageProblem(failure.format_message()), as_json)
        failure.show()
        return UsageProblem.exit_code
    except click.ClickException as failure:
        failure.show()
        return 64
    except (click.Abort, KeyboardInterrupt):
        click.echo("documents: stopped", err=True)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as failure:
        from .errors import StorageProblem

        return fail(StorageProblem(f"{type(failure).__name__}: {failure.strerror}"), as_json)


if __name__ == "__main__":
    sys.exit(main())
