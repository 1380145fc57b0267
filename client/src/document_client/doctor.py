"""What ``documents doctor`` looks at: keys, files, server, clock, disk, spooler; each with what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from . import feed
from .account import find_set_aside, read_session
from .enrolment import is_enrolled
from .errors import ClientError
from .recovery import find_asides
from .vault import Vault, open_vault, read_failures, read_unlock_method

if TYPE_CHECKING:
    from .client import DocumentClient

# Room for a day of a clinic's documents.
_LOW_DISK_BYTES = 200 * 1024 * 1024


def examine(client: DocumentClient) -> list[dict[str, Any]]:
    """Return findings ``{part, state: ok|attention|broken, text}``; asks the server, changes nothing."""
    findings: list[dict[str, Any]] = []

    def find(part: str, state: str, text: str) -> None:
        findings.append({"part": part, "state": state, "text": text})

    try:
        method = read_unlock_method(client.home)
        find("keys", "ok" if method else "broken", f"held by the {method}" if method else "no keys yet: sign in first")
        wrong = read_failures(client.home) if method == "passphrase" else 0
        if wrong:
            find(
                "keys",
                "attention",
                f"{wrong} wrong passphrases since the last right one; each further one waits longer",
            )
        session = read_session(client.home)
        if session is None:
            find("session", "broken", "nobody is signed in: `documents login --server URL`")
            if method:
                _examine_left(client, find)
        else:
            find("session", "ok", f"{session.user} of {session.tenant} at {session.server}")
            _examine_account(client, find)
    except ClientError as failure:
        find("keys", "broken", f"{failure.title} {failure.detail or ''}".strip())
    _examine_disk(client, find)
    _examine_spooler(find)
    return findings


def _examine_left(client: DocumentClient, find: Any) -> None:
    """What is here while nobody is signed in: evidence, and files that were set aside."""
    from .outboxes import count_left, count_unheard

    vault = open_vault(client.home, client._unlocking)
    lost = _examine_aside(client.home, vault, find)
    waiting, unheard = count_left(client.home, vault), count_unheard(client.home, vault)
    remedy = "`documents sync` sends them by this device's signature"
    if unheard:
        remedy = f"the service does not know this device yet, so {unheard} need a sign-in with a connection"
    text = f"{waiting} of opening and printing wait; {remedy}"
    if waiting or not lost:
        find("records", "attention" if waiting else "ok", text if waiting else "everything is sent")


def _examine_aside(home: Path, vault: Vault, find: Any) -> int:
    """Name what could not be read; returns how many of them are records of opening and printing."""
    from .outboxes import find_unreadable

    asides = {os.fspath(aside.path): aside for aside in find_asides(home, vault)}
    lost = 0
    for path in find_set_aside(home):
        aside = asides.get(path)
        if aside is not None and aside.has_key:
            remedy = "`documents recover` takes back what of it can be read"
        elif aside is not None and aside.has_envelope:
            remedy = "`documents recover --ask FILE` asks your administrator for its key"
        else:
            remedy = "keep it and ask for help"
        of_records = Path(path).name.startswith("audit.db")
        lost += of_records
        find("records" if of_records else "queue", "attention", f"kept because it could not be read: {path}; {remedy}")
    for box in find_unreadable(home, vault):
        lost += 1
        text = f"{box} cannot be read; it is kept, and set aside when somebody of its tenant signs in"
        find("records", "attention", text)
    return lost


def _examine_account(client: DocumentClient, find: Any) -> None:
    status = client.status()
    _examine_aside(client.home, client.account().vault, find)
    if not is_enrolled(client.account()):
        text = "not known to be enrolled at the service, so nobody can revoke it: connect and run `documents sync`"
        find("device", "attention", text)
    for notice in status.notices:
        find("files", "attention", notice)
    if status.quarantined or status.failed:
        find(
            "queue",
            "attention",
            f"requests that need a decision: {status.quarantined + status.failed}; see `documents queue`",
        )
    else:
        find("queue", "ok", f"{status.pending} waiting to be sent")
    problem = status.cache["policyProblem"]
    if problem:
        find("policy", "attention", f"{problem}; sign in again")
    clock = status.clock
    text = f"{clock['confidence']}; the device says {clock['device']}, last contact {clock['lastContact'] or 'never'}"
    find("clock", "attention" if clock["confidence"] == "suspect" else "ok", text)
    _examine_cache(status.cache, find)
    _examine_evidence(status.audit, find)
    person = client.whoami()
    if not person["tokenRenews"]:
        _examine_token(person["tokenExpiresAt"], clock["now"], find)
    if status.last_stop == "DEVICE_REVOKED":
        find("session", "broken", "the service revoked this device; its copies were removed: ask your administrator")
    _examine_server(client, find)


def _examine_cache(cache: dict[str, Any], find: Any) -> None:
    if cache["locked"]:
        find("documents", "attention", f"locked since {cache['locksAt']}: no contact for too long; connect and sync")
        return
    text = f"{cache['documents']} here, {cache['bytes'] / 1e6:.1f} MB of {cache['quotaBytes'] / 1e6:.1f} MB"
    waiting = f"; {cache['waiting']} not here yet: `documents sync`" if cache["waiting"] else ""
    expired = f"; {cache['expired']} expired: connect to refresh" if cache["expired"] else ""
    find("documents", "attention" if expired else "ok", text + waiting + expired)


def _examine_evidence(events: dict[str, Any], find: Any) -> None:
    if events["refused"]:
        text = f"the service could not read {events['refused']} records; they are kept here, tell your administrator"
        find("records", "attention", text)
    else:
        find("records", "ok", f"{events['pending']} of opening and printing wait to be sent")


def _examine_token(expires: str | None, now: str, find: Any) -> None:
    # Both are RFC 3339 in UTC with milliseconds, which sort as text.
    if expires is not None and expires <= now:
        find("session", "attention", f"the token has expired ({expires}): `documents login`; the queue is untouched")


def _examine_server(client: DocumentClient, find: Any) -> None:
    from .connecting import Connected
    from .http import READ_SECONDS
    from .purging import purge_caches
    from .reactions import Verdict, epoch_of, judge

    told = {
        Verdict.ACCEPTED: ("ok", "reached, and takes your session"),
        Verdict.NO_CONNECTION: ("attention", "no connection; work goes on offline"),
        Verdict.TLS: ("attention", "no secure connection: check the date and time of this device"),
        Verdict.SIGN_IN: ("attention", "wants you to sign in again"),
        Verdict.REVOKED: ("broken", "says that this device was revoked: ask your administrator"),
        Verdict.REFUSED: ("broken", "refuses this device or person"),
        Verdict.WAIT: ("attention", "busy"),
        Verdict.SERVER_FAILED: ("attention", "has an error of its own"),
    }
    account = client.account()
    with Connected(account, client._transport) as connection:
        seconds = min(READ_SECONDS, 10.0)
        answer = connection.send("GET", "/.well-known/document-service", authenticated=False, read_seconds=seconds)
        if judge(answer, 0.0).verdict is Verdict.ACCEPTED:
            # What a sync asks, under the session: the open page knows neither tenant nor person nor device.
            path = feed.ROUTE + quote(feed.read_cursor(account.cache), safe="") + feed.policy_mark(account.cache)
            answer = connection.send("GET", path, read_seconds=seconds)
    judged = judge(answer, 0.0)
    nothing_new = answer.status == 204 and epoch_of(answer)
    verdict = Verdict.ACCEPTED if nothing_new else judged.verdict
    portal = ("attention", "this network or address is not the service; perhaps it wants you to sign in first")
    if verdict is Verdict.REVOKED:
        # Whoever hears it purges: the service takes a device that asked for one that heard.
        purge_caches(account)
    state, text = told.get(verdict, portal)
    find("server", state, f"{text}: {judged.told}" if judged.told else text)


def _examine_disk(client: DocumentClient, find: Any) -> None:
    folder = client.home
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    state = "ok" if free > _LOW_DISK_BYTES else "attention"
    find("disk", state, f"{free // (1024 * 1024)} MB free for {client.home}")


def _examine_spooler(find: Any) -> None:
    try:
        from .printing import printers, spooler_report

        known = printers()
        report = spooler_report()
    except ClientError as failure:
        find("printing", "attention", failure.detail or failure.title)
        return
    names = ", ".join(f"{p.name} (makes a file)" if p.is_virtual else p.name for p in known) or "no printer"
    # A spooler that keeps what it printed has a patient's pages on its disk.
    state = "ok" if known and not report.keeps_files else "attention"
    find("printing", state, f"{names}. {report.detail}")
