"""The promises of contract §4, as questions that are asked in the middle of a run and at its end.

Each is asked of the files as a person's commands would show them, and of the model of the service; none looks at how
the client came there. The truth they are compared with is kept by the world: what was asked, delivered, revoked, when.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from document_client.reactions import LONGEST_BACKOFF, LONGEST_RETRY_AFTER
from document_client.withdrawals import ALREADY_SENT, WITHDRAWN

from . import beforehand
from .memory import LIST_AGE_SECONDS, policy_of
from .server import BATCH, JOBS, hash_event

if TYPE_CHECKING:
    from document_client import effects as fx
    from document_client.policy import CachePolicy

    from .world import Life, Process, World

# An answer's Date has whole seconds, and the highest time seen is written when it moved by five.
GRAIN = 6.5
# The longest time to live that the service of the simulation ever sends.
LONGEST_TTL = 30 * 86_400.0
# Contract §4: so many different requests in a row, and the run stops.
SILENT_ITEMS, FAILING_ITEMS = 2, 3
# What the service has is kept for 60 days on the device, for a service that is restored may have lost it again.
KEPT = 59 * 86_400.0


# --- In the middle of a run -----------------------------------------------------------------------------------


def after_post(process: Process, effect: fx.Post, answer: Any) -> None:
    """The bytes first written are the bytes sent; the server's wait is kept; nobody sends for somebody else."""
    if effect.path == JOBS and effect.cmid is not None:
        _check_sent(process, effect.cmid, effect.content)
    elif effect.cmid is not None:
        _check_wanted(process, effect.cmid)
    elif effect.path == BATCH:
        bodies = effect.content.removeprefix(b'{"items":[').removesuffix(b"]}").replace(b"},{", b"}\n{").split(b"\n")
        for body in bodies:
            _check_sent(process, json.loads(body)["clientMutationId"], body)
    elif effect.path.endswith("/download-url"):
        beforehand.after_url(process, effect.path.split("/")[3], answer)
    else:
        # What is refused now is a look-up, or evidence: that is a reason to stop.
        process.was_refused = False
    if effect.cmid is not None or effect.path == BATCH:
        _check_run(process, effect, answer)


def _check_run(process: Process, effect: fx.Post, answer: Any) -> None:
    """The last column of the reaction table: after some answers a run sends nothing more."""
    if process.must_stop:
        process.world.break_promise(f"a run went on sending after {process.must_stop}")
    process.silent = process.silent + 1 if answer.kind == "no_connection" else 0
    coded = answer.is_json and isinstance(answer.body, dict) and bool(answer.body.get("code"))
    if effect.path != BATCH or process.silent:
        # A batch that failed as a whole is tried again one by one, and counts as nothing; one that met no connection
        # counts as one request, and so ends a row of failures.
        process.failing = process.failing + 1 if coded and answer.status >= 500 and answer.status != 503 else 0
    if process.silent >= SILENT_ITEMS:
        process.must_stop = "two requests that met no connection"
    elif process.failing >= FAILING_ITEMS:
        process.must_stop = "three requests on which the service failed"
    elif answer.kind in ("tls", "elsewhere"):
        process.must_stop = answer.kind
    elif answer.kind == "answer" and not coded and answer.status >= 300:
        process.must_stop = "an answer that is not the service's"
    elif coded and (answer.status in (429, 503) or answer.body["code"] == "DEVICE_REVOKED"):
        process.must_stop = answer.body["code"]


def _check_sent(process: Process, cmid: str, content: bytes) -> None:
    world = process.world
    asked = world.asked.get(cmid)
    if asked is None:
        world.break_promise(f"{cmid} was sent, and nobody asked for it")
    elif asked.body != content:
        world.break_promise(f"{cmid} was sent with other bytes than were first written")
    elif asked.session != process.session:
        world.break_promise(f"{cmid} of {asked.session} was sent as {process.session}")
    _check_wanted(process, cmid)
    (until, told_at), now = world.hold.pop(cmid, (0.0, 0)), process.disk.now()
    if told_at < process.effect_step and now + 1.0 < until <= now + LONGEST_RETRY_AFTER:
        world.break_promise(f"{cmid} was sent {until - now:.0f} s before the time the service had asked for")


def _check_wanted(process: Process, cmid: str) -> None:
    """What was given up or taken back is never sent afterwards; an exchange that was about to leave may end."""
    given_up = process.world.asked[cmid].given_up
    if given_up is not None and process.claimed[cmid] > given_up:
        process.world.break_promise(f"{cmid} was taken back, and sent afterwards")


def after_claim(process: Process, effect: fx.Claim, item: fx.Item | None) -> None:
    """Only the holder of the lease claims; remember when."""
    after_write(process, effect, item)
    beforehand.begin_round(process)
    if item is not None:
        process.world.order += 1
        process.claimed[item.cmid] = process.world.order


def after_postpone(process: Process, effect: fx.Postpone, outcome: Any) -> None:
    """Remember until when the service wants to be left alone with a request; otherwise the wait is 1 s to 5 min."""
    if effect.server_said:
        process.world.hold[effect.cmid] = (effect.not_before, process.world.steps)
    elif not process.met and not 0.99 < effect.not_before - process.disk.now() < LONGEST_BACKOFF + 0.01:
        process.world.break_promise(f"{effect.cmid} waits {effect.not_before - process.disk.now():.0f} s by itself")


def after_write(process: Process, effect: Any, outcome: Any) -> None:
    """Only the program that holds the drain lease changes the queue."""
    if process.world.home.holder(process.account) != process.owner:
        process.world.break_promise(f"{type(effect).__name__} was done by a program that had lost the lease")


def after_acknowledge(process: Process, effect: fx.Acknowledge, outcome: Any) -> None:
    """What is acknowledged was accepted: the server that answered has a job for it."""
    after_write(process, effect, outcome)
    world = process.world
    if (process.session[0], effect.cmid) not in world.server.state.dedup and process.feed_then[0] == (
        world.server.restores
    ):
        world.break_promise(f"{effect.cmid} counts as acknowledged, and the service does not have it")


def after_complete(process: Process, effect: fx.Complete, whole: bool) -> None:
    """A document becomes visible only with the bytes that the service has for it."""
    if not whole:
        return
    world = process.world
    ttl, _ = world.home.ttl(process.account)
    _begin_life(process, effect.document_id, ttl)
    content, held = world.server.state.contents.get(effect.document_id), process.held(effect.document_id)
    if content is not None and held is not None and held != content:
        world.break_promise(f"{effect.document_id} is shown with wrong bytes")
    beforehand.after_complete(process)
    world.delivered.setdefault(world.server.made[effect.document_id], world.now)


def after_renew(process: Process, effect: fx.Renew, outcome: Any) -> None:
    """A confirmed copy starts a new life."""
    world = process.world
    ttl, _ = world.home.ttl(process.account)
    _begin_life(process, effect.document_id, ttl)


def _begin_life(process: Process, document_id: str, ttl: float) -> None:
    world, key = process.world, (process.session, document_id)
    begun, known = (process.heard_at, ttl, world.boots), world.life.get(key)
    if known is not None and known[0] > begun[0]:
        world.other_lives[key] = begun
    else:
        world.life[key] = begun
        world.other_lives.pop(key, None)


def after_page(process: Process, effect: fx.ApplyPage, outcome: Any) -> None:
    """Remember which documents this account was told are revoked, and when it had read everything."""
    if not effect.page["more"]:
        after_list(process, effect, outcome)
    policy, session = _policy(process, effect), process.session
    if policy is not None and process.world.home.is_cache_of(session, process.account):
        told_before = process.world.told.get(session)
        if told_before is None or process.heard_at >= told_before[0]:
            process.world.told[session] = (process.heard_at, policy.ttl)
    told = effect.page["revocations"]
    if told:
        # A service that was restored since it gave this page has forgotten some of them, and may give the document.
        standing = {document_id for _, document_id, _ in process.world.server.state.revocations}
        known = process.world.known_revoked.setdefault(process.session, set())
        known.update(standing.intersection(r["documentId"] for r in told))


def before_page(process: Process, effect: fx.ApplyPage) -> None:
    """While a page is stored, and when that is cut off, its policy may be in force, or the one that was told before."""
    told = process.world.told.get(process.session)
    if told is not None and process.heard_at >= told[0] and _policy(process, effect) is not None:
        del process.world.told[process.session]


def _policy(process: Process, effect: fx.ApplyPage) -> CachePolicy | None:
    wire = effect.page.get("cachePolicy")
    return policy_of(wire, process.session[0]) if wire else None


def after_purge(process: Process, effect: fx.PurgeCopies, outcome: Any) -> None:
    """Every cache is gone, with its policy."""
    process.world.told.clear()
    process.world.listed.clear()


def after_list(process: Process, effect: Any, outcome: Any) -> None:
    """The list of templates is as the service has it, or had it when it last answered."""
    listed = process.world.listed
    listed[process.session] = max(listed.get(process.session, 0.0), process.heard_at)


def after_run(process: Process, effect: fx.EndRun, success: bool) -> None:
    """A run that calls itself a success had no error, left nothing queued, and had read the feed to its end."""
    world = process.world
    if effect.stopped == "DEVICE_REVOKED" and (
        world.home.owners(process.account) or world.home.readable(world.home.open(process.session, world.time))
    ):
        world.break_promise("the service revoked this device, and it kept its copies")
    beforehand.after_run(process, effect)
    if not success:
        return
    if process.spoiled:
        world.break_promise(f"a run calls itself a success in which there was {process.spoiled}")
    if any(state in ("queued", "sending") for _, state, *_ in world.home.rows(process.account)):
        world.break_promise("a run calls itself a success with requests still queued")
    restores, position = process.feed_then
    read_epoch, _, read = world.home.cursor(process.account).rpartition(":")
    if restores == world.server.restores and read_epoch == world.server.state.epoch and int(read) < position:
        world.break_promise("a run calls itself a success without having read all changes")


# --- What a person sees at any time ---------------------------------------------------------------------------


def look(world: World) -> None:
    """Ask every question about the person who is signed in."""
    session = world.session
    if session is None:
        return
    account = world.open()
    rows = world.home.rows(account)
    states = {cmid: state for cmid, state, *_ in rows}
    for cmid, _, _, _, _, user in rows:
        if world.asked[cmid].session != session or user != session[1]:
            world.break_promise(f"{cmid} of {world.asked[cmid].session} is in the queue of {session}")
    mine = [(cmid, asked) for cmid, asked in world.asked.items() if asked.session == session]
    live = [cmid for cmid, asked in mine if asked.given_up is None]
    for cmid, asked in mine:
        if asked.given_up is not None and states.get(cmid) in ("queued", "sending"):
            world.break_promise(f"{cmid} was taken back, and waits to be sent again")
    for cmid in live:
        state = states.get(cmid)
        if state is None and not (cmid in world.delivered and world.now - world.delivered[cmid] > KEPT):
            world.break_promise(f"{cmid} is lost")
        if state == "discarded":
            world.break_promise(f"{cmid} was discarded, and nobody said so")
    _check_sentences(world, session, account, states, live)
    _check_documents(world, session, account)


def _check_sentences(world: World, session: Any, account: Any, states: dict[str, str], live: list[str]) -> None:
    values = [states[cmid] for cmid in live if cmid in states]
    sent = not any(state in ("queued", "sending", "quarantined") for state in values)
    dedup = world.server.state.dedup
    if sent and world.home.fact(account, "epoch") == world.server.state.epoch and not world.server.unnoticed:
        for cmid in live:
            if cmid in states and (session[0], cmid) not in dedup:
                world.break_promise(f"'everything sent', and the service does not have {cmid}")
    for cmid in live:
        if states.get(cmid) == "done" and cmid not in world.delivered:
            world.break_promise(f"{cmid} is 'done', and its document was never here")


def _check_documents(world: World, session: Any, account: Any) -> None:
    readable = world.home.readable(account)
    jobs = world.server.state.jobs
    revoked = world.known_revoked.get(session, ())
    ttl_now, lease = world.home.ttl(account)
    contact = world.home.contact(account)
    if ttl_now > LONGEST_TTL:
        world.break_promise("a policy is in force that nobody signed")
    told = world.told.get(session)
    if told is not None and ttl_now > told[1]:
        world.break_promise(f"copies may be read for {ttl_now:.0f} s, and the service said {told[1]:.0f} s")
    knows = _knows_the_time(world, contact)
    age, listed = world.home.age(account), world.listed.get(session)
    if knows and age is not None and listed is not None and age < min(world.now - listed, LIST_AGE_SECONDS) - GRAIN:
        world.break_promise(f"the forms are said to be {age:.0f} s old, and are {world.now - listed:.0f} s old")
    for document_id in readable:
        if document_id in revoked:
            world.break_promise(f"{document_id} is readable after its revocation arrived")
        life = world.life.get((session, document_id))
        if life is None:
            world.break_promise(f"{document_id} is readable and was never fetched by {session}")
        elif _is_over(world, life, ttl_now, knows):
            other = world.other_lives.get((session, document_id))
            if other is not None and not _is_over(world, other, ttl_now, knows):
                continue
            over = world.now - life[0] - min(life[1], ttl_now)
            world.break_promise(f"{document_id} is readable {over:.0f} s after its time to live")
    if readable and knows and contact is not None and world.now > contact.server_time + lease + GRAIN:
        world.break_promise("the cache is readable although the lease has run out")
    for document_id, job_id in world.home.owners(account):
        job = jobs.get(job_id or "")
        if job is None or (job["_tenant"], job["_user"]) == session:
            continue
        if job["_tenant"] != session[0] or not (
            (session, document_id) in world.named or document_id in world.replacing
        ):
            world.break_promise(f"{document_id} of {job['_user']} is in the cache of {session}")


def _is_over(world: World, life: Life, ttl: float, knows: bool) -> bool:
    return (knows or life[2] == world.boots) and world.now > life[0] + min(life[1], ttl) + GRAIN


def _knows_the_time(world: World, contact: Any) -> bool:
    """Return whether the device can know what time it is: it heard it in this boot, or its clock is not behind.

    Without any contact a life may have begun while the clock was ahead; how long it lasts is known until the next boot.
    """
    misled = contact is None and world.was_ahead
    heard = contact is not None and contact.boot == world.time.boot
    return heard or (world.skew >= 0 and not misled)


# --- At the end -----------------------------------------------------------------------------------------------


def at_the_end(world: World, session: Any) -> None:
    """Everything healed and every run done: each request of ``session`` came to its end, once."""
    account = world.open()
    rows = {row[0]: row for row in world.home.rows(account)}
    readable = world.home.readable(account)
    state = world.server.state
    documents = {d["renderJobId"]: i for i, d in state.documents.items() if d["status"] == "current"}
    for cmid, asked in world.asked.items():
        if asked.session != session or cmid not in rows:
            continue
        _, status, _, reason, _, _ = rows[cmid]
        if asked.discarded:
            continue
        if asked.given_up is not None:
            _check_taken_back(world, session, cmid, status, reason)
            continue
        if status in ("queued", "sending"):
            world.break_promise(f"{cmid} was never sent although everything works: {status}")
        if status == "quarantined":
            if not world.would_refuse(cmid):
                world.break_promise(f"{cmid} is quarantined ({reason}), and the service would take it")
            continue
        known = state.dedup.get((session[0], cmid))
        if known is None:
            world.break_promise(f"{cmid} is {status}, and the service does not have it")
        job = state.jobs[known["job"]]
        if status == "acknowledged":
            world.break_promise(f"{cmid} is still without its document: job {job['status']}")
        if status == "failed" and job["status"] == "failed":
            world.break_promise(f"{cmid} was tried again with everything mended, and its job was not")
        if status == "failed" and job["status"] == "completed" and documents.get(job["id"]) is not None:
            world.break_promise(f"{cmid} counts as failed ({reason}), and its document could be had")
        if status == "done" and documents.get(job["id"]) is not None and documents[job["id"]] not in readable:
            world.break_promise(f"{cmid} is done, and {documents[job['id']]} cannot be read")
    _once_each(world, session)
    forms = {i: (t["status"], t["currentVersionId"]) for i, t in state.templates.items()}
    if world.home.forms(account) != forms:
        world.break_promise("the forms here are not those of the service")
    beforehand.at_the_end(world, session, account, readable)


def _check_taken_back(world: World, session: Any, cmid: str, status: str, reason: str | None) -> None:
    """A person who took a request back knows in the end whether a document of it was made."""
    known = world.server.state.dedup.get((session[0], cmid))
    made = known is not None and world.server.state.jobs[known["job"]]["status"] != "failed"
    if (status, reason) != (("failed", ALREADY_SENT) if made else ("discarded", WITHDRAWN)):
        there = "has" if made else "does not have"
        world.break_promise(f"{cmid} was taken back and is {status} ({reason}), and the service {there} it")


def _once_each(world: World, session: Any) -> None:
    jobs: dict[str, int] = {}
    rendered: dict[str, int] = {}
    for job in world.server.state.jobs.values():
        if (job["_tenant"], job["_user"]) == session:
            jobs[job["clientMutationId"]] = jobs.get(job["clientMutationId"], 0) + 1
            if job["clientMutationId"] not in world.asked:
                world.break_promise(f"the service has {job['clientMutationId']}, and nobody asked for it")
    for document in world.server.state.documents.values():
        rendered[document["renderJobId"]] = rendered.get(document["renderJobId"], 0) + 1
    if any(n > 1 for n in jobs.values()) or any(n > 1 for n in rendered.values()):
        world.break_promise("a request was doubled")


def _check_gap(world: World, tenant: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """What arrived two months ago goes, but for prints, whose copies are counted by them: a gap is nothing else."""
    first, last = before["eventId"], after["eventId"]
    gone = [i for i, of in world.evidence.items() if of == tenant and first < i < last]
    kept = [i for i in gone if world.now - world.server.arrived.get(i, world.now) <= KEPT]
    if kept or len(gone) != after["sequence"] - before["sequence"] - 1 or not gone:
        world.break_promise(f"the chain of {tenant} is broken at {after['sequence']}")


def evidence(world: World, tenant: str) -> None:
    """The chain of an outbox is whole, and every event of it arrived."""
    last: dict[str, Any] | None = None
    for event, state in world.home.chain(tenant):
        if last is not None and (event["sequence"], event["previousHash"]) != (last["sequence"] + 1, last["hash"]):
            _check_gap(world, tenant, last, event)
        if hash_event(event) != event["hash"]:
            world.break_promise(f"event {event['sequence']} does not have its hash")
        last = event
        if state == "pending":
            world.break_promise(f"event {event['sequence']} was never sent although everything works")
        if event["eventId"] not in world.server.state.events:
            world.break_promise(f"event {event['sequence']} counts as {state}, and the service does not have it")
    for event_id, of in world.evidence.items():
        if of != tenant:
            continue
        # What arrived two months before a restore is on no device any more.
        if (
            event_id not in world.server.state.events
            and world.now - world.server.arrived.get(event_id, world.now) <= KEPT
        ):
            world.break_promise(f"{event_id} was written and never arrived")
