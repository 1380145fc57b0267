"""The bytes of one download between the socket and the disk: gathered, and stored piece by piece."""

from __future__ import annotations

from collections.abc import Callable

# Written to the disk piece by piece: at 64 kbit/s a cut loses at most eight seconds of work.
PART_BYTES = 64 * 1024


class Pieces:
    """Gathers what a socket gives and hands it to ``store(start, bytes)`` in parts of ``PART_BYTES`` or more."""

    def __init__(self, offset: int, store: Callable[[int, bytes], None]) -> None:
        """Expect the byte at ``offset`` next."""
        self._begin = offset
        self._waiting = bytearray()
        self._store = store

    def keep(self, start: int, piece: bytes) -> None:
        """Take what begins at ``start``; anywhere but behind the last byte, the server began again from there."""
        if start != self._begin + len(self._waiting):
            self._waiting.clear()
            self._begin = start
        self._waiting.extend(piece)
        if len(self._waiting) >= PART_BYTES:
            self.write()

    def write(self) -> None:
        """Store what is waiting."""
        if self._waiting:
            self._store(self._begin, bytes(self._waiting))
            self._begin += len(self._waiting)
            self._waiting.clear()
