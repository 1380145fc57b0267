"""JSON whose decimals keep the digits they were written with: 1.10 mmol/L must print as 1.10 (design §5)."""

from __future__ import annotations

import json
import re
import secrets
from decimal import Decimal
from typing import Any

# FHIR R4 asks for at least 18 digits of a decimal; beyond this exponent plain notation only adds zeros to the text.
_PLAIN_NOTATION_EXPONENT = -30


def loads_exact(text: bytes | str) -> Any:
    """Parse JSON with decimals as Decimal and whole numbers as int.

    Raises ValueError for what is not JSON: NaN and Infinity, a whole number of more than 4,300 digits and nesting
    deeper than Python's recursion limit included.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def dumps_exact(value: Any) -> bytes:
    """Serialise what :func:`loads_exact` gave, decimals with the digits they had; ASCII, so any text survives.

    Lone surrogates stay escaped: whether text may be printed is decided where it is printed.
    """
    # The C encoder cannot write a Decimal as a number, and an encoder in Python is about ten times slower. So each
    # decimal leaves as a string marked with a random word, and the marks and quotes are taken off afterwards.
    mark = secrets.token_hex(16)
    marked = 0

    def mark_decimal(item: object) -> str:
        nonlocal marked
        if not isinstance(item, Decimal) or not item.is_finite():
            raise TypeError(f"{type(item).__name__} is not JSON")
        marked += 1
        return mark + _digits(item)

    text = json.dumps(value, default=mark_decimal, separators=(",", ":"), allow_nan=False)
    if marked:
        text = re.sub(f'"{mark}([^"]+)"', r"\1", text)
    return text.encode("ascii")


def _digits(number: Decimal) -> str:
    exponent = number.as_tuple().exponent
    # str() writes 0.00000010 as 1.0E-7: the same number and precision, but not what the record says.
    if isinstance(exponent, int) and _PLAIN_NOTATION_EXPONENT <= exponent <= 0:
        return format(number, "f")
    return str(number)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
