"""Dates and moments of the record in the tenant's zone: which came first, and on which day of the page.

Senders write one moment with different offsets. Text would put 08:00+04:30 after the later 04:50Z, and the first ten
characters name the day before the one that the page prints.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

from fhirpathpy.engine.nodes import FP_DateTime, ResourceNode
from fhirpathpy.engine.util import get_data

Collection = list[Any]
#: The day as text, as precise as recorded, and within a day the moment; what has no time of day comes before the rest.
Place = tuple[str, datetime]

#: The types of the record whose text is a date or a moment.
DATE_PATHS = frozenset({"date", "dateTime", "instant"})
_NO_TIME = datetime.min.replace(tzinfo=UTC)


def zone_of(ctx: dict[str, Any]) -> tzinfo:
    """The tenant's zone; UTC where the caller named none."""
    zone: tzinfo | None = ctx.get("zone")
    return zone or UTC


def date_text(item: Any) -> str | None:
    """The text of a date or moment of the record or of a literal; None for anything else."""
    if isinstance(item, ResourceNode):
        return item.data if item.path in DATE_PATHS and isinstance(item.data, str) else None
    return str(item.asStr) if isinstance(item, FP_DateTime) else None


def place(text: str, zone: tzinfo) -> Place:
    """Where a date or moment stands among others. A year or a month stands before its days, as its text does."""
    moment = _local(text, zone)
    return (text, _NO_TIME) if moment is None else (moment.date().isoformat(), moment.astimezone(UTC))


def _local(text: str, zone: tzinfo) -> datetime | None:
    """The moment of ``text`` in ``zone``, where one without an offset stays; None for a date and for other text."""
    if "T" not in text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment


def _local_day(ctx: dict[str, Any], data: Collection) -> Collection:
    zone = zone_of(ctx)
    texts = [date_text(item) or get_data(item) for item in data]
    return [place(text, zone)[0] for text in texts if isinstance(text, str)]


MOMENT_FUNCTIONS: dict[str, dict[str, Any]] = {"localDay": {"fn": _local_day}}
