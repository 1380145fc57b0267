"""Audit events as FHIR R4 AuditEvent resources in the shape of IHE's Basic Audit Log Patterns (BALP 1.1.3).

An act on a patient's document that fits one of BALP's patterns (create, read, update, delete, query) names that
profile. Acts outside of them (a print, a refusal, a revoked device) keep the same members without a profile, with the
DICOM event that fits. Ids that FHIR cannot carry as references (``doc_…``) travel as identifiers.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from document_service.audit import Recorded

_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_REST = {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"}
_BALP = "https://profiles.ihe.net/ITI/BALP"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_IDENTIFIERS = "urn:document-service"

_INTERACTIONS = {"C": "create", "R": "read", "U": "update", "D": "delete", "E": "search"}
_PATTERNS = {"C": "Create", "R": "Read", "U": "Update", "D": "Delete", "E": "Query"}

#: BALP acts by our action words: create, read, update, delete, and E for a query.
_ACTS = {
    "document.generate": "C",
    "upload.accept": "C",
    "upload.release": "C",
    "document.view": "R",
    "document.download-url": "R",
    "document.download": "R",
    "document.holders": "R",
    "document.verify": "R",
    "device.document.opened": "R",
    "document.search": "E",
    "document.supersede": "U",
    "document.void": "U",
    "document.purge": "D",
    "template.create": "C",
    "template.fork": "C",
    "template.edit": "U",
    "template.draft": "U",
    "template.publish": "U",
    "template.retire": "U",
    "template.withdraw": "U",
    "template.pin": "U",
    "template.follow": "U",
}

#: Acts that DICOM names better (PS3.16, CID 400): its code and display, and the action letter.
_DICOM_ACTS = {
    "device.print.": ("110106", "Export", "R"),
    "device.document.": ("110106", "Export", "R"),
    "audit.": ("110101", "Audit Log Used", "R"),
    "access.denied": ("110113", "Security Alert", "E"),
    "enrolment.": ("110137", "User Security Attributes Changed", "U"),
    "object.damaged": ("110113", "Security Alert", "E"),
    "upload.": ("110113", "Security Alert", "E"),
}


def audit_event(tenant_id: str, event: Recorded) -> dict[str, Any]:
    """The FHIR resource of one event."""
    act = _ACTS.get(event.action)
    succeeded = event.outcome == "success"
    resource: dict[str, Any] = {"resourceType": "AuditEvent", "id": event.id.replace("_", "-")}
    if act is not None:
        resource |= _restful(act, event, with_profile=succeeded)
    else:
        code, display, action = _dicom(event.action)
        resource |= {"type": {"system": _DICOM, "code": code, "display": display}, "action": action}
        resource["subtype"] = [{"system": f"{_IDENTIFIERS}:action", "code": event.action}]
    resource["recorded"] = _instant(event.recorded_at)
    if event.occurred_at is not None:
        resource["period"] = {"start": _instant(event.occurred_at), "end": _instant(event.occurred_at)}
    # 4 is a minor failure: the act was refused or could not be done, and the service went on.
    resource["outcome"] = "0" if succeeded else "4"
    if not succeeded and isinstance(event.detail.get("code"), str):
        resource["outcomeDesc"] = event.detail["code"]
    resource["agent"] = _agents(act, event)
    resource["source"] = _source(tenant_id, event)
    resource["entity"] = _entities(act, event)
    return resource


def bundle(resources: Sequence[dict[str, Any]], links: list[dict[str, str]]) -> dict[str, Any]:
    """A page of resources as a FHIR searchset."""
    entries = [
        {"fullUrl": f"{_IDENTIFIERS}:audit:{resource['id']}", "resource": resource, "search": {"mode": "match"}}
        for resource in resources
    ]
    made: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    # FHIR allows no empty lists.
    return made | ({"link": links} if links else {}) | ({"entry": entries} if entries else {})


def _restful(act: str, event: Recorded, *, with_profile: bool) -> dict[str, Any]:
    interaction = {"system": "http://hl7.org/fhir/restful-interaction", "code": _INTERACTIONS[act]}
    members: dict[str, Any] = {
        "type": _REST,
        "subtype": [interaction, {"system": f"{_IDENTIFIERS}:action", "code": event.action}],
        "action": act,
    }
    if with_profile:
        pattern = ("Patient" if event.patient_id else "") + _PATTERNS[act]
        members["meta"] = {"profile": [f"{_BALP}/StructureDefinition/IHE.BasicAudit.{pattern}"]}
    return members


def _dicom(action: str) -> tuple[str, str, str]:
    for beginning, named in _DICOM_ACTS.items():
        if action.startswith(beginning):
            return named
    return "110100", "Application Activity", "E"


def _agents(act: str | None, event: Recorded) -> list[dict[str, Any]]:
    # DICOM's source and destination follow the data: the service is the source of what is read, and the destination
    # of what is made, changed or asked for.
    service_gives = act in ("R", None)
    source, destination = ("110153", "Source Role ID"), ("110152", "Destination Role ID")
    client = _agent(*(destination if service_gives else source), _client_of(event), event.device_id or "unknown")
    server = _agent(*(source if service_gives else destination), {"display": "document-service"}, "document-service")
    role = {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}
    user = {
        "type": {"coding": [{**role, "display": "information recipient"}]},
        "who": {"identifier": {"system": f"{_IDENTIFIERS}:user", "value": event.actor}},
        "requestor": True,
    }
    return [client, server, user]


def _client_of(event: Recorded) -> dict[str, Any]:
    if event.device_id is None:
        return {"display": "a client that is not an enrolled device"}
    return {"identifier": {"system": f"{_IDENTIFIERS}:device", "value": event.device_id}}


def _agent(code: str, display: str, who: dict[str, Any], address: str) -> dict[str, Any]:
    return {
        "type": {"coding": [{"system": _DICOM, "code": code, "display": display}]},
        "who": who,
        "requestor": False,
        # 1 is a machine's name: installations are known by their id, addresses are not kept.
        "network": {"address": address, "type": "1"},
    }


def _source(tenant_id: str, event: Recorded) -> dict[str, Any]:
    on_device = event.action.startswith("device.")
    code, display = ("1", "User Device") if on_device else ("4", "Application Server")
    return {
        "site": tenant_id,
        "observer": _client_of(event) if on_device else {"display": "document-service"},
        "type": [
            {
                "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
                "code": code,
                "display": display,
            }
        ],
    }


def _entities(act: str | None, event: Recorded) -> list[dict[str, Any]]:
    entities: list[dict[str, Any]] = []
    if event.patient_id is not None:
        patient = {"reference": f"Patient/{event.patient_id}"}
        entities.append(_entity("1", "Person", "1", "Patient", what=patient))
    if act == "E":
        query = "GET /v1/documents?" + urlencode({"patientId": event.patient_id or ""})
        asked = base64.b64encode(query.encode()).decode()
        entities.append(_entity("2", "System Object", "24", "Query", query=asked))
    for kind in ("document", "job", "template", "upload"):
        value = getattr(event, f"{kind}_id")
        if value is not None:
            identifier = {"identifier": {"system": f"{_IDENTIFIERS}:{kind}", "value": value}}
            entities.append(_entity("2", "System Object", "4", "Domain Resource", what=identifier))
    flags = event.detail.get("flags")
    if flags:
        # How the event came here: late, recovered, from a device that was revoked.
        marks = [{"type": "flag", "valueString": str(flag)} for flag in flags]
        entities.append({"type": {"system": _ENTITY_TYPE, "code": "4", "display": "Other"}, "detail": marks})
    if event.request_id is not None:
        transaction = {"system": f"{_BALP}/CodeSystem/BasicAuditEntityType", "code": "XrequestId"}
        entities.append({"type": transaction, "what": {"identifier": {"value": event.request_id}}})
    return entities


def _entity(kind: str, kind_display: str, role: str, role_display: str, **more: Any) -> dict[str, Any]:
    return {
        **more,
        "type": {"system": _ENTITY_TYPE, "code": kind, "display": kind_display},
        "role": {"system": _ENTITY_ROLE, "code": role, "display": role_display},
    }


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
