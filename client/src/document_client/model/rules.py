"""The rules of the model: render requests and their dedup, jobs, documents, the change feed, audit, sync epoch."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..clock import from_text, to_text
from .wire import (
    Caller,
    ModelAnswer,
    base64url,
    fingerprint_of,
    misfit,
    part_of,
    problem,
    public,
    shape_problem,
    small_pdf,
)

JOBS = "/v1/documents/render-jobs"
# Contract §4: the defaults.
POLICY = {
    "version": 1,
    "cacheTtlSeconds": 7 * 86_400,
    "leaseSeconds": 14 * 86_400,
    "dedupWindowDays": 400,
    "quotaBytes": 512 * 1024 * 1024,
    "onExpiry": "hide",
}


@dataclass(slots=True)
class State:
    """Everything a backup of the service holds; ``Model.snapshot`` copies it, ``Model.restore`` puts it back."""

    epoch: str = "epoch-1"
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    dedup: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    feed: list[tuple[str, str, str | None]] = field(default_factory=list)
    revocations: list[tuple[int, str, str]] = field(default_factory=list)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    counter: int = 0


class Model:
    """One service in memory. ``now`` is its clock in seconds; nothing here waits, draws lots or touches a disk."""

    def __init__(self, now: Callable[[], float], *, page_size: int = 50) -> None:
        """Begin empty; ``page_size`` is the number of rows on a page of changes."""
        self.now = now
        self.page_size = page_size
        self.state = State()
        self.policy: dict[str, Any] = dict(POLICY)
        self.renders_at_once = True
        self.revoked_tokens: set[str] = set()
        self.failing: Callable[[dict[str, Any]], dict[str, str] | None] = lambda job: None
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"model key").digest())

    # --- set-up and faults ---

    def token(self, tenant: str, user: str, **claims: Any) -> str:
        """Return a token this model accepts; it is not signed, for the model trusts whoever reaches it."""
        parts = ({"alg": "none"}, {"tenant": tenant, "sub": user, "roles": ["CLINICIAN"], **claims})
        return ".".join(base64url(json.dumps(part).encode()) for part in parts) + ".model"

    def publish(
        self, name: str, definition: dict[str, Any], *, key: str | None = None, tenant: str | None = None
    ) -> tuple[str, str]:
        """Add a template with one published version; returns their ids. ``tenant`` None: a form of the platform."""
        template_id, version_id = self._new("tmpl_"), self._new("tv_")
        at = to_text(self.now())
        self.state.templates[template_id] = {
            "id": template_id,
            "name": name,
            "category": "lab_requisition",
            "status": "published",
            "origin": "platform" if tenant is None else "tenant",
            "platformFormKey": key,
            "forkedFromPlatformFormKey": None,
            "facilityId": None,
            "currentVersionId": version_id,
            "createdAt": at,
            "updatedAt": at,
            "_tenant": tenant,
        }
        self.state.versions[version_id] = {
            "id": version_id,
            "templateId": template_id,
            "semver": "1.0.0",
            "definition": definition,
            "checksum": hashlib.sha256(rfc8785.dumps(definition)).hexdigest(),
            "effectiveFrom": None,
            "effectiveTo": None,
            "publishedAt": at,
            "withdrawn": None,
        }
        self._changed("templates", template_id, tenant)
        return template_id, version_id

    def retire(self, template_id: str) -> None:
        """Take a template out of use."""
        template = self.state.templates[template_id]
        template["status"] = "retired"
        self._changed("templates", template_id, template["_tenant"])

    def withdraw(self, version_id: str, reason: str) -> None:
        """Take one dangerous version out of use."""
        version = self.state.versions[version_id]
        version["withdrawn"] = {"reason": reason, "at": to_text(self.now())}
        self._changed("templates", version["templateId"], self.state.templates[version["templateId"]]["_tenant"])

    def revoke(self, document_id: str, reason: str, replaced_by: str | None = None) -> None:
        """Withdraw a document, or let another one replace it."""
        document = self.state.documents[document_id]
        document.update(status="superseded" if replaced_by else "entered-in-error", supersededBy=replaced_by)
        self.state.revocations.append((len(self.state.feed), document_id, reason))
        self._changed("documents", document_id, document["_tenant"])

    def snapshot(self) -> State:
        """Return a backup."""
        return copy.deepcopy(self.state)

    def restore(self, backup: State, epoch: str) -> None:
        """Put a backup back; the service notices and takes a new epoch."""
        counter = self.state.counter
        self.state = copy.deepcopy(backup)
        self.state.epoch = epoch
        self.state.counter = counter

    def work(self) -> int:
        """Render every queued job; returns how many."""
        queued = [job for job in self.state.jobs.values() if job["status"] == "queued"]
        for job in queued:
            self._render(job)
        return len(queued)

    # --- render requests (contract §3) ---

    def submit(self, caller: Caller, body: Any, header_id: str | None) -> ModelAnswer:
        """Answer ``POST /v1/documents/render-jobs``: shape, dedup look-up, and only then everything else."""
        if header_id is not None and isinstance(body, dict) and "clientMutationId" not in body:
            body = {**body, "clientMutationId": header_id}
        wrong = shape_problem(body, header_id)
        if wrong is not None:
            return wrong
        cmid = str(body["clientMutationId"])
        fingerprint = fingerprint_of(body)
        known = self.state.dedup.get((caller.tenant, cmid))
        if known is not None:
            if not caller.sees(self.state.jobs[known["job"]]):
                return problem(409, "CLIENT_MUTATION_ID_CONFLICT")
            if known["fingerprint"] != fingerprint:
                return problem(422, "CLIENT_MUTATION_ID_REUSED")
            return ModelAnswer(200, public(self.state.jobs[known["job"]]), {"Idempotent-Replayed": "true"})
        refusal = self._refusal(caller, body)
        if refusal is not None:
            return refusal
        job = self._enqueue(caller, body)
        self.state.dedup[caller.tenant, cmid] = {"fingerprint": fingerprint, "job": job["id"]}
        accepted = public(job)
        if self.renders_at_once:
            self._render(job)
        return ModelAnswer(202, accepted, {"Location": f"{JOBS}/{job['id']}"})

    def _refusal(self, caller: Caller, body: dict[str, Any]) -> ModelAnswer | None:
        window = float(self.policy["dedupWindowDays"]) * 86_400
        if from_text(body["requestedAt"]) < self.now() - window:
            return problem(410, "MUTATION_WINDOW_PASSED")
        version = self.state.versions.get(body["templateVersionId"])
        template = self.state.templates[version["templateId"]] if version is not None else None
        if version is None or template is None or template["_tenant"] not in (None, caller.tenant):
            # Of another tenant: exactly as if it did not exist.
            return problem(404, "NOT_FOUND")
        if template["status"] != "published" or version["withdrawn"]:
            return problem(409, "TEMPLATE_VERSION_RETIRED")
        if body.get("notAfter") and from_text(body["notAfter"]) < self.now():
            return problem(409, "EXPIRED_BY_REQUESTER")
        return misfit(version["definition"], body)

    def _enqueue(self, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
        job: dict[str, Any] = {
            "id": self._new("rjob_"),
            "clientMutationId": body["clientMutationId"],
            "status": "queued",
            "templateVersionId": body["templateVersionId"],
            "patientId": body["patientId"],
            "encounterId": body.get("encounterId"),
            "locale": body["locale"],
            "requestedAt": body["requestedAt"],
            "createdAt": to_text(self.now()),
            "startedAt": None,
            "finishedAt": None,
            "attempts": 0,
            "documentId": None,
            "error": None,
            "_tenant": caller.tenant,
            "_user": caller.user,
            "_facilities": caller.facilities,
        }
        self.state.jobs[job["id"]] = job
        self._changed("jobs", job["id"], caller.tenant)
        return job

    def _render(self, job: dict[str, Any]) -> None:
        job["attempts"] += 1
        job["startedAt"] = job["finishedAt"] = to_text(self.now())
        error = self.failing(job)
        if error is not None:
            job.update(status="failed", error={"detail": None, **error})
        else:
            document = self._document(job)
            job.update(status="completed", documentId=document["id"], error=None)
            self._changed("documents", document["id"], job["_tenant"])
        self._changed("jobs", job["id"], job["_tenant"])

    def _document(self, job: dict[str, Any]) -> dict[str, Any]:
        document_id = self._new("doc_")
        content = small_pdf(f"{job['id']} {document_id}")
        version = self.state.versions[job["templateVersionId"]]
        document = {
            "id": document_id,
            "number": f"D-{self.state.counter:06d}",
            "kind": "generated",
            "status": "current",
            "category": "lab_requisition",
            "title": self.state.templates[version["templateId"]]["name"],
            "patientId": job["patientId"],
            "encounterId": job["encounterId"],
            "facilityId": None,
            "contentType": "application/pdf",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "originalSha256": None,
            "pages": 1,
            "templateVersionId": job["templateVersionId"],
            "renderJobId": job["id"],
            "requestedAt": job["requestedAt"],
            "renderedAt": to_text(self.now()),
            "dataAsOf": to_text(self.now()),
            "supersedes": None,
            "supersededBy": None,
            "_tenant": job["_tenant"],
            "_facilities": job["_facilities"],
        }
        self.state.documents[document_id] = document
        self.state.contents[document_id] = content
        return document

    def read_job(self, caller: Caller, job_id: str) -> ModelAnswer:
        """Answer ``GET …/render-jobs/{id}``."""
        job = self._job(caller, job_id)
        return problem(404, "NOT_FOUND") if job is None else ModelAnswer(200, public(job))

    def list_jobs(self, caller: Caller) -> ModelAnswer:
        """Answer ``GET …/render-jobs``."""
        mine = [
            public(j) for j in self.state.jobs.values() if (j["_tenant"], j["_user"]) == (caller.tenant, caller.user)
        ]
        return ModelAnswer(200, {"items": mine, "nextCursor": None})

    def retry(self, caller: Caller, job_id: str) -> ModelAnswer:
        """Answer ``POST …/render-jobs/{id}/retry``."""
        job = self._job(caller, job_id)
        if job is None:
            return problem(404, "NOT_FOUND")
        if self.state.versions[job["templateVersionId"]]["withdrawn"]:
            return problem(409, "TEMPLATE_VERSION_RETIRED")
        if job["status"] != "failed":
            return problem(409, "JOB_STATE_CONFLICT")
        job.update(status="queued", error=None)
        self._changed("jobs", job_id, caller.tenant)
        accepted = public(job)
        if self.renders_at_once:
            self._render(job)
        return ModelAnswer(202, accepted)

    def lookup(self, caller: Caller, body: Any) -> ModelAnswer:
        """Answer ``POST …/render-jobs/lookup``."""
        items = []
        for cmid in body["clientMutationIds"]:
            known = self.state.dedup.get((caller.tenant, cmid))
            if known is None or not caller.sees(self.state.jobs[known["job"]]):
                items.append({"clientMutationId": cmid, "known": False})
            else:
                items.append({"clientMutationId": cmid, "known": True, "job": public(self.state.jobs[known["job"]])})
        return ModelAnswer(200, {"items": items})

    def _job(self, caller: Caller, job_id: str) -> dict[str, Any] | None:
        job = self.state.jobs.get(job_id)
        return job if job and caller.sees(job) else None

    # --- what the device reads ---

    def changes(self, caller: Caller, cursor: str) -> ModelAnswer:
        """Answer ``GET /v1/documents/changes``: rows in commit order, revocations complete up to now."""
        epoch, _, position = cursor.rpartition(":")
        if cursor and epoch != self.state.epoch:
            return problem(410, "FEED_RESET")
        start = int(position or 0)
        rows = self.state.feed[start : start + self.page_size]
        end = start + len(rows)
        page: dict[str, Any] = {"cursor": f"{self.state.epoch}:{end}", "more": end < len(self.state.feed)}
        page["revocations"] = [
            {"documentId": document_id, "reason": reason}
            for at, document_id, reason in self.state.revocations
            if at >= start and self.state.documents[document_id]["_tenant"] == caller.tenant
        ]
        for name in ("templates", "jobs", "documents"):
            page[name] = self._rows_of(name, rows, caller)
        page["cachePolicy"] = self.signed_policy(caller.tenant)
        return ModelAnswer(200, page)

    def _rows_of(self, name: str, rows: list[tuple[str, str, str | None]], caller: Caller) -> list[dict[str, Any]]:
        table: dict[str, dict[str, Any]] = getattr(self.state, name)
        shown = []
        for key in dict.fromkeys(key for kind, key, tenant in rows if kind == name and tenant in (None, caller.tenant)):
            row = table[key]
            if name == "jobs" and row["_user"] != caller.user:
                continue
            if name == "documents" and row["status"] == "entered-in-error":
                continue
            shown.append(public(row))
        return shown

    def signed_policy(self, tenant: str) -> dict[str, Any]:
        """Return the cache policy with its signature."""
        data = b"document-service cache-policy v1\n" + tenant.encode() + b"\n" + rfc8785.dumps(self.policy)
        return {**self.policy, "signature": "model-1." + base64url(self.key.sign(data))}

    def document_url(self, caller: Caller, document_id: str) -> ModelAnswer:
        """Answer ``POST /v1/documents/{id}/download-url``."""
        document = self.state.documents.get(document_id)
        if document is None or not caller.sees(document):
            return problem(404, "NOT_FOUND")
        if document["status"] == "entered-in-error":
            return problem(410, "DOCUMENT_WITHDRAWN")
        url = f"/v1/documents/{document_id}/content?signature=model"
        return ModelAnswer(200, {"url": url, "expiresAt": to_text(self.now() + 900)})

    def content(self, document_id: str, headers: dict[str, str]) -> ModelAnswer:
        """Answer ``GET /v1/documents/{id}/content`` with Range, If-Range and If-None-Match."""
        document = self.state.documents.get(document_id)
        if document is None:
            return problem(404, "NOT_FOUND")
        if document["status"] == "entered-in-error":
            return problem(410, "DOCUMENT_WITHDRAWN")
        return part_of(self.state.contents[document_id], document["sha256"], headers)

    def take_events(self, body: Any) -> ModelAnswer:
        """Answer ``POST /v1/documents/audit-events``."""
        items = []
        for event in body["events"]:
            event_id = event.get("eventId")
            readable = {k: v for k, v in event.items() if k not in ("hash", "recovered")}
            if not event_id or hashlib.sha256(rfc8785.dumps(readable)).hexdigest() != event.get("hash"):
                result = "refused"
            elif event_id in self.state.events:
                result = "duplicate"
            else:
                self.state.events[event_id] = event
                result = "accepted"
            items.append({"eventId": event_id, "result": result})
        return ModelAnswer(200, {"items": items})

    def list_templates(self, caller: Caller | None = None) -> ModelAnswer:
        """Answer ``GET /v1/document-templates``; without a caller, with the forms of the platform."""
        tenant = caller.tenant if caller is not None else None
        items = [public(t) for t in self.state.templates.values() if t["_tenant"] in (None, tenant)]
        etag = '"' + hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16] + '"'
        headers = {"ETag": etag, "Cache-Control": "private, max-age=300, stale-while-revalidate=86400"}
        return ModelAnswer(200, {"items": items, "nextCursor": None}, headers)

    def read_version(self, caller: Caller, version_id: str) -> ModelAnswer:
        """Answer ``GET …/versions/{versionId}``."""
        version = self.state.versions.get(version_id)
        owner = self.state.templates[version["templateId"]]["_tenant"] if version is not None else None
        if version is None or owner not in (None, caller.tenant):
            return problem(404, "NOT_FOUND")
        return ModelAnswer(200, version, {"ETag": f'"{version["checksum"]}"'})

    def _changed(self, kind: str, key: str, tenant: str | None) -> None:
        self.state.feed.append((kind, key, tenant))

    def _new(self, prefix: str) -> str:
        self.state.counter += 1
        return f"{prefix}{self.state.counter:026d}"
