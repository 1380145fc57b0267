"""Ids: a prefix that says what it names, and a ULID (contract §1); and the shapes that outside ids must have."""

from __future__ import annotations

import re
import uuid

from ulid import ULID

#: The prefixes of the contract's words, by the table that owns them.
PREFIXES = {
    "template": "tmpl_",
    "version": "tv_",
    "job": "rjob_",
    "document": "doc_",
    "upload": "upl_",
    "device": "dev_",
    "audit": "aud_",
    "object": "obj_",
    "hold": "hold_",
    "bulk": "bulk_",
}

#: FHIR R4 `id`: https://hl7.org/fhir/R4/datatypes.html#id
FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

#: Crockford base 32 as ULIDs are written.
_ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"


def new(kind: str) -> str:
    """Make an id such as ``doc_01J…`` for ``kind`` ("document"); ids made later sort later."""
    return PREFIXES[kind] + str(ULID())


def is_id(kind: str, text: str) -> bool:
    """Whether ``text`` has the shape of an id of ``kind``."""
    return re.fullmatch(PREFIXES[kind] + _ULID, text) is not None


def normal_uuid(text: str) -> str:
    """The canonical lower-case form of a UUID.

    Raises:
        ValueError: the text is not a UUID written with or without hyphens.
    """
    return str(uuid.UUID(text))
