"""``document-service retention``, ``hold`` and ``purge``: how long documents are kept, and what must stay."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, get_args

import click

from document_service.commands.counting import counted
from document_service.commands.options import Options, run, setting_options
from document_service.commands.owner import owner_database, owner_transaction

if TYPE_CHECKING:
    from document_service.database import Connection
    from document_service.keys import KeyStore
    from document_service.store import ObjectStore

#: Names of cases go into the trail in the clear; this shape holds a court's reference and no sentence about a person.
_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")

_by = click.option("--by", default="operator", show_default=True, help="Who does this, for the trail.")


def _case(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not _CASE.fullmatch(value):
        raise click.BadParameter("allowed are up to 64 letters, digits, dots, slashes, hyphens and underscores")
    return value


def _with_tenant(options: Options, tenant: str, work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Run ``work(connection, keys)`` in a transaction of the owner; the tenant must be there."""
    from document_service import runtime, tenants

    async def apply() -> Any:
        settings = options.settings()
        async with owner_transaction(settings) as connection:
            await tenants.show(connection, tenant)
            return await work(connection, await runtime.open_keys(settings, connection))

    return run(apply())


@click.group()
@setting_options
def retention() -> None:
    """How long documents of each category are kept; for ever unless set."""


@retention.command("set")
@setting_options
@click.argument("tenant")
@click.argument("category")
@click.argument("days", metavar="DAYS|forever")
@_by
@click.pass_obj
def set_class(options: Options, tenant: str, category: str, days: str, by: str) -> None:
    """Keep documents of CATEGORY for DAYS after they were made, or for ever."""
    from document_service import retention as rules
    from document_service.api.shapes import Category

    if category not in get_args(Category):
        raise click.BadParameter(f"allowed are {', '.join(get_args(Category))}", param_hint="CATEGORY")
    if days != "forever" and not (days.isdigit() and int(days) > 0):
        raise click.BadParameter("allowed is a positive whole number of days, or forever", param_hint="DAYS")
    kept = None if days == "forever" else int(days)
    _with_tenant(options, tenant, lambda connection, _: rules.set_class(connection, tenant, category, kept, by))
    click.echo(f"{category} of {tenant} is kept {'for ever' if kept is None else f'{kept} days'}")


@retention.command("set-document")
@setting_options
@click.argument("tenant")
@click.argument("document_id", metavar="DOC_ID")
@click.argument("until", metavar="DATE|forever|category")
@click.option("--reason", required=True, help="Why; stored sealed.")
@_by
@click.pass_obj
def set_document(options: Options, tenant: str, document_id: str, until: str, reason: str, by: str) -> None:
    """Keep one document to the end of DATE, for ever, or again as its category says.

    What a case holds can be kept longer and not shorter. A DATE that has passed has the next purge take the document.
    """
    from document_service import retention as rules

    end = _end_of(until)
    _with_tenant(
        options,
        tenant,
        lambda connection, keys: rules.set_document(
            connection, tenant, document_id, end, reason=reason, by=by, sealer=keys
        ),
    )
    told = {"forever": "for ever", "category": "as its category says"}.get(until, f"to the end of {until} (UTC)")
    click.echo(f"{document_id} is kept {told}")


def _end_of(until: str) -> datetime | None:
    from document_service.retention import FOR_EVER

    if until in ("forever", "category"):
        return FOR_EVER if until == "forever" else None
    try:
        return datetime.combine(date.fromisoformat(until) + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "allowed is a date such as 2031-12-31, forever, or category", param_hint="DATE"
        ) from None


@retention.command("show")
@setting_options
@click.argument("tenant")
@click.pass_obj
def show_classes(options: Options, tenant: str) -> None:
    """The categories that are not kept for ever, as JSON."""
    from document_service import retention as rules

    click.echo(json.dumps(_with_tenant(options, tenant, lambda connection, _: rules.classes(connection, tenant))))


@click.group()
@setting_options
def hold() -> None:
    """Legal holds: what a case needs is not purged, whatever its age."""


@hold.command()
@setting_options
@click.argument("tenant")
@click.argument("case", callback=_case)
@click.option("--document", "document_id", help="One document.")
@click.option("--patient", "patient_id", help="Everything of one patient, also what is made later.")
@click.option("--reason", required=True, help="Why; stored sealed.")
@_by
@click.pass_obj
def place(
    options: Options, tenant: str, case: str, document_id: str | None, patient_id: str | None, reason: str, by: str
) -> None:
    """Hold a document or a patient's documents for CASE."""
    from document_service import retention as rules

    if (document_id is None) == (patient_id is None):
        raise click.UsageError("name either --document or --patient")
    hold_id = _with_tenant(
        options,
        tenant,
        lambda connection, keys: rules.place_hold(
            connection,
            tenant,
            case,
            document_id=document_id,
            patient_id=patient_id,
            reason=reason,
            by=by,
            sealer=keys,
        ),
    )
    click.echo(hold_id)


@hold.command()
@setting_options
@click.argument("tenant")
@click.argument("case", callback=_case)
@click.option("--reason", required=True, help="Why; stored sealed.")
@_by
@click.pass_obj
def release(options: Options, tenant: str, case: str, reason: str, by: str) -> None:
    """End every hold of CASE; what another case holds stays held."""
    from document_service import retention as rules

    released = _with_tenant(
        options,
        tenant,
        lambda connection, keys: rules.release_holds(connection, tenant, case, reason=reason, by=by, sealer=keys),
    )
    click.echo(f"{counted(len(released), 'hold')} of {case} ended")


@hold.command("list")
@setting_options
@click.argument("tenant")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_holds(options: Options, tenant: str, as_json: bool) -> None:
    """Every hold, in force or not."""
    from document_service import retention as rules

    found = _with_tenant(options, tenant, lambda connection, _: rules.holds(connection, tenant))
    shown = [
        {
            "id": one.id,
            "caseId": one.case_id,
            "documentId": one.document_id,
            "patientId": one.patient_id,
            "placedAt": one.placed_at.isoformat(),
            "placedBy": one.placed_by,
            "releasedAt": None if one.released_at is None else one.released_at.isoformat(),
            "releasedBy": one.released_by,
        }
        for one in found
    ]
    if as_json:
        click.echo(json.dumps(shown))
        return
    for one in shown:
        what = one["documentId"] or f"patient {one['patientId']}"
        click.echo(f"{one['caseId']:24} {what:32} {'ended' if one['releasedAt'] else 'in force'}")


@click.command()
@setting_options
@click.option("--tenant", "only", help="One tenant; all when it is not given.")
@click.option("--dry-run", is_flag=True, help="Say what would go and what would stay, and delete nothing.")
@click.option("--holds-are-set", is_flag=True, help="After a restore, once: what was held since the backup is again.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_by
@click.pass_obj
def purge(options: Options, only: str | None, dry_run: bool, holds_are_set: bool, as_json: bool, by: str) -> int:
    """Delete the bytes of documents whose time of keeping is over, unless a case holds them; says what and why.

    In the week after a restore it refuses until --holds-are-set says that what was held since the backup is held again.
    Exit 1 when a tenant was passed over, such as for a key that cannot be opened.
    """
    acts, passed_over = run(_purge(options, only, by, dry_run=dry_run, after_restore=holds_are_set))
    for told in passed_over:
        click.echo(told, err=True)
    if as_json:
        click.echo(json.dumps(acts))
        return 1 if passed_over else 0
    for act in acts:
        held = f"; held by {', '.join(act['cases'])}" if act["cases"] else ""
        click.echo(f"{act['act']:12} {act['tenant']}: {act['documentId']} ({act['why']}{held})")
    done = sum(act["act"] == "purged" for act in acts)
    over = f"over their time: {counted(len(acts), 'document')}" if acts else "no document is over its time"
    click.echo(f"{over}, {done} purged" if not dry_run else f"{over}; nothing was deleted")
    return 1 if passed_over else 0


async def _purge(
    options: Options, only: str | None, by: str, *, dry_run: bool, after_restore: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """What was done and why; and of each tenant that was passed over, why."""
    from document_service import retention as rules
    from document_service import runtime, tenants
    from document_service.errors import ServiceError
    from document_service.store import open_store

    settings = options.settings()
    acts: list[dict[str, Any]] = []
    passed_over: list[str] = []
    async with owner_database(settings) as (address, connection):
        keys = await runtime.open_keys(settings, connection)
        await runtime.refuse_absent_store(settings, connection)
        store = open_store(settings.objects, keys)
        if not dry_run:
            # Whoever put a copy back may not have started the service since.
            await runtime.notice_loss(settings, address, store, keys)
            if after_restore:
                await rules.note_holds_are_set(connection)
            restored = await rules.restored_at(connection)
            if restored is not None:
                raise click.UsageError(
                    f"commits may have been lost on {restored:%Y-%m-%d}, as by a restore, and with them the holds,"
                    " dates and classes that were set since the backup: set them again (docs/runbooks/restore.md),"
                    " then purge --holds-are-set once"
                )
        listed = [await tenants.show(connection, only)] if only else await tenants.list_all(connection)
        for name in [tenant.tenant_id for tenant in listed if tenant.shredded_at is None]:
            try:
                acts += await _purge_rows(connection, name, by, keys, dry_run=dry_run)
                if not dry_run:
                    await _purge_objects(connection, store, name)
            except ServiceError as reason:
                # One tenant's key that cannot be opened keeps no other's documents beyond their time.
                passed_over.append(f"{name}: {reason.title} ({reason.code})")
    return acts, passed_over


async def _purge_objects(connection: Connection, store: ObjectStore, tenant: str) -> None:
    """Delete what purged rows named. The rows go first: one that counts on an object that is gone looks like a loss.

    A cut between the two is finished by the next purge.
    """
    from document_service import retention as rules

    while True:
        async with connection.transaction():
            objects = await rules.objects_to_delete(connection, tenant)
            for stored in (one for of_document in objects.values() for one in of_document):
                await store.delete(tenant, stored)
            await rules.note_deleted(connection, tenant, list(objects))
        if not objects:
            return


async def _purge_rows(
    connection: Connection, tenant: str, by: str, keys: KeyStore, *, dry_run: bool
) -> list[dict[str, Any]]:
    """Purge the rows of a tenant batch by batch, each in a transaction of its own; what was done and why."""
    from document_service import retention as rules

    acts: list[dict[str, Any]] = []
    while True:
        async with connection.transaction():
            batch = await rules.due(connection, tenant, after=acts[-1]["documentId"] if acts else "")
            for found in batch:
                act = "kept" if found.is_held else "would purge" if dry_run else "purged"
                if act == "purged":
                    await rules.purge(connection, found, by, keys)
                shown = {"act": act, "tenant": tenant, "documentId": found.document_id, "category": found.category}
                acts.append(
                    {**shown, "overSince": found.over_since.isoformat(), "why": found.why, "cases": found.cases}
                )
        if not batch:
            return acts


COMMANDS: list[Any] = [retention, hold, purge]
