"""A FHIR R4 answer machine for measurements: fixed resources, no logic, so that what is measured is the service.

    python bench/static_fhir.py            prints its base URL, then serves until it is ended

It answers a batch Bundle of the reads that the service makes, and single reads and searches, from one made-up patient
whose id is whatever was asked for.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

#: The twelve tests of the page that the bare typesetter prints: code, name, specimen, reference range, priority.
TESTS = json.loads((Path(__file__).parent / "content" / "en.json").read_text(encoding="utf-8"))["sections"][3]["rows"]


def _patient(patient: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": patient,
        "meta": {"versionId": "1"},
        "active": True,
        "identifier": [{"system": "urn:example:mrn", "value": "KBL-100871"}],
        "name": [{"use": "official", "family": "Noorzai", "given": ["Fatima"]}],
        "gender": "female",
        "birthDate": "1978-06-02",
        "telecom": [{"system": "phone", "value": "+93 70 555 0187"}],
        "address": [{"text": "District 5, Kabul"}],
    }


def _encounter(encounter: str, patient: str) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": encounter,
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": f"Patient/{patient}"},
        "serviceProvider": {"reference": "Organization/org-1"},
    }


def _orders(patient: str, encounter: str) -> list[dict[str, Any]]:
    return [
        {
            "resourceType": "ServiceRequest",
            "id": f"order-{number}",
            "status": "active",
            "intent": "order",
            "priority": priority.lower(),
            "code": {"coding": [{"system": "http://loinc.org", "code": code}], "text": text},
            "specimen": [{"display": specimen}],
            "note": [{"text": reference.replace("\u2060", "")}],
            "subject": {"reference": f"Patient/{patient}"},
            "encounter": {"reference": f"Encounter/{encounter}"},
            "authoredOn": "2025-11-09T08:30:00+04:30",
        }
        for number, (code, text, specimen, reference, priority) in enumerate(TESTS)
    ]


def answer(path: str) -> dict[str, Any]:
    """The resource or searchset at a path below the base."""
    patient = "bench-patient"
    found = re.search(r"(?:patient|subject)=(?:Patient(?:/|%2F))?([A-Za-z0-9.-]+)", path)
    if found:
        patient = found[1]
    kind, _, rest = path.lstrip("/").partition("?")[0].partition("/")
    if kind == "Patient" and rest:
        return _patient(rest)
    if kind == "Encounter" and rest:
        return _encounter(rest, rest.replace("encounter", "patient"))
    if rest:
        return {"resourceType": kind, "id": rest}
    encounter = patient.replace("patient", "encounter")
    entries = _orders(patient, encounter) if kind == "ServiceRequest" else []
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(entries),
        "entry": [{"resource": entry, "search": {"mode": "match"}} for entry in entries],
    }


def _body_of(method: str, path: str, body: bytes) -> dict[str, Any]:
    if method == "POST":
        asked = json.loads(body)
        entries = [
            {"resource": answer(entry["request"]["url"]), "response": {"status": "200 OK"}} for entry in asked["entry"]
        ]
        return {"resourceType": "Bundle", "type": "batch-response", "entry": entries}
    if path.startswith("/metadata"):
        return {
            "resourceType": "CapabilityStatement",
            "fhirVersion": "4.0.1",
            "rest": [{"mode": "server", "interaction": [{"code": "batch"}]}],
        }
    return answer(path)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            length = re.search(r"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            content = json.dumps(_body_of(method, path.removeprefix("/fhir"), body)).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\n\r\n" % len(content)
            )
            writer.write(content)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Serve on a free loopback port."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/fhir", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
