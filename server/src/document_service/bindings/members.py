"""Steps of a path (``name``, ``Patient``, ``value``): nearly all of a form's evaluation is these.

The engine reads each name by a regular expression, copies the collection for every item and asks for the model's
tables again and again. Here each name is looked up in the same tables once for each path that it is met at; the
official suite runs through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhirpathpy.engine.nodes import FP_Quantity, ResourceNode
from fhirpathpy.models import models

R4: dict[str, Any] = models["r4"]
_ELSEWHERE: dict[str, str] = R4["pathsDefinedElsewhere"]
_CHOICES: dict[str, list[str]] = R4["choiceTypePaths"]
_TYPES: dict[str, str] = R4["path2Type"]

# A form meets a name at one or two paths; where a hostile record names its own types, the memory of them is bounded.
_MOST_PATHS = 64

#: The members of the JSON that a name may stand for (its own, and that of its extensions), with the type of each.
_Places = tuple[tuple[str, str, str], ...]


class _Element(ResourceNode):
    """The engine's node, made at half the cost: no record holds a kind of mapping other than ``dict``."""

    _data = None
    propName = None
    index = None

    def __init__(self, data: Any, path: str) -> None:
        self.data = data
        self.path = data["resourceType"] if isinstance(data, dict) and "resourceType" in data else path


def member(key: str) -> Callable[[dict[str, Any], list[Any]], list[Any]]:
    """The step that finds the children called ``key`` of every item, or with a capital the items of that type."""
    if key[:1].isupper():
        return lambda ctx, parent: [
            ResourceNode.create_node(item, key) for item in parent if _resource_type(item) == key
        ]
    known: dict[str | None, _Places] = {}

    def step(ctx: dict[str, Any], parent: list[Any]) -> list[Any]:
        found: list[Any] = []
        for item in parent:
            if isinstance(item, ResourceNode):
                data, path = item.data, item.path
            else:
                data, path = item, item.get("resourceType") if isinstance(item, dict) else None
            if not isinstance(data, dict):
                # The engine answers ``value`` of a literal quantity, whatever is asked; nothing else has members.
                if isinstance(data, FP_Quantity) and data.value is not None and key == "value":
                    found.append(ResourceNode(data.value, None))
                continue
            if path is not None and not isinstance(path, str):
                path = str(path) if path else None
            places = known.get(path)
            if places is None:
                if len(known) >= _MOST_PATHS:
                    known.clear()
                known[path] = places = _places(path, key)
            for name, extensions, kind in places:
                values, extended = data.get(name), data.get(extensions)
                if values is not None:
                    _collect(values, kind, found)
                if extended is not None:
                    _collect(extended, kind, found)
                if values is not None or extended is not None:
                    break
        return found

    return step


def _resource_type(item: Any) -> Any:
    data = item.data if isinstance(item, ResourceNode) else item
    return data.get("resourceType") if isinstance(data, dict) else None


def _places(path: str | None, key: str) -> _Places:
    child = f"{path}.{key}" if path else f"_.{key}"
    child = _ELSEWHERE.get(child, child)
    choices = _CHOICES.get(child)
    if choices:
        return tuple(
            (f"{key}{choice}", f"_{key}{choice}", _TYPES.get(child + choice, child + choice)) for choice in choices
        )
    if key == "extension":
        child = "Extension"
    return ((key, f"_{key}", _TYPES.get(child, child)),)


def _collect(part: Any, kind: str, found: list[Any]) -> None:
    if isinstance(part, list):
        found += [_Element(entry, kind) for entry in part]
    else:
        found.append(_Element(part, kind))
