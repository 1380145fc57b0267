"""Every command of a person, with another program of the same home folder in its middle, at every place it can be met.

The simulation knows a person's act as one step. Here each is the real one: it stops before each of its transactions and
around each of its exchanges, and there another program does something. Afterwards everything heals, and what both were
told must be true: no request lost or doubled, nothing sent that was given up, every look at a document recorded.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from client_device import FORM, SERVER, Clocks, made_device, problem
from document_client import DocumentClient, localdb, printing, purging, queueing, recovery
from document_client.errors import ClientError, LocalFileUnreadable, QueueSetAside
from document_client.model import Model, ModelTransport
from document_client.printers import Printer
from document_client.printing import PrintOutcome
from document_client.vault import Unlocking, Vault, open_vault

POST_JOB = "POST /v1/documents/render-jobs"
PASSPHRASE = "correct horse"


@dataclass
class Prepared:
    """A home folder and its service, to be copied: a document is here, and three requests are in different straits."""

    home: Path
    clocks: Clocks
    model: Model
    document: str
    refused: str
    lost: str
    waiting: str


@dataclass
class Stage:
    """One run: a person's program, another one beside it, and what both were told."""

    home: Path
    clocks: Clocks
    model: Model
    transport: ModelTransport
    prepared: Prepared
    vault: Vault
    asked: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    looks: list[str] = field(default_factory=list)
    opened: list[DocumentClient] = field(default_factory=list)

    def program(self) -> DocumentClient:
        """Return a program on the home folder."""
        made = DocumentClient(self.home, passphrase=PASSPHRASE, transport=self.transport, clock=self.clocks.source())
        # The keys of the folder are those of the prepared one, and asking for the passphrase takes a tenth of a second.
        made._vault = self.vault
        self.opened.append(made)
        return made

    def token(self, user: str = "dr.a") -> str:
        """Return a token."""
        return self.model.token("clinic", user)


Act = Callable[[DocumentClient, Stage], object]


def request(client: DocumentClient, stage: Stage) -> None:
    stage.asked.add(client.request(FORM, "p9")["clientMutationId"])


def discard(which: str) -> Act:
    def act(client: DocumentClient, stage: Stage) -> None:
        cmid = getattr(stage.prepared, which)
        stage.given_up.add(cmid)
        client.queue.discard(cmid, confirmation=cmid)

    return act


def retry(client: DocumentClient, stage: Stage) -> None:
    client.queue.retry(stage.prepared.refused)


def edit(client: DocumentClient, stage: Stage) -> None:
    stage.given_up.add(stage.prepared.waiting)
    stage.asked.add(client.queue.edit(stage.prepared.waiting, {"patient": "p8"})["clientMutationId"])


def read(client: DocumentClient, stage: Stage) -> None:
    client.documents.read(stage.prepared.document)
    stage.looks.append("document.opened")


def save(client: DocumentClient, stage: Stage) -> None:
    client.documents.save(stage.prepared.document, stage.home.parent / f"{len(stage.looks)}.pdf")
    stage.looks.append("document.saved")


def print_copy(client: DocumentClient, stage: Stage) -> None:
    client.documents.print(stage.prepared.document)
    stage.looks.append("print.submitted")


def leave(client: DocumentClient, stage: Stage) -> None:
    client.logout(keep_sealed=True)


def leave_discarding(client: DocumentClient, stage: Stage) -> None:
    # Everything that waits then, whatever somebody asked for in the last moment.
    stage.given_up.update(stage.asked)
    client.logout(discard_pending=True)
    stage.given_up.update(stage.asked)


def come_back(client: DocumentClient, stage: Stage) -> None:
    client.login(SERVER, stage.token())


def hand_over(client: DocumentClient, stage: Stage) -> None:
    client.login(SERVER, stage.token("dr.b"), keep_sealed=True)


def damage(name: str) -> Act:
    def act(client: DocumentClient, stage: Stage) -> None:
        with suppress(QueueSetAside, LocalFileUnreadable), client.account().watched():
            raise LocalFileUnreadable(name)

    return act


def purge(client: DocumentClient, stage: Stage) -> None:
    purging.purge_caches(client.account())


def withdraw(client: DocumentClient, stage: Stage) -> None:
    if stage.model.state.documents[stage.prepared.document]["status"] == "current":
        stage.model.revoke(stage.prepared.document, "entered in error")
    client.sync()


def restore(client: DocumentClient, stage: Stage) -> None:
    stage.model.restore(copy.deepcopy(stage.prepared.model.snapshot()), "epoch-2")
    client.sync()


ACTS: dict[str, Act] = {
    "request": request,
    "retry": retry,
    "retry all": lambda client, stage: client.queue.retry_all(),
    "edit": edit,
    "discard what waits": discard("waiting"),
    "discard what may have left": discard("lost"),
    "discard what was refused": discard("refused"),
    "sync": lambda client, stage: client.sync(),
    "read": read,
    "save": save,
    "print": print_copy,
    "status": lambda client, stage: client.status(),
    "refresh the forms": lambda client, stage: client.templates(refresh=True),
    "leave": leave,
    "leave and discard": leave_discarding,
    "come back": come_back,
    "hand over": hand_over,
}
BESIDE: dict[str, Act] = {
    name: ACTS[name]
    for name in (
        "request",
        "retry",
        "edit",
        "discard what waits",
        "discard what may have left",
        "discard what was refused",
        "sync",
        "read",
        "leave",
        "leave and discard",
        "come back",
        "hand over",
    )
} | {
    "the queue is damaged": damage("queue.db"),
    "the outbox is damaged": damage("audit.db"),
    "the cache is damaged": damage("cache.db"),
    "the device is purged": purge,
    "the document is withdrawn": withdraw,
    "the service is restored": restore,
}


class Middle:
    """Counts the places of a command where another program can be met, and lets ``act`` happen at one of them."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.at, self.act, self.places, self._inside = at, act, 0, False

    def pass_by(self) -> None:
        """Stand at a place; what the other program does has no places of its own."""
        if self._inside:
            return
        self.places += 1
        if self.places == self.at:
            with self.alone():
                self.act()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have no places in the block."""
        before, self._inside = self._inside, True
        try:
            yield
        finally:
            self._inside = before


@contextmanager
def stopping(stage: Stage, middle: Middle) -> Iterator[None]:
    """Let every transaction and every exchange of this process pass by ``middle`` first, and answers once more."""
    plain, handle, lock = localdb.transaction, ModelTransport.handle_request, queueing.deciding_on

    def transaction(conn: Any) -> Any:
        if not conn.in_transaction:
            middle.pass_by()
        return plain(conn)

    @contextmanager
    def deciding(path: Path) -> Iterator[None]:
        # No other program sets the queue aside, or writes to it, before this one has decided.
        middle.pass_by()
        with lock(path), middle.alone():
            yield

    def handle_request(transport: ModelTransport, sent: httpx2.Request) -> httpx2.Response:
        middle.pass_by()
        given = handle(transport, sent)
        middle.pass_by()
        return given

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("document_client") and getattr(module, "transaction", None) is plain:
                patch.setattr(module, "transaction", transaction)
        patch.setattr(queueing, "deciding_on", deciding)
        patch.setattr(ModelTransport, "handle_request", handle_request)
        patch.setattr(printing, "choose_printer", lambda named: Printer("P", True, "idle", False))
        patch.setattr(printing, "print_document", lambda *content, **options: PrintOutcome("completed", "P", 7, ""))
        yield


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: ten thousand commits wait for no disk."""
    shared = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def prepared(memory: Path) -> Iterator[Prepared]:
    home = memory / "prepared"
    with made_device(home) as device:
        device.client.account().takes_batches = False
        device.ask()
        device.client.sync()
        document = str(device.client.documents.list()[0]["id"])
        refused = device.ask("p2")
        device.spoil(POST_JOB, problem(422, "INPUTS_INVALID"))
        device.client.sync()
        lost = device.ask("p3")
        device.spoil(POST_JOB, httpx2.ReadTimeout("lost"), late=True)
        device.client.sync()
        waiting = device.ask("p4")
        device.clocks.pass_time(600)
        device.client.close()
        yield Prepared(home, device.clocks, device.model, document, refused, lost, waiting)


def set_up(prepared: Prepared, folder: Path) -> Stage:
    home = folder / "home"
    shutil.copytree(prepared.home, home)
    clocks = copy.copy(prepared.clocks)
    model = Model(lambda: clocks.server)
    model.__dict__.update(
        {name: value for name, value in prepared.model.__dict__.items() if name not in ("state", "now")}
    )
    model.state = copy.deepcopy(prepared.model.state)
    stage = Stage(home, clocks, model, ModelTransport(model), prepared, open_vault(home, Unlocking(PASSPHRASE)))
    stage.asked = {prepared.refused, prepared.lost, prepared.waiting}
    return stage


def heal(stage: Stage) -> DocumentClient:
    """Everything works again: the person signs in, takes back what was set aside, tries again, and syncs."""
    client = stage.program()
    come_back(client, stage)
    for _ in range(4):
        client.status()
        if recovery.find_asides(stage.home, stage.vault):
            recovery.take_back(client.account())
        client.queue.retry_all()
        client.sync()
        stage.clocks.pass_time(600)
    return client


def check(stage: Stage, client: DocumentClient) -> None:
    """What both programs were told is true."""
    rows = {item["clientMutationId"]: item for item in client.queue.list(given_up=True)}
    jobs = [job["clientMutationId"] for job in stage.model.state.jobs.values()]
    assert len(jobs) == len(set(jobs)), "a request was doubled"
    shown = {item["id"]: item["state"] for item in client.documents.list()}
    made = {job["clientMutationId"]: job["documentId"] for job in stage.model.state.jobs.values()}
    for cmid in stage.asked - rows.keys():
        # What was settled before its queue was damaged is not taken back.
        assert cmid in stage.given_up or shown.get(made.get(cmid)) == "available", "a request is lost"
    for cmid in stage.asked & rows.keys():
        row = rows[cmid]
        code = (row["reason"] or {}).get("code")
        if cmid not in stage.given_up:
            assert row["status"] == "done", (cmid, row["status"], code)
        if row["status"] == "done":
            assert shown[row["documentId"]] == "available"
        elif row["status"] == "discarded":
            assert cmid not in jobs or code != "WITHDRAWN"
        else:
            assert (row["status"], code) == ("failed", "ALREADY_SENT")
            assert cmid in jobs
    recorded = [event["action"] for event in stage.model.state.events.values()]
    for action in set(stage.looks):
        assert recorded.count(action) >= stage.looks.count(action), f"{action} was never recorded"
    assert client.status().everything_sent
    if stage.model.state.documents[stage.prepared.document]["status"] != "current":
        assert shown.get(stage.prepared.document, "withdrawn") != "available"


def run(prepared: Prepared, folder: Path, act: Act, beside: Act | None, at: int) -> int:
    """Run one act with another one in its middle; returns how many places it has."""
    stage = set_up(prepared, folder)
    mine, other = stage.program(), stage.program()
    mine.account()
    other.account()

    def happen() -> None:
        if beside is not None:
            with suppress(ClientError):
                beside(other, stage)

    middle = Middle(at, happen)
    try:
        with stopping(stage, middle), suppress(ClientError):
            act(mine, stage)
        for client in (mine, other):
            # Neither program is left in a state that it cannot go on from.
            with suppress(ClientError):
                client.status()
        check(stage, heal(stage))
    finally:
        for client in stage.opened:
            client.close()
        shutil.rmtree(folder)
    return middle.places


_PLACES: dict[str, int] = {}


def count_places(prepared: Prepared, memory: Path, act: str) -> int:
    """Return how many places an act has when nobody is in its middle."""
    if act not in _PLACES:
        _PLACES[act] = run(prepared, memory / "run", ACTS[act], None, 0)
    return _PLACES[act]


def choose(places: int, act: str, beside: str) -> list[int]:
    """Return the places to look at: all of them with SOAK_MIDDLE=1, otherwise one, another for each pair of acts."""
    if os.environ.get("SOAK_MIDDLE"):
        return list(range(1, places + 1))
    return [1 + zlib.crc32(f"{act} {beside}".encode()) % places]


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("act", ACTS)
def test_what_both_were_told_is_true(prepared: Prepared, memory: Path, act: str, beside: str) -> None:
    places = count_places(prepared, memory, act)
    for at in choose(places, act, beside):
        try:
            run(prepared, memory / "run", ACTS[act], BESIDE[beside], at)
        except BaseException as failure:
            failure.add_note(f"{act}, and at place {at} of {places}: {beside}")
            raise
