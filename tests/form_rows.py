"""What a platform form says of a record: its page model, and the words of its tables and fields."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from document_service import definitions
from document_service.bindings import lay_out
from document_service.exact_json import dumps_exact
from platform_pages import FORMS, bare_resources, request

STEERING = re.compile("[\u200b-\u200f\u2060\u2066-\u2069]")


def definition(key: str) -> dict[str, Any]:
    parsed: dict[str, Any] = definitions.read_json(FORMS[key].definition)
    return parsed


def laid_out(key: str, resources: dict[str, Any], inputs: dict[str, Any], locale: str = "en", **tenant: Any) -> Any:
    """The page model; FHIR goes through JSON as it does on its way to the child."""
    form = FORMS[key]
    return lay_out(
        definition(key), definitions.read_json(dumps_exact(resources)), request(form, locale, inputs, **tenant)
    )


def bare(text: str) -> str:
    return STEERING.sub("", text).replace("\u00a0", " ")


def words(model: Any) -> str:
    """Everything that stands on the page, without controls of direction."""
    return bare(json.dumps(model, ensure_ascii=False))


def rows(model: Any, title: str) -> list[list[str]]:
    section = next(one for one in model["sections"] if one["type"] == "table" and one["title"] == title)
    return [[bare(cell) for cell in row] for row in section["rows"]]


def empty_words(model: Any, title: str) -> str:
    section = next(one for one in model["sections"] if one["type"] == "table" and one["title"] == title)
    return bare(section["empty"])


def order(**members: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": "one",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/bare"},
        "medicationCodeableConcept": {"text": "Amoxicillin 500 mg"},
        **members,
    }


def prescribed(*orders: dict[str, Any], **found: Any) -> dict[str, Any]:
    return {**bare_resources(FORMS["outpatient-prescription"]), "orders": list(orders), **found}


def dose(value: str = "1", unit: str = "tablet") -> dict[str, Any]:
    return {"doseAndRate": [{"doseQuantity": {"value": Decimal(value), "unit": unit}}]}
