"""Where in a JSON text each value stands, so that a problem's pointer leads an editor to its line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from document_service.definitions.inputs import escape_pointer

_SKIPPED = re.compile(r"[\s,:]*")
_STRINGS = json.JSONDecoder(strict=False)
_SCALAR = re.compile(r"[^\s,\]}]+")


def lines_of(text: str) -> Mapping[str, int]:
    """The line (from 1) of every value of a JSON text that parses, by JSON pointer; the last of equal keys wins."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    found: dict[str, int] = {}
    # What is open: the pointer of the container, and the next index of an array or None in an object.
    open_: list[tuple[str, int | None]] = []
    at, line, pending = 0, 1, ""
    while at < len(text):
        match = _SKIPPED.match(text, at)
        at = match.end() if match else at
        if at >= len(text):
            break
        while line < len(starts) and starts[line] <= at:
            line += 1
        character = text[at]
        if character in "]}":
            open_.pop()
            at += 1
            continue
        if open_ and open_[-1][1] is None and not pending:
            key, at = _STRINGS.raw_decode(text, at)
            pending = f"{open_[-1][0]}/{escape_pointer(key)}"
            # The line of a member is the line of its name.
            found[pending] = line
            continue
        pointer = pending
        if open_ and not pending:
            outer, index = open_[-1]
            assert index is not None  # An object's member has a name, which is pending.
            pointer = f"{outer}/{index}"
            open_[-1] = (outer, index + 1)
        pending = ""
        found.setdefault(pointer, line)
        if character in "{[":
            open_.append((pointer, None if character == "{" else 0))
            at += 1
        elif character == '"':
            _, at = _STRINGS.raw_decode(text, at)
        else:
            scalar = _SCALAR.match(text, at)
            at = scalar.end() if scalar else at + 1
    return found


def line_of(lines: Mapping[str, int], pointer: str) -> int:
    """The line of a pointer, or of the nearest part around it that is there."""
    while pointer and pointer not in lines:
        pointer = pointer.rpartition("/")[0]
    return lines.get(pointer, 1)
