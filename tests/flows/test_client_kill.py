"""kill -9 of the real command at moments spread over its life and every exchange: nothing is lost, nothing doubled."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from client_device import DEFINITION, FORM
from document_client import DocumentClient, audit
from document_client.model import Model, serve

#: `make soak` asks for 5,000.
ROUNDS = int(os.environ.get("SOAK_KILLS", "50"))


@dataclass
class Drill:
    """Runs commands against a model and kills some of them."""

    model: Model
    home: Path
    environment: dict[str, str]
    running: subprocess.Popen[str] | None = None
    kill_at: tuple[int, bool] | None = None
    exchanges: int = 0
    killed: Counter[str] = field(default_factory=Counter)

    def watch(self, name: str, done: bool) -> None:
        """Kill the command that asks, when its turn has come (before or after the model did its work)."""
        if not done:
            self.exchanges += 1
        if self.running is not None and self.kill_at == (self.exchanges, done):
            self.running.kill()
            self.running.wait()
            self.killed[f"{name.split('?')[0].rsplit('/', 1)[-1]} {'after' if done else 'before'}"] += 1

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        self.exchanges = 0
        self.running = subprocess.Popen(
            [sys.executable, "-m", "document_client", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.running

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end, or to the exchange at which it is killed."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode in (0, 75, -signal.SIGKILL), err
        return process.returncode, out

    def kill_after(self, seconds: float, *arguments: str) -> tuple[int, str]:
        """Run a command and kill it after some seconds, wherever it is."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=seconds)
            assert process.returncode in (0, 75), err
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            self.killed[f"{arguments[0]} by time"] += 1
        return process.returncode, out


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    model = Model(time.time)
    model.publish(FORM, DEFINITION)
    environment = {
        **os.environ,
        "DOCUMENTS_HOME": str(tmp_path / "home"),
        "DOCUMENTS_PASSPHRASE": "correct horse",
        "CUPS_SERVER": str(tmp_path / "absent.sock"),
    }
    made = Drill(model, tmp_path / "home", environment)
    with serve(model, watch=made.watch) as url:
        assert made.run("login", "--server", url, "--token", model.token("clinic", "dr.a"))[0] == 0
        assert made.run("templates")[0] == 0
        yield made


def test_kill_9_at_any_moment_loses_and_doubles_nothing(drill: Drill) -> None:
    dice = random.Random(20261122)
    promised: set[str] = set()
    opened = 0
    for number in range(ROUNDS):
        drill.kill_at = None
        patient = f"p{number}"
        if number % 3 == 0:
            _, out = drill.kill_after(dice.uniform(0.05, 0.6), "request", FORM, "--patient", patient)
        else:
            with DocumentClient(drill.home, passphrase="correct horse") as client:
                out = client.request(FORM, patient)["clientMutationId"]
        if out.strip():
            # The person has seen the id: from here on the request must not be lost, however the process ended.
            promised.add(out.strip())
        if number % 2:
            drill.kill_at = (dice.randint(1, 9), dice.random() < 0.5)
            drill.run("sync", "--wait", "0")
        else:
            drill.kill_after(dice.uniform(0.2, 1.1), "sync", "--wait", "0")
        drill.kill_at = None
        documents = list(drill.model.state.documents)
        if number % 5 == 4 and documents:
            code, out = drill.kill_after(dice.uniform(0.1, 0.5), "open", documents[0])
            opened += code == 0 and bool(out)
    assert drill.run("sync", "--wait", "0")[0] == 0
    print("killed:", dict(drill.killed))
    assert sum(drill.killed.values()) >= ROUNDS // 4, drill.killed

    known = _queue(drill)
    assert promised <= set(known), "a request that a person saw as queued is gone"
    assert {item["status"] for item in known.values()} == {"done"}
    jobs = Counter(job["clientMutationId"] for job in drill.model.state.jobs.values())
    assert set(jobs) == set(known)
    assert set(jobs.values()) == {1}, "a request was doubled"
    documents_of_jobs = Counter(d["renderJobId"] for d in drill.model.state.documents.values())
    assert set(documents_of_jobs.values()) == {1}
    status = json.loads(drill.run("status", "--json")[1])
    assert status["everythingSent"]
    assert status["everythingReceived"]
    assert not status["setAside"]
    _check_evidence(drill, opened)


def _queue(drill: Drill) -> dict[str, dict[str, Any]]:
    items = json.loads(drill.run("queue", "--json")[1])["items"]
    return {item["clientMutationId"]: item for item in items}


def _check_evidence(drill: Drill, opened: int) -> None:
    """The chain is whole, all of it arrived, and every opening that was seen is in it."""
    with DocumentClient(drill.home, passphrase="correct horse") as client:
        chain = audit.read_all(client.account().audit)
    previous = "0" * 64
    for number, event in enumerate(chain, start=1):
        bare = {name: value for name, value in event.items() if name not in ("hash", "state")}
        assert (event["sequence"], event["previousHash"]) == (number, previous)
        assert event["hash"] == hashlib.sha256(rfc8785.dumps(bare)).hexdigest()
        previous = event["hash"]
    assert len([e for e in chain if e["action"] == "document.opened"]) >= opened
    assert {event["eventId"] for event in chain} == set(drill.model.state.events)
