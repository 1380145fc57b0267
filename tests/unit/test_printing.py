"""Printing without a spooler: the wire form, what is said of printers, and every way in which one is missing."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from document_client import ipp, printers, printing
from document_client.errors import PrinterUnavailable
from document_client.ipp import IppError, Spooler
from document_client.printing import choose_printer, job_title, print_document, spooler_report


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CUPS_SERVER", str(tmp_path / "absent.sock"))
    monkeypatch.delenv("PRINTER", raising=False)
    monkeypatch.delenv("LPDEST", raising=False)
    monkeypatch.delenv("CUPS_ENCRYPTION", raising=False)
    return tmp_path


def test_a_request_has_the_form_of_rfc_8010() -> None:
    request = ipp.Request(
        ipp.CREATE_JOB,
        (
            (ipp.URI, "printer-uri", "ipp://localhost/printers/P"),
            (ipp.KEYWORD, "requested-attributes", "a"),
            (ipp.KEYWORD, "requested-attributes", "b"),
        ),
        ((ipp.INTEGER, "copies", 2),),
    )
    wire = ipp.encode(request, request_id=7)
    assert wire.startswith(struct.pack(">BBHIB", 2, 0, 5, 7, 1) + b"\x47\x00\x12attributes-charset\x00\x05utf-8\x48")
    # A further value of the same attribute has no name of its own.
    assert b"\x44\x00\x14requested-attributes\x00\x01a\x44\x00\x00\x00\x01b\x02" in wire
    assert wire.endswith(b"\x21\x00\x06copies\x00\x04\x00\x00\x00\x02\x03")
    read = ipp.decode(wire)
    assert read.of(ipp.OPERATION_GROUP)[0]["requested-attributes"] == ["a", "b"]
    assert read.of(ipp.JOB_GROUP) == [{"copies": [2]}]


def test_values_of_every_kind_are_read() -> None:
    def attribute(tag: int, name: bytes, raw: bytes) -> bytes:
        return struct.pack(">BH", tag, len(name)) + name + struct.pack(">H", len(raw)) + raw

    wire = (
        struct.pack(">BBHIB", 1, 1, 0, 1, ipp.PRINTER_GROUP)
        + attribute(ipp.BOOLEAN, b"yes", b"\x01")
        + attribute(ipp.ENUM, b"state", struct.pack(">i", -3))
        + attribute(0x13, b"nothing", b"")
        + attribute(0x35, b"text", b"\x00\x02en\x00\x05hello")
        + attribute(0x31, b"date", b"\x07\xea")
        + attribute(0x34, b"media", b"")
        + attribute(0x4A, b"", b"member")
        + attribute(ipp.INTEGER, b"", b"\x00\x00\x00\x01")
        + attribute(0x37, b"", b"")
        + attribute(ipp.NAME, b"name", "پزشک".encode())
        + b"\x03"
    )
    assert ipp.decode(wire).of(ipp.PRINTER_GROUP) == [
        {"yes": [True], "state": [-3], "nothing": [None], "text": ["hello"], "date": [b"\x07\xea"], "name": ["پزشک"]}
    ]


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_as_no_ipp(data: bytes) -> None:
    for wire in (data, struct.pack(">BBHIB", 2, 0, 0, 1, ipp.JOB_GROUP) + data):
        try:
            ipp.decode(wire)
        except IppError:
            continue


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("/run/x.sock", Spooler(socket_path=Path("/run/x.sock"))),
        ("print.clinic.example", Spooler(host="print.clinic.example")),
        ("127.0.0.1:6310", Spooler(host="127.0.0.1", port=6310)),
        ("[::1]:6310", Spooler(host="::1", port=6310)),
        ("old.example:631/version=1.1", Spooler(host="old.example")),
    ],
)
def test_cups_server_is_read_as_cups_reads_it(named: str, expected: Spooler) -> None:
    assert printers.parse_server(named) == expected


def test_a_wrong_cups_server_is_said() -> None:
    with pytest.raises(PrinterUnavailable, match="CUPS_SERVER"):
        printers.parse_server("host:port")


def test_the_persons_client_conf_names_the_spooler(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUPS_SERVER")
    (own_home / ".cups").mkdir()
    (own_home / ".cups/client.conf").write_text("# ServerName no\nservername print.example:1631\n")
    assert printers.find_spooler() == Spooler(host="print.example", port=1631)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("doc_01JDX3", "doc_01JDX3"),
        ("LAB-2025-000123", "LAB-2025-000123"),
        ("Zarghuna Ahmadi", "document"),
        ("Zarghuna", "document"),
        ("Zarghuna 1967", "document"),
        ("زرغونه۱۲", "document"),
        ("a1\n", "document"),
        ("1" * 65, "document"),
        ("", "document"),
    ],
)
def test_only_numbers_and_ids_are_shown_as_titles(title: str, shown: str) -> None:
    assert job_title(title) == shown


@pytest.mark.parametrize(
    ("uri", "model", "virtual"),
    [
        ("cups-pdf:/", "Generic CUPS-PDF Printer", True),
        ("ipp://ward.local/printers/PDF", "Generic CUPS-PDF Printer", True),
        ("file:///dev/null", "", True),
        ("file:/home/nurse/out.pdf", "", True),
        ("file:/dev/usb/lp0", "", False),
        ("usb://HP/LaserJet", "HP LaserJet, hpcups (PDF)", False),
        ("socket://10.0.0.9", "", False),
    ],
)
def test_a_printer_that_makes_a_file_is_virtual(uri: str, model: str, virtual: bool) -> None:
    assert printers._makes_file(uri, model) is virtual


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("", True),
        ("PreserveJobFiles No\n", False),
        ("  preservejobfiles off\n", False),
        ("PreserveJobFiles 300\n", True),
        ("#PreserveJobFiles No\n", True),
        ("PreserveJobHistory No\n", False),
    ],
)
def test_the_configuration_says_whether_files_are_kept(tmp_path: Path, text: str, keeps: bool) -> None:
    conf = tmp_path / "cupsd.conf"
    conf.write_text(text)
    assert printers._kept_by_configuration(conf) is keeps
    assert printers._kept_by_configuration(tmp_path / "absent") is None


def test_without_a_spooler_printing_is_refused_and_reported() -> None:
    with pytest.raises(PrinterUnavailable, match="No print spooler answers"):
        print_document(b"%PDF-", title="doc_1", printer=None, copies=1, timeout_seconds=1)
    report = spooler_report()
    assert (report.available, report.keeps_files) == (False, None)


@pytest.mark.parametrize("copies", [0, -1, 10_000])
def test_a_wrong_number_of_copies_is_refused_before_anything(copies: int) -> None:
    with pytest.raises(ValueError, match="copies must be"):
        print_document(b"%PDF-", title="doc_1", printer=None, copies=copies, timeout_seconds=1)


# --- A spooler that answers what a test says ------------------------------------------------------------------


class ScriptedSpooler(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, answer: bytes) -> None:
        self.answer = answer
        super().__init__(str(path), ScriptedAnswer)


class ScriptedAnswer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.rfile.read(length)
        assert isinstance(self.server, ScriptedSpooler)
        self.wfile.write(self.server.answer)


@pytest.fixture
def scripted(own_home: Path) -> Iterator[ScriptedSpooler]:
    with ScriptedSpooler(own_home / "absent.sock", b"") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def http(status: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", http(b"200 OK", b"<html>portal</html>"), http(b"500 Oops"), http(b"200 OK", b"\x02")],
)
def test_a_spooler_that_talks_nonsense_is_unavailable(scripted: ScriptedSpooler, answer: bytes) -> None:
    scripted.answer = answer
    with pytest.raises(PrinterUnavailable, match="No print spooler answers"):
        printers.printers()


def test_a_job_that_the_spooler_has_forgotten_may_have_been_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to its bytes was lost, and ``PreserveJobHistory No`` forgets what is printed."""

    class Forgetful:
        def call(self, path: str, request: ipp.Request, **_: object) -> ipp.Response:
            if request.operation == ipp.CREATE_JOB:
                return ipp.Response(0, [(ipp.JOB_GROUP, {"job-id": [7]})])
            if request.operation == ipp.SEND_DOCUMENT:
                raise IppError("no answer from the spooler (TimeoutError)")
            return ipp.Response(ipp.NOT_FOUND)

    monkeypatch.setattr(printing, "find_spooler", Forgetful)
    monkeypatch.setattr(printing, "choose_printer", lambda name: printers.Printer("P", True, "idle", False))
    printed = print_document(b"%PDF", title="doc_1", printer="P", copies=1, timeout_seconds=1)
    assert printed.state == "unknown"


def test_a_spooler_without_printers_says_so(scripted: ScriptedSpooler) -> None:
    scripted.answer = http(b"200 OK", struct.pack(">BBHIB", 2, 0, ipp.NOT_FOUND, 1, 3))
    assert printers.printers() == []
    with pytest.raises(PrinterUnavailable, match="No printer is set up"):
        choose_printer(None)


@pytest.fixture
def commands(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins of ``lpstat`` and ``lp`` that note what they were given."""
    folder = own_home / "bin"
    folder.mkdir()
    (folder / "lpstat").write_text(
        '#!/bin/sh\n[ "$1" = -d ] && echo "system default destination: Ward" && exit\n'
        'echo "device for Ward: ipps://far.example/ipp"; echo "device for PDF: cups-pdf:/"\n'
    )
    (folder / "lp").write_text(
        f'#!/bin/sh\necho "$@" > {folder}/arguments\ncat > {folder}/document\n'
        'echo "request id is Ward-41 (0 file(s))"\n'
    )
    for command in folder.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden", b"426 Upgrade Required"])
def test_lp_prints_where_the_spooler_wants_encryption_or_a_password(
    scripted: ScriptedSpooler, commands: Path, status: bytes
) -> None:
    scripted.answer = http(status)
    assert [(printer.name, printer.is_default, printer.is_virtual) for printer in printers.printers()] == [
        ("Ward", True, False),
        ("PDF", False, True),
    ]
    outcome = print_document(b"%PDF-1.7", title="doc_1", printer=None, copies=2, timeout_seconds=5)
    assert (outcome.state, outcome.printer, outcome.job_id) == ("submitted", "Ward", 41)
    assert (commands / "arguments").read_text() == "-d Ward -n 2 -t doc_1 -\n"
    assert (commands / "document").read_bytes() == b"%PDF-1.7"


@pytest.mark.parametrize("where", ["the environment", "client.conf"])
def test_where_this_machine_wants_encryption_nothing_goes_to_a_port_in_the_clear(
    own_home: Path, commands: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("DOCUMENTS_PASSPHRASE", "kept to ourselves")
    (commands / "lp").write_text(f"#!/bin/sh\nenv > {commands}/environment\ncat > {commands}/document\n")
    with socket.create_server(("127.0.0.1", 0)) as asked:
        monkeypatch.setenv("CUPS_SERVER", f"127.0.0.1:{asked.getsockname()[1]}")
        if where == "client.conf":
            (own_home / ".cups").mkdir()
            (own_home / ".cups/client.conf").write_text("Encryption Required\n")
        else:
            monkeypatch.setenv("CUPS_ENCRYPTION", "Always")
        asked.settimeout(0.05)
        outcome = print_document(b"%PDF-1.7", title="doc_1", printer=None, copies=1, timeout_seconds=5)
        with pytest.raises(TimeoutError):
            asked.accept()
    assert (outcome.state, outcome.printer) == ("submitted", "Ward")
    assert (commands / "document").read_bytes() == b"%PDF-1.7"
    assert "kept to ourselves" not in (commands / "environment").read_text()


def test_a_domain_socket_needs_no_encryption(scripted: ScriptedSpooler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPS_ENCRYPTION", "Required")
    scripted.answer = http(b"200 OK", struct.pack(">BBHIB", 2, 0, ipp.NOT_FOUND, 1, 3))
    assert printers.printers() == []


def test_a_refusal_of_lp_has_failed(scripted: ScriptedSpooler, commands: Path) -> None:
    scripted.answer = http(b"426 Upgrade Required")
    (commands / "lp").write_text("#!/bin/sh\ncat >/dev/null\nexit 1\n")
    outcome = print_document(b"%PDF-1.7", title="doc_1", printer="Ward", copies=1, timeout_seconds=5)
    assert (outcome.state, outcome.job_id) == ("failed", None)


def test_without_lp_the_reason_is_said(
    scripted: ScriptedSpooler, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.answer = http(b"426 Upgrade Required")
    monkeypatch.setenv("PATH", str(own_home))
    with pytest.raises(PrinterUnavailable, match="encryption or a password"):
        printers.printers()
