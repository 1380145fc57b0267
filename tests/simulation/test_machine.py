"""The same world, driven by Hypothesis: slower, but what it finds it shrinks to the few moves that matter."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simulation import promises
from simulation.arena import arena
from simulation.memory_home import MemoryHome
from simulation.moves import interlope
from simulation.network import EXCHANGES
from simulation.profiles import PROFILES
from simulation.seed import heal
from simulation.stories import MOVES
from simulation.world import World

#: No fault comes by itself: Hypothesis makes each.
QUIET = replace(
    PROFILES[0],
    users=(("clinic", "a"), ("clinic", "b")),
    fault_rate=0.0,
    crash_rate=0.0,
    lookup_rate=0.0,
    feed_rate=0.0,
    bytes_rate=0.0,
    batch_rate=0.0,
    batching=True,
    older_service=False,
)
PEOPLE = ("ask", "attend", "take_back", "open", "print", "switch", "look", "hand_over", "second_thoughts")
OTHERS = (
    "restore",
    "backup",
    "revoke",
    "retire",
    "lazy_server",
    "work",
    "break_patient",
    "mend_patient",
    "policy",
    "shorten",
    "disaster",
    "recall",
)
MACHINE = (
    "time",
    "clock",
    "reboot",
    "lose_cache",
    "power_copy",
    "power_cut",
    "sleep",
    "token",
    "slip",
    "device_revoked",
)


class Schedule(RuleBasedStateMachine):
    """Rules are the moves of a seed; the promises are asked after each."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = arena()
        self.arena.__enter__()
        self.world = World(0, QUIET, MemoryHome, Counter())
        self.world.interloper = interlope
        MOVES["switch"](self.world)

    @rule(name=st.sampled_from(PEOPLE), dice=st.integers(0, 255))
    def somebody(self, name: str, dice: int) -> None:
        self._move(name, dice)

    @rule(name=st.sampled_from(OTHERS), dice=st.integers(0, 255))
    def the_service(self, name: str, dice: int) -> None:
        self._move(name, dice)

    @rule(name=st.sampled_from(MACHINE), dice=st.integers(0, 255))
    def the_machine(self, name: str, dice: int) -> None:
        self._move(name, dice)

    @precondition(lambda self: self.world.session is not None)
    @rule(
        number=st.integers(0, 1),
        effects=st.integers(1, 30),
        fault=st.sampled_from(("", *EXCHANGES)),
        kill=st.booleans(),
    )
    def a_program_runs(self, number: int, effects: int, fault: str, kill: bool) -> None:
        process = self.world.processes[number]
        if process.gen is None:
            process.start(eager=True)
        process.run(effects)
        self.world.mode = fault
        process.run(2)
        self.world.mode = ""
        if kill:
            process.die()

    @invariant()
    def promises_hold(self) -> None:
        promises.look(self.world)

    def teardown(self) -> None:
        try:
            heal(self.world)
        finally:
            self.arena.__exit__(None, None, None)

    def _move(self, name: str, dice: int) -> None:
        # The dice of a move come from the example, so that a shrunk example stays what it is.
        rolled = random.Random(dice)
        self.world.draw, before = rolled.random, self.world.draw
        MOVES[name](self.world)
        self.world.draw = before


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
