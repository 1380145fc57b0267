"""Opening, saving and printing on the device: audited durably first, chained, sent later, outliving everything."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import rfc8785

from client_device import FORM, SERVER, Device, made_device, problem
from document_client import DocumentClient, audit, documents, printing, purging
from document_client.account import Account, open_account
from document_client.audit import Happening
from document_client.documents import _print_lock, record, settle_cut_off_prints
from document_client.errors import (
    DeviceRevoked,
    DocumentUnknown,
    NotNow,
    OnlineOnly,
    PrinterUnavailable,
    StorageFull,
    TemplateUnknown,
    UsageProblem,
    ViewerSilent,
    ViewerUnavailable,
)
from document_client.files import shared
from document_client.model import Fault
from document_client.printers import Printer
from document_client.printing import PrintOutcome
from document_client.queueing import Wish
from document_client.vault import Vault
from document_client.viewing import feed_viewer, show_once


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setenv("CUPS_SERVER", str(tmp_path / "absent.sock"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with made_device(tmp_path / "home") as made:
        made.ask()
        made.client.sync()
        yield made


@pytest.fixture
def document(device: Device) -> str:
    return str(device.client.documents.list()[0]["id"])


def events(device: Device) -> list[dict[str, Any]]:
    return audit.read_all(device.client.account().audit)


def check_chain(chain: list[dict[str, Any]]) -> None:
    previous = "0" * 64
    for number, event in enumerate(chain, start=1):
        bare = {k: v for k, v in event.items() if k not in ("hash", "state")}
        assert event["sequence"] == number
        assert event["previousHash"] == previous
        assert event["hash"] == hashlib.sha256(rfc8785.dumps(bare)).hexdigest()
        previous = event["hash"]


def test_opening_and_saving_offline_is_recorded_and_sent_later(device: Device, document: str, tmp_path: Path) -> None:
    device.transport.offline = True
    content = device.client.documents.read(document).content
    target = tmp_path / "copy.pdf"
    device.client.documents.save(document, target)
    assert target.read_bytes() == content
    assert target.stat().st_mode & 0o777 == 0o600
    recorded = events(device)
    assert [event["action"] for event in recorded] == ["document.opened", "document.saved"]
    assert {event["documentSha256"] for event in recorded} == {hashlib.sha256(content).hexdigest()}
    assert {event["clock"] for event in recorded} == {"verified"}
    check_chain(recorded)
    device.transport.offline = False
    assert device.client.sync().events_sent == 2
    assert {event["state"] for event in events(device)} == {"sent"}
    assert len(device.model.state.events) == 2


def test_a_lost_answer_sends_events_again_but_they_count_once(device: Device, document: str) -> None:
    device.client.documents.read(document)
    device.spoil("/audit-events", httpx2.ReadTimeout("lost"), late=True)
    assert not device.client.sync().success
    assert device.client.sync().success
    assert len(device.model.state.events) == 1


def test_events_that_the_service_refuses_are_kept_and_shown(device: Device, document: str) -> None:
    device.client.documents.read(document)
    event_id = events(device)[0]["eventId"]
    answer = {"items": [{"eventId": event_id, "result": "refused", "reason": "unreadable"}]}
    device.spoil("/audit-events", httpx2.Response(200, json=answer))
    assert device.client.sync().events_refused == 1
    assert device.client.status().audit == {"pending": 0, "refused": 1}
    assert len(events(device)) == 1


def test_a_service_without_the_route_keeps_the_evidence_here(device: Device, document: str) -> None:
    device.client.documents.read(document)
    device.spoil("/audit-events", problem(404, "NOT_FOUND"))
    report = device.client.sync()
    assert not report.success
    assert device.client.status().audit["pending"] == 1
    assert device.client.sync().events_sent == 1


def test_evidence_outlives_the_sign_out_and_is_sent_by_another_session(device: Device, document: str) -> None:
    device.client.documents.read(document)
    device.transport.offline = True
    device.client.logout()
    device.transport.offline = False
    device.login("dr.b")
    assert device.client.sync().events_sent == 1
    [event] = device.model.state.events.values()
    assert event["userId"] == "dr.a"


def test_without_a_printer_the_refusal_is_recorded(device: Device, document: str) -> None:
    with pytest.raises(PrinterUnavailable):
        device.client.documents.print(document, copies=2)
    recorded = events(device)
    assert [(e["action"], e["copy"]) for e in recorded] == [
        ("print.intent", 1),
        ("print.intent", 2),
        ("print.failed", 1),
        ("print.failed", 2),
    ]
    check_chain(recorded)
    with pytest.raises(PrinterUnavailable):
        device.client.documents.print(document)
    assert events(device)[-1]["copy"] == 3


def test_two_prints_at_once_share_no_copy_number(device: Device, document: str) -> None:
    other = device.another()
    other.account()

    def prints(client: DocumentClient) -> None:
        for _ in range(15):
            with pytest.raises(PrinterUnavailable):
                client.documents.print(document, copies=2)

    beside = threading.Thread(target=prints, args=(other,))
    beside.start()
    prints(device.client)
    beside.join()
    recorded = events(device)
    assert sorted(e["copy"] for e in recorded if e["action"] == "print.intent") == [*range(1, 61)]
    check_chain(recorded)


def test_a_print_that_was_cut_off_is_recorded_as_unknown(device: Device, document: str) -> None:
    account = device.client.account()
    record(account, Happening("print.intent", "dr.a", document, "0" * 64, copy=1, printer="P"))
    device.client.sync()
    assert len(events(device)) == 1, "it may still be printing"
    device.clocks.pass_time(601)
    device.client.sync()
    device.client.sync()
    assert [(e["action"], e["copy"], e.get("printer")) for e in events(device)] == [
        ("print.intent", 1, "P"),
        ("print.unknown", 1, "P"),
    ]


def test_no_print_counts_as_cut_off_while_one_is_followed(device: Device, document: str) -> None:
    account = device.client.account()
    record(account, Happening("print.intent", "dr.a", document, "0" * 64, copy=1, printer="P"))
    # The clock jumps, or the spooler takes its time.
    device.clocks.pass_time(3600)
    with shared(_print_lock(account)):
        assert settle_cut_off_prints(account) == 0
    assert settle_cut_off_prints(account) == 1
    assert settle_cut_off_prints(device.another().account()) == 0


PRINTING = """
import sys, time
from document_client import DocumentClient, printing
from document_client.clock import TimeSource
from document_client.printers import Printer

def spool(*content, **options):
    print("spooling", flush=True)
    time.sleep(600)

home, document, wall, monotonic, boot = sys.argv[1:]
printing.choose_printer, printing.print_document = lambda named: Printer("P", True, "idle", False), spool
clock = TimeSource(lambda: float(wall), lambda: float(monotonic), boot)
DocumentClient(home, passphrase="correct horse", clock=clock).documents.print(document)
"""


def test_a_print_whose_process_is_killed_counts_as_cut_off(device: Device, document: str) -> None:
    now = device.clocks.source()
    told = [os.fspath(device.home), document, str(now.wall()), str(now.monotonic()), now.boot]
    account = device.client.account()
    with subprocess.Popen([sys.executable, "-c", PRINTING, *told], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"spooling\n"
            device.clocks.pass_time(3600)
            assert settle_cut_off_prints(account) == 0
        finally:
            process.kill()
    assert settle_cut_off_prints(account) == 1
    assert [e["action"] for e in events(device)] == ["print.intent", "print.unknown"]


@pytest.mark.parametrize("tenant", ["clinic", "other"])
def test_a_print_stays_the_persons_who_began_it(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch, tenant: str
) -> None:
    def spool(*content: bytes, **options: Any) -> PrintOutcome:
        device.another().login(SERVER, device.token("dr.b", tenant), keep_sealed=True)
        return PrintOutcome(state="completed", printer="P", job_id=7, detail="")

    monkeypatch.setattr(printing, "choose_printer", lambda named: Printer("P", True, "idle", False))
    monkeypatch.setattr(printing, "print_document", spool)
    assert device.client.documents.print(document).state == "completed"
    device.login("dr.a")
    printed = [e for e in events(device) if e["action"].startswith("print.")]
    assert [(e["action"], e["userId"]) for e in printed] == [("print.intent", "dr.a"), ("print.submitted", "dr.a")]
    check_chain(events(device))


@pytest.mark.parametrize("leave", ["close", "logout", "login"])
def test_a_print_has_its_outcome_when_its_own_client_moves_on(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch, leave: str
) -> None:
    acts: dict[str, Callable[[], object]] = {
        "close": device.client.close,
        "logout": lambda: device.client.logout(keep_sealed=True),
        "login": lambda: device.login("dr.b", keep_sealed=True),
    }

    def spool(*content: bytes, **options: Any) -> PrintOutcome:
        acts[leave]()
        return PrintOutcome(state="completed", printer="P", job_id=7, detail="")

    monkeypatch.setattr(printing, "choose_printer", lambda named: Printer("P", True, "idle", False))
    monkeypatch.setattr(printing, "print_document", spool)
    assert device.client.documents.print(document).state == "completed"
    device.login("dr.a")
    printed = [e for e in events(device) if e["action"].startswith("print.")]
    assert [(e["action"], e["userId"]) for e in printed] == [("print.intent", "dr.a"), ("print.submitted", "dr.a")]


def test_two_programs_that_settle_at_once_write_one_outcome(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, other = device.client.account(), device.another().account()
    record(account, Happening("print.intent", "dr.a", document, "0" * 64, copy=1, printer="P"))
    device.clocks.pass_time(3600)
    plain = audit.read_prints
    beside: list[threading.Thread] = []

    def read(conn: Any) -> Any:
        found = list(plain(conn))
        if not beside:
            beside.append(threading.Thread(target=settle_cut_off_prints, args=(other,)))
            beside[0].start()
            # Long enough for the other to have written, where nothing keeps it from that.
            beside[0].join(0.5)
        return found

    monkeypatch.setattr(audit, "read_prints", read)
    settle_cut_off_prints(account)
    beside[0].join()
    assert [e["action"] for e in events(device)] == ["print.intent", "print.unknown"]


def test_the_purge_of_a_revoked_device_is_recorded_whatever_happens_to_it(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(conn: object) -> Any:
        raise KeyboardInterrupt

    account = device.client.account()
    with monkeypatch.context() as patched:
        patched.setattr(purging, "transaction", killed)
        with pytest.raises(KeyboardInterrupt):
            purging.purge_caches(account)
    assert [e["action"] for e in events(device)] == ["cache.purged"]
    assert purging.purge_caches(account) == 1


def test_a_copy_that_comes_while_its_device_is_purged_is_recorded_too(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = iter((0, 1))
    monkeypatch.setattr(purging, "_count_copies", lambda account: next(counted))
    assert purging.purge_caches(device.client.account()) == 1
    assert [e["action"] for e in events(device)] == ["cache.purged"]


def test_a_purge_of_somebody_elses_copies_is_recorded_once(device: Device) -> None:
    account = device.client.account()
    purging.purge_caches(account)
    (device.home / "accounts" / "another").mkdir()
    account.vault.key("cache/another")
    assert purging.purge_caches(account) == 0
    assert account.vault.key("cache/another", create=False) is None
    purging.purge_caches(account)
    assert [e["action"] for e in events(device)] == ["cache.purged"] * 2


def test_a_revoked_device_is_purged_also_when_its_evidence_cannot_be_written(device: Device, document: str) -> None:
    account = device.client.account()
    account.audit.pragma("max_page_count", account.audit.pragma("page_count"))
    with contextlib.suppress(StorageFull):
        while True:
            record(account, Happening("document.saved", "dr.a"))
    with pytest.raises(StorageFull):
        purging.purge_caches(account)
    assert account.cache.execute("SELECT count(*) FROM blobs").get == 0
    assert account.vault.key(f"cache/{account.session.account_id}", create=False) is None


def test_a_full_disk_keeps_nothing_readable_on_a_revoked_device(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, room = device.client.account(), []
    remove, destroy = purging.remove_files, Vault.destroy

    def full(*_: object) -> Any:
        raise StorageFull

    def make_room(path: Path) -> None:
        remove(path)
        room.append(path)

    def need_room(vault: Vault, name: str) -> None:
        if not room:
            raise StorageFull
        destroy(vault, name)

    monkeypatch.setattr(purging, "record", full)
    monkeypatch.setattr(purging, "transaction", full)
    monkeypatch.setattr(purging, "remove_files", make_room)
    monkeypatch.setattr(Vault, "destroy", need_room)
    before = account.vault.key(f"cache/{account.session.account_id}", create=False)
    with pytest.raises(StorageFull):
        purging.purge_caches(account)
    assert account.vault.key(f"cache/{account.session.account_id}", create=False) != before
    # The run that heard of it goes on with an empty one.
    assert account.cache.execute("SELECT count(*) FROM blobs").get == 0
    assert device.client.documents.list() == []
    assert device.another().documents.list() == []


REVOKED: dict[str, Callable[[Device], object]] = {
    "generate": lambda device: device.client.generate(Wish(FORM, "p1")),
    "prefetch": lambda device: device.client.prefetch(["p1"]),
    "refresh": lambda device: device.client.templates(refresh=True),
    "login": lambda device: device.login(),
    "sync": lambda device: device.client.sync(),
}


@pytest.mark.parametrize("act", REVOKED)
def test_a_revoked_device_is_purged_by_whatever_hears_of_it(device: Device, document: str, act: str) -> None:
    body = {"code": "DEVICE_REVOKED", "title": "This device was revoked."}
    refusal = httpx2.Response(403, headers={"x-sync-epoch": "epoch-1"}, json=body)
    device.transport.faults.append(Fault("/v1/", lambda request: refusal, times=99))
    with contextlib.suppress(DeviceRevoked):
        REVOKED[act](device)
    device.transport.offline = True
    with pytest.raises(DocumentUnknown):
        device.client.documents.read(document)
    assert "cache.purged" in [event["action"] for event in events(device)]


def test_a_copy_that_was_printed_is_never_called_failed(
    device: Device, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, failed = documents._write_print, list[str]()

    def once(account: Account, action: str, *rest: Any) -> None:
        if action == "print.submitted" and not failed:
            failed.append(action)
            raise StorageFull
        plain(account, action, *rest)

    monkeypatch.setattr(printing, "choose_printer", lambda named: Printer("P", True, "idle", False))
    monkeypatch.setattr(printing, "print_document", lambda *content, **options: PrintOutcome("completed", "P", 7, ""))
    monkeypatch.setattr(documents, "_write_print", once)
    with pytest.raises(StorageFull):
        device.client.documents.print(document)
    device.clocks.pass_time(3600)
    settle_cut_off_prints(device.client.account())
    assert [e["action"] for e in events(device)] == ["print.intent", "print.unknown"]


def test_no_byte_leaves_when_the_audit_event_cannot_be_written(
    device: Device, document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(account: Account) -> Account:
        account.audit.pragma("max_page_count", account.audit.pragma("page_count"))
        return account

    fill(device.client.account())
    # The limit is one connection's, and a print has its own.
    monkeypatch.setattr(documents, "open_account", lambda *given: fill(open_account(*given)))
    target = tmp_path / "copy.pdf"
    for number in range(200):
        try:
            device.client.documents.save(document, target.with_name(f"{number}.pdf"))
        except StorageFull:
            break
    saved = len(list(tmp_path.glob("*.pdf")))
    assert saved == len([e for e in events(device) if e["action"] == "document.saved"])
    with pytest.raises(StorageFull):
        device.client.documents.read(document)
    with pytest.raises(StorageFull):
        device.client.documents.print(document)


def test_saving_over_a_file_or_into_nowhere_is_refused(device: Device, document: str, tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(b"mine")
    for target in (tmp_path / "x.pdf", tmp_path, tmp_path / "missing" / "y.pdf"):
        with pytest.raises(UsageProblem):
            device.client.documents.save(document, target)
    assert (tmp_path / "x.pdf").read_bytes() == b"mine"
    device.client.documents.save(document, tmp_path / "x.pdf", replace=True)
    assert len(events(device)) == 1


def test_a_document_is_found_by_its_number_and_others_are_unknown(device: Device, document: str) -> None:
    number = device.client.documents.show(document)["number"]
    assert device.client.documents.read(number).document["id"] == document
    with pytest.raises(DocumentUnknown):
        device.client.documents.read("doc_unknown")


@pytest.mark.parametrize("copies", [0, -1, 100])
def test_a_wrong_number_of_copies_is_refused_before_anything(device: Device, document: str, copies: int) -> None:
    with pytest.raises(UsageProblem):
        device.client.documents.print(document, copies=copies)
    assert events(device) == []


# --- viewers ----------------------------------------------------------------------------------------------------


def viewer(tmp_path: Path, script: str) -> str:
    """Write a viewer that runs ``script`` in Python."""
    import sys

    path = tmp_path / "viewer.py"
    path.write_text(script)
    return f"{sys.executable} {path}"


def test_a_viewer_gets_the_bytes_by_a_url_that_works_once(tmp_path: Path) -> None:
    script = f"""
import sys, urllib.request, urllib.error
url = sys.argv[1]
for other in (url[:-8] + "x.pdf", url.replace("127.0.0.1", "127.0.0.1", 1) + "x"):
    try:
        urllib.request.urlopen(other)
        raise SystemExit("another path answered")
    except urllib.error.HTTPError as refused:
        assert refused.code == 404
got = urllib.request.urlopen(url)
assert got.headers["Cache-Control"] == "no-store"
open({str(tmp_path / "got")!r}, "wb").write(got.read())
try:
    urllib.request.urlopen(url, timeout=2)
    open({str(tmp_path / "twice")!r}, "w").close()
except OSError:
    pass
open({str(tmp_path / "url")!r}, "w").write(url)
"""
    show_once(b"%PDF bytes", "D-1", viewer(tmp_path, script), wait_seconds=20)
    import time

    for _ in range(100):
        if (tmp_path / "url").exists():
            break
        time.sleep(0.05)
    assert (tmp_path / "got").read_bytes() == b"%PDF bytes"
    assert not (tmp_path / "twice").exists()
    url = (tmp_path / "url").read_text()
    assert url.startswith("http://127.0.0.1:")
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=1)


def test_a_connection_on_which_nothing_is_asked_holds_no_viewer_up(tmp_path: Path) -> None:
    script = f"""
import socket, sys, time, urllib.request, urllib.parse
url = sys.argv[1]
idle = [socket.create_connection(("127.0.0.1", urllib.parse.urlsplit(url).port)) for _ in range(3)]
time.sleep(0.2)
open({str(tmp_path / "got")!r}, "wb").write(urllib.request.urlopen(url).read())
open({str(tmp_path / "done")!r}, "w").close()
time.sleep(3)
"""
    began = time.monotonic()
    show_once(b"%PDF bytes" * 100_000, "D-1", viewer(tmp_path, script), wait_seconds=20)
    assert time.monotonic() - began < 15
    for _ in range(100):
        if (tmp_path / "done").exists():
            break
        time.sleep(0.05)
    assert (tmp_path / "got").read_bytes() == b"%PDF bytes" * 100_000


def test_a_viewer_gets_the_bytes_on_standard_input(tmp_path: Path) -> None:
    script = f"import sys; open({str(tmp_path / 'got')!r}, 'wb').write(sys.stdin.buffer.read())"
    feed_viewer(b"%PDF bytes", viewer(tmp_path, script))
    assert (tmp_path / "got").read_bytes() == b"%PDF bytes"


@pytest.mark.parametrize("how", ["standard input", "an address", "the system's own"])
def test_a_viewer_is_told_no_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    script = f"""
import os, sys, urllib.request
open({str(tmp_path / "environment")!r}, "w").write(repr(dict(os.environ)))
if len(sys.argv) > 1:
    urllib.request.urlopen(sys.argv[1]).read()
"""
    monkeypatch.setenv("DOCUMENTS_PASSPHRASE", "kept to ourselves")
    command = viewer(tmp_path, script)
    if how == "standard input":
        feed_viewer(b"%PDF bytes", command)
    elif how == "an address":
        show_once(b"%PDF bytes", "D-1", command)
    else:
        monkeypatch.setattr(
            webbrowser, "open", lambda url: subprocess.run([*shlex.split(command), url]).returncode == 0
        )
        show_once(b"%PDF bytes", "D-1", None)
    told = (tmp_path / "environment").read_text()
    assert "PATH" in told
    assert "kept to ourselves" not in told
    assert os.environ["DOCUMENTS_PASSPHRASE"] == "kept to ourselves"


def test_a_viewer_that_does_not_come_is_said(tmp_path: Path) -> None:
    with pytest.raises(ViewerUnavailable):
        show_once(b"x", "D-1", "/no/such/viewer")
    with pytest.raises(ViewerSilent):
        show_once(b"x", "D-1", viewer(tmp_path, "pass"), wait_seconds=0.3)
    with pytest.raises(ViewerUnavailable):
        feed_viewer(b"x", viewer(tmp_path, "raise SystemExit(1)"))


# --- online only ------------------------------------------------------------------------------------------------


def test_what_the_service_cannot_do_now_is_said_in_its_own_words(device: Device, tmp_path: Path) -> None:
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF")
    body = {"code": "SCANNER_UNAVAILABLE", "title": "No scanner answers.", "detail": "It restarts."}
    device.spoil("POST /v1/documents/uploads", httpx2.Response(503, json=body))
    with pytest.raises(NotNow) as refusal:
        device.client.upload(scan, "p1")
    assert refusal.value.detail == "No scanner answers. It restarts."
    assert "busy" not in refusal.value.title


def test_uploading_offline_is_refused_and_leaves_nothing(device: Device, tmp_path: Path) -> None:
    device.transport.offline = True
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF scan of a marker")

    def files() -> dict[Path, int]:
        return {path: path.stat().st_size for path in device.home.rglob("*.db")}

    before = files()
    with pytest.raises(OnlineOnly):
        device.client.upload(scan, "p1")
    assert files() == before
    assert not [path for path in device.home.rglob("*") if path.is_file() and b"scan of a marker" in path.read_bytes()]
    assert device.client.status().everything_sent


def test_generating_is_the_first_act_of_a_device_too(tmp_path: Path) -> None:
    """It needs the service anyway, and fetches the catalogue that it lacks, as a request does."""
    from document_client.queueing import Wish

    with made_device(tmp_path / "new", signed_in=False) as device:
        device.login()
        with pytest.raises(TemplateUnknown):
            device.client.generate(Wish("No such form", "p1"))
        assert [told for told in device.transport.seen if "/v1/document-templates" in told]


def test_generating_offline_is_refused_and_queues_nothing(device: Device) -> None:
    from document_client.queueing import Wish

    device.transport.offline = True
    before = device.client.queue.list()
    with pytest.raises(OnlineOnly):
        device.client.generate(Wish("General Test Requisition", "p1"))
    assert device.client.queue.list() == before


def test_files_of_this_test_are_private(device: Device) -> None:
    assert os.stat(device.home).st_mode & 0o077 == 0
