"""queue list, show, retry, edit, export, discard."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..client import DocumentClient
from ..clock import from_text
from ..errors import NotConfirmed
from ..recovery import RECOVERED
from ..withdrawals import ALREADY_SENT, TAKEN_BACK, WITHDRAWAL_ASKED
from ..words import sentence
from .frame import Screen, age, also, counted, given, shared, table


class QueueGroup(click.Group):
    """``documents queue`` alone lists."""

    default_verb = "list"


@click.group(cls=QueueGroup)
def queue() -> None:
    """Look at pending, refused and failed requests, and decide about them."""


@queue.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also the finished (JSON has them anyway) and those given up.")
@shared
def list_(client: DocumentClient, screen: Screen, everything: bool) -> None:
    """Show what is waiting, refused or failed, with one thing to do about each."""
    items = client.queue.list(given_up=everything)
    now = client.account().clock().now

    def words() -> None:
        shown = [i for i in items if everything or i["status"] != "done"]
        rows = [
            [
                i["clientMutationId"],
                i["status"],
                i["template"],
                i["patientId"],
                age(now - from_text(i["requestedAt"])),
                (i["reason"] or {}).get("title") or "",
                _advice(i),
            ]
            for i in shown
        ]
        table("", ["request", "status", "template", "patient", "asked", "reason", "what to do"], rows)
        hidden = len(items) - len(shown)
        if hidden:
            click.echo(f"not shown: {counted(hidden, 'finished request')} (--all)")

    screen.answer({"items": items}, words)


def _advice(item: dict[str, Any]) -> str:
    """Return what to do about a request, and by which it was replaced."""
    newer = f"replaced by {item['replacedBy']}" if item["replacedBy"] else ""
    return "; ".join(part for part in (_remedy(item), newer) if part)


def _remedy(item: dict[str, Any]) -> str:
    code = (item["reason"] or {}).get("code")
    if item["status"] == "discarded":
        return ""
    if code == "PATIENT_MISMATCH":
        return "queue edit (--patient, --birth-date or --identifier, whichever was wrong), or queue discard"
    if code == "PATIENT_UNKNOWN":
        return "queue edit (another patient), or queue discard"
    if code == RECOVERED:
        return "queue retry; or queue discard, if it was asked for again meanwhile"
    if code == WITHDRAWAL_ASKED:
        return "documents sync (asks whether it had arrived)"
    if code == ALREADY_SENT:
        made = f"have {item['documentId']} withdrawn" if item["documentId"] else "have its document withdrawn"
        return f"{made}, then queue discard; or queue retry to keep it"
    return {
        "queued": "documents sync; wrong: queue edit or queue discard",
        "sending": "",
        "acknowledged": "documents sync (the document is being made)",
        "quarantined": "mend the cause, then queue retry; or queue edit, or queue discard",
        "failed": "mend the cause, then queue retry; or queue discard",
    }.get(item["status"], "")


@queue.command()
@click.argument("id_", metavar="ID")
@shared
def show(client: DocumentClient, screen: Screen, id_: str) -> None:
    """Show one request as it is sent."""
    shown = client.queue.show(id_)
    screen.answer(shown, lambda: click.echo(json.dumps(shown, ensure_ascii=False, indent=1)))


def _is_taken_back(item: dict[str, Any]) -> bool:
    """Return whether a person gave up or replaced a request that is not settled yet."""
    given_up = item["replacedBy"] or (item["reason"] or {}).get("code") in TAKEN_BACK
    return item["status"] in ("quarantined", "failed") and bool(given_up)


@queue.command()
@click.argument("id_", metavar="ID", required=False)
@click.option("--all", "everything", is_flag=True, help="Every refused or failed request that was not taken back.")
@shared
def retry(client: DocumentClient, screen: Screen, id_: str | None, everything: bool) -> None:
    """Send a request again under the same id at the next sync."""
    if everything == (id_ is not None):
        raise click.UsageError("name one request, or choose --all")
    if id_ is not None:
        shown = client.queue.retry(id_)
        screen.answer(shown, lambda: click.echo(f"{shown['clientMutationId']} is queued again"))
        return
    items = client.queue.retry_all()
    left = [item["clientMutationId"] for item in client.queue.list() if _is_taken_back(item)]

    def words() -> None:
        click.echo(f"queued again: {counted(len(items), 'request')}")
        if left:
            click.echo(f"left: {counted(len(left), 'request')} taken back; `documents queue` says which")

    screen.answer({"items": items, "left": left}, words)


@queue.command()
@click.argument("id_", metavar="ID")
@click.option("--template", metavar="T", help="Another template.")
@click.option("--patient", metavar="ID")
@click.option("--encounter", callback=given, metavar="ID")
@click.option("--birth-date", callback=given, metavar="D")
@click.option("--identifier", callback=given, metavar="I")
@click.option("--input", "inputs", multiple=True, metavar="K=V", help="Replaces this input.")
@click.option("--locale", metavar="L")
@click.option("--not-after", callback=given, metavar="T")
@shared
def edit(client: DocumentClient, screen: Screen, id_: str, inputs: tuple[str, ...], **changes: Any) -> None:
    """Replace a request that waits, was refused or failed by a new one with other values."""
    shown = client.queue.edit(id_, {**changes, "assignments": inputs or None})
    screen.answer(shown, lambda: click.echo(shown["clientMutationId"]))
    screen.note(f"Queued in place of {id_}: {shown['template']}. `documents sync` sends it when there is a connection.")


@queue.command()
@click.argument("id_", metavar="ID")
@click.argument("file", type=click.Path(path_type=Path))
@shared
def export(client: DocumentClient, screen: Screen, id_: str, file: Path) -> None:
    """Write a request to a file that only you can read."""
    shown = client.queue.export(id_, file)
    screen.answer({**shown, "file": str(file)}, lambda: click.echo(str(file)))


@queue.command()
@click.argument("id_", metavar="ID")
@click.option("--confirm", metavar="ID", help="The request's id once more, instead of typing it when asked.")
@shared
def discard(client: DocumentClient, screen: Screen, id_: str, confirm: str | None) -> None:
    """Take back a request that waits, or give up a refused or failed one; asks for its id, and records it."""
    known = client.queue.show(id_)
    if known["status"] == "discarded":
        # Nobody types an id to be told afterwards that there is nothing to give up; this says it.
        client.queue.discard(known["clientMutationId"], confirmation=known["clientMutationId"])
    if confirm is None:
        screen.note(f"{known['template']} for {known['patientId']}, asked {known['requestedAt']}: {known['status']}")
        try:
            confirm = click.prompt("Type the request's id to give it up", err=True, default="", show_default=False)
        except click.Abort:
            # Nobody is there to type it.
            raise NotConfirmed() from None
    shown = client.queue.discard(known["clientMutationId"], confirmation=confirm)

    def words() -> None:
        if shown["status"] == "quarantined":
            click.echo(f"{shown['clientMutationId']} is not sent again, but may have left this device before.")
            click.echo("The next `documents sync` asks the service, and says so.")
            also(partial(sentence, "taken back"))
        elif shown["jobId"] is not None:
            made = f"its document {shown['documentId']} stays" if shown["documentId"] else "it is not asked for again"
            click.echo(f"{shown['clientMutationId']} was given up here; the service has it, and {made}")
        else:
            click.echo(f"{shown['clientMutationId']} was given up; it is not sent")

    screen.answer(shown, words)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--ask", type=click.Path(path_type=Path), metavar="FILE", help="Write what the operator needs.")
@shared
def recover(client: DocumentClient, screen: Screen, file: Path | None, ask: Path | None) -> None:
    """Take back requests, and records of opening and printing, from files that were set aside.

    FILE is the operator's answer to what --ask wrote. Without either: what this device can open by itself. Requests
    come back as such that need a decision: retry them, or discard what was asked for again meanwhile. Records are
    sent by the next sync; what had arrived counts once.
    """
    from .. import recovery

    if file and ask:
        raise click.UsageError("choose FILE or --ask FILE")
    account = client.account()
    if ask:
        count = recovery.ask(account, ask)
        told = (
            f"{ask}: for the operator, who answers it with `document-service tenant recover {account.session.tenant}`"
        )
        screen.answer({"file": str(ask), "files": count}, lambda: click.echo(told))
        return
    back = recovery.take_back(account, file)

    def words() -> None:
        if back.requests or not back.records:
            click.echo(f"{counted(back.requests, 'request')} came back; see `documents queue`")
        if back.records:
            click.echo(
                f"{counted(back.records, 'record')} of opening and printing came back; `documents sync` sends them"
            )

    screen.answer(asdict(back), words)
