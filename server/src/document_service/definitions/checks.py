"""Every problem of a definition at once, each with a JSON pointer, a stable code and the remedy.

The order is structure, schema, then meaning (labels, paths, bindings against sections). Meaning is checked in every
part that the schema accepts, so that one slip neither brings ten problems nor hides another. Glyphs and a trial render
are the caller's, with typesetting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from document_service.definitions.canonical import is_exact_number
from document_service.definitions.expressions import ExpressionInvalid, parse_expression
from document_service.definitions.inputs import check_schema, escape_pointer
from document_service.definitions.model import (
    ENTRY_VARIABLE,
    PROVIDED_BINDINGS,
    PROVIDED_VARIABLES,
    STEPPED_TYPES,
    Definition,
    from_json,
)
from document_service.definitions.searches import check_searches
from document_service.definitions.sections import check_sections, placeholders
from document_service.definitions.sound_part import is_about_a_stand_in, sound_part
from document_service.errors import DefinitionInvalid, Problem
from document_service.formatting.dosage_words import DOSAGE_WORD_KEYS, LATER_WORDS
from document_service.formatting.isolation import UnprintableText, clean
from document_service.formatting.locales import STANDARD_LABEL_KEYS, STANDARD_WORDS

# A definition is at most 256 KiB of JSON; the largest platform form has 20. The bounds keep a check under 100 ms.
MOST_VALUES = 20_000
MOST_DEPTH = 24
MOST_CHARACTERS = 256 * 1024
# A person mends the first hundred and saves again.
MOST_PROBLEMS = 100
# All paths of a definition together: 500 nodes a path and 200 paths would still take a second for one page.
MOST_EXPRESSION_CHARACTERS = 32 * 1024

Path = tuple[str | int, ...]


def pointer(path: Path) -> str:
    """The JSON pointer (RFC 6901) of a path of keys and indexes; bounded, because keys may be hostile."""
    return "".join(f"/{escape_pointer(str(part)[:80])}" for part in path)


@lru_cache(maxsize=1)
def definition_schema() -> dict[str, Any]:
    """The published JSON Schema of definitions, as editors use it."""
    schema: dict[str, Any] = json.loads(
        files("document_service.definitions").joinpath("definition.schema.json").read_text(encoding="utf-8")
    )
    return schema


@lru_cache(maxsize=1)
def _validator() -> Draft202012Validator:
    return Draft202012Validator(definition_schema())


def _structure(definition: object) -> Iterator[Problem]:
    """Size, depth, numbers and characters; iterative, so that hostile nesting cannot overflow the stack."""
    stack: list[tuple[object, Path]] = [(definition, ())]
    values = characters = 0
    while stack:
        value, path = stack.pop()
        values += 1
        if isinstance(value, str):
            characters += len(value)
        if values > MOST_VALUES or characters > MOST_CHARACTERS:
            yield Problem("", "DEFINITION_TOO_LARGE", f"Make the form smaller: {MOST_CHARACTERS // 1024} KiB at most.")
            return
        if len(path) > MOST_DEPTH:
            yield Problem(pointer(path), "DEFINITION_TOO_DEEP", f"Nest the definition at most {MOST_DEPTH} levels.")
            return
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    yield Problem(pointer(path), "NOT_JSON", "Write the names of members as text.")
                    return
                characters += len(key)
                if _unprintable(key):
                    yield Problem(pointer(path), "TEXT_UNPRINTABLE", "Remove control characters from this name.")
                stack.append((item, (*path, key)))
        elif isinstance(value, list):
            stack.extend((item, (*path, index)) for index, item in enumerate(value))
        elif isinstance(value, bool) or value is None:
            continue
        elif isinstance(value, str):
            if _unprintable(value):
                yield Problem(pointer(path), "TEXT_UNPRINTABLE", "Remove control characters and broken characters.")
        elif isinstance(value, int | float | Decimal):
            if not is_exact_number(value):
                yield Problem(pointer(path), "NUMBER_INEXACT", "Write this number with fewer digits, or as text.")
        else:
            yield Problem(pointer(path), "NOT_JSON", "Write JSON: objects, arrays, text, numbers, true, false, null.")


def _unprintable(text: str) -> bool:
    try:
        clean(text)
    except UnprintableText:
        return True
    return False


# The remedy for each keyword of the schema; jsonschema's own words quote whole parts of the definition.
_REMEDIES: Mapping[str, tuple[str, str]] = {
    "required": ("MEMBER_MISSING", "Add {names}."),
    "additionalProperties": ("MEMBER_UNKNOWN", "Remove or correct {names}; the language has no such member here."),
    "type": ("TYPE", "Write a value of type {value} here."),
    "enum": ("VALUE_UNKNOWN", "Use one of: {value}."),
    "const": ("VALUE_UNKNOWN", "Use {value}."),
    "pattern": ("VALUE_SHAPE", "Write the value in the form {value}."),
    "minLength": ("TOO_SHORT", "Write at least {value} characters."),
    "maxLength": ("TOO_LONG", "Write at most {value} characters."),
    "minItems": ("TOO_FEW", "Give at least {value}."),
    "maxItems": ("TOO_MANY", "Give at most {value}."),
    "minProperties": ("TOO_FEW", "Give at least {value}."),
    "maxProperties": ("TOO_MANY", "Give at most {value}."),
    "minimum": ("OUT_OF_RANGE", "Use at least {value}."),
    "maximum": ("OUT_OF_RANGE", "Use at most {value}."),
    "uniqueItems": ("NOT_UNIQUE", "Give each entry once."),
    "oneOf": ("MEMBER_CHOICE", "Give exactly one of the members that exclude each other, such as path or input."),
}


def _leaf_errors(error: ValidationError) -> Iterator[ValidationError]:
    """The errors that name a remedy: below oneOf the branch with the fewest, elsewhere the error itself."""
    if error.validator == "oneOf" and error.context and not _chooses_members(error):
        branches: dict[Any, list[ValidationError]] = {}
        for sub in error.context:
            branches.setdefault(sub.schema_path[0], []).append(sub)
        for sub in min(branches.values(), key=len):
            yield from _leaf_errors(sub)
    else:
        yield error


def _chooses_members(error: ValidationError) -> bool:
    branches: Any = error.validator_value
    return all(set(branch) == {"required"} for branch in branches)


def _schema_problems(definition: object) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for found in _validator().iter_errors(definition):
        for error in _leaf_errors(found):
            code, remedy = _REMEDIES.get(str(error.validator), ("SCHEMA", "Correct this part; see the schema."))
            value: Any = error.validator_value
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            text = remedy.format(names=_member_names(error), value=shown[:300])
            problem = Problem(pointer(tuple(error.absolute_path)), code, text)
            # jsonschema reports each missing member apart, and each report here names them all. A value that fits no
            # alternative is reported by each; the first is the widest.
            if (problem.pointer, code) not in seen:
                seen.add((problem.pointer, code))
                yield problem


def _member_names(error: ValidationError) -> str:
    """The members that are missing, or that the schema does not know."""
    if not isinstance(error.instance, dict):
        return ""
    wanted: Any = error.validator_value
    if error.validator == "required":
        return ", ".join(str(name) for name in wanted if name not in error.instance)
    schema: Any = error.schema
    known = schema.get("properties", ()) if isinstance(schema, dict) else ()
    return ", ".join(sorted(name[:40] for name in error.instance if name not in known)[:5])


def _says_dosages(definition: Mapping[str, Any]) -> bool:
    bindings = definition["bindings"].values()
    types = {sub["type"] for entry in bindings for sub in (entry, *entry.get("items", {}).values())}
    return not types.isdisjoint({"dosage", "dispenseRequest"})


def _label_problems(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """A label in one locale is there in every locale, with the same placeholders."""
    labels, locales = definition["labels"], definition["locales"]
    for locale in locales:
        if locale not in labels:
            yield Problem("/labels", "LABEL_MISSING", f"Add the labels of the locale {locale}.")
    for locale in labels:
        if locale not in locales:
            yield Problem(
                pointer(("labels", locale)), "LOCALE_UNDECLARED", "Declare this locale in locales, or remove it."
            )
    for locale in definition.get("translations", {}):
        if locale not in locales:
            yield Problem(pointer(("translations", locale)), "LOCALE_UNDECLARED", "Declare this locale, or remove it.")
    present = [locale for locale in locales if locale in labels]
    keys = sorted({key for locale in present for key in labels[locale]})
    provided = {*STANDARD_LABEL_KEYS, *(DOSAGE_WORD_KEYS if _says_dosages(definition) else ())}
    required = provided - LATER_WORDS
    for locale in present:
        words = labels[locale]
        needed = keys if locale in STANDARD_WORDS else sorted({*keys, *required})
        for key in needed:
            if key not in words and not (key in provided and locale in STANDARD_WORDS):
                yield Problem(pointer(("labels", locale)), "LABEL_MISSING", f"Add the label {key} in {locale}.")
    for key in keys:
        wanted: set[str] | None = {"page", "pages"} if key == "pageOf" else None
        if key in DOSAGE_WORD_KEYS:
            wanted = set(DOSAGE_WORD_KEYS[key])
        for locale in present:
            if key not in labels[locale]:
                continue
            at = pointer(("labels", locale, key))
            found = placeholders(labels[locale][key])
            if found is None:
                yield Problem(at, "PLACEHOLDER_SYNTAX", "Write placeholders as {name}; a brace alone as {{ or }}.")
                continue
            wanted = found if wanted is None else wanted
            if found != wanted:
                named = ", ".join(sorted(wanted)) or "none"
                yield Problem(at, "PLACEHOLDER_MISMATCH", f"Use the same placeholders in every locale: {named}.")


def _path_problems(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """Paths parse within their bounds, know their variables, and inputs are declared."""
    known = set(definition["context"]) | PROVIDED_VARIABLES
    inside = known | {ENTRY_VARIABLE}
    declared = definition.get("inputs", {}).get("properties", {})
    total = 0
    for name, entry in definition["bindings"].items():
        at = pointer(("bindings", name))
        entries = [(at, entry, "path", known)]
        if "parts" in entry:
            entries.append((at, entry, "parts", inside))
        entries += [(f"{at}/items/{item}", sub, "path", inside) for item, sub in entry.get("items", {}).items()]
        if "input" in entry and not (isinstance(declared, dict) and entry["input"] in declared):
            yield Problem(f"{at}/input", "INPUT_UNKNOWN", "Declare this input in inputs.properties.")
        for here, value, member, variables in entries:
            if value.get("values") and value["type"] not in ("code", "anyValue"):
                title = "Give words for codes only where the type is code or anyValue."
                yield Problem(f"{here}/values", "VALUES_NEED_CODE", title)
            if "join" in value and value["type"] in STEPPED_TYPES:
                yield Problem(f"{here}/join", "JOIN_NOT_HERE", "Leave join out: several dosages are steps of a course.")
            if member not in value:
                continue
            total += len(value[member])
            try:
                expression = parse_expression(value[member])
            except ExpressionInvalid as error:
                yield Problem(f"{here}/{member}", error.code, error.remedy)
                continue
            for variable in sorted(expression.variables - variables):
                yield Problem(f"{here}/{member}", "VARIABLE_UNKNOWN", f"Read %{variable[:60]} in context first.")
            if variables is known and not expression.variables:
                yield Problem(f"{here}/path", "PATH_ROOTLESS", "Begin the path with a variable, such as %patient.")
    if total > MOST_EXPRESSION_CHARACTERS:
        yield Problem(
            "/bindings", "TOO_COMPLEX", f"Shorten the paths to {MOST_EXPRESSION_CHARACTERS} characters in all."
        )


def _name_problems(definition: Mapping[str, Any]) -> Iterator[Problem]:
    for name in sorted(set(definition["context"]) & PROVIDED_VARIABLES):
        yield Problem(pointer(("context", name)), "NAME_TAKEN", "Choose another name; the service provides this one.")
    for name in sorted(set(definition["bindings"]) & PROVIDED_BINDINGS):
        yield Problem(pointer(("bindings", name)), "NAME_TAKEN", "Use it without a binding; the service provides it.")


def check(definition: object) -> list[Problem]:
    """Everything that is wrong with ``definition`` (parsed JSON), at most 100 problems; [] means it can be published.

    Never raises, whatever the JSON is.
    """
    problems = list(_first(_structure(definition)))
    if problems:
        return problems
    flaws = list(_first(_schema_problems(definition)))
    if not isinstance(definition, dict) or len(flaws) == MOST_PROBLEMS:
        return flaws
    problems = [*flaws]
    if isinstance(definition.get("inputs"), dict):
        problems.extend(check_schema(definition["inputs"]))
    sound = sound_part(definition, flaws) if flaws else definition
    if sound is not None:
        for part in (_name_problems, _label_problems, _path_problems, check_searches, check_sections):
            problems.extend(found for found in _first(part(sound)) if not is_about_a_stand_in(found, sound))
    return sorted(problems, key=lambda problem: _natural(problem.pointer))[:MOST_PROBLEMS]


def _first(problems: Iterator[Problem]) -> Iterator[Problem]:
    for _, problem in zip(range(MOST_PROBLEMS), problems, strict=False):
        yield problem


def _natural(text: str) -> list[tuple[int, str]]:
    """Order by document position as far as a pointer tells it: /sections/2 before /sections/10."""
    return [(int(part), "") if part.isascii() and part.isdigit() else (0, part) for part in re.split("/", text)[:32]]


def parse(definition: object) -> Definition:
    """The frozen model of a definition. Raises DefinitionInvalid with every problem."""
    problems = check(definition)
    if problems:
        raise DefinitionInvalid(errors=tuple(problems))
    assert isinstance(definition, dict)
    return from_json(definition)
