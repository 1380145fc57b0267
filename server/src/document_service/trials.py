"""Trial renders: a definition printed with a made-up (or a real) record to see what is wrong with it.

A form is not given up at its first fault. What the record lacks and what a binding cannot show is noted, taken out of a
copy of the definition, and the copy is printed again, until a page comes off the press or the fault is the page's own:

    render ──BINDING_REQUIRED──▶ note a warning, ask for it no longer ──▶ render again
       │   ──BINDING_FAILED────▶ note a problem, leave the binding empty ──▶ render again
       │   ──any other refusal─▶ note a problem: this locale has no page
       └──▶ a page, and what was noted

*Problems* are the definition's and refuse a publish; *warnings* depend on the record, such as a required value that
the made-up patient does not have, and do not. Nothing here knows a table or a tenant.
"""

from __future__ import annotations

import asyncio
import copy
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from document_service import definitions, sample_patients
from document_service.errors import (
    BindingFailed,
    BindingRequired,
    InvalidRequest,
    Problem,
    RenderFailed,
    ServiceError,
    TypesettingCrashed,
)
from document_service.exact_json import dumps_exact
from document_service.fhir import reads
from document_service.sample_patients import SampleRecord, sample_inputs, without_patterns
from document_service.typesetting.jobs import Output, TypesetJob, TypesetResult
from document_service.typesetting.labels import page_problems
from document_service.typesetting.pool import TypesettingPool

# A form has at most 200 bindings; an author who mends forty faults tries again anyway.
MOST_ROUNDS = 40

# Forty rounds of bindings that each take their whole 300 ms; a page of any length comes in less.
MOST_SECONDS = 12.0

# Each further locale would hold a child for its whole limit to say the same.
_NEVER_ENDING = frozenset({"RENDER_TIMEOUT", "RENDER_MEMORY", "TOO_MANY_PROBLEMS"})

# A path that is well-formed and finds nothing, in place of one that cannot be shown.
_NOTHING = "%patient.where(false)"
_NOTHING_OF_ITEM = "where(false)"

#: Stands on every page of a preview and in its title, in the language of the page.
_MARKS: Mapping[str, str] = {
    "en": "PREVIEW – not for clinical use",
    "fa": "پیش‌نمایش – برای استفادهٔ کلینیکی نیست",
    "ps": "مخکتنه – د کلینیکي کارونې لپاره نه ده",
}
_UNREVIEWED: Mapping[str, str] = {
    "en": "translation not reviewed",
    "fa": "ترجمه بررسی نشده",
    "ps": "ژباړه نه ده کتل شوې",
}


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What a tenant puts on its pages: the ``tenant`` member of a render's request, time zone and pictures."""

    tenant: Mapping[str, Any] = field(default_factory=lambda: {"name": "Sample Clinic", "address": ["Kabul"]})
    time_zone: str = "Asia/Kabul"
    images: Mapping[str, bytes] = field(default_factory=dict)
    verification_url: str | None = "https://documents.example/verify/preview"


@dataclass(frozen=True, slots=True)
class Form:
    """The definition on trial (parsed JSON, checked) with the name and version that its pages state."""

    definition: Mapping[str, Any]
    name: str = "Preview"
    version: str = "draft"
    #: Platform forms and their unreviewed locales say so on the page.
    says_unreviewed: bool = True


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose page it is: the context's resources, the inputs, and what of either was made up or is not there."""

    resources: Mapping[str, Any]
    inputs: Mapping[str, Any]
    inputs_made_up: bool
    unfilled: tuple[tuple[str, str], ...] = ()
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """What came of one locale; ``result`` is None where no page came off the press."""

    locale: str
    result: TypesetResult | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial in every locale found; ``pages`` by locale."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    pages: Mapping[str, int]


def sample_subject(
    definition: Mapping[str, Any],
    locale: str,
    record: SampleRecord | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Subject:
    """The made-up patient of a locale, or ``record``; with made-up inputs unless some are given."""
    filled = (record or sample_patients.for_locale(locale)).fill(definition["context"])
    made = sample_inputs(definition.get("inputs", {}), locale) if inputs is None else inputs
    return Subject(filled.resources, made, inputs is None, filled.unfilled)


async def try_out(pool: TypesettingPool, form: Form, letterhead: Letterhead) -> Verdict:
    """Print the form once in each of its locales with the made-up patient.

    Raises:
        TypesettingBusy: the press has no room; nothing is known of the form.
    """
    problems = await asyncio.to_thread(static_problems, form.definition)
    sheets: list[Sheet] = []
    for locale in form.definition["locales"]:
        subject = sample_subject(form.definition, locale)
        sheet = await print_sheet(pool, form, locale, letterhead, subject, marked=False)
        sheets.append(sheet)
        if any(problem.code in _NEVER_ENDING for problem in sheet.problems):
            break
    pages = {sheet.locale: sheet.result.pages for sheet in sheets if sheet.result is not None}
    return Verdict(joined(problems, _gathered(sheets, "problems")), _gathered(sheets, "warnings"), pages)


def joined(found: tuple[Problem, ...], met: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """Static and met problems; what was said of a label with its pointer is not said again of the page it spoils."""
    said = {problem.code for problem in found}
    return (*found, *(problem for problem in met if problem.pointer or problem.code not in said))


def static_problems(definition: Mapping[str, Any]) -> tuple[Problem, ...]:
    """What is wrong with a checked definition before it is printed: its reads, letters and widths."""
    return (*_context_problems(definition), *page_problems(definition))


def _context_problems(definition: Mapping[str, Any]) -> Iterable[Problem]:
    """What the reader of FHIR would refuse whatever the patient is."""
    inputs = sample_inputs(definition.get("inputs", {}), "en")
    context = definition["context"]
    for name, entry in context.items():
        sources = {key: value for key, value in context.items() if "search" not in value and "reference" not in value}
        source = str(entry.get("reference", "")).split(".")[0]
        if source in context:
            sources[source] = {"read": "Patient"}
        try:
            reads.plan({**sources, name: entry}, "sample-patient", "sample-encounter", inputs)
        except ServiceError as error:
            yield Problem(f"/context/{name}", error.code, error.detail or error.title)
        followed = [name]
        while "reference" in context.get(followed[-1], {}):
            followed.append(str(context[followed[-1]]["reference"]).split(".")[0])
            if followed[-1] in followed[:-1]:
                yield Problem(f"/context/{name}/reference", "BINDING_FAILED", "This reference waits for itself.")
                break


async def print_sheet(
    pool: TypesettingPool,
    form: Form,
    locale: str,
    letterhead: Letterhead,
    subject: Subject,
    *,
    output: Output = "pdf",
    marked: bool = True,
) -> Sheet:
    """Print one locale, as far as it can be printed. ``marked`` pages say that they are a preview.

    Raises:
        TypesettingBusy: the press has no room.
    """
    attempt = _Attempt(form, locale, letterhead, subject, marked)
    result = await attempt.run(pool, output)
    return Sheet(locale, result, tuple(attempt.problems), tuple(attempt.warnings))


class _Attempt:
    """The copy of one definition that shrinks from round to round, and what was noted."""

    def __init__(self, form: Form, locale: str, letterhead: Letterhead, subject: Subject, marked: bool) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._form = form
        self._locale = locale
        self._letterhead = letterhead
        self._subject = subject
        self._marked = marked
        self._definition: dict[str, Any] = copy.deepcopy(dict(form.definition))
        self._inputs = dict(subject.inputs)
        self._resources = dict(subject.resources)

    async def run(self, pool: TypesettingPool, output: Output) -> TypesetResult | None:
        for name, why in self._subject.unfilled:
            self._warn(f"/context/{name}", "SAMPLE_MISSING", why)
        if self._form.says_unreviewed and self._locale in definitions.unreviewed(self._form.definition):
            self._warn(
                f"/translations/{self._locale}",
                "TRANSLATION_UNREVIEWED",
                "Nobody has reviewed the words of this locale.",
            )
        if not self._settle_inputs():
            return None
        crashed = False
        deadline = time.monotonic() + MOST_SECONDS
        for _ in range(MOST_ROUNDS):
            if time.monotonic() > deadline:
                break
            job = self._job(output)
            try:
                result = await pool.render(job)
            except BindingRequired as error:
                if not self._ask_no_longer(error):
                    return None
            except BindingFailed as error:
                if not self._leave_empty(error):
                    return None
            except TypesettingCrashed:
                if crashed:
                    self._refuse(
                        "", "RENDER_FAILED", "The typesetter ends at this form; take sections away to find which."
                    )
                    return None
                # A child can die of something else once.
                crashed = True
            except (RenderFailed, InvalidRequest) as error:
                self._note(error)
                return None
            else:
                for words in result.warnings:
                    self._refuse("", "LAYOUT_WARNING", f"The typesetter warns: {words}")
                return result
        self._refuse("/bindings", "TOO_MANY_PROBLEMS", "Mend these first and try again.")
        return None

    def _settle_inputs(self) -> bool:
        """See that the inputs satisfy the form. Those made up give way: to a pattern first, then to being left out."""
        found = definitions.check_inputs(self._definition, self._inputs)
        if not found:
            return True
        if not self._subject.inputs_made_up:
            self.problems.extend(found)
            return False
        for name in sorted({problem.pointer.split("/")[2] for problem in found if problem.pointer.count("/") > 1}):
            self._warn(
                f"/inputs/properties/{name}", "EXAMPLE_MISSING", "Add examples with a value that this schema accepts."
            )
        self._definition["inputs"] = without_patterns(self._definition.get("inputs", {}))
        required = self._definition["inputs"].get("required", [])
        for problem in definitions.check_inputs(self._definition, self._inputs):
            name = problem.pointer.split("/")[2] if problem.pointer.count("/") > 1 else ""
            if name and name not in required:
                self._inputs.pop(name, None)
        if definitions.check_inputs(self._definition, self._inputs):
            self._refuse(
                "/inputs", "INPUTS_UNSATISFIABLE", "Add examples that this schema accepts; none could be made."
            )
            return False
        return True

    def _job(self, output: Output) -> TypesetJob:
        now = datetime.now(UTC).replace(microsecond=0)
        request = {
            "locale": self._locale,
            "inputs": self._inputs,
            "documentNumber": "PREVIEW",
            "issuedAt": now.isoformat(),
            "dataAsOf": (self._subject.as_of or now).isoformat(),
            "templateName": self._form.name,
            "templateVersion": self._form.version,
            "timeZone": self._letterhead.time_zone,
            "tenant": dict(self._letterhead.tenant),
            "verificationUrl": self._letterhead.verification_url,
            "patientCheck": None,
            "mark": self._mark() if self._marked else None,
        }
        return TypesetJob(
            issued_at=now,
            definition_json=dumps_exact(self._definition),
            resources_json=dumps_exact(self._resources),
            request_json=dumps_exact(request),
            images=self._letterhead.images,
            output=output,
        )

    def _mark(self) -> str:
        language = self._locale.split("-")[0]
        words = [_MARKS.get(language, _MARKS["en"])]
        if self._form.says_unreviewed and self._locale in definitions.unreviewed(self._form.definition):
            words.append(_UNREVIEWED.get(language, _UNREVIEWED["en"]))
        return " · ".join(words)

    def _ask_no_longer(self, error: BindingRequired) -> bool:
        """Take the requirement that was not met out of the copy; False when it is not the definition's."""
        name = str(error.extra.get("binding", ""))
        at, entry = self._binding(name)
        if entry is not None and entry.get("required"):
            entry["required"] = False
        elif " or " in name and self._definition.get("requireOneOf"):
            wanted = name.split(" or ")
            groups = self._definition["requireOneOf"]
            at = f"/requireOneOf/{groups.index(wanted)}" if wanted in groups else "/requireOneOf"
            self._definition["requireOneOf"] = [group for group in groups if group != wanted]
        else:
            self._note(error)
            return False
        self._warn(at, error.code, "Required, and this record has none: a render for such a patient fails.")
        return True

    def _leave_empty(self, error: BindingFailed) -> bool:
        """Take a binding that cannot be shown out of the copy; False when the fault is not a binding's."""
        name = str(error.extra.get("binding", ""))
        at, entry = self._binding(name)
        nothing = _NOTHING_OF_ITEM if "." in name else _NOTHING
        if entry is None or entry.get("path") == nothing:
            self._note(error)
            return False
        if "path" in entry:
            entry["path"] = nothing
            at = f"{at}/path"
        else:
            del entry["input"]
            entry["path"] = nothing
            at = f"{at}/input"
        entry["required"] = False
        self._definition["requireOneOf"] = []
        self._refuse(at, error.code, error.detail or error.title)
        return True

    def _binding(self, name: str) -> tuple[str, dict[str, Any] | None]:
        """The pointer and the entry of a binding, or of an item of a collection (``tests[0].code``)."""
        outer, _, item = re.sub(r"\[\d+\]", "", name).partition(".")
        entry = self._definition["bindings"].get(outer)
        if entry is None or not item:
            return f"/bindings/{outer}", entry
        return f"/bindings/{outer}/items/{item}", entry.get("items", {}).get(item)

    def _note(self, error: ServiceError) -> None:
        at = ""
        for member in ("binding", "context"):
            name = error.extra.get(member)
            if isinstance(name, str) and name in self._definition["context"]:
                at = f"/context/{name}"
        if isinstance(error, InvalidRequest) and error.errors:
            self.problems.extend(error.errors)
        else:
            # The pointers of a render lead into the page, not into the definition; its sentence says where.
            code = error.errors[0].code if error.errors else error.code
            if "first heading" in (error.detail or ""):
                # PDF/UA's words for what ``page_problems`` says with a pointer.
                code = "HEADER_NOT_FIRST"
            self._refuse(at, code, error.detail or error.title)

    def _warn(self, pointer: str, code: str, title: str) -> None:
        self.warnings.append(Problem(pointer, code, title))

    def _refuse(self, pointer: str, code: str, title: str) -> None:
        self.problems.append(Problem(pointer, code, title))


def _gathered(sheets: list[Sheet], kind: str) -> tuple[Problem, ...]:
    """The findings of every locale, each once; those of some locales only say which."""
    locales: dict[Problem, list[str]] = {}
    for sheet in sheets:
        for found in getattr(sheet, kind):
            known = locales.setdefault(found, [])
            if sheet.locale not in known:
                known.append(sheet.locale)
    return tuple(
        found
        if len(where) == len(sheets) or where[0] in found.pointer
        else Problem(found.pointer, found.code, f"{found.title} (In {', '.join(where)}.)")
        for found, where in locales.items()
    )
