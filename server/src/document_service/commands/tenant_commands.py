"""``document-service tenant``: organisations and what they decide. Runs as the owner role, while ``serve`` runs too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from document_service.commands.options import Options, run, setting_options
from document_service.database import Connection
from document_service.settings import Settings, parse_duration


@asynccontextmanager
async def _owner(settings: Settings) -> AsyncIterator[Connection]:
    from document_service import runtime

    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with runtime.open_address(settings, stays=False) as address:
        await runtime.prepare_database(address)
        async with runtime.owner_connection(address) as connection, connection.transaction():
            yield connection


def _seconds(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return int(parse_duration(text).total_seconds())
    except ValueError as reason:
        raise click.BadParameter(str(reason), param_hint=option) from None


def _shown(tenant: Any, settings: Settings) -> dict[str, Any]:
    return {
        "tenant": tenant.tenant_id,
        "name": tenant.name,
        "fhirUrl": tenant.fhir_url,
        "fhirToken": "(sealed)" if tenant.fhir_token_sealed else None,
        "address": list(tenant.profile.address),
        "phone": tenant.profile.phone,
        "timeZone": tenant.profile.time_zone,
        "digits": tenant.profile.digits,
        "calendar": tenant.profile.calendar,
        "cachePolicy": tenant.cache_policy(settings),
        "createdAt": tenant.created_at.isoformat(),
        "shreddedAt": tenant.shredded_at.isoformat() if tenant.shredded_at else None,
    }


@click.group()
@setting_options
def tenant() -> None:
    """Tenants and their settings."""


@tenant.command()
@setting_options
@click.argument("tenant_id", metavar="TENANT")
@click.option("--fhir-url", help="Base URL of the tenant's FHIR R4 server.")
@click.option(
    "--fhir-token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the bearer token for that server; it is stored sealed.",
)
@click.option("--name", help="The organisation's name, as it is printed.")
@click.option("--address", "address", multiple=True, help="A line of the address, as it is printed; repeat it.")
@click.option("--phone", help="The organisation's telephone number, as it is printed.")
@click.option("--time-zone", help="Time zone of printed times, such as Asia/Kabul.")
@click.option("--digits", type=click.Choice(["latin", "native"]), help="Digits on fa-AF and ps-AF forms.")
@click.option(
    "--calendar",
    type=click.Choice(["gregorian", "solarHijri", "both"]),
    help="Calendar of dates on fa-AF and ps-AF forms.",
)
@click.option("--cache-ttl", help="How long a device may show a cached document, such as 7d.")
@click.option("--lease", help="How long a device works without contact, such as 14d.")
@click.option("--cache-quota", type=int, help="Bytes of a device's document cache.")
@click.option("--allow-reprint/--no-reprint", default=None, help="Render versions past their effectiveTo.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def create(
    options: Options, /, tenant_id: str, fhir_url: str | None, fhir_token_file: Path | None, **given: Any
) -> None:
    """Create a tenant, or change what is given of one that exists."""
    from document_service import templates, tenants
    from document_service.keys import KeyStore

    as_json = given.pop("as_json")
    if fhir_url is not None and not fhir_url.startswith(("http://", "https://")):
        raise click.BadParameter("allowed is a URL that starts with http: or https:", param_hint="--fhir-url")
    time_zone = given["time_zone"]
    if time_zone is not None:
        import zoneinfo

        try:
            zoneinfo.ZoneInfo(time_zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            raise click.BadParameter(
                "not a known time zone; use one such as Asia/Kabul", param_hint="--time-zone"
            ) from None
    changes = {
        "address": given["address"] or None,
        "phone": given["phone"],
        "time_zone": time_zone,
        "digits": given["digits"],
        "calendar": given["calendar"],
        "allow_reprint": given["allow_reprint"],
        "cache_ttl_seconds": _seconds(given["cache_ttl"], "--cache-ttl"),
        "lease_seconds": _seconds(given["lease"], "--lease"),
        "quota_bytes": given["cache_quota"],
    }
    settings = options.settings()

    async def apply() -> Any:
        keys = KeyStore.open(settings.keys)
        async with _owner(settings) as connection:
            keys.create_tenant(tenant_id)
            sealed = None
            if fhir_token_file is not None:
                sealed = keys.seal(tenant_id, "fhir-token", fhir_token_file.read_bytes().strip())
            made = await tenants.save(
                connection,
                tenant_id,
                name=given["name"],
                fhir_url=fhir_url,
                fhir_token_sealed=sealed,
                changes={key: value for key, value in changes.items() if value is not None},
            )
            await templates.announce_platform_forms(connection, tenant_id)
        return made

    from document_service.tokens import tenant_id_problem

    problem = tenant_id_problem(tenant_id)
    if problem is not None:
        raise click.BadParameter(problem, param_hint="TENANT")
    made = run(apply())
    click.echo(json.dumps(_shown(made, settings)) if as_json else f"tenant {tenant_id} is ready")


@tenant.command()
@setting_options
@click.argument("tenant_id", metavar="TENANT")
@click.pass_obj
def show(options: Options, tenant_id: str) -> None:
    """One tenant's settings, as JSON; secrets are not shown."""
    from document_service import tenants

    settings = options.settings()

    async def read() -> Any:
        async with _owner(settings) as connection:
            return await tenants.show(connection, tenant_id)

    click.echo(json.dumps(_shown(run(read()), settings), indent=2))


@tenant.command("list")
@setting_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_tenants(options: Options, as_json: bool) -> None:
    """Every tenant."""
    from document_service import tenants

    settings = options.settings()

    async def read() -> Any:
        async with _owner(settings) as connection:
            return await tenants.list_all(connection)

    rows = [_shown(row, settings) for row in run(read())]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(f"{row['tenant']:24} {row['name']:32} {row['fhirUrl'] or '(no FHIR server)'}")


@tenant.command()
@setting_options
@click.argument("tenant_id", metavar="TENANT")
@click.option("--confirm", required=True, help="The tenant's id once more.")
@click.pass_obj
def shred(options: Options, tenant_id: str, confirm: str) -> None:
    """Destroy a tenant's key: none of its documents can ever be opened again, not from a backup either."""
    from document_service import tenants
    from document_service.keys import KeyStore

    if confirm != tenant_id:
        raise click.BadParameter("it must repeat the tenant's id; nothing was destroyed", param_hint="--confirm")
    settings = options.settings()

    async def destroy() -> None:
        keys = KeyStore.open(settings.keys)
        async with _owner(settings) as connection:
            await tenants.show(connection, tenant_id)
            await tenants.mark_shredded(connection, tenant_id)
        # The row first: a key destroyed while the tenant still looks whole would fail its users without a reason.
        keys.shred(tenant_id)

    run(destroy())
    click.echo(f"the key of {tenant_id} is destroyed")
