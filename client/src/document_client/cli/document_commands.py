"""list, open, pin, save, print: cached documents, offline."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..client import DocumentClient
from ..clock import to_text
from ..ids import made_at
from ..words import sentence
from .frame import Screen, also, shared, size, table


def _taken_in(document: dict[str, Any]) -> str:
    """Return when a scan was taken in, which nobody issued; empty for anything else, and while copies are locked."""
    made = made_at(document["id"]) if document.get("kind") == "uploaded" and document["state"] != "locked" else None
    return "" if made is None else f"scan taken in {to_text(int(made)).replace('.000', '')}"


@click.command(name="list")
@shared
def list_(client: DocumentClient, screen: Screen) -> None:
    """Show the documents of this device."""
    items = client.documents.list()

    def words() -> None:
        told = {
            "expired": "expired, connect to refresh",
            "evicted": "removed for room, connect to refresh",
            "too large": "too large for the room on this device",
            "withdrawn": "withdrawn, copy removed: throw away printed copies",
        }

        numbers = {d["id"]: d.get("number") for d in items}

        def state(document: dict[str, Any]) -> str:
            words = [str(told.get(document["state"], document["state"]))]
            if document.get("supersededBy"):
                newer = document["supersededBy"]
                words.append(f"replaced by {numbers.get(newer, newer)}")
            if document.get("serverLost"):
                words.append("the restored service does not know it")
            if document.get("pinned"):
                words.append("pinned")
            return ", ".join(words)

        rows = [
            [
                d.get("number") or d["id"],
                d.get("title") or d.get("category") or "",
                d.get("patientId") or "",
                d.get("renderedAt") or _taken_in(d),
                size(int(d["size"])) if d.get("size") else "",
                state(d),
                d.get("expiresAt") or "",
                d["id"],
            ]
            for d in items
        ]
        table("", ["number", "title", "patient", "issued", "size", "state", "readable until", "id"], rows)

    screen.answer({"items": items}, words)


@click.command(name="open")
@click.argument("id_", metavar="ID")
@click.option("--viewer", metavar="COMMAND", help="The program to show it with; it gets a URL that works once.")
@click.option("--stdin", "on_stdin", is_flag=True, help="Give the viewer the bytes on standard input instead.")
@shared
def open_(client: DocumentClient, screen: Screen, id_: str, viewer: str | None, on_stdin: bool) -> None:
    """Open a document from this device; it is never written to a file."""
    shown = bool(viewer) or on_stdin or (sys.stdout.isatty() and not screen.as_json)
    if shown:
        document = client.documents.open(id_, viewer=viewer, on_stdin=on_stdin)
    else:
        # Nobody looks at a pipe: the bytes are verified and what is known about them is said (decision 0045).
        document = client.documents.read(id_).document

    def words() -> None:
        click.echo(f"{document.get('number')} {document['id']}")
        click.echo(f"sha256 {document['sha256']}, {document['size']} bytes, {document['state']}")

    screen.answer({**document, "shown": shown}, words)
    if not shown:
        _note(screen, "not shown")
    _warn(screen, document.get("supersededBy"), server_lost=bool(document.get("serverLost")))


def _warn(screen: Screen, superseded_by: str | None, *, server_lost: bool) -> None:
    """Say what a person must know of a document before relying on it."""
    if superseded_by:
        screen.note(f"Attention: replaced by {superseded_by}")
        if not screen.as_json:
            also(partial(sentence, "replaced"), err=True)
    if server_lost:
        _note(screen, "server lost", "Attention: ")


def _note(screen: Screen, name: str, before: str = "") -> None:
    """Say a sentence beside the answer, in the person's language too."""
    screen.note(before + sentence(name))
    if not screen.as_json:
        also(partial(sentence, name), err=True)


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--off", is_flag=True, help="Do not keep it any longer when room is needed.")
@shared
def pin(client: DocumentClient, screen: Screen, id_: str, off: bool) -> None:
    """Keep a document on this device when room is needed; its time to live does not change."""
    client.documents.pin(id_, pinned=not off)
    document = client.documents.show(id_)
    name = document.get("number") or document["id"]
    screen.answer(document, lambda: click.echo(f"{name} is {'not ' if off else ''}pinned"))


@click.command()
@click.argument("id_", metavar="ID")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Overwrite the file if it exists.")
@shared
def save(client: DocumentClient, screen: Screen, id_: str, file: Path, replace: bool) -> None:
    """Write a copy to a file that only you can read; the copy is recorded."""
    document = client.documents.save(id_, file, replace=replace)
    screen.answer({**document, "file": str(file)}, lambda: click.echo(f"{file}: {size(int(document['size']))}"))
    _warn(screen, document.get("supersededBy"), server_lost=bool(document.get("serverLost")))


@click.command(name="print")
@click.argument("id_", metavar="ID")
@click.option("--printer", metavar="P", help="The printer; the system's default when not given.")
@click.option("--copies", type=int, default=1, show_default=True, metavar="N")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to follow the print job.")
@shared
def print_(client: DocumentClient, screen: Screen, id_: str, printer: str | None, copies: int, timeout: float) -> int:
    """Print a document from this device; every copy is recorded first."""
    printed = client.documents.print(id_, printer=printer, copies=copies, timeout_seconds=timeout)
    shown = {
        "state": printed.state,
        "printer": printed.printer,
        "jobId": printed.job_id,
        "detail": printed.detail,
        "copies": printed.copies,
        "supersededBy": printed.superseded_by,
        "serverLost": printed.server_lost,
    }
    numbers = ", ".join(str(n) for n in printed.copies)
    screen.answer(shown, lambda: click.echo(f"{printed.state} at {printed.printer}, copy {numbers}. {printed.detail}"))
    _warn(screen, printed.superseded_by, server_lost=printed.server_lost)
    return 0 if printed.state in ("submitted", "completed") else 69
