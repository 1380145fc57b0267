"""A database that lost commits is noticed by itself, and nothing that a device was promised stays missing."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from document_client import DocumentClient
from document_service import epoch, housekeeping, store_care
from document_service.database import open_database
from document_service.errors import StoreUnavailable
from document_service.keys import KeyStore
from document_service.store import open_store
from raw_database import address_of, connected
from running_service import RENDER_SECONDS, Api, Service, request_for

FORM = "General Test Requisition"


def free_port() -> str:
    """A port for a service that comes back where devices know it."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def epoch_of(service: Service) -> str:
    with service.caller("nobody") as api:
        return str(api.get("/health/live").headers["X-Sync-Epoch"])


def known(api: Api, ids: list[str]) -> dict[str, bool]:
    found = api.post("/v1/documents/render-jobs/lookup", json={"clientMutationIds": ids}).json()["items"]
    return {item["clientMutationId"]: item["known"] for item in found}


def post(api: Api, request: dict[str, Any]) -> Any:
    return api.post("/v1/documents/render-jobs", json=request)


def sync_until_done(device: DocumentClient, request: str) -> None:
    """The document is rendered between two syncs."""
    deadline = time.monotonic() + RENDER_SECONDS
    while device.queue.show(request)["status"] != "done":
        assert time.monotonic() < deadline
        device.sync()
        time.sleep(0.2)


def test_a_copy_of_the_cluster_put_back_is_noticed_without_a_command(tmp_path: Path, fhir_url: str) -> None:
    service = Service(tmp_path / "data")
    port = ("--port", free_port())
    cluster, aside = service.data_dir / "postgres/cluster", tmp_path / "aside"
    service.start(*port)
    try:
        tenant = service.create_tenant(fhir_url)
        device = DocumentClient(tmp_path / "device", passphrase="correct horse")
        device.login(service.url, service.token(tenant, "doctor"))
        device.templates()
        before = str(device.request(FORM, "demo-patient-noorzai")["clientMutationId"])
        device.sync()
        first = epoch_of(service)
        with service.caller(tenant) as api:
            kept = api.render(request_for(api.platform_version()))
            cursor = api.get("/v1/documents/changes").json()["cursor"]
        service.stop()
        shutil.copytree(cluster, aside, symlinks=True)

        service.start(*port)
        assert epoch_of(service) == first, "a stop is no loss"
        lost = str(device.request(FORM, "demo-patient-noorzai")["clientMutationId"])
        device.sync()
        with service.caller(tenant) as api:
            requests = [request_for(api.platform_version()) for _ in range(3)]
            numbers = {api.get(f"/v1/documents/{api.render(requests[0])['documentId']}").json()["number"]}
            assert post(api, requests[1]).status_code == 202
            assert post(api, requests[2]).status_code == 202
        service.kill()
        service.start(*port)
        assert epoch_of(service) == first, "a crash is no loss"
        with service.caller(tenant) as api:
            assert all(known(api, [each["clientMutationId"] for each in requests]).values())
        service.stop()

        shutil.move(cluster, tmp_path / "lost")
        shutil.move(aside, cluster)
        service.start(*port)
        assert epoch_of(service) != first
        assert "epoch.renewed" in service.log
        with service.caller(tenant) as api:
            ids = [each["clientMutationId"] for each in requests]
            assert known(api, [before, lost, *ids]) == {before: True} | dict.fromkeys((lost, *ids), False)
            assert api.get("/v1/documents/changes", params={"cursor": cursor}).status_code == 410
            assert api.content(kept["documentId"]).content.startswith(b"%PDF")

            device.sync()
            assert known(api, [lost]) == {lost: True}, "the next sync offers again what was promised"
            sync_until_done(device, lost)
            again = [post(api, each).json() for each in requests * 2]
            assert [job["id"] for job in again[:3]] == [job["id"] for job in again[3:]]
            documents = [api.wait(job["id"])["documentId"] for job in again[:3]]
            assert len(set(documents)) == 3
            found = api.get("/v1/documents", params={"patientId": "demo-patient-noorzai"}).json()["items"]
            assert len(found) == 2 + 1 + 3
            # A number on paper that the service has forgotten is not given to another document.
            assert numbers.isdisjoint(document["number"] for document in found)
        device.close()
    finally:
        service.stop()


def test_a_whole_folder_put_back_is_noticed_at_its_first_start(tmp_path: Path, fhir_url: str) -> None:
    """Database, store and keys go back together; that the files are a copy is all that tells."""
    service = Service(tmp_path / "data").start()
    try:
        tenant = service.create_tenant(fhir_url)
        first = epoch_of(service)
        service.stop()
        subprocess.run(["cp", "-a", str(service.data_dir), str(tmp_path / "aside")], check=True)
        service.start()
        assert epoch_of(service) == first, "a copy beside it changes nothing"
        with service.caller(tenant) as api:
            lost = api.render(request_for(api.platform_version()))
            number = api.get(f"/v1/documents/{lost['documentId']}").json()["number"]
        service.stop()
        shutil.move(service.data_dir, tmp_path / "lost")
        shutil.move(tmp_path / "aside", service.data_dir)
        service.start()
        renewed = epoch_of(service)
        assert renewed != first
        with service.caller(tenant) as api:
            again = api.render(request_for(api.platform_version()))
            assert api.get(f"/v1/documents/{again['documentId']}").json()["number"] != number
        service.stop()
        service.start()
        assert epoch_of(service) == renewed, "once"
    finally:
        service.stop()


def test_a_snapshot_put_back_is_noticed_by_what_a_device_has_seen(tmp_path: Path, fhir_url: str) -> None:
    """Database, store, keys and the numbers of the files go back together: nothing here can tell; the devices can."""
    service = Service(tmp_path / "data")
    port = ("--port", free_port())
    service.start(*port)
    try:
        tenant = service.create_tenant(fhir_url)
        device = DocumentClient(tmp_path / "device", passphrase="correct horse")
        device.login(service.url, service.token(tenant, "doctor"))
        device.templates()
        device.sync()
        first = epoch_of(service)
        service.stop()
        # As a snapshot of the disk would: with owners and modes.
        subprocess.run(["cp", "-a", str(service.data_dir), str(tmp_path / "aside")], check=True)
        service.start(*port)
        lost = str(device.request(FORM, "demo-patient-noorzai")["clientMutationId"])
        sync_until_done(device, lost)
        service.stop()

        shutil.move(service.data_dir, tmp_path / "lost")
        shutil.move(tmp_path / "aside", service.data_dir)
        # As in a snapshot of the whole disk, which keeps the numbers of its files.
        (service.data_dir / "postgres/files").unlink()
        service.start(*port)
        assert epoch_of(service) == first, "nothing on the server can tell"
        with service.caller(tenant) as api:
            # Work goes on, so that transactions and numbers of the lost ones are used again.
            job = api.render(request_for(api.platform_version()))
            assert not known(api, [lost])[lost]
        device.sync()
        assert epoch_of(service) != first
        deadline = time.monotonic() + RENDER_SECONDS
        with service.caller(tenant) as api:
            while not known(api, [lost])[lost]:
                assert time.monotonic() < deadline, "the device offers again what it was promised"
                device.sync()
            assert api.content(job["documentId"]).status_code == 200
        device.close()
    finally:
        service.stop()


@asynccontextmanager
async def watching(service: Service) -> AsyncIterator[epoch.EpochWatch]:
    """A process of its own to the eyes of the database and the store."""
    keys = KeyStore.open(service.data_dir / "keys")
    database = await open_database(address_of(service))
    try:
        yield epoch.EpochWatch(database, open_store(service.data_dir / "objects", keys), keys)
    finally:
        await database.close()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service whose epoch may be changed without disturbing other tests' devices."""
    service = Service(tmp_path_factory.mktemp("epoch") / "data").start()
    yield service
    service.stop()


async def test_a_database_exchanged_under_a_running_service_is_noticed(alone: Service) -> None:
    async with watching(alone) as watch, connected(alone, role=None) as owner:
        await watch.begin()
        first = watch.value
        await watch.look()
        assert watch.value == first
        await owner.execute("DELETE FROM document.sync_marks")
        await watch.look()
        assert watch.value != first
        deadline = time.monotonic() + 8
        while epoch_of(alone) != watch.value:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def test_nothing_is_swept_before_a_loss_would_have_been_noticed(
    alone: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(name: str) -> bytes | None:
        raise StoreUnavailable()

    async def sweep(database: object, store: object) -> None:
        swept.append(store)

    swept: list[object] = []
    monkeypatch.setattr(store_care, "sweep_when_due", sweep)
    async with watching(alone) as watch:
        runtime: Any = SimpleNamespace(epochs=watch, database=None, store=watch._store)
        with monkeypatch.context() as patch:
            patch.setattr(watch._store, "read_mark", away)
            assert not await watch.begin()
            await housekeeping._sweep(runtime)
        assert swept == []
        assert await watch.begin()
        await housekeeping._sweep(runtime)
    assert len(swept) == 1


async def test_two_copies_on_one_store_do_not_chase_each_other(alone: Service) -> None:
    async with watching(alone) as watch, connected(alone, role=None) as owner:
        await watch.begin()
        seen = set()
        for _ in range(4):
            await owner.execute("DELETE FROM document.sync_marks")
            await watch.look()
            seen.add(watch.value)
        assert len(seen) <= 2


async def test_a_mark_that_is_forged_or_gone_renews_once(alone: Service) -> None:
    mark = next((alone.data_dir / "objects/marks").glob("commit-high-water-*"))
    for spoil in (lambda: mark.write_bytes(mark.read_bytes().replace(b'"xid": ', b'"xid": 1')), mark.unlink):
        async with watching(alone) as watch:
            await watch.begin()
            first = watch.value
            spoil()
            await watch.begin()
            assert watch.value != first
            first = watch.value
            await watch.begin()
            assert watch.value == first


def test_an_epoch_renewed_by_hand_reaches_running_processes_within_seconds(alone: Service) -> None:
    another = Service(alone.data_dir).start("--no-worker")
    try:
        before = epoch_of(alone)
        renewed = alone.command("epoch", "renew").strip()
        assert renewed != before
        deadline = time.monotonic() + 8
        while {epoch_of(alone), epoch_of(another)} != {renewed}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        another.stop()
