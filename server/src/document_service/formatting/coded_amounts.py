"""What the codes of a dosage say as amounts, in the measures in which free words are compared with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from document_service.formatting.said_amounts import Claim, unit_amount


def coded_amounts(ordered: Iterable[Mapping[str, Any]]) -> Mapping[str, list[Claim]]:
    """The doses and rates of entries of ``doseAndRate`` that ``dosages`` could say, by the name of their unit."""
    amounts: dict[str, list[Claim]] = {}
    for entry in ordered:
        for name, claim in (*_doses(entry), *_rate(entry.get("rateRatio") or {})):
            amounts.setdefault(name, []).append(claim)
    return amounts


def _units(quantity: Mapping[str, Any]) -> set[str]:
    return {str(quantity[member]) for member in ("unit", "code") if quantity.get(member)}


def _doses(entry: Mapping[str, Any]) -> Iterator[tuple[str, Claim]]:
    for low, high in _ends(entry):
        for unit in _units(high):
            name, least = unit_amount(Decimal(low["value"]), unit)
            yield name, ((least, unit_amount(Decimal(high["value"]), unit)[1]),)


def _ends(entry: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The least and the most of each amount that has numbers; an open side of a range counts as its other."""
    for kind in ("dose", "rate"):
        if (entry.get(f"{kind}Quantity") or {}).get("value") is not None:
            yield entry[f"{kind}Quantity"], entry[f"{kind}Quantity"]
        span = entry.get(f"{kind}Range") or {}
        sides = [span[side] for side in ("low", "high") if (span.get(side) or {}).get("value") is not None]
        if sides:
            yield sides[0], sides[-1]


def _rate(ratio: Mapping[str, Any]) -> Iterator[tuple[str, Claim]]:
    """1000 mL in 8 h as 125 mL/h."""
    top, bottom = ratio.get("numerator") or {}, ratio.get("denominator") or {}
    if top.get("value") is None or not bottom.get("value"):
        return
    for unit in _units(top):
        for per in _units(bottom):
            name, amount = unit_amount(Decimal(top["value"]), f"{unit}/{per}")
            amount /= Fraction(bottom["value"])
            yield name, ((amount, amount),)
