"""New identifiers: prefixed ULIDs for what this device makes, UUIDs for a person's actions."""

from __future__ import annotations


def new_id(prefix: str) -> str:
    """Return ``prefix`` and a new ULID."""
    from ulid import ULID

    return f"{prefix}{ULID()}"


def new_mutation_id() -> str:
    """Return a new clientMutationId: made once per action, kept for every retry."""
    import uuid

    return str(uuid.uuid4())
