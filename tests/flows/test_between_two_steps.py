"""What another request, a power cut or an operator does between two steps of the service, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from document_acts import changes_after, made, void
from document_service import audit_chain, backup, sequencing, store_care, upload_scanning, uploads
from document_service.database import Database, open_database, tenant_transaction
from document_service.errors import (
    DatabaseUnavailable,
    FhirInvalid,
    FhirRefused,
    KeyStoreUnusable,
    ObjectCorrupt,
    ObjectNotFound,
    ServiceError,
    StoreUnavailable,
    TenantKeyMissing,
    UploadQuotaExceeded,
)
from document_service.fhir import FhirReader
from document_service.keys import KeyStore
from document_service.queue import TryAgain
from document_service.store import ObjectStore, SealedFolder, open_store
from document_service.tokens import Caller
from raw_database import address_of, as_tenant, connected
from running_service import Service, request_for


@pytest.fixture
def slow_fhir() -> Iterator[str]:
    """A FHIR server that knows nobody, and takes two seconds to say so."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(2)
            self.send_response(404)
            self.send_header("Content-Type", "application/fhir+json")
            self.end_headers()
            self.wfile.write(b'{"resourceType":"OperationOutcome"}')

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/fhir"
    server.shutdown()
    thread.join()
    server.server_close()


@asynccontextmanager
async def opened(service: Service) -> AsyncIterator[tuple[Database, KeyStore, ObjectStore]]:
    """The service's database, keys and store, as a process of it has them."""
    keys = KeyStore.open(service.data_dir / "keys")
    database = await open_database(address_of(service))
    try:
        yield database, keys, open_store(service.data_dir.resolve() / "objects", keys)
    finally:
        await database.close()


def test_a_request_that_was_answered_by_a_synchronous_job_keeps_it(service: Service, slow_fhir: str) -> None:
    tenant = service.create_tenant(slow_fhir)
    with service.caller(tenant) as waiting, service.caller(tenant) as other:
        request = request_for(waiting.platform_version())
        key = request["clientMutationId"]
        body = {name: value for name, value in request.items() if name not in ("clientMutationId", "requestedAt")}
        answers: list[Any] = []

        def generate() -> None:
            answers.append(waiting.post("/v1/documents/generate", json=body, headers={"Idempotency-Key": key}))

        thread = threading.Thread(target=generate)
        thread.start()
        time.sleep(0.8)
        queued = other.post("/v1/documents/render-jobs", json=request)
        thread.join()
        assert queued.status_code == 200, queued.text
        assert answers[0].is_error, answers[0].text
        assert other.get(queued.headers["location"]).json()["status"] == "failed"
        [known] = other.post("/v1/documents/render-jobs/lookup", json={"clientMutationIds": [key]}).json()["items"]
        assert known["known"]


async def test_a_repeat_of_generate_tries_again_what_failed_after_its_five_seconds(
    service: Service, slow_fhir: str, fhir_url: str
) -> None:
    tenant = service.create_tenant(slow_fhir)
    with service.caller(tenant) as api:
        request = request_for(api.platform_version())
        key = request["clientMutationId"]
        body = {name: value for name, value in request.items() if name not in ("clientMutationId", "requestedAt")}
        job = api.render(request)
        assert job["status"] == "failed"
        async with connected(service, role=None) as owner:
            # As when the FHIR server was away for all three tries of a job that had been told to live on.
            await owner.execute(
                "UPDATE document_render_jobs SET error_code = 'FHIR_UNAVAILABLE' WHERE id = $1", job["id"]
            )
            await owner.execute("UPDATE tenants SET fhir_url = $2 WHERE tenant_id = $1", tenant, fhir_url)
        again = api.post("/v1/documents/generate", json=body, headers={"Idempotency-Key": key})
        assert again.status_code in (200, 201), again.text
        assert again.json()["renderJobId"] == job["id"]


async def test_what_was_received_for_a_tenant_that_is_no_more_is_scanned_no_more(
    service: Service, fhir_url: str
) -> None:
    tenant = service.create_tenant(fhir_url)
    nurse = Caller(tenant, "nurse", frozenset({"CLINICIAN"}), None)
    async with opened(service) as (database, keys, store):
        async with tenant_transaction(database.app, tenant) as connection:
            sent = uploads.NewUpload("a.pdf", "application/pdf", 9, "0" * 64, "p", None, "scanned_record", "t")
            upload = await uploads.create(connection, nurse, sent, keys)
        async with connected(service, role=None) as owner:
            await owner.execute(
                "UPDATE uploads SET status = 'scanning', scanning_since = now() WHERE id = $1", upload.id
            )
        service.command("tenant", "shred", tenant, "--confirm", tenant)
        runtime: Any = SimpleNamespace(database=database, keys=keys, store=store, scanner=None)
        await upload_scanning.scan(runtime, tenant, upload.id)
        async with connected(service, role=None) as owner:
            row = await owner.fetchrow("SELECT status, reason_code FROM uploads WHERE id = $1", upload.id)
        assert (row["status"], row["reason_code"]) == ("failed", "TENANT_SHREDDED")


async def test_a_shred_that_was_cut_off_is_gone_on_with(service: Service, fhir_url: str) -> None:
    tenant = service.create_tenant(fhir_url)
    with service.caller(tenant) as api:
        document = made(api)["id"]
        async with connected(service, role=None) as owner:
            # What `tenant shred` commits before it destroys the key.
            await owner.execute("UPDATE tenants SET shredded_at = now() WHERE tenant_id = $1", tenant)
        service.command("tenant", "shred", tenant, "--confirm", tenant)
        assert not KeyStore.open(service.data_dir / "keys").has_tenant(tenant)
        assert api.post(f"/v1/documents/{document}/download-url").is_error
    assert service.command("tenant", "shred", tenant, "--confirm", tenant, check=False) == "", "there is no such tenant"


async def test_what_was_purged_does_not_come_back_with_an_older_copy_of_the_store(
    service: Service, fhir_url: str, tmp_path: Path
) -> None:
    tenant = service.create_tenant(fhir_url)
    with service.caller(tenant) as api:
        document = made(api)["id"]
    folder = tmp_path / "backup"
    service.command("backup", str(folder))
    service.command("retention", "set-document", tenant, document, "2020-01-31", "--reason", "x")
    service.command("purge", "--tenant", tenant)
    async with opened(service) as (database, _, store):
        # What a restore does with the objects.
        await backup.copy_objects(SealedFolder(folder), store.sealed)
        await store_care.sweep(database, store, older_than=timedelta(0))
        async with connected(service, role=None) as owner:
            name = await owner.fetchval("SELECT object_name FROM documents WHERE id = $1", document)
        with pytest.raises(ObjectNotFound):
            await store.stat(tenant, name)


class Clean:
    """A scanner to which every file is a clean PDF of one page."""

    async def scan(self, *_: Any) -> Any:
        return SimpleNamespace(state="accepted", kind="pdf", pages=1, code=None, title=None, findings=())


async def test_a_scan_of_what_was_in_quarantine_destroys_nothing(service: Service, fhir_url: str) -> None:
    tenant, content = service.create_tenant(fhir_url), b"%PDF-1.4 evidence"
    nurse = Caller(tenant, "nurse", frozenset({"CLINICIAN"}), frozenset({"elsewhere"}))
    sent = uploads.NewUpload(
        "a.pdf",
        "application/pdf",
        len(content),
        hashlib.sha256(content).hexdigest(),
        "demo-patient-noorzai",
        "demo-encounter-noorzai",
        "scanned_record",
        "t",
    )

    fhir = FhirReader()
    async with opened(service) as (database, keys, store):
        async with tenant_transaction(database.app, tenant) as connection:
            upload = await uploads.create(connection, nurse, sent, keys)
        piece = await store.put(tenant, f"uploads/{upload.id}/obj_1", content)
        async with tenant_transaction(database.app, tenant) as connection:
            await uploads.add_piece(connection, upload, len(content), piece.name)
        service.command("hold", "place", tenant, "C-9", "--patient", "demo-patient-noorzai", "--reason", "case")
        async with connected(service, role=None) as owner:
            await owner.execute("UPDATE uploads SET status = 'quarantined' WHERE id = $1", upload.id)
            await owner.execute(
                "UPDATE uploads SET status = 'scanning', generation = generation + 1, scanning_since = now(),"
                " rescan = true WHERE id = $1",
                upload.id,
            )
            with pytest.raises(Exception, match="legal hold"):
                await owner.execute("UPDATE uploads SET status = 'failed' WHERE id = $1", upload.id)
        runtime: Any = SimpleNamespace(database=database, keys=keys, store=store, scanner=Clean(), fhir=fhir)
        try:
            # Clean, but of another facility than the sender's: it cannot become a document.
            await upload_scanning.scan(runtime, tenant, upload.id)
        finally:
            await fhir.aclose()
        async with connected(service, role=None) as owner:
            assert await owner.fetchval("SELECT status FROM uploads WHERE id = $1", upload.id) == "quarantined"
        await store.stat(tenant, piece.name)


async def test_a_signed_head_that_could_not_be_written_is_written_later(service: Service, fhir_url: str) -> None:
    tenant = service.create_tenant(fhir_url)
    with service.caller(tenant) as api:
        made(api)
    async with opened(service) as (database, keys, store):

        class Away:
            is_away = True

            async def read_mark(self, name: str) -> Any:
                return None if tenant in name else await store.read_mark(name)

            async def write_mark(self, name: str, content: bytes) -> None:
                if self.is_away and tenant in name:
                    raise StoreUnavailable()
                written.append(name)

        written: list[str] = []
        away, known = Away(), dict[str, int]()
        runtime: Any = SimpleNamespace(database=database, keys=keys, store=away)
        for _ in range(100):
            # The chain is put together by the service, a moment after the event.
            try:
                await sequencing.sign_heads(runtime, known)
            except StoreUnavailable:
                break
            await asyncio.sleep(0.1)
        away.is_away = False
        await sequencing.sign_heads(runtime, known)
        assert f"audit-head.{tenant}" in written


async def test_uploads_that_begin_at_once_share_one_quota(service: Service, fhir_url: str) -> None:
    tenant = service.create_tenant(fhir_url)
    nurse = Caller(tenant, "nurse", frozenset({"CLINICIAN"}), None)
    size = uploads.OPEN_BYTES_PER_USER // 4
    async with opened(service) as (database, keys, _):

        async def begin() -> None:
            async with tenant_transaction(database.app, tenant) as connection:
                await uploads.require_quota(connection, nurse, size)
                await asyncio.sleep(0.05)
                sent = uploads.NewUpload("a.pdf", "application/pdf", size, "0" * 64, "p", None, "scanned_record", "t")
                await uploads.create(connection, nurse, sent, keys)

        done = await asyncio.gather(*(begin() for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(one, UploadQuotaExceeded) for one in done) == 2
    assert sum(one is None for one in done) == 4


async def test_a_job_that_changes_its_lane_and_a_housekeeper_do_not_wait_for_each_other(
    service: Service, fhir_url: str
) -> None:
    tenant = service.create_tenant(fhir_url)
    async with connected(service, role=None) as owner:
        for lane in ("normal", "large"):
            await owner.execute(
                "INSERT INTO queue.render_slots (tenant_id, lane, admitted) VALUES ($1, $2, 1) ON CONFLICT DO NOTHING",
                tenant,
                lane,
            )
    async with connected(service, "document_service_system") as system, as_tenant(service, tenant) as app:
        await app.execute("SELECT document.release_slot($1, 'normal')", tenant)
        housekeeping = asyncio.create_task(system.execute("SELECT document.reconcile_slots()"))
        await asyncio.sleep(0.5)
        await app.execute("SELECT document.enqueue_render($1, 'rjob_x', 1, 'large', 0)", tenant)
        housekeeping.cancel()
        await asyncio.gather(housekeeping, return_exceptions=True)


async def test_the_change_feed_goes_on_while_the_trail_is_verified(service: Service, fhir_url: str) -> None:
    tenant = service.create_tenant(fhir_url)
    with service.caller(tenant) as api:
        document = made(api)["id"]
        cursor = changes_after(api, "")["cursor"]
        async with connected(service, role=None) as owner, owner.transaction():
            key = audit_chain.chain_key(KeyStore.open(service.data_dir / "keys").mac, tenant)
            assert [one async for one in audit_chain.verify_links(owner, tenant, key)]
            # The next tenant's turn: the transaction stays open.
            assert await owner.fetchval("SELECT pg_current_xact_id_if_assigned()") is None
            assert void(api, document).status_code == 200
            told: list[Any] = []
            for _ in range(40):
                told = changes_after(api, cursor)["revocations"]
                if told:
                    break
                await asyncio.sleep(0.25)
        assert [one["documentId"] for one in told] == [document]


@pytest.mark.parametrize(
    "statements",
    [("SET LOCAL statement_timeout = 50", "SELECT pg_sleep(5)"), ("SET TRANSACTION READ ONLY", "DELETE FROM uploads")],
)
async def test_what_postgresql_cannot_do_at_the_moment_is_not_called_an_error_of_the_service(
    service: Service, fhir_url: str, statements: tuple[str, ...]
) -> None:
    """A device counts errors of the service, and sets a request aside after twenty; it waits out what is away."""
    tenant = service.create_tenant(fhir_url)
    async with opened(service) as (database, _, _):

        async def work() -> None:
            async with tenant_transaction(database.app, tenant) as connection:
                for statement in statements:
                    await connection.execute(statement)

        with pytest.raises(DatabaseUnavailable):
            await work()


async def test_a_key_file_that_cannot_be_read_stops_no_other_chain(
    service: Service, fhir_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = service.create_tenant(fhir_url)
    asked: list[str] = []

    def mac(tenant_id: str, *_: Any) -> bytes:
        asked.append(tenant_id)
        raise KeyStoreUnusable()

    async def tails(*_: Any, **__: Any) -> list[Any]:
        return [SimpleNamespace(tenant_id=name, chain_seq=0) for name in (tenant, "other")]

    async def take_lock(*_: Any) -> bool:
        return True

    monkeypatch.setattr(audit_chain, "tails", tails)
    monkeypatch.setattr(audit_chain, "take_lock", take_lock)
    async with opened(service) as (database, _, _):
        runtime: Any = SimpleNamespace(database=database, keys=SimpleNamespace(mac=mac))
        assert await sequencing.chain_events(runtime) == 0
    assert asked == [tenant, "other"]


@pytest.mark.parametrize(
    ("passing", "status", "code"),
    [
        (FhirRefused, "failed", "FHIR_REFUSED"),
        (FhirInvalid, "failed", "FHIR_INVALID"),
        (TenantKeyMissing, "scanning", None),
        (KeyStoreUnusable, "scanning", None),
    ],
)
async def test_a_received_file_does_not_go_for_what_may_pass(
    service: Service, fhir_url: str, passing: type[ServiceError], status: str, code: str | None
) -> None:
    """An expired token of the FHIR server, a page of its maintenance, a key folder that was away for a moment."""
    tenant, content = service.create_tenant(fhir_url), b"%PDF-1.4 paper"
    nurse = Caller(tenant, "nurse", frozenset({"CLINICIAN"}), None)
    digest = hashlib.sha256(content).hexdigest()
    sent = uploads.NewUpload("a.pdf", "application/pdf", len(content), digest, "p", "e", "scanned_record", "t")

    class Refusing:
        async def read(self, *_: Any) -> Any:
            raise passing()

    async with opened(service) as (database, keys, store):
        async with tenant_transaction(database.app, tenant) as connection:
            upload = await uploads.create(connection, nurse, sent, keys)
        piece = await store.put(tenant, f"uploads/{upload.id}/obj_1", content)
        async with tenant_transaction(database.app, tenant) as connection:
            await uploads.add_piece(connection, upload, len(content), piece.name)
        async with connected(service, role=None) as owner:
            # No entry in the queue: the service's own worker does not take it.
            await owner.execute(
                "UPDATE uploads SET status = 'scanning', scanning_since = now() WHERE id = $1", upload.id
            )
        runtime: Any = SimpleNamespace(database=database, keys=keys, store=store, scanner=Clean(), fhir=Refusing())
        with contextlib.suppress(TryAgain):
            await upload_scanning.scan(runtime, tenant, upload.id)
        async with tenant_transaction(database.app, tenant) as connection:
            left = await uploads.load(connection, upload.id, keys)
        assert left is not None
        assert (left.status, left.reason_code) == (status, code)
        assert uploads.may_finalize(left) is (status == "failed")
        await store.stat(tenant, piece.name)


async def test_an_abandoned_upload_that_cannot_be_opened_keeps_no_other(service: Service, fhir_url: str) -> None:
    async with opened(service) as (database, keys, store):
        begun = []
        for tenant in (service.create_tenant(fhir_url), service.create_tenant(fhir_url)):
            nurse = Caller(tenant, "nurse", frozenset({"CLINICIAN"}), None)
            sent = uploads.NewUpload("a.pdf", "application/pdf", 9, "0" * 64, "p", None, "scanned_record", "t")
            async with tenant_transaction(database.app, tenant) as connection:
                begun.append((tenant, (await uploads.create(connection, nurse, sent, keys)).id))
        (_, unreadable), (_, other) = begun

        class Damaged:
            def __getattr__(self, name: str) -> Any:
                return getattr(keys, name)

            def unseal(self, tenant_id: str, purpose: str, sealed: bytes) -> bytes:
                if tenant_id == begun[0][0]:
                    raise ObjectCorrupt
                return keys.unseal(tenant_id, purpose, sealed)

        async def abandoned(*_: Any) -> list[tuple[str, str]]:
            return begun

        runtime: Any = SimpleNamespace(database=database, keys=Damaged(), store=store)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(uploads, "list_abandoned", abandoned)
            patch.setattr(uploads, "ABANDONED_AFTER", timedelta(seconds=-60))
            assert await upload_scanning.give_up_abandoned(runtime) == 1
        async with connected(service, role=None) as owner:
            rows = await owner.fetch("SELECT id, status FROM uploads WHERE id = ANY ($1)", [unreadable, other])
        assert {row["id"]: row["status"] for row in rows} == {unreadable: "receiving", other: "failed"}
