"""The shapes of contract §6, field by field. An answer may have more fields; it may not have fewer."""

from __future__ import annotations

JOB = {
    "id",
    "clientMutationId",
    "status",
    "templateVersionId",
    "patientId",
    "encounterId",
    "locale",
    "requestedAt",
    "createdAt",
    "startedAt",
    "finishedAt",
    "attempts",
    "documentId",
    "error",
}
DOCUMENT = {
    "id",
    "number",
    "kind",
    "status",
    "category",
    "title",
    "patientId",
    "encounterId",
    "facilityId",
    "contentType",
    "size",
    "sha256",
    "originalSha256",
    "pages",
    "templateVersionId",
    "renderJobId",
    "requestedAt",
    "renderedAt",
    "dataAsOf",
    "supersedes",
    "supersededBy",
}
TEMPLATE = {
    "id",
    "name",
    "category",
    "status",
    "origin",
    "platformFormKey",
    "forkedFromPlatformFormKey",
    "facilityId",
    "currentVersionId",
    "createdAt",
    "updatedAt",
}
#: What a version has beside its own id.
VERSION = {"id", "semver", "definition", "checksum", "effectiveFrom", "effectiveTo", "publishedAt", "withdrawn"}
PROBLEM = {"type", "title", "status", "code", "detail", "requestId"}
SIGNED_URL = {"url", "expiresAt"}
LIST = {"items", "nextCursor"}
CHANGES = {"cursor", "more", "revocations", "templates", "jobs", "documents", "cachePolicy"}
CACHE_POLICY = {
    "version",
    "cacheTtlSeconds",
    "leaseSeconds",
    "dedupWindowDays",
    "quotaBytes",
    "onExpiry",
    "signature",
}
