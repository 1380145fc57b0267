"""Members of a FHIR R4 Dosage as clinics code them, for tests of the words beside them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from document_service.formatting import style

EN = style("en", time_zone="Asia/Kabul")
PO = {"route": {"coding": [{"code": "26643006"}]}}
IM = {"route": {"coding": [{"code": "78421000"}]}}
NEEDED = {"asNeededBoolean": True}


def given(value: str, unit: str, **members: Any) -> dict[str, Any]:
    return {"doseAndRate": [{"doseQuantity": {"value": Decimal(value), "unit": unit}}], **members}


def often(frequency: int, period: int = 1, unit: str = "d", **members: Any) -> dict[str, Any]:
    return {"timing": {"repeat": {"frequency": frequency, "period": period, "periodUnit": unit, **members}}}


def lasting(days: int, unit: str = "d") -> dict[str, Any]:
    return often(2, boundsDuration={"value": days, "unit": unit})


TABLET = given("1", "tablet")
WEEKLY = {**given("70", "mg"), **often(1, 1, "wk")}
FOUR_TO_SIX = often(1, 4, "h", periodMax=6)
