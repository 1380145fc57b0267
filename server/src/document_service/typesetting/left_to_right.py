"""A page on which nothing runs from right to left needs no isolates.

Every value comes isolated, so that no neighbour can reorder it (decision 12). The engine shapes each isolate's ends and
its inside as three runs, which is 6 % of a page. Where a left-to-right page has no letter or number of a right-to-left
script at all, and no control that asks for that direction, the bidirectional algorithm gives every character level 0,
isolated or not (UAX #9, W7 and N1): the same letters in the same places.
"""

from __future__ import annotations

# In UTF-8 every character of a right-to-left script (U+0590…U+08FF, U+FB1D…U+FEFF, U+10800…U+1EFFF) begins with one of
# these bytes; so do some others, whose pages keep their isolates.
_MAY_RUN_LEFT = frozenset({*range(0xD6, 0xE1), 0xEF, *range(0xF0, 0xF8)})
_OTHER_BYTES = bytes(set(range(256)) - _MAY_RUN_LEFT)

# Left-to-right isolate, first-strong isolate, and their end.
_ISOLATES = ("\u2066", "\u2068", "\u2069")
# Mark, embedding, override and isolate that ask for right to left; the Arabic letter mark is of the bytes above.
_CONTROLS = ("\u200f", "\u202b", "\u202e", "\u2067")


def without_isolates(page: str, direction: str) -> str:
    """The JSON of a page model, without isolates where that changes nothing; ``direction`` is that of the page."""
    if direction != "ltr" or any(control in page for control in _CONTROLS):
        return page
    bare = page
    for isolate in _ISOLATES:
        bare = bare.replace(isolate, "")
    return page if bare.encode(errors="replace").translate(None, _OTHER_BYTES) else bare
