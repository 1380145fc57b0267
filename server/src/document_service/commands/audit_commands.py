"""``document-service audit``: is the chain whole, and the trail as FHIR. Works while ``serve`` runs."""

from __future__ import annotations

import json
from typing import Any

import click

from document_service.commands.counting import counted
from document_service.commands.options import Options, run, setting_options
from document_service.commands.owner import owner_transaction

#: sysexits.h EX_DATAERR: the trail is not what was written.
EXIT_BROKEN = 65


@click.group()
@setting_options
def audit() -> None:
    """The audit trail: check its chain, export it."""


@audit.command()
@setting_options
@click.option("--tenant", "only", help="One tenant; all when it is not given.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def verify(options: Options, only: str | None, as_json: bool) -> int:
    """Compute every link of the chain again and compare it with the signed heads; exit 65 when something differs."""
    found, whole = run(_verify(options, only))
    broken = [finding for finding in found if finding.is_broken]
    if as_json:
        shown = [{"kind": f.kind, "tenant": f.tenant_id, "text": f.text} for f in found]
        click.echo(json.dumps({"whole": not broken, "tenants": whole, "findings": shown}))
    else:
        for finding in found:
            click.echo(f"{finding.kind:10} {finding.tenant_id}: {finding.text}")
        events = sum(whole.values())
        told = "the chain is whole" if not broken else counted(len(broken), "finding")
        click.echo(f"{counted(events, 'event')} of {counted(len(whole), 'tenant')} checked: {told}")
    return EXIT_BROKEN if broken else 0


async def _verify(options: Options, only: str | None) -> tuple[list[Any], dict[str, int]]:
    from document_service import audit_chain, runtime, sequencing
    from document_service.store import open_store

    settings = options.settings()
    async with owner_transaction(settings) as connection:
        await audit_chain.count_anew(connection)
    async with owner_transaction(settings) as connection:
        keys = await runtime.open_keys(settings, connection)
        await runtime.refuse_absent_store(settings, connection)
        return await sequencing.verify_trail(connection, keys, open_store(settings.objects, keys), only)


@audit.command()
@setting_options
@click.option("--tenant", required=True, help="The tenant whose trail is written.")
@click.option("--from", "since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"]), help="Recorded at or after.")
@click.option("--to", "until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"]), help="Recorded before.")
@click.pass_obj
def export(options: Options, tenant: str, since: Any, until: Any) -> None:
    """Write FHIR R4 AuditEvent resources (IHE BALP), one a line, newest first."""
    run(_export(options, tenant, since, until))


async def _export(options: Options, tenant: str, since: Any, until: Any) -> None:
    from datetime import UTC

    from document_service import audit as trail
    from document_service import audit_export, tenants

    # A date without an offset is meant in UTC, as all instants of the service are.
    bounds = [
        None if given is None else given if given.tzinfo else given.replace(tzinfo=UTC) for given in (since, until)
    ]
    wanted = trail.Query(since=bounds[0], until=bounds[1])
    async with owner_transaction(options.settings()) as connection:
        await tenants.show(connection, tenant)
        after: str | None = None
        while rows := await trail.search(connection, tenant, wanted, after, 1000):
            for event in rows:
                click.echo(json.dumps(audit_export.audit_event(tenant, event)))
            after = rows[-1].id


COMMANDS: list[Any] = [audit]
