"""A backup of a service whose objects lie on S3, and its restore into another, empty bucket prefix."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from document_service.keys import KeyStore
from document_service.store import open_store
from running_service import Service, request_for
from seaweedfs import Seaweed, running_seaweed


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


def on_bucket(data_dir: Path, seaweed: Seaweed, prefix: str) -> Service:
    location = seaweed.location(prefix)
    return Service(data_dir, DOCUMENT_SERVICE_OBJECT_STORE_URL=location, **seaweed.environment)


def test_objects_on_s3_are_backed_up_and_restored(
    seaweed: Seaweed, fhir_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = on_bucket(tmp_path / "data", seaweed, "first").start("--workers", "1")
    folder = tmp_path / "backup"
    try:
        tenant = service.create_tenant(fhir_url)
        with service.caller(tenant) as api:
            document = api.render(request_for(api.platform_version()))["documentId"]
            content = api.content(document).content
            first = json.loads(service.command("backup", str(folder), "--json"))
            again = json.loads(service.command("backup", str(folder), "--json"))
    finally:
        service.stop()
    assert content.startswith(b"%PDF-")
    assert not any(content[:64] in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert first != again

    restored = on_bucket(tmp_path / "restored", seaweed, "second")
    shutil.copytree(service.data_dir / "keys", restored.data_dir / "keys")
    restored.command("restore", str(folder), "--json")
    restored.start("--workers", "1")
    try:
        with restored.caller(tenant) as api:
            assert api.content(document).content == content
        verified = json.loads(restored.command("store", "verify", "--json"))
        assert (verified["ok"], verified["objects"]) == (True, 2)
    finally:
        restored.stop()
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    keys = KeyStore.open(restored.data_dir / "keys")
    assert asyncio.run(_names(seaweed.location("second"), keys, tenant)) == asyncio.run(
        _names(seaweed.location("first"), keys, tenant)
    )


async def _names(location: str, keys: KeyStore, tenant: str) -> set[str]:
    return {stat.name async for stat in open_store(location, keys).list(tenant)}
