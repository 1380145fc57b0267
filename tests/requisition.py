"""The General Test Requisition with a made-up patient: definition, resources and request as a render has them."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from typing import Any

from document_service.definitions import read_json

LOCALES = ("en", "fa-AF", "ps-AF")
RAW = files("document_service.platform_forms").joinpath("general-test-requisition.json").read_bytes()


def definition() -> dict[str, Any]:
    """A copy that a test may change."""
    loaded: dict[str, Any] = read_json(RAW)
    return loaded


def order(number: int, **members: Any) -> dict[str, Any]:
    """One active ServiceRequest of the patient."""
    return {
        "resourceType": "ServiceRequest",
        "id": f"order-{number}",
        "status": "active",
        "intent": "order",
        "priority": "urgent",
        "subject": {"reference": "Patient/maryam"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4", "display": "Hemoglobin A1c"}]},
        "authoredOn": "2025-11-08T22:30:00Z",
        "reasonCode": [{"text": "Fever 38.5 °C"}, {"text": "Anaemia"}],
        "note": [{"text": "Fasting 8-12 h"}],
        **members,
    }


PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "maryam",
    "identifier": [
        {"use": "old", "value": "1"},
        {"type": {"coding": [{"code": "MR"}]}, "system": "urn:kc", "value": "KC-0091447"},
    ],
    "name": [
        {"use": "maiden", "family": "کریمی", "given": ["مریم"]},
        {"use": "official", "family": "احمدزی", "given": ["مریم"]},
    ],
    "gender": "female",
    "birthDate": "1984-03-27",
    "telecom": [{"system": "phone", "value": "0700 914 319"}],
    "address": [{"line": ["Karte Seh"], "city": "Kabul", "country": "AF"}],
}
ENCOUNTER: dict[str, Any] = {
    "resourceType": "Encounter",
    "id": "visit",
    "status": "in-progress",
    "class": {"code": "AMB"},
    "participant": [{"individual": {"display": "Dr Karimi"}}],
}


def resources(**members: Any) -> dict[str, Any]:
    """What was read for the form's context; keyword arguments replace entries."""
    read: dict[str, Any] = {"patient": PATIENT, "encounter": ENCOUNTER, "orders": [order(1)], **members}
    loaded: dict[str, Any] = read_json(json.dumps(read))
    return loaded


def request(locale: str = "en", **members: Any) -> dict[str, Any]:
    """The request of a render; keyword arguments replace members."""
    return copy.deepcopy(
        {
            "locale": locale,
            "inputs": {"reason": "Fatigue", "priority": "stat", "tests": "CBC; Malaria smear"},
            "documentNumber": "GTR-2025-000481",
            "issuedAt": "2025-11-09T10:00:00+00:00",
            "dataAsOf": "2025-11-09T09:59:58.123456+00:00",
            "templateName": "General Test Requisition",
            "templateVersion": "1.0.0",
            "timeZone": "Asia/Kabul",
            "tenant": {
                "name": "Kabul Central Clinic",
                "address": ["Karte Seh, District 6"],
                "phone": "0700 914 319",
                "digits": "latin",
                "calendar": "gregorian",
                "footer": None,
                "accent": None,
            },
            "verificationUrl": "https://documents.example/verify/abc",
            "patientCheck": None,
            **members,
        }
    )
