"""What differs between a fork and the form that it came from, each difference with who made it.

Three definitions are compared: the fork, the newest version of the platform's form, and the version that was forked.
Entries of lists (sections, fields, columns) are matched by what they say, so that a section put in between is one
difference and not one for each section below it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

By = Literal["platform", "tenant", "both"]


@dataclass(frozen=True, slots=True)
class Difference:
    """``pointer`` leads into the fork; for what only the platform has, to where it would stand there.

    ``kind`` is the fork's: it lacks what the platform has, has what the platform lacks, or says something else there.
    ``by``: the platform changed it since the fork, the tenant did, or both did and differently.
    """

    pointer: str
    kind: Literal["missing", "additional", "different"]
    by: By
    fork: Any
    platform: Any


#: Where one of the three has nothing.
_ABSENT: Any = object()


def compare(fork: Any, platform: Any, base: Any) -> tuple[Difference, ...]:
    """Every difference of ``fork`` from ``platform``, in the order of the fork; all three are parsed JSON."""
    return tuple(_differences("", fork, platform, base))


def _differences(at: str, fork: Any, platform: Any, base: Any) -> Iterator[Difference]:
    if _same(fork, platform):
        return
    if isinstance(fork, dict) and isinstance(platform, dict):
        was = base if isinstance(base, dict) else {}
        for key in [*fork, *(key for key in platform if key not in fork)]:
            pointer = f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
            yield from _differences(pointer, fork.get(key, _ABSENT), platform.get(key, _ABSENT), was.get(key, _ABSENT))
    elif isinstance(fork, list) and isinstance(platform, list):
        yield from _of_lists(at, fork, platform, base if isinstance(base, list) else [])
    else:
        yield _difference(at, fork, platform, base)


def _of_lists(at: str, fork: list[Any], platform: list[Any], base: list[Any]) -> Iterator[Difference]:
    ours, theirs, was = ([_text(entry) for entry in entries] for entries in (fork, platform, base))
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        for step in range(max(i_end - i, j_end - j)):
            mine = fork[i + step] if i + step < i_end else _ABSENT
            new = platform[j + step] if j + step < j_end else _ABSENT
            pointer = f"{at}/{min(i + step, i_end)}"
            if mine is not _ABSENT and _text(mine) in was:
                before = mine
            elif new is not _ABSENT and _text(new) in was:
                before = new
            else:
                paired = mine is not _ABSENT and new is not _ABSENT
                before = base[i + step] if paired and i + step < len(base) else _ABSENT
            yield from _differences(pointer, mine, new, before)


def _difference(at: str, fork: Any, platform: Any, base: Any) -> Difference:
    by: By = "platform" if _same(base, fork) else "tenant" if _same(base, platform) else "both"
    if fork is _ABSENT:
        return Difference(at, "missing", by, None, platform)
    if platform is _ABSENT:
        return Difference(at, "additional", by, fork, None)
    return Difference(at, "different", by, fork, platform)


def _same(one: Any, other: Any) -> bool:
    if one is _ABSENT or other is _ABSENT:
        return one is other
    return _text(one) == _text(other)


def _text(value: Any) -> str:
    # A draft may hold numbers that RFC 8785 refuses; here texts are only compared with each other.
    return json.dumps(value, sort_keys=True, default=str)
