"""templates, request, sync, generate, upload."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..client import DocumentClient
from ..errors import ClientError, UsageProblem
from ..inputs import check_reference
from ..queueing import Wish
from ..stopped import raise_stop
from ..words import error_title, sentence
from .frame import Screen, age, also, counted, duration, given, shared, size, table

if TYPE_CHECKING:
    from ..cycle import Report
    from ..driver import Observer, Progress

# A background refresh may hold the prompt for this long; then the list shown before was all of it.
_REFRESH_SECONDS = 2.0
# What the slowest links that clinics have carry, in bytes a second; the bar shows what this one does.
SLOW_LINK = 8000.0
# A form's definition is 15 KB under way; nine took 25 s on a link of 64 kbit/s and 600 ms.
FORM_SECONDS = 2.8
_BUDGET_HELP = "Download at most this much; with --watch, in each cycle."
_WAIT_HELP = "Wait this long for the documents of requests just sent."


@click.command()
@click.argument("name", required=False, default="")
@click.option("--category", metavar="C", help="Only of this category, such as lab_requisition.")
@click.option("--locale", metavar="L", help="Only in this language: fa-AF, or fa for all of its regions.")
@click.option("--all", "everything", is_flag=True, help="Also drafts, retired forms and withdrawn versions.")
@click.option("--refresh", is_flag=True, help="Ask the service first.")
@shared
def templates(
    client: DocumentClient,
    screen: Screen,
    name: str,
    category: str | None,
    locale: str | None,
    everything: bool,
    refresh: bool,
) -> None:
    """Show the catalogue on this device, with its age: all forms in use, or those whose name has the words of NAME."""
    from ..templates import Search

    def observe(step: Progress_) -> None:
        if step.stage == "catalogue":
            screen.note(_catalogue_plan(step))

    search = Search(name or None, category, locale, everything)
    catalogue = client.templates(search, refresh=refresh, observe=observe)
    thread = client.refresh_in_background() if catalogue.freshness in ("stale", "expired") else None
    shown = {"items": catalogue.items, "ageSeconds": catalogue.age, "freshness": catalogue.freshness}

    def words() -> None:
        rows = [[t["name"], _version(t), t["status"], t["category"], _languages(t), t["id"]] for t in catalogue.items]
        if rows:
            table("", ["name", "version", "status", "category", "languages", "id"], rows)
        else:
            click.echo(sentence("no form"))
            also(partial(sentence, "no form"))
        click.echo(f"as of {age(catalogue.age)} ({catalogue.freshness})")
        if any(t["unreviewedLocales"] for t in catalogue.items):
            click.echo("* nobody has reviewed this translation")

    screen.answer(shown, words)
    if thread is not None:
        thread.join(_REFRESH_SECONDS)


def _catalogue_plan(step: Progress_) -> str:
    forms = step.total or 0
    return f"{counted(forms, 'form')} to receive: {duration(forms * FORM_SECONDS)} on a link of 64 kbit/s"


def _version(template: dict[str, Any]) -> str:
    begins = f" from {template['inForceFrom'][:10]}" if template["inForceFrom"] else ""
    return f"{template.get('semver') or ''}{begins}"


def _languages(template: dict[str, Any]) -> str:
    return ", ".join(
        f"{locale}*" if locale in template["unreviewedLocales"] else locale for locale in template["locales"]
    )


def _wish_options(command: Any) -> Any:
    options = (
        click.argument("template"),
        click.option("--patient", required=True, metavar="ID", help="The patient's FHIR id."),
        click.option("--encounter", callback=given, metavar="ID", help="The encounter's FHIR id."),
        click.option(
            "--birth-date", callback=given, metavar="D", help="Compared with the record: a difference fails the job."
        ),
        click.option("--identifier", callback=given, metavar="I", help="Compared with the record, as --birth-date."),
        click.option("--input", "inputs", multiple=True, metavar="K=V", help="A value the template asks for."),
        click.option("--locale", metavar="L", help="Language of the document, such as fa-AF."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_wish_options
@click.option("--not-after", callback=given, metavar="T", help="Not wanted after this instant.")
@shared
def request(client: DocumentClient, screen: Screen, template: str, patient: str, **values: Any) -> None:
    """Ask for a document, online or not; prints the request's id (clientMutationId)."""
    from ..templates import begins_later, read_version

    queued = client.request(
        template,
        patient,
        encounter=values["encounter"],
        assignments=tuple(values["inputs"]),
        locale=values["locale"],
        birth_date=values["birth_date"],
        identifier=values["identifier"],
        not_after=values["not_after"],
    )
    screen.answer(queued, lambda: click.echo(queued["clientMutationId"]))
    screen.note(f"Queued: {queued['template']}. `documents sync` sends it when there is a connection.")
    if not screen.as_json:
        also(partial(sentence, "queued"), err=True)
    for other in client.queue.alike(queued["clientMutationId"]):
        # Asked twice by mistake it would be printed and taken twice; asked twice on purpose it is nobody's fault.
        what = f"{other['clientMutationId'][:8]} ({other['status']}) asks for the same form for this patient already"
        screen.note(f"Careful: {what}. One too many: `documents queue discard {queued['clientMutationId'][:8]}`.")
    account = client.account()
    begins = begins_later(read_version(account.cache, queued["templateVersionId"]), account.clock().now)
    if begins:
        screen.note(sentence("not in force", date=begins))
        if not screen.as_json:
            also(partial(sentence, "not in force", date=begins), err=True)


@click.command()
@click.option("--once", is_flag=True, help="One cycle (the default).")
@click.option("--watch", is_flag=True, help="Keep going: send what is queued as soon as there is a connection.")
@click.option("--budget", type=click.IntRange(min=0), metavar="BYTES", help=_BUDGET_HELP)
@click.option("--wait", type=float, default=10.0, show_default=True, metavar="SECONDS", help=_WAIT_HELP)
@shared
def sync(client: DocumentClient, screen: Screen, once: bool, watch: bool, budget: int | None, wait: float) -> int:
    """Send requests, receive changes and documents, send audit records."""
    if once and watch:
        raise click.UsageError("choose --once or --watch")
    if watch:
        from ..watching import watch as keep_going

        keep_going(client, lambda report, failure: _tell(client, screen, report, failure), budget=budget)
        return 0
    with _bars(screen) as observe:
        report = client.sync(budget=budget, observe=observe, wait_seconds=wait)
    return _tell(client, screen, report, None)


def _tell(client: DocumentClient, screen: Screen, report: Report | None, failure: ClientError | None) -> int:
    """Print what a cycle did; returns the exit code of the reason it stopped for, if any."""
    if report is None:
        if failure is not None:
            screen.note(f"{failure.title} {failure.detail or ''}".strip())
        return failure.exit_code if failure else 0
    code, said = (0, "done") if report.success else (75, "not done")
    message = sentence(said)
    translated: Callable[[str], str | None] = partial(sentence, said)
    try:
        if report.stopped:
            raise_stop(report)
    except ClientError as stop:
        code, message = stop.exit_code, stop.title
        translated = partial(error_title, stop.code)
        # What the service itself said; without a connection the title says it all.
        if stop.detail and report.stopped not in ("NO_CONNECTION", "SIGN_IN"):
            message += f" {stop.detail}"
    facts = client.status()
    if report.stopped == "SIGN_IN":
        said = {0: "sign in again", 1: "sign in for one"}.get(facts.pending, "sign in")
        message = sentence(said, pending=facts.pending)
        translated = partial(sentence, said, pending=facts.pending)
    decisions = facts.quarantined - facts.taken_back + facts.failed
    shown = {**report.as_json(), "needDecision": decisions, "message": message}

    def words() -> None:
        click.echo(
            f"sent {counted(report.acknowledged, 'request')}, received {counted(report.downloaded, 'document')}"
            f" ({size(report.bytes_received)}), sent {counted(report.events_sent, 'audit record')}"
        )
        for number in report.withdrawn:
            newer = report.replaced.get(number)
            what = f"was replaced by {newer}" if newer else "was withdrawn"
            click.echo(f"{number} {what}; its copy was removed here: throw away printed copies")
        if decisions:
            refused = f"{facts.quarantined - facts.taken_back - facts.recovered} refused, {facts.failed} failed"
            refused += f", {facts.recovered} recovered" if facts.recovered else ""
            click.echo(f"requests that need a decision: {refused}; see `documents queue`")
        if report.taken_back:
            click.echo(f"taken back in time, the service does not have it: {counted(report.taken_back, 'request')}")
        if report.offered_again:
            click.echo(
                f"the service was restored from a backup; sent again: {counted(report.offered_again, 'request')}"
            )
        click.echo(message)
        also(translated)

    screen.answer(shown, words)
    return code


@contextmanager
def _bars(screen: Screen) -> Iterator[Observer | None]:
    """Show progress bars on standard error, unless the answer is for a program."""
    if screen.as_json:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: list[Any] = []
        here: dict[str, int] = {}

        def observe(step: Progress_) -> None:
            if step.stage == "plan" and step.done:
                # Said once, with how much and how long, before the first byte is spent.
                much = f"{counted(step.done, 'document')} to receive, {size(step.total or 0)}"
                progress.console.print(f"{much}: {duration((step.total or 0) / SLOW_LINK)} on a link of 64 kbit/s")
                # Another plan has a bar of its own: what came before does not count in it.
                here.clear()
                tasks[:] = [progress.add_task("receiving", total=step.total)]
            elif step.stage == "receive":
                here[step.label] = step.done
                if not tasks:
                    tasks.append(progress.add_task("receiving", total=step.total))
                progress.update(tasks[0], completed=sum(here.values()))
            elif step.stage == "catalogue":
                progress.console.print(_catalogue_plan(step))
            elif step.stage == "send":
                progress.console.print(f"sent {step.label}")

        yield observe


if TYPE_CHECKING:
    Progress_ = Progress


@click.command()
@_wish_options
@shared
def generate(client: DocumentClient, screen: Screen, template: str, patient: str, **values: Any) -> None:
    """Make a document now; needs the service."""
    wish = Wish(
        template,
        patient,
        values["encounter"],
        assignments=tuple(values["inputs"]),
        locale=values["locale"],
        birth_date=values["birth_date"],
        identifier=values["identifier"],
    )
    document = client.generate(wish)
    screen.answer(document, lambda: click.echo(f"{document.get('number')} {document['id']}"))
    if document["state"] != "available":
        screen.note("It was made, and is not on this device yet; `documents sync` fetches it.")


@click.command()
@click.argument("patients", nargs=-1, metavar="PATIENT...")
@click.option(
    "--from",
    "listed",
    type=click.File(),
    metavar="FILE",
    help="A list of patient ids, one a line (# begins a remark); - reads it.",
)
@click.option("--budget", type=click.IntRange(min=0), metavar="BYTES", help="Download at most this much.")
@shared
def prefetch(client: DocumentClient, screen: Screen, patients: tuple[str, ...], listed: Any, budget: int | None) -> int:
    """Bring the current documents of these patients here before going offline; needs the service."""
    named = [*patients, *_read_listed(listed or ())]
    if not named:
        raise click.UsageError("name patients, or give a list with --from")
    with _bars(screen) as observe:
        found = client.prefetch(named, budget=budget, observe=observe)
    report = found.report
    if report.stopped:
        raise_stop(report)
    waiting = client.status().cache["waiting"]

    def words() -> None:
        came = f"received {counted(report.downloaded, 'document')} ({size(report.bytes_received)})"
        click.echo(f"{counted(len(named), 'patient')}: {came}; already here: {found.already_here}")
        for patient in found.without:
            click.echo(f"{patient}: {sentence('no document')}")
            also(partial(sentence, "no document"))
        if waiting:
            click.echo(f"to come with the next `documents sync`: {counted(waiting, 'document')}")

    shown = {"documents": found.documents, "alreadyHere": found.already_here, "withoutDocuments": found.without}
    told = {**report.as_json(), "success": not report.errors}
    screen.answer({**told, **shown, "patients": len(named), "waiting": waiting}, words)
    return 0


def _read_listed(lines: Iterable[str]) -> list[str]:
    """Return the patients of a list, in which # begins a remark; raises UsageProblem naming a wrong line by number."""
    named = []
    try:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if text and not text.startswith("#"):
                try:
                    named.append(check_reference(text, "Patient"))
                except UsageProblem as failure:
                    raise UsageProblem(f"line {number} of the list: {failure.detail}") from failure
    except UnicodeDecodeError:
        raise UsageProblem("the list is not text in UTF-8") from None
    return named


@click.command(name="edit-template")
@click.argument("id_", metavar="ID")
@click.argument("file", type=click.Path())
@shared
def edit_template(client: DocumentClient, screen: Screen, id_: str, file: str) -> int:
    """Save the draft of a template from a JSON file; needs the service, which names every problem in it."""
    saved = client.save_draft(id_, file)
    problems = saved.get("problems") or []

    def words() -> None:
        for problem in problems:
            click.echo(f"{problem['pointer']}: {problem['title']}")
        click.echo(f"The draft was saved{' with these problems' if problems else ''}.")

    screen.answer(saved, words)
    return 0


@click.command()
@click.argument("file", type=click.Path())
@click.option("--patient", required=True, metavar="ID", help="The patient's FHIR id.")
@click.option("--encounter", metavar="ID", help="The encounter's FHIR id.")
@click.option("--category", default="scanned_record", show_default=True, help="The document's category.")
@click.option("--title", help="The document's title; the file's name when not given.")
@shared
def upload(client: DocumentClient, screen: Screen, file: str, patient: str, **details: Any) -> int:
    """Send a scanned file; needs the service, which scans it for malware."""
    started = time.monotonic()
    state = client.upload(file, patient, **details)

    def words() -> None:
        reason = state.get("reason") or {}
        click.echo(f"{state.get('status')}: {state.get('documentId') or reason.get('title') or state.get('id')}")
        click.echo(f"after {time.monotonic() - started:.1f} s", err=True)

    screen.answer(state, words)
    return 0 if state.get("status") in ("accepted", "scanning") else 69
