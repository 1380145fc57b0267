"""Moves that belong together: each tells one lesson to its end, in the order in which it once went wrong.

Single moves meet in these orders too, some in one of a thousand seeds; a story makes them common. Whatever else the
seed knows (faults, crashes, another program in the middle) happens inside a story as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import promises
from .moves import DAY, HOUR, MOVES, ask, backup, lose_cache, pick, print_document, restore, switch, take_back
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
    _sync(world, process)
    restore(world)
    _sync(world, process)


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
    _sync(world, process)
    world.mode = ""
    _sync(world, process)
    promises.look(world)
    if world.draw() < 0.5:
        restore(world)
        _sync(world, process)
    world.set_clock(0.0)
    wait_out(world)


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
        world.wrote(number)


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


MOVES.update(
    dismissal=dismissal,
    crowd=crowd,
    astray=astray,
    slip=slip,
    shorten=shorten,
    disaster=disaster,
    hand_over=hand_over,
    recall=recall,
    second_thoughts=second_thoughts,
)
__all__ = ["MOVES"]
