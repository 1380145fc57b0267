"""The values that a caller supplies: the bounded JSON Schema that describes them, and their check at intake.

A tenant writes the schema, so it is a hostile text: there are no references, no combinators and no pattern engine that
backtracks. What is left is linear in the size of the inputs.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import re2

from document_service.errors import Problem
from document_service.formatting.isolation import UnprintableText, clean

# Enough for any form seen; keeps a check of the inputs under a millisecond.
MOST_PROPERTIES = 200
MOST_DEPTH = 6
# RE2 is linear in text and pattern, and its memory grows with the pattern.
MOST_PATTERN = 500
# Reported at once; a caller mends the first hundred and asks again.
MOST_PROBLEMS = 100

_KEYWORDS: Mapping[str, Any] = {
    "type": (str, list),
    "title": str,
    "description": str,
    "examples": list,
    "default": object,
    "label": str,
    "properties": dict,
    "required": list,
    "additionalProperties": bool,
    "items": dict,
    "enum": list,
    "const": object,
    "minLength": int,
    "maxLength": int,
    "pattern": str,
    "format": str,
    "minimum": (int, float, Decimal),
    "maximum": (int, float, Decimal),
    "exclusiveMinimum": (int, float, Decimal),
    "exclusiveMaximum": (int, float, Decimal),
    "minItems": int,
    "maxItems": int,
    "uniqueItems": bool,
}
_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})
_FORMATS = frozenset({"date", "date-time"})


def _problem(pointer: str, title: str, code: str = "INPUTS_SCHEMA") -> Problem:
    return Problem(pointer, code, title)


def escape_pointer(member: str) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return member.replace("~", "~0").replace("/", "~1")


def check_schema(schema: Any, pointer: str = "/inputs", depth: int = 0) -> Iterator[Problem]:
    """Every problem of the schema at ``definition.inputs``; yields nothing when it is good."""
    if not isinstance(schema, dict):
        yield _problem(pointer, "Write a JSON Schema object here.")
        return
    if depth > MOST_DEPTH:
        yield _problem(pointer, f"Nest the inputs at most {MOST_DEPTH} levels deep.")
        return
    for keyword, value in schema.items():
        at = f"{pointer}/{escape_pointer(keyword)}"
        expected = _KEYWORDS.get(keyword)
        if expected is None:
            yield _problem(at, "Remove this keyword: inputs use a bounded part of JSON Schema, without references.")
        elif not isinstance(value, expected) or (isinstance(value, bool) and expected not in (bool, object)):
            yield _problem(at, "Give this keyword a value of its own type.")
    yield from _check_type(schema, pointer, depth)
    yield from _check_pattern(schema, pointer)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        if len(properties) > MOST_PROPERTIES:
            yield _problem(f"{pointer}/properties", f"Declare at most {MOST_PROPERTIES} properties.")
            return
        for name, sub in properties.items():
            at = f"{pointer}/properties/{escape_pointer(name)}"
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,63}", name):
                yield _problem(at, "Name inputs with letters, digits and underscores, at most 64.")
            yield from check_schema(sub, at, depth + 1)
    required = schema.get("required")
    if isinstance(required, list):
        for index, name in enumerate(required[:MOST_PROPERTIES]):
            if not isinstance(name, str) or not isinstance(properties, dict) or name not in properties:
                yield _problem(f"{pointer}/required/{index}", "Require only a property that is declared here.")
    if isinstance(schema.get("items"), dict):
        yield from check_schema(schema["items"], f"{pointer}/items", depth + 1)


def _check_type(schema: dict[str, Any], pointer: str, depth: int) -> Iterator[Problem]:
    declared = schema.get("type")
    types = declared if isinstance(declared, list) else [declared]
    if not types or any(not isinstance(name, str) or name not in _TYPES for name in types):
        yield _problem(f"{pointer}/type", f"Declare a type: one or more of {', '.join(sorted(_TYPES))}.")
    if depth == 0 and declared != "object":
        yield _problem(f"{pointer}/type", "The inputs as a whole have type object.")
    if "object" in types and schema.get("additionalProperties") is not False:
        yield _problem(pointer, "Set additionalProperties to false, so that a misspelt input is refused.")
    if isinstance(schema.get("enum"), list) and not schema["enum"]:
        yield _problem(f"{pointer}/enum", "List at least one value.")


def _check_pattern(schema: dict[str, Any], pointer: str) -> Iterator[Problem]:
    if isinstance(schema.get("format"), str) and schema["format"] not in _FORMATS:
        yield _problem(f"{pointer}/format", "Use one of the formats date and date-time, or a pattern.")
    pattern = schema.get("pattern")
    if not isinstance(pattern, str):
        return
    if len(pattern) > MOST_PATTERN:
        yield _problem(f"{pointer}/pattern", f"Shorten the pattern to {MOST_PATTERN} characters.")
    elif _compiled(pattern) is None:
        yield _problem(f"{pointer}/pattern", "Write the pattern in RE2 syntax (no look-around, no back-references).")


@lru_cache(maxsize=1024)  # A few patterns for each of some hundred definitions in use.
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    # 1 MiB for a compiled pattern; RE2 refuses x{1000}{1000} instead of growing.
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, ValueError, UnicodeError):
        return None


def _is_type(value: Any, name: str) -> bool:
    match name:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case "integer":
            return not isinstance(value, bool) and (
                isinstance(value, int) or (isinstance(value, float | Decimal) and value == int(value))
            )
        case _:
            return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_too_large(value: Any) -> bool:
    """A number that no form prints, and whose digits would take longer to write than the page."""
    if isinstance(value, int):
        return abs(value) >= 10**40
    return isinstance(value, float | Decimal) and not (math.isfinite(value) and math.fabs(value) < 1e40)


def _check_value(schema: Mapping[str, Any], value: Any, pointer: str) -> Iterator[Problem]:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if _is_too_large(value):
        yield Problem(pointer, "OUT_OF_RANGE", "Give a number below 10^40.")
        return
    if not any(_is_type(value, name) for name in types):
        yield Problem(pointer, "TYPE", f"Give a value of type {' or '.join(types)}.")
        return
    if "enum" in schema and not any(_same(value, allowed) for allowed in schema["enum"]):
        yield Problem(pointer, "ENUM", "Give one of the values that the form lists.")
    if "const" in schema and not _same(value, schema["const"]):
        yield Problem(pointer, "CONST", "Give the value that the form prescribes.")
    if isinstance(value, str):
        yield from _check_text(schema, value, pointer)
    elif isinstance(value, list):
        yield from _check_list(schema, value, pointer)
    elif isinstance(value, dict):
        yield from _check_object(schema, value, pointer)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        yield from _check_number(schema, value, pointer)


def _same(left: Any, right: Any) -> bool:
    """JSON equality: true is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _check_text(schema: Mapping[str, Any], value: str, pointer: str) -> Iterator[Problem]:
    if len(value) < schema.get("minLength", 0):
        yield Problem(pointer, "TOO_SHORT", f"Give at least {schema['minLength']} characters.")
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield Problem(pointer, "TOO_LONG", f"Give at most {schema['maxLength']} characters.")
        return
    try:
        clean(value)
    except UnprintableText:
        # Said now and not by a failed job later: the layout refuses the same characters.
        yield Problem(pointer, "UNPRINTABLE", "Remove control characters and broken characters.")
        return
    if "pattern" in schema:
        compiled = _compiled(schema["pattern"])
        if compiled is None or compiled.search(value) is None:
            yield Problem(pointer, "PATTERN", "Write the value in the form that the template prescribes.")
    if schema.get("format") == "date" and not _is_date(value):
        yield Problem(pointer, "FORMAT", "Give a date as YYYY-MM-DD.")
    if schema.get("format") == "date-time" and not _is_instant(value):
        yield Problem(pointer, "FORMAT", "Give an instant as YYYY-MM-DDThh:mm:ssZ or with an offset.")


def _is_date(value: str) -> bool:
    try:
        return re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value) is not None and bool(date.fromisoformat(value))
    except ValueError:
        return False


def _is_instant(value: str) -> bool:
    shape = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
    try:
        return re.fullmatch(shape, value) is not None and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _check_number(schema: Mapping[str, Any], value: int | float | Decimal, pointer: str) -> Iterator[Problem]:
    number = Decimal(str(value))
    bounds: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
        ("minimum", "at least", operator.lt),
        ("maximum", "at most", operator.gt),
        ("exclusiveMinimum", "more than", operator.le),
        ("exclusiveMaximum", "less than", operator.ge),
    )
    for keyword, words, beyond in bounds:
        if keyword in schema and beyond(number, Decimal(str(schema[keyword]))):
            yield Problem(pointer, "OUT_OF_RANGE", f"Give a number of {words} {schema[keyword]}.")


def _check_list(schema: Mapping[str, Any], value: list[Any], pointer: str) -> Iterator[Problem]:
    if len(value) < schema.get("minItems", 0):
        yield Problem(pointer, "TOO_SHORT", f"Give at least {schema['minItems']} entries.")
    # Without a bound of its own a list is still finite; 1,000 rows are more than any form holds.
    most = schema.get("maxItems", 1000)
    if len(value) > most:
        yield Problem(pointer, "TOO_LONG", f"Give at most {most} entries.")
        return
    if schema.get("uniqueItems"):
        seen = {repr(item) for item in value}
        if len(seen) < len(value):
            yield Problem(pointer, "NOT_UNIQUE", "Give each entry once.")
    if "items" in schema:
        for index, item in enumerate(value):
            yield from _check_value(schema["items"], item, f"{pointer}/{index}")


def _check_object(schema: Mapping[str, Any], value: dict[str, Any], pointer: str) -> Iterator[Problem]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield Problem(f"{pointer}/{escape_pointer(name)}", "REQUIRED", "Give this value; the form requires it.")
    for name, item in value.items():
        at = f"{pointer}/{escape_pointer(name)}"
        if name not in properties:
            yield Problem(at[:300], "UNKNOWN_INPUT", "Remove this value; the form does not take it.")
        else:
            yield from _check_value(properties[name], item, at)


def check_inputs(definition: Mapping[str, Any], inputs: Any) -> list[Problem]:
    """Every problem of a caller's ``inputs`` against ``definition.inputs``, as JSON pointers from ``/inputs``.

    Bounded: no references are followed, patterns run in RE2, at most 100 problems are reported. The titles never
    repeat the value, which may be patient data.
    """
    schema = definition.get("inputs") or {"type": "object", "additionalProperties": False}
    # Cheap beside the request (0.1 ms), and it makes the rest safe for a definition that was never published.
    if next(check_schema(schema), None) is not None:
        return [Problem("/inputs", "INPUTS_SCHEMA", "The template's schema of the inputs is not valid; republish it.")]
    if inputs is None:
        inputs = {}
    problems: list[Problem] = []
    for problem in _check_value(schema, inputs, "/inputs"):
        problems.append(problem)
        if len(problems) == MOST_PROBLEMS:
            break
    return problems
