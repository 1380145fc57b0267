"""``documents``: the command line's entry. Exit codes: see ``errors`` and contract §5."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


# Where each verb lives; a module is imported when its verb is used, for `status` must answer at once.
VERBS = {
    "login": "session_commands:login",
    "logout": "session_commands:logout",
    "whoami": "session_commands:whoami",
    "templates": "work_commands:templates",
    "request": "work_commands:request",
    "queue": "queue_commands:queue",
    "sync": "work_commands:sync",
    "prefetch": "work_commands:prefetch",
    "list": "document_commands:list_",
    "pin": "document_commands:pin",
    "open": "document_commands:open_",
    "save": "document_commands:save",
    "print": "document_commands:print_",
    "generate": "work_commands:generate",
    "upload": "work_commands:upload",
    "edit-template": "work_commands:edit_template",
    "status": "session_commands:status",
    "doctor": "session_commands:doctor",
    "rekey": "session_commands:rekey",
    "recover": "queue_commands:recover",
}


def build() -> click.Group:
    """Return the command ``documents`` with everything below it."""
    import click

    from . import __version__

    class Verbs(click.Group):
        """The verbs, each imported when it is asked for."""

        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(VERBS)

        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            if args and args[0] not in VERBS:
                from difflib import get_close_matches

                # A slip of one or two letters; a hint that is far off would only confuse.
                near = get_close_matches(args[0], VERBS, n=1, cutoff=0.5)
                hint = f"Did you mean {near[0]}?" if near else "The verbs are in `documents --help`."
                raise click.UsageError(f"There is no verb {args[0]}. {hint}", ctx)
            return super().resolve_command(ctx, args)

        def get_command(self, ctx: click.Context | None, cmd_name: str) -> click.Command | None:
            if cmd_name not in VERBS:
                return None
            module, _, name = VERBS[cmd_name].partition(":")
            command = getattr(import_module(f"document_client.cli.{module}"), name)
            assert isinstance(command, click.Command)
            return command

    @click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="documents")
    def root() -> None:
        """Request, receive, open and print clinical documents, with or without a connection."""

    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    import apsw
    import click

    from .cli.argv import options_behind_verb
    from .cli.frame import fail
    from .errors import ClientError, StorageProblem
    from .processes import keep_memory_off_the_disk

    keep_memory_off_the_disk()
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
    except apsw.Error as failure:
        # The class alone: the text of a database error may quote a statement.
        return fail(StorageProblem(f"a local database answered {type(failure).__name__}"), as_json)
    except OSError as failure:
        return fail(StorageProblem(f"{type(failure).__name__}: {failure.strerror}"), as_json)


if __name__ == "__main__":
    sys.exit(main())
