"""``document-service jobs``: jobs that failed for a cause that has passed, and where the numbers of documents went."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from document_service.commands.options import Options, run, setting_options
from document_service.commands.owner import owner_connection, owner_transaction

if TYPE_CHECKING:
    from document_service.database import Connection

#: What becomes of a job that is tried again, and what would of one in a dry run.
_QUEUED, _WOULD_BE_QUEUED = "QUEUED", "WOULD_BE_QUEUED"


def _since(context: click.Context, parameter: click.Parameter, value: str) -> datetime:
    from document_service.settings import parse_duration

    try:
        return datetime.now(UTC) - parse_duration(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.BadParameter("allowed is a time span such as 6h, or an instant with its offset")
    return moment


def _code(context: click.Context, parameter: click.Parameter, value: str) -> str:
    from document_service.errors import error_of_code

    if error_of_code(value).code != value:
        raise click.BadParameter("no error has this code; docs/errors.md lists them")
    return value


_tenant = click.option("--tenant", required=True, help="The tenant whose jobs are meant.")
_after = click.option(
    "--since", default="24h", show_default=True, callback=_since, help="Failed since then: 6h, or an instant."
)
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
@setting_options
def jobs() -> None:
    """Render jobs of a tenant: tried again after an outage, and the account of their numbers."""


@jobs.command()
@setting_options
@_tenant
@_after
@_json
@click.pass_obj
def failed(options: Options, tenant: str, since: datetime, as_json: bool) -> None:
    """How many jobs failed, by the code of the cause."""
    from document_service import render_jobs, tenants

    async def count() -> dict[str, int]:
        async with owner_transaction(options.settings(), tenant) as connection:
            await tenants.show(connection, tenant)
            return await render_jobs.count_failed(connection, tenant, since)

    counts = run(count())
    if as_json:
        click.echo(json.dumps(counts))
        return
    for code, number in counts.items():
        click.echo(f"{number:7} {code}")
    if not counts:
        click.echo("nothing failed since then")


@jobs.command()
@setting_options
@_tenant
@click.option("--code", required=True, callback=_code, help="The cause that has passed, such as FHIR_UNAVAILABLE.")
@_after
@click.option("--dry-run", is_flag=True, help="Say what would be tried again, and do nothing.")
@click.option("--by", default="operator", show_default=True, help="Who does this, for the trail.")
@_json
@click.pass_obj
def retry(options: Options, tenant: str, code: str, since: datetime, dry_run: bool, by: str, as_json: bool) -> None:
    """Try every job again that failed for a cause which has passed, each under its own id.

    Left out: what was asked for again since, which would be made twice; what its requester does not want any more
    (notAfter has passed; discarded or replaced on a device that has synced since); and what needs a withdrawn version.
    """

    async def apply() -> dict[str, str]:
        async with owner_connection(options.settings()) as connection:
            return await _try_all(connection, tenant, code, since, by, dry_run=dry_run)

    became = run(apply())
    if as_json:
        click.echo(json.dumps([{"jobId": job_id, "result": result} for job_id, result in became.items()]))
        return
    for result, number in sorted(Counter(became.values()).items()):
        click.echo(f"{number:7} {result}")
    if not became:
        click.echo("nothing failed with this code since then")


async def _try_all(
    connection: Connection, tenant: str, code: str, since: datetime, by: str, *, dry_run: bool
) -> dict[str, str]:
    """What became of each job by its id: a word of ours, or the code that kept it from being tried."""
    from document_service import render_jobs, tenants

    await tenants.show(connection, tenant)
    became: dict[str, str] = {}
    for job_id, unwanted in await render_jobs.list_failed(connection, tenant, code, since):
        # Each in a transaction of its own: a job that may not be tried keeps no other from it.
        became[job_id] = unwanted or await _try_one(connection, tenant, job_id, by, dry_run=dry_run)
    return became


async def _try_one(connection: Connection, tenant: str, job_id: str, by: str, *, dry_run: bool) -> str:
    from document_service import audit, intake, render_jobs
    from document_service.errors import ExpiredByRequester, JobStateConflict, TemplateVersionRetired

    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
            job = await render_jobs.lock(connection, tenant, job_id)
            if dry_run:
                await intake.check_retry(connection, job)
                return _WOULD_BE_QUEUED
            code = job.error_code
            job = await intake.retry(connection, job)
            event = audit.Event("job.retry", by, job_id=job.id, patient_id=job.patient_id, detail={"code": code})
            await audit.record(connection, tenant, event)
    except (ExpiredByRequester, TemplateVersionRetired, JobStateConflict) as refusal:
        return refusal.code
    return _QUEUED


@jobs.command()
@setting_options
@_tenant
@click.option("--year", type=click.IntRange(2000, 9999), help="The year of the numbers; this one when not named.")
@_json
@click.pass_obj
def numbers(options: Options, tenant: str, year: int | None, as_json: bool) -> None:
    """The numbers that no document has, each with the job that took it and what became of that.

    A number is taken before the page is made, so a job that fails leaves a gap.
    """
    from document_service import numbering, tenants

    async def account() -> list[Any]:
        async with owner_transaction(options.settings(), tenant) as connection:
            await tenants.show(connection, tenant)
            return await numbering.gaps(connection, tenant, year or datetime.now(UTC).year)

    gaps = run(account())
    if as_json:
        click.echo(json.dumps([gap.as_json() for gap in gaps]))
        return
    for gap in gaps:
        which = gap.first if gap.first == gap.last else f"{gap.first} to {gap.last}"
        at = "-" if gap.at is None else f"{gap.at:%Y-%m-%dT%H:%M:%SZ}"
        click.echo(f"{which:28} {gap.state:8} {gap.job_id or '-':32} {at:20} {gap.code or '-'}")
    if not gaps:
        click.echo("no number of that year is without its document")


COMMANDS: list[Any] = [jobs]
