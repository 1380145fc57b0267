"""The Python API: everything the command line does, for use inside a desktop application.

    from document_client import DocumentClient

    with DocumentClient(home, passphrase="…") as client:
        client.login("https://documents.example", token)
        queued = client.request("General Test Requisition", patient="p-1", inputs={"priority": "routine"})
        report = client.sync()
        for document in client.documents.list():
            pdf = client.documents.read(document["id"]).content

Nothing is opened before it is needed: no key, no database, no socket. Errors are those of ``errors``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import requests
from .account import Account, open_account, read_session
from .clock import TimeSource, system_time
from .errors import LocalFileUnreadable, Misconfigured, SignInNeeded, UsageProblem
from .files import home_folder
from .stopped import raise_stop
from .templates import Catalogue, Search, once_known, read_catalogue
from .vault import AskPassphrase, Unlocking, Vault, open_vault, vault_exists

if TYPE_CHECKING:
    import httpx2

    from .connecting import Connected
    from .cycle import Report
    from .documents import Documents
    from .driver import Observer
    from .http import Connection
    from .issuer import Show
    from .online import Prefetched
    from .queueing import RequestQueue, Wish
    from .signing_in import SignedOut
    from .status import Status


# A one-page form takes well under a second to make; asking more often than that only costs the link.
_DOCUMENT_POLL_SECONDS = 0.7


def _named_passphrase() -> str | None:
    """Return the passphrase of the environment, or of the file that it names (a credential of a service manager).

    Raises Misconfigured when the file cannot be read.
    """
    given = os.environ.get("DOCUMENTS_PASSPHRASE")
    named = os.environ.get("DOCUMENTS_PASSPHRASE_FILE")
    if given or not named:
        return given or None
    try:
        return Path(named).read_text(encoding="utf-8").rstrip("\r\n") or None
    except (OSError, UnicodeDecodeError) as failure:
        raise Misconfigured(f"DOCUMENTS_PASSPHRASE_FILE cannot be read: {type(failure).__name__}") from failure


class DocumentClient:
    """One installation of the client. ``queue`` and ``documents`` hold what concerns requests and documents."""

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        passphrase: str | None = None,
        ask_passphrase: AskPassphrase | None = None,
        transport: httpx2.BaseTransport | None = None,
        clock: TimeSource | None = None,
    ) -> None:
        """Use the home folder ``home``. ``transport`` and ``clock`` are the seams for tests; nothing is opened yet.

        Raises HomeUnusable when a file stands where the home folder should be.
        """
        self.home = home_folder(home)
        self._unlocking = Unlocking(passphrase or _named_passphrase(), ask_passphrase)
        self._transport = transport
        self._time = clock or system_time()
        self._vault: Vault | None = None
        self._opened: Account | None = None

    @cached_property
    def queue(self) -> RequestQueue:
        """The request queue: add, list, show, retry, edit, export, discard."""
        from .queueing import RequestQueue

        return RequestQueue(self.account)

    @cached_property
    def documents(self) -> Documents:
        """The cached documents: list, show, read, open, save, print, pin."""
        from .documents import Documents

        return Documents(self.account)

    def __enter__(self) -> DocumentClient:
        return self

    def __exit__(self, *rest: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the databases and forget the keys."""
        if self._opened is not None:
            self._opened.close()
        self._opened = self._vault = None

    def account(self) -> Account:
        """Return the opened files of the person who is signed in; raises SignInNeeded and the vault's errors."""
        session = read_session(self.home)
        if session is None:
            raise SignInNeeded()
        opened = self._opened
        if opened is not None and opened.session == session and not opened.closed and not opened.is_replaced():
            return opened
        vault = self._vault
        self.close()
        self._vault = vault or open_vault(self.home, self._unlocking)
        self._opened = open_account(self.home, self._vault, session, self._time)
        return self._opened

    def login(
        self,
        server: str,
        token: str | None = None,
        *,
        show: Show | None = None,
        keep_sealed: bool = False,
        discard_pending: bool = False,
        trust_new_keys: bool = False,
        cache_ttl: float | None = None,
    ) -> dict[str, Any]:
        """Sign in with a bearer token; the first time this needs the server. Returns what ``whoami`` returns.

        Without ``token``, by device flow at the issuer that the service names: ``show`` is handed the page and the
        code before each look at the issuer (``issuer.Prompt``), and an exception from it gives up. ``cache_ttl``
        (seconds) shortens how long documents stay readable here, until this person signs out; it never lengthens it.
        """
        from .renewal import Grant
        from .signing_in import check_cache_ttl, check_pending_choice, grant_by_device, sign_in, unlock

        cache_ttl, pending = check_cache_ttl(cache_ttl), check_pending_choice(keep=keep_sealed, discard=discard_pending)
        self.close()
        if token is None:
            if show is None:
                raise UsageProblem("a token, or `show` for the device flow, is needed")
            # The passphrase first: nobody types a code elsewhere to be refused here afterwards.
            self._vault = unlock(self.home, self._unlocking)
            grant = grant_by_device(server, show, self._transport)
        else:
            grant = Grant(token.strip())
        _, self._vault, notices = sign_in(
            self.home,
            server,
            grant,
            self._unlocking,
            self._time,
            vault=self._vault,
            transport=self._transport,
            pending=pending,
            trust_new_keys=trust_new_keys,
            cache_ttl=cache_ttl,
        )
        return {**self.whoami(), "notices": notices}

    def logout(self, *, keep_sealed: bool = False, discard_pending: bool = False) -> SignedOut:
        """Sign out and destroy the cache's key; raises PendingRequests unless told what becomes of them.

        What was opened and printed stays in the outbox and is sent by the device's own signature: now, if it can be.
        """
        from .outboxes import send_left
        from .renewal import end
        from .signing_in import SignedOut, check_pending_choice, sign_out

        pending = check_pending_choice(keep=keep_sealed, discard=discard_pending)
        session = read_session(self.home)
        if session is None:
            raise SignInNeeded("nobody is signed in")
        self.close()
        vault = open_vault(self.home, self._unlocking)
        count, ended = sign_out(self.home, vault, session, self._time, pending=pending)
        if ended is not None:
            end(ended, self._transport)
        left = send_left(self.home, vault, self._time, self._transport)
        return SignedOut(count, left.sent, left.waiting, left.unheard)

    def whoami(self) -> dict[str, Any]:
        """Return tenant, user, roles, facilities, server and device of the session."""
        from .clock import to_text
        from .renewal import is_renewable, read_payload

        account = self.account()
        token = account.token()
        claims = read_payload(token) if token else {}
        expires = claims.get("exp")
        return {
            "tenant": account.session.tenant,
            "user": account.session.user,
            "roles": claims.get("roles") or [],
            "facilities": claims.get("facilities"),
            "server": account.session.server,
            "deviceId": account.vault.device_id,
            "signedInAt": account.session.signed_in_at,
            "tokenExpiresAt": to_text(float(expires)) if isinstance(expires, int | float) else None,
            "tokenRenews": is_renewable(account.vault, account.session.account_id),
        }

    def templates(
        self, search: Search | None = None, *, refresh: bool = False, observe: Observer | None = None
    ) -> Catalogue:
        """Return the cached catalogue with its age; asks the server first when told to, or when there is none yet.

        ``search`` narrows it; without one it holds the forms that can be requested.
        """
        account = self.account()
        with account.watched():
            catalogue = read_catalogue(account.cache, account.clock().now, search)
            if refresh or catalogue.freshness == "never":
                report = self._refresh(observe)
                # Another program may have replaced a file meanwhile, and then this one was opened anew.
                account = self.account()
                catalogue = read_catalogue(account.cache, account.clock().now, search)
                if report.stopped and (refresh or catalogue.freshness == "never"):
                    raise_stop(report)
        return catalogue

    def refresh_in_background(self) -> threading.Thread:
        """Start refreshing a stale catalogue in a thread of its own; a failure leaves the catalogue as it is."""

        def refresh() -> None:
            from .errors import ClientError

            other = DocumentClient(self.home, passphrase=self._unlocking.passphrase, transport=self._transport)
            other._vault = self._vault
            try:
                with other:
                    other.templates(refresh=True)
            except ClientError:
                return

        thread = threading.Thread(target=refresh, name="refresh-templates", daemon=True)
        thread.start()
        return thread

    def request(
        self,
        template: str,
        patient: str,
        *,
        encounter: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        assignments: tuple[str, ...] = (),
        locale: str | None = None,
        birth_date: str | None = None,
        identifier: str | None = None,
        not_after: str | None = None,
    ) -> dict[str, Any]:
        """Queue a render request, online or not; it is durable when this returns. ``clientMutationId`` names it."""
        from .queueing import Wish

        wish = Wish(
            template, patient, encounter, dict(inputs or {}), assignments, locale, birth_date, identifier, not_after
        )
        return once_known(self.templates, lambda: self.queue.add(wish))

    def sync(
        self,
        *,
        budget: int | None = None,
        eager: bool = True,
        observe: Observer | None = None,
        wait_seconds: float = 0.0,
    ) -> Report:
        """Run one cycle: send requests, pull changes, download, send audit events. The report says what happened.

        When it had requests accepted, wait up to ``wait_seconds`` for their documents too. Nobody signed in: sends
        what is left in the outboxes by the device's signature, and raises SignInNeeded.
        """
        from . import recalls
        from .documents import settle_cut_off_prints
        from .driver import sync_once
        from .enrolment import enrol_first
        from .localdb import transaction
        from .outboxes import send_others
        from .purging import purge_if_stopped
        from .recovery import keep_envelopes

        account = self._account_or_evidence()
        with account.watched(), self._connected(account) as connection:
            settle_cut_off_prints(account)
            unknown = enrol_first(account, connection)
            if unknown is not None:
                return purge_if_stopped(account, unknown)
            report = sync_once(account, connection, budget=budget, eager=eager, observe=observe)
            deadline = time.monotonic() + wait_seconds
            while report.acknowledged and report.success and time.monotonic() < deadline:
                if not requests.count_states(account.queue).get("acknowledged"):
                    break
                time.sleep(_DOCUMENT_POLL_SECONDS)
                left = None if budget is None else max(0, budget - report.bytes_received)
                report.add(sync_once(account, connection, budget=left, eager=eager, observe=observe))
            keep_envelopes(account)
            report.events_sent += send_others(account, self._transport)
            # Last: what is noted as told is in the report that is returned.
            with transaction(account.cache):
                report.withdrawn, report.replaced = recalls.take_untold(account.cache)
            return report

    def _account_or_evidence(self) -> Account:
        """Return the account; with nobody signed in, send what the outboxes hold before SignInNeeded is raised."""
        from .outboxes import send_without_session

        if read_session(self.home) is None and vault_exists(self.home):
            send_without_session(self.home, open_vault(self.home, self._unlocking), self._time, self._transport)
        return self.account()

    def status(self) -> Status:
        """Return the five facts and two sentences; never touches the network."""
        from .sealed import need_session
        from .status import read_status

        need_session(self.home, self._unlocking)
        try:
            return read_status(self.account())
        except LocalFileUnreadable:
            # A damaged cache has just been cleared: the facts about the queue are as good as before.
            return read_status(self.account())

    def generate(self, wish: Wish) -> dict[str, Any]:
        """Render a document now (online only) and keep it in the cache."""
        from .online import generate

        def make() -> dict[str, Any]:
            account = self.account()
            with account.watched(), self._enrolled(account) as connection:
                return generate(account, connection, wish)

        return once_known(self.templates, make)

    def prefetch(
        self, patients: Sequence[str], *, budget: int | None = None, observe: Observer | None = None
    ) -> Prefetched:
        """Bring the current documents of these patients here (online only), before a round without a connection."""
        from .online import prefetch

        account = self.account()
        with account.watched(), self._enrolled(account) as connection:
            return prefetch(account, connection, patients, budget=budget, observe=observe)

    def save_draft(self, template_id: str, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Save a template's draft definition from a JSON file (online only); returns it with its ``problems``."""
        from .online import read_file, save_draft

        content = read_file(Path(path))
        with self._enrolled(self.account()) as connection:
            return save_draft(connection, template_id, content)

    def upload(self, path: str | os.PathLike[str], patient: str, **details: Any) -> dict[str, Any]:
        """Send a scanned file (online only); returns the upload with the scanner's verdict."""
        from .online import upload

        with self._enrolled(account := self.account()) as connection:
            return upload(account, connection, Path(path), patient=patient, **details)

    def _connected(self, account: Account) -> Connected:
        from .connecting import Connected

        return Connected(account, self._transport)

    @contextmanager
    def _enrolled(self, account: Account) -> Iterator[Connection]:
        """A connection to a service that knows this device, for what works only while connected."""
        from .enrolment import need_enrolment
        from .purging import purging_if_revoked

        with purging_if_revoked(account), self._connected(account) as connection:
            need_enrolment(account, connection)
            yield connection

    def _refresh(self, observe: Observer | None) -> Report:
        from .cycle import Cycle
        from .driver import Driver
        from .enrolment import enrol_first
        from .purging import purge_if_stopped
        from .receiving import run_refresh

        with self._connected(account := self.account()) as connection:
            driver = Driver(account, connection, observe=observe)
            cycle = Cycle(clock=driver.now, random=lambda: 0.5)
            return purge_if_stopped(account, enrol_first(account, connection) or driver.run(cycle, run_refresh))
