"""A document is rendered again from its sealed snapshot: the same bytes, a named difference, or altered."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pikepdf
import pytest
from PIL import Image

from document_service import proof
from document_service.errors import NotFound
from document_service.keys import KeyStore
from document_service.store import ObjectStore, open_store
from raw_database import Connection, connected
from requisition import definition
from running_service import Api, Service, request_for


@dataclass
class Archive:
    """One document and the parts that ``prove`` reads, to change them behind the service's back."""

    document: str
    tenant: str
    owner: Connection
    store: ObjectStore
    keys: KeyStore

    async def prove(self) -> proof.Proof:
        return await proof.prove(self.owner, self.store, self.keys, self.document)

    async def read(self, column: str) -> bytes:
        name = await self.owner.fetchval(f"SELECT {column} FROM document.documents WHERE id = $1", self.document)
        return b"".join([piece async for piece in self.store.read(self.tenant, name)])

    async def replace(self, column: str, content: bytes) -> None:
        """Store ``content`` as somebody with every key would, and let the row name it."""
        name = f"2026/01/obj_{hashlib.sha256(content).hexdigest()[:20]}"
        await self.store.put(self.tenant, name, content)
        await self.owner.execute(f"UPDATE document.documents SET {column} = $2 WHERE id = $1", self.document, name)

    async def change_snapshot(self, change: Callable[[dict[str, Any]], None]) -> None:
        snapshot = json.loads(zlib.decompress(await self.read("snapshot_name")))
        change(snapshot)
        await self.replace("snapshot_name", zlib.compress(json.dumps(snapshot).encode()))

    async def change_bytes(self) -> None:
        """Another PDF in the document's place, with everything that the row says of it."""
        content = await self.read("object_name") + b"\n% one line more"
        await self.replace("object_name", content)
        await self.owner.execute(
            "UPDATE document.documents SET size = $2, sha256 = $3 WHERE id = $1",
            self.document,
            len(content),
            hashlib.sha256(content).hexdigest(),
        )


@pytest.fixture
async def archive(service: Service, tenant: str, api: Api) -> AsyncIterator[Archive]:
    picture = BytesIO()
    Image.new("RGB", (60, 40), (20, 80, 120)).save(picture, "PNG")
    etag = api.get("/v1/tenant/branding").headers["ETag"]
    headers = {"If-Match": etag, "Content-Type": "image/png"}
    assert api.put("/v1/tenant/branding/logo", content=picture.getvalue(), headers=headers).status_code == 200
    job = api.render(request_for(api.platform_version(), locale="fa-AF"))
    keys = KeyStore.open(service.data_dir / "keys")
    async with connected(service, role=None) as owner:
        store = open_store(service.data_dir / "objects", keys)
        yield Archive(job["documentId"], tenant, owner, store, keys)


async def test_an_untouched_document_is_identical_whatever_the_tenant_changed_since(
    service: Service, api: Api, archive: Archive
) -> None:
    branding = api.get("/v1/tenant/branding")
    changed = {"name": "Another name", "accent": "#702020"}
    headers = {"If-Match": branding.headers["ETag"]}
    assert api.put("/v1/tenant/branding", json=changed, headers=headers).status_code == 200
    assert service.command("prove", archive.document).strip() == "identical"
    found = await archive.prove()
    assert found.recorded == found.stored == found.rendered
    assert found.differences == ()


async def test_a_pdf_a_1b_is_proved_too(service: Service, api: Api) -> None:
    picture = BytesIO()
    Image.new("RGBA", (60, 40), (20, 80, 120, 100)).save(picture, "PNG")
    headers = {"If-Match": api.get("/v1/tenant/branding").headers["ETag"], "Content-Type": "image/png"}
    assert api.put("/v1/tenant/branding/logo", content=picture.getvalue(), headers=headers).status_code == 200
    form = api.post("/v1/document-templates", json={"name": "For the old archive", "category": "report"}).json()["id"]
    draft = api.put(f"/v1/document-templates/{form}/draft", json={**definition(), "archival": "a-1b"})
    assert draft.json()["problems"] == []
    key = {"Idempotency-Key": "first"}
    version = api.post(f"/v1/document-templates/{form}/publish", json={}, headers=key).json()
    job = api.render(request_for(version["id"], inputs={"reason": "Fever", "tests": "CBC"}))
    assert job["status"] == "completed", job
    with pikepdf.open(BytesIO(api.content(job["documentId"]).content)) as pdf:
        metadata = pdf.open_metadata()
        assert (metadata["pdfaid:part"], metadata["pdfaid:conformance"]) == ("1", "B")
    assert service.command("prove", job["documentId"]).strip() == "identical"


async def test_bytes_that_were_changed_are_altered_even_with_their_record(archive: Archive) -> None:
    await archive.change_bytes()
    found = await archive.prove()
    assert (found.verdict, found.differences) == ("altered", ())
    assert found.stored == found.recorded != found.rendered


async def test_a_record_that_was_changed_is_altered(archive: Archive) -> None:
    await archive.owner.execute("UPDATE document.documents SET sha256 = $2 WHERE id = $1", archive.document, "0" * 64)
    assert (await archive.prove()).verdict == "altered"


@pytest.mark.parametrize("fact", ["engine", "layout", "fonts", "bindings"])
async def test_another_installation_is_named_and_not_called_an_alteration(archive: Archive, fact: str) -> None:
    def other(snapshot: dict[str, Any]) -> None:
        if fact == "bindings":
            snapshot["pageModel"] = "0" * 64
        else:
            snapshot["engine"][fact] = "of another release"

    await archive.change_bytes()
    await archive.change_snapshot(other)
    found = await archive.prove()
    assert (found.verdict, [each.what for each in found.differences]) == ("differs", [fact])


async def test_what_is_missing_of_the_making_is_named(archive: Archive) -> None:
    def other_definition(snapshot: dict[str, Any]) -> None:
        snapshot["checksum"] = "0" * 64

    def other_logo(snapshot: dict[str, Any]) -> None:
        request = json.loads(snapshot["request"])
        request["tenant"]["logo"]["sha256"] = "0" * 64
        snapshot["request"] = json.dumps(request)

    kept = await archive.read("snapshot_name")
    await archive.change_snapshot(other_definition)
    assert {each.what for each in (await archive.prove()).differences} == {"definition", "definition's record"}
    await archive.change_snapshot(lambda snapshot: snapshot.update(json.loads(zlib.decompress(kept))))
    await archive.change_snapshot(other_logo)
    found = await archive.prove()
    assert [(each.what, each.now) for each in found.differences] == [("branding", None)]
    assert found.verdict == "differs"


async def test_what_cannot_be_proved_says_why(archive: Archive) -> None:
    with pytest.raises(NotFound):
        await proof.prove(archive.owner, archive.store, archive.keys, "doc_00000000000000000000000000")
