"""What the search parameters of a ``context`` may say, for publishing and for the reader alike.

A parameter that the reader would refuse at each render is refused when the form is checked, with its pointer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from document_service.errors import Problem

# Results of these parameters are cut down, widened by other resources, or paged by the author instead of by us; the
# patient and the encounter are the service's to name.
_REFUSED = re.compile(r"_(?!sort$|lastUpdated$|id$).*|patient|subject|encounter|beneficiary")

_NAME = re.compile(r"_?[a-zA-Z][a-zA-Z-]{0,40}(:[a-zA-Z-]{1,40})?")

#: What is filled in: the request's ids, and inputs by their name (group 2).
PLACEHOLDER = re.compile(r"\{(patientId|encounterId|inputs\.([A-Za-z_][A-Za-z0-9_]{0,63}))\}")


def may_be_set(parameter: str) -> bool:
    """Whether a template may set this search parameter (with its modifier, such as ``code:in``)."""
    return _NAME.fullmatch(parameter) is not None and _REFUSED.fullmatch(parameter.partition(":")[0]) is None


def check_searches(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """Parameters that no template may set, and values whose placeholders some render could not fill."""
    schema = definition.get("inputs", {})
    declared, required = schema.get("properties", {}), schema.get("required", ())
    for name, entry in definition["context"].items():
        for parameter, value in entry.get("params", {}).items():
            at = f"/context/{name}/params/{parameter}"
            if not may_be_set(parameter):
                title = (
                    "Remove it: the service names patient and encounter itself, and results are never cut or widened."
                )
                yield Problem(at, "PARAMETER_REFUSED", title)
            for one in value if isinstance(value, list) else [value]:
                yield from _values(at, one, declared, required)


def _values(at: str, value: str, declared: Any, required: Any) -> Iterator[Problem]:
    if "{" in PLACEHOLDER.sub("", value) or "}" in PLACEHOLDER.sub("", value):
        title = "Placeholders here are {patientId}, {encounterId} and {inputs.name}."
        yield Problem(at, "PLACEHOLDER_SYNTAX", title)
    for match in PLACEHOLDER.finditer(value):
        wanted = match[2]
        if wanted is not None and wanted not in declared:
            yield Problem(at, "INPUT_UNKNOWN", "Declare this input in inputs.properties.")
        elif wanted is not None and wanted not in required:
            # Left out, the search would find more than the form means to; so the reader refuses, at each such render.
            yield Problem(at, "INPUT_OPTIONAL", f"Name {wanted} in inputs.required: a search cannot go without it.")
