"""Printing to a real CUPS with Debian's cups-pdf, both started here (issue 6, point 4)."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pikepdf
import pytest

from cups_server import CupsServer
from document_client import ipp
from document_client.errors import PrinterUnavailable
from document_client.printing import Printer, PrintOutcome, choose_printer, print_document, printers, spooler_report
from document_service.fault_proxy import FaultProxy, Faults
from engines import EngineRequirement, require_engine

__all__ = ["require_engine"]
pytestmark = [pytest.mark.cups]

MARKER = "Zarghuna-Planted-Marker"


@pytest.fixture(scope="module")
def spooler(require_engine: EngineRequirement) -> Iterator[CupsServer]:
    require_engine("cups")
    with CupsServer() as server:
        yield server


@pytest.fixture
def cups(spooler: CupsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CupsServer:
    look_at(spooler, monkeypatch, tmp_path)
    return spooler


def look_at(server: CupsServer, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("CUPS_SERVER", str(server.socket))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("PRINTER", raising=False)
    monkeypatch.delenv("LPDEST", raising=False)


def one_page(bulk: int = 0) -> bytes:
    """A one-page PDF with the marker as readable text, and ``bulk`` further bytes that do not compress away."""
    pdf = pikepdf.new()
    pdf.add_blank_page(page_size=(595, 842))
    page = pdf.pages[0]
    font = pikepdf.Dictionary(Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica)
    page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
    page.Contents = pdf.make_stream(f"BT /F1 24 Tf 72 700 Td ({MARKER}) Tj ET\n".encode() + b"%" + b"x" * bulk)
    out = io.BytesIO()
    pdf.save(out, compress_streams=False)
    return out.getvalue()


def show(printer: str | None, **changes: object) -> PrintOutcome:
    values: dict[str, object] = {"title": "doc_01JD", "copies": 1, "timeout_seconds": 20.0, **changes}
    return print_document(one_page(), printer=printer, **values)  # type: ignore[arg-type]


def test_lists_the_queues_with_default_state_and_kind(cups: CupsServer) -> None:
    assert printers() == [
        Printer("Corridor", False, "idle", False),
        Printer("Far", False, "idle", False),
        Printer("Guarded", False, "idle", True),
        Printer("Null", False, "idle", True),
        Printer("PDF", True, "idle", True),
        Printer("Rejecting", False, "rejecting", True),
        Printer("Stopped", False, "stopped", True),
        Printer("Ward", False, "idle", True),
    ]
    assert choose_printer(None).name == "PDF"


def test_prints_from_memory_to_completion(cups: CupsServer) -> None:
    before = len(cups.printed())
    outcome = show(None)
    assert (outcome.state, outcome.printer, outcome.detail) == ("completed", "PDF", "Printed.")
    assert outcome.job_id is not None
    assert outcome.kept_by_spooler is False
    made = cups.printed()[before:]
    assert len(made) == 1
    with pikepdf.open(made[0]) as pdf:
        assert len(pdf.pages) == 1


def test_prints_over_the_loopback_port_and_to_a_class(cups: CupsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPS_SERVER", f"127.0.0.1:{cups.port}")
    assert show("Null").state == "completed"
    assert show("Ward").state == "completed"


def test_the_default_printer_of_the_person_wins(cups: CupsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRINTER", "Null")
    assert choose_printer(None).name == "Null"


def test_nothing_of_the_document_stays_in_the_spooler_or_its_logs(cups: CupsServer) -> None:
    assert show("Null", title=MARKER + " daughter of 7").state == "completed"
    searched = [path for path in cups.home.rglob("*") if path.is_file() and cups.output not in path.parents]
    assert len(searched) > 3
    assert [path.name for path in searched if MARKER.encode() in path.read_bytes()] == []


def test_a_stopped_printer_keeps_the_job_waiting(cups: CupsServer) -> None:
    outcome = show("Stopped", timeout_seconds=0.3)
    assert outcome.state == "submitted"
    assert outcome.kept_by_spooler is True
    assert "waiting" in outcome.detail or "stopped" in outcome.detail
    cancel(cups, outcome)


def cancel(server: CupsServer, outcome: PrintOutcome) -> None:
    assert ask(server, ipp.CANCEL_JOB, outcome).ok


def ask(server: CupsServer, operation: int, outcome: PrintOutcome) -> ipp.Response:
    request = ipp.Request(
        operation,
        (
            (ipp.URI, "printer-uri", f"ipp://localhost/printers/{outcome.printer}"),
            (ipp.INTEGER, "job-id", outcome.job_id),
            (ipp.NAME, "requesting-user-name", ipp.user_name()),
        ),
    )
    return ipp.Spooler(socket_path=server.socket).call("/", request, timeout=5)


def test_the_spooler_knows_the_copies_and_a_neutral_title(cups: CupsServer) -> None:
    outcome = show("Null", copies=3, title=f"{MARKER} 1967")
    (job,) = ask(cups, ipp.GET_JOB_ATTRIBUTES, outcome).of(ipp.JOB_GROUP)
    assert job["copies"] == [3]
    assert job["job-name"] == ["document"]


def test_a_cancelled_job_has_failed(cups: CupsServer) -> None:
    found: list[PrintOutcome] = []
    waiting = show("Stopped", timeout_seconds=0.0)
    assert waiting.job_id is not None
    printing = threading.Thread(target=lambda: found.append(show("Stopped")))
    printing.start()
    ours = PrintOutcome("submitted", "Stopped", waiting.job_id + 1, "")
    for _ in range(100):
        try:
            cancel(cups, ours)
        except AssertionError:
            printing.join(0.05)
        else:
            break
    printing.join(10)
    cancel(cups, waiting)
    assert [outcome.state for outcome in found] == ["failed"]
    assert "cancelled" in found[0].detail


def test_a_printer_that_cannot_be_reached_fails(cups: CupsServer) -> None:
    outcome = show("Far")
    assert outcome.state == "failed"
    assert "aborted" in outcome.detail


def test_a_queue_that_takes_no_jobs_fails_without_one(cups: CupsServer) -> None:
    outcome = show("Rejecting")
    assert (outcome.state, outcome.job_id) == ("failed", None)
    assert "takes no jobs now; choose another one" in outcome.detail


def test_a_queue_that_forbids_us_fails_by_lp_too(cups: CupsServer) -> None:
    outcome = show("Guarded")
    assert (outcome.state, outcome.job_id) == ("failed", None)
    assert "lp" in outcome.detail


def test_an_unknown_printer_is_refused_with_the_names_there_are(cups: CupsServer) -> None:
    with pytest.raises(PrinterUnavailable, match="Corridor, Far, Guarded, Null"):
        show("Nowhere")


def test_a_connection_cut_while_sending_prints_nothing(cups: CupsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultProxy(f"127.0.0.1:{cups.port}") as proxy:
        monkeypatch.setenv("CUPS_SERVER", f"127.0.0.1:{proxy.port}")
        # Questions are under 2 KB each; only the document is longer.
        proxy.apply(Faults(reset_after_up=20_000))
        outcome = print_document(one_page(200_000), title="doc_9", printer="Null", copies=1, timeout_seconds=5)
    assert outcome.state == "failed"
    assert "nothing was printed and the job was cancelled" in outcome.detail


def test_a_spooler_that_keeps_files_is_detected(
    require_engine: EngineRequirement, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require_engine("cups")
    with CupsServer(keep_files=True) as server:
        look_at(server, monkeypatch, tmp_path)
        assert spooler_report().keeps_files is None
        outcome = show("Null")
        assert (outcome.state, outcome.kept_by_spooler) == ("completed", True)
        assert "still keeps" in outcome.detail
        # By the evidence of that job, and by the file where it can be read.
        assert spooler_report().keeps_files is True
        assert spooler_report(server.configuration).keeps_files is True


def test_a_spooler_that_keeps_nothing_says_so(cups: CupsServer) -> None:
    report = spooler_report(cups.configuration)
    assert report.available
    assert report.keeps_files is False
    assert "8 printers" in report.detail


def test_a_spooler_without_history_or_life_leaves_the_end_unknown(
    require_engine: EngineRequirement, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require_engine("cups")
    with CupsServer(keep_history=False) as server:
        look_at(server, monkeypatch, tmp_path)
        outcome = show("Null")
        assert (outcome.state, outcome.kept_by_spooler) == ("unknown", False)
        stopper = threading.Timer(0.4, server.stop)
        stopper.start()
        assert show("Stopped", timeout_seconds=1.5).state == "unknown"
        stopper.join()
        with pytest.raises(PrinterUnavailable):
            printers()
        assert spooler_report().available is False
