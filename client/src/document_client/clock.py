"""What time it is, when the device's own clock cannot be trusted (contract §4).

Now = max(wall, last authenticated server time + monotonic elapsed, highest seen since that contact). Each contact
resets the highest, so one slip of the clock does not expire a clinic for ever. A clock set back is shown as suspect
and never extends a life. Where no contact of this boot counts the time, the highest seen goes on with the monotonic
clock, for a device that starts in 1970 each time would otherwise keep its copies for ever. All instants here are
seconds since 1970 (UTC) as floats.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

Confidence = Literal["verified", "unverified", "suspect"]

# The highest time seen is remembered at this grain: writing it on every command would wear flash memory for nothing.
HIGHEST_GRAIN_SECONDS = 5.0

# Ordinary clocks drift by seconds a day; more than five minutes behind is a clock that was set back.
SUSPECT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class TimeSource:
    """Where time is read: the wall clock, a clock that only goes forward, and an id of the boot it counts from."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]
    boot: str


@dataclass(frozen=True, slots=True)
class Contact:
    """The last authenticated server time, and the monotonic reading of the boot that belongs to it."""

    server_time: float
    monotonic: float
    boot: str


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest time seen since the last contact (ever, without one), and the monotonic reading taken with it."""

    time: float
    monotonic: float
    boot: str


NEVER = Highest(0.0, 0.0, "")


@dataclass(frozen=True, slots=True)
class Reading:
    """Now, the server's own time when it was last heard (None before any contact), and how sure now is.

    ``estimate`` is the server's time at this moment, counted from a contact in this boot; without one it is ``now``.
    Bytes are deleted by it: a wall clock that is ahead must not destroy. ``birth`` is when a life that begins now
    begins: ``estimate``, or the server's last word when the device was restarted since; it is never later than the
    server's time, for a life that begins in the future is too long.
    """

    now: float
    confirmed: float | None
    confidence: Confidence
    estimate: float
    birth: float


def system_time() -> TimeSource:
    """Return the machine's clocks; the boot id makes monotonic readings comparable between processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return TimeSource(time.time, _seconds_since_boot, boot)


def _seconds_since_boot() -> float:
    """Return seconds since boot; CLOCK_BOOTTIME also counts while the device sleeps, where the system has it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def read_clock(source: TimeSource, contact: Contact | None, highest: Highest) -> Reading:
    """Return now by the rule of contract §4."""
    wall = source.wall()
    if contact is None:
        now = max(wall, _go_on(source, highest))
        return Reading(now, None, "suspect" if wall < now - SUSPECT_SECONDS else "unverified", now, now)
    elapsed = source.monotonic() - contact.monotonic
    same_boot = bool(source.boot) and contact.boot == source.boot and elapsed >= 0
    estimate = contact.server_time + (elapsed if same_boot else 0.0)
    floor = max(estimate, highest.time if same_boot else _go_on(source, highest))
    confidence: Confidence = "unverified"
    if wall < floor - SUSPECT_SECONDS:
        confidence = "suspect"
    elif same_boot and wall <= estimate + SUSPECT_SECONDS:
        confidence = "verified"
    now = max(wall, floor)
    return Reading(now, contact.server_time, confidence, estimate if same_boot else now, estimate)


def _go_on(source: TimeSource, highest: Highest) -> float:
    """Return the highest time seen with what went by since, where the same boot can tell."""
    same_boot = bool(source.boot) and highest.boot == source.boot
    return highest.time + (max(source.monotonic() - highest.monotonic, 0.0) if same_boot else 0.0)


def see(source: TimeSource, now: float, highest: Highest) -> Highest | None:
    """Return what to remember as the highest time when it is ``now``, or None when that is little news."""
    if now <= highest.time + HIGHEST_GRAIN_SECONDS and source.boot == highest.boot:
        return None
    return Highest(now, source.monotonic(), source.boot)


def make_contact(
    source: TimeSource,
    server_time: float,
    before: Contact | None = None,
    asked: float | None = None,
    heard: float | None = None,
) -> tuple[Contact, Highest]:
    """Return the contact for a server time received, and the highest that starts again from it.

    ``asked`` is the monotonic reading when the question left (None: unknown), ``heard`` the one when its answer was
    here, ``before`` the contact so far. What went by since the answer is added, asleep or not. A device that slept
    between the question and its answer may have an answer from before its sleep: as far as the time since the question
    allows, the time counted so far is then believed, for a contact must not take the sleep out of every life.
    """
    monotonic = source.monotonic()
    counted = server_time + (max(monotonic - heard, 0.0) if heard is not None else 0.0)
    if before is not None and source.boot and before.boot == source.boot:
        longest = monotonic - asked if asked is not None else math.inf
        so_far = before.server_time + monotonic - before.monotonic
        counted = max(counted, min(so_far, server_time + longest))
    contact = Contact(server_time, monotonic - (counted - server_time), source.boot)
    return contact, Highest(counted, monotonic, source.boot)


def to_text(seconds: float) -> str:
    """Return an instant as RFC 3339 UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_text(text: str) -> float:
    """Return the instant of an RFC 3339 text; raises ValueError when it is none or has no zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return moment.timestamp()
