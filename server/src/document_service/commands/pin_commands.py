"""``document-service template pin | unpin``: what a tenant's administrator does by PUT and DELETE …/{id}/pin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from document_service.commands.options import Options, run, setting_options
from document_service.commands.owner import owner_transaction

if TYPE_CHECKING:
    from document_service.database import Connection
    from document_service.templates import Template

_FORM = click.argument("form", metavar="FORM")
_TENANT = click.option("--tenant", "tenant_id", required=True, help="The tenant that pins or follows.")


def _administrator(tenant_id: str) -> Any:
    from document_service.tokens import TENANT_ADMIN, Caller

    return Caller(tenant_id, "operator", frozenset({TENANT_ADMIN}))


async def _named(connection: Connection, tenant_id: str, form: str) -> Template:
    """The form of an id or of a platform form's key. Raises NotFound."""
    from document_service import identifiers, templates, tenants

    await tenants.show(connection, tenant_id)
    if not identifiers.is_id("template", form):
        return await templates.show_platform_form(connection, form)
    return await templates.show(connection, _administrator(tenant_id), form)


@click.command()
@setting_options
@_FORM
@_TENANT
@click.option("--version", "semver", required=True, help="A published version of the form, such as 1.2.0.")
@click.pass_obj
def pin(options: Options, form: str, tenant_id: str, semver: str) -> None:
    """Stay with one version of a platform form (its key, such as referral-letter, or its id) across upgrades."""
    from document_service import pinning, templates
    from document_service.errors import NotFound

    async def apply() -> Template:
        async with owner_transaction(options.settings(), tenant_id) as connection:
            found = await _named(connection, tenant_id, form)
            versions = {one.semver: one.id for one in await templates.list_versions(connection, found)}
            if semver not in versions:
                raise NotFound(f"The form has {', '.join(versions) or 'no version'}.")
            return await pinning.pin(connection, _administrator(tenant_id), found.id, versions[semver])

    click.echo(f"{tenant_id} stays with {run(apply()).name} {semver}")


@click.command()
@setting_options
@_FORM
@_TENANT
@click.pass_obj
def unpin(options: Options, form: str, tenant_id: str) -> None:
    """Follow a platform form (its key, such as referral-letter, or its id) to its newest version again."""
    from document_service import pinning, templates

    async def apply() -> tuple[Template, str]:
        async with owner_transaction(options.settings(), tenant_id) as connection:
            found = await _named(connection, tenant_id, form)
            followed = await pinning.follow(connection, _administrator(tenant_id), found.id)
            assert followed.current_version_id is not None  # A platform form is made with its first version.
            return followed, (await templates.show_version(connection, followed.current_version_id)).semver

    followed, semver = run(apply())
    click.echo(f"{tenant_id} follows {followed.name}; now {semver}")


COMMANDS = (pin, unpin)
