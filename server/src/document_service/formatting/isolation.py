"""Bidi isolation of every value that reaches a page, in this one place (design §4, the clinical hazard).

Under the Unicode bidirectional algorithm a run such as ``2025-11-09``, ``14.5–173.1`` or ``-2.5`` changes its visual
order inside Dari or Pashto text. So each value is wrapped: values without right-to-left letters in LRI…PDI, text with
such letters in FSI…PDI with each number-and-unit run isolated again inside. Bidi controls that arrive with the data
are removed first: otherwise a stored override could turn a dose around.
"""

from __future__ import annotations

import re
import unicodedata

LRI = "\u2066"
RLI = "\u2067"
FSI = "\u2068"
PDI = "\u2069"
WORD_JOINER = "\u2060"
NO_BREAK_SPACE = "\u00a0"

# Every character that steers the bidi algorithm, the deprecated format characters U+206A…U+206F with them, and the
# byte order mark, which is invisible and breaks look-ups.
_BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufeff]")

# Scripts written from right to left live in these blocks only (Unicode 16, DerivedBidiClass.txt).
_RTL_BLOCKS = ((0x0590, 0x08FF), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFC), (0x10800, 0x10FFF), (0x1E800, 0x1EFFF))


def _letters_class() -> str:
    """The regular expression class of all letters of bidi class R or AL, as ranges."""
    ranges: list[list[int]] = []
    for low, high in _RTL_BLOCKS:
        for point in range(low, high + 1):
            if unicodedata.bidirectional(chr(point)) in ("R", "AL"):
                if ranges and ranges[-1][1] == point - 1:
                    ranges[-1][1] = point
                else:
                    ranges.append([point, point])
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)


_RTL_CLASS = _letters_class()
_RTL_LETTER = re.compile(f"[{_RTL_CLASS}]")
# A stretch between right-to-left letters that may hold a number: no such letter, no line end, and no vowel mark or
# joiner that belongs to the letter before it.
_BETWEEN = re.compile(f"[^{_RTL_CLASS}\n\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u200c\u200d]+")
_HAS_DIGIT = re.compile(r"\d")
# Inside such a stretch the run that belongs together: a sign or comparator directly before a digit, then everything up
# to the last letter, digit, per cent or degree sign. "Co-trimoxazole 480 mg" stays one run, so that drug and strength
# are never read from different ends.
_RUN = re.compile(r"(?:[-+−±<>≤≥~≈]\s?(?=\d)|\w).*(?:\w|[%‰°′″µ²³¹⁺⁻+])|\d", re.DOTALL)
# FHIR strings may hold tab, line feed and carriage return but no other control (R4 datatypes, string).
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# The places where UAX #14 allows a line end inside a typed value: after slash (SY), en dash (BA) and minus (PR), and
# after a hyphen (HY) unless a digit follows.
_BREAKABLE = re.compile(r"([/–−]|-(?!\d))(?!$)")
_LINE_ENDS = re.compile("\r\n|[\r\n\u2028\u2029]")


class UnprintableText(ValueError):
    """The text holds a control character, a lone surrogate or a non-character: it is refused, never dropped."""


def clean(text: str) -> str:
    """``text`` without bidi controls, its line ends as ``\\n`` and its tabs as spaces.

    Raises UnprintableText for controls and surrogates: what is not legal in FHIR is not silently removed.
    """
    if text.isascii() and text.isprintable():
        return text
    if _FORBIDDEN.search(text):
        raise UnprintableText
    return _LINE_ENDS.sub("\n", _BIDI_CONTROLS.sub("", text)).replace("\t", " ").strip("\n")


def has_rtl_letter(text: str) -> bool:
    """Whether a letter of a right-to-left script is in ``text`` (digits and marks do not count)."""
    return not text.isascii() and _RTL_LETTER.search(text) is not None


def glue(text: str) -> str:
    """``text`` that no line end can tear: spaces become NBSP, slashes and dashes are held (issue 4, item 1).

    U+2060 goes only where UAX #14 would allow a break (around a slash, after a dash, after a hyphen before a letter),
    because each one stands in the way of a search in the PDF.
    """
    return _BREAKABLE.sub(rf"\1{WORD_JOINER}", text.replace(" ", NO_BREAK_SPACE).replace("/", f"{WORD_JOINER}/"))


def isolate_ltr(text: str) -> str:
    """A number, date, phone or code: laid out from left to right whatever surrounds it."""
    return f"{LRI}{text}{PDI}"


def isolate_numbers(text: str) -> str:
    """Each number-and-unit run inside right-to-left ``text`` wrapped in LRI…PDI; the text itself is not wrapped."""
    if not _HAS_DIGIT.search(text):
        return text
    return _BETWEEN.sub(_isolate_run, text)


def _isolate_run(stretch: re.Match[str]) -> str:
    text = stretch.group()
    if not _HAS_DIGIT.search(text):
        return text
    run = _RUN.search(text)
    if run is None:
        return text
    return f"{text[: run.start()]}{LRI}{run.group()}{PDI}{text[run.end() :]}"


def isolate_text(text: str) -> str:
    """Cleaned free text, each of its lines isolated on its own (an isolate ends with its paragraph, UAX #9 P1)."""
    if "\n" in text:
        return "\n".join(isolate_text(line) if line.strip() else line for line in text.split("\n"))
    if has_rtl_letter(text):
        return f"{FSI}{isolate_numbers(text)}{PDI}"
    return f"{LRI}{text}{PDI}"


def isolate_clean_text(text: str) -> str:
    """Free text as it came with the data: cleaned, then isolated. Raises UnprintableText as ``clean`` does."""
    return isolate_text(clean(text))
