"""Reading definitions without losing digits, and the checksum that names one for ever."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

import rfc8785

# RFC 8785 numbers are IEEE doubles; integers beyond this lose digits in every JavaScript reader.
_LARGEST_INTEGER = 2**53 - 1


class JsonInvalid(ValueError):
    """The text is not JSON (RFC 8259), or nested beyond what any definition or resource is."""


def _refuse_constant(name: str) -> NoReturn:
    raise JsonInvalid(f"{name} is not a JSON number")


def read_json(text: bytes | str) -> Any:
    """Parse JSON with every decimal as written (1.10 stays 1.10). Raises JsonInvalid."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError:
        raise JsonInvalid("the JSON is nested too deeply") from None
    except ValueError:
        # The decoder's own message quotes the text, which may be patient data.
        raise JsonInvalid("the text is not JSON") from None


def is_exact_number(value: int | float | Decimal) -> bool:
    """Whether RFC 8785 keeps the number: integers within 2^53, decimals that a double holds."""
    if isinstance(value, int):
        return abs(value) <= _LARGEST_INTEGER
    if isinstance(value, float):
        return value == value and abs(value) != float("inf")
    return value.is_finite() and Decimal(repr(float(value))) == value


def _with_floats(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_floats(item) for item in value]
    return value


def canonical_json(definition: object) -> str:
    """The definition's RFC 8785 form, whatever reader parsed it: 1.50 and 1.5 are one number.

    Raises ValueError for numbers that RFC 8785 cannot carry; ``check`` reports those before.
    """
    return rfc8785.dumps(_with_floats(definition)).decode("utf-8")


def canonical_checksum(definition: object) -> str:
    """SHA-256 (hex) of ``canonical_json``: the name of a version's content for ever."""
    return hashlib.sha256(canonical_json(definition).encode("utf-8")).hexdigest()
