"""What the fault proxy does to the bytes: the faults in force, the shared link, prepared answers and the counters."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final, Literal

Direction = Literal["up", "down"]

# TCP's smallest retransmission time-out on Linux: what a lost packet costs besides a round trip.
_RETRANSMIT_SECONDS: Final = 0.2
# How many requests are remembered for assertions; a soak run must not grow without bound.
_REMEMBERED_REQUESTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Faults:
    """The weather. The default is a perfect network; every field adds one fault and they combine.

    ``network``: "refuse" closes the listener and resets every connection; "blackhole" takes connections and moves
    nothing until the weather changes (what was on its way then arrives, as with TCP).
    ``round_trip_seconds``: half in each direction, and once more before the first byte of a connection (handshake).
    ``bytes_per_second_up``/``_down``: one link for all connections together, up = towards the upstream.
    ``loss``: share of pieces (0 to 1) that arrive a retransmission late.
    ``reset_after_up``/``_down``: bytes of one connection after which it is reset; ``reset_after_down=0`` loses the
    answer to a request that the upstream has carried out.
    ``cut_body_after``: bytes of a response's body after which the connection is closed in good order.
    ``shift_content_range``: added to the first byte that a 206 claims to start at.
    ``portal``: an HTML page that answers every request, with status 200, in the upstream's place.
    ``path``: body cuts and range shifts concern only requests whose target contains it.
    ``times``: how many cuts and resets there are in all; None = every time.
    """

    network: Literal["pass", "refuse", "blackhole"] = "pass"
    round_trip_seconds: float = 0.0
    bytes_per_second_up: float | None = None
    bytes_per_second_down: float | None = None
    loss: float = 0.0
    reset_after_up: int | None = None
    reset_after_down: int | None = None
    cut_body_after: int | None = None
    shift_content_range: int = 0
    portal: bytes | None = None
    path: str = ""
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A prepared answer in the upstream's place, for requests whose target contains ``path``."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = ""

    def encode(self, method: str) -> bytes:
        """Write the answer to a request with ``method``; HEAD gets no body."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if method == "HEAD" else self.body)


def problem(
    status: int, code: str, title: str = "", *, headers: Mapping[str, str] | None = None, path: str = ""
) -> Answer:
    """A problem document as the service itself would answer it (contract section 2)."""
    content = {"type": "about:blank", "title": title or code, "status": status, "code": code, "requestId": "req_fault"}
    return Answer(
        status,
        json.dumps(content).encode(),
        {"Content-Type": "application/problem+json", **(headers or {})},
        path,
    )


def page(status: int, html: bytes = b"<!doctype html><title>Gateway</title>", *, path: str = "") -> Answer:
    """An HTML page, as a portal, a filter or a gateway answers it."""
    return Answer(status, html, {"Content-Type": "text/html; charset=utf-8"}, path)


@dataclass(frozen=True, slots=True)
class Counts:
    """What passed since the start or the last ``reset_counts``: bytes on the client's side, up and down.

    ``requests`` counts HTTP request heads, each of which is a round trip; ``connections`` cost one more each.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    connections: int = 0
    requests: int = 0
    answered_here: int = 0


class Weather:
    """The proxy's state, touched only from its own loop."""

    def __init__(self, seed: int) -> None:
        """``seed`` decides which pieces ``loss`` hits."""
        self.faults = Faults()
        self.counts = Counts()
        self.seen: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._answers: deque[Answer] = deque()
        self._cuts_left: int | None = None
        self._changed = asyncio.Event()
        self._free_at: dict[Direction, float] = {"up": 0.0, "down": 0.0}
        self._random = random.Random(seed)

    def change(self, faults: Faults) -> None:
        """Put ``faults`` in force, for what is already on its way too."""
        self.faults = faults
        self._cuts_left = faults.times
        self._free_at = {"up": 0.0, "down": 0.0}
        self._changed.set()
        self._changed = asyncio.Event()

    def prepare(self, answer: Answer, times: int) -> None:
        """Queue ``answer`` for the next ``times`` requests that it concerns."""
        self._answers.extend([answer] * times)

    def forget_answers(self) -> None:
        """Drop the prepared answers that nobody has asked for yet."""
        self._answers.clear()

    def count(self, **more: int) -> None:
        """Add to the counters."""
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()})

    def answer_to(self, method: str, target: str) -> bytes | None:
        """Note a request and take the answer that it gets here, or None when the upstream answers it."""
        self.seen.append((method, target))
        self.count(requests=1)
        found = next((answer for answer in self._answers if answer.path in target), None)
        if found is not None:
            self._answers.remove(found)
        elif self.faults.portal is not None:
            found = page(200, self.faults.portal)
        if found is None:
            return None
        self.count(answered_here=1)
        return found.encode(method)

    def may_cut(self) -> bool:
        """Whether a further cut or reset is allowed."""
        return self._cuts_left is None or self._cuts_left > 0

    def spend_cut(self) -> None:
        """Note one cut or reset."""
        if self._cuts_left is not None:
            self._cuts_left -= 1

    def piece_bytes(self, direction: Direction) -> int:
        """How many bytes travel as one piece: a packet on a slow link, so that progress is smooth."""
        rate = self._rate(direction)
        return 64 * 1024 if rate is None else max(1400, int(rate / 50))

    def _rate(self, direction: Direction) -> float | None:
        return self.faults.bytes_per_second_up if direction == "up" else self.faults.bytes_per_second_down

    async def travel(self, direction: Direction, size: int, arrived: float, *, handshake: bool = False) -> None:
        """Return when ``size`` bytes that came in at ``arrived`` (loop time) have crossed the link."""
        loop = asyncio.get_running_loop()
        while True:
            faults, changed = self.faults, self._changed
            if faults.network == "blackhole":
                await changed.wait()
                arrived = loop.time()
                continue
            leaves = arrived
            rate = self._rate(direction)
            if rate is not None:
                leaves = max(arrived, self._free_at[direction]) + size / rate
                self._free_at[direction] = leaves
            due = leaves + faults.round_trip_seconds * (1.5 if handshake else 0.5)
            if faults.loss and self._random.random() < faults.loss:
                due += faults.round_trip_seconds + _RETRANSMIT_SECONDS
            wait = due - loop.time()
            if wait <= 0:
                return
            try:
                await asyncio.wait_for(changed.wait(), wait)
            except TimeoutError:
                return
            arrived = loop.time()
