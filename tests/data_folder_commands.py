"""Which commands may be the first one in a data folder, and which work on what is there (decision 57)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

#: Commands that may be the first one in a folder, that need no folder, or that say what is in it.
FIRST = (
    {"serve", "worker", "migrate", "demo", "restore", "tenant create", "token"}
    | {"settings", "doctor"}
    | {"template check", "template preview", "template schema"}
)

EXAMPLE = Path(__file__).parents[1] / "docs/examples/every-section.json"

#: Every other command, with arguments that it would take.
LATER = {
    "tenant show": ["t"],
    "tenant list": [],
    "tenant shred": ["t", "--confirm", "t"],
    "template export": ["tmpl_1", "--tenant", "t"],
    "template import": [str(EXAMPLE), "--tenant", "t", "--name", "n", "--category", "letter"],
    "template diff": ["tmpl_1", "--tenant", "t"],
    "audit verify": [],
    "audit export": ["--tenant", "t"],
    "backup": ["copy"],
    "epoch renew": [],
    "store verify": [],
    "keys rotate": [],
    "prove": ["doc_1"],
    "retention set": ["t", "letter", "30"],
    "retention set-document": ["t", "doc_1", "forever", "--reason", "r"],
    "retention show": ["t"],
    "hold place": ["t", "c", "--document", "doc_1", "--reason", "r"],
    "hold release": ["t", "c", "--reason", "r"],
    "hold list": ["t"],
    "purge": ["--dry-run"],
    "template pin": ["referral-letter", "--tenant", "t", "--version", "1.0.0"],
    "template unpin": ["referral-letter", "--tenant", "t"],
    "template publish": ["tmpl_1", "--tenant", "t", "--by", "operator"],
    "jobs failed": ["--tenant", "t"],
    "jobs retry": ["--tenant", "t", "--code", "STORE_UNAVAILABLE"],
    "jobs numbers": ["--tenant", "t"],
    "tenant recover": ["t", str(EXAMPLE), "--out", "answer", "--by", "operator"],
}


def names(group: click.Group, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from names(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"
