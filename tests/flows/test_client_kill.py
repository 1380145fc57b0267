"""kill -9 of real commands on real files, at moments spread over their whole life: nothing is lost, nothing doubled."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import rfc8785

from client_device import DEFINITION, FORM
from document_client import DocumentClient, audit
from document_client.model import serve
from document_client.withdrawals import TAKEN_BACK, WITHDRAWN
from kill_drill import PASSPHRASE, Drill, PaddedModel

#: `make soak` asks for 5,000.
KILLS = int(os.environ.get("SOAK_KILLS", "30"))
#: A home that has seen this many kills is looked at and left; a queue of thousands would only slow the commands down.
KILLS_PER_HOME = 250
#: `make soak` may end the kills after some minutes; the count says how many there were.
MINUTES = float(os.environ.get("SOAK_KILL_MINUTES", "1000"))
FIRST = int(os.environ.get("SOAK_KILL_SEED", "20261122"))


def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    total, deadline, number = Drill(PaddedModel(), tmp_path, random.Random(0)), time.monotonic() + MINUTES * 60, 0
    while total.landed < KILLS and time.monotonic() < deadline:
        folder = tmp_path / f"device-{number}"
        folder.mkdir()
        drill = Drill(PaddedModel(), folder / "home", random.Random(FIRST + number))
        number += 1
        drill.model.publish(FORM, DEFINITION)
        with serve(drill.model, watch=drill.watch) as drill.url:
            drill.begin()
            most = min(KILLS_PER_HOME, KILLS - total.landed)
            while drill.landed < most and time.monotonic() < deadline:
                drill.cycle()
            _check(drill)
            drill.end()
        for name in ("killed", "tenths", "states"):
            getattr(total, name).update(getattr(drill, name))
        total.cycles += drill.cycles
        print(f"\n{total.told()}", flush=True)
    assert total.landed >= KILLS or time.monotonic() >= deadline


def _check(drill: Drill) -> None:
    """Let everything come to its end, and ask what a person and the service know."""
    drill.kill_at = None
    drill.model.broken.clear()
    assert drill.run(["sync", "--wait", "0"])[0] in (0, 75)
    for cmid, item in _queue(drill).items():
        if item["status"] in ("failed", "quarantined") and item["reason"]["code"] not in TAKEN_BACK:
            assert drill.run(["queue", "retry", cmid])[0] == 0
    code, out, _ = drill.run(["sync", "--wait", "0"])
    assert code == 0, out
    known = _queue(drill)
    assert drill.promised <= set(known), "a request that a person saw as queued is gone"
    jobs = Counter(job["clientMutationId"] for job in drill.model.state.jobs.values())
    completed = [job for job in drill.model.state.jobs.values() if job["status"] == "completed"]
    made = {job["clientMutationId"] for job in completed}
    for cmid, item in known.items():
        reason = (item["reason"] or {}).get("code")
        if reason == WITHDRAWN:
            assert item["status"] == "discarded"
            assert cmid not in made, "taken back, and its document was made unseen"
        elif item["status"] != "done":
            assert cmid in drill.taken_back, item
            assert cmid in jobs, "told as arrived, and the service does not have it"
    assert set(jobs) <= set(known)
    assert set(jobs.values()) == {1}, "a request was doubled"
    documents_of_jobs = Counter(d["renderJobId"] for d in drill.model.state.documents.values())
    assert set(documents_of_jobs.values()) == {1}
    assert set(documents_of_jobs) == {job["id"] for job in completed}
    assert set(jobs) - made <= {cmid for cmid, item in known.items() if item["status"] == "discarded"}
    status = json.loads(drill.run(["status", "--json"])[1])
    assert status["everythingSent"]
    assert status["everythingReceived"] == (not any(item["status"] == "failed" for item in known.values()))
    assert not status["setAside"]
    _check_documents(drill)
    _check_evidence(drill)


def _queue(drill: Drill) -> dict[str, dict[str, Any]]:
    items = json.loads(drill.run(["queue", "list", "--all", "--json"])[1])["items"]
    return {item["clientMutationId"]: item for item in items}


def _check_documents(drill: Drill) -> None:
    """Every document is here, with the bytes that the service has."""
    with DocumentClient(drill.home, passphrase=PASSPHRASE) as client:
        for document_id, content in list(drill.model.state.contents.items())[-5:]:
            assert client.documents.read(document_id).content == content
            drill.opened += 1
        assert client.sync().success


def _check_evidence(drill: Drill) -> None:
    """The chain is whole, all of it arrived, and every opening that was seen is in it."""
    with DocumentClient(drill.home, passphrase=PASSPHRASE) as client:
        chain = audit.read_all(client.account().audit)
    previous = "0" * 64
    for number, event in enumerate(chain, start=1):
        bare = {name: value for name, value in event.items() if name not in ("hash", "state")}
        assert (event["sequence"], event["previousHash"]) == (number, previous)
        assert event["hash"] == hashlib.sha256(rfc8785.dumps(bare)).hexdigest()
        previous = event["hash"]
    assert len([e for e in chain if e["action"] == "document.opened"]) >= drill.opened
    assert {event["eventId"] for event in chain} == set(drill.model.state.events)


def test_a_command_that_starts_from_nothing_is_killed_too(tmp_path: Path) -> None:
    """The forked commands of the drill have everything imported; these are started as a person starts them."""
    model, dice = PaddedModel(), random.Random(1)
    model.publish(FORM, DEFINITION)
    environment = {**os.environ, "DOCUMENTS_HOME": str(tmp_path / "home"), "DOCUMENTS_PASSPHRASE": PASSPHRASE}
    with serve(model) as url, DocumentClient(tmp_path / "home", passphrase=PASSPHRASE) as client:
        client.login(url, model.token("clinic", "dr.a"))
        client.templates()
        promised = {client.request(FORM, f"p{number}")["clientMutationId"] for number in range(5)}
        for _ in range(6):
            arguments = [sys.executable, "-m", "document_client", "sync", "--wait", "0"]
            process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(dice.uniform(0.0, 1.0))
            process.kill()
            process.wait()
        assert client.sync(wait_seconds=5).success
        assert {i["clientMutationId"] for i in client.queue.list() if i["status"] == "done"} == promised
        assert Counter(j["clientMutationId"] for j in model.state.jobs.values()) == Counter(promised)
