"""After a shred nothing of the tenant opens, every process knows it at once, and what was under way ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from document_service.errors import TenantKeyMissing
from document_service.keys import KeyStore
from document_service.store import open_store
from raw_database import connected
from running_service import Service, request_for


async def test_a_shredded_tenant_is_gone_in_every_process(service: Service, fhir_url: str) -> None:
    tenant = service.create_tenant(fhir_url)
    with service.caller(tenant) as api:
        document = api.render(request_for(api.platform_version()))["documentId"]
        link = api.post(f"/v1/documents/{document}/download-url").json()["url"]
        version = api.platform_version()
        for _ in range(4):
            api.post("/v1/documents/render-jobs", json=request_for(version))
        await asyncio.to_thread(service.command, "tenant", "shred", tenant, "--confirm", tenant)
        # The command is a process of its own; API and worker notice at their next use of the key.
        answers = [
            api.get(f"/v1/documents/{document}"),
            api.get("/v1/documents/changes"),
            api.post("/v1/documents/render-jobs", json=request_for(version)),
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "NOT_FOUND")}
        assert api.get(link).status_code in (403, 404)
    async with connected(service, role=None) as owner:
        for _ in range(100):
            jobs = await owner.fetch("SELECT * FROM document.document_render_jobs WHERE tenant_id = $1", tenant)
            if all(job["status"] in ("completed", "failed") for job in jobs):
                break
            await asyncio.sleep(0.1)
        assert {job["status"] for job in jobs} <= {"completed", "failed"}
        assert all(job["request_sealed"] is None for job in jobs)
        told = await owner.fetchval(
            "SELECT actor FROM document.audit_events WHERE tenant_id = $1 AND action = 'tenant.shred'", tenant
        )
        assert told == "operator"
    await _opens_nowhere(service.data_dir, tenant)


async def _opens_nowhere(data_dir: Path, tenant: str) -> None:
    keys = KeyStore.open(data_dir / "keys")
    store = open_store(data_dir / "objects", keys)
    names = [stat.name async for stat in store.list(tenant)]
    assert names
    for name in names:
        with pytest.raises(TenantKeyMissing):
            [piece async for piece in store.read(tenant, name)]
    raw = [path.read_bytes() for path in (data_dir / "objects/objects" / tenant).rglob("*") if path.is_file()]
    assert not any(b"%PDF" in content or b"Noorzai" in content for content in raw)
