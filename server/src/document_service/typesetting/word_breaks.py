"""Where a line may end inside a word, and what is done with a word that is wider than its column.

A name such as Hydroxypropylmethylcellulose may be parted between two syllables. There a soft hyphen (U+00AD) is put:
the engine draws a hyphen where a line ends at it and nothing elsewhere, and copied text is still the word. A number is
never parted, nor a letter from a digit beside it: half of a dose is another dose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

SOFT_HYPHEN = "\u00ad"
MAY_BREAK = "\u200b"

# The longest words of medicine, the numbers and the units are shorter; beyond it are identifiers and rubbish.
UNBROKEN = 40

# What never parts at a line end counts as one word: a no-break space, and a sign with a word joiner beside it.
_WORDS = re.compile(r"([ \n]+)")
# Where a line may break inside a word, counted generously; never before a digit that a hyphen or comma stands at.
_PIECES = re.compile(r"(?<!\u2060)(?:[–—/]|[-,;:،؛](?!\d))(?!\u2060)")

# Letters of one run, with the joiners inside it.
_LETTERS = "[^\\W\\d_]"
_VOWEL, _CONSONANT = "[aeiouyäöüéèAEIOUY]", "[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]"
# What a syllable begins with: me-thyl, hy-dro, hydro-chlo, pro-pyl.
_ONSET = f"(?:[bcdfgkptBCDFGKPT]h?[lr]|s[cpt]h?r?|{_CONSONANT}h?)"
# Latin: before what begins a syllable, after a vowel or another consonant (cil-lin), never in the first or last three
# letters. Joined script: after the zero-width non-joiner or a letter that does not join the next, so that none changes
# its form.
_SYLLABLES = re.compile(
    f"(?<={_LETTERS}{{3}})(?={_LETTERS}{{3}})(?:(?<={_VOWEL})(?={_ONSET}{_VOWEL})"
    f"|(?<={_VOWEL}{_CONSONANT})(?!h|(?<=[bcdfgkpt])[lr])(?={_ONSET}{_VOWEL}))"
    f"|(?<={_LETTERS}\u200c)(?={_LETTERS})|(?<={_LETTERS}{{2}}[اآدذرزژوډړږ])(?=[\u0620-\u064a\u066e-\u06d3]{{3}})"
)

# Everywhere in an identifier, except inside a number.
_RUNS = re.compile(r"(?<=.)(?=.)(?!(?<=[\d.,٫٬])[\d.,٫٬])", re.DOTALL)

Width = Callable[[str], float]


def stretches(text: str) -> Iterator[str]:
    """The parts of ``text`` in which no line may end."""
    return (piece for word in _WORDS.split(text) for piece in _PIECES.split(word))


def with_breaks(text: str, room: float, width: Width, margin: float, hyphens: bool) -> str | None:
    """``text`` in which every word fits ``room`` em; None where one does not, even with ``hyphens`` if they may be.

    ``width`` tells at most how many em a text takes, and is wrong by less than ``margin``.
    """
    words = [_word(word, room, width, margin, hyphens) for word in _WORDS.split(text)]
    return None if None in words else "".join(word for word in words if word is not None)


def _word(word: str, room: float, width: Width, margin: float, hyphens: bool) -> str | None:
    if max(map(width, _PIECES.split(word))) / margin <= room:
        return word
    rubbish = len(word) > UNBROKEN
    if (hyphens or rubbish) and (parted := _parted(word, room, width)) is not None:
        return parted
    if rubbish and max(map(width, _RUNS.split(word))) / margin <= room:
        return MAY_BREAK.join(_RUNS.split(word))
    return None


def _parted(word: str, room: float, width: Width) -> str | None:
    """``word`` with as few soft hyphens as its stretches need, or None where a syllable is wider than ``room``."""
    parts = [""]
    ends = [match.start() for match in _SYLLABLES.finditer(word)]
    for start, end in zip([0, *ends], [*ends, len(word)], strict=True):
        syllable, hyphen = word[start:end], "-" if end < len(word) else ""
        if _widest(parts[-1] + syllable, hyphen, width) <= room:
            parts[-1] += syllable
        elif _widest(syllable, hyphen, width) <= room:
            parts.append(syllable)
        else:
            return None
    return SOFT_HYPHEN.join(parts)


def _widest(text: str, hyphen: str, width: Width) -> float:
    *pieces, last = _PIECES.split(text)
    return max(map(width, [*pieces, last + hyphen]))
