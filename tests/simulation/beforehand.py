"""The promises about what the tenant's policy brings before anybody asks (decision 0044).

Nothing comes that no signed rule names, nor more of it than the rule and the room allow; requests and own documents go
before it and are never pushed out or stopped by it; what is named is here in the end. How long such a copy may be read,
and by whom, is asked of it as of every other copy (``promises``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from document_client.clock import from_text
from document_client.policy import PrefetchRule

if TYPE_CHECKING:
    from document_client import effects as fx
    from document_client.answers import Transfer

    from .world import Process, World

DAY = 86_400.0
# An answer's Date has whole seconds, and the device counts from the last one that it heard.
GRAIN = 6.5


def begin(process: Process) -> None:
    """A run begins: it has asked for nothing yet."""
    process.asked_urls = set()
    process.fetch_step, process.own_held = -1, ()
    begin_round(process)


def begin_round(process: Process) -> None:
    """A round of a run begins with its requests: own documents are looked at after them, the rule last of all."""
    process.planned = frozenset()
    process.to_fetch = None
    process.was_refused = False


def after_wanted(process: Process, effect: fx.ReadWanted, wanted: list[fx.Wanted]) -> None:
    """Remember what the run wants for people's sake."""
    process.to_fetch = [document.document_id for document in wanted]


def after_plan(process: Process, effect: fx.ReadBeforehand, planned: list[fx.Wanted]) -> None:
    """Own documents were asked for before; what is planned is named by a signed rule, and there is room for it."""
    if not planned:
        return
    world, session = process.world, process.session
    world.stats["plans of a prefetch rule"] += 1
    process.planned = frozenset(document.document_id for document in planned)
    if process.to_fetch is None or (
        process.cycle.budget is None and not process.asked_urls.issuperset(process.to_fetch)
    ):
        world.break_promise("documents come beforehand, and own documents were not asked for yet")
    policy, marks = world.home.policy(process.account), world.home.marks(process.account)
    rule = policy.prefetch
    if rule is None or rule not in world.rules:
        world.break_promise("documents come beforehand by a rule that nobody signed")
    contact = world.home.contact(process.account)
    knows = contact is not None and contact.boot == world.time.boot
    revoked, documents = world.known_revoked.get(session, ()), world.server.state.documents
    for document_id in process.planned:
        row = documents.get(document_id)
        # A service that was restored does not know all that the device was told.
        if row is not None and not (row["_tenant"] == session[0] and _is_named(row, rule, world.now if knows else 0.0)):
            world.break_promise(f"{document_id} comes beforehand, and the rule does not name it")
        if document_id in revoked:
            world.break_promise(f"{document_id} comes beforehand after its revocation arrived")
        world.named.add((session, document_id))
    missing = [document for document in planned if not document.here]
    if missing:
        _check_room(process, rule, policy.quota, planned, missing, marks)


def _is_named(row: dict[str, Any], rule: PrefetchRule, now: float) -> bool:
    fits = not rule.categories or row["category"] in rule.categories
    return fits and now - from_text(row["renderedAt"]) <= rule.days * DAY + GRAIN


def _check_room(
    process: Process, rule: PrefetchRule, quota: int, planned: Any, missing: Any, marks: dict[str, Any]
) -> None:
    """What comes fits into the rule's bytes beside what came before and is newer, and beside what people keep."""
    world, documents = process.world, process.world.server.state.documents
    coming = sum(document.size for document in missing)
    kept = beside = 0
    last = min(_age(documents, document.document_id) for document in missing)
    for document_id, _ in world.home.owners(process.account):
        wanted, evicted, _ = marks[document_id]
        size = len(process.held(document_id) or b"")
        kept += size if wanted else 0
        row = documents.get(document_id)
        if row is None or row["status"] != "current" or wanted or evicted:
            continue
        if _age(documents, document_id) > last and _is_named(row, rule, world.now + 2 * GRAIN):
            beside += size
    if coming + beside > rule.most_bytes:
        world.break_promise(f"{coming} bytes come beforehand beside {beside}, and the rule allows {rule.most_bytes}")
    if coming + kept > quota:
        world.break_promise(f"{coming} bytes come beforehand, and own documents leave {quota - kept}")


def _age(documents: dict[str, Any], document_id: str) -> tuple[str, str]:
    row = documents.get(document_id)
    return (row["renderedAt"] if row is not None else "~", document_id)


def after_url(process: Process, document_id: str, answer: Any) -> None:
    """Nothing is fetched beforehand while a request waits that nobody has tried to send."""
    world = process.world
    if document_id in process.planned:
        if document_id not in process.asked_urls:
            _check_nobody_waits(process, document_id)
        refused = answer.is_json and isinstance(answer.body, dict) and bool(answer.body.get("code"))
        process.was_refused = refused and answer.status in (403, 404, 409, 410, 422) and not world.server.device_revoked
    process.asked_urls.add(document_id)


def _check_nobody_waits(process: Process, document_id: str) -> None:
    world = process.world
    for cmid, state, *_ in world.home.rows(process.account):
        # What was asked for since this run last looked is seen before the next document.
        fresh = state == "queued" and not any(cmid in other.claimed for other in world.processes)
        if fresh and world.asked[cmid].since < process.before_step:
            world.break_promise(f"{document_id} was fetched beforehand while {cmid} waited")


def after_fetch(process: Process, effect: fx.Fetch, transfer: Transfer) -> None:
    """A download does not begin that the budget has no room for; remember what may not be pushed out by it."""
    world, document, budget = process.world, effect.document, process.cycle.budget
    if budget is not None and not document.here and document.size - document.received > budget:
        world.break_promise(f"{document.document_id} was fetched with {budget} bytes of the budget left")
    process.own_held = ()
    if document.document_id not in process.planned or transfer.kind != "complete":
        return
    marks = world.home.marks(process.account)
    kept = [i for i, _ in world.home.owners(process.account) if marks[i][0] or marks[i][2]]
    room = world.home.policy(process.account).quota - sum(len(process.held(i) or b"") for i in kept)
    if document.document_id not in kept and document.size <= room:
        process.fetch_step, process.own_held = process.effect_step, tuple(kept)


def after_complete(process: Process) -> None:
    """What came beforehand pushes out nothing that somebody wanted or has opened."""
    alone = process.fetch_step == process.before_step == process.effect_step - 1 and not process.met
    if alone and any(process.held(document_id) is None for document_id in process.own_held):
        process.world.break_promise("what came beforehand has pushed out a document that somebody wanted")


def after_run(process: Process, effect: fx.EndRun) -> None:
    """A refusal of what nobody asked for is no reason to stop; all copies together keep to the quota."""
    world = process.world
    if world.rules and not process.met:
        held = sum(len(process.held(i) or b"") for i, _ in world.home.owners(process.account))
        if held > world.home.policy(process.account).quota:
            world.break_promise(f"{held} bytes are kept, and the policy allows less")
    if effect.stopped == "SERVER_REFUSED" and process.was_refused:
        world.break_promise("a document that nobody had asked for was refused, and the run stopped")


def at_the_end(world: World, session: Any, account: Any, readable: dict[str, bytes]) -> None:
    """What the rule names is here, the newest first, as far as it allows; what replaces an own copy came as well."""
    documents, marks = world.server.state.documents, None
    for document_id in world.home.replacements(account):
        row = documents.get(document_id)
        if row is not None and row["status"] == "current" and (session, document_id) not in world.life:
            world.break_promise(f"{document_id} replaces a copy that was here, and never came")
    rule = world.home.policy(account).prefetch
    restores, position = world.processes[0].feed_then
    if rule is None or restores != world.server.restores:
        return
    marks = world.home.marks(account)
    told = {key for kind, key, _ in world.server.state.feed[:position] if kind == "documents"}
    named = [
        (row["renderedAt"], document_id, row["size"])
        for document_id, row in documents.items()
        if document_id in told
        and row["_tenant"] == session[0]
        and row["status"] == "current"
        and _is_named(row, rule, world.now + 2 * GRAIN)
        and not marks.get(document_id, (False, False))[1]
    ]
    room = rule.most_bytes
    for _, document_id, size in sorted(named, reverse=True):
        room -= size
        if room < 0:
            return
        if document_id not in readable:
            world.break_promise(f"the rule names {document_id}, and it is not here")
