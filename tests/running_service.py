"""A real service for the tests: `document-service serve` in a process of its own, on a free port, on its own folder."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx2

from document_service.__main__ import all_commands
from document_service.tokens import LocalIssuer
from promised_answers import check_promised

#: A start with initdb and migrations takes three seconds on an idle machine; one with a load of 15 took more than 60.
START_SECONDS = 180.0

#: From request to document takes 50 ms; a loaded CI machine gets time to spare.
RENDER_SECONDS = 45.0

EVERY_ROLE = ("CLINICIAN", "DOCUMENT_AUTHOR", "TENANT_ADMIN", "AUDITOR")


class Service:
    """One service process and what a test wants of it; its folder outlives the process."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.url = ""
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> Self:
        """Start and wait until it listens."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "document_service",
                "serve",
                "--data-dir",
                str(self.data_dir),
                "--port",
                "0",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=(self.data_dir.parent / f"{self.data_dir.name}.log").open("a"),
            text=True,
            env={**_clean_environment(), **self._environment},
        )
        self.url = _first_line(self._process, START_SECONDS).removeprefix("listening on ")
        return self

    @property
    def log(self) -> str:
        """Everything that the service has written to standard error."""
        return (self.data_dir.parent / f"{self.data_dir.name}.log").read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        """The pid of the serving process."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Ask it to stop and wait for its end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End its own process with kill -9; its PostgreSQL notices and stops in order."""
        self._end(signal.SIGKILL)

    def cut_power(self) -> None:
        """End all its processes at the same moment, PostgreSQL's too, as a power cut would."""
        self._process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
        everything = _descendants(self.pid)
        # Stopped first, so that none sees another die.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in everything:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def command(self, *arguments: str, check: bool = True) -> str:
        """Run ``document-service ARGUMENTS`` on the same folder; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "document_service", *arguments, "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            check=False,
            env={**_clean_environment(), **self._environment},
            timeout=120,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def create_tenant(self, fhir_url: str, *options: str) -> str:
        """Make a tenant of its own for a test; its id.

        The command runs in this process: in one of its own it spends a second on imports, and most tests make a
        tenant. It gets a thread because it runs an event loop, as some tests do.
        """
        tenant = f"t-{uuid.uuid4().hex[:12]}"
        arguments = ["tenant", "create", tenant, "--fhir-url", fhir_url, *options]
        if self._environment or _clean_environment() != os.environ:
            self.command(*arguments)
            return tenant
        with ThreadPoolExecutor(1) as thread:
            run = partial(all_commands().main, standalone_mode=False)
            thread.submit(run, [*arguments, "--data-dir", str(self.data_dir)]).result()
        return tenant

    def token(
        self,
        tenant: str,
        user: str = "nurse",
        roles: tuple[str, ...] = EVERY_ROLE,
        facilities: tuple[str, ...] | None = None,
        expires: timedelta = timedelta(hours=1),
    ) -> str:
        """A token of the service's local issuer."""
        return LocalIssuer(self.data_dir).issue(tenant, user, roles, facilities, expires)

    def caller(self, tenant: str, user: str = "nurse", **claims: Any) -> Api:
        """An HTTP client that calls as this user."""
        return Api(self.url, self.token(tenant, user, **claims))


class Api(httpx2.Client):
    """An HTTP client with a bearer token, and the walks that many tests need."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        super().__init__(
            base_url=url, headers=headers, timeout=30, trust_env=False, event_hooks={"response": [check_promised]}
        )

    def platform_version(self, key: str = "general-test-requisition") -> str:
        """The current version of a platform form."""
        found = self.get("/v1/document-templates", params={"platformFormKey": key}).json()["items"]
        return str(found[0]["currentVersionId"])

    def wait(self, job_id: str, seconds: float = RENDER_SECONDS) -> dict[str, Any]:
        """Wait until the job is finished; the job."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job: dict[str, Any] = self.get(f"/v1/documents/render-jobs/{job_id}").json()
            if job["status"] in ("completed", "failed"):
                return job
            time.sleep(0.05)
        raise AssertionError(f"{job_id} was not finished after {seconds} s: {job}")

    def render(self, request: dict[str, Any]) -> dict[str, Any]:
        """Enqueue a request and wait for its finished job."""
        answer = self.post("/v1/documents/render-jobs", json=request)
        assert answer.status_code in (200, 202), answer.text
        return self.wait(answer.json()["id"])

    def content(self, document_id: str, **headers: str) -> httpx2.Response:
        """Fetch a document's bytes by a fresh signed URL."""
        url = self.post(f"/v1/documents/{document_id}/download-url").json()["url"]
        return httpx2.get(str(self.base_url).rstrip("/") + url if url.startswith("/") else url, headers=headers)


def request_for(version: str, patient: str = "demo-patient-noorzai", **more: Any) -> dict[str, Any]:
    """A render request as a device sends it."""
    return {
        "clientMutationId": str(uuid.uuid4()),
        "templateVersionId": version,
        "patientId": patient,
        "encounterId": patient.replace("patient", "encounter"),
        "inputs": {},
        "locale": "en",
        "requestedAt": datetime.now(UTC).isoformat(),
        **more,
    }


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("DOCUMENT_SERVICE_")}


def _descendants(pid: int) -> list[int]:
    """The processes below this one, the deepest last."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return children + [one for child in children for one in _descendants(child)]


def _first_line(process: subprocess.Popen[str], seconds: float) -> str:
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda stream: lines.put(stream.readline()), args=(process.stdout,), daemon=True).start()
    try:
        line = lines.get(timeout=seconds).strip()
    except queue.Empty:
        line = ""
    if not line:
        process.kill()
        raise AssertionError("the service did not start; see the .log file beside its data folder")
    return line
