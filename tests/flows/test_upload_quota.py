"""How much one user may send, and what becomes of the name that a file came with (ASVS V5.2.4, V5.3.2, V5.4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import hostile_files
from clamav import running_clamd
from document_service import uploads
from engines import EngineRequirement
from raw_database import connected
from running_service import Api, Service
from upload_acts import announce, judged


@pytest.fixture(scope="module")
def scanning(tmp_path_factory: pytest.TempPathFactory, require_engine: EngineRequirement) -> Iterator[Service]:
    require_engine("clamd")
    folder = tmp_path_factory.mktemp("quota")
    (folder / "clamd").mkdir()
    with running_clamd(folder / "clamd") as clamd:
        running = Service(folder / "data", DOCUMENT_SERVICE_CLAMD=clamd.address).start("--workers", "1")
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture
def sender(scanning: Service, fhir_url: str) -> Iterator[Api]:
    with scanning.caller(scanning.create_tenant(fhir_url)) as caller:
        yield caller


def begin(api: Api, size: int) -> tuple[int, str]:
    answer = api.post("/v1/documents/uploads", json={**announce(b"x"), "size": size})
    return answer.status_code, answer.json().get("code", "")


def test_a_user_has_a_quota_of_bytes_and_files(scanning: Service, sender: Api) -> None:
    async def alter(statement: str) -> None:
        async with connected(scanning, role=None) as owner:
            await owner.execute(statement)

    refused = (409, "UPLOAD_QUOTA_EXCEEDED")
    for _ in range(uploads.OPEN_BYTES_PER_USER // 25_000_000):
        assert begin(sender, 25_000_000)[0] == 201
    assert begin(sender, 25_000_000) == refused
    asyncio.run(alter("UPDATE uploads SET size = 1, received = 0 WHERE status = 'receiving'"))
    for _ in range(uploads.OPEN_FILES_PER_USER - uploads.OPEN_BYTES_PER_USER // 25_000_000):
        assert begin(sender, 1)[0] == 201
    assert begin(sender, 1) == refused
    # Their ends make room, but a day has its limit too.
    asyncio.run(alter("UPDATE uploads SET status = 'failed', reason_code = 'FILE_UNREADABLE'"))
    assert begin(sender, 1)[0] == 201
    asyncio.run(alter("UPDATE uploads SET size = 200000000 WHERE status = 'failed'"))
    assert begin(sender, 1) == refused
    asyncio.run(alter("UPDATE uploads SET created_at = now() - interval '25 hours' WHERE status = 'failed'"))
    assert begin(sender, 1)[0] == 201


@pytest.mark.parametrize(
    "name", ["../../../../etc/cron.d/x.pdf", 'a"; filename=evil.html;.pdf', "a\r\nSet-Cookie: x=1\r\n.pdf", "نسخه.pdf"]
)
def test_a_file_name_is_a_label_and_never_a_path(scanning: Service, sender: Api, name: str) -> None:
    before = _outside(scanning)
    shown = judged(sender, hostile_files.pdf_of(), name=name)
    assert shown["status"] == "accepted"
    answer = sender.content(shown["documentId"])
    number = sender.get(f"/v1/documents/{shown['documentId']}").json()["number"]
    assert answer.headers["content-disposition"] == f'attachment; filename="{number}.pdf"'
    assert "set-cookie" not in answer.headers
    assert _outside(scanning) == before
    assert not any("evil" in path.name or "cron" in path.name for path in scanning.data_dir.rglob("*"))


def _outside(scanning: Service) -> set[Path]:
    """What lies beside the data folder."""
    return set(scanning.data_dir.parent.iterdir())
