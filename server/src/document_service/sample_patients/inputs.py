"""Made-up values for the inputs of a form, from the JSON Schema that describes them.

The author's own ``examples``, ``default``, ``const`` and ``enum`` come first; what is left is filled with the least
that the schema accepts. A ``pattern`` cannot be inverted: only an example satisfies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

#: Words that stand for text that somebody will write, in the languages that ship.
_WORDS: Mapping[str, str] = {"en": "Sample text", "fa": "متن نمونه", "ps": "د بېلګې متن"}

# A generated list shows that rows follow each other; two rows do.
_ROWS = 2

# Longer than any text that a form asks for at least; a schema that wants more is answered with a refusal elsewhere.
_MOST_CHARACTERS = 4000
_MOST_ENTRIES = 100


def sample_inputs(schema: Mapping[str, Any], locale: str) -> dict[str, Any]:
    """A value for every property of ``definition.inputs`` (checked); whether all are accepted, the caller checks."""
    value = _value({**schema, "type": "object"}, _WORDS.get(locale.split("-")[0], _WORDS["en"]))
    return value if isinstance(value, dict) else {}


def _value(schema: Mapping[str, Any], words: str) -> Any:
    if "const" in schema:
        return schema["const"]
    if schema.get("examples"):
        return schema["examples"][0]
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    declared = schema.get("type")
    types = declared if isinstance(declared, list) else [declared]
    # A list says more about a form than the text that may stand for it.
    for kind in ("array", "object", "string", "integer", "number", "boolean"):
        if kind in types:
            return _OF_TYPE[kind](schema, words)
    return None


def _text(schema: Mapping[str, Any], words: str) -> str:
    if schema.get("format") == "date":
        return "2026-09-14"
    if schema.get("format") == "date-time":
        return "2026-09-14T08:30:00+04:30"
    least = min(schema.get("minLength", 0), _MOST_CHARACTERS)
    text = words
    while len(text) < least:
        text = f"{text} {words}"
    most = schema.get("maxLength", len(text))
    return text[: max(0, most)].strip().ljust(min(least, max(0, most)), "x")


def _number(schema: Mapping[str, Any], _: str) -> int | Decimal:
    """The least number allowed and not below one, where one is allowed; whole where that is possible."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    number = Decimal(1)
    if low is not None:
        number = max(number, Decimal(str(low)))
    if above is not None and number <= Decimal(str(above)):
        number = Decimal(str(above)) + 1
    if high is not None:
        number = min(number, Decimal(str(high)))
    if below is not None and number >= Decimal(str(below)):
        number = Decimal(str(below)) - 1
        if above is not None and number <= Decimal(str(above)):
            number = (Decimal(str(below)) + Decimal(str(above))) / 2
    return int(number) if number == int(number) else number


def _list(schema: Mapping[str, Any], words: str) -> list[Any]:
    count = max(schema.get("minItems", 0), min(_ROWS, schema.get("maxItems", _ROWS)))
    entry = _value(schema.get("items", {"type": "string"}), words)
    if schema.get("uniqueItems"):
        if isinstance(entry, str) and not schema.get("items", {}).get("enum"):
            return [entry if number == 0 else f"{entry} {number + 1}" for number in range(min(count, _MOST_ENTRIES))]
        allowed = schema.get("items", {}).get("enum")
        return list(allowed[:count]) if allowed else [entry][:count]
    return [entry] * min(count, _MOST_ENTRIES)


def _object(schema: Mapping[str, Any], words: str) -> dict[str, Any]:
    return {name: _value(member, words) for name, member in schema.get("properties", {}).items()}


_OF_TYPE: Mapping[str, Any] = {
    "array": _list,
    "object": _object,
    "string": _text,
    "integer": _number,
    "number": _number,
    "boolean": lambda _schema, _words: True,
}


def without_patterns(schema: Any) -> Any:
    """A copy of an inputs schema in which no text needs a form that only its author knows."""
    if isinstance(schema, dict):
        return {
            key: without_patterns(value)
            for key, value in schema.items()
            if not (key == "pattern" and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [without_patterns(item) for item in schema]
    return schema
