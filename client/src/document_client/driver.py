"""Performs what the sync engine asks for: on the account's databases and over one connection.

Every write to the queue is fenced: it begins by renewing the drain lease under its token, in the same transaction, so
a process that was asleep while another took over changes nothing (LeaseLost). Pieces of a download are written as they
arrive, which also keeps the lease alive.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import audit, cache, feed, lease, requests, templates, withdrawals
from . import effects as fx
from .account import Account
from .answers import Answer, Transfer
from .asking import Questions
from .cycle import Cycle, Report, Steps
from .errors import AnotherSyncRuns
from .http import Connection
from .localdb import on_the_disk, transaction
from .pieces import Pieces
from .policy import CachePolicy, parse_policy, verify_policy
from .processes import is_alive, started
from .sync import run_cycle

# A second `documents sync` waits this long for the first; a cycle on a slow link takes about that.
WAIT_FOR_OTHER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What to show: a ``stage`` (send, changes, catalogue, plan, receive, audit), how much is done, and of how much."""

    stage: str
    label: str
    done: int
    total: int | None


Observer = Callable[[Progress], None]


def sync_once(
    account: Account,
    connection: Connection,
    *,
    budget: int | None = None,
    eager: bool = True,
    observe: Observer | None = None,
    wait_seconds: float = WAIT_FOR_OTHER_SECONDS,
) -> Report:
    """Run one cycle; waits for another program that is syncing, and raises AnotherSyncRuns when it does not end."""
    driver = Driver(account, connection, eager=eager, observe=observe)
    deadline = time.monotonic() + wait_seconds
    while True:
        cycle = Cycle(clock=driver.now, random=random.random, budget=budget, batching=account.takes_batches)
        report = driver.run(cycle)
        # An older service is asked once, not in every cycle of a watch.
        account.takes_batches = account.takes_batches and not cycle.older_service
        if not report.busy:
            return report
        if time.monotonic() >= deadline:
            raise AnotherSyncRuns()
        time.sleep(0.2)


class Driver:
    """Carries out effects. One object serves one run."""

    def __init__(
        self, account: Account, connection: Connection, *, eager: bool = True, observe: Observer | None = None
    ) -> None:
        """Bind to the opened files and the connection."""
        self._account = account
        self._connection = connection
        self._eager = eager
        self._observe = observe or (lambda progress: None)
        self._lease = 0
        self._asked = Questions(account)
        self._names: dict[str, str] = {}
        self._owner = f"{os.getpid()}:{started(os.getpid())}:{id(self)}"

    def now(self) -> float:
        """Return the time of the device as the contract defines it."""
        return self._account.clock().now

    def run(self, cycle: Cycle, stages: Callable[[Cycle], Steps] = run_cycle) -> Report:
        """Run ``stages`` to their end; the lease, if one was taken, is let go of whatever happens."""
        steps = stages(cycle)
        outcome: Any = None
        try:
            while True:
                effect = steps.send(outcome)
                outcome = self.perform(effect)
        except StopIteration:
            return cycle.report
        finally:
            steps.close()
            if self._lease:
                with transaction(self._account.queue):
                    lease.release(self._account.queue, self._lease)

    def perform(self, effect: fx.Effect) -> Any:
        """Carry out one effect and return its outcome."""
        return getattr(self, "_on_" + type(effect).__name__)(effect)

    @contextmanager
    def _fenced(self) -> Iterator[Any]:
        queue = self._account.queue
        with transaction(queue):
            # The lease runs on the plain wall clock: it is compared between processes of this machine only.
            lease.renew(queue, self._lease, self._account.time.wall())
            yield queue

    # --- queue ---

    def _on_BeginRun(self, effect: fx.BeginRun) -> fx.Began | None:
        queue = self._account.queue
        with transaction(queue):
            wall = self._account.time.wall()
            dead = not is_alive(lease.read_owner(queue))
            token = lease.take(queue, self._owner, wall, owner_is_dead=dead)
            if token is None:
                return None
            self._lease = token
            requests.write_fact(queue, "last_attempt", str(self.now()))
            epoch = requests.read_fact(queue, "epoch")
        return fx.Began(epoch, templates.was_fetched(self._account.cache))

    def _on_Claim(self, effect: fx.Claim) -> fx.Item | None:
        session = self._account.session
        with self._fenced() as queue:
            found = requests.claim(
                queue,
                self._lease,
                self.now(),
                tenant_id=session.tenant,
                user_id=session.user,
                skip=effect.skip,
                eager=self._eager,
            )
        if found is None:
            return None
        self._names[found.client_mutation_id] = found.template_name
        return fx.Item(found.client_mutation_id, found.body, found.operation, found.job_id, found.tries, found.failures)

    def _on_Acknowledge(self, effect: fx.Acknowledge) -> None:
        with self._fenced() as queue:
            requests.acknowledge(queue, effect.cmid, dict(effect.job), effect.epoch, self.now())
        # Not before the service's word: without a connection nothing was sent.
        self._observe(Progress("send", self._names.pop(effect.cmid, ""), 1, None))

    def _on_Postpone(self, effect: fx.Postpone) -> None:
        with self._fenced() as queue:
            requests.postpone(
                queue, effect.cmid, effect.not_before, counted=effect.counted, server_said=effect.server_said
            )

    def _on_PutBack(self, effect: fx.PutBack) -> None:
        with self._fenced() as queue:
            requests.put_back(queue, effect.cmid)

    def _on_Quarantine(self, effect: fx.Quarantine) -> None:
        with self._fenced() as queue:
            requests.quarantine(queue, effect.cmid, effect.code, effect.title, self.now())

    def _on_ReadPromised(self, effect: fx.ReadPromised) -> list[str]:
        return requests.read_promised(self._account.queue, effect.epoch)

    def _on_ReadWithdrawn(self, effect: fx.ReadWithdrawn) -> list[str]:
        return withdrawals.read_unsettled(self._account.queue)

    def _on_SettleLookup(self, effect: fx.SettleLookup) -> int:
        again, now, db = 0, self.now(), self._account.cache
        unknown = [item["clientMutationId"] for item in effect.items if not item["known"]]
        # Under the lease: a program that was overtaken would mark what the other one has had made anew.
        with self._fenced() as queue:
            lost = [r.document_id for i in unknown if (r := requests.read(queue, i)) and r.document_id]
        # The mark on the copy comes first, and no power cut takes it back: a crash in between asks and marks again.
        with on_the_disk(db), transaction(db):
            for document_id in lost:
                cache.mark_server_lost(db, document_id)
        with self._fenced() as queue:
            for item in effect.items:
                if item["known"]:
                    requests.confirm(queue, item["clientMutationId"], item["job"], effect.epoch, now)
                else:
                    again += requests.offer_again(queue, item["clientMutationId"], now)
        return again

    def _on_SaveEpoch(self, effect: fx.SaveEpoch) -> None:
        # First: a crash in between offers the events again once more, which changes nothing.
        with transaction(self._account.audit):
            audit.offer_again(self._account.audit)
        with self._fenced() as queue:
            requests.write_fact(queue, "epoch", effect.epoch)

    def _on_CountDue(self, effect: fx.CountDue) -> int:
        session = self._account.session
        return requests.count_due(
            self._account.queue,
            self.now(),
            tenant_id=session.tenant,
            user_id=session.user,
            skip=effect.skip,
            eager=self._eager,
        )

    def _on_Reconcile(self, effect: fx.Reconcile) -> int:
        account = self._account
        present, revoked = cache.read_present(account.cache), cache.read_revoked(account.cache)
        given_up, reading = cache.read_given_up(account.cache), account.clock()
        with self._fenced() as queue:
            requests.fail_undelivered(queue, revoked, "DOCUMENT_WITHDRAWN", "The document was withdrawn.", reading.now)
            refused = "The service did not give the document."
            requests.fail_undelivered(queue, given_up, "NOT_DELIVERED", refused, reading.now)
            done = requests.finish(queue, present, reading.now)
            if reading.confirmed is not None:
                # A clock that is a year ahead must not make the device forget what it may have to offer again.
                requests.purge_done(queue, reading.confirmed, reading.estimate)
        return done

    def _on_EndRun(self, effect: fx.EndRun) -> bool:
        account = self._account
        with transaction(account.cache):
            reading, policy = account.terms()
            cache.purge_expired(account.cache, policy, reading.estimate, reading.confirmed)
            cache.keep_quota(account.cache, policy)
        with transaction(account.audit):
            if reading.confirmed is not None:
                audit.purge_sent(account.audit, reading.confirmed, reading.estimate)
        with self._fenced() as queue:
            requests.write_fact(queue, "last_stop", effect.stopped)
            counts = requests.count_states(queue)
            success = effect.whole and not any(counts.get(state) for state in requests.PENDING)
            if success:
                requests.write_fact(queue, "last_success", str(reading.now))
            lease.release(queue, self._lease)
        self._lease = 0
        return success

    # --- cache ---

    def _on_ReadCursor(self, effect: fx.ReadCursor) -> str:
        return feed.read_cursor(self._account.cache)

    def _on_ApplyPage(self, effect: fx.ApplyPage) -> None:
        account, page = self._account, effect.page
        wire = page.get("cachePolicy")
        problem = self._check_policy(wire) if isinstance(wire, dict) else None
        with transaction(account.cache):
            self._asked.begin_changes(effect.asked_from)
            if effect.server_time is not None:
                account.note_contact(effect.server_time, self._asked.changes, self._asked.heard)
            if problem:
                feed.note_policy_problem(account.cache, problem)
            elif isinstance(wire, dict):
                feed.save_policy(account.cache, wire)
            # Revoked copies go before anything of the page is stored, the queue's part of it included. The first page
            # of a listing names all that is revoked: a service that was restored may have forgotten some of it.
            cache.revoke(account.cache, page["revocations"], whole=not effect.asked_from)
        now = self.now()
        with self._fenced() as queue:
            for job in page["jobs"]:
                requests.apply_job(queue, job, now)
            revoked = [str(revocation["documentId"]) for revocation in page["revocations"]]
            requests.fail_undelivered(queue, revoked, "DOCUMENT_WITHDRAWN", "The document was withdrawn.", now)
        with transaction(account.cache):
            feed.check_cursor(account.cache, effect.asked_from)
            feed.apply_page(account.cache, page, self._asked.born(self._asked.changes))
        self._observe(Progress("changes", "", len(page["documents"]), None))

    def _check_policy(self, wire: dict[str, Any]) -> str | None:
        try:
            parse_policy(wire)
        except ValueError as failure:
            return str(failure)
        session = self._account.session
        if not verify_policy(wire, session.tenant, session.policy_keys):
            return "the cache policy is not signed by a key known since sign-in; the former policy stays in force"
        return None

    def _on_StartFeedAgain(self, effect: fx.StartFeedAgain) -> None:
        with transaction(self._account.cache):
            feed.start_again(self._account.cache)

    def _on_ReadMissingVersions(self, effect: fx.ReadMissingVersions) -> list[tuple[str, str]]:
        missing = templates.read_missing_versions(self._account.cache)
        if missing:
            self._observe(Progress("catalogue", "", 0, len(missing)))
        return missing

    def _on_SaveVersion(self, effect: fx.SaveVersion) -> None:
        with transaction(self._account.cache):
            templates.save_version(self._account.cache, effect.version, effect.template_id, effect.etag)

    def _on_SaveTemplates(self, effect: fx.SaveTemplates) -> None:
        db, asked = self._account.cache, self._asked
        with transaction(db):
            if not asked.is_listing_overtaken():
                born = asked.born(asked.listing)
                feed.save_listing(db, effect.items, effect.etag, effect.cache_control, born)

    def _on_ReadListTag(self, effect: fx.ReadListTag) -> str | None:
        self._asked.ask_listing()
        return templates.read_etag(self._account.cache)

    def _on_TouchTemplates(self, effect: fx.TouchTemplates) -> None:
        with transaction(self._account.cache):
            born = self._asked.born(self._asked.listing)
            templates.touch(self._account.cache, born, cache_control=effect.cache_control)

    def _on_ReadWanted(self, effect: fx.ReadWanted) -> list[fx.Wanted]:
        return self._planned(cache.read_wanted)

    def _on_ReadBeforehand(self, effect: fx.ReadBeforehand) -> list[fx.Wanted]:
        return self._planned(cache.read_beforehand)

    def _planned(self, read: Callable[[Any, CachePolicy, float], list[cache.Entry]]) -> list[fx.Wanted]:
        db = self._account.cache
        wanted = [
            fx.Wanted(e.document_id, e.size, e.sha256, e.here, cache.read_received(db, e.document_id))
            for e in read(db, self._account.policy(), self._account.clock().estimate)
        ]
        left = [document.size - document.received for document in wanted if not document.here]
        self._observe(Progress("plan", "", len(left), sum(left)))
        return wanted

    def _on_Complete(self, effect: fx.Complete) -> bool:
        db = self._account.cache
        # A request is done, durably, because its document is here: then that must outlive a power cut, too.
        with on_the_disk(db), transaction(db):
            policy, born = self._account.policy(), self._asked.born(self._asked.content)
            if not cache.complete(db, effect.document_id, policy, born):
                return False
            cache.keep_quota(db, policy)
        return True

    def _on_Renew(self, effect: fx.Renew) -> None:
        db = self._account.cache
        with transaction(db):
            born = self._asked.born(self._asked.content)
            cache.renew(db, effect.document_id, self._account.policy(), born)

    def _on_DropParts(self, effect: fx.DropParts) -> None:
        with transaction(self._account.cache):
            cache.drop_parts(self._account.cache, effect.document_id)

    def _on_FailDelivery(self, effect: fx.FailDelivery) -> None:
        self._keep_lease()
        with transaction(self._account.cache):
            if effect.withdrawn:
                cache.revoke(self._account.cache, [{"documentId": effect.document_id, "reason": effect.code}])
            else:
                cache.give_up(self._account.cache, effect.document_id)
        if not self._lease:
            # A document that was generated just now belongs to no request; the next cycle's Reconcile sees the others.
            return
        with self._fenced() as queue:
            requests.fail_undelivered(queue, [effect.document_id], effect.code, effect.title, self.now())

    # --- audit ---

    def _on_ReadEvents(self, effect: fx.ReadEvents) -> fx.Offer:
        return fx.Offer(*audit.read_offer(self._account.audit))

    def _on_MarkEvents(self, effect: fx.MarkEvents) -> bool:
        self._observe(Progress("audit", "", len(effect.results), None))
        with transaction(self._account.audit):
            return audit.mark(self._account.audit, effect.results, effect.offer)

    def _on_PurgeCopies(self, effect: fx.PurgeCopies) -> int:
        from .purging import purge_caches

        return purge_caches(self._account)

    # --- network ---

    def _on_PostSigned(self, effect: fx.PostSigned) -> Answer:
        from .evidence import signed_headers

        self._keep_lease()
        headers = signed_headers(self._account.vault, self._account.session.tenant, effect.content)
        return self._connection.send("POST", effect.path, content=effect.content, headers=headers, authenticated=False)

    def _on_Post(self, effect: fx.Post) -> Answer:
        self._keep_lease()
        # What is sent now changes what there is to read: an answer that came before it is out of date.
        self._account.heard = None
        if effect.path.endswith("/download-url"):
            self._asked.ask_content()
        headers = {"X-Client-Mutation-Id": effect.cmid} if effect.cmid else {}
        return self._connection.send("POST", effect.path, content=effect.content, headers=headers)

    def _on_Get(self, effect: fx.Get) -> Answer:
        self._keep_lease()
        if effect.path.startswith(feed.ROUTE):
            return self._read_changes(effect.path)
        headers = {"If-None-Match": effect.etag} if effect.etag else {}
        return self._connection.send("GET", effect.path, headers=headers)

    def _read_changes(self, path: str) -> Answer:
        """Return the page of changes that a watch has been waiting for, or ask for it."""
        path += feed.policy_mark(self._account.cache)
        return self._asked.ask_changes(path, lambda path: self._connection.send("GET", path))

    def _on_Fetch(self, effect: fx.Fetch) -> Transfer:
        document = effect.document
        db = self._account.cache
        offset = 0 if document.here else cache.read_received(db, document.document_id)
        if offset >= document.size and not document.here and offset:
            return Transfer("complete")
        self._asked.ask_content()

        def store(start: int, content: bytes) -> None:
            with transaction(db):
                if start == 0:
                    cache.drop_parts(db, document.document_id)
                cache.add_part(db, document.document_id, start, content)
            self._keep_lease()
            self._observe(Progress("receive", document.document_id, start + len(content), document.size))

        pieces = Pieces(offset, store)
        etag, here = document.sha256, document.here
        transfer = self._connection.download(
            effect.url, offset=offset, size=document.size, etag=etag, have_all=here, keep=pieces.keep
        )
        pieces.write()
        return transfer

    def _on_RefreshToken(self, effect: fx.RefreshToken) -> bool:
        # A token that was typed in, or is the local issuer's, has nothing to renew it with.
        return self._connection.renew()

    def _keep_lease(self) -> None:
        # Refreshing the catalogue writes to the cache only and needs no lease.
        if self._lease:
            with self._fenced():
                pass
