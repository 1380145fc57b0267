"""What of a definition can still be checked for its meaning when the schema refuses other parts of it.

A binding with a mistyped type must not hide a label that lacks its translation: authors get everything at once. A
flawed entry is replaced by an empty one of the same name, so that what refers to it is not reported for its sake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from document_service.errors import Problem

_NEEDED = ("locales", "labels", "context", "bindings", "sections")

# Stand-ins that the checks of meaning have nothing to say about.
_CONTEXT: Mapping[str, Any] = {"search": "Basic"}
_BINDING: Mapping[str, Any] = {"type": "text"}
_SECTION: Mapping[str, Any] = {"type": "flawed"}


def sound_part(definition: Mapping[str, Any], flaws: Iterable[Problem]) -> dict[str, Any] | None:
    """The definition with a stand-in for each entry that one of ``flaws``, all of its schema's, is about.

    None when a member that everything else leans on is flawed as a whole.
    """
    flawed = {tuple(flaw.pointer.split("/")[1:3]) for flaw in flaws}
    whole = {parts[0] for parts in flawed if len(parts) == 1} | {
        parts[0] for parts in flawed if parts[:1] in (("locales",), ("translations",), ("requireOneOf",), ("inputs",))
    }
    if any(name not in definition or name in whole for name in _NEEDED):
        return None
    sound = {name: value for name, value in definition.items() if name not in whole}
    sound["labels"] = {
        locale: {key: text for key, text in words.items() if isinstance(text, str)}
        for locale, words in definition["labels"].items()
        if isinstance(words, dict)
    }
    for member, stand_in in (("context", _CONTEXT), ("bindings", _BINDING)):
        sound[member] = {
            name: stand_in if (member, name) in flawed else entry for name, entry in definition[member].items()
        }
    sound["sections"] = [
        _SECTION if ("sections", str(index)) in flawed else section
        for index, section in enumerate(definition["sections"])
    ]
    return sound


def is_about_a_stand_in(problem: Problem, sound: Mapping[str, Any]) -> bool:
    """Whether a problem of meaning is only that a flawed binding's true type is not known."""
    if problem.code != "BINDING_TYPE":
        return False
    named: Any = sound
    for part in problem.pointer.split("/")[1:]:
        named = named[int(part)] if isinstance(named, list) else named[part]
    return isinstance(named, str) and sound["bindings"].get(named) is _BINDING
