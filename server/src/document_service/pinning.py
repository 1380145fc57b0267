"""Pin a platform form or follow it again, by whichever entry: the same rules and the same words in the audit trail."""

from __future__ import annotations

from document_service import audit, template_pins, templates
from document_service.database import Connection
from document_service.errors import NotFound, TemplateStateConflict
from document_service.templates import Template
from document_service.tokens import Caller


async def pin(connection: Connection, caller: Caller, template_id: str, version_id: str) -> Template:
    """Stay with a version of a platform form; the form as the tenant sees it then.

    Raises:
        NotFound: there is no such template, or it has no such version.
        TemplateStateConflict: it is the tenant's own, or the version was withdrawn.
    """
    template = await _platform_form(connection, caller, template_id)
    version = await templates.show_version(connection, version_id)
    if version.template_id != template.id:
        raise NotFound()
    if version.withdrawn_at is not None:
        raise TemplateStateConflict("This version was withdrawn; pin another one.")
    if await template_pins.pin(connection, caller.tenant, template.id, version.id, caller.user):
        await _record(connection, caller, "template.pin", template, versionId=version.id)
    return await templates.show(connection, caller, template_id)


async def follow(connection: Connection, caller: Caller, template_id: str) -> Template:
    """Follow the newest version of a platform form again; the form as the tenant sees it then.

    Raises:
        NotFound: there is no such template.
        TemplateStateConflict: it is the tenant's own.
    """
    template = await _platform_form(connection, caller, template_id)
    if await template_pins.follow(connection, caller.tenant, template.id):
        await _record(connection, caller, "template.follow", template)
    return await templates.show(connection, caller, template_id)


async def _platform_form(connection: Connection, caller: Caller, template_id: str) -> Template:
    template = await templates.show(connection, caller, template_id)
    if template.origin != "platform":
        raise TemplateStateConflict(
            "Only a platform form is pinned or followed; of your own forms you publish versions."
        )
    return template


async def _record(connection: Connection, caller: Caller, action: str, template: Template, **detail: str) -> None:
    event = audit.Event(action, caller.user, template_id=template.id, detail=detail)
    await audit.record(connection, caller.tenant, event)
