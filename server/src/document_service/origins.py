"""Where a fork came from, and how it differs from what the platform ships today."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from document_service import definitions, templates
from document_service.database import Connection
from document_service.definitions import Difference
from document_service.errors import TemplateStateConflict
from document_service.templates import Template, Version


@dataclass(frozen=True, slots=True)
class Three:
    """The definition of a fork (its draft, else its current version) as JSON text, and two versions of the form."""

    fork: str
    form: Template
    forked: Version
    newest: Version


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a fork came from; every difference of the fork from the newest version of that form."""

    form: Template
    forked: Version
    newest: Version
    differences: tuple[Difference, ...]

    @property
    def up_to_date(self) -> bool:
        """Whether nothing that the platform changed since the fork is missing in it."""
        return all(found.by == "tenant" for found in self.differences)


async def read(connection: Connection, template: Template) -> Three:
    """Read what is compared.

    Raises:
        TemplateStateConflict: the template is not a fork of a platform form.
    """
    if template.forked_from_platform_form_key is None or template.forked_from_version_id is None:
        raise TemplateStateConflict("Only a fork of a platform form has an origin to be compared with.")
    form = await templates.show_platform_form(connection, template.forked_from_platform_form_key)
    assert form.current_version_id is not None  # A platform form is made with its first version.
    forked = await templates.show_version(connection, template.forked_from_version_id)
    newest = await templates.show_version(connection, form.current_version_id)
    fork = template.draft_definition
    if fork is None:
        assert template.current_version_id is not None  # A fork begins with a draft, which only a publish takes away.
        fork = (await templates.show_version(connection, template.current_version_id)).definition
    return Three(fork, form, forked, newest)


async def compare(three: Three) -> Origin:
    """Compare, outside any transaction: two large forms take some tens of milliseconds."""
    texts = (three.fork, three.newest.definition, three.forked.definition)
    differences = await asyncio.to_thread(lambda: definitions.compare(*(json.loads(text) for text in texts)))
    return Origin(three.form, three.forked, three.newest, differences)
