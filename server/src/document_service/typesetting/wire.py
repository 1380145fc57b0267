"""Frames between the pool and its children: two lengths, a JSON head, then blobs one after another.

The head says how long each blob is. Both ends are this same version of the same package, started together, so there
is no negotiation; a frame that does not parse is a broken child.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

LENGTHS = struct.Struct("!II")

# A 300-page document is about 6 MB; ten times that is a runaway, not a document.
MAX_BODY = 64 * 1024 * 1024
MAX_HEAD = 4 * 1024 * 1024


class BrokenFrame(Exception):
    """The other end sent something that is not a frame of ours."""


def pack(head: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """Make one frame of ``head`` (plain JSON values) and ``blobs``."""
    text = json.dumps(head | {"blobs": [len(b) for b in blobs]}, separators=(",", ":")).encode()
    return b"".join((LENGTHS.pack(len(text), sum(map(len, blobs))), text, *blobs))


def lengths(prefix: bytes) -> tuple[int, int]:
    """Read the lengths of head and body.

    Raises:
        BrokenFrame: a length is beyond what either end ever sends.
    """
    head, body = LENGTHS.unpack(prefix)
    if head > MAX_HEAD or body > MAX_BODY:
        raise BrokenFrame("a frame is longer than the limit")
    return head, body


def unpack(frame: memoryview, head_length: int) -> tuple[dict[str, Any], list[bytes]]:
    """Split what follows the lengths into the head and its blobs.

    Raises:
        BrokenFrame: the head is not a JSON object, or its blobs do not add up.
    """
    try:
        head = json.loads(bytes(frame[:head_length]))
        sizes = head.pop("blobs")
    except (ValueError, KeyError, AttributeError) as error:
        raise BrokenFrame("the head of a frame does not parse") from error
    blobs, at = [], head_length
    for size in sizes:
        blobs.append(bytes(frame[at : at + size]))
        at += size
    if at != len(frame):
        raise BrokenFrame("the blobs of a frame do not add up")
    return head, blobs
