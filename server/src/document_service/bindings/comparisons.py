"""Comparing and adding what the record holds: quantities with their units, dates with their zones, collections.

The engine compares a Quantity of the record with no literal at all, compares dates of the record as text, and moves a
sum of date and duration to UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from fhirpathpy.engine.invocations import equality, math
from fhirpathpy.engine.nodes import FP_DateTime, FP_Quantity, ResourceNode
from fhirpathpy.engine.util import arraify, get_data, is_number

from document_service.bindings.durations import add
from document_service.bindings.extensions import is_only_extension
from document_service.bindings.moments import DATE_PATHS

Collection = list[Any]

# UCUM units by dimension with their factor. Months and years are a dimension of their own: no number of days is one.
_FACTORS: dict[str, tuple[str, Decimal]] = {
    **{unit: ("mass", Decimal(factor)) for unit, factor in (
        ("kg", "1000"), ("g", "1"), ("mg", "1e-3"), ("ug", "1e-6"), ("ng", "1e-9"),
        ("[lb_av]", "453.59237"), ("[oz_av]", "28.349523125"))},
    **{unit: ("length", Decimal(factor)) for unit, factor in (
        ("km", "1000"), ("m", "1"), ("cm", "0.01"), ("mm", "1e-3"), ("[in_i]", "0.0254"), ("[ft_i]", "0.3048"))},
    **{unit: ("volume", Decimal(factor)) for unit, factor in (
        ("L", "1"), ("l", "1"), ("dL", "0.1"), ("dl", "0.1"), ("mL", "1e-3"), ("ml", "1e-3"), ("uL", "1e-6"))},
    **{unit: ("amount", Decimal(factor)) for unit, factor in (
        ("mol", "1"), ("mmol", "1e-3"), ("umol", "1e-6"), ("nmol", "1e-9"))},
    **{unit: ("time", Decimal(factor)) for unit, factor in (
        ("ms", "1e-3"), ("s", "1"), ("min", "60"), ("h", "3600"), ("d", "86400"), ("wk", "604800"))},
    "mo": ("months", Decimal(1)),
    "a": ("months", Decimal(12)),
}  # fmt: skip


def quantity_of(item: Any) -> tuple[Decimal, str] | None:
    """Value and UCUM code of a Quantity of the record or of a literal; None for anything else."""
    data = get_data(item)
    if isinstance(data, FP_Quantity):
        unit = FP_Quantity.timeUnitsToUCUM.get(data.unit, data.unit)
        return Decimal(data.value), str(unit or "'1'").strip("'")
    if isinstance(data, Mapping) and is_number(data.get("value")) and "resourceType" not in data:
        return Decimal(data["value"]), str(data.get("code") or data.get("unit") or "1")
    return None


def _reduced(unit: str) -> tuple[str, Decimal] | None:
    """Dimension and factor of ``unit`` or of a quotient of two units."""
    top, slash, bottom = unit.partition("/")
    first = _FACTORS.get(top)
    if not slash:
        return first
    second = _FACTORS.get(bottom)
    if first is None or second is None:
        return None
    return f"{first[0]}/{second[0]}", first[1] / second[1]


def compare_quantities(left: tuple[Decimal, str], right: tuple[Decimal, str]) -> int | None:
    """-1, 0 or 1; None where the units cannot be compared."""
    a, b = left[0], right[0]
    if left[1] != right[1]:
        first, second = _reduced(left[1]), _reduced(right[1])
        if first is None or second is None or first[0] != second[0]:
            return None
        a, b = a * first[1], b * second[1]
    return (a > b) - (a < b)


def _prepared(found: Collection) -> Collection:
    """Dates of the record as the engine's dates, so that zones and precision count, and without the engine's extra
    node for the extensions of a primitive (``_birthDate``)."""
    if len(found) > 1:
        found = [item for item in found if not is_only_extension(item)]
    return [
        (FP_DateTime(item.data) or item)
        if isinstance(item, ResourceNode) and item.path in DATE_PATHS and isinstance(item.data, str)
        else item
        for item in found
    ]


def _ordering(name: str) -> Any:
    engine: Any = getattr(equality, {"<": "lt", ">": "gt", "<=": "lte", ">=": "gte"}[name])
    accepted = {"<": (-1,), ">": (1,), "<=": (-1, 0), ">=": (0, 1)}[name]

    def order(ctx: dict[str, Any], left: Collection, right: Collection) -> Any:
        left, right = _prepared(left), _prepared(right)
        if len(left) == 1 and len(right) == 1:
            a, b = quantity_of(left[0]), quantity_of(right[0])
            if a is not None and b is not None:
                result = compare_quantities(a, b)
                return [] if result is None else [result in accepted]
        return engine(ctx, left, right)

    return order


def text_of(item: Any) -> str:
    """The text of one of the engine's dates or times, as it was written."""
    return str(item.asStr)


def _offset_of(item: Any) -> bool | None:
    """Whether a date with a time of day names its zone; None for anything else."""
    if isinstance(item, FP_DateTime) and "T" in text_of(item):
        time = text_of(item).partition("T")[2]
        return time.endswith("Z") or "+" in time or "-" in time
    return None


def _equal(ctx: dict[str, Any], left: Collection, right: Collection) -> Collection:
    left, right = _prepared(left), _prepared(right)
    if len(left) == 1 and len(right) == 1:
        zones = _offset_of(left[0]), _offset_of(right[0])
        if None not in zones and zones[0] != zones[1]:
            # Where one side names its zone and the other does not, nobody knows (FHIRPath §6.1.1).
            return []
        dates = isinstance(left[0], FP_DateTime), isinstance(right[0], FP_DateTime)
        if all(dates) and (zones[0] is None) != (zones[1] is None):
            # A day against a moment: equal as far as both go is unknown, else different; never a zone's doing.
            return [] if text_of(left[0])[:10] == text_of(right[0])[:10] else arraify(False)
    found: Collection = arraify(equality.equality(ctx, left, right))
    return found


def _unequal(ctx: dict[str, Any], left: Collection, right: Collection) -> Collection:
    return [not item for item in _equal(ctx, left, right)]


def _equivalent(ctx: dict[str, Any], left: Collection, right: Collection) -> Collection:
    if len(left) <= 1 and len(right) <= 1:
        return [bool(item) for item in equality.equival(ctx, left, right)]
    if len(left) != len(right):
        return [False]
    rest = list(right)
    for item in left:
        for index, other in enumerate(rest):
            if equality.equivalence(ctx, [item], [other]):
                del rest[index]
                break
        else:
            return [False]
    return [True]


def _not_equivalent(ctx: dict[str, Any], left: Collection, right: Collection) -> Collection:
    return [not _equivalent(ctx, left, right)[0]]


def _sum(name: str) -> Any:
    engine: Any = {"+": math.plus, "-": math.minus}[name]
    sign = {"+": 1, "-": -1}[name]

    def add_up(ctx: dict[str, Any], left: Collection, right: Collection) -> Any:
        left, right = _prepared(left), _prepared(right)
        if len(left) == 1 and len(right) == 1:
            start, duration = get_data(left[0]), get_data(right[0])
            text = text_of(start) if isinstance(start, FP_DateTime) else start
            if isinstance(text, str) and isinstance(duration, FP_Quantity):
                moved = add(text, duration, sign)
                return [] if moved is None else moved
        return engine(ctx, left, right)

    return add_up


_BOTH = {2: ["Any", "Any"]}

COMPARISON_FUNCTIONS: dict[str, dict[str, Any]] = {
    **{name: {"fn": _ordering(name), "arity": _BOTH, "nullable": True} for name in ("<", ">", "<=", ">=")},
    "=": {"fn": _equal, "arity": _BOTH, "nullable": True},
    "!=": {"fn": _unequal, "arity": _BOTH, "nullable": True},
    "~": {"fn": _equivalent, "arity": _BOTH},
    "!~": {"fn": _not_equivalent, "arity": _BOTH},
    "+": {"fn": _sum("+"), "arity": _BOTH, "nullable": True},
    "-": {"fn": _sum("-"), "arity": _BOTH, "nullable": True},
}
