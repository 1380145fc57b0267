"""Prove a document: render it again from the snapshot that was sealed with it, and compare byte by byte.

Everything that a render depends on is in the snapshot, or named by its hash there: the resources read, the request
with letterhead and inputs, the definition's checksum, the logo's SHA-256, the engine with layout and fonts, the issue
time. So a difference has a name, or the document was altered.

    identical   the same bytes: the stored document is what this data and this definition give
    differs     the bytes are not the same, and neither is what made them: each difference is named
    altered     what made them is the same, yet the bytes are not: stored bytes or their record were changed

The page model is what definition and data become before any engine sees it. Its digest tells a change of our own
code (`bindings`) from a change of the document.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from document_service.database import Connection
from document_service.errors import NotFound, NotRenderedHere, ObjectCorrupt, ObjectNotFound
from document_service.keys import KeyStore
from document_service.store import ObjectStore
from document_service.templates import text_checksum
from document_service.typesetting.jobs import TypesetJob, TypesetResult
from document_service.typesetting.pool import TypesettingPool

#: What each fact of the engine is called in an answer.
_ENGINE_FACTS: Final = ("engine", "layout", "fonts", "codes")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was when the document was made: what, and its value then and now."""

    what: str
    then: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Proof:
    """The answer; ``recorded``, ``stored`` and ``rendered`` are SHA-256 in hex, None where there are no bytes."""

    document: str
    tenant: str
    verdict: str
    differences: tuple[Difference, ...]
    recorded: str
    stored: str | None
    rendered: str | None
    service_then: str | None

    def as_json(self) -> dict[str, Any]:
        """The answer for ``--json``."""
        return asdict(self) | {"differences": [asdict(each) for each in self.differences]}


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What is kept of a document's making."""

    tenant: str
    recorded: str
    object_name: str
    snapshot: dict[str, Any]
    definition: str
    version_checksum: str
    logo: bytes | None
    large: bool


async def prove(connection: Connection, store: ObjectStore, keys: KeyStore, document_id: str) -> Proof:
    """Render a document again and compare. Owner role; starts a typesetting process of its own.

    Raises:
        NotFound: there is no such document.
        NotRenderedHere: it was uploaded, its bytes were purged, or its snapshot is lost.
        TenantKeyMissing: the tenant was shredded.
        ServiceError: the render is refused, with the code that a job would have.
    """
    evidence = await _gather(connection, store, document_id)
    snapshot = evidence.snapshot
    differences = [
        *_differ("definition", snapshot["checksum"], text_checksum(evidence.definition)),
        *_differ("definition's record", evidence.version_checksum, snapshot["checksum"]),
    ]
    logo = _logo_named(snapshot)
    if logo is not None:
        found = None if evidence.logo is None else hashlib.sha256(evidence.logo).hexdigest()
        differences += _differ("branding", logo, found)
    stored = await _stored(store, evidence)
    rendered = None
    if not differences:
        result = await _render(evidence)
        rendered = hashlib.sha256(result.pdf).hexdigest()
        differences += _engine_differences(snapshot, result)
    return Proof(
        document_id,
        evidence.tenant,
        _verdict(evidence.recorded, stored, rendered, differences),
        tuple(differences),
        evidence.recorded,
        stored,
        rendered,
        snapshot.get("service"),
    )


def _verdict(recorded: str, stored: str | None, rendered: str | None, differences: list[Difference]) -> str:
    if stored != recorded:
        # Whatever made the document: what is kept is not what was recorded.
        return "altered"
    if rendered == recorded:
        return "identical"
    return "differs" if differences else "altered"


def _differ(what: str, then: str | None, now: str | None) -> list[Difference]:
    return [] if then == now else [Difference(what, then, now)]


def _engine_differences(snapshot: dict[str, Any], result: TypesetResult) -> list[Difference]:
    then, now = snapshot["engine"], dict(result.engine)
    found = [
        difference
        for fact in sorted({*_ENGINE_FACTS, *then, *now})
        for difference in _differ(fact, then.get(fact), now.get(fact))
    ]
    # Snapshots of the first version hold no digest.
    if "pageModel" in snapshot:
        found += _differ("bindings", snapshot["pageModel"], result.page_model_digest)
    return found


def _logo_named(snapshot: dict[str, Any]) -> str | None:
    letterhead = json.loads(snapshot["request"]).get("tenant") or {}
    logo = letterhead.get("logo") or {}
    named: str | None = logo.get("sha256")
    return named


async def _gather(connection: Connection, store: ObjectStore, document_id: str) -> _Evidence:
    row = await connection.fetchrow(
        """SELECT d.tenant_id, d.sha256, d.object_name, d.snapshot_name, d.purged_at, v.definition, v.checksum,
               coalesce(j.lane, 'normal') = 'large' AS large
           FROM document.documents d
           LEFT JOIN document.template_versions v
               ON v.tenant_id = d.template_tenant_id AND v.id = d.template_version_id
           LEFT JOIN document.document_render_jobs j ON j.tenant_id = d.tenant_id AND j.id = d.render_job_id
           WHERE d.id = $1""",
        document_id,
    )
    if row is None:
        raise NotFound("There is no document with this id.")
    if row["purged_at"] is not None:
        raise NotRenderedHere("Its time of keeping was over; the bytes were deleted.")
    if row["snapshot_name"] is None or row["definition"] is None:
        raise NotRenderedHere("It was uploaded, not rendered.")
    try:
        kept = b"".join([piece async for piece in store.read(row["tenant_id"], row["snapshot_name"])])
        snapshot = json.loads(zlib.decompress(kept))
    except (ObjectNotFound, ObjectCorrupt, zlib.error, ValueError) as lost:
        raise NotRenderedHere("The snapshot of its data is missing or damaged.") from lost
    logo = _logo_named(snapshot)
    content = None
    if logo is not None:
        content = await connection.fetchval(
            "SELECT content FROM document.logos WHERE tenant_id = $1 AND sha256 = $2", row["tenant_id"], logo
        )
    return _Evidence(
        row["tenant_id"],
        row["sha256"],
        row["object_name"],
        snapshot,
        row["definition"],
        row["checksum"],
        content,
        row["large"],
    )


async def _stored(store: ObjectStore, evidence: _Evidence) -> str | None:
    """The SHA-256 of the stored bytes; None when they are gone or do not open."""
    digest = hashlib.sha256()
    try:
        async for piece in store.read(evidence.tenant, evidence.object_name):
            digest.update(piece)
    except (ObjectNotFound, ObjectCorrupt):
        return None
    return digest.hexdigest()


async def _render(evidence: _Evidence) -> TypesetResult:
    snapshot = evidence.snapshot
    job = TypesetJob(
        issued_at=datetime.fromisoformat(snapshot["issuedAt"]),
        definition_json=evidence.definition.encode(),
        resources_json=snapshot["resources"].encode(),
        request_json=snapshot["request"].encode(),
        images={} if evidence.logo is None else {"logo": evidence.logo},
        large=evidence.large,
    )
    async with TypesettingPool(1, spares=0) as pool:
        return await pool.render(job)
