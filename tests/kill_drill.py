"""A device whose programs are killed: real processes, real files, a model of the service on a loopback port.

``Drill.cycle`` runs one command and kills it (SIGKILL) at a moment drawn uniformly over the command's whole life, as
long as the last ones of its kind took; some commands are let live, to know how long that is, and some are killed at
an exchange: when the service has got it, or when its answer is about to leave.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from client_device import FORM
from document_client import DocumentClient, rootkey
from document_client.model import Model

PASSPHRASE = "correct horse"
#: Longer than one piece of a download, so that pieces are on the disk when a process dies.
PADDING = b"%" * 200_000
#: How often each command is run.
COMMANDS = {
    "request": 26,
    "sync": 40,
    "open": 6,
    "save": 6,
    "retry": 6,
    "discard": 5,
    "list": 3,
    "queue": 4,
    "status": 5,
    "templates": 4,
}
ACCEPTED = (0, 64, 69, 75)
#: Nobody waits longer for a command; a machine that runs much else is slow, not wrong.
PATIENCE_SECONDS = 180.0


class PaddedModel(Model):
    """The model, with documents that take several pieces; ``broken`` patients' documents cannot be made."""

    def __init__(self) -> None:
        super().__init__(time.time)
        self.broken: set[str] = set()
        self.failing = lambda job: (
            {"code": "PATIENT_UNKNOWN", "title": "no such patient"} if job["patientId"] in self.broken else None
        )

    def _document(self, job: dict[str, Any]) -> dict[str, Any]:
        document = super()._document(job)
        content = self.state.contents[document["id"]] + PADDING
        self.state.contents[document["id"]] = content
        document.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        return document


@dataclass
class Drill:
    """Runs commands against a model and kills most of them."""

    model: PaddedModel
    home: Path
    dice: random.Random
    url: str = ""
    zygote: subprocess.Popen[str] | None = None
    pid: int | None = None
    kill_at: tuple[int, bool] | None = None
    exchanges: int = 0
    last: str = ""
    number: int = 0
    opened: int = 0
    cycles: int = 0
    promised: set[str] = field(default_factory=set)
    taken_back: set[str] = field(default_factory=set)
    lives: dict[str, deque[float]] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    tenths: Counter[int] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)

    @property
    def landed(self) -> int:
        """How many processes were killed while they ran."""
        return self.killed.total()

    def begin(self) -> None:
        """Sign in and start the process that the commands are forked from."""
        # A vault that opens quickly: the moments shall fall into the work on queue, cache and outbox.
        before = rootkey.ARGON2_MEMORY_KIB, rootkey.ARGON2_PASSES, rootkey.ARGON2_LANES
        rootkey.ARGON2_MEMORY_KIB, rootkey.ARGON2_PASSES, rootkey.ARGON2_LANES = 64, 1, 1
        try:
            with DocumentClient(self.home, passphrase=PASSPHRASE) as client:
                client.login(self.url, self.model.token("clinic", "dr.a"))
                client.templates()
        finally:
            rootkey.ARGON2_MEMORY_KIB, rootkey.ARGON2_PASSES, rootkey.ARGON2_LANES = before
        environment = {
            **os.environ,
            "DOCUMENTS_HOME": str(self.home),
            "DOCUMENTS_PASSPHRASE": PASSPHRASE,
            "CUPS_SERVER": str(self.home / "absent.sock"),
        }
        self.zygote = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("kill_zygote.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        """Let the zygote go."""
        assert self.zygote is not None
        self.zygote.communicate(timeout=60)

    def watch(self, name: str, done: bool) -> None:
        """Note an exchange; kill the command that makes it when its turn has come."""
        if not done:
            self.exchanges += 1
        verb = name.split("?")[0].rsplit("/", 1)[-1]
        self.last = f"{verb} {'done' if done else 'arrived'}"
        if self.pid is not None and self.kill_at == (self.exchanges, done):
            os.kill(self.pid, signal.SIGKILL)

    def run(self, argv: list[str], kill_after: float | None = None) -> tuple[int, str, float]:
        """Run a command, kill it after some seconds; its exit code, its output, how long it lived."""
        assert self.zygote is not None
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.exchanges, self.last = 0, "no exchange yet"
        out = self.home.parent / "output"
        # A command that dies before it opens its output must not seem to have said what the one before it said.
        out.unlink(missing_ok=True)
        began = time.monotonic()
        print(json.dumps({"argv": argv, "out": str(out)}), file=self.zygote.stdin, flush=True)
        self.pid = int(self.zygote.stdout.readline())
        ended, _, _ = select.select([self.zygote.stdout], [], [], kill_after or PATIENCE_SECONDS)
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                # It may have ended by itself in this very moment.
                os.kill(self.pid, signal.SIGKILL)
        code = int(self.zygote.stdout.readline())
        self.pid = None
        assert ended or kill_after is not None, f"{argv} did not end"
        text = out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""
        return code, text, time.monotonic() - began

    def _argv(self, name: str) -> list[str]:
        if name == "request":
            self.number += 1
            return ["request", FORM, "--patient", f"p{self.number}"]
        if name == "sync":
            return ["sync", "--wait", "0"]
        if name in ("open", "save"):
            documents = list(self.model.state.documents) or ["doc_absent"]
            target = [str(self.home.parent / "copy.pdf"), "--replace"] if name == "save" else []
            return [name, self.dice.choice(documents), *target]
        if name == "retry":
            failed = [j["clientMutationId"] for j in self.model.state.jobs.values() if j["status"] == "failed"]
            return ["queue", "retry", self.dice.choice(failed or ["absent"])]
        if name == "discard":
            known = {job["clientMutationId"] for job in self.model.state.jobs.values()}
            cmid = self.dice.choice(sorted(self.promised - known) or sorted(self.promised) or ["absent"])
            return ["queue", "discard", cmid, "--confirm", cmid]
        return {"list": ["list"], "queue": ["queue"], "status": ["status"], "templates": ["templates", "--refresh"]}[
            name
        ]

    def cycle(self) -> None:
        """Run one command and kill it somewhere in its life."""
        self.cycles += 1
        name = self.dice.choices(list(COMMANDS), list(COMMANDS.values()))[0]
        argv = self._argv(name)
        if name == "request" and self.dice.random() < 0.1:
            self.model.broken.add(argv[-1])
        lives = self.lives.setdefault(name, deque(maxlen=15))
        self.kill_at, moment = None, None
        how = self.dice.random()
        if len(lives) >= 3 and how < 0.75:
            # A little beyond the end: the last tenth shall be met as often as the others.
            moment = self.dice.random() * 1.05 * median(lives)
        elif name == "sync" and how < 0.85:
            self.kill_at = (self.dice.randint(1, 8), self.dice.random() < 0.5)
        code, out, lived = self.run(argv, moment)
        if code == -signal.SIGKILL:
            by = "an exchange" if moment is None else "the clock"
            self.killed[f"{name} by {by}"] += 1
            if moment is not None:
                self.tenths[min(int(10 * moment / (1.05 * median(lives))), 9)] += 1
            self._look()
        else:
            assert code in ACCEPTED, (argv, code, out)
            if moment is None:
                lives.append(lived)
        if name == "request" and out.strip() and "documents:" not in out:
            # The person has seen the id: from here on the request must not be lost, however the process ended.
            self.promised.add(out.split()[0])
        if name == "discard" and code != 64:
            # Killed, it is taken back or not; both are right, and nothing in between is.
            self.taken_back.add(argv[2])
        self.opened += name == "open" and code == 0

    def _look(self) -> None:
        """Count in which states the files were left, as the next program finds them."""
        self.states[f"last exchange: {self.last}"] += 1
        with DocumentClient(self.home, passphrase=PASSPHRASE) as client:
            account = client.account()
            for (state,) in account.queue.execute("SELECT DISTINCT state FROM requests"):
                self.states[f"a request {state}"] += 1
            (owner,) = account.queue.execute("SELECT owner FROM drain").fetchone()
            self.states["the lease held" if owner else "the lease free"] += 1
            (pieces,) = account.cache.execute("SELECT count(*) FROM parts").fetchone()
            self.states["pieces of a document"] += bool(pieces)
            (unsent,) = account.audit.execute("SELECT count(*) FROM events WHERE state = 'pending'").fetchone()
            self.states["evidence unsent"] += bool(unsent)

    def told(self) -> str:
        """Return what was done, as text."""
        tenths = " ".join(str(self.tenths[number]) for number in range(10))
        killed = ", ".join(f"{name} {n}" for name, n in self.killed.most_common())
        states = ", ".join(f"{name} {n}" for name, n in self.states.most_common())
        return (
            f"{self.landed} kills in {self.cycles} cycles; by tenth of the command's life: {tenths}\n"
            f"killed: {killed}\nstates left: {states}"
        )
