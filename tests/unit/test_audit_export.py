"""Every act that the service records is in docs/audit.md, and is a whole FHIR R4 AuditEvent in BALP's shape."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from document_service.audit import Recorded
from document_service.audit_export import audit_event

ROOT = Path(__file__).parent.parent.parent

#: The families of acts: an action is one of these words, a dot, and what was done.
FAMILIES = (
    "access|audit|document|enrolment|hold|object|render|retention|template|tenant|upload"  # What the service does.
)


def recorded_actions() -> list[str]:
    """The words in the source that are the first argument of an event, or are chosen for one."""
    word = rf'"((?:{FAMILIES})\.[a-z-]+)"'
    made = re.compile(rf'(?:Event\(|event\(request, caller,|action = )\s*{word}(?: if [a-z._ =!"-]+ else {word})?')
    found: set[str] = set()
    for path in (ROOT / "server/src/document_service").rglob("*.py"):
        for hit in made.finditer(path.read_text(encoding="utf-8")):
            found |= {name for name in hit.groups() if name}
    return sorted(found)


def documented_actions() -> list[str]:
    """The patterns in the table of docs/audit.md; `.fail` after `upload.accept` is `upload.fail`."""
    patterns = []
    for line in (ROOT / "docs/audit.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and line.count("|") == 3:
            family = ""
            for name in re.findall(r"`([a-z.*-]+)`", line.split("|")[2]):
                family = name.partition(".")[0] or family
                patterns.append(name if name.partition(".")[0] else family + name)
    return patterns


def test_there_are_acts() -> None:
    assert len(recorded_actions()) > 25
    assert {"upload.release", "upload.accept", "document.view", "tenant.shred"} <= {*recorded_actions()}


@pytest.mark.parametrize("action", recorded_actions())
def test_an_act_is_documented(action: str) -> None:
    assert any(
        action == name or (name.endswith(".*") and action.startswith(name[:-1])) for name in documented_actions()
    )


@pytest.mark.parametrize("outcome", ["success", "failure"])
@pytest.mark.parametrize("patient", ["patient-1", None])
@pytest.mark.parametrize("action", [*recorded_actions(), "device.print.submitted", "device.document.opened"])
def test_an_act_is_a_whole_audit_event(action: str, patient: str | None, outcome: str) -> None:
    event = Recorded(
        action,
        "dr.a",
        outcome=outcome,
        document_id="doc_1",
        patient_id=patient,
        device_id="dev_1" if action.startswith("device.") else None,
        detail={} if outcome == "success" else {"code": "FORBIDDEN"},
        id="evt_1",
        recorded_at=datetime(2026, 11, 28, 12, tzinfo=UTC),
    )
    resource: dict[str, Any] = audit_event("clinic", event)
    AuditEvent.model_validate(resource)
    assert {"system", "code"} <= resource["type"].keys()
    assert resource["recorded"] == "2026-11-28T12:00:00.000Z"
    assert resource["action"] in "CRUDE"
    assert resource["outcome"] == ("0" if outcome == "success" else "4")
    assert [agent["requestor"] for agent in resource["agent"]].count(True) == 1
    assert all(agent["who"] for agent in resource["agent"])
    assert resource["source"]["observer"]
    assert resource["entity"]
    for entity in resource["entity"]:
        assert entity.get("what") or entity.get("query"), "BALP: each entity says what, or what was asked"
    patients = [entity for entity in resource["entity"] if entity["type"]["code"] == "1"]
    assert [entity["what"]["reference"] for entity in patients] == ([] if patient is None else ["Patient/patient-1"])
    profile = resource.get("meta", {}).get("profile", [""])[0].rpartition(".")[2]
    assert profile.startswith("Patient") == (profile != "" and patient is not None)
    assert outcome == "success" or not profile


def test_how_an_event_of_a_device_came_here_is_in_its_audit_event() -> None:
    """A record that came back from an outbox that had lost its key is told apart also outside the service."""
    event = Recorded(
        "device.document.opened",
        "dr.a",
        outcome="success",
        document_id="doc_1",
        device_id="dev_1",
        detail={"flags": ["recovered", "device-revoked"]},
        id="evt_1",
        recorded_at=datetime(2026, 11, 28, 12, tzinfo=UTC),
    )
    resource: dict[str, Any] = audit_event("clinic", event)
    AuditEvent.model_validate(resource)
    [marks] = [entity["detail"] for entity in resource["entity"] if "detail" in entity]
    assert marks == [{"type": "flag", "valueString": flag} for flag in ("recovered", "device-revoked")]
