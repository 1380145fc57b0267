"""The world of one seed: true time, the service, the device's clocks and files, and the programs that run on it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from document_client import effects as fx
from document_client.clock import TimeSource
from document_client.cycle import Cycle
from document_client.errors import ClientError, LeaseLost, StorageFull
from document_client.model.rules import State
from document_client.policy import PrefetchRule
from document_client.sync import run_cycle
from document_client.withdrawals import WITHDRAWN

from . import beforehand, promises
from .endings import Broken, Crash
from .memory_home import MemoryHome, Session
from .profiles import Profile
from .server import BATCH, DEFINITION, Caller, Rule, Server

START = 1_780_000_000.0
DEVICE = "dev_simulated"
#: Faults that a run survives without an error; after any other one it must not call itself a success.
HARMLESS = frozenset(
    {
        "delivered twice",
        "delivered again later",
        "no date",
        "forged policy",
        "policy of another key",
        "policy of another tenant",
        "cut late",
        "cut early",
        "flipped",
        "wrong range",
        "416",
        "whole instead",
        "404 bytes",
        "401",
        "403",
        "404",
        "409",
        "410",
        "422",
        "one 401",
        "one 403",
        "one 409",
        "one 422",
    }
)


#: A batch that fails as a whole is sent again one by one, in the same run.
SENT_SINGLY = frozenset({"500", "504", "late 500"})


#: When a copy was fetched or confirmed, its time to live then (seconds), and in which boot.
Life = tuple[float, float, int]


class Asked:
    """What a person was told is queued."""

    __slots__ = ("body", "discarded", "given_up", "patient", "session", "since")

    def __init__(self, session: Session, body: bytes, patient: str, since: int) -> None:
        self.session, self.body, self.patient, self.since = session, body, patient, since
        self.discarded = False
        # When a person gave it up or took it back, in the order of the seed; ``discarded``: nothing is left to settle.
        self.given_up: int | None = None


class World:
    """Everything outside the client, and the truth that the promises are checked against."""

    __deletable__ = ("time", "server", "home")

    def __init__(self, seed: int, profile: Profile, home: Callable[[str], Any], stats: Counter[str]) -> None:
        """Set the stage of seed ``seed``."""
        self.rng = random.Random(seed * 2 + 1)
        self.draw = self.rng.random
        self.profile, self.stats = profile, stats
        self.now, self.skew, self.booted, self.boots = START, 0.0, START - 1000.0, 1
        self.server = Server(lambda: self.now)
        self.server.takes_batches = not profile.older_service
        self.time = TimeSource(self.wall, lambda: self.now - self.booted, "boot-1")
        self.device_id = DEVICE
        self.home: MemoryHome = home(DEVICE)
        self.session: Session | None = None
        self.tokens: dict[Session, bool] = {}
        self.processes = [Process(self, 0), Process(self, 1)]
        self.numbers = self.steps = self.faults = self.order = 0
        self.fault_rate, self.mode = profile.fault_rate, ""
        self.crash_rate, self.other_rate = profile.crash_rate, profile.other_rate
        self.lookup_rate, self.feed_rate = profile.lookup_rate, profile.feed_rate
        self.bytes_rate, self.batch_rate = profile.bytes_rate, profile.batch_rate
        self.beforehand_rate = profile.beforehand_rate
        #: Whether the device's clock was ever ahead.
        self.was_ahead = False
        self.belated: list[tuple[Caller, str, bytes, str | None]] = []
        self.backup: State | None = None
        self.cache_copy: tuple[Session, Any] | None = None
        self.trace: list[str] = []
        self.asked: dict[str, Asked] = {}
        self.delivered: dict[str, float] = {}
        #: Every audit event that was ever durable, with its tenant, in their order.
        self.evidence: dict[str, str] = {}
        #: When the list of templates was last as the service has it.
        self.listed: dict[Session, float] = {}
        #: The time to live that the service last told, and when it did.
        self.told: dict[Session, tuple[float, float]] = {}
        self.life: dict[tuple[Session, str], Life] = {}
        #: The lives of the copies that a power cut would bring back.
        self.lives_on_disk: dict[tuple[Session, str], Life] = {}
        #: Lives that may be those of the copies here as well: a power cut brought them back, or a program wrote them
        #: that was asleep while another one fetched the same, into a cache that may be destroyed since.
        self.other_lives: dict[tuple[Session, str], Life] = {}
        self.known_revoked: dict[Session, set[str]] = {}
        self.hold: dict[str, tuple[float, int]] = {}
        #: Every prefetch rule that was ever signed; what a rule named to whom.
        self.rules: set[PrefetchRule] = set()
        self.named: set[tuple[Session, str]] = set()
        #: Documents that ever replaced another one: they come to whoever had that.
        self.replacing: set[str] = set()
        self.template, self.version = self.server.publish("form", DEFINITION)
        self.interloper: Callable[[World], None] = lambda world: None
        #: The next effect of this kind meets the interloper before its first transaction.
        self.ambush: type | None = None

    def close(self) -> None:
        """Take everything apart: what holds itself would wait for the garbage collector, which costs a tenth."""
        self.home.close()
        del self.server.failing
        for process in self.processes:
            process.let_go()
        self.processes.clear()
        del self.time, self.server, self.home

    def next_number(self) -> int:
        """Return a number that nothing else has."""
        self.numbers += 1
        return self.numbers

    def is_alive(self, owner: str) -> bool:
        """Return whether the process that wrote ``owner`` into a lease still runs."""
        return any(process.gen is not None and process.owner == owner for process in self.processes)

    def draw_fault(self, exchange: bool) -> str:
        """Return what spoils an exchange, or a download, or nothing."""
        if self.mode:
            return self.mode
        if self.draw() >= (self.fault_rate if exchange else self.bytes_rate):
            return ""
        menu = self.profile.menu if exchange else self.profile.bytes_menu
        return menu[int(self.draw() * len(menu))]

    def spoiled(self, process: Process, kind: str, path: str) -> None:
        """Count a fault."""
        self.faults += 1
        self.stats["fault " + kind] += 1
        if kind not in HARMLESS and not (path == BATCH and kind in SENT_SINGLY):
            process.spoiled = kind
        self.trace.append(f"!{kind}")

    def happened(self, what: str) -> None:
        """Count a fault that is not of the network."""
        self.faults += 1
        self.stats["fault " + what] += 1
        self.trace.append("!" + what)

    def open(self) -> Any:
        """Open the files of the person who is signed in."""
        assert self.session is not None
        return self.home.open(self.session, self.time)

    def reboot(self) -> None:
        """Restart the device: every program dies, the monotonic clock begins again."""
        for process in self.processes:
            process.die()
        self.boots += 1
        self.booted = self.now
        self.clock_moved()
        self.time = TimeSource(self.time.wall, self.time.monotonic, f"boot-{self.boots}")

    def pass_time(self, seconds: float) -> None:
        """Let time go by everywhere."""
        self.now += seconds
        self.clock_moved()

    def wall(self) -> float:
        """Return what the device's wall clock shows."""
        return self.now + self.skew

    def set_clock(self, skew: float) -> None:
        """Set the device's wall clock this far from true time."""
        self.skew = skew
        self.clock_moved()

    def clock_moved(self) -> None:
        """Tell the files that what they remember of the clock is old."""
        self.home.ticks.count += 1
        self.was_ahead = self.was_ahead or self.skew > 0

    def break_promise(self, text: str) -> NoReturn:
        """Stop the seed: a promise does not hold."""
        raise Broken(text)

    # --- the truth ---

    def remember(self, cmid: str, session: Session, body: bytes, patient: str) -> None:
        """A person was told that a request is queued."""
        self.asked[cmid] = Asked(session, body, patient, self.steps)

    def gave_up(self, cmid: str) -> None:
        """A person was told that a request is given up, or taken back: from here on no program may begin to send it."""
        state, reason = next((row[1], row[3]) for row in self.home.rows(self.open()) if row[0] == cmid)
        asked = self.asked[cmid]
        self.order += 1
        asked.given_up = self.order
        asked.discarded = state == "discarded" and reason != WITHDRAWN

    def retried(self, cmid: str) -> None:
        """A person wants a request sent again, perhaps one that was taken back."""
        self.asked[cmid].given_up = None
        self.hold.pop(cmid, None)

    def wrote(self, tenant: str, number: int) -> None:
        """An audit event is durable."""
        self.evidence[f"evt_{number:026d}"] = tenant

    def reached_the_disk(self, session: Session) -> None:
        """A commit of a cache outlives a power cut from here on, and so does all before it."""
        if self.cache_copy is not None and self.cache_copy[0] == session:
            copied = self.home.copy_cache(session)
            self.cache_copy = None if copied is None else (session, copied)
            self.lives_on_disk = dict(self.life)

    def forget_cache(self, session: Session) -> None:
        """A cache was destroyed: nothing of it may be readable, whatever was known about it."""
        self.known_revoked.pop(session, None)
        self.listed.pop(session, None)
        self.told.pop(session, None)
        if self.cache_copy is not None and self.cache_copy[0] == session:
            self.cache_copy = None
        for key in [key for key in self.life if key[0] == session]:
            del self.life[key]

    def set_rule(self, rule: Rule | None) -> None:
        """Let the tenant's policy say what comes beforehand."""
        self.server.policy = {**self.server.policy, "prefetch": rule}
        if rule is not None:
            self.rules.add(PrefetchRule(tuple(rule["categories"]), rule["days"], rule["maxBytes"]))

    def refresh_version(self) -> None:
        """After a restore: people ask with a form that the service still has."""
        if self.version not in self.server.state.versions:
            self.template, self.version = next((v["templateId"], i) for i, v in self.server.state.versions.items())

    def would_refuse(self, cmid: str) -> bool:
        """Return whether the service, as it is now, refuses a request for a reason of its own."""
        asked = self.asked[cmid]
        return self.server.refuses(Caller(*asked.session), asked.body)


class Process:
    """A program that syncs: one run of the engine at a time, advanced effect by effect."""

    __deletable__ = ("disk", "cycle")

    def __init__(self, world: World, number: int) -> None:
        """Begin idle."""
        self.world, self.number = world, number
        self.gen: Any = None
        self.owner = ""
        self.runs = 0
        self.claimed: dict[str, int] = {}
        self.point, self.plan, self.what, self.met = 0, -1, "", False
        self.spoiled = self.must_stop = ""
        self.silent = self.failing = self.effect_step = self.before_step = 0
        self.outcome: Any = None
        self.planned: frozenset[str] = frozenset()
        #: True time at which the service gave its last answer.
        self.heard_at = START
        #: What the run wants for people's sake, what it asked for, and what a prefetch may not push out.
        self.to_fetch: list[str] | None = None
        self.asked_urls: set[str] = set()
        self.was_refused = False
        self.fetch_step = -1
        self.own_held: tuple[str, ...] = ()

    def hook(self) -> None:
        """Stand before a transaction, or before and after an exchange: what was planned happens here."""
        self.point += 1
        if self.point == self.plan:
            self.act()

    def act(self) -> None:
        """Let happen what was planned for this moment."""
        self.plan, self.met = -1, True
        what, world = self.what, self.world
        if what == "crash":
            raise Crash
        if what == "full":
            world.happened("disk full")
            raise StorageFull
        world.stats["somebody else in the middle"] += 1
        # What the others do has its own crashes; this process goes on afterwards.
        point, world.other_rate = self.point, 0.0
        world.interloper(world)
        self.point, world.other_rate = point, world.profile.other_rate
        if self.gen is None:
            # The device was restarted meanwhile.
            raise Crash

    def start(self, eager: bool, budget: int | None = None) -> None:
        """Begin a run as the person who is signed in."""
        world = self.world
        assert world.session is not None
        self.runs += 1
        self.owner = f"{self.number}:{self.runs}"
        self.session = world.session
        self.caller = Caller(*world.session)
        self.account = world.open()
        self.disk = world.home.disk(self, self.account, self.owner, eager)
        self.cycle = Cycle(self.disk.now, world.draw, budget, batching=world.profile.batching)
        self.gen = run_cycle(self.cycle)
        self.outcome = None
        self.spoiled = self.must_stop = ""
        self.silent = self.failing = self.effect_step = self.before_step = 0
        beforehand.begin(self)
        self.began_at, self.feed_then = world.now, (world.server.restores, len(world.server.state.feed))
        self.eager = eager

    def die(self) -> None:
        """End at once, as by kill -9."""
        self.gen = None

    def let_go(self) -> None:
        """Hold nothing that holds this program."""
        self.gen = None
        if self.runs:
            del self.disk, self.cycle

    def held(self, document_id: str) -> bytes | None:
        """Return a document's bytes in the cache of this run."""
        return self.world.home.held(self.account, document_id)

    def refresh_token(self) -> bool:
        """Get a new token if the issuer is in a mood for it."""
        fresh = self.world.draw() < 0.5
        if fresh:
            self.world.tokens[self.session] = True
        return fresh

    def run(self, effects: int) -> bool:
        """Advance by some effects; True when the run has ended."""
        world, draw, trace = self.world, self.world.draw, self.world.trace
        effect: Any = None
        try:
            for _ in range(effects):
                if self.gen is None:
                    return True
                effect = self.gen.send(self.outcome)
                kind = effect.__class__
                self.before_step = self.effect_step
                self.effect_step = world.steps = world.steps + 1
                trace.append(kind.__name__)
                self.point, self.plan, self.met = 0, -1, False
                if kind is world.ambush:
                    self.plan, self.what, world.ambush = 1, "other", None
                elif world.crash_rate:
                    often = (_RARE_BEFOREHAND if self.planned else _RARE).get(kind, 1.0)
                    if draw() < min(world.crash_rate * often, MOST_OFTEN):
                        self._make_plan(draw())
                if kind is fx.ApplyPage:
                    promises.before_page(self, effect)
                self.outcome = self.disk.perform(effect)
                if kind in _WATCHED:
                    _WATCHED[kind](self, effect, self.outcome)
                if self.plan > 0 and self.what == "crash":
                    # It was planned behind the last transaction of this effect.
                    self.point += 1
                    raise Crash
        except StopIteration:
            self.gen = None
            world.stats["stopped " + (self.cycle.report.stopped or "-")] += 1
            return True
        except Crash:
            kind = effect.__class__
            name = kind.__name__ + (" beforehand" if self.planned and kind in _RARE_BEFOREHAND else "")
            world.happened("crash")
            world.stats[f"crash {name} {self.point}"] += 1
            self.die()
            return True
        except (LeaseLost, StorageFull) as failure:
            trace.append(type(failure).__name__)
            world.stats[type(failure).__name__] += 1
            self.die()
            self.disk.release()
            return True
        except ClientError as failure:
            raise Broken(f"the run ended by {failure!r}") from failure
        return False

    def _make_plan(self, dice: float) -> None:
        self.plan = 1 + int(self.world.draw() * 4)
        self.what = "crash" if dice < 0.7 or not self.world.other_rate else "full" if dice < 0.8 else "other"

    def finish(self) -> None:
        """Run to the end."""
        for _ in range(40):
            if self.run(50):
                return
        raise Broken("the run does not end")


#: Some effects must go well now and then, or nothing behind them is ever met.
MOST_OFTEN = 0.6
#: Effects that a run seldom comes to are died in more often, so that every crash point is met.
_RARE: dict[type, float] = {
    fx.SettleLookup: 12.0,
    fx.StartFeedAgain: 12.0,
    fx.FailDelivery: 40.0,
    fx.DropParts: 40.0,
    fx.MarkEvents: 20.0,
    fx.PostSigned: 20.0,
    fx.PurgeCopies: 12.0,
    fx.Quarantine: 8.0,
    fx.Renew: 40.0,
    fx.Fetch: 6.0,
    fx.Complete: 6.0,
    fx.RefreshToken: 6.0,
    fx.Postpone: 4.0,
    fx.PutBack: 4.0,
    fx.SaveEpoch: 3.0,
    fx.SaveTemplates: 3.0,
    fx.SaveVersion: 3.0,
    # The most frequent ones would take most of the deaths.
    fx.Claim: 0.4,
    fx.BeginRun: 0.5,
    fx.ReadWithdrawn: 0.2,
    fx.ReadCursor: 0.4,
}
#: The same in the prefetch at the end of a run, which few runs come to.
_RARE_BEFOREHAND: dict[type, float] = {
    fx.CountDue: 2.0,
    fx.Post: 6.0,
    fx.Fetch: 8.0,
    fx.Complete: 12.0,
    fx.Renew: 40.0,
    fx.DropParts: 40.0,
    fx.FailDelivery: 40.0,
    fx.RefreshToken: 30.0,
}
_WATCHED: dict[type, Callable[[Process, Any, Any], None]] = {
    fx.Acknowledge: promises.after_acknowledge,
    fx.Claim: promises.after_claim,
    fx.Quarantine: promises.after_write,
    fx.Reconcile: promises.after_write,
    fx.SettleLookup: promises.after_write,
    fx.Complete: promises.after_complete,
    fx.Renew: promises.after_renew,
    fx.ApplyPage: promises.after_page,
    fx.SaveTemplates: promises.after_list,
    fx.PurgeCopies: promises.after_purge,
    fx.EndRun: promises.after_run,
    fx.ReadWanted: beforehand.after_wanted,
    fx.ReadBeforehand: beforehand.after_plan,
    fx.Fetch: beforehand.after_fetch,
    fx.Post: promises.after_post,
    fx.Postpone: promises.after_postpone,
}
