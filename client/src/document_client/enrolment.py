"""The service knows this device before anything of a patient comes here: only an enrolled device can be revoked.

Signing in enrols it. Who signed in without a connection, or whose enrolment got lost, is enrolled by the next act that
reaches the service, and nothing is fetched before the service has taken it. That it did is noted, sealed, in the vault:
for which server, under which sync epoch (a restored service may have lost it), and for which people.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from . import requests
from .account import Account, Session
from .answers import Answer
from .cycle import Cycle, Report, Steps, stop_for
from .driver import Driver
from .effects import BeginRun, EndRun
from .errors import OnlineOnly
from .http import Connection
from .reactions import Judged, Verdict, epoch_of, judge
from .stopped import raise_stop
from .vault import Vault

ROUTE = "/v1/devices"
_UNTOLD = "This device is not enrolled, so nothing was fetched."


@dataclass(frozen=True, slots=True)
class NotTaken:
    """What the service, or what stands in its place, answered to an enrolment that it did not take."""

    judged: Judged
    answer: Answer

    @property
    def told(self) -> str:
        """What a person should read."""
        return self.judged.told or self.judged.verdict.value


def was_ever_enrolled(vault: Vault, outbox_id: str) -> bool:
    """Return whether the service of a tenant's outbox has taken this device: what it signs is heard there."""
    return bool(_read(vault, outbox_id))


def is_enrolled(account: Account) -> bool:
    """Return whether the session's service is known to know this device, and this person on it."""
    session, known = account.session, _read(account.vault, account.session.outbox_id)
    if known.get("server") != session.server or session.account_id not in known["accounts"]:
        return False
    epoch = requests.read_fact(account.queue, "epoch")
    return epoch is None or known["epoch"] in (None, epoch)


def enrol(connection: Connection, vault: Vault, session: Session) -> NotTaken | None:
    """Tell the service about this device, and note that it took it; returns what it said when it did not.

    Doing it again changes nothing. An older service without this route needs to know no device, and that is noted too.
    """
    content = json.dumps({"deviceId": vault.device_id, "publicKey": vault.public_key()}).encode()
    answer = connection.send("POST", ROUTE, content=content)
    if judge(answer, 0.0).verdict is Verdict.SIGN_IN and connection.renew():
        answer = connection.send("POST", ROUTE, content=content)
    judged = judge(answer, 0.0)
    if judged.verdict is Verdict.ACCEPTED:
        if not isinstance(answer.body, dict) or answer.body.get("id") != vault.device_id:
            return NotTaken(Judged(Verdict.NOT_OURS), answer)
    elif not (judged.verdict in (Verdict.REFUSED, Verdict.SERVER_FAILED) and answer.status in (404, 405, 501)):
        return NotTaken(judged, answer)
    _note(vault, session, epoch_of(answer))
    return None


def enrol_first(account: Account, connection: Connection) -> Report | None:
    """Enrol the device where that is not known; returns the report of a run that stops here because it failed.

    A refused session and a revoked device are left to the run itself, which fetches nothing either and has more to do:
    evidence is sent by the device's signature, and the copies of a revoked device are removed.
    """
    if is_enrolled(account):
        return None
    refused = enrol(connection, account.vault, account.session)
    if refused is None or refused.judged.verdict in (Verdict.SIGN_IN, Verdict.REVOKED):
        return None

    def stages(cycle: Cycle) -> Steps:
        began = yield BeginRun()
        stop_for(cycle, refused.judged, refused.answer)
        if refused.judged.verdict is not Verdict.NO_CONNECTION:
            cycle.report.detail = f"{_UNTOLD} {cycle.report.detail}".strip()
        if began is not None:
            yield EndRun(whole=False, stopped=cycle.report.stopped)

    driver = Driver(account, connection)
    return driver.run(Cycle(clock=driver.now, random=lambda: 0.5), stages)


def need_enrolment(account: Account, connection: Connection) -> None:
    """Enrol the device where that is not known; raises OnlineOnly, or the error that fits, when it cannot be done."""
    report = enrol_first(account, connection)
    if report is not None and report.stopped == "NO_CONNECTION":
        raise OnlineOnly()
    if report is not None:
        raise_stop(report)


def _read(vault: Vault, outbox_id: str) -> dict[str, Any]:
    sealed = vault.key(f"enrolled/{outbox_id}", create=False)
    return {} if sealed is None else dict(json.loads(sealed))


def _note(vault: Vault, session: Session, epoch: str | None) -> None:
    """Keep that the service of the session took this device; what another server or epoch took counts no more."""
    known = _read(vault, session.outbox_id)
    same = (known.get("server"), known.get("epoch")) == (session.server, epoch)
    accounts = sorted({*(known["accounts"] if same else ()), session.account_id})
    content = {"server": session.server, "epoch": epoch, "accounts": accounts}
    if content != known:
        vault.put(f"enrolled/{session.outbox_id}", json.dumps(content).encode())
