"""Nodes of a FHIR record with extensions and no value, such as the reason why there is none (R4, extensibility)."""

from __future__ import annotations

from typing import Any

from fhirpathpy.engine.nodes import ResourceNode


def is_only_extension(item: Any) -> bool:
    """Whether a node carries the extensions of a primitive and no value; null in an array is one too."""
    data = item.data if isinstance(item, ResourceNode) else item
    return data is None or (isinstance(data, dict) and "extension" in data and data.keys() <= {"extension", "id"})
