"""One seed from its first move to the last promise: a schedule of moves, then everything heals, then the questions."""

from __future__ import annotations

import zlib
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import promises
from .endings import Broken
from .memory_home import MemoryHome
from .moves import interlope, work
from .profiles import PROFILES
from .stories import MOVES
from .world import World

#: A seed has at least this much in it, or goes on until it has.
LEAST_STEPS = 40
LEAST_FAULTS = 3
#: After everything works, cycles until nothing is due; more would hide a queue that does not drain.
MOST_CYCLES = 14
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a seed came to: its trace as a number, how much was in it, and the promise that broke, or None."""

    digest: int
    steps: int
    faults: int
    broken: str | None
    trace: list[str]


def run_seed(seed: int, stats: Counter[str], *, home: Callable[[str], Any] = MemoryHome) -> Outcome:
    """Run one seed; a broken promise is an outcome, an error of the client or of the simulation too."""
    world = World(seed, PROFILES[seed % len(PROFILES)], home, stats)
    world.interloper = interlope
    broken = None
    try:
        _play(world)
        heal(world)
    except Broken as failure:
        broken = str(failure)
    except Exception as failure:  # An error that no person could make sense of is a failure of the seed as well.
        broken = f"{type(failure).__name__}: {failure}"
    digest = zlib.crc32("|".join(world.trace).encode())
    outcome = Outcome(digest, world.steps, world.faults, broken, world.trace)
    world.close()
    return outcome


def _play(world: World) -> None:
    moves, weights, draw = world.profile.moves, world.profile.weights, world.draw
    names = [MOVES[name] for name in moves]
    MOVES["switch"](world)
    goal = world.profile.steps
    while world.steps < goal or world.faults < LEAST_FAULTS:
        if world.steps >= goal:
            # A quiet seed: nothing is proved by it, so it becomes a bad day.
            goal += 8
            world.fault_rate = min(world.fault_rate + 0.3, 0.9)
        choice = min(bisect(weights, draw()), len(names) - 1)
        world.steps += 1
        world.trace.append(moves[choice])
        names[choice](world)


def heal(world: World) -> None:
    """Everything works again; nobody asks for anything new."""
    world.fault_rate = world.crash_rate = world.lookup_rate = world.feed_rate = world.bytes_rate = world.batch_rate = (
        0.0
    )
    world.beforehand_rate, world.mode = 0.0, ""
    world.set_clock(0.0)
    server = world.server
    server.page_size = 50
    server.device_revoked, server.renders_at_once = False, True
    server.broken_patients.clear()
    server.policy = {**server.policy, "quotaBytes": 10**9, "cacheTtlSeconds": 7 * DAY}
    MOVES["belated"](world)
    MOVES["announce"](world)
    for process in world.processes:
        if process.gen is not None:
            # A run that is cut off in the middle of an exchange ends within its time limits, or by a kill.
            process.die()
    sessions = dict.fromkeys([*([world.session] if world.session else []), *world.profile.users])
    for session in sessions:
        asked = any(asked.session == session for asked in world.asked.values())
        # Evidence outlives its session until somebody of the tenant signs in again, and is offered again only then.
        if asked or session == world.session or _has_evidence(world, session[0]):
            _settle(world, session)
    for tenant in dict.fromkeys(session[0] for session in sessions):
        promises.evidence(world, tenant)


def _has_evidence(world: World, tenant: str) -> bool:
    """Return whether the service does not have, or lost by a restore, what is in the outbox here."""
    known = world.server.state.events
    return any(state == "pending" or event["eventId"] not in known for event, state in world.home.chain(tenant))


def _settle(world: World, session: tuple[str, str]) -> None:
    if world.session != session:
        if world.session is not None:
            world.home.stop_drain(world.open())
            world.home.drop_cache(world.session)
            world.forget_cache(world.session)
        world.session = session
        world.trace.append("sign in")
    world.tokens[session] = True
    account = world.open()
    _drain(world)
    promises.look(world)
    account = world.open()
    waiting = _try_again(world)
    evicted = [row[2] for row in world.home.rows(account) if row[1] == "done" and row[2]]
    evicted = [i for i in evicted if world.home.held(account, i) is None]
    for document_id in evicted:
        # There was no room for it, or it had expired here; now somebody wants to see it.
        world.home.want(account, document_id)
    if waiting or evicted:
        _drain(world)
    if waiting and _try_again(world):
        # What was quarantined may turn out to be a job that had failed: it can be seen only now.
        _drain(world)
    promises.look(world)
    promises.at_the_end(world, session)


def _try_again(world: World) -> bool:
    """The causes are mended, so the person tries again what needs attention; False when nothing does."""
    account = world.open()
    waiting = [row[0] for row in world.home.rows(account) if row[1] in ("quarantined", "failed")]
    waiting = [cmid for cmid in waiting if world.asked[cmid].given_up is None]
    for cmid in waiting:
        world.retried(cmid)
        world.home.retry(account, cmid)
    return bool(waiting)


def _drain(world: World) -> None:
    """Let the watcher run as it does by itself: soon after something is due, or after a minute."""
    home, process = world.home, world.processes[0]
    for _ in range(MOST_CYCLES):
        process.start(eager=False)
        process.finish()
        work(world)
        account = world.open()
        rows = home.rows(account)
        unfinished = [row for row in rows if row[1] in ("queued", "sending", "acknowledged")]
        if not unfinished and process.cycle.report.success:
            return
        due = home.next_due(account)
        ahead = 60.0 if due is None else min(max(due - account.clock().now, 1.0), DAY)
        world.pass_time(ahead + 1.0)
    raise Broken(f"it does not drain: {process.cycle.report.stopped}, {[(r[0], r[1], r[3]) for r in unfinished]}")
