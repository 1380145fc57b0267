"""The audit outbox through losses, recoveries and restores in any order: no record is lost, none counts twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from document_client import audit
from document_client.audit import Happening
from document_client.clock import Reading
from document_client.localdb import transaction

HOUR = 3600.0


class Clinic:
    """A device, its outbox in use, those that were set aside, and a service that can be put back to a backup."""

    def __init__(self) -> None:
        self.now = 1_780_000_000.0
        self.devices = self.written = self.arrivals = 0
        self.outboxes = [self.new()]
        self.aside: list[apsw.Connection] = []
        self.known: dict[str, dict[str, Any]] = {}
        self.backup: dict[str, dict[str, Any]] = {}
        self.ids: list[str] = []
        self.asleep: tuple[apsw.Connection, list[tuple[str, str]], int] = (self.outbox, [], 0)

    def new(self) -> apsw.Connection:
        conn = apsw.Connection(":memory:")
        for script in audit.SCHEMA:
            conn.execute(script)
        return conn

    @property
    def outbox(self) -> apsw.Connection:
        return self.outboxes[-1]

    def write(self) -> None:
        """Somebody opens a document, or prints one."""
        self.now += HOUR
        self.written += 1
        copy = audit.count_copies(self.outbox, "doc_1") + 1 if self.written % 3 == 0 else None
        happening = Happening("print.intent" if copy else "document.opened", "nurse", "doc_1", "0" * 64, copy)
        reading = Reading(self.now, self.now, "verified", self.now, self.now)
        self.ids.append(f"evt_{self.written}")
        with transaction(self.outbox):
            audit.record(self.outbox, self.ids[-1], f"dev_{self.devices}", happening, reading)

    def take(self) -> list[tuple[str, str]]:
        """The service takes what waits."""
        results = []
        for sent in audit.read_pending(self.outbox):
            event = {name: value for name, value in sent.items() if name != "recovered"}
            assert audit.hash_event(event) == event["hash"]
            result = "duplicate" if event["eventId"] in self.known else "accepted"
            self.known.setdefault(event["eventId"], event)
            results.append((event["eventId"], result))
        return results

    def send(self) -> None:
        while results := self.take():
            with transaction(self.outbox):
                audit.mark(self.outbox, results, audit.read_offer(self.outbox)[0])

    def send_and_hear_nothing(self) -> None:
        self.take()

    def send_and_fall_asleep(self) -> None:
        """A program has its answer, and does not come to write it down."""
        offer, _ = audit.read_offer(self.outbox)
        self.asleep = (self.outbox, self.take(), offer)

    def wake_up(self) -> None:
        outbox, results, offer = self.asleep
        with transaction(outbox):
            audit.mark(outbox, results, offer)

    def lose(self) -> None:
        """The outbox cannot be read any more; the device keeps its keys."""
        self.aside.append(self.outbox)
        self.outboxes.append(self.new())

    def lose_everything(self) -> None:
        """The keys are lost with it: the device is another one for the service."""
        self.lose()
        self.devices += 1

    def recover(self) -> None:
        """What was set aside comes back, some of it for the second time."""
        for old in self.aside:
            rows = [audit.read_row(old, number) for (number,) in old.execute("SELECT sequence FROM events").fetchall()]
            with transaction(self.outbox):
                audit.take_back(self.outbox, [row for row in rows if row is not None])

    def keep_backup(self) -> None:
        self.backup = dict(self.known)

    def restore(self) -> None:
        """The service is put back; the device notices it by the epoch."""
        self.known = dict(self.backup)
        with transaction(self.outbox):
            audit.offer_again(self.outbox)

    def purge(self) -> None:
        """What was sent long ago goes."""
        with transaction(self.outbox):
            audit.purge_sent(self.outbox, self.now, self.now)


MOVES: list[Callable[[Clinic], None]] = [
    *(Clinic.write, Clinic.write, Clinic.send, Clinic.send_and_hear_nothing, Clinic.lose, Clinic.lose_everything),
    *(Clinic.send_and_fall_asleep, Clinic.wake_up),
    *(Clinic.recover, Clinic.keep_backup, Clinic.restore, Clinic.purge),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(MOVES), min_size=5, max_size=40))
def test_no_record_is_lost_and_none_counts_twice(moves: list[Callable[[Clinic], None]]) -> None:
    clinic = Clinic()
    for move in moves:
        move(clinic)
    clinic.recover()
    clinic.send()
    assert set(clinic.known) == set(clinic.ids)
    kept = audit.read_all(clinic.outbox)
    assert len({event["eventId"] for event in kept}) == len(kept)
    # Copies are counted over all that came back, and the chain in use is whole: it begins anew and names no other.
    assert audit.count_copies(clinic.outbox, "doc_1") >= max((event.get("copy") or 0 for event in kept), default=0)
    own = clinic.outbox.execute("SELECT event FROM events WHERE sequence > 0 ORDER BY sequence").fetchall()
    clinic.write()
    last = audit.read_all(clinic.outbox)[-1]
    assert last["sequence"] == len(own) + 1
    assert last["previousHash"] == (audit.read_all(clinic.outbox)[-2]["hash"] if own else audit.FIRST_HASH)


def test_what_came_back_is_marked_and_keeps_its_hash_and_its_order() -> None:
    clinic = Clinic()
    for _ in range(4):
        clinic.write()
    clinic.lose_everything()
    clinic.write()
    clinic.recover()
    sent = audit.read_pending(clinic.outbox)
    assert [event["eventId"] for event in sent] == [*clinic.ids[:4], clinic.ids[4]]
    assert [event.pop("recovered", False) for event in sent] == [True] * 4 + [False]
    assert [(event["deviceId"], event["sequence"]) for event in sent] == [
        *(("dev_0", number) for number in (1, 2, 3, 4)),
        ("dev_1", 1),
    ]
    assert all(audit.hash_event(event) == event["hash"] for event in sent)
    clinic.recover()
    assert len(audit.read_all(clinic.outbox)) == 5
