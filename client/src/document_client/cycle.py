"""One run of the sync engine: what it knows, why it stops, and what every stage of it needs.

A stage is a generator of effects (``effects``). An epoch that changed is heeded after every exchange: the device asks
which acknowledged requests the restored server still knows, and offers the others again (contract §3).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .answers import Answer
from .effects import Effect, Get, Post, ReadPromised, ReadWithdrawn, RefreshToken, SaveEpoch, SettleLookup
from .reactions import Judged, Verdict, epoch_of, judge

Steps = Generator[Effect, Any, None]

# Contract §2: a lookup takes up to 500 ids.
LOOKUP_SIZE = 500


@dataclass(slots=True)
class Report:
    """What a cycle did. ``stopped`` is a code; ``success`` is true after a whole cycle without any error.

    ``offered`` counts requests each time they were put before the service, ``acknowledged`` those that it took.
    ``withdrawn`` names the documents whose copies were removed; ``replaced`` what replaces them, where something does.
    """

    busy: bool = False
    success: bool = False
    stopped: str | None = None
    detail: str = ""
    offered: int = 0
    acknowledged: int = 0
    quarantined: int = 0
    postponed: int = 0
    offered_again: int = 0
    taken_back: int = 0
    pages: int = 0
    downloaded: int = 0
    confirmed: int = 0
    bytes_received: int = 0
    done: int = 0
    events_sent: int = 0
    events_refused: int = 0
    errors: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        """Count another cycle's work in; the last cycle decides how it ended."""
        for member in fields(self):
            mine, more = getattr(self, member.name), getattr(other, member.name)
            if isinstance(mine, int) and not isinstance(mine, bool):
                setattr(self, member.name, mine + more)
        self.errors += other.errors
        self.withdrawn += other.withdrawn
        self.replaced |= other.replaced
        self.success, self.stopped, self.detail = other.success, other.stopped, other.detail

    def as_json(self) -> dict[str, Any]:
        """Return the report as the ``--json`` output shows it."""
        camel = {name: name.split("_")[0] + "".join(p.title() for p in name.split("_")[1:]) for name in asdict(self)}
        return {camel[name]: value for name, value in asdict(self).items()}


@dataclass(slots=True)
class Cycle:
    """The state of one run, and what is handed in: ``clock`` (seconds), ``random`` in [0, 1), the byte budget.

    ``batching``: several requests may go in one exchange, as far as is known of the service and the link;
    ``older_service``: this run found that it has no such route.
    """

    clock: Callable[[], float]
    random: Callable[[], float]
    budget: int | None = None
    report: Report = field(default_factory=Report)
    epoch: str | None = None
    seen_epoch: str | None = None
    refreshed: bool = False
    tried: list[str] = field(default_factory=list)
    silent: int = 0
    failing: int = 0
    batching: bool = True
    older_service: bool = False

    def stop(self, code: str, detail: str = "") -> None:
        """Stop the run for a reason that concerns everything, not one request."""
        self.report.stopped = self.report.stopped or code
        self.report.detail = self.report.detail or detail
        self.report.errors.append(code)

    @property
    def stopped(self) -> bool:
        """Whether the run has a reason to stop."""
        return self.report.stopped is not None


def stop_for(cycle: Cycle, judged: Judged, answer: Answer) -> None:
    codes = {
        Verdict.NOT_OURS: "NOT_THE_SERVICE",
        Verdict.ELSEWHERE: "NOT_THE_SERVICE",
        Verdict.TLS: "TLS_FAILED",
        Verdict.SIGN_IN: "SIGN_IN",
        Verdict.REVOKED: "DEVICE_REVOKED",
        Verdict.NO_CONNECTION: "NO_CONNECTION",
        Verdict.WAIT: "SERVER_BUSY",
        Verdict.SERVER_FAILED: "SERVER_FAILING",
        Verdict.REFUSED: "SERVER_REFUSED",
        Verdict.ACCEPTED: "NOT_THE_SERVICE",
    }
    said = f"{judged.told} ({judged.code})" if judged.told else judged.code
    cycle.stop(codes[judged.verdict], said or answer.detail or (f"HTTP {answer.status}" if answer.status else ""))


def heed_epoch(cycle: Cycle) -> Steps:
    """After a restore of the server: ask which promises it still knows, and offer the others again."""
    seen = cycle.seen_epoch
    if seen is None or seen == cycle.epoch or cycle.stopped:
        return
    promised: list[str] = yield ReadPromised(seen)
    for start in range(0, len(promised), LOOKUP_SIZE):
        answer, judged, items = yield from _look_up(cycle, promised[start : start + LOOKUP_SIZE])
        if items is None:
            stop_for(cycle, judged, answer)
            return
        again: int = yield SettleLookup(items, seen)
        cycle.report.offered_again += again
        if again:
            offered = {str(i["clientMutationId"]) for i in items if not i["known"]}
            cycle.tried = [cmid for cmid in cycle.tried if cmid not in offered]
    yield SaveEpoch(seen)
    cycle.epoch = seen


def settle_withdrawals(cycle: Cycle) -> Steps:
    """Ask whether the requests that were taken back had arrived; without any, nothing is asked.

    A question that is refused, fails or gets lost keeps no other request waiting: it is asked again next time.
    """
    withdrawn: list[str] = yield ReadWithdrawn()
    for start in range(0, len(withdrawn), LOOKUP_SIZE):
        answer, judged, items = yield from _look_up(cycle, withdrawn[start : start + LOOKUP_SIZE])
        if items is None:
            if judged.verdict in (Verdict.REFUSED, Verdict.SERVER_FAILED, Verdict.NO_CONNECTION):
                cycle.silent += judged.verdict is Verdict.NO_CONNECTION
                cycle.report.errors.append("LOOKUP_FAILED")
            else:
                stop_for(cycle, judged, answer)
            return
        yield SettleLookup(items, epoch_of(answer) or cycle.epoch)
        cycle.report.taken_back += sum(not item["known"] for item in items)
    yield from heed_epoch(cycle)


def _look_up(
    cycle: Cycle, asked: list[str]
) -> Generator[Effect, Any, tuple[Answer, Judged, list[dict[str, Any]] | None]]:
    """Ask which requests the service knows: its answer, and what it says of each, or None when it does not say it."""
    content = json.dumps({"clientMutationIds": asked}).encode()
    answer = yield from exchange(cycle, Post("/v1/documents/render-jobs/lookup", content))
    judged = judge(answer, cycle.clock())
    accepted = judged.verdict is Verdict.ACCEPTED and isinstance(answer.body, dict)
    items: Any = answer.body.get("items") if accepted else None
    return answer, judged, items if _answers_all(items, asked) else None


def _answers_all(items: Any, asked: list[str]) -> bool:
    if not isinstance(items, list) or not all(isinstance(i, dict) and isinstance(i.get("known"), bool) for i in items):
        return False
    # An answer that leaves one out would look like a server that lost it.
    return {i.get("clientMutationId") for i in items} == set(asked) and all(
        isinstance(i.get("job"), dict) for i in items if i["known"]
    )


def exchange(cycle: Cycle, effect: Post | Get) -> Generator[Effect, Any, Answer]:
    """Make an exchange that is not about one request; a 401 is answered once by refreshing the token."""
    answer: Answer = yield effect
    if answer.status == 401 and not cycle.refreshed and judge(answer, cycle.clock()).verdict is Verdict.SIGN_IN:
        cycle.refreshed = True
        if (yield RefreshToken()):
            answer = yield effect
    cycle.seen_epoch = epoch_of(answer) or cycle.seen_epoch
    return answer
