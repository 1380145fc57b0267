"""The service as a measurement needs it: started on a fresh folder beside a FHIR answer machine, its CPU time watched.

CPU time is what a document costs on any machine that has nothing better to do; documents a second depend on what else
the machine does. It is read from /proc, for the service and for everything that it started.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import typst

HERE = Path(__file__).parent
PROGRAM = [sys.executable, "-m", "document_service"]
TICKS = os.sysconf("SC_CLK_TCK")


def figure(what: str, target: str, measured: str) -> None:
    """Print one row of the table of docs/benchmarks.md."""
    print(f"| {what} | {target} | {measured} |", flush=True)


@dataclass(slots=True)
class Stand:
    """A running service and what stands around it."""

    url: str
    data: list[str]
    service: subprocess.Popen[str]
    fhir: subprocess.Popen[str]
    fhir_url: str

    def tenant(self, name: str) -> str:
        """Make a tenant; a token of somebody who may do everything there."""
        create = [*PROGRAM, "tenant", "create", name, "--fhir-url", self.fhir_url, *self.data]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
        roles = [f"--role={role}" for role in ("CLINICIAN", "DOCUMENT_AUTHOR", "TENANT_ADMIN")]
        asked = [*PROGRAM, "token", "--tenant", name, "--user", "u", *roles, *self.data]
        return subprocess.run(asked, check=True, text=True, capture_output=True).stdout.strip()

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far by part: the service's own process and its children, FHIR machine, this process."""
        parts = {"service": 0.0, "typesetting": 0.0, "PostgreSQL": 0.0, "other": 0.0}
        for pid in _tree(self.service.pid):
            if pid == self.service.pid:
                part = "service"
            else:
                line = _command(pid)
                part = "typesetting" if "typesetting" in line else "PostgreSQL" if "postgres" in line else "other"
            parts[part] += _seconds(pid)
        return parts | {"FHIR machine": _seconds(self.fhir.pid), "load": _seconds(os.getpid())}


#: What a clinician types for the page; the rest is read from the FHIR machine.
INPUTS = {
    "requester": "Dr. Farid Rahimi",
    "priority": "urgent",
    "fasting": "Yes, at least 8 hours",
    "reason": "Type 2 diabetes, follow-up after a change of metformin 500 mg to 850 mg twice daily.",
}


def prepare_page(api: httpx2.Client) -> str:
    """Make the tenant's page what the bare typesetter prints: its form, letterhead and logo; the version to render.

    The form is bench/content/requisition.json: section by section the page of bench/content/en.json.
    """
    brand = {
        "name": "Kabul Central Clinic",
        "address": ["Karte Seh, District 6, Kabul, Afghanistan"],
        "phone": "0700914319",
        "footer": "Kabul Central Clinic · Licence 2041",
    }
    api.put("/v1/tenant/branding", json=brand, headers={"If-Match": "*"}).raise_for_status()
    api.put("/v1/tenant/branding/logo", content=_logo(), headers={"If-Match": "*"}).raise_for_status()
    named = {"name": "General Test Requisition", "category": "lab_requisition"}
    form = api.post("/v1/document-templates", json=named).raise_for_status()
    path, etag = f"/v1/document-templates/{form.json()['id']}", form.headers["etag"]
    definition = (HERE / "content" / "requisition.json").read_bytes()
    api.put(f"{path}/draft", content=definition, headers=_JSON | {"If-Match": etag}).raise_for_status()
    published = api.post(f"{path}/publish", json={}, headers={"Idempotency-Key": "bench"})
    return str(published.raise_for_status().json()["id"])


_JSON = {"Content-Type": "application/json"}


def _logo() -> bytes:
    """The logo of bench/content/logo.svg as PNG, in which a tenant's logo is given."""
    source = '#set page(width: auto, height: auto, margin: 0pt, fill: none)\n#image("logo.svg", height: 40pt)'
    files = {"main.typ": source.encode(), "logo.svg": (HERE / "content" / "logo.svg").read_bytes()}
    picture = typst.compile(files, format="png", ppi=144)  # type: ignore[type-var]  # As in bare_typst.
    assert isinstance(picture, bytes)
    return picture


@contextlib.contextmanager
def running(workers: int, *arguments: str) -> Iterator[Stand]:
    """Start the FHIR machine and the service with ``workers`` typesetting processes; end both afterwards."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as started:
        data = ["--data-dir", f"{folder}/data"]
        fhir = start(started, [sys.executable, str(HERE / "static_fhir.py")])
        fhir_url = line_of(fhir)
        # With a public address the page carries its QR code.
        options = ["--port", "0", "--workers", str(workers), "--public-url", "https://documents.kabul-central.example"]
        service = start(started, [*PROGRAM, "serve", *options, *arguments, *data])
        yield Stand(line_of(service).removeprefix("listening on "), data, service, fhir, fhir_url)


def start(started: contextlib.ExitStack, command: list[str]) -> subprocess.Popen[str]:
    """Start a process that ends with ``started``."""
    # The service's log tells of its local issuer at every start; it would stand in the middle of the figures.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    started.callback(process.wait)
    started.callback(process.terminate)
    return process


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a started process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def _stat(pid: int) -> list[str]:
    """What /proc says of a process, from its state on; its name before that may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _seconds(pid: int) -> float:
    """User and system time, that of children which have ended included."""
    with contextlib.suppress(OSError, IndexError):
        return sum(map(int, _stat(pid)[11:15])) / TICKS
    return 0.0


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def now() -> float:
    """Seconds of the clock that durations are taken with."""
    return time.perf_counter()
