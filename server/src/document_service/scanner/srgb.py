"""The colours of a page: an sRGB profile in version 2 of ICC.1, the only version that PDF/A-1 knows.

Little CMS, which Pillow brings, makes version 4; so the profile is written out here (ICC.1:2001-04, IEC 61966-2-1).
"""

from __future__ import annotations

import struct
from typing import Final

# The primaries of sRGB as X, Y, Z, adapted to the white of ICC profiles, D50, by the Bradford method.
_PRIMARIES: Final = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.06061, 0.71410),
}
_WHITE: Final = (0.9642, 1.0, 0.8249)
_NAME: Final = b"sRGB IEC61966-2.1"
_STEPS: Final = 1024  # Of the tone curve; its first steps are then exact to one of 65,535.


def profile() -> bytes:
    """Return the profile; the same bytes each time."""
    curve = b"curv" + bytes(4) + struct.pack(">I", _STEPS)
    curve += b"".join(struct.pack(">H", round(_linear(step / (_STEPS - 1)) * 65535)) for step in range(_STEPS))
    text = b"desc" + bytes(4) + struct.pack(">I", len(_NAME) + 1) + _NAME + b"\x00" + bytes(4 + 4 + 2 + 1 + 67)
    tags = {b"desc": text, b"cprt": b"text" + bytes(4) + b"Public domain\x00", b"wtpt": _xyz(_WHITE)}
    tags |= {name: _xyz(values) for name, values in _PRIMARIES.items()}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    places: dict[bytes, int] = {}
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        # The three curves are one.
        if content not in places:
            body += bytes(-len(body) % 4)
            places[content] = start + len(body)
            body += content
        table += name + struct.pack(">II", places[content], len(content))
    body += bytes(-len(body) % 4)
    size = start + len(body)
    header = struct.pack(">I4xI4s4s4s", size, 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp"
    header += bytes(28) + _fixed(_WHITE)
    return header.ljust(128, b"\x00") + struct.pack(">I", len(tags)) + table + body


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _fixed(values: tuple[float, float, float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)
