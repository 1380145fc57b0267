"""A device for tests: a client in its own home folder, a model of the service behind a transport, a clock to turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from document_client import DocumentClient
from document_client.clock import TimeSource
from document_client.model import Fault, Model, ModelTransport

SERVER = "https://documents.test"
FORM = "General Test Requisition"
DEFINITION: dict[str, Any] = {
    "language": 1,
    "locales": ["en", "fa-AF"],
    "inputs": {
        "type": "object",
        "properties": {
            "reason": {"type": "string"},
            "priority": {"enum": ["routine", "urgent"]},
            "dose": {"type": "number"},
            "copies": {"type": "integer"},
            "fasting": {"type": "boolean"},
            "tests": {"type": "array", "items": {"type": "string"}},
        },
        "additionalProperties": False,
    },
}


@dataclass
class Clocks:
    """The device's clocks: the wall, which people set, and the one that only goes forward; and the server's."""

    wall: float = 1_780_000_000.0
    monotonic: float = 1000.0
    server: float = 1_780_000_000.0
    boot: str = "boot-1"

    def source(self) -> TimeSource:
        """Return the clocks as the client reads them."""
        return TimeSource(lambda: self.wall, lambda: self.monotonic, self.boot)

    def pass_time(self, seconds: float) -> None:
        """Let time go by everywhere."""
        self.wall += seconds
        self.monotonic += seconds
        self.server += seconds


@dataclass
class Device:
    """One installation with the service it talks to."""

    home: Path
    clocks: Clocks
    model: Model
    transport: ModelTransport
    client: DocumentClient
    extra: list[DocumentClient] = field(default_factory=list)

    def token(self, user: str = "dr.a", tenant: str = "clinic") -> str:
        """Return a token."""
        return self.model.token(tenant, user)

    def login(self, user: str = "dr.a", **options: Any) -> dict[str, Any]:
        """Sign in."""
        return self.client.login(SERVER, self.token(user), **options)

    def another(self, **options: Any) -> DocumentClient:
        """Return a second program on the same home folder."""
        settings: dict[str, Any] = {
            "passphrase": "correct horse",
            "transport": self.transport,
            "clock": self.clocks.source(),
        } | options
        made = DocumentClient(self.home, **settings)
        self.extra.append(made)
        return made

    def ask(self, patient: str = "p1", **inputs: Any) -> str:
        """Queue a request; returns its id."""
        return str(self.client.request(FORM, patient, inputs=inputs)["clientMutationId"])

    def spoil(self, where: str, answer: httpx2.Response | Exception, *, times: int = 1, late: bool = False) -> None:
        """Let the next exchanges that ``where`` names end with ``answer``; ``late``: after the model did its work."""

        def act(request: httpx2.Request) -> httpx2.Response:
            if isinstance(answer, Exception):
                raise answer
            return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

        self.transport.faults.append(Fault(where, act, times, late))

    def status_of(self, cmid: str) -> str:
        """Return the state of a request."""
        return str(self.client.queue.show(cmid)["status"])


def problem(status: int, code: str, **headers: str) -> httpx2.Response:
    """Return a problem document of the service."""
    given = {"content-type": "application/problem+json", "x-sync-epoch": "epoch-1", **headers}
    return httpx2.Response(status, headers=given, json={"code": code, "title": f"title of {code}", "status": status})


def portal(status: int = 200) -> httpx2.Response:
    """Return what a hotel's network answers."""
    return httpx2.Response(status, headers={"content-type": "text/html"}, text="<html>Welcome! Please sign in</html>")


@contextmanager
def made_device(home: Path, *, signed_in: bool = True) -> Iterator[Device]:
    """Make a device whose user is signed in and has seen the catalogue."""
    clocks = Clocks()
    model = Model(lambda: clocks.server)
    model.publish(FORM, DEFINITION, key="general-test-requisition")
    transport = ModelTransport(model)
    client = DocumentClient(home, passphrase="correct horse", transport=transport, clock=clocks.source())
    device = Device(home, clocks, model, transport, client)
    try:
        if signed_in:
            device.login()
            client.templates()
        yield device
    finally:
        for opened in (client, *device.extra):
            opened.close()
