"""A scanner that dies or talks nonsense in mid-scan, pieces that are gone, transfers that nobody ends (contract §6)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import hostile_files
from clamav import RunningClamd, running_clamd
from clamd_between import ClamdBetween, How, clamd_between
from document_service import uploads
from document_service.keys import KeyStore
from document_service.store import open_store
from engines import EngineRequirement
from raw_database import connected
from running_service import Service
from upload_acts import finalize, judged, nowhere_readable, send, verdict

#: A file that clamd reports as a finding until its signatures change.
FALSE_ALARM = b"%an honest remark that a signature was wrong about"


class Ward:
    """A service whose scanner can be taken away and given back."""

    def __init__(self, folder: Path, between: ClamdBetween, fhir_url: str) -> None:
        self.between = between
        self._folder = folder
        self._running: list[AbstractContextManager[RunningClamd]] = []
        self.give_scanner()
        self.service = Service(folder / "data", DOCUMENT_SERVICE_CLAMD=between.address).start("--workers", "1")
        self.tenant = self.service.create_tenant(fhir_url)
        self.api = self.service.caller(self.tenant)

    def give_scanner(self, **options: Any) -> None:
        folder = self._folder / f"clamd{len(self._running)}"
        folder.mkdir()
        scanner = running_clamd(folder, **options)
        self.between.real = scanner.__enter__()
        self.between.how = "pass"
        self._running.append(scanner)

    def sql(self, statement: str, *values: Any) -> None:
        async def execute() -> None:
            async with connected(self.service, role=None) as owner:
                await owner.execute(statement, *values)

        asyncio.run(execute())

    def rows(self, statement: str, *values: Any) -> list[Any]:
        async def fetch() -> list[Any]:
            async with connected(self.service, role=None) as owner:
                return list(await owner.fetch(statement, *values))

        return asyncio.run(fetch())

    def close(self) -> None:
        self.api.close()
        self.service.stop()
        for scanner in self._running:
            scanner.__exit__(None, None, None)


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory, fhir_url: str, require_engine: EngineRequirement) -> Iterator[Ward]:
    require_engine("clamd")
    with clamd_between() as between:
        ward = Ward(tmp_path_factory.mktemp("ward"), between, fhir_url)
        try:
            yield ward
        finally:
            ward.close()


#: Stands in every file that is asked for before its verdict.
MARK = b"%a-mark-that-nobody-may-read"


def begin(ward: Ward, how: How) -> str:
    """An upload whose scan is spoiled, after the service has tried once."""
    upload = send(ward.api, hostile_files.pdf_of() + b"\n" + MARK)
    ward.between.how, before = how, ward.between.scans
    assert finalize(ward.api, upload)["status"] == "scanning"
    deadline = time.monotonic() + 30
    while ward.between.scans == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ward.between.scans > before
    return upload


def unreadable(ward: Ward, upload: str, status: str) -> None:
    shown = ward.api.get(f"/v1/documents/uploads/{upload}").json()
    assert shown["status"] == status
    assert "documentId" not in shown
    nowhere_readable(ward.service, ward.tenant, ward.api, upload, MARK)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("kill", "SCANNER_UNAVAILABLE"),
        ("garbage", "SCANNER_ANSWER_INVALID"),
        ("endless", "SCANNER_ANSWER_INVALID"),
        ("clean-in-other-words", "SCANNER_ANSWER_INVALID"),
    ],
)
def test_a_scan_that_was_spoiled_lets_nothing_through_and_is_done_again_without_resending(
    ward: Ward, how: How, code: str
) -> None:
    if ward.between.real is None or ward.between.real.process.poll() is not None:
        ward.give_scanner()
    upload = begin(ward, how)
    unreadable(ward, upload, "scanning")
    # Ten minutes of waiting, without waiting them.
    ward.sql("UPDATE uploads SET scanning_since = scanning_since - interval '11 minutes' WHERE id = $1", upload)
    shown = verdict(ward.api, upload)
    assert (shown["status"], shown["reason"]["code"]) == ("failed", code)
    unreadable(ward, upload, "failed")
    if how == "kill":
        refused = ward.api.post(f"/v1/documents/uploads/{upload}/finalize", headers={"Idempotency-Key": "k"})
        assert (refused.status_code, refused.json()["code"]) == (503, "SCANNER_UNAVAILABLE")
        assert ward.api.get("/health/ready").json()["components"]["scanner"] == "down"
        assert "document_service_scanner_up 0.0" in ward.api.get("/metrics").text
        ward.give_scanner()
    ward.between.how = "pass"
    assert finalize(ward.api, upload)["status"] == "scanning"
    assert verdict(ward.api, upload)["status"] == "accepted"
    assert ward.api.get("/health/ready").json()["components"]["scanner"] == "up"


def test_a_false_alarm_is_released_by_a_clean_scan_and_by_nothing_else(ward: Ward) -> None:
    ward.give_scanner(also={"Clinic-False-Alarm": FALSE_ALARM})
    content = hostile_files.pdf_of() + b"\n" + FALSE_ALARM + MARK
    shown = judged(ward.api, content)
    unreadable(ward, shown["id"], "quarantined")
    assert (shown["status"], shown["reason"]["code"]) == ("quarantined", "MALWARE_FOUND")
    path = f"/v1/documents/uploads/{shown['id']}"
    ward.between.how = "garbage"
    assert ward.api.post(f"{path}/rescan").status_code == 202
    ward.sql("UPDATE uploads SET scanning_since = scanning_since - interval '11 minutes' WHERE id = $1", shown["id"])
    assert verdict(ward.api, shown["id"])["status"] == "quarantined"
    ward.give_scanner()
    assert ward.api.post(f"{path}/rescan").status_code == 202
    released = verdict(ward.api, shown["id"])
    assert released["status"] == "accepted"
    assert ward.api.content(released["documentId"]).content == content
    (event,) = ward.api.get(
        "/v1/audit-events", params={"documentId": released["documentId"], "action": "upload.*"}
    ).json()["items"]
    assert event["action"] == "upload.release"


def test_an_upload_whose_pieces_are_gone_ends_and_says_so(ward: Ward) -> None:
    upload = begin(ward, "garbage")
    store = open_store(ward.service.data_dir / "objects", KeyStore.open(ward.service.data_dir / "keys"))

    async def lose() -> None:
        async for stat in store.list(ward.tenant, f"uploads/{upload}/"):
            await store.delete(ward.tenant, stat.name)

    asyncio.run(lose())
    shown = verdict(ward.api, upload)
    assert (shown["status"], shown["reason"]["code"]) == ("failed", "UPLOAD_LOST")
    ward.between.how = "pass"


def lose_workers(ward: Ward, upload: str, column: str, count: int) -> None:
    """Leave the state of lost workers behind, once the scan in hand was answered: its answer would begin anew."""
    deadline = time.monotonic() + 30
    while ward.rows("SELECT scan_began_at FROM uploads WHERE id = $1", upload)[0][0] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ward.sql(f"UPDATE uploads SET scan_began_at = now(), {column} = $2 WHERE id = $1", upload, count)


def test_a_file_over_which_every_worker_dies_ends_and_may_be_scanned_again(ward: Ward) -> None:
    """The state that seven killed workers leave behind, and an eighth in whose hand it is."""
    upload = begin(ward, "garbage")
    lose_workers(ward, upload, "workers_lost", uploads.WORKERS_LIMIT - 1)
    shown = verdict(ward.api, upload)
    assert (shown["status"], shown["reason"]["code"]) == ("failed", uploads.WORKERS_LOST)
    unreadable(ward, upload, "failed")
    ward.between.how = "pass"
    assert finalize(ward.api, upload)["status"] == "scanning"
    assert verdict(ward.api, upload)["status"] == "accepted"


def test_a_file_in_quarantine_stays_there_when_every_worker_dies_over_it(ward: Ward) -> None:
    ward.give_scanner(also={"Clinic-False-Alarm": FALSE_ALARM})
    shown = judged(ward.api, hostile_files.pdf_of() + b"\n" + FALSE_ALARM + MARK)
    assert shown["status"] == "quarantined"
    ward.between.how, before = "garbage", ward.between.scans
    assert ward.api.post(f"/v1/documents/uploads/{shown['id']}/rescan").status_code == 202
    while ward.between.scans == before:
        time.sleep(0.02)
    lose_workers(ward, shown["id"], "services_lost", uploads.SERVICES_LIMIT)
    again = verdict(ward.api, shown["id"])
    assert (again["status"], again["reason"]["code"]) == ("quarantined", uploads.WORKERS_LOST)
    unreadable(ward, shown["id"], "quarantined")
    ward.give_scanner()


def test_a_scan_whose_worker_is_killed_counts_it_and_one_that_is_answered_does_not(ward: Ward) -> None:
    upload = begin(ward, "silent")
    ward.service.kill()
    ward.between.how, before = "garbage", ward.between.scans
    ward.service.start("--workers", "1")
    ward.api.close()
    ward.api = ward.service.caller(ward.tenant)
    counted = "SELECT workers_lost, services_lost FROM uploads WHERE id = $1"
    while ward.between.scans == before:
        time.sleep(0.02)
    seen = {tuple(ward.rows(counted, upload)[0])}
    deadline = time.monotonic() + 30
    while (0, 0) not in seen and time.monotonic() < deadline:
        seen.add(tuple(ward.rows(counted, upload)[0]))
        time.sleep(0.01)
    assert (0, 0) in seen
    assert seen <= {(1, 0), (0, 0)}
    ward.between.how = "pass"
    assert verdict(ward.api, upload)["status"] == "accepted"


def test_what_nobody_goes_on_with_is_given_up_and_its_bytes_deleted(ward: Ward) -> None:
    content = hostile_files.pdf_of()
    upload, young = send(ward.api, content), send(ward.api, content)
    age = uploads.ABANDONED_AFTER + timedelta(hours=1)
    ward.sql("UPDATE uploads SET updated_at = now() - $2::interval WHERE id = $1", upload, age)
    deadline = time.monotonic() + 60
    while (shown := ward.api.get(f"/v1/documents/uploads/{upload}").json())["status"] == "receiving":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert shown["reason"]["code"] == "UPLOAD_ABANDONED"
    objects = ward.service.data_dir / "objects"
    while any(upload in str(path) and path.is_file() for path in objects.rglob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ward.api.get(f"/v1/documents/uploads/{young}").json()["status"] == "receiving"


def test_doctor_tells_how_the_scanner_is(ward: Ward) -> None:
    def finding() -> dict[str, str]:
        listed = json.loads(ward.service.command("doctor", "--json", check=False))
        return next(one for one in listed if one["part"] == "scanner")

    ward.give_scanner()
    assert "without a date" in finding()["detail"]
    ward.give_scanner(tells_of_limits=False)
    assert "AlertExceedsMax" in finding()["remedy"]
    assert ward.between.real is not None
    os.kill(ward.between.real.process.pid, 9)
    ward.between.real.process.wait()
    assert (finding()["state"], finding()["remedy"]) == ("note", "start clamd, or mend its address")
    ward.give_scanner()
    assert "document_service_scanner_signature_age_seconds NaN" in ward.api.get("/metrics").text
