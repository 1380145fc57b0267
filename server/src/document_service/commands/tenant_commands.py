"""``document-service tenant``: organisations and what they decide. Runs as the owner role, while ``serve`` runs too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from document_service.commands.options import Options, run, setting_options
from document_service.commands.owner import owner_transaction
from document_service.settings import Settings, parse_duration

# Half an hour of a link of 64 kbit/s, which a device spends once and while nothing else waits.
DEFAULT_PREFETCH_BYTES = 16 * 1024 * 1024


def _seconds(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return int(parse_duration(text).total_seconds())
    except ValueError as reason:
        raise click.BadParameter(str(reason), param_hint=option) from None


async def _shown(connection: Any, tenant: Any, settings: Settings) -> dict[str, Any]:
    from document_service import branding

    brand = await branding.show(connection, tenant.tenant_id)
    return {
        "tenant": tenant.tenant_id,
        "name": brand.name or tenant.name,
        "fhirUrl": tenant.fhir_url,
        "fhirToken": "(sealed)" if tenant.fhir_token_sealed else None,
        "address": list(brand.address),
        "phone": brand.phone,
        "footer": brand.footer,
        "accent": brand.accent,
        "logoSha256": brand.logo_sha256,
        "timeZone": tenant.profile.time_zone,
        "digits": tenant.profile.digits,
        "calendar": tenant.profile.calendar,
        "requireReviewedTranslations": not tenant.profile.allow_unreviewed_translations,
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
@click.option("--footer", help="A line at the foot of every page.")
@click.option("--accent", help="Colour of headings and rules as #rrggbb, dark enough to read on white.")
@click.option(
    "--logo",
    "logo_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PNG or JPEG of at most 256 KB, printed at the head of every form.",
)
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
@click.option(
    "--on-expiry",
    type=click.Choice(["hide", "delete"]),
    help="Whether a device keeps the hidden bytes of an expired copy for a confirmation (72 hours at most).",
)
@click.option(
    "--prefetch-days",
    type=click.IntRange(1, 365),
    help="Devices fetch documents up to so many days old before anybody asks.",
)
@click.option(
    "--prefetch-category",
    "prefetch_categories",
    multiple=True,
    help="Only documents of this category; repeat it. All when none is named.",
)
@click.option(
    "--prefetch-bytes",
    type=click.IntRange(min=1),
    help=f"At most so many bytes of them together; {DEFAULT_PREFETCH_BYTES} when not given.",
)
@click.option("--no-prefetch", is_flag=True, help="Devices fetch only what their users asked for.")
@click.option(
    "--stamp-prints/--no-stamp-prints",
    default=None,
    help='Devices put "printed offline, copy n, as of ..." on the copies that they print.',
)
@click.option("--allow-reprint/--no-reprint", default=None, help="Render versions past their effectiveTo.")
@click.option(
    "--require-reviewed-translations/--allow-unreviewed-translations",
    "require_reviewed",
    default=None,
    help="Refuse platform forms in a locale that nobody reviewed, until an administrator accepts it.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def create(
    options: Options, /, tenant_id: str, fhir_url: str | None, fhir_token_file: Path | None, **given: Any
) -> None:
    """Create a tenant, or change what is given of one that exists."""
    from document_service import audit, templates, tenants

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
    looks = _looks(given)
    changes = {
        "time_zone": time_zone,
        "digits": given["digits"],
        "calendar": given["calendar"],
        "allow_reprint": given["allow_reprint"],
        "allow_unreviewed_translations": None if given["require_reviewed"] is None else not given["require_reviewed"],
        "cache_ttl_seconds": _seconds(given["cache_ttl"], "--cache-ttl"),
        "lease_seconds": _seconds(given["lease"], "--lease"),
        "quota_bytes": given["cache_quota"],
        "on_expiry": given["on_expiry"],
        "stamp_prints": given["stamp_prints"],
        "prefetch": _prefetch(given),
    }
    settings = options.begin()
    changed = _typed()

    async def apply() -> Any:
        async with owner_transaction(settings) as connection:
            keys = await _keys_of(settings, connection, tenant_id)
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
            await _brand(connection, tenant_id, looks, given["logo_file"])
            if made.policy_version > 1:
                # Where a tenant's data come from and how long devices keep them is somebody's decision.
                detail = {"changed": changed} | ({} if fhir_url is None else {"fhirUrl": fhir_url})
                await audit.record(connection, tenant_id, audit.Event("tenant.change", "operator", detail=detail))
            return await _shown(connection, made, settings)

    from document_service.tokens import tenant_id_problem

    problem = tenant_id_problem(tenant_id)
    if problem is not None:
        raise click.BadParameter(problem, param_hint="TENANT")
    shown = run(apply())
    lacks = "" if shown["fhirUrl"] else "; it has no FHIR server yet: give --fhir-url before the first document"
    click.echo(json.dumps(shown) if as_json else f"tenant {tenant_id} is ready{lacks}")


def _prefetch(given: dict[str, Any]) -> dict[str, Any] | None:
    """The prefetch rule that the options name; empty for none, None when they leave it as it is."""
    from document_service.templates import CATEGORIES

    days, categories, size = given["prefetch_days"], given["prefetch_categories"], given["prefetch_bytes"]
    if given["no_prefetch"]:
        if days or categories or size:
            raise click.BadParameter("it goes with no other option of prefetch", param_hint="--no-prefetch")
        return {}
    if days is None:
        if categories or size:
            raise click.BadParameter("say how old the documents may be", param_hint="--prefetch-days")
        return None
    unknown = sorted(set(categories) - set(CATEGORIES))
    if unknown:
        raise click.BadParameter(f"allowed are {', '.join(CATEGORIES)}", param_hint="--prefetch-category")
    return {"categories": sorted(set(categories)), "days": days, "maxBytes": size or DEFAULT_PREFETCH_BYTES}


def _typed() -> list[str]:
    """The options of the running command that somebody typed, by name."""
    context = click.get_current_context()
    typed = (name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE)
    return sorted(name for name in typed if name not in ("tenant_id", "as_json"))


def _looks(given: dict[str, Any]) -> dict[str, Any]:
    """What the options say about the tenant's pages; refused as wrong options when a page could not show it."""
    from document_service import branding
    from document_service.typesetting.labels import undrawable

    looks = {field: given[field] for field in ("phone", "footer", "accent") if given[field] is not None}
    if given["address"]:
        looks["address"] = tuple(given["address"])
    named = looks | ({} if given["name"] is None else {"name": given["name"]})
    for problem in branding.check(named):
        raise click.BadParameter(problem.title, param_hint=f"--{problem.pointer.split('/')[1]}")
    for pointer, _, text in branding.texts(named):
        if undrawable(text):
            raise click.BadParameter(
                f"no font of the service draws {', '.join(undrawable(text))}", param_hint=f"--{pointer.split('/')[1]}"
            )
    # The name stands in the tenant's own row; one that an administrator had chosen gives way to it.
    return looks | ({} if given["name"] is None else {"name": None})


async def _keys_of(settings: Settings, connection: Any, tenant_id: str) -> Any:
    """The key folder with a key of this tenant, made for a new one.

    Raises TenantKeyMissing for a known tenant without one: another key opens nothing of it, and what is made with that
    is lost when the right one is back.
    """
    from document_service import runtime, tenants
    from document_service.errors import TenantKeyMissing

    keys = await runtime.open_keys(settings, connection)
    if await tenants.is_there(connection, tenant_id) and not keys.has_tenant(tenant_id):
        raise TenantKeyMissing(f"put its key back into {settings.keys}")
    keys.create_tenant(tenant_id)
    return keys


async def _brand(connection: Any, tenant_id: str, looks: dict[str, Any], logo_file: Path | None) -> None:
    from document_service import branding
    from document_service.errors import LogoRefused
    from document_service.scanner import MAX_LOGO_BYTES, read_logo

    if logo_file is not None:
        if logo_file.stat().st_size > MAX_LOGO_BYTES:
            raise click.BadParameter(f"the file has more than {MAX_LOGO_BYTES // 1024} KB", param_hint="--logo")
        try:
            logo = await read_logo(logo_file.read_bytes())
        except LogoRefused as reason:
            raise click.BadParameter(str(reason.detail), param_hint="--logo") from None
        kept = branding.KeptLogo(logo.sha256, logo.content_type, logo.width, logo.height, logo.content)
        await branding.keep_logo(connection, tenant_id, kept, "operator")
        looks = looks | {"logo_sha256": logo.sha256}
    if looks:
        before = await branding.show(connection, tenant_id)
        await branding.save(connection, before, looks, "operator", only_after=False)


@tenant.command()
@setting_options
@click.argument("tenant_id", metavar="TENANT")
@click.pass_obj
def show(options: Options, tenant_id: str) -> None:
    """One tenant's settings, as JSON; secrets are not shown."""
    from document_service import tenants

    settings = options.settings()

    async def read() -> Any:
        async with owner_transaction(settings) as connection:
            return await _shown(connection, await tenants.show(connection, tenant_id), settings)

    click.echo(json.dumps(run(read()), indent=2))


@tenant.command("list")
@setting_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_tenants(options: Options, as_json: bool) -> None:
    """Every tenant."""
    from document_service import tenants

    settings = options.settings()

    async def read() -> Any:
        async with owner_transaction(settings) as connection:
            return [await _shown(connection, row, settings) for row in await tenants.list_all(connection)]

    rows = run(read())
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
    from document_service import audit, render_jobs, retention, runtime, tenants
    from document_service.errors import TenantShredded

    if confirm != tenant_id:
        raise click.BadParameter("it must repeat the tenant's id; nothing was destroyed", param_hint="--confirm")
    settings = options.settings()

    async def destroy() -> None:
        async with owner_transaction(settings) as connection:
            keys = await runtime.open_keys(settings, connection)
            # A shred that was cut off before its last step is gone on with.
            if not (keys.has_tenant(tenant_id) and await tenants.is_shredded(connection, tenant_id)):
                await tenants.show(connection, tenant_id)
                await retention.require_free(connection, tenant_id)
                await tenants.mark_shredded(connection, tenant_id, key_is_gone=False)
                await render_jobs.fail_all(connection, tenant_id, TenantShredded())
                await audit.record(connection, tenant_id, audit.Event("tenant.shred", "operator"))
        # The row first: a key destroyed while the tenant still looks whole would fail its users without a reason.
        keys.shred(tenant_id)

    run(destroy())
    click.echo(f"the key of {tenant_id} is destroyed")
