"""``document-service template publish``: what an author does by POST …/{id}/publish, by the same way through."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import click

from document_service.commands.options import Options, run, setting_options
from document_service.commands.template_commands import EXIT_DATA, author, listed

if TYPE_CHECKING:
    from document_service.publishing import Published, Wanted
    from document_service.settings import Settings


@click.command()
@setting_options
@click.argument("template_id", metavar="TEMPLATE_ID")
@click.option("--tenant", "tenant_id", required=True, help="The tenant whose template it is.")
@click.option("--by", required=True, help="Who publishes it, for the audit trail.")
@click.option("--version", "semver", help="Number of the new version, such as 1.2.0; by what changed when left out.")
@click.option("--from", "effective_from", help="In use from this instant on, such as 2026-05-01T00:00:00Z.")
@click.option("--to", "effective_to", help="In use until this instant.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
@click.pass_obj
def publish(options: Options, /, template_id: str, tenant_id: str, by: str, as_json: bool, **wanted: str | None) -> int:
    """Check a draft, try it out in each of its locales, freeze it and make it current; exit 65 with problems.

    Refused and recorded as the route does it: problems are listed all at once, and nothing is published with one.
    """
    from document_service.errors import DefinitionInvalid

    chosen = _wanted(wanted)
    try:
        published = run(_publish(options.settings(), tenant_id, template_id, by, chosen))
    except DefinitionInvalid as refused:
        if as_json:
            click.echo(json.dumps({"problems": listed(refused.errors)}, ensure_ascii=False))
        for problem in refused.errors:
            click.echo(f"{problem.pointer or '(whole form)'}: {problem.title} [{problem.code}]", err=True)
        return EXIT_DATA
    version = published.version
    if as_json:
        shown = {"id": version.id, "templateId": template_id, "semver": version.semver, "checksum": version.checksum}
        click.echo(json.dumps({**shown, "warnings": listed(published.warnings)}, ensure_ascii=False))
        return 0
    for warning in published.warnings:
        click.echo(f"warning: {warning.pointer or '(whole form)'}: {warning.title} [{warning.code}]", err=True)
    click.echo(f"{template_id} {version.semver} is published: {version.id}")
    return 0


def _wanted(given: dict[str, str | None]) -> Wanted:
    """What the options choose, checked by the shape of the route's body."""
    from pydantic import ValidationError

    from document_service.api.shapes import PublishRequest
    from document_service.publishing import Wanted

    names = {"semver": "--version", "effectiveFrom": "--from", "effectiveTo": "--to"}
    body = dict(zip(names, (given["semver"], given["effective_from"], given["effective_to"]), strict=True))
    try:
        read = PublishRequest.model_validate_json(json.dumps(body))
    except ValidationError as refused:
        wrong = str(refused.errors()[0]["loc"][0])
        raise click.BadParameter(
            "allowed is a number such as 1.2.0" if wrong == "semver" else "allowed is an instant with its offset",
            param_hint=names[wrong],
        ) from None
    return Wanted(read.semver, read.effective_from, read.effective_to)


async def _publish(settings: Settings, tenant_id: str, template_id: str, by: str, wanted: Wanted) -> Published:
    from document_service import publishing, tenants
    from document_service.database import tenant_transaction
    from document_service.runtime import open_runtime

    caller = author(tenant_id, by)
    async with open_runtime(settings, typesetting=False, stays=False) as runtime:
        async with tenant_transaction(runtime.database.app, tenant_id) as connection:
            # Said before anything else: in a tenant that is not there, no template is.
            await tenants.show(connection, tenant_id)
        # A person types it once; a second run finds no draft, and publishes nothing twice.
        return await publishing.publish(runtime, caller, template_id, str(uuid.uuid4()), if_match=None, wanted=wanted)


COMMANDS: list[Any] = [publish]
