"""FHIRPath functions with a criterion, and the Boolean operators.

The engine evaluates each criterion twice (doubling at every level of nesting), leaves ``$this`` pointing into it, and
takes any element of the record for true, ``false`` included: ``where(doNotPerform)`` would keep the wrong orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import tzinfo
from decimal import Decimal
from functools import cmp_to_key
from typing import Any

from fhirpathpy.engine.util import get_data

from document_service.bindings.extensions import is_only_extension
from document_service.bindings.moments import date_text, place, zone_of

Collection = list[Any]
Expr = Callable[[Any], Collection]


class FunctionRefused(Exception):
    """The specification asks for an error here; carries no data."""


def truth(found: Any) -> bool | None:
    """Singleton evaluation (FHIRPath §4.5): None for empty, the Boolean itself, True for any other single item.

    Raises FunctionRefused for several items.
    """
    if not isinstance(found, list):
        found = [found]
    if not found:
        return None
    if len(found) > 1:
        raise FunctionRefused("a criterion found several items")
    value = get_data(found[0])
    return value if isinstance(value, bool) else True


def _each(ctx: dict[str, Any], data: Collection, expr: Expr) -> Iterator[tuple[Any, Collection]]:
    """Every item with what ``expr`` finds for it; ``$this`` and ``$index`` are as before afterwards."""
    outer = ctx.get("$this"), ctx.get("$index")
    try:
        for index, item in enumerate(data):
            ctx["$index"] = index
            yield item, expr(item)
    finally:
        ctx["$this"], ctx["$index"] = outer


def _where(ctx: dict[str, Any], data: Collection, expr: Expr) -> Collection:
    return [item for item, found in _each(ctx, data, expr) if truth(found)]


def _select(ctx: dict[str, Any], data: Collection, expr: Expr) -> Collection:
    return [result for _, found in _each(ctx, data, expr) for result in found]


def _all(ctx: dict[str, Any], data: Collection, expr: Expr) -> Collection:
    return [all(truth(found) is True for _, found in _each(ctx, data, expr))]


def _exists(ctx: dict[str, Any], data: Collection, expr: Expr | None = None) -> Collection:
    return [bool(data if expr is None else _where(ctx, data, expr))]


def _iif(
    ctx: dict[str, Any], data: Collection, condition: Expr, then: Expr, otherwise: Expr | None = None
) -> Collection:
    if len(data) > 1:
        raise FunctionRefused("iif takes at most one item")
    outer = ctx.get("$this")
    try:
        found = condition(data)
        if found and (len(found) > 1 or not isinstance(get_data(found[0]), bool)):
            raise FunctionRefused("the condition of iif is not a Boolean")
        if truth(found):
            return then(data)
        return otherwise(data) if otherwise is not None else []
    finally:
        ctx["$this"] = outer


def _coalesce(ctx: dict[str, Any], data: Collection, *options: Expr) -> Collection:
    outer = ctx.get("$this")
    try:
        for option in options:
            # Only an extension, such as the reason why there is none, is no value to fall back from.
            found = [item for item in option(data) if not is_only_extension(item)]
            if found:
                return found
        return []
    finally:
        ctx["$this"] = outer


def _single(ctx: dict[str, Any], data: Collection) -> Collection:
    if len(data) > 1:
        raise FunctionRefused("single() found several items")
    return data


def _not(ctx: dict[str, Any], data: Collection) -> Collection:
    value = truth(data)
    return [] if value is None else [not value]


def _has_value(ctx: dict[str, Any], data: Collection) -> Collection:
    if len(data) != 1:
        return [False]
    value = get_data(data[0])
    return [value is not None and not isinstance(value, dict | list)]


_TRUE, _FALSE = frozenset({"true", "t", "yes", "y", "1", "1.0"}), frozenset({"false", "f", "no", "n", "0", "0.0"})


def _to_boolean(ctx: dict[str, Any], data: Collection) -> Collection:
    """The engine's own does not look into values of the record."""
    if len(data) != 1:
        return []
    value = get_data(data[0])
    if isinstance(value, bool):
        return [value]
    text = str(value).lower() if isinstance(value, int | Decimal | str) else ""
    if isinstance(value, Decimal) and value in (0, 1):
        text = str(int(value))
    return [True] if text in _TRUE else [False] if text in _FALSE else []


def _converts_to_boolean(ctx: dict[str, Any], data: Collection) -> Collection:
    return [bool(_to_boolean(ctx, data))] if len(data) == 1 else []


class Descending:
    """The key of ``sort(-key)``: the specification lets the minus stand before text and dates too."""

    def __init__(self, key: Any) -> None:
        self.key = key


def _key(found: Collection, zone: tzinfo) -> tuple[int, Any]:
    """What one item is sorted by, and -1 before a key whose order is turned; dates as their place in time."""
    item = found[0] if found else None
    sign = 1
    if isinstance(item, Descending):
        sign, item = -1, item.key
    if is_only_extension(item):
        return sign, None
    text = date_text(item)
    return sign, get_data(item) if text is None else place(text, zone)


def _rank(left: tuple[int, Any], right: tuple[int, Any], zone: tzinfo) -> int:
    a, b = left[1], right[1]
    if a is None or b is None:
        # Nothing comes first in either order, as the official suite has it.
        return (a is not None) - (b is not None)
    if isinstance(a, tuple) != isinstance(b, tuple):
        # Text that a caller supplied, beside dates of the record.
        a, b = (place(key, zone) if isinstance(key, str) else key for key in (a, b))
    if isinstance(a, str) != isinstance(b, str) or isinstance(a, tuple) != isinstance(b, tuple):
        raise FunctionRefused("sort() found keys of different types")
    if isinstance(a, dict | list):
        raise FunctionRefused("sort() found keys that have no order")
    order: int = (a > b) - (a < b)
    return left[0] * order


def _sort(ctx: dict[str, Any], data: Collection, *keys: Expr) -> Collection:
    zone = zone_of(ctx)
    columns = [[_key(found, zone) for _, found in _each(ctx, data, key)] for key in keys]
    if not keys:
        columns = [[_key([item], zone) for item in data]]

    def compare(left: int, right: int) -> int:
        for column in columns:
            order = _rank(column[left], column[right], zone)
            if order:
                return order
        return 0

    return [data[index] for index in sorted(range(len(data)), key=cmp_to_key(compare))]


def _or(ctx: dict[str, Any], left: Collection, right: Collection) -> Collection:
    a, b = truth(left), truth(right)
    if a or b:
        return [True]
    return [False] if a is False and b is False else []


def _and(ctx: dict[str, Any], left: Collection, right: Collection) -> Collection:
    a, b = truth(left), truth(right)
    if a is False or b is False:
        return [False]
    return [True] if a and b else []


def _xor(ctx: dict[str, Any], left: Collection, right: Collection) -> Collection:
    a, b = truth(left), truth(right)
    return [] if a is None or b is None else [a != b]


def _implies(ctx: dict[str, Any], left: Collection, right: Collection) -> Collection:
    a, b = truth(left), truth(right)
    if a is False or b is True:
        return [True]
    return [b] if a is True and b is not None else []


_BOTH = {2: ["Any", "Any"]}

FILTER_FUNCTIONS: dict[str, dict[str, Any]] = {
    "where": {"fn": _where, "arity": {1: ["Expr"]}},
    "select": {"fn": _select, "arity": {1: ["Expr"]}},
    "all": {"fn": _all, "arity": {1: ["Expr"]}},
    "exists": {"fn": _exists, "arity": {0: [], 1: ["Expr"]}},
    "iif": {"fn": _iif, "arity": {2: ["Expr", "Expr"], 3: ["Expr", "Expr", "Expr"]}},
    "coalesce": {"fn": _coalesce, "variadic": "Expr"},
    "sort": {"fn": _sort, "variadic": "Expr"},
    "single": {"fn": _single},
    "not": {"fn": _not},
    "toBoolean": {"fn": _to_boolean},
    "convertsToBoolean": {"fn": _converts_to_boolean},
    "hasValue": {"fn": _has_value},
    "or": {"fn": _or, "arity": _BOTH},
    "and": {"fn": _and, "arity": _BOTH},
    "xor": {"fn": _xor, "arity": _BOTH},
    "implies": {"fn": _implies, "arity": _BOTH},
}
