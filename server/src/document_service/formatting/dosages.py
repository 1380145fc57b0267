"""A FHIR R4 Dosage, whole, as one sentence: amount, way, timing, limits and free words; several are steps of a course.

Nothing of it is left out. A member or a code that has no words here refuses, a step without an amount is no step, and
free words that say another thing than the codes refuse (``free_words``). Free words are the
dose where the codes hold none; beside codes they stand below them and are said to be somebody's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from document_service.formatting.coded_amounts import coded_amounts
from document_service.formatting.dosage_words import ROUTES
from document_service.formatting.dose_amounts import dose_range_text, dose_ratio_text, dose_text
from document_service.formatting.free_words import Said, contradicts
from document_service.formatting.free_words import said as said_in
from document_service.formatting.locales import Style
from document_service.formatting.mismatch import ValueAbsent
from document_service.formatting.people import concept_codes, text_value
from document_service.formatting.said_sides import sides
from document_service.formatting.said_spellings import plain
from document_service.formatting.spoken import (
    concept_words,
    duration_text,
    entries,
    own_words,
    refuse,
    said,
    sentence,
    structure,
    time_unit,
    whole_number,
)
from document_service.formatting.timings import known_days, known_rates, timing_parts

KIND = "dosage that can be said whole"
CONTRADICTED = "dosage whose words and codes agree"

_DOSAGE = (
    *("sequence", "text", "additionalInstruction", "patientInstruction", "timing", "asNeededBoolean"),
    *("asNeededCodeableConcept", "site", "route", "method", "doseAndRate"),
    *("maxDosePerPeriod", "maxDosePerAdministration", "maxDosePerLifetime"),
)
_LIMITS: tuple[tuple[str, str, Callable[[object, Style], str]], ...] = (
    ("maxDosePerAdministration", "dosageNotMoreAtOnce", dose_text),
    ("maxDosePerLifetime", "dosageNotMoreInLife", dose_text),
)
_DOSES = {"doseQuantity": dose_text, "doseRange": dose_range_text}
_RATES = {"rateQuantity": dose_text, "rateRange": dose_range_text, "rateRatio": dose_ratio_text}
# A tapered course has ten steps or so; this is a bound for a hostile record.
_MOST_STEPS = 50


def dosage_text(value: object, style: Style) -> str:
    """One Dosage, or a list of them as the steps of one course in the order of ``sequence``, each on its line.

    Raises ValueAbsent where a step has neither an amount nor words for one, ValueMismatch for what cannot be said, and
    UnprintableText.
    """
    recorded = value if isinstance(value, list) else [value]
    if not recorded or len(recorded) > _MOST_STEPS:
        refuse(KIND)
    steps = [structure(step, _DOSAGE, KIND) for step in recorded]
    if len(steps) == 1:
        return "\n".join(_step(steps[0], style))
    order = [step.get("sequence") for step in steps]
    if any(number is not None for number in order):
        # Where some have a place in the order and some have none, nobody can tell which comes first.
        steps.sort(key=lambda step: whole_number(step.get("sequence"), KIND))
    lines, before = _step(steps[0], style), steps[0].get("sequence")
    for step in steps[1:]:
        word = "dosageThen" if step.get("sequence") != before else "dosageAnd"
        first, *others = _step(step, style)
        lines += [sentence([said(style, word, n=first)], style), *others]
        before = step.get("sequence")
    return "\n".join(lines)


def _step(dosage: Mapping[str, Any], style: Style) -> list[str]:
    """The lines of one Dosage, each isolated."""
    amount = _amount(dosage, style)
    text = _one_line(dosage.get("text"), style)
    if not amount and not text:
        raise ValueAbsent
    directions = [*_directions(dosage, style)]
    told = _one_line(dosage.get("patientInstruction"), style)
    _check_words(dosage)
    if not amount:
        # The words are the dose: they come first, and what the codes know stands below.
        lines = [text, *([sentence(directions, style)] if directions else [])]
    else:
        lines = [sentence([" ".join(amount), *directions], style)]
        if text:
            lines.append(sentence([said(style, "dosageAsWritten", n=text)], style))
    return [*lines, told] if told and told != text else lines


def _one_line(value: object, style: Style) -> str:
    """Free words in one line, isolated; "" where there are none."""
    if value is None:
        return ""
    try:
        return text_value(" ".join(value.split()) if isinstance(value, str) else value, style)
    except ValueAbsent:
        return ""


def _ordered(dosage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The amounts that were ordered; a dose or a rate that was only calculated counts where no other one is there."""
    kinds = ("type", *_DOSES, *_RATES)
    amounts = [structure(entry, kinds, KIND) for entry in entries(dosage.get("doseAndRate"), KIND)]
    calculated = ["calculated" in concept_codes(entry["type"]) if entry.get("type") else False for entry in amounts]
    for names in (_DOSES, _RATES):
        holding = [any(entry.get(name) is not None for name in names) for entry in amounts]
        if any(held and not worked_out for held, worked_out in zip(holding, calculated, strict=True)):
            amounts = [
                {name: entry[name] for name in entry if name not in names} if worked_out else entry
                for entry, worked_out in zip(amounts, calculated, strict=True)
            ]
    return amounts


def _amount(dosage: Mapping[str, Any], style: Style) -> list[str]:
    """Dose and rate; two different doses, or two rates, leave the choice to the reader and refuse."""
    shown: list[str] = []
    for kinds, pattern in ((_DOSES, None), (_RATES, "dosageRate")):
        found: list[str] = []
        for entry in _ordered(dosage):
            for name, text in kinds.items():
                if entry.get(name) is not None:
                    try:
                        found.append(text(entry[name], style))
                    except ValueAbsent:
                        continue
        if len(set(found)) > 1:
            refuse(KIND)
        shown += [said(style, pattern, n=text) if pattern else text for text in found[:1]]
    return shown


def _directions(dosage: Mapping[str, Any], style: Style) -> Iterator[str]:
    if dosage.get("route") is not None:
        yield concept_words(dosage["route"], ROUTES, style, KIND)
    for name in ("site", "method"):
        if dosage.get(name) is not None:
            yield own_words(dosage[name], style, KIND)
    if dosage.get("timing") is not None:
        yield from timing_parts(dosage["timing"], style)
    needed, reason = dosage.get("asNeededBoolean"), dosage.get("asNeededCodeableConcept")
    if needed is not None and (not isinstance(needed, bool) or reason is not None):
        refuse(KIND)
    if reason is not None:
        yield said(style, "dosageAsNeededFor", n=own_words(reason, style, KIND))
    elif needed:
        yield style.words["dosageAsNeeded"]
    if dosage.get("maxDosePerPeriod") is not None:
        yield _most_in_period(dosage["maxDosePerPeriod"], style)
    for name, pattern, text in _LIMITS:
        if dosage.get(name) is not None:
            try:
                yield said(style, pattern, n=text(dosage[name], style))
            except ValueAbsent:
                refuse(KIND)
    for instruction in entries(dosage.get("additionalInstruction"), KIND):
        yield own_words(instruction, style, KIND)


def _most_in_period(limit: object, style: Style) -> str:
    """Not more than so much in so much time; "8 tablet/1 d" reads as a strength."""
    try:
        if isinstance(limit, Mapping) and time_unit(limit.get("denominator")) is not None:
            # The ratio refuses what is no amount; its sides are said apart.
            dose_ratio_text(limit, style)
            most = dose_text(limit.get("numerator"), style)
            return said(style, "dosageNotMoreIn", n=most, period=duration_text(limit["denominator"], style, KIND))
        return said(style, "dosageNotMore", n=dose_ratio_text(limit, style))
    except ValueAbsent:
        refuse(KIND)


def _check_words(dosage: Mapping[str, Any]) -> None:
    """Refuse words that say another thing than the codes, or than the text, once these are known to be sound."""
    timing, route = dosage.get("timing") or {}, dosage.get("route")
    known = Said(
        amounts=coded_amounts(_ordered(dosage)),
        rates=known_rates(timing),
        days=known_days(timing),
        routes=_known_routes(route),
        regularly=_known_regularly(dosage),
        sides=_known_sides(dosage.get("site") or {}),
        weekdays=frozenset((timing.get("repeat") or {}).get("dayOfWeek") or ()),
    )
    coded = [timing.get("code"), route, *entries(dosage.get("additionalInstruction"), KIND)]
    spoken = [dosage.get("text"), dosage.get("patientInstruction")]
    spoken += [words for concept in coded if isinstance(concept, Mapping) for words in _concept_texts(concept)]
    eye = _of_an_eye(dosage, known)
    heard = [said_in(words, eye=eye) for words in spoken if isinstance(words, str)]
    text = heard[0] if isinstance(dosage.get("text"), str) else Said()
    if any(contradicts(words, known) for words in heard) or any(contradicts(words, text) for words in heard[1:]):
        refuse(CONTRADICTED)


def _known_routes(route: object) -> frozenset[str]:
    """The ways that words may name beside this one: what is given topically may be given vaginally or rectally."""
    ways = frozenset(ROUTES[code] for code in (concept_codes(route) if route else ()) if code in ROUTES)
    return ways | {"dosageVaginal", "dosageRectal"} if "dosageTopically" in ways else ways


def _known_sides(site: Mapping[str, Any]) -> frozenset[str]:
    return frozenset().union(*(sides(plain(words)) for words in _concept_texts(site) if isinstance(words, str)))


def _known_regularly(dosage: Mapping[str, Any]) -> bool | None:
    needed = dosage.get("asNeededBoolean") or dosage.get("asNeededCodeableConcept")
    return False if needed else True if dosage.get("asNeededBoolean") is False else None


def _of_an_eye(dosage: Mapping[str, Any], known: Said) -> bool:
    """Whether the codes say that an eye is treated: by the way, by the site, or by drops."""
    if "drop" in known.amounts or "dosageIntoEye" in known.routes:
        return True
    concepts = [dosage[name] for name in ("route", "site") if dosage.get(name)]
    return any("eye" in str(words).casefold() for concept in concepts for words in _concept_texts(concept))


def _concept_texts(concept: Mapping[str, Any]) -> Iterator[object]:
    yield concept.get("text")
    for coding in entries(concept.get("coding"), KIND):
        if isinstance(coding, Mapping):
            yield coding.get("display")
