"""One installation as an integrator has it: the documented commands, a scratch data folder, a free port.

Nothing of the product is imported in this folder: what is used is written in the contract and the README.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx2

from contract.from_outside.caller import Caller

#: ``make test`` leaves both programs beside the interpreter (contract §5).
PROGRAMS = Path(sys.executable).parent

#: A first start takes three seconds on an idle machine of two cores, and a busy one has taken a minute.
START_SECONDS = 120.0

#: A command takes below three seconds, of which most goes to imports.
COMMAND_SECONDS = 90.0

#: Two organisations on one service; nothing of one may be seen by the other.
CLINIC, STRANGERS = "clinic", "strangers"

PREFIXES = ("DOCUMENT_SERVICE_", "DOCUMENTS_")


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of a developer's own installation."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)} | more


def run(program: str, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``document-service`` or ``documents`` to its end."""
    return subprocess.run(
        [str(PROGRAMS / program), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
        env=clean_environment(**environment),
    )


class Clinic:
    """A data folder and the service on it, which may be stopped, killed and started again."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.environment = environment
        self.url = ""
        self._process: subprocess.Popen[str] | None = None
        self._tokens: dict[tuple[str, ...], str] = {}

    def start(self, *flags: str, port: int = 0) -> Self:
        """``document-service serve`` on a free port; return once it is ready."""
        log = self.data_dir.with_suffix(".log").open("a")
        self._process = subprocess.Popen(
            [str(PROGRAMS / "document-service"), "serve", "--port", str(port), *flags],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=clean_environment(DOCUMENT_SERVICE_DATA_DIR=str(self.data_dir), **self.environment),
        )
        log.close()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "http://" in line, f"serve said {line!r}; see {log.name}"
        self.url = line[line.index("http://") :].strip()
        wait_for(lambda: httpx2.get(self.url + "/health/ready", trust_env=False).status_code == 200, START_SECONDS)
        return self

    def stop(self) -> None:
        """Ask the service to stop, as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def command(self, *arguments: str, code: int = 0) -> str:
        """``document-service ARGUMENTS`` on this folder, which must end with ``code``; its standard output."""
        done = run("document-service", *arguments, DOCUMENT_SERVICE_DATA_DIR=str(self.data_dir), **self.environment)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def token(self, tenant: str, user: str, *roles: str, facilities: tuple[str, ...] = (), expires: str = "12h") -> str:
        """A token by the documented command; the same claims give the same token."""
        wanted = (tenant, user, *roles, "|", *facilities, "|", expires)
        if wanted not in self._tokens:
            named = [word for role in roles for word in ("--role", role)]
            named += [word for facility in facilities for word in ("--facility", facility)]
            told = self.command("token", "--tenant", tenant, "--user", user, *named, "--expires", expires)
            self._tokens[wanted] = told.strip()
        return self._tokens[wanted]

    def caller(self, tenant: str, user: str, *roles: str, facilities: tuple[str, ...] = ()) -> Caller:
        """Somebody who calls the API of this installation."""
        return Caller(self.url, self.token(tenant, user, *roles, facilities=facilities))


class Device:
    """A home folder of ``documents`` and the command on it."""

    def __init__(self, home: Path) -> None:
        self.environment = {
            "DOCUMENTS_HOME": str(home),
            "DOCUMENTS_PASSPHRASE": "only for the test",
            # No key of a test is kept in the kernel's keyring of whoever runs it.
            "DOCUMENTS_REMEMBER": "0",
        }

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """``documents ARGUMENTS``, whatever comes of it."""
        return run("documents", *arguments, stdin=stdin, **self.environment)

    def json(self, *arguments: str, code: int = 0, stdin: str = "") -> Any:
        """``documents ARGUMENTS --json``, which must end with ``code``; what it printed."""
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


def wait_for(holds: Callable[[], object], seconds: float = 45.0) -> Any:
    """Ask again until it holds, and return what was answered."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            told = holds()
        except httpx2.TransportError:
            told = None
        if told:
            return told
        assert time.monotonic() < deadline, f"did not hold within {seconds} s"
        time.sleep(0.05)
