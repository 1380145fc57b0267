"""Steps of a path (``name``, ``Patient``, ``value``) as the engine takes them, at a third of its cost.

Nearly all of a form's evaluation is member access. The engine reads each name by a regular expression, copies the
collection for every item and asks for the model's tables again and again. This does the same walk once, over the same
tables; the official suite runs through it.
"""

from __future__ import annotations

from typing import Any

from fhirpathpy.engine.nodes import FP_Quantity, ResourceNode
from fhirpathpy.models import models

R4: dict[str, Any] = models["r4"]
_ELSEWHERE: dict[str, str] = R4["pathsDefinedElsewhere"]
_CHOICES: dict[str, list[str]] = R4["choiceTypePaths"]
_TYPES: dict[str, str] = R4["path2Type"]

Node = dict[str, Any]


def member(ctx: dict[str, Any], parent: list[Any], node: Node) -> list[Any]:
    """The children called ``node["key"]`` of every item, or with a capital the items of that resource type."""
    key: str = node["key"]
    if key[:1].isupper():
        return [ResourceNode.create_node(item, key) for item in parent if _resource_type(item) == key]
    found: list[Any] = []
    for item in parent:
        _step(item, key, found)
    return found


def _resource_type(item: Any) -> Any:
    data = item.data if isinstance(item, ResourceNode) else item
    return data.get("resourceType") if isinstance(data, dict) else None


def _step(item: Any, key: str, found: list[Any]) -> None:
    if isinstance(item, ResourceNode):
        data, path = item.data, item.path
    else:
        data, path = item, item.get("resourceType") if isinstance(item, dict) else None
    if not isinstance(data, dict):
        # The engine answers ``value`` of a literal quantity, whatever member is asked; nothing else has members.
        if isinstance(data, FP_Quantity) and data.value is not None and key == "value":
            found.append(ResourceNode(data.value, None))
        return
    child = f"{path}.{key}" if path else f"_.{key}"
    child = _ELSEWHERE.get(child, child)
    value, extensions = data.get(key), data.get(f"_{key}")
    choices = _CHOICES.get(child)
    if choices:
        for choice in choices:
            value, extensions = data.get(f"{key}{choice}"), data.get(f"_{key}{choice}")
            if value is not None or extensions is not None:
                child += choice
                break
    elif key == "extension":
        child = "Extension"
    child = _TYPES.get(child, child)
    for part in (value, extensions):
        if isinstance(part, list):
            found.extend([ResourceNode.create_node(entry, child) for entry in part])
        elif part is not None:
            found.append(ResourceNode.create_node(part, child))
