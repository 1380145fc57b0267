"""The scanner as it runs: processes of its own for each file, and a real clamd, living and dying."""

from __future__ import annotations

import asyncio
import os
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pikepdf
import pytest

from clamav import EICAR, RunningClamd, running_clamd
from document_service.errors import ConversionFailed, ScannerUnavailable
from document_service.scanner import MAX_BYTES, REASONS, Scanner
from document_service.scanner.isolation import Inspectors
from engines import EngineRequirement
from hostile_files import HONEST, HOSTILE, image, pdf_of, pdf_with_attachment, zip_of

pytestmark = pytest.mark.clamd


@pytest.fixture(scope="module")
def clamd(tmp_path_factory: pytest.TempPathFactory, require_engine: EngineRequirement) -> Iterator[RunningClamd]:
    require_engine("clamd")
    with running_clamd(tmp_path_factory.mktemp("clamd")) as running:
        yield running


@pytest.fixture
async def scanner(clamd: RunningClamd) -> AsyncIterator[Scanner]:
    scanner = Scanner(clamd.address)
    scanner.start()
    yield scanner
    await scanner.stop()


async def test_every_hostile_file_has_its_code_and_none_is_accepted(scanner: Scanner) -> None:
    async def check(what: str) -> None:
        data, content_type, name, code = HOSTILE[what]
        verdict = await scanner.scan(data, content_type, name)
        assert (verdict.code, verdict.state) == (code, REASONS[code].state), (what, verdict)

    # Those that differ most; tests/unit/test_scanner_inspection.py has them all.
    chosen = [
        *("EICAR plain", "EICAR in a PDF's attachment", "EICAR after 1 MB", "script in an object stream"),
        *("encrypted PDF", "PDF and ZIP", "pixel flood", "cut PDF", "GIF"),
    ]
    await asyncio.gather(*map(check, chosen))


async def test_clamd_finds_what_only_it_can_find(scanner: Scanner) -> None:
    """In a ZIP the rules see compressed bytes only; clamd unpacks it."""
    verdict = await scanner.scan(zip_of(a=EICAR), "application/zip", "a.zip")
    assert verdict.code == "MALWARE_FOUND"
    assert verdict.findings[-1] == "clamd:Eicar-Test-Signature.UNOFFICIAL"
    # clamd 1.4 does not inflate an attachment whose dictionary holds another one; the structure walk refuses it.
    verdict = await scanner.scan(pdf_with_attachment(zip_of(a=EICAR)), "application/pdf", "a.pdf")
    assert verdict.state == "quarantined"


async def test_honest_files_are_accepted_and_images_become_pdf(scanner: Scanner, tmp_path: Path) -> None:
    for what in ("PDF", "JPEG", "TIFF of three pages"):
        data, content_type, name, pages = HONEST[what]
        path = tmp_path / "upload"
        path.write_bytes(data)
        for source in (data, path):
            verdict = await scanner.scan(source, content_type, name)
            assert (verdict.state, verdict.pages) == ("accepted", pages)
        if what != "PDF":
            made, count = await scanner.image_to_pdf(data)
            assert count == pages
            assert (await scanner.scan(made, "application/pdf", "a.pdf")).state == "accepted"
    with pytest.raises(ConversionFailed):
        await scanner.image_to_pdf(pdf_of())


async def test_the_limit_is_exact(scanner: Scanner, tmp_path: Path) -> None:
    whole = image("PNG")
    padded = whole + random.Random(1).randbytes(MAX_BYTES - len(whole))
    assert (await scanner.scan(padded, "image/png", "a.png")).state == "accepted"
    path = tmp_path / "upload"
    path.write_bytes(padded + b"x")
    for source in (padded + b"x", path):
        verdict = await scanner.scan(source, "image/png", "a.png")
        assert (verdict.state, verdict.code) == ("failed", "FILE_TOO_LARGE")


async def test_the_state_tells_version_and_loss(scanner: Scanner, tmp_path: Path) -> None:
    state = await scanner.state()
    assert state.available
    assert state.engine
    state = await Scanner(f"unix:{tmp_path}/none").state()
    assert not state.available
    assert state.problem


async def test_without_clamd_nothing_gets_a_verdict(tmp_path: Path) -> None:
    scanner = Scanner(f"unix:{tmp_path}/none")
    for data, content_type, name, _ in (HOSTILE["EICAR plain"], HOSTILE["encrypted PDF"], HONEST["PDF"]):
        with pytest.raises(ScannerUnavailable):
            await scanner.scan(data, content_type, name)
    await scanner.stop()


async def test_clamd_killed_in_mid_scan_gives_no_verdict(clamd: RunningClamd, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(20_000_000)
    with running_clamd(tmp_path) as own:
        scanner = Scanner(own.address)
        scanner.start()
        scans = [asyncio.create_task(scanner.scan(data, "image/png", "a.png")) for _ in range(4)]
        await asyncio.sleep(0.03)
        own.process.kill()
        outcomes = await asyncio.gather(*scans, return_exceptions=True)
        await scanner.stop()
    assert any(isinstance(outcome, ScannerUnavailable) for outcome in outcomes)
    for outcome in outcomes:
        assert isinstance(outcome, ScannerUnavailable) or outcome.state != "accepted"  # type: ignore[union-attr]


async def test_a_file_that_takes_too_long_is_stopped(clamd: RunningClamd) -> None:
    scanner = Scanner(clamd.address, inspectors=Inspectors(answer_seconds=0.001))
    verdict = await scanner.scan(image("PNG", (3000, 3000)), "image/png", "a.png")
    assert (verdict.state, verdict.code) == ("failed", "FILE_TOO_COMPLEX")
    await scanner.stop()


async def test_a_file_that_needs_too_much_memory_is_not_accepted_and_the_next_one_passes(scanner: Scanner) -> None:
    verdict = await scanner.scan(pdf_of(_flood), "application/pdf", "a.pdf")
    assert verdict.state == "quarantined", verdict
    assert (await scanner.scan(pdf_of(), "application/pdf", "a.pdf")).state == "accepted"


def _flood(pdf: pikepdf.Pdf) -> None:
    """Attach 2 GB of zeros, deflated to 2 MB; reading them needs more memory than the process has."""
    megabyte, times = bytes(1 << 20), 2048
    packer = zlib.compressobj(9)
    head = packer.compress(megabyte) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(megabyte) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 1
    for _ in range(times + 1):
        checksum = zlib.adler32(megabyte, checksum)
    packed = head + block * times + b"\x03\x00" + checksum.to_bytes(4, "big")
    stream = pikepdf.Stream(pdf, packed, Type=pikepdf.Name.EmbeddedFile)
    stream.Filter = pikepdf.Name.FlateDecode
    pdf.Root.Flood = pdf.make_indirect(stream)


async def test_the_inspecting_process_has_no_rights_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    inspectors = Inspectors()
    inspectors.start()
    assert inspectors._ahead is not None
    process = await inspectors._ahead
    folder = Path(f"/proc/{process.pid}")
    if folder.exists():
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
        if os.geteuid() == 0:
            assert set(status["Uid"].split()) == {"65534"}
            assert status["Groups"].strip() == ""
            assert int(status["CapEff"], 16) == 0
        limits = (folder / "limits").read_text()
        assert b"secret" not in (folder / "environ").read_bytes()
        assert [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size")] == ["0"]
    await inspectors.stop()
    assert process.returncode is not None


async def test_a_waiting_process_that_was_killed_is_replaced(scanner: Scanner) -> None:
    ahead = scanner._inspectors._ahead
    assert ahead is not None
    process = await ahead
    process.kill()
    await process.wait()
    assert (await scanner.scan(pdf_of(), "application/pdf", "a.pdf")).state == "accepted"
