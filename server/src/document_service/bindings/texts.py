"""FHIRPath's text functions with RE2 in place of a backtracking engine, and with bounded results.

``(a+)+$`` never ends in Python's ``re``; a chain of ``replace('a', 'aaaaaaaaaa')`` fills any memory.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

import re2
from fhirpathpy.engine.util import get_data

from document_service.bindings.filters import FunctionRefused

Collection = list[Any]

# No text of a record that a page can hold is longer.
MOST_CHARACTERS = 100_000
# 1 MiB for a compiled pattern; RE2 refuses x{1000}{1000} instead of growing.
_MOST_PATTERN_MEMORY = 1 << 20


@lru_cache(maxsize=1024)  # A few patterns for each form that one process renders in turn.
def _pattern(source: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    options.max_mem = _MOST_PATTERN_MEMORY
    try:
        return re2.compile(source, options)
    except (re2.error, ValueError, UnicodeError):
        raise FunctionRefused("the regular expression is not RE2") from None


def _text(data: Collection) -> str | None:
    if not data:
        return None
    value = get_data(data[0])
    if len(data) > 1 or not isinstance(value, str):
        raise FunctionRefused("the function takes one text")
    return value


def _bounded(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise FunctionRefused("the text grew beyond its bound")
    return text


def _matches(ctx: dict[str, Any], data: Collection, pattern: Any) -> Any:
    text = _text(data)
    if text is None or not isinstance(pattern, str) or not pattern:
        return []
    return _pattern(pattern).search(text) is not None


def _matches_full(ctx: dict[str, Any], data: Collection, pattern: Any) -> Any:
    text = _text(data)
    if text is None or not isinstance(pattern, str) or not pattern:
        return []
    return _pattern(pattern).fullmatch(text) is not None


def _replace_matches(ctx: dict[str, Any], data: Collection, pattern: Any, substitution: Any) -> Any:
    text = _text(data)
    if text is None or not isinstance(pattern, str) or not isinstance(substitution, str):
        return []
    if not pattern:
        return text
    # FHIRPath writes groups as $1 or ${name}, RE2's Python face as \1 or \g<name>.
    escaped = substitution.replace("\\", "\\\\")
    python_form = re.sub(r"\$\{(\w+)\}", r"\\g<\1>", re.sub(r"\$(\d)", r"\\\1", escaped))
    if len(text) * max(1, len(substitution)) > 100 * MOST_CHARACTERS:
        raise FunctionRefused("the text would grow beyond its bound")
    return _bounded(_pattern(pattern).sub(python_form, text))


def _replace(ctx: dict[str, Any], data: Collection, pattern: Any, substitution: Any) -> Any:
    text = _text(data)
    if text is None or not isinstance(pattern, str) or not isinstance(substitution, str):
        return []
    if (text.count(pattern) if pattern else len(text) + 1) * len(substitution) > MOST_CHARACTERS:
        raise FunctionRefused("the text would grow beyond its bound")
    return _bounded(text.replace(pattern, substitution))


def _index_of(ctx: dict[str, Any], data: Collection, part: Any) -> Any:
    text = _text(data)
    return [] if text is None or not isinstance(part, str) else text.find(part)


def _starts_with(ctx: dict[str, Any], data: Collection, part: Any) -> Any:
    text = _text(data)
    return [] if text is None or not isinstance(part, str) else text.startswith(part)


def _ends_with(ctx: dict[str, Any], data: Collection, part: Any) -> Any:
    text = _text(data)
    return [] if text is None or not isinstance(part, str) else text.endswith(part)


def _join(ctx: dict[str, Any], data: Collection, separator: Any = "") -> Any:
    if not data:
        return []
    texts = [get_data(item) for item in data]
    if not all(isinstance(text, str) for text in texts):
        raise FunctionRefused("join() takes texts")
    separator = separator if isinstance(separator, str) else ""
    if sum(map(len, texts)) + len(separator) * len(texts) > MOST_CHARACTERS:
        raise FunctionRefused("the text would grow beyond its bound")
    return separator.join(texts)


def _amp(ctx: dict[str, Any], left: Any, right: Any) -> Any:
    return _bounded(("" if isinstance(left, list) else left) + ("" if isinstance(right, list) else right))


def _to_string(ctx: dict[str, Any], data: Collection) -> Any:
    if len(data) != 1:
        if data:
            raise FunctionRefused("toString() takes one item")
        return []
    value = get_data(data[0])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f") if abs(value.adjusted()) <= 40 else str(value)
    if isinstance(value, dict | list):
        return []
    return getattr(value, "asStr", None) or str(value)


_ONE, _TWO = {1: ["String"]}, {2: ["String", "String"]}

TEXT_FUNCTIONS: dict[str, dict[str, Any]] = {
    "matches": {"fn": _matches, "arity": _ONE},
    "matchesFull": {"fn": _matches_full, "arity": _ONE},
    "replaceMatches": {"fn": _replace_matches, "arity": _TWO},
    "replace": {"fn": _replace, "arity": _TWO},
    "indexOf": {"fn": _index_of, "arity": _ONE},
    "startsWith": {"fn": _starts_with, "arity": _ONE},
    "endsWith": {"fn": _ends_with, "arity": _ONE},
    "join": {"fn": _join, "arity": {0: [], 1: ["String"]}},
    "&": {"fn": _amp, "arity": {2: ["String", "String"]}},
    "toString": {"fn": _to_string},
}
