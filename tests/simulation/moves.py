"""The moves of a schedule: what people do, what the service does, what the machine does. One function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from document_client.clock import to_text

from . import promises
from .server import DEFINITION, Rule

if TYPE_CHECKING:
    from .world import World

HOUR, DAY = 3600.0, 86_400.0
#: More requests make a seed longer, not deeper.
MOST_REQUESTS = 8
PATIENTS = ("p1", "p2", "p3")
#: More documents of colleagues make the feed longer, not the seed deeper.
MOST_MADE = 60
CATEGORIES = ("prescription", "prescription", "letter")
#: One document has nearly three hundred bytes.
RULES = (
    None,
    Rule(categories=["prescription"], days=3, maxBytes=10**6),
    Rule(categories=["prescription"], days=30, maxBytes=700),
    Rule(categories=[], days=30, maxBytes=1000),
    Rule(categories=[], days=7, maxBytes=10**6),
    Rule(categories=["letter"], days=365, maxBytes=300),
)
MODES = ("offline", "portal 200", "tls", "503", "500", "401", "429", "gateway 502", "lost answer")


def pick(world: World, options: Any) -> Any:
    """Return one of the options."""
    return options[int(world.draw() * len(options))]


# --- People ---------------------------------------------------------------------------------------------------


def ask(world: World, replaces: str | None = None) -> None:
    """Somebody asks for a document; from here on it must not be lost."""
    session = world.session
    if session is None:
        return sign_in(world)
    if len(world.asked) >= MOST_REQUESTS and replaces is None:
        return None
    account = world.open()
    cmid, patient = f"c{world.next_number()}", pick(world, PATIENTS)
    body = (
        f'{{"clientMutationId":"{cmid}","templateVersionId":"{world.version}","patientId":"{patient}",'
        f'"inputs":{{}},"locale":"en","requestedAt":"{to_text(account.clock().now)}"}}'
    ).encode()
    world.home.ask(account, cmid, body, world.version, patient, replaces)
    world.remember(cmid, session, body, patient)
    return None


def attend(world: World) -> None:
    """Somebody looks at what needs attention and decides."""
    if world.session is None:
        return
    account = world.open()
    waiting = [row for row in world.home.rows(account) if row[1] in ("quarantined", "failed")]
    if not waiting:
        return
    cmid = pick(world, waiting)[0]
    dice = world.draw()
    if dice < 0.6:
        world.retried(cmid)
        world.home.retry(account, cmid)
    elif dice < 0.8:
        ask(world, replaces=cmid)
        world.gave_up(cmid)
    else:
        _give_up(world, account, cmid)


def _give_up(world: World, account: Any, cmid: str) -> None:
    assert world.session is not None
    number = world.next_number()
    world.home.record(account, number, "request.discarded", client_mutation_id=cmid)
    world.wrote(world.session[0], number)
    if world.draw() < 0.1:
        # The command dies between the event and the deed.
        return
    world.home.discard(account, cmid)
    world.gave_up(cmid)


def take_back(world: World, cmid: str | None = None) -> None:
    """Somebody notices in time, or not, that a request is wrong: what waits or is being sent is taken back."""
    if world.session is None:
        return
    account = world.open()
    waiting = [row[0] for row in world.home.rows(account) if row[1] in ("queued", "sending")]
    if not waiting or (cmid is not None and cmid not in waiting):
        return
    cmid = cmid or pick(world, waiting)
    if world.draw() < 0.2:
        ask(world, replaces=cmid)
        world.gave_up(cmid)
    else:
        _give_up(world, account, cmid)


def look(world: World) -> None:
    """Somebody reads the status and the lists."""
    promises.look(world)


def open_document(world: World) -> None:
    """Somebody opens a document, or asks for one that is not here."""
    if world.session is None:
        return
    account = world.open()
    readable = world.home.readable(account)
    if not readable:
        for document_id, _ in world.home.owners(account)[:1]:
            world.home.want(account, document_id)
        return
    document_id = pick(world, sorted(readable))
    number = world.next_number()
    world.home.record(account, number, "document.opened", document_id=document_id, document_sha256="0" * 64)
    world.wrote(world.session[0], number)
    world.home.mark_opened(account, document_id)


def print_document(world: World) -> None:
    """Somebody prints: the intent is durable first; the program may die before the outcome is written."""
    if world.session is None:
        return
    account = world.open()
    for document_id in sorted(world.home.readable(account))[:1]:
        for action in ("print.intent", "print.submitted"):
            number = world.next_number()
            world.home.record(
                account, number, action, document_id=document_id, document_sha256="0" * 64, copy=1, printer="p"
            )
            world.wrote(world.session[0], number)
            if world.draw() < 0.2:
                return


def sign_in(world: World) -> None:
    """Somebody signs in; a person who was here before needs no connection."""
    world.session = pick(world, world.profile.users)
    world.tokens[world.session] = True
    world.open()


def sign_out(world: World) -> None:
    """Somebody signs out in the middle of whatever runs; what is pending stays sealed, or is given up."""
    if world.session is None:
        return sign_in(world)
    account, session = world.open(), world.session
    waiting = [r for r in world.home.rows(account) if r[1] in ("queued", "sending", "quarantined", "failed")]
    world.home.stop_drain(account)
    if waiting and world.draw() < 0.1:
        for cmid, *_ in waiting:
            number = world.next_number()
            world.home.record(account, number, "request.discarded", client_mutation_id=cmid)
            world.wrote(world.session[0], number)
            world.home.discard(account, cmid)
            world.gave_up(cmid)
    world.home.drop_cache(session)
    world.forget_cache(session)
    world.session = None
    if any(p.gen is not None for p in world.processes):
        world.happened("signed out in mid-drain")
    return None


def switch(world: World) -> None:
    """Another person takes the device over."""
    sign_out(world)
    sign_in(world)


# --- The machine ----------------------------------------------------------------------------------------------


def run(world: World) -> None:
    """A program syncs, or goes on syncing, for some effects."""
    if world.session is None:
        return sign_in(world)
    process = world.processes[world.draw() < 0.25]
    if process.gen is None:
        process.start(eager=world.draw() < 0.7, budget=300 if world.draw() < 0.05 else None)
    process.run(4 + int(world.draw() * 26))
    return None


def run_other(world: World) -> None:
    """Another program runs while the first is in the middle of something; some of these times the first slept."""
    if world.session is None:
        return
    if world.draw() < 0.5:
        world.pass_time(200.0)
        world.happened("slept beyond the lease")
    for process in world.processes:
        if process.gen is None:
            process.start(eager=True)
            process.run(25)
            return


def sleep(world: World) -> None:
    """A program sleeps (a closed lid) beyond its lease; the clock goes on."""
    if any(p.gen is not None for p in world.processes):
        world.happened("slept beyond the lease")
    world.pass_time(200.0)


def time(world: World) -> None:
    """Time goes by."""
    world.pass_time(pick(world, (1.0, 2.0, 20.0, 70.0, 400.0, HOUR, 8 * HOUR, DAY, 3 * DAY, 6 * DAY, 15 * DAY)))


def clock(world: World) -> None:
    """Somebody sets the device's clock, wrongly or right."""
    world.set_clock(pick(world, (0.0, 0.0, -HOUR, HOUR, -3 * DAY, 3 * DAY, -30 * DAY, 30 * DAY, -400 * DAY, 400 * DAY)))
    world.happened("clock set")


def reboot(world: World) -> None:
    """The device restarts."""
    world.happened("reboot")
    world.reboot()


def lose_cache(world: World) -> None:
    """The cache is damaged: it is deleted and fetched again."""
    if world.session is not None:
        world.happened("cache lost")
        world.home.drop_cache(world.session)
        world.forget_cache(world.session)


def power_copy(world: World) -> None:
    """From here on the cache's commits are not on the disk yet."""
    if world.session is not None:
        copied = world.home.copy_cache(world.session)
        if copied is not None:
            world.cache_copy = (world.session, copied)
            world.lives_on_disk = dict(world.life)


def power_cut(world: World) -> None:
    """The power fails: the cache's last commits are gone, those of queue and outbox are not."""
    if world.cache_copy is None or world.cache_copy[0] != world.session:
        return
    world.happened("power cut")
    world.home.put_cache(*world.cache_copy)
    world.known_revoked.pop(world.cache_copy[0], None)
    world.told.pop(world.cache_copy[0], None)
    world.other_lives.update(world.lives_on_disk)
    world.cache_copy = None
    world.reboot()


# --- The network and the service ------------------------------------------------------------------------------


def mode(world: World) -> None:
    """From here on every exchange ends the same way."""
    world.mode = pick(world, MODES)


def mend_mode(world: World) -> None:
    """The network works again, more or less."""
    world.mode = ""


def backup(world: World) -> None:
    """The service is backed up."""
    world.backup = world.server.snapshot()


def restore(world: World) -> None:
    """The service is restored from its last backup and takes a new epoch."""
    if world.backup is None:
        return backup(world)
    world.happened("restore")
    _put_back(world)
    world.server.renew_epoch()
    return None


def restore_unnoticed(world: World) -> None:
    """Database and store are put back to one moment; the epoch stays until a device or a person says so."""
    if world.backup is None:
        return backup(world)
    world.happened("restore unnoticed")
    _put_back(world)
    return None


def _put_back(world: World) -> None:
    assert world.backup is not None
    world.server.put_back(world.backup)
    for known in world.known_revoked.values():
        known.intersection_update(i for _, i, _ in world.server.state.revocations)
    world.hold.clear()
    world.refresh_version()


def announce(world: World) -> None:
    """Somebody tells the service that it was restored."""
    if world.server.unnoticed:
        world.server.renew_epoch()


def revoke(world: World) -> None:
    """A document is withdrawn."""
    current = [i for i, d in world.server.state.documents.items() if d["status"] == "current"]
    if current:
        world.server.revoke(pick(world, current), "entered in error")


def retire(world: World) -> None:
    """The form goes out of use; another one comes."""
    world.server.retire(world.template)
    world.happened("form retired")
    if world.draw() < 0.7:
        publish(world)


def publish(world: World) -> None:
    """Another form is published."""
    if world.server.state.counter < 40:
        world.template, world.version = world.server.publish("form", DEFINITION)


def work(world: World) -> None:
    """The service renders what waits."""
    world.server.work()


def lazy_server(world: World) -> None:
    """From here on the service renders later, or at once again."""
    world.server.renders_at_once = not world.server.renders_at_once


def break_patient(world: World) -> None:
    """From here on a patient's documents cannot be made."""
    world.server.broken_patients.add(pick(world, PATIENTS))


def mend_patient(world: World) -> None:
    """The patients' records are mended."""
    world.server.broken_patients.clear()


def token(world: World) -> None:
    """The session's token expires, or there is a new one."""
    if world.session is not None:
        world.tokens[world.session] = not world.tokens.get(world.session, False)


def policy(world: World) -> None:
    """The tenant changes how long copies may be read."""
    world.server.policy = dict(world.server.policy)
    world.server.policy["cacheTtlSeconds"] = pick(world, (HOUR, DAY, 7 * DAY, 30 * DAY))
    world.server.policy["quotaBytes"] = pick(world, (300, 700, 10**6, 10**6, 10**6))
    world.server.policy["onExpiry"] = pick(world, ("hide", "delete"))


def rule(world: World) -> None:
    """The tenant says what comes to devices before anybody asks, or that nothing does."""
    world.set_rule(pick(world, RULES))


def colleague(world: World) -> None:
    """Somebody makes a document at another device, of a category and an age that the rule may name."""
    tenant = "other" if world.draw() < 0.1 else world.profile.users[0][0]
    category, age = pick(world, CATEGORIES), pick(world, (0.0, 0.0, DAY, 2 * DAY, 6 * DAY, 40 * DAY))
    if world.server.state.counter < MOST_MADE:
        world.server.make_elsewhere(tenant, world.version, f"o{world.next_number()}", category, age)


def replace(world: World) -> None:
    """A document is replaced by a newer one."""
    documents = world.server.state.documents.items()
    current = [(i, d["_tenant"]) for i, d in documents if d["status"] == "current"]
    if len(current) > 1:
        old, tenant = pick(world, current[:-1])
        newer = [i for i, owner in current if i > old and owner == tenant]
        if newer:
            by = pick(world, newer)
            world.replacing.add(by)
            world.server.revoke(old, "superseded", by)


def device_revoked(world: World) -> None:
    """The device is revoked: its copies must go at its next contact."""
    world.server.device_revoked = True


def device_trusted(world: World) -> None:
    """The device is enrolled again."""
    world.server.device_revoked = False


def belated(world: World) -> None:
    """What was sent long ago arrives once more."""
    for caller, path, content, cmid in world.belated:
        world.server.answer(caller, "POST", path, content, cmid)
    world.belated.clear()


def interlope(world: World) -> None:
    """Somebody does something in the middle of an effect of a program that runs."""
    pick(world, _INTERLOPERS_OF_A_WARD if world.profile.beforehand_rate else _INTERLOPERS)(world)


_INTERLOPERS: tuple[Callable[[World], None], ...] = (
    *(ask, ask, take_back, attend, look, open_document, switch, run_other, run_other, token, revoke, work),
    *(clock, restore, lose_cache, device_revoked, policy),
)
_INTERLOPERS_OF_A_WARD = (*_INTERLOPERS, rule, colleague, replace)
MOVES: dict[str, Callable[[World], None]] = {
    "ask": ask,
    "attend": attend,
    "take_back": take_back,
    "look": look,
    "open": open_document,
    "print": print_document,
    "switch": switch,
    "sign_out": sign_out,
    "run": run,
    "sleep": sleep,
    "time": time,
    "clock": clock,
    "reboot": reboot,
    "lose_cache": lose_cache,
    "power_copy": power_copy,
    "power_cut": power_cut,
    "mode": mode,
    "mend_mode": mend_mode,
    "backup": backup,
    "restore": restore,
    "restore_unnoticed": restore_unnoticed,
    "announce": announce,
    "revoke": revoke,
    "retire": retire,
    "publish": publish,
    "work": work,
    "lazy_server": lazy_server,
    "break_patient": break_patient,
    "mend_patient": mend_patient,
    "token": token,
    "policy": policy,
    "rule": rule,
    "colleague": colleague,
    "replace": replace,
    "device_revoked": device_revoked,
    "device_trusted": device_trusted,
    "belated": belated,
}
__all__ = ["MOVES", "interlope"]
