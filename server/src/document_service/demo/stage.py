"""What the walk stands on: a FHIR server, the service, the network between, and the clinic's device."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx2

from document_service.fault_proxy import FaultProxy, Faults
from document_service.synthetic import SyntheticFhirServer

if TYPE_CHECKING:
    from rich.console import Console

TENANT = "karte-seh"
CLINICIAN = "dr-haidari"
TENANT_NAME = "Karte Seh Clinic (made up)"

# First start: PostgreSQL's initdb, migrations, and four interpreters that import the typesetter, on a slow machine.
START_SECONDS = 90.0
# A command of either program takes below 2 s; printing follows a spooler for up to 60.
COMMAND_SECONDS = 90.0
STOP_SECONDS = 20.0

# In every folder that the demo made, so that it deletes none that it did not make.
_MARK = ".made-by-the-demo"


class StageError(RuntimeError):
    """Something the walk stands on is missing or did not come up; the text says what to do."""


class Stage:
    """The processes and folders of one walk; a ``with`` statement ends all of them."""

    def __init__(self, folder: Path, console: Console) -> None:
        """Choose the folder; nothing is started or touched yet."""
        self.folder = folder
        self.console = console
        self.pdfs = folder / "pdfs"
        self.service_log = folder / "service.log"
        self._stack = ExitStack()
        self._service: subprocess.Popen[bytes] | None = None
        self.fhir = SyntheticFhirServer(token=secrets.token_urlsafe(16))
        self.service_url = ""
        self.proxy: FaultProxy | None = None
        self._environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("DOCUMENT_SERVICE_", "DOCUMENTS_"))
            },
            "DOCUMENTS_HOME": str(folder / "device"),
            # The device's keys are held by this passphrase, so the demo leaves nothing in the user's own keyring.
            "DOCUMENTS_PASSPHRASE": secrets.token_urlsafe(16),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def clear(self) -> None:
        """Remove what an earlier walk left; StageError when the folder is not the demo's own or is in use."""
        for program in ("document-service", "documents"):
            if not _program(program).exists():
                raise StageError(f"{_program(program)} is missing; run the demo by `make demo`.")
        if self.folder.exists():
            if not (self.folder / _MARK).exists():
                raise StageError(f"{self.folder} was not made by the demo; move it away.")
            running = _running_service(self.folder)
            if running is not None:
                raise StageError(f"a demo is still running here; end it first: kill {running}")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        (self.folder / _MARK).touch()
        self.pdfs.mkdir()

    def __enter__(self) -> Self:
        """Nothing to open: the walk starts each part as a step of its own."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything that was started, last first."""
        self._stack.close()

    def start_fhir(self) -> None:
        """Start the FHIR server with its made-up patients."""
        self._stack.callback(self.fhir.stop)
        self.fhir.start()

    def start_service(self) -> None:
        """Start the service on a free port with embedded engines, and wait until it says that it is ready."""
        log = self._stack.enter_context(self.service_log.open("wb"))
        command = [str(_program("document-service")), "--data-dir", str(self.folder / "data"), "serve", "--port", "0"]
        self._service = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
        )
        self._stack.callback(self._stop_service)
        (self.folder / "service.pid").write_text(str(self._service.pid))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._service.poll() is not None:
                raise StageError(f"the service ended at its start:\n{self.service_words()}")
            for line in self.service_log.read_text("utf-8", "replace").splitlines():
                if line.startswith("listening on "):
                    self.service_url = line.removeprefix("listening on ").rstrip("/")
            if self.service_url and _ready(self.service_url):
                return
            time.sleep(0.1)
        raise StageError(f"the service was not ready within {START_SECONDS:g} s:\n{self.service_words()}")

    def start_network(self) -> None:
        """Put the network that can be cut between the device and the service."""
        self.proxy = self._stack.enter_context(FaultProxy(self.service_url))

    def cut_network(self) -> None:
        """From now on connections of the device are refused."""
        assert self.proxy is not None
        self.proxy.apply(Faults(network="refuse"))

    def restore_network(self) -> None:
        """From now on connections of the device pass."""
        assert self.proxy is not None
        self.proxy.heal()

    def service(self, *arguments: str) -> str:
        """Run a ``document-service`` command on the demo's data; its standard output."""
        done = self._run("document-service", ["--data-dir", str(self.folder / "data"), *arguments], None)
        if done.returncode != 0:
            raise StageError(f"document-service {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def device(self, *arguments: str, stdin: str | None = None) -> tuple[int, Any]:
        """Run a ``documents`` command with ``--json``; its exit code and its answer."""
        done = self._run("documents", [*arguments, "--json"], stdin)
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError:
            raise StageError(f"documents {arguments[0]} did not answer in JSON: {done.stderr.strip()[-500:]}") from None

    def device_shown(self, *arguments: str) -> int:
        """Run a ``documents`` command as a person sees it, progress bars included; its exit code."""
        self.console.print(f"[dim]$ documents {' '.join(arguments)}[/dim]")
        done = subprocess.run(
            [_program("documents"), *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.returncode

    def service_words(self) -> str:
        """Give the end of the service's log, for a person who must find out what went wrong."""
        return self.service_log.read_text("utf-8", "replace")[-2000:] if self.service_log.exists() else ""

    def linger(self) -> None:
        """Wait for Ctrl+C with everything running."""
        self.console.print(f"The service stays at {self.service_url}, FHIR at {self.fhir.base_url}; Ctrl+C ends both.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            self.console.print("Ending.")

    def _run(self, program: str, arguments: list[str], stdin: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_program(program), *arguments],
            env=self._environment,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def _stop_service(self) -> None:
        if self._service is not None:
            self._service.terminate()
            try:
                self._service.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._service.kill()
                self._service.wait()
        (self.folder / "service.pid").unlink(missing_ok=True)


def _program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def _ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health/ready", trust_env=False, timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


def _running_service(folder: Path) -> int | None:
    """Find the service of an earlier walk that still uses ``folder``; a recycled pid is not mistaken for it."""
    try:
        pid = int((folder / "service.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(folder).encode() in words else None
