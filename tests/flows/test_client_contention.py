"""Two programs and a watcher on one home folder: no busy error, nothing lost, nothing sent twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from client_device import DEFINITION, FORM
from document_client import DocumentClient
from document_client.model import Model, serve

#: Requests of each program; `make soak` lets them work for ten minutes instead.
EACH = 40
MINUTES = float(os.environ.get("SOAK_CONTENTION_MINUTES", "0"))

ENQUEUE = """
import itertools, sys, time
from document_client import DocumentClient
deadline = time.monotonic() + {minutes} * 60
for number in itertools.count():
    if number >= {count} and time.monotonic() > deadline:
        break
    # Opened anew each time, as a command does.
    with DocumentClient() as client:
        print(client.request({form!r}, "{name}-" + str(number))["clientMutationId"], flush=True)
        client.queue.list()
        client.status()
        if number % 8 == 0:
            client.sync()
        for document in client.documents.list()[:1]:
            if document["state"] == "available":
                client.documents.read(document["id"])
"""

WATCH = """
import sys, time
from document_client import DocumentClient
with DocumentClient() as client:
    while not sys.stdin.closed:
        client.sync(eager=False)
        time.sleep(0.02)
"""


def test_two_programs_and_a_watcher_on_one_home(tmp_path: Path) -> None:
    model = Model(time.time)
    model.publish(FORM, DEFINITION)
    environment = {**os.environ, "DOCUMENTS_HOME": str(tmp_path / "home"), "DOCUMENTS_PASSPHRASE": "correct horse"}
    posts: Counter[str] = Counter()

    def watch(name: str, done: bool) -> None:
        if done:
            posts[name.split("?")[0]] += 1

    def start(script: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", script]
        return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with serve(model, watch=watch) as url, DocumentClient(tmp_path / "home", passphrase="correct horse") as client:
        client.login(url, model.token("clinic", "dr.a"))
        client.templates()
        watcher = start(WATCH)
        programs = [
            start(ENQUEUE.format(count=EACH, minutes=MINUTES, form=FORM, name=name)) for name in ("left", "right")
        ]
        outcomes = [program.communicate(timeout=MINUTES * 60 + 240) for program in programs]
        watcher.terminate()
        _, complaint = watcher.communicate(timeout=30)
        assert [program.returncode for program in programs] == [0, 0], [err for _, err in outcomes]
        assert "Error" not in complaint, complaint
        asked = [line for out, _ in outcomes for line in out.split()]
        assert len(set(asked)) == len(asked) >= 2 * EACH
        assert client.sync(wait_seconds=5).success
        found = {item["clientMutationId"]: item["status"] for item in client.queue.list()}
        assert found == dict.fromkeys(asked, "done")
        assert Counter(job["clientMutationId"] for job in model.state.jobs.values()) == Counter(asked)
        sent = posts["POST /v1/documents/render-jobs"] + posts["POST /v1/documents/render-jobs/batch"]
        assert sent <= len(asked) + 1, "the lease kept requests from being sent twice"
        print(f"\n{len(asked)} requests by two programs beside a watcher, {sent} posts, no busy error")
        assert client.status().everything_sent
