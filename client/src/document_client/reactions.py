"""What an answer means: the reaction table of contract §4, row by row, as a pure function.

Outcome                                            Item                          Run
202 or 200, JSON, echoes the id                    acknowledged                  go on
any status, not ours (HTML, no code, no echo)      stays                         stop
no connection, time-out, reset                     stays, backoff, no attempt    stop after two items in a row
TLS failure                                        stays                         stop
401 of ours                                        stays                         refresh once, then pause
408, 425, 429, 503 of ours                         stays until Retry-After       stop on 429 and 503
403 DEVICE_REVOKED of ours                         stays                         purge the copies, stop
other 4xx of ours                                  quarantined                   go on
other 5xx of ours                                  stays, backoff, an attempt    stop after three items in a row
redirect to another host                           stays, no credentials sent    stop
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum

from .answers import Answer
from .errors import join_detail

# Full jitter between one second and five minutes (contract §4).
SHORTEST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0
# A server that asks for more than a day has a broken clock; tomorrow is early enough to ask again.
LONGEST_RETRY_AFTER = 86_400.0


class Verdict(Enum):
    """The rows of the table."""

    ACCEPTED = "accepted"
    NOT_OURS = "not ours"
    NO_CONNECTION = "no connection"
    TLS = "tls"
    SIGN_IN = "sign in"
    REVOKED = "revoked"
    WAIT = "wait"
    REFUSED = "refused"
    SERVER_FAILED = "server failed"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with the server's code and title, and how long it asks to wait (seconds, or None).

    ``detail`` says where: the server's own detail, and the fields that a validation error names (no patient data).
    """

    verdict: Verdict
    code: str = ""
    title: str = ""
    wait: float | None = None
    busy: bool = False
    detail: str = ""

    @property
    def told(self) -> str:
        """What a person should read: the title with its detail."""
        return join_detail(self.title, self.detail)


_ACCEPTED, _NOT_OURS = Judged(Verdict.ACCEPTED), Judged(Verdict.NOT_OURS)


def judge(answer: Answer, now: float) -> Judged:
    """Return what an answer means, for any route; a 2xx is ACCEPTED only as JSON, its shape is the caller's look."""
    if answer.kind == "no_connection":
        return Judged(Verdict.NO_CONNECTION)
    if answer.kind == "tls":
        return Judged(Verdict.TLS)
    if answer.kind == "elsewhere":
        return Judged(Verdict.ELSEWHERE)
    if 200 <= answer.status < 300:
        return _ACCEPTED if answer.is_json else _NOT_OURS
    body = answer.body if isinstance(answer.body, dict) else {}
    code, title, detail = body.get("code"), str(body.get("title") or ""), _detail_of(body)
    if not answer.is_json or not isinstance(code, str) or not code or answer.status < 400:
        return Judged(Verdict.NOT_OURS)
    if answer.status == 401:
        return Judged(Verdict.SIGN_IN, code, title, detail=detail)
    if answer.status == 403 and code == "DEVICE_REVOKED":
        return Judged(Verdict.REVOKED, code, title, detail=detail)
    if answer.status in (408, 425, 429, 503):
        wait = _retry_after(answer.headers.get("retry-after", ""), now)
        return Judged(Verdict.WAIT, code, title, wait, busy=answer.status in (429, 503), detail=detail)
    if answer.status >= 500:
        return Judged(Verdict.SERVER_FAILED, code, title, detail=detail)
    return Judged(Verdict.REFUSED, code, title, detail=detail)


def judge_request(answer: Answer, cmid: str, now: float) -> Judged:
    """Return what an answer to a render request means: success is 200 or 202, JSON, a job that echoes the id."""
    judged = judge(answer, now)
    if judged.verdict is not Verdict.ACCEPTED:
        return judged
    body = answer.body
    echoed = (
        isinstance(body, dict)
        and body.get("clientMutationId") == cmid
        and isinstance(body.get("id"), str)
        and body.get("status") in ("queued", "running", "completed", "failed")
    )
    return judged if echoed and answer.status in (200, 202) else Judged(Verdict.NOT_OURS)


def backoff(tries: int, random: float) -> float:
    """Return the wait in seconds before try number ``tries`` + 2; ``random`` is in [0, 1)."""
    return max(SHORTEST_BACKOFF, random * min(LONGEST_BACKOFF, 2.0 ** min(tries + 1, 16)))


def server_time(answer: Answer) -> float | None:
    """Return the server's time in an answer that only the service can have given, or None."""
    if answer.kind != "answer" or not 200 <= answer.status < 300 or not answer.headers.get("x-sync-epoch"):
        return None
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        return None


def epoch_of(answer: Answer) -> str | None:
    """Return the sync epoch of an answer of ours, or None."""
    ours = answer.kind == "answer" and (answer.is_json or answer.status == 204)
    return answer.headers.get("x-sync-epoch") or None if ours else None


def _retry_after(text: str, now: float) -> float | None:
    if not text:
        return None
    try:
        wait = float(text) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - now
    except ValueError:
        return None
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER)


def _detail_of(body: dict[str, object]) -> str:
    """Return a problem's detail with the fields that a validation error names: the person needs to know where.

    The service repeats the title where it has no more to say; the person reads it once.
    """
    detail = str(body.get("detail") or "")
    errors = body.get("errors")
    listed = errors if isinstance(errors, list) else []
    named = [f"{e.get('pointer') or '/'}: {e.get('title')}" for e in listed if isinstance(e, dict)]
    return join_detail("" if detail == body.get("title") else detail, "; ".join(named))
