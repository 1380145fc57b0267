"""Start a real FHIR R4 server (sekmet-fhir) in a child process and load the made-up patients into it."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

import httpx2

from document_service.synthetic.cohort import cohort
from document_service.synthetic.people import (
    Resource,
    SyntheticPatient,
    handmade_patients,
    handmade_resources,
)

# Importing FastAPI and the FHIR models takes 2 s on an idle core; a loaded test machine needs several times that.
START_SECONDS = 60.0
STOP_SECONDS = 5.0

# Validation of one resource takes 1 to 5 ms in the server; this keeps a transaction well below a second.
LOAD_AT_ONCE = 100

# Four generated patients show four clinical profiles; with the three written by hand that is a small clinic's morning.
DEFAULT_COHORT = 4
DEFAULT_SEED = 20260914


class SyntheticServerError(RuntimeError):
    """The server could not be started or loaded; the text says what to do."""


class SyntheticFhirServer:
    """``start()`` it, use ``base_url`` and ``patients``, ``stop()`` it; or use it in a ``with`` statement.

    With ``token`` the server refuses every request that does not carry it as a bearer token.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        generated: int = DEFAULT_COHORT,
        seed: int = DEFAULT_SEED,
        token: str | None = None,
    ) -> None:
        """Prepare; nothing runs yet. ``port`` 0 takes a free one, ``generated`` is the size of the cohort."""
        self._port = port
        self._generated = generated
        self._seed = seed
        self.token = token
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self.base_url = ""
        self.patients: tuple[SyntheticPatient, ...] = ()

    def start(self) -> Self:
        """Start and load the server; SyntheticServerError when a part is missing or it does not come up."""
        missing = [name for name in ("sekmet", "carebundle") if importlib.util.find_spec(name) is None]
        if missing:
            raise SyntheticServerError(
                f"{' and '.join(missing)} are not installed; they come with the development requirements:"
                " pip install -r requirements/dev.txt"
            )
        # The parent binds the socket, so there is no moment in which another program can take the port.
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self._port))
            listening.listen(128)
            self.base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/fhir"
            self._launch(listening.fileno())
        try:
            self._await_ready()
            generated, records = cohort(self._generated, self._seed)
            self.load([*handmade_resources(), *records])
        except BaseException:
            self.stop()
            raise
        self.patients = (*handmade_patients(), *generated)
        return self

    def stop(self) -> None:
        """Stop the server; harmless when it is not running."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def load(self, resources: Sequence[Resource]) -> None:
        """Write resources, each under its own id, in transactions; a later one of the same id replaces the first."""
        with self._client() as client:
            for position in range(0, len(resources), LOAD_AT_ONCE):
                part = resources[position : position + LOAD_AT_ONCE]
                answer = client.post(self.base_url, json=_transaction(part))
                if answer.status_code != 200:
                    raise SyntheticServerError(f"the FHIR server refused made-up data: {answer.text[:500]}")

    def __enter__(self) -> Self:
        """Start unless started already."""
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _launch(self, descriptor: int) -> None:
        # It outlives this function: stop() closes it.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "document_service.synthetic.sekmet_process",
                str(descriptor),
                self.base_url,
                self.token or "-",
            ],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[descriptor],
        )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self._client() as client:
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    raise SyntheticServerError(f"the FHIR server ended at its start:\n{self._last_words()}")
                try:
                    if client.get(f"{self.base_url}/metadata").status_code == 200:
                        return
                except httpx2.TransportError:
                    time.sleep(0.05)
        raise SyntheticServerError(f"the FHIR server did not answer within {START_SECONDS:g} s")

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")[-2000:]

    def _client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx2.Client(headers=headers, timeout=START_SECONDS, trust_env=False)


def _transaction(resources: Sequence[Resource]) -> Resource:
    entries = [
        {
            "resource": resource,
            "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
        }
        for resource in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}
