"""A request's body: values typed by the template's schema, checked on the device, written as bytes once.

Numbers keep the digits that were typed (``1.10`` is not ``1.1``): they travel as decimals, never as floats. What the
checks say names fields and rules, never the values that a person typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from .errors import InputsInvalid, LocaleUnsupported, UsageProblem

# FHIR R4, datatypes: id.
_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")


def parse_assignments(pairs: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``k=v`` pairs as values of the types that ``schema`` gives them; raises InputsInvalid.

    A name given several times is a list when the schema says so. A value that starts with ``[`` or ``{`` is JSON.
    """
    properties = schema.get("properties") or {}
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            problems.append(("/", "write each input as name=value"))
            continue
        if name not in properties:
            known = ", ".join(sorted(properties)) or "none"
            problems.append((f"/{name}", f"the template has no such input; it has: {known}"))
            continue
        rule = properties[name]
        try:
            if "array" in _types(rule) and not text.startswith("["):
                values.setdefault(name, []).append(_typed(text, rule.get("items") or {}))
            elif name in values:
                problems.append((f"/{name}", "given twice"))
            else:
                values[name] = _typed(text, rule)
        except ValueError as failure:
            problems.append((f"/{name}", str(failure)))
    if problems:
        raise InputsInvalid(_sentence(problems), errors=tuple(problems))
    return values


def _types(rule: Mapping[str, Any]) -> list[str]:
    kind = rule.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _typed(text: str, rule: Mapping[str, Any]) -> Any:
    kinds = _types(rule)
    if text.startswith(("[", "{")) and kinds != ["string"]:
        try:
            return json.loads(text, parse_float=Decimal)
        except ValueError:
            raise ValueError("is not valid JSON") from None
    if "boolean" in kinds:
        if text.lower() in ("true", "yes", "1"):
            return True
        if text.lower() in ("false", "no", "0"):
            return False
        if "string" not in kinds:
            raise ValueError("must be true or false")
    if "integer" in kinds and re.fullmatch(r"-?\d+", text):
        return int(text)
    # Decimal reads "2_5" as 25: a slip of the finger would be ten times the dose.
    if "number" in kinds and "_" not in text:
        try:
            number = Decimal(text)
            if number.is_finite():
                return number
        except InvalidOperation:
            pass
    if "null" in kinds and text == "":
        return None
    if kinds and "string" not in kinds:
        raise ValueError(f"must be of type {' or '.join(kinds)}")
    return text


def check_inputs(values: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Check ``values`` against the template's JSON Schema; raises InputsInvalid with every problem."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(_decimals(schema), format_checker=jsonschema.FormatChecker())
    problems: list[tuple[str, str]] = []
    for error in validator.iter_errors(dict(values)):
        pointer = "/" + "/".join(str(part) for part in error.absolute_path)
        if error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            problems += [(f"{pointer.rstrip('/')}/{name}", "is required") for name in missing]
        else:
            problems.append((pointer, _rule(error.validator, error.validator_value)))
    if problems:
        found = tuple(sorted(set(problems)))
        raise InputsInvalid(_sentence(found), errors=found)


def _rule(name: object, value: object) -> str:
    """Say which rule was broken, from the schema alone."""
    if name == "enum" and isinstance(value, list):
        return "must be one of " + ", ".join(str(v) for v in value)
    if name == "additionalProperties":
        return "has a field that the template does not know"
    if isinstance(value, (str, int, Decimal)) and not isinstance(value, bool):
        return f"does not fit the rule {name}: {value}"
    return f"does not fit the rule {name}"


def _sentence(problems: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{pointer}: {title}" for pointer, title in problems)


def _decimals(schema: Any) -> Any:
    return json.loads(json.dumps(schema), parse_float=Decimal)


def choose_locale(wanted: str | None, definition: Mapping[str, Any]) -> str:
    """Return the locale of a request: the one wanted, else English when the form has it, else the form's first."""
    offered = [str(locale) for locale in definition.get("locales") or ["en"]]
    if wanted is None:
        return "en" if "en" in offered else offered[0]
    for locale in offered:
        if locale.casefold() == wanted.casefold():
            return locale
    raise LocaleUnsupported(f"the template has {', '.join(offered)}")


def check_reference(text: str, kind: str) -> str:
    """Return the bare FHIR id of ``text`` (``Patient/x`` or ``x``); raises UsageProblem."""
    bare = text.strip().removeprefix(f"{kind}/")
    if not _FHIR_ID.match(bare):
        raise UsageProblem(f"the {kind.lower()} id must be 1 to 64 letters, digits, hyphens or dots")
    return bare


def check_birth_date(text: str) -> str:
    """Return a whole day of the Gregorian calendar; raises UsageProblem.

    Checked here, for the service's refusal would come with the next connection, which may be days later.
    """
    try:
        if not _DATE.match(text):
            raise ValueError
        date.fromisoformat(text)
    except ValueError:
        raise UsageProblem("the birth date must be a whole day, written as YYYY-MM-DD") from None
    return text


def to_bytes(value: Any) -> bytes:
    """Return compact JSON in UTF-8 in which decimals keep their digits."""
    return _text(value).encode()


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        # "1E+2" is JSON too, but nobody typed it that way.
        return format(value, "f")
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_text(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)
