"""The master key is exchanged under a running service, and the old one opens nothing any more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from document_service.errors import KeyStoreUnusable
from document_service.keys import KeyStore
from running_service import Api, Service, request_for


def test_a_rotation_is_not_felt_and_leaves_the_old_master_useless(
    service: Service, tenant: str, api: Api, tmp_path: Path
) -> None:
    keys = service.data_dir / "keys"
    document = api.render(request_for(api.platform_version()))["documentId"]
    served = api.content(document).content
    policy = api.get("/.well-known/document-service").json()["policyKeys"]
    old_master = (keys / "master.key").read_bytes()
    wrapped = (keys / "tenants" / f"{tenant}.key").read_bytes()

    jobs = [api.post("/v1/documents/render-jobs", json=request_for(api.platform_version())).json() for _ in range(6)]
    for _ in range(2):
        assert "wrapped by a new master key" in service.command("keys", "rotate")
    assert all(api.wait(job["id"])["status"] == "completed" for job in jobs)
    assert api.content(document).content == served
    assert api.get("/.well-known/document-service").json()["policyKeys"] == policy, "devices keep the key they pinned"
    assert (keys / "tenants" / f"{tenant}.key").read_bytes() != wrapped

    # Somebody who kept the old master and takes today's folder opens nothing with it.
    stolen = tmp_path / "stolen"
    shutil.copytree(keys, stolen)
    (stolen / "master.key").write_bytes(old_master)
    with pytest.raises(KeyStoreUnusable):
        KeyStore.open(stolen)
    (stolen / "master.key").write_bytes((keys / "master.key").read_bytes())
    assert KeyStore.open(stolen).has_tenant(tenant)
