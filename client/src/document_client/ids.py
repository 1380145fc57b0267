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


def made_at(identifier: str) -> float | None:
    """Return when an id was made, in seconds since 1970, as the ULID in it says; None when there is none in it."""
    from ulid import ULID

    try:
        return float(ULID.from_str(identifier.partition("_")[2]).timestamp)
    except ValueError:
        return None
