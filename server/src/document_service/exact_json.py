"""JSON whose decimals keep the digits they were written with: 1.10 mmol/L must print as 1.10 (design §5)."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import Any

# FHIR R4 asks for at least 18 digits of a decimal; beyond this exponent plain notation only adds zeros to the text.
_PLAIN_NOTATION_EXPONENT = -30

# The records of FHIR nest about ten deep; the parser itself gives up at Python's recursion limit of 1,000.
MAX_DEPTH = 200


def loads_exact(
    text: bytes | str, object_pairs_hook: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> Any:
    """Parse JSON with decimals as Decimal and whole numbers as int; ``object_pairs_hook`` as for ``json.loads``.

    Raises ValueError for what is not JSON: NaN and Infinity, a whole number of more than 4,300 digits and nesting
    deeper than Python's recursion limit included.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def dumps_exact(value: Any) -> bytes:
    """Serialise what :func:`loads_exact` gave, decimals with the digits they had; ASCII, so any text survives.

    Lone surrogates stay escaped: whether text may be printed is decided where it is printed. Raises TypeError for
    what is not JSON and ValueError for nesting deeper than MAX_DEPTH.
    """
    parts: list[str] = []
    _write(value, parts.append, 0)
    return "".join(parts).encode("ascii")


def _write(value: Any, put: Any, depth: int) -> None:
    # The encoder of the standard library cannot write a Decimal as a number.
    if depth > MAX_DEPTH:
        raise ValueError("the JSON is nested too deeply")
    if isinstance(value, str):
        put(encode_basestring_ascii(value))
    elif isinstance(value, dict):
        mark = "{"
        for name, item in value.items():
            put(mark + encode_basestring_ascii(name) + ":")
            _write(item, put, depth + 1)
            mark = ","
        put("}" if value else "{}")
    elif isinstance(value, (list, tuple)):
        mark = "["
        for item in value:
            put(mark)
            _write(item, put, depth + 1)
            mark = ","
        put("]" if value else "[]")
    else:
        put(_scalar(value))


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        exponent = value.as_tuple().exponent
        # str() writes 0.00000010 as 1.0E-7: the same number and precision, but not what the record says.
        plain = isinstance(exponent, int) and _PLAIN_NOTATION_EXPONENT <= exponent <= 0
        return format(value, "f") if plain else str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
