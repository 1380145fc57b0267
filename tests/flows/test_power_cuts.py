"""kill -9 at the two worst places: between object write and commit, and between commit and answer (issue 5).

Neither place is hit by luck. A lock on ``documents`` holds a commit up after its objects were written; an answer is not
read, and the cut comes when its commit is seen. All processes die at the same moment, PostgreSQL's too, as in a power
cut, and the same data folder goes through all rounds. A job that was cut off is begun again eight seconds later, which
is about two rounds: some are cut off again and again, and none may be given up for that.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

import hostile_files
from clamav import running_clamd
from document_service import store_care
from document_service.database import open_database
from document_service.keys import KeyStore
from document_service.render_jobs import STARTS_LIMIT
from document_service.store import open_store
from engines import EngineRequirement
from raw_database import address_of, connected
from running_service import Api, Service, request_for
from upload_acts import finalize, send, verdict

#: Cuts in all. `make soak` makes 200.
ROUNDS = int(os.environ.get("POWER_CUTS", "8"))

#: After so many cuts the power stays for as long as it takes to finish what was begun. A job meets at most one cut in
#: two, so this keeps each far below the number of starts at which it would be given up (`render_jobs.CUTS_LIMIT`).
CALM_AFTER = 40

#: A cut attempt is taken over within 15 s; a busy machine takes its time for the rest.
SECONDS = 120.0

#: Whoever waits for the lock on ``documents``; its objects are in the store by then.
_HELD_UP = """SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'document.documents'::regclass"""


class HeldUp(threading.Thread):
    """Holds every commit of a document up until the service dies."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._locked = threading.Event()
        self.waiting = threading.Event()
        self.start()
        assert self._locked.wait(SECONDS)

    def run(self) -> None:
        with suppress(asyncpg.PostgresError, OSError, asyncpg.InterfaceError):
            asyncio.run(self._hold())

    async def _hold(self) -> None:
        async with connected(self._service, role=None) as owner, connected(self._service, role=None) as watcher:
            async with owner.transaction():
                await owner.execute("LOCK TABLE document.documents IN SHARE ROW EXCLUSIVE MODE")
                self._locked.set()
                while not await watcher.fetchval(_HELD_UP):  # noqa: ASYNC110 -- nothing tells of another's lock
                    await asyncio.sleep(0.01)
                self.waiting.set()
                # Until the power goes: the connection breaks.
                await watcher.execute("SELECT pg_sleep(600)")


class Site:
    """One data folder through all cuts, and what was promised on the way."""

    def __init__(self, folder: Path, clamd: str, fhir_url: str) -> None:
        self.data_dir = folder / "data"
        self._clamd = clamd
        self.service = self.start()
        self.tenant = self.service.create_tenant(fhir_url)
        self.api = self.service.caller(self.tenant)
        self.version = self.api.platform_version()
        self.jobs: list[str] = []
        self.uploads: list[str] = []
        #: Idempotency keys of answers that nobody read, with the request.
        self.unread: dict[str, dict[str, Any]] = {}

    def start(self) -> Service:
        return Service(self.data_dir, DOCUMENT_SERVICE_CLAMD=self._clamd).start("--workers", "1")

    def cut(self) -> None:
        """The power goes and comes back."""
        self.end(self.service.cut_power)

    def end(self, how: Callable[[], None]) -> None:
        """End the service in this way and start it again."""
        self.api.close()
        how()
        self.service = self.start()
        self.api = self.service.caller(self.tenant)

    def rows(self, sql: str, *values: Any) -> list[Any]:
        async def fetch() -> list[Any]:
            async with connected(self.service, role=None) as owner:
                return list(await owner.fetch(sql, *values))

        return asyncio.run(fetch())

    def between_write_and_commit(self, begin: Callable[[], None], *, by_kill: bool = False) -> None:
        held = HeldUp(self.service)
        begin()
        assert held.waiting.wait(SECONDS)
        self.end(self.service.kill if by_kill else self.service.cut_power)
        held.join(SECONDS)

    def request_render(self) -> None:
        answer = self.api.post("/v1/documents/render-jobs", json=request_for(self.version))
        assert answer.status_code == 202
        self.jobs.append(answer.json()["id"])

    def finalize_upload(self) -> None:
        self.uploads.append(send(self.api, hostile_files.pdf_of()))
        finalize(self.api, self.uploads[-1])

    def between_commit_and_answer(self) -> None:
        key = str(uuid.uuid4())
        body = {k: v for k, v in request_for(self.version).items() if k not in ("clientMutationId", "requestedAt")}
        self.unread[key] = body
        threading.Thread(target=self._generate, args=(key, body), daemon=True).start()
        query = """SELECT 1 FROM documents d JOIN document_render_jobs j ON j.id = d.render_job_id
                   WHERE j.client_mutation_id = $1"""
        deadline = time.monotonic() + SECONDS
        while not self.rows(query, uuid.UUID(key)):
            assert time.monotonic() < deadline
        self.cut()

    def _generate(self, key: str, body: dict[str, Any]) -> None:
        with suppress(httpx2.HTTPError):
            httpx2.post(
                f"{self.service.url}/v1/documents/generate",
                json=body,
                headers={"Authorization": self.api.headers["authorization"], "Idempotency-Key": key},
                timeout=SECONDS,
            )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, fhir_url: str, require_engine: EngineRequirement) -> Iterator[Site]:
    require_engine("clamd")
    folder = tmp_path_factory.mktemp("cuts")
    (folder / "clamd").mkdir()
    with running_clamd(folder / "clamd") as clamd:
        here = Site(folder, clamd.address, fhir_url)
        try:
            yield here
        finally:
            here.api.close()
            here.service.stop()


async def test_cuts_leave_no_row_without_object_and_no_readable_orphan(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    rounds = [
        lambda: site.between_write_and_commit(site.request_render),
        site.between_commit_and_answer,
        lambda: site.between_write_and_commit(site.finalize_upload),
        site.between_commit_and_answer,
    ]

    def all_rounds() -> None:
        for number in range(ROUNDS):
            rounds[number % len(rounds)]()
            if (number + 1) % CALM_AFTER == 0:
                _everything_promised_is_there_once(site)

    await asyncio.to_thread(all_rounds)
    jobs = await asyncio.to_thread(_everything_promised_is_there_once, site)
    starts = sorted(job["attempts"] for job in jobs)
    record_property("starts_of_a_job_at_most", starts[-1])
    keys = KeyStore.open(site.data_dir / "keys")
    store = open_store(site.data_dir / "objects", keys)
    async with connected(site.service, role=None) as owner:
        report = await store_care.verify(owner, store, keys)
        assert report.faults == []
        named = set()
        for row in await owner.fetch("SELECT object_name, snapshot_name, original_name FROM documents"):
            named |= {name for name in row.values() if name is not None}
    # The chain of the audit trail went through every cut as well.
    assert "the chain is whole" in await asyncio.to_thread(site.service.command, "audit", "verify")
    there = {stat.name async for stat in store.list(site.tenant)}
    assert named <= there
    # The cuts did leave objects without a row: nothing leads to them, and the sweep takes them and nothing else.
    assert len(there - named) >= ROUNDS // 2
    # A cut between a verdict and the deletion of the upload's pieces leaves rows that name them, for half a minute.
    deadline = time.monotonic() + SECONDS
    while await asyncio.to_thread(site.rows, "SELECT 1 FROM upload_pieces"):
        assert time.monotonic() < deadline, "pieces of accepted uploads are kept"
        await asyncio.sleep(1)
    database = await open_database(address_of(site.service))
    try:
        await store_care.sweep(database, store, older_than=timedelta(0))
    finally:
        await database.close()
    assert {stat.name async for stat in store.list(site.tenant)} == named


async def test_what_a_power_cut_ended_is_innocent_and_what_ends_its_worker_is_not(site: Site) -> None:
    """One more lost start is too many for these jobs: the cut does not count as one, the killed process does."""
    async with connected(site.service, role=None) as owner:
        await owner.execute(f"ALTER TABLE document_render_jobs ALTER unanswered_starts SET DEFAULT {STARTS_LIMIT - 1}")
    ends = {}
    for cause in ("SERVICE_LOST", "WORKER_LOST"):
        by_kill = cause == "WORKER_LOST"
        await asyncio.to_thread(site.between_write_and_commit, site.request_render, by_kill=by_kill)
        job = await asyncio.to_thread(site.api.wait, site.jobs.pop(), SECONDS)
        assert job["attemptCauses"][0]["code"] == cause
        ends[cause] = job["error"] and job["error"]["code"]
    assert ends == {"SERVICE_LOST": None, "WORKER_LOST": "WORKERS_LOST"}


def _everything_promised_is_there_once(site: Site) -> list[dict[str, Any]]:
    jobs = {job: site.api.wait(job, SECONDS) for job in site.jobs}
    assert [job for job in jobs.values() if job["status"] != "completed"] == []
    uploads = [verdict(site.api, upload, SECONDS) for upload in site.uploads]
    assert {upload["status"] for upload in uploads} == {"accepted"}
    repeated = [_repeat(site.api, key, body) for key, body in site.unread.items()]
    documents = [
        *(job["documentId"] for job in jobs.values()),
        *(upload["documentId"] for upload in uploads),
        *(document["id"] for document in repeated),
    ]
    rows = site.rows("SELECT id, number FROM documents")
    assert sorted(row["id"] for row in rows) == sorted(documents)
    assert len({row["number"] for row in rows}) == len(rows)
    for document in documents:
        assert site.api.content(document).content.startswith(b"%PDF-")
    return list(jobs.values())


def _repeat(api: Api, key: str, body: dict[str, Any]) -> dict[str, Any]:
    """The device asks again with the key of the answer that it never got."""
    answer = api.post("/v1/documents/generate", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 200, answer.text
    assert answer.headers["idempotent-replayed"] == "true"
    return dict(answer.json())
