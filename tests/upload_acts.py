"""How a device sends a scanned file, as calls of the API that several tests make."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import uuid
from typing import Any

from document_service.api import outcomes
from document_service.keys import KeyStore
from document_service.signing import UrlSigner
from running_service import Api, Service

PIECE = {"Content-Type": "application/offset+octet-stream"}


def announce(content: bytes, name: str = "referral.pdf", kind: str = "application/pdf", **more: Any) -> dict[str, Any]:
    return {
        "fileName": name,
        "contentType": kind,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "patientId": "demo-patient-noorzai",
        "category": "scanned_record",
        "title": "Referral from the district hospital",
        **more,
    }


def send(api: Api, content: bytes, piece: int = 1 << 20, **more: Any) -> str:
    """Announce and send a file in pieces; the upload's id."""
    made = api.post("/v1/documents/uploads", json=announce(content, **more))
    assert made.status_code == 201, made.text
    path = f"/v1/documents/uploads/{made.json()['id']}"
    for start in range(0, len(content), piece):
        part = content[start : start + piece]
        checksum = "sha256 " + base64.b64encode(hashlib.sha256(part).digest()).decode()
        headers = {**PIECE, "Upload-Offset": str(start), "Upload-Checksum": checksum}
        sent = api.patch(path, content=part, headers=headers)
        assert sent.status_code == 204, sent.text
        assert sent.headers["upload-offset"] == str(start + len(part))
    return str(made.json()["id"])


def finalize(api: Api, upload: str) -> dict[str, Any]:
    answer = api.post(f"/v1/documents/uploads/{upload}/finalize", headers={"Idempotency-Key": str(uuid.uuid4())})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def verdict(api: Api, upload: str, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown = dict(api.get(f"/v1/documents/uploads/{upload}").json())
        if shown["status"] != "scanning":
            return shown
        time.sleep(0.1)
    raise AssertionError(f"no verdict after {seconds} s: {shown}")


def nowhere_readable(service: Service, tenant: str, api: Api, upload: str, mark: bytes) -> None:
    """Ask every route that reads for an upload whose bytes hold ``mark``, also by links that the service signed."""
    ids = {"upload_id": upload, "document_id": f"doc_{upload.partition('_')[2]}"}
    signer = UrlSigner(KeyStore.open(service.data_dir / "keys"))
    links = [
        f"/v1/documents/{name}/content?{signer.sign(tenant, name, 'inline', 60)}"
        for name in (upload, ids["document_id"])
    ]
    paths = [
        path.format(**ids)
        for method, path in outcomes.OUTCOMES
        if method == "GET" and not set(re.findall(r"{(\w+)}", path)) - ids.keys()
    ]
    for path in (*paths, *links, f"/v1/documents/{upload}"):
        answer = api.get(path, params={"patientId": "demo-patient-noorzai"} if path == "/v1/documents" else None)
        assert mark not in answer.content, path
        if "/content" in path:
            assert answer.status_code in (401, 403, 404), path
    assert len(paths) > 15


def judged(api: Api, content: bytes, **more: Any) -> dict[str, Any]:
    upload = send(api, content, **more)
    assert finalize(api, upload)["status"] in ("scanning", "accepted", "quarantined", "failed")
    return verdict(api, upload)
