"""What a document was made from, as a FHIR R4 Provenance resource: every resource read, by id and version.

Ids and versions only. A receiver that may read the tenant's FHIR server finds there what the page was made from; who
may not learns nothing of it here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from document_service.documents import Document

MEDIA_TYPE = "application/fhir+json"

_IDENTIFIERS = "urn:document-service"
_ROLES = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_OPERATIONS = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


def provenance(document: Document) -> dict[str, Any]:
    """The resource of one document; of an upload it says who brought it and nothing of sources."""
    made = document.rendered_at or document.created_at
    resource: dict[str, Any] = {
        "resourceType": "Provenance",
        "id": document.id.replace("_", "-"),
        "target": [{"identifier": _identifier("document", document.id), "display": document.number}],
        # Reading began at the first and the page was issued at the second (contract §3).
        "occurredPeriod": {"start": _instant(document.data_as_of or made), "end": _instant(made)},
        "recorded": _instant(document.created_at),
        "activity": {"coding": [{"system": _OPERATIONS, "code": "CREATE"}]},
        "agent": [
            _agent("author", _identifier("user", document.created_by)),
            _agent("assembler", _identifier("service", "document-service")),
        ],
    }
    entities = [{"role": "source", "what": {"reference": _reference(read)}} for read in document.provenance]
    if document.template_version_id is not None:
        template = {"identifier": _identifier("template-version", document.template_version_id)}
        entities.append({"role": "derivation", "what": template})
    # FHIR allows no empty lists.
    return resource | ({"entity": entities} if entities else {})


def _reference(read: dict[str, Any]) -> str:
    version = f"/_history/{read['versionId']}" if read.get("versionId") else ""
    return f"{read['type']}/{read['id']}{version}"


def _identifier(kind: str, value: str) -> dict[str, str]:
    return {"system": f"{_IDENTIFIERS}:{kind}", "value": value}


def _agent(role: str, identifier: dict[str, str]) -> dict[str, Any]:
    return {"type": {"coding": [{"system": _ROLES, "code": role}]}, "who": {"identifier": identifier}}


def _instant(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
