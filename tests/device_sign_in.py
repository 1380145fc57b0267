"""A certified OpenID provider in a process of its own, and a person with a browser who types the code there."""

from __future__ import annotations

import json
import subprocess
import time
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx2

from engines import OPENID_PROVIDER
from seaweedfs import free_ports

_SCRIPT = OPENID_PROVIDER.parent.parent / "tests/openid_provider/provider.mjs"
CLIENT = "documents-device"
AUDIENCE = "https://documents.example/api"
# Node.js loads it in a second; a loaded machine gets time to spare.
_START_SECONDS = 60.0
# Code, confirmation, login, consent, and the page that says that it is done: with the redirects between them.
_MOST_PAGES = 12


class DeviceProvider:
    """The provider; access tokens live ``life`` seconds, and each refresh token is good once."""

    def __init__(self, life: int = 300) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://localhost:{self.port}"
        self._life = life
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> DeviceProvider:
        # The script stands in the repository and its packages beside the Python ones: it is run from a link there.
        script = OPENID_PROVIDER / _SCRIPT.name
        script.write_bytes(_SCRIPT.read_bytes())
        self._process = subprocess.Popen(
            ["node", script, str(self.port), AUDIENCE, str(self._life)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                httpx2.get(f"{self.url}/test/renewals", trust_env=False)
                return self
            except httpx2.TransportError:
                time.sleep(0.1)
        raise AssertionError("the OpenID provider did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def knows(self, user: str, **claims: Any) -> None:
        """Put these claims into the access tokens of a user."""
        params = {"sub": user, "claims": json.dumps(claims)}
        httpx2.get(f"{self.url}/test/people", params=params, trust_env=False).raise_for_status()

    def renewals(self) -> int:
        """How many refresh tokens were spent so far."""
        return int(httpx2.get(f"{self.url}/test/renewals", trust_env=False).json()["renewals"])


class _Form(HTMLParser):
    """The first form of a page: where it goes and what is in its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form" and not self.action:
            self.action, self._inside = given.get("action") or "", True
        elif tag in ("input", "button") and self._inside and given.get("name"):
            self.fields[str(given["name"])] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def approve(page: str, code: str, user: str) -> None:
    """Do what a person does at the provider's page: type the code, confirm it, sign in, agree."""
    _walk(page, {"user_code": code, "login": user, "password": "any"})


def refuse(page: str, code: str) -> None:
    """Type the code, and then say no."""
    _walk(page, {"user_code": code}, abort=True)


def _walk(page: str, typed: dict[str, str], *, abort: bool = False) -> None:
    with httpx2.Client(follow_redirects=True, trust_env=False) as browser:
        answer = browser.get(page)
        for _ in range(_MOST_PAGES):
            form = _Form(answer.text)
            if not form.action:
                assert "success" in answer.text.lower(), answer.text
                return
            fields = {name: typed.get(name, value) for name, value in form.fields.items()}
            if abort and "confirm" in fields:
                del fields["confirm"]
                browser.post(urljoin(str(answer.url), form.action), data={**fields, "abort": "yes"})
                return
            answer = browser.post(urljoin(str(answer.url), form.action), data=fields)
    raise AssertionError(f"no end after {_MOST_PAGES} pages")
