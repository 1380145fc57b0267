"""Requests as clients in the field wrote them replay against the service for ever.

Each file of ``recorded/`` holds the exact bytes of one queued request and what the service answered on the day it was
recorded. A file is never edited; a new way to write requests adds files:

    RECORD=1 pytest tests/contract/test_recorded_requests.py

What belongs to one installation or day (version, clientMutationId, requestedAt) is put in place of markers, byte for
byte as long.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from document_client.inputs import to_bytes
from running_service import Api

RECORDED = Path(__file__).parent / "recorded"
JOBS = "/v1/documents/render-jobs"
VERSION = b"tv_RECORDEDRECORDEDRECORDEDRE"
CMID = b"00000000-0000-4000-8000-000000000000"
#: A request may be older than its answer by the dedup window only, so its day is put in as well.
REQUESTED_AT = b"2026-01-01T00:00:00.000Z"

#: What today's client writes, by name: members in the order in which ``queueing`` puts them.
WISHES: dict[str, dict[str, Any]] = {
    "smallest": {"patientId": "demo-patient-noorzai", "inputs": {}, "locale": "en"},
    "encounter": {
        "patientId": "demo-patient-noorzai",
        "inputs": {},
        "locale": "en",
        "encounterId": "demo-encounter-noorzai",
    },
    "dari": {"patientId": "demo-patient-rahimi", "inputs": {"reason": "تب و سرفه"}, "locale": "en"},
    "check": {
        "patientId": "demo-patient-noorzai",
        "inputs": {},
        "locale": "en",
        "patientCheck": {"birthDate": "1900-01-01"},
    },
    "not-after": {
        "patientId": "demo-patient-noorzai",
        "inputs": {},
        "locale": "en",
        "notAfter": "2999-01-01T00:00:00.000Z",
    },
    "unknown-patient": {"patientId": "nobody", "inputs": {}, "locale": "en"},
}


def _shown(answer: Any) -> dict[str, Any]:
    """Return the members of an answer that every client, old or new, relies on."""
    body = answer.json()
    kept = ("status", "patientId", "encounterId", "locale", "documentId", "error", "code")
    return {"status": answer.status_code, "body": {name: body[name] for name in kept if name in body}}


if "RECORD" in os.environ:  # Recorded on purpose and once; a test that is always skipped would be noise.

    @pytest.mark.parametrize("name", WISHES)
    def test_record(api: Api, name: str) -> None:
        members = {"clientMutationId": CMID.decode(), "templateVersionId": VERSION.decode(), **WISHES[name]}
        body = to_bytes({**members, "requestedAt": REQUESTED_AT.decode()})
        path = RECORDED / f"{name}.json"
        assert not path.exists(), "a recorded request is never written again"
        answer = _post(api, body, uuid.uuid4())
        RECORDED.mkdir(exist_ok=True)
        content = {"name": name, "content": base64.b64encode(body).decode(), "answer": _shown(answer)}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_request_is_taken_as_it_was(api: Api, path: Path) -> None:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    body, cmid = base64.b64decode(recorded["content"]), uuid.uuid4()
    first = _post(api, body, cmid)
    assert _shown(first) == recorded["answer"]
    assert first.json()["clientMutationId"] == str(cmid)
    again = _post(api, body, cmid)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert api.wait(first.json()["id"])["clientMutationId"] == str(cmid)


def _post(api: Api, body: bytes, cmid: uuid.UUID) -> Any:
    today = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()
    content = body.replace(VERSION, api.platform_version().encode()).replace(CMID, str(cmid).encode())
    content = content.replace(REQUESTED_AT, today)
    headers = {"Content-Type": "application/json", "X-Client-Mutation-Id": str(cmid)}
    return api.post(JOBS, content=content, headers=headers)
