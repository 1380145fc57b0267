#!/usr/bin/env python3
"""Keep the documents in step with the code: write their generated parts (``--write``), or say which are stale.

Generated are docs/openapi.json, docs/commands.md, docs/decisions/README.md, and in the other documents what stands
between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``. Everything else is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from document_client import errors as client_errors
from document_service import errors, settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

#: Defaults that follow from the machine, in words: the documents must be the same wherever they are made.
_DEFAULT_IN_WORDS = {"workers": "one per core"}


def openapi_json() -> str:
    """The OpenAPI document, as GET /openapi.json answers it."""
    from document_service.api import create_app

    return json.dumps(create_app(None).openapi(), indent=1, ensure_ascii=False) + "\n"


def settings_table() -> str:
    """Each setting of the service with its flag, default and meaning."""
    from document_service.commands.options import FLAGS

    lines = ["| Variable | Flag | Default | Meaning |", "|---|---|---|---|"]
    for entry in fields(settings.Settings):
        flag = f"`--{entry.name.replace('_', '-')}`" if entry.name in FLAGS else ""
        default = _DEFAULT_IN_WORDS.get(entry.name) or _shown_default(entry.default)
        lines.append(f"| `{settings.PREFIX}{entry.name.upper()}` | {flag} | {default} | {entry.metadata['meaning']} |")
    return "\n".join(lines)


def _shown_default(value: Any) -> str:
    if value is None:
        return "unset"
    if hasattr(value, "total_seconds"):
        seconds = int(value.total_seconds())
        for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
            if seconds % unit == 0:
                return f"`{seconds // unit}{name}`"
        return f"`{seconds}s`"
    return f"`{value}`"


def error_classes(root: type[Any]) -> Iterator[type[Any]]:
    """A class and everything below it, in the order of the file."""
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


def service_errors_table() -> str:
    """Each error code of the service."""
    lines = ["| Code | Status | A job tries again | What it says, and what to do |", "|---|---|---|---|"]
    seen: set[str] = set()
    for found in error_classes(errors.ServiceError):
        if found.code not in seen:
            seen.add(found.code)
            again = "yes" if found.retryable else ""
            lines.append(f"| `{found.code}` | {found.status} | {again} | {found.title} |")
    return "\n".join(lines)


def upload_reasons_table() -> str:
    """Each reason for which an uploaded file is not accepted."""
    from document_service.scanner import REASONS

    lines = ["| Code | The upload becomes | What it says, and what to do |", "|---|---|---|"]
    for code, reason in REASONS.items():
        lines.append(f"| `{code}` | {reason.state} | {reason.title} |")
    return "\n".join(lines)


def client_errors_table() -> str:
    """Each error of the client."""
    lines = ["| Code | Exit code | What it says, and what to do |", "|---|---|---|"]
    for found in error_classes(client_errors.ClientError):
        lines.append(f"| `{found.code}` | {found.exit_code} | {found.title} |")
    return "\n".join(lines)


def routes_table() -> str:
    """Each route with its role and its own codes."""
    from document_service.api import ROUTERS
    from document_service.api.outcomes import described

    lines = ["| Route | What it does | Role | Answers | Its own refusals |", "|---|---|---|---|---|"]
    for route in described(ROUTERS):
        if route.outcome is None:
            continue
        role = "—" if route.roles is None else " or ".join(route.roles) or "any"
        answers = ", ".join(str(status) for status in sorted(route.outcome.answers))
        own = ", ".join(f"`{refusal.code}`" for refusal in route.outcome.refuses)
        lines.append(f"| `{route.method} {route.path}` | {route.summary} | {role} | {answers} | {own} |")
    return "\n".join(lines)


def template_rules_table() -> str:
    """Who may do what with a template in which state."""
    from document_service.api.template_rules import markdown

    return markdown()


def commands_markdown() -> str:
    """Every command of both programs, from the same text as their ``--help``."""
    from document_client.__main__ import build
    from document_service.__main__ import all_commands
    from document_service.commands.options import FLAGS

    parts = [
        "# The commands",
        "Written by `make docs` from the programs themselves; `--help` after any command says the same. Every option "
        "works before or after the verb.",
        "## document-service",
        "Exit codes: 0 done, 64 usage, 69 a part is not available, 78 configuration. Every command also takes the "
        "flags of [settings.md](settings.md).",
        *_command_parts("document-service", all_commands(), {f"--{name.replace('_', '-')}" for name in FLAGS}),
        "## documents",
        "Exit codes: 0 done, 64 usage, 69 the service or a device is not available, 73 storage, 75 try again later, "
        "77 sign in, 78 configuration. Every command also takes `--home DIR` (or `DOCUMENTS_HOME`) and `--json`.",
        *_command_parts("documents", build(), {"--home", "--json"}),
    ]
    return "\n\n".join(parts) + "\n"


def _command_parts(path: str, command: click.Command, shared: set[str]) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _command_parts(f"{path} {name}", found, shared)
        return
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    lines = [f"### `{' '.join([path, *arguments])}`", "", " ".join((command.help or "").split())]
    own = [p for p in command.params if isinstance(p, click.Option) and not shared & set(p.opts)]
    options = [record for option in own if (record := option.get_help_record(context))]
    if options:
        lines.append("")
        lines += [f"- `{' '.join(names.split())}` {' '.join(text.split())}".rstrip() for names, text in options]
    yield "\n".join(lines)


def decisions_index() -> str:
    """The list of decision records, by number."""
    lines = [
        "# Decisions",
        "",
        "One page each: what was decided, why (with figures measured here), and what was rejected. Written by "
        "`make docs` from the first line of each record. Numbers have gaps on purpose: each area took a range.",
        "",
    ]
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title = re.sub(r"^#\s*\d*[.:]?\s*", "", path.read_text(encoding="utf-8").splitlines()[0])
        lines.append(f"- [{path.name[:4]}]({path.name}) {title}")
    return "\n".join(lines) + "\n"


#: Whole files, and parts of files by the name in their markers.
WHOLE: dict[str, Callable[[], str]] = {
    "docs/openapi.json": openapi_json,
    "docs/commands.md": commands_markdown,
    "docs/decisions/README.md": decisions_index,
}
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "docs/settings.md": {"settings": settings_table},
    "docs/errors.md": {
        "service errors": service_errors_table,
        "upload reasons": upload_reasons_table,
        "client errors": client_errors_table,
    },
    "docs/http-api.md": {"routes": routes_table},
    "docs/templates.md": {"template rules": template_rules_table},
}


def expected(name: str) -> str:
    """What a file should hold, its hand-written parts as they are."""
    if name in WHOLE:
        return WHOLE[name]()
    text = (ROOT / name).read_text(encoding="utf-8")
    for part, make in PARTS[name].items():
        begin, end = f"<!-- generated: {part} -->", f"<!-- end of {part} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"{name}: the markers {begin} and {end} must stand in it once each")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{make()}\n{end}{rest.split(end)[1]}"
    return text


def main() -> int:
    """Write or compare; the exit code is 1 when something was stale."""
    write = sys.argv[1:] == ["--write"]
    stale = []
    for name in [*WHOLE, *PARTS]:
        wanted, path = expected(name), ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale.append(name)
            if write:
                path.write_text(wanted, encoding="utf-8")
    for name in stale:
        print(f"{'written' if write else 'stale'}: {name}")
    if stale and not write:
        print("run `make docs` and look at the difference")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
