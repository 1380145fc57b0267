"""Moves that belong together: each tells one lesson to its end, in the order in which it once went wrong.

Single moves meet in these orders too, some in one of a thousand seeds; a story makes them common. Whatever else the
seed knows (faults, crashes, another program in the middle) happens inside a story as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from document_client import effects as fx
from document_client.lease import LEASE_SECONDS

from . import promises
from .moves import (
    DAY,
    HOUR,
    MOVES,
    RULES,
    ask,
    backup,
    colleague,
    lose_cache,
    pick,
    print_document,
    publish,
    replace,
    restore,
    rule,
    switch,
    take_back,
    work,
)
from .server import JOBS

if TYPE_CHECKING:
    from .world import Process, World


def _idle(world: World) -> Process | None:
    """Return the first program when somebody is signed in and it does nothing."""
    process = world.processes[0]
    return process if world.session is not None and process.gen is None else None


def _sync(world: World, process: Process) -> None:
    """Run one sync to whatever end it takes."""
    if world.session is not None and process.gen is None:
        process.start(eager=True)
        process.finish()


def slip(world: World) -> None:
    """The clock is ahead for one sync, then right again; somebody looks when a life ought to be over."""
    process = _idle(world)
    if process is None:
        return
    if world.draw() < 0.4:
        # What was done long ago by the wrong clock must be kept all the same.
        ask(world)
        _sync(world, process)
        if world.session is None:
            return
    ask(world)
    world.set_clock(pick(world, (3 * DAY, 30 * DAY, 400 * DAY)))
    world.happened("clock set")
    _sync(world, process)
    world.set_clock(0.0)
    if world.session is not None:
        world.pass_time(world.home.ttl(world.open())[0] + HOUR)
    promises.look(world)


def shorten(world: World) -> None:
    """The tenant shortens the life of copies; those that are here must follow."""
    process = _idle(world)
    if process is None:
        return
    ask(world)
    _sync(world, process)
    world.server.policy = {**world.server.policy, "cacheTtlSeconds": HOUR}
    _sync(world, process)
    world.pass_time(HOUR + 60.0)
    promises.look(world)


def disaster(world: World) -> None:
    """Work and evidence arrive after the last backup, and the service is restored from it."""
    process = _idle(world)
    if process is None:
        return
    backup(world)
    ask(world)
    _sync(world, process)
    print_document(world)
    if world.draw() < 0.5:
        _sleep_over_the_restore(world, process)
    else:
        _sync(world, process)
        restore(world)
    _sync(world, process)


def _sleep_over_the_restore(world: World, process: Process) -> None:
    """A program sleeps before it writes down that its evidence arrived; another notes the new epoch, and dies."""
    if world.session is None:
        return
    process.start(eager=True)
    had = len(world.server.state.events)
    while process.gen is not None and len(world.server.state.events) == had:
        process.run(1)
    world.pass_time(2 * LEASE_SECONDS)
    restore(world)
    other = world.processes[-1]
    if process.gen is not None and other.gen is None and world.session is not None:
        other.start(eager=True)
        while other.gen is not None and world.home.fact(other.account, "epoch") != world.server.state.epoch:
            other.run(1)
        other.die()
    if process.gen is not None:
        process.finish()


def hand_over(world: World) -> None:
    """One person asks and leaves while the device sends; the next one signs in."""
    process = _idle(world)
    if process is None or len(world.profile.users) < 2:
        return
    ask(world)
    process.start(eager=True)
    process.run(1 + int(world.draw() * 6))
    for _ in range(2):
        switch(world)
    process.run(4)


def recall(world: World) -> None:
    """A document is withdrawn while copies of it are about."""
    process = _idle(world)
    if process is None:
        return
    held = [i for i, _ in world.home.owners(world.open()) if i in world.server.state.documents]
    if not held:
        return
    document_id = pick(world, held)
    if world.server.state.documents[document_id]["status"] == "current":
        world.server.revoke(document_id, "entered in error")
    _sync(world, process)
    promises.look(world)


def forgotten(world: World) -> None:
    """A revocation comes with the first page of a listing that goes no further; the service is restored without it."""
    process = _idle(world)
    if process is None:
        return
    ask(world)
    for _ in range(2):
        _sync(world, process)
        work(world)
    held = [i for i, _ in world.home.owners(world.open())] if world.session is not None else []
    held = [i for i in held if i in world.server.state.documents]
    if not held:
        return
    backup(world)
    document_id = pick(world, held)
    if world.server.state.documents[document_id]["status"] == "current":
        world.server.revoke(document_id, "entered in error")
    lose_cache(world)
    mode, world.mode = world.mode, "stuck page"
    _sync(world, process)
    world.mode = mode
    restore(world)
    _sync(world, process)


def dismissal(world: World) -> None:
    """There is evidence that was not sent when the service stops knowing the device, or the person."""
    process = _idle(world)
    if process is None:
        return
    print_document(world)
    for _ in range(2):
        give_up_half(world)
    if world.draw() < 0.5:
        world.server.device_revoked = True
    else:
        world.mode = "401"
    _sync(world, process)
    world.server.device_revoked, world.mode = False, ""


def crowd(world: World) -> None:
    """Several requests wait when nothing works: the run must not try them all."""
    process = _idle(world)
    if process is None:
        return
    for _ in range(5):
        ask(world)
    world.mode = pick(world, ("offline", "500", "500", "429", "504"))
    _sync(world, process)
    world.mode = ""


def astray(world: World) -> None:
    """A device that has lost its cache, and with it every contact, works by a clock that is a year behind, or ahead.

    What was done by a clock behind looks old as soon as the right time is known, and must be kept all the same. A
    life that began by a clock ahead must not last a year longer.
    """
    process = _idle(world)
    if process is None:
        return
    backup(world)
    world.set_clock(pick(world, (-400 * DAY, 400 * DAY)))
    lose_cache(world)
    world.mode = "no date"
    ask(world)
    for _ in range(2):
        give_up_half(world)
    usual = world.interloper
    if world.draw() < 0.7:
        world.ambush, world.interloper = fx.Complete, _first_contact
    _sync(world, process)
    world.ambush, world.interloper, world.mode = None, usual, ""
    if world.draw() < 0.6:
        _sync(world, process)
        promises.look(world)
        if world.draw() < 0.5:
            restore(world)
            _sync(world, process)
    world.set_clock(0.0)
    wait_out(world)


def _first_contact(world: World) -> None:
    """A program sleeps before it notes that a copy is whole; meanwhile another one hears what time it is, and dies.

    Colleagues were busy: the page that brings the time is not the last one, and does not confirm the list of forms.
    """
    world.mode = ""
    for _ in range(3):
        colleague(world)
    world.pass_time(2 * LEASE_SECONDS)
    world.happened("slept beyond the lease")
    other = world.processes[-1]
    if other.gen is None and world.session is not None:
        other.start(eager=True)
        while other.gen is not None and world.home.contact(other.account) is None:
            other.run(1)
        other.die()


def overtaken(world: World) -> None:
    """A program is asleep between an answer and its storing: what another one has stored meanwhile must stand."""
    process = _idle(world)
    if process is None:
        return
    ask(world)
    where = pick(world, (fx.ApplyPage, fx.ApplyPage, fx.SaveTemplates, fx.SaveTemplates, fx.Complete))
    quiet = where is fx.ApplyPage and world.draw() < 0.5
    if quiet:
        # Nothing is new but the policy: the place in the feed tells the two pages not apart.
        for _ in range(2):
            _sync(world, process)
            work(world)
        world.server.policy = {**world.server.policy, "cacheTtlSeconds": 2 * DAY}
    elif where is fx.SaveTemplates or world.draw() < 0.5:
        # The whole list of forms is fetched for an empty cache only.
        lose_cache(world)
    usual, world.interloper = world.interloper, _overtake_quietly if quiet else _overtake
    world.ambush = where
    _sync(world, process)
    world.ambush, world.interloper = None, usual
    promises.look(world)


def _overtake(world: World) -> None:
    """Another program takes the lease, and hears of a shorter life of copies and of a new form."""
    publish(world)
    _overtake_quietly(world)


def _overtake_quietly(world: World) -> None:
    """Another program takes the lease, and hears of a shorter life of copies."""
    world.server.policy = {**world.server.policy, "cacheTtlSeconds": HOUR}
    world.pass_time(2 * LEASE_SECONDS)
    world.happened("slept beyond the lease")
    other = world.processes[-1]
    if other.gen is None and world.session is not None:
        other.start(eager=True)
        other.finish()


def lid(world: World) -> None:
    """The lid is closed for days between an answer and its storing, and nobody connects afterwards.

    Perhaps it is the first answer after a restart, on a device whose own clock is behind.
    """
    process = _idle(world)
    if process is None:
        return
    ask(world)
    closed_at: tuple[type, ...] = (fx.ApplyPage, fx.Complete, fx.Renew)
    if world.draw() < 0.5:
        closed_at = (fx.ApplyPage,)
        for _ in range(2):
            _sync(world, process)
            work(world)
        world.reboot()
        world.set_clock(-30 * DAY)
        world.happened("clock set")
        if world.session is None:
            return
    usual, world.interloper = world.interloper, lambda world: world.pass_time(3 * DAY)
    world.ambush = pick(world, closed_at)
    _sync(world, process)
    world.ambush, world.interloper = None, usual
    if world.session is not None:
        world.happened("slept beyond the lease")
        world.pass_time(max(world.home.ttl(world.open())[0] - 3 * DAY, 0.0) + HOUR)
        promises.look(world)


def wait_out(world: World) -> None:
    """Nobody connects until every life is over; then somebody looks."""
    if world.session is not None:
        world.pass_time(world.home.ttl(world.open())[0] + HOUR)
        promises.look(world)


def give_up_half(world: World) -> None:
    """Somebody begins to discard a request, and the command dies between the event and the deed."""
    if world.session is not None:
        number = world.next_number()
        world.home.record(world.open(), number, "request.discarded", client_mutation_id=f"c{number}")
        world.wrote(world.session[0], number)


def second_thoughts(world: World) -> None:
    """A request is taken back while it is being sent, or while its bytes are still on their way to the service."""
    process = _idle(world)
    if process is None:
        return
    before = set(world.asked)
    ask(world)
    asked = [cmid for cmid in world.asked if cmid not in before]
    session, mode, world.mode = world.session, world.mode, "offline"
    process.start(eager=True)
    if asked and world.draw() < 0.5:
        while process.gen is not None and asked[0] not in process.claimed:
            process.run(1)
        if world.session == session:
            take_back(world, asked[0])
    if process.gen is not None:
        process.finish()
    world.mode = mode
    if not asked or world.session != session:
        return
    take_back(world, asked[0])
    _sync(world, process)
    if any(asked[0] in other.claimed for other in world.processes):
        # What no program ever claimed has not left the device, and cannot arrive.
        world.belated.append((process.caller, JOBS, world.asked[asked[0]].body, asked[0]))
    if world.draw() < 0.5:
        MOVES["belated"](world)
        _sync(world, process)


def ward(world: World) -> None:
    """Colleagues' documents come beforehand; then people ask, room gets scarce, one is withdrawn, or lives end."""
    process = _idle(world)
    if process is None or world.session is None:
        return
    while not world.server.policy.get("prefetch"):
        rule(world)
    # It is the last thing that a run does: with the usual faults one run of five comes to it.
    rates = world.fault_rate, world.crash_rate
    world.fault_rate, world.crash_rate = min(rates[0], 0.02), max(rates[1], 0.02)
    world.mode, world.tokens[world.session] = "", True
    for _ in range(1 + int(world.draw() * 3)):
        colleague(world)
    process.start(eager=True, budget=300 if world.draw() < 0.2 else None)
    process.finish()
    pick(world, _WARD)(world)
    _sync(world, process)
    world.fault_rate, world.crash_rate = rates
    promises.look(world)


def _scarce(world: World) -> None:
    """There is room for own documents and little else."""
    world.server.policy = {**world.server.policy, "quotaBytes": pick(world, (300, 700))}
    ask(world)
    ask(world)


def _confirm(world: World) -> None:
    """Little is left of the copies' lives: they are confirmed, or not."""
    world.set_rule(RULES[3])
    world.pass_time(0.9 * world.server.policy["cacheTtlSeconds"])


def _refuse(world: World) -> None:
    """What was refused beforehand replaces an own copy, and is refused once more."""
    process = _idle(world)
    if process is None:
        return
    ask(world)
    _sync(world, process)
    if world.session is None or process.gen is not None:
        return
    world.set_rule(RULES[4])
    held = [i for i, _ in world.home.owners(world.open()) if i in world.server.state.documents]
    colleague(world)
    rate, world.beforehand_rate = world.beforehand_rate, 1.0
    _sync(world, process)
    world.beforehand_rate = rate
    documents = list(world.server.state.documents.items())
    if not documents:
        return
    newest, row = documents[-1]
    old = [i for i, other in documents if i in held and i != newest and other["status"] == "current"]
    if old and row["status"] == "current" and row["_tenant"] == process.session[0]:
        world.replacing.add(newest)
        world.server.revoke(pick(world, old), "superseded", newest)
        _refuse_wanted(world, process, newest)


def _refuse_wanted(world: World, process: Process, document_id: str) -> None:
    """The service does not give a document when it is wanted for the first time, either."""
    process.start(eager=True)
    while process.gen is not None and document_id not in (process.to_fetch or ()):
        process.run(1)
    while process.gen is not None and document_id not in process.asked_urls:
        world.mode = "404"
        process.run(1)
    world.mode = ""
    if process.gen is not None:
        process.finish()


def _ask_meanwhile(world: World) -> None:
    """Somebody asks for a document while colleagues' documents come."""
    process = _idle(world)
    if process is None:
        return
    for _ in range(3):
        colleague(world)
    process.start(eager=True)
    while process.gen is not None and not process.planned:
        process.run(1)
    if world.session == process.session:
        ask(world)
    if process.gen is not None:
        process.finish()


_WARD: tuple[Callable[[World], None], ...]
_WARD = (_scarce, _scarce, _confirm, _confirm, _confirm, _ask_meanwhile, _refuse, recall, replace, wait_out)
MOVES.update(
    ward=ward,
    dismissal=dismissal,
    crowd=crowd,
    astray=astray,
    slip=slip,
    shorten=shorten,
    disaster=disaster,
    hand_over=hand_over,
    recall=recall,
    forgotten=forgotten,
    second_thoughts=second_thoughts,
    overtaken=overtaken,
    lid=lid,
)
__all__ = ["MOVES"]
