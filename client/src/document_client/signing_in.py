"""Signing in and out: whose files are open, which server, which keys (contract §4 and §5).

Signing in needs the server the first time; afterwards the same person can sign in on the device without a connection,
and the next sync shows whether the server agrees. Signing out stops a drain first, refuses to forget pending requests
unless told how, and destroys the cache's key.
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from . import lease, requests, withdrawals
from .account import Account, Session, open_account, read_session, write_session
from .answers import Answer
from .audit import Happening
from .clock import TimeSource, to_text
from .documents import count_only_copies, record
from .enrolment import enrol
from .errors import (
    DeviceRevoked,
    Misconfigured,
    NotTheService,
    PendingRequests,
    ServerRefused,
    ServerUnreachable,
    ServiceNotThere,
    TlsFailed,
    TokenRefused,
    UsageProblem,
)
from .files import make_folder, write_private
from .http import Connection, normalize_address
from .ids import new_id
from .issuer import Show, discover, sign_in_by_device
from .localdb import remove_files, transaction
from .outboxes import note_outbox
from .purging import purge_caches
from .reactions import Verdict, judge
from .renewal import Grant, forget, keep, read_person
from .vault import Unlocking, Vault, create_vault, open_vault, vault_exists

# A person has a few tokens in use at a time: one for each hour of a shift.
MOST_TAKEN = 8


@dataclass(frozen=True, slots=True)
class SignedOut:
    """How many requests were kept or discarded, and how many records of opening and printing were sent, and wait.

    ``evidence_unheard`` of those that wait need a sign-in with a connection: the service does not know this device yet.
    """

    requests: int
    evidence_sent: int
    evidence_waiting: int
    evidence_unheard: int = 0


def unlock(home: Path, unlocking: Unlocking) -> Vault:
    """Return the unlocked vault of ``home``, made when there is none yet; raises the vault's errors."""
    make_folder(home)
    return open_vault(home, unlocking) if vault_exists(home) else create_vault(home, new_id("dev_"), unlocking)


def grant_by_device(server: str, show: Show, transport: httpx2.BaseTransport | None = None) -> Grant:
    """Return what the device flow at the service's issuer gives; raises what ``issuer`` raises."""
    issuing = discover(server, transport)
    tokens = sign_in_by_device(issuing, show, transport)
    return Grant(tokens.access, tokens.refresh, tokens.expires_in, issuing)


def sign_in(
    home: Path,
    server: str,
    grant: Grant,
    unlocking: Unlocking,
    time: TimeSource,
    *,
    vault: Vault | None = None,
    transport: httpx2.BaseTransport | None = None,
    pending: str | None = None,
    trust_new_keys: bool = False,
    cache_ttl: float | None = None,
) -> tuple[Session, Vault, list[str]]:
    """Open a session; returns it with the unlocked vault (``vault``, where it is open already) and notices.

    ``pending`` ("keep" or "discard") says what happens to another user's pending requests. ``cache_ttl`` (seconds)
    stays for the whole session, the same person's later sign-ins included. A token that the service cannot be asked
    about opens a person's files only if it took that token here before, or the issuer gave it to this program just now:
    anybody can write one. Raises TokenUnreadable, TokenRefused, ServerUnreachable, NotTheService, PendingRequests and
    the vault's errors.
    """
    address = normalize_address(server)
    tenant, user = read_person(grant.access, grant.tenant_claim)
    vault = vault or unlock(home, unlocking)
    draft = Session(address, tenant, user, {}, to_text(time.wall()))
    known = _read_known(home, draft)
    notices: list[str] = []
    taken = False
    with_connection = Connection(address, grant.access, transport, device_id=vault.device_id)
    try:
        try:
            keys, taken = _ask_server(with_connection, known, trust_new_keys=trust_new_keys)
            refused = enrol(with_connection, vault, draft)
            if refused is not None:
                notices.append(f"The service did not take this device's enrolment: {refused.told}.")
        except DeviceRevoked:
            _purge_former(home, vault, time)
            raise
        except (ServerUnreachable, TlsFailed) as failure:
            if known is None or known["server"] != address:
                raise
            keys = dict(known["policyKeys"])
            notices.append(f"Signed in on this device only: {failure.title}")
    finally:
        with_connection.close()
    former = _read_former(home)
    stays = former is not None and (former.tenant, former.user) == (tenant, user)
    if taken:
        _note_taken(vault, draft.account_id, grant.access)
    elif known is not None and not stays and grant.issuing is None:
        _require_taken(vault, draft.account_id, grant.access)
    if former is not None and not stays:
        sign_out(home, vault, former, time, pending=pending)
    elif former is not None and cache_ttl is None:
        cache_ttl = former.cache_ttl
    session = Session(address, tenant, user, keys, draft.signed_in_at, cache_ttl)
    keep(vault, session.account_id, grant, time.wall())
    account = open_account(home, vault, session, time)
    notices += account.notices
    account.close()
    note_outbox(vault, session)
    _write_known(home, session)
    write_session(home, session)
    return session, vault, notices


def _note_taken(vault: Vault, account_id: str, token: str) -> None:
    """Keep, sealed, that the service took this token: its digest, among the last ones of this person."""
    shown, digests = _digest(token), _read_taken(vault, account_id)
    if shown not in digests:
        vault.put(f"taken/{account_id}", json.dumps([*digests, shown][-MOST_TAKEN:]).encode())


def _require_taken(vault: Vault, account_id: str, token: str) -> None:
    """Raise ServerUnreachable unless the service took this token here before."""
    if _digest(token) not in _read_taken(vault, account_id):
        raise ServerUnreachable(
            "the service could not be asked about this token, and has not taken it on this device before; use the token"
            " of an earlier sign-in here, or try again when the service answers"
        )


def _read_taken(vault: Vault, account_id: str) -> list[str]:
    kept = vault.key(f"taken/{account_id}", create=False)
    return list(json.loads(kept)) if kept is not None else []


def _digest(token: str) -> str:
    return hashlib.sha256(token.strip().encode()).hexdigest()


def _purge_former(home: Path, vault: Vault, time: TimeSource) -> None:
    """Purge what is readable on a device that was revoked; where nobody is signed in a sign-out has done that."""
    former = _read_former(home)
    if former is not None:
        with closing(open_account(home, vault, former, time)) as account:
            purge_caches(account)


def sign_out(
    home: Path, vault: Vault, session: Session, time: TimeSource, *, pending: str | None
) -> tuple[int, Grant | None]:
    """Close a session; returns how many requests were kept or discarded, and what the issuer may be told to end.

    ``pending`` None refuses (PendingRequests) while requests are not sent or wait for a decision, or a copy here is of
    a document that the restored service does not know. "keep" leaves requests
    sealed for the same user's return; "discard" gives them up, each with an audit event.
    """
    account = open_account(home, vault, session, time)
    # A session that an older version of this program opened has not noted it.
    note_outbox(vault, session)
    try:
        if pending is None:
            _refuse_loss(len(_undecided(account)), count_only_copies(account.cache))
        _stop_drain(account)
        # Read after the drain was stopped: what it sent until then is sent.
        waiting = _undecided(account)
        if pending == "discard":
            waiting = [cmid for cmid in waiting if _discard(account, cmid)]
    finally:
        account.close()
    # The key first: whatever of the file may survive on the disk can then never be read.
    vault.destroy(f"cache/{session.account_id}")
    ended = forget(vault, session.account_id)
    remove_files(account.folder / "cache.db")
    write_session(home, None)
    return len(waiting), ended


def _undecided(account: Account) -> list[str]:
    """Return the requests that wait or need a decision.

    What was taken back is decided: the next sync of this person only asks whether it had arrived.
    """
    states = (*requests.PENDING, *requests.ATTENTION)
    kept = requests.read_all(account.queue)
    waiting = [r for r in kept if r.state in states and r.reason_code != withdrawals.WITHDRAWAL_ASKED]
    return [request.client_mutation_id for request in waiting]


def _discard(account: Account, cmid: str) -> bool:
    """Give a request up where no other program can send it meanwhile; returns whether there was anything to give up."""
    with transaction(account.queue):
        if cmid not in _undecided(account):
            return False
        record(account, Happening("request.discarded", account.session.user, client_mutation_id=cmid))
        withdrawals.give_up(account.queue, cmid, account.clock().now)
    return True


def _refuse_loss(waiting: int, copies: int) -> None:
    """Raise PendingRequests when a sign-out would leave requests undecided, or remove a copy that nobody else has."""
    told = []
    if waiting:
        told.append(
            f"{'1 request is' if waiting == 1 else f'{waiting} requests are'} not sent or in need of a decision"
        )
    if copies:
        those = "1 document" if copies == 1 else f"{copies} documents"
        told.append(f"the service does not know {those} of which the copy here is removed (`documents save` keeps it)")
    if told:
        raise PendingRequests("; ".join(told))


def _stop_drain(account: Account) -> None:
    """Take the drain lease whoever holds it: the token fences every later write of the drain that runs."""
    with transaction(account.queue):
        token = lease.take(account.queue, "sign-out", account.time.wall(), owner_is_dead=True)
        if token is not None:
            lease.release(account.queue, token)


def _ask_server(
    connection: Connection, known: dict[str, Any] | None, *, trust_new_keys: bool
) -> tuple[dict[str, str], bool]:
    """Return the server's policy keys after checking that it is the service, and whether it could take the token.

    A service that is busy or failing says nothing of the token; one that refuses it is an error.
    """
    answer = connection.send("GET", "/.well-known/document-service", authenticated=False)
    _need(answer, connection.server)
    body = answer.body
    if not isinstance(body, dict) or body.get("service") != "document-service":
        raise NotTheService()
    listed = body.get("policyKeys") or []
    keys = {
        str(k["kid"]): str(k["publicKey"]) for k in listed if isinstance(k, dict) and "kid" in k and "publicKey" in k
    }
    # At another address too: a service that moved keeps its keys, and requests for one are not another's to have.
    pinned = dict(known["policyKeys"]) if known else {}
    if known and pinned and not trust_new_keys and not set(pinned.items()) & set(keys.items()):
        raise Misconfigured(
            f"the service's signing key is not the one that this device knows of {known['server']}: its keys were"
            " replaced, or it is another service; ask the administrator, then use --trust-new-keys"
        )
    probe = connection.send("GET", "/v1/documents/render-jobs?limit=1")
    judged = judge(probe, 0.0)
    if judged.verdict is Verdict.SIGN_IN:
        raise TokenRefused(judged.told, reason=judged.code)
    if judged.verdict is Verdict.REVOKED:
        raise DeviceRevoked(judged.told, reason=judged.code)
    if judged.verdict not in (Verdict.ACCEPTED, Verdict.REFUSED, Verdict.WAIT, Verdict.SERVER_FAILED):
        _need(probe, connection.server)
    return keys, judged.verdict in (Verdict.ACCEPTED, Verdict.REFUSED)


def _need(answer: Answer, address: str) -> None:
    """Raise the error for an answer that is not a good one of ours."""
    verdict = judge(answer, 0.0).verdict
    if verdict is Verdict.NO_CONNECTION:
        raise ServiceNotThere(f"{address}: {answer.detail}" if answer.detail else address)
    if verdict is Verdict.TLS:
        raise TlsFailed(answer.detail)
    if verdict in (Verdict.NOT_OURS, Verdict.ELSEWHERE):
        raise NotTheService()
    if verdict is not Verdict.ACCEPTED:
        raise ServerRefused(judge(answer, 0.0).told, reason=judge(answer, 0.0).code)


def _known_path(home: Path, session: Session) -> Path:
    return home / "accounts" / session.account_id / "server.json"


def _read_known(home: Path, session: Session) -> dict[str, Any] | None:
    """Return what was pinned when this person last signed in here with the server, or None."""
    try:
        known = json.loads(_known_path(home, session).read_bytes())
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) and "server" in known and "policyKeys" in known else None


def _write_known(home: Path, session: Session) -> None:
    content = {"server": session.server, "policyKeys": session.policy_keys}
    write_private(_known_path(home, session), json.dumps(content, indent=1).encode())


def _read_former(home: Path) -> Session | None:
    from .errors import SignInNeeded

    try:
        return read_session(home)
    except SignInNeeded:
        return None


def check_cache_ttl(seconds: float | None) -> float | None:
    """Return how long copies may be read here at most; raises UsageProblem for what is no time."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise UsageProblem("--cache-ttl: a number of seconds above 0 is needed")
    return seconds


def check_pending_choice(*, keep: bool, discard: bool) -> str | None:
    """Return "keep", "discard" or None for the two options of the command; raises UsageProblem for both."""
    if keep and discard:
        raise UsageProblem("choose either --keep-sealed or --discard-pending")
    return "keep" if keep else "discard" if discard else None
