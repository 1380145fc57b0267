"""Nothing of a patient, no token and no signed URL is readable on the disk, in errors or in what is said."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import httpx2
import pytest

from client_device import DEFINITION, FORM, SERVER, Device, made_device, portal, problem
from document_client import DocumentClient
from document_client.errors import ClientError
from document_client.model import Fault, Model, serve
from planted_markers import readable

PATIENT = "marker-patient-7731"
REASON = "marker-reason-acute-pain"
BIRTH = "1961-07-31"


def work(device: Device) -> str:
    """Do everything a day holds, with the markers."""
    client = device.client
    client.request("General Test Requisition", PATIENT, inputs={"reason": REASON}, birth_date=BIRTH)
    device.spoil("POST /v1/documents/render-jobs", problem(422, "INPUTS_INVALID"))
    client.sync()
    client.request("General Test Requisition", PATIENT, inputs={"reason": REASON})
    client.sync()
    document = str(client.documents.list()[0]["id"])
    client.documents.read(document)
    with pytest.raises(ClientError):
        client.documents.print(document)
    return document


@pytest.fixture
def markers() -> tuple[str, ...]:
    return (PATIENT, REASON, BIRTH, "signature=model", "correct horse")


def test_no_file_of_the_home_folder_holds_a_marker(tmp_path: Path, markers: tuple[str, ...]) -> None:
    with made_device(tmp_path / "home") as device:
        document = work(device)
        content = device.model.state.contents[document].decode()
        token = device.token()
        # The journals are still there while the databases are open.
        assert list(device.home.rglob("*-wal"))
        assert readable(device.home, *markers, token, content[:40]) == []
        device.client.close()
        assert readable(tmp_path, *markers, token, content[:40]) == []
        device.another().logout(discard_pending=True)
        assert readable(tmp_path, *markers, token, content[:40]) == []


def test_after_a_sign_out_nothing_of_the_cache_is_left(tmp_path: Path) -> None:
    with made_device(tmp_path / "home") as device:
        work(device)
        kept = next(device.home.glob("accounts/*/cache.db"))
        device.client.close()
        stolen = tmp_path / "cache-copied-before"
        stolen.write_bytes(kept.read_bytes())
        client = device.another()
        client.logout(discard_pending=True)
        assert not list(device.home.rglob("cache.db*"))
        from document_client import vault
        from document_client.vault import Unlocking

        left = vault.open_vault(device.home, Unlocking("correct horse"))
        assert not [name for name in vault._load(device.home / "vault.json")["keys"] if name.startswith("cache/")]
        assert left.key("cache/anything", create=False) is None


def test_errors_say_no_patient_no_token_and_no_url(tmp_path: Path, markers: tuple[str, ...]) -> None:
    with made_device(tmp_path / "home") as device:
        said = []
        work(device)
        faults = [
            Fault("POST /v1", lambda request: portal()),
            Fault("/content?", lambda request: portal()),
            Fault("GET /v1", lambda request: httpx2.Response(500, text=f"{PATIENT} {request.url}")),
        ]
        for fault in faults:
            device.transport.faults = [fault]
            device.client.request("General Test Requisition", PATIENT, inputs={"reason": REASON})
            said.append(str(device.client.sync().as_json()))
        for wrong in ({"template": PATIENT + "?"}, {"patient": f"{PATIENT} x"}, {"inputs": {"priority": REASON}}):
            try:
                device.client.request(**{"template": "General Test Requisition", "patient": "p", **wrong})  # type: ignore
            except ClientError as failure:
                told = failure.as_json()
                said.append(str(told) if "template" not in wrong else "")
                said.append(traceback.format_exc(limit=0) if "template" not in wrong else "")
        text = "\n".join(said)
        assert not [marker for marker in (*markers, device.token()) if marker in text]


def test_the_token_goes_to_the_server_only(tmp_path: Path) -> None:
    with made_device(tmp_path / "home") as device:
        sent: list[httpx2.Request] = []

        def elsewhere(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, json={"url": "https://files.elsewhere.test/x?signature=model"})

        def spy(request: httpx2.Request) -> None:
            sent.append(request)

        device.transport.faults += [Fault("/download-url", elsewhere), Fault("GET /x?signature", spy)]
        device.ask()
        device.client.sync()
        assert [str(request.url.host) for request in sent] == ["files.elsewhere.test"]
        assert "authorization" not in sent[0].headers
        assert SERVER not in str(sent[0].url)


def test_nothing_leaks_while_a_viewer_is_open_nor_when_the_program_crashes(tmp_path: Path) -> None:
    model = Model(time.time)
    model.publish(FORM, DEFINITION)
    home, empty = tmp_path / "home", tmp_path / "empty"
    empty.mkdir()
    with serve(model) as url, DocumentClient(home, passphrase="correct horse") as client:
        token = model.token("clinic", "dr.a")
        client.login(url, token)
        client.request(FORM, PATIENT, inputs={"reason": REASON})
        assert client.sync().success
        (document,) = client.documents.list()
        content = model.state.contents[str(document["id"])].decode()
        # A viewer that has been started and does not ask yet: the bytes wait for it in the program's memory.
        viewer = f"{sys.executable} -c 'import time; print(1, flush=True); time.sleep(60)'"
        opening = subprocess.Popen(
            [sys.executable, "-m", "document_client", "open", str(document["id"]), "--viewer", viewer],
            cwd=empty,
            env={
                **os.environ,
                "DOCUMENTS_HOME": str(home),
                "DOCUMENTS_PASSPHRASE": "correct horse",
                "TMPDIR": str(empty),
            },
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2
            ),
        )
        try:
            assert opening.stdout is not None
            assert opening.stdout.readline() == b"1\n"
            markers = (PATIENT, REASON, BIRTH, token, "signature=model", content[:40])
            assert readable(tmp_path, *markers) == []
            # A crash of the program must not write its memory into a file either.
            opening.send_signal(signal.SIGABRT)
            assert opening.wait(30) == -signal.SIGABRT
            assert list(empty.iterdir()) == []
            assert readable(tmp_path, *markers) == []
        finally:
            os.killpg(opening.pid, signal.SIGKILL)
            opening.communicate()
