"""New identifiers: prefixed ULIDs for what this device makes, UUIDs for a person's actions."""

from __future__ import annotations

import os
import time

# Crockford's alphabet, as the ULID specification orders it.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(prefix: str) -> str:
    """Return ``prefix`` and a new ULID: 48 bits of milliseconds, 80 random bits."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return prefix + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def new_mutation_id() -> str:
    """Return a new clientMutationId: made once per action, kept for every retry."""
    import uuid

    return str(uuid.uuid4())
