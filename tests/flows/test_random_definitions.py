"""Random definitions: each is refused with pointers or printed everywhere; none crashes, hangs or calls anybody."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from document_service import definitions, trials
from document_service.typesetting.pool import TypesettingPool

#: About 30 s on an idle machine; `make soak` may ask for more by HYPOTHESIS settings of its own.
EXAMPLES = 150

#: The pool's own limit is 5 s a render; a definition has at most three locales and a few dozen rounds of milliseconds.
MOST_SECONDS = 40.0

#: A child that ends itself when anything in it looks for another machine or another program.
GUARDED_CHILD = """
import json, os, sys
def watch(event, _):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        os._exit(97)
from document_service.typesetting import child
sys.addaudithook(watch)
child.main(json.loads(sys.argv[1]))
"""

Loop = asyncio.AbstractEventLoop


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Loop, TypesettingPool]]:
    """A pool of one guarded child, and the loop that it lives on."""
    script = Path(tmp_path_factory.mktemp("child")) / "guarded.py"
    script.write_text(GUARDED_CHILD, encoding="utf-8")
    loop = asyncio.new_event_loop()
    pool = TypesettingPool(1, command=(sys.executable, "-B", str(script)))
    loop.run_until_complete(pool.start())
    try:
        yield loop, pool
    finally:
        loop.run_until_complete(pool.stop())
        loop.close()


NAMES = ("title", "name", "reason", "born", "rows", "code", "first", "note")
WORDS = st.one_of(
    st.sampled_from(
        [
            "Name",
            "نام",
            "نوم",
            "Dose 12.5 mg/mL ≤ 3",
            '#import "@preview/x:1"',
            "$x^2$ *bold* @ref",
            "{issuedAt}",
            "{{",
            "—",
        ]
    ),
    st.text(
        alphabet=st.characters(categories=("L", "N", "P", "S", "Zs"), max_codepoint=0x6FF), min_size=1, max_size=40
    ),
    st.text(min_size=1, max_size=10),
    st.text(alphabet="abcdefghijklmnopqrstuvwxyz ", min_size=1, max_size=200),
)
PATHS = st.one_of(
    st.sampled_from(
        [
            "%patient.name.first()",
            "%patient.name.where(use = 'official').first()",
            "%patient.birthDate",
            "%patient.identifier.value",
            "%patient.photo.title",
            "%patient",
            "%inputs.reason",
            "%rows.code.text",
            "%rows.where(status = 'active')",
            "%encounter.period.start",
            "%patient.repeat(contact)",
            "%patient.name.given.select($this | $this).select($this | $this)",
            "%patient.name.given.matches('(a+)+$')",
            "iif(%patient.active, %patient.name, {})",
            "today()",
            "%resource",
        ]
    ),
    st.text(alphabet="%patient.()'=[]{}| 1x", max_size=30),
)
TYPES = st.sampled_from(
    [
        "text",
        "date",
        "dateTime",
        "humanName",
        "code",
        "identifier",
        "phone",
        "address",
        "quantity",
        "boolean",
        "number",
        "anyValue",
        "dosage",
        "dispenseRequest",
    ]
)
KEYS = st.sampled_from(NAMES)


def subset(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A dictionary with any of the members."""
    return st.fixed_dictionaries({}, optional=members)


INPUT = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "maxLength": st.integers(0, 300),
            "minLength": st.integers(0, 5),
            "pattern": st.sampled_from([".", "^[0-9]+$"]),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("integer")}, optional={"minimum": st.integers(-5, 5), "maximum": st.integers(-5, 5)}
    ),
    st.fixed_dictionaries({"type": st.just("boolean")}),
    st.fixed_dictionaries({"type": st.just("array"), "items": st.just({"type": "string"})}),
)
ITEM = st.fixed_dictionaries(
    {
        "type": TYPES,
        "path": st.sampled_from(["code", "code.text", "status", "authoredOn", "note.text", "id", "subject"]),
    },
    optional={"required": st.booleans(), "join": st.sampled_from(["comma", "line"])},
)
COLLECTION = st.fixed_dictionaries(
    {
        "type": st.just("collection"),
        "path": st.sampled_from(["%rows", "%patient.name", "%patient.contact"]),
        "items": st.dictionaries(KEYS, ITEM, min_size=1, max_size=3),
    }
)
BINDING = st.one_of(
    st.fixed_dictionaries(
        {"type": TYPES, "path": PATHS}, optional={"required": st.booleans(), "join": st.sampled_from(["comma", "line"])}
    ),
    st.fixed_dictionaries({"type": TYPES, "input": st.sampled_from(["reason", "note"])}),
    COLLECTION,
)
CONTEXT = st.one_of(
    st.just({"read": "Encounter", "optional": True}),
    st.fixed_dictionaries(
        {"search": st.sampled_from(["ServiceRequest", "Observation", "Immunization", "VisionPrescription"])},
        optional={
            "params": st.just({"status": "active"}),
            "scope": st.sampled_from(["patient", "encounter"]),
            "optional": st.booleans(),
        },
    ),
    st.fixed_dictionaries(
        {
            "read": st.sampled_from(["Practitioner", "Organization", "Location"]),
            "reference": st.sampled_from(
                ["encounter.serviceProvider", "first.name", "encounter.participant.individual"]
            ),
        },
        optional={"optional": st.booleans()},
    ),
)
FIELD = st.fixed_dictionaries(
    {"label": KEYS, "value": KEYS},
    optional={"span": st.integers(1, 4), "strong": st.booleans(), "hideWhenEmpty": st.booleans()},
)
COLUMN = st.fixed_dictionaries(
    {"label": KEYS, "value": st.sampled_from((*NAMES, "rowNumber"))},
    optional={
        "width": st.sampled_from(["auto", "1fr", "0.1fr", "5mm", "14mm", "300mm"]),
        "align": st.sampled_from(["start", "end"]),
        "strong": st.booleans(),
    },
)
SECTION = st.one_of(
    st.just({"type": "header"}),
    st.fixed_dictionaries(
        {"type": st.just("fieldGrid"), "fields": st.lists(FIELD, min_size=1, max_size=5)},
        optional={"columns": st.integers(1, 4), "title": KEYS},
    ),
    st.fixed_dictionaries(
        {"type": st.just("table"), "rows": KEYS, "columns": st.lists(COLUMN, min_size=1, max_size=6)},
        optional={"title": KEYS, "hideWhenEmpty": st.booleans()},
    ),
    st.fixed_dictionaries({"type": st.just("paragraphs"), "text": st.lists(KEYS, min_size=1, max_size=4)}),
    st.fixed_dictionaries(
        {
            "type": st.just("signature"),
            "slots": st.lists(st.fixed_dictionaries({"label": KEYS}), min_size=1, max_size=4),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("qr"), "content": st.sampled_from(["verification", "documentNumber", "name"]), "alt": KEYS}
    ),
    st.fixed_dictionaries({"type": st.just("footer"), "text": KEYS}),
)
#: Sheets of labels that fit their paper, and some that cannot.
SHEET = st.fixed_dictionaries(
    {
        "type": st.just("labels"),
        "columns": st.integers(1, 5),
        "rows": st.integers(1, 12),
        "width": st.sampled_from([20, 38.1, 63.5, 99.1, 190]),
        "height": st.sampled_from([10, 21.2, 38.1, 67.7, 140]),
        "lines": st.lists(
            st.fixed_dictionaries({"text": KEYS}, optional={"strong": st.booleans()}), min_size=1, max_size=4
        ),
    },
    optional={
        "columnGap": st.sampled_from([0, 2.5]),
        "rowGap": st.sampled_from([0, 3]),
        "top": st.sampled_from([0, 5, 15.1]),
        "left": st.sampled_from([0, 5, 7.2]),
        "barcode": st.fixed_dictionaries(
            {
                "content": st.sampled_from(["documentNumber", "name", "note"]),
                "format": st.sampled_from(["code128", "dataMatrix"]),
                "alt": KEYS,
            }
        ),
        "count": st.sampled_from(["note", "name"]),
    },
)
LABEL_WORDS = st.sampled_from(
    [
        "{name}",
        "نام {name}",
        "{documentNumber} · {issuedAt}",
        "Word",
        "A long line of words that has to be broken",
        "W" * 60,
    ]
)
SHEET_PATHS = st.sampled_from(["%patient.id", "%patient.name.first()", "%patient.identifier.value.first()"])
MARGIN = st.sampled_from([5, 12, 18, 30, 60])


@st.composite
def definitions_mostly_valid(draw: st.DrawFn) -> dict[str, Any]:
    """A definition whose parts fit together more often than not: what is named is there, in every locale."""
    locales = draw(st.permutations(["en", "fa-AF", "ps-AF"]))[: draw(st.integers(1, 3))]
    bindings = draw(st.dictionaries(KEYS, BINDING, max_size=5))
    if draw(st.booleans()):
        bindings["rows"] = draw(COLLECTION)
    form: dict[str, Any] = {
        "language": 1,
        "locales": locales,
        "labels": {locale: dict.fromkeys(NAMES, "Word") for locale in locales},
        "inputs": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"reason": draw(INPUT), "note": draw(INPUT)},
            "required": draw(st.sampled_from([[], ["reason"]])),
        },
        "context": {
            "patient": {"read": "Patient"},
            **draw(st.dictionaries(st.sampled_from(["encounter", "rows", "first"]), CONTEXT, max_size=3)),
        },
        "bindings": bindings,
        "sections": draw(st.lists(SECTION, min_size=1, max_size=6)),
    }
    if draw(st.booleans()):
        form["page"] = draw(
            subset(
                size=st.sampled_from(["A4", "A5", "A6", "Letter"]),
                orientation=st.sampled_from(["portrait", "landscape"]),
                margins=subset(top=MARGIN, bottom=MARGIN, left=MARGIN, right=MARGIN),
            )
        )
    for locale, name, words in draw(st.lists(st.tuples(st.sampled_from(locales), KEYS, WORDS), max_size=3)):
        form["labels"][locale][name] = words
    if draw(st.integers(0, 3)):
        _mend(form)
    return form


def _mend(form: dict[str, Any]) -> None:
    """Make sections name what is there, so that most forms reach the press."""
    known = dict(form["bindings"])
    singles = [name for name, one in known.items() if one["type"] != "collection"] or ["documentNumber"]
    tables = [name for name, one in known.items() if one["type"] == "collection"]
    for section in list(form["sections"]):
        if section["type"] == "fieldGrid":
            for number, field in enumerate(section["fields"]):
                field["value"] = singles[number % len(singles)]
                field["span"] = min(field.get("span", 1), section.get("columns", 2))
        elif section["type"] == "table" and tables:
            section["rows"] = tables[0]
            items = [*known[tables[0]]["items"], "rowNumber"]
            for number, column in enumerate(section["columns"]):
                column["value"] = items[number % len(items)]
        elif section["type"] == "table":
            form["sections"].remove(section)
        elif section["type"] == "qr":
            section["content"] = "verification"
    form["sections"].append({"type": "header"})
    for words in form["labels"].values():
        for key, text in words.items():
            if "{" in text or "}" in text:
                words[key] = "Plain"
    for name in list(known):
        path = known[name].get("path", "%patient")
        variable = path.partition(".")[0].removeprefix("%")
        if variable not in (*form["context"], "inputs", "issuedAt"):
            known[name]["path"] = "%patient.id"
            if known[name]["type"] == "collection":
                known[name]["path"] = "%patient.name"


@st.composite
def label_sheets(draw: st.DrawFn) -> dict[str, Any]:
    """A sheet of labels with a value, a code and a count of every kind."""
    locales = draw(st.permutations(["en", "fa-AF", "ps-AF"]))[: draw(st.integers(1, 2))]
    words = {name: draw(LABEL_WORDS) for name in NAMES if name != "title"}
    bound = {
        "name": {"path": draw(SHEET_PATHS),
                 "type": draw(st.sampled_from(["identifier", "text", "humanName"]))},
        "note": {"input": "note", "type": draw(st.sampled_from(["number", "text", "identifier"]))},
    }  # fmt: skip
    form: dict[str, Any] = {
        "language": 1,
        "locales": locales,
        "labels": {locale: {"title": "Labels", **words} for locale in locales},
        "inputs": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"note": draw(INPUT)},
            "required": draw(st.sampled_from([[], ["note"]])),
        },
        "context": {"patient": {"read": "Patient"}},
        "bindings": bound,
        "sections": [draw(SHEET)],
    }
    if draw(st.booleans()):
        form["page"] = {
            "size": draw(st.sampled_from(["A4", "A5", "A6", "Letter"])),
            "margins": {"top": 10, "bottom": 5},
        }
    return form


def leads_somewhere(form: Any, pointer: str) -> bool:
    """Whether a pointer, or the place that it wants something added to, is in the definition."""
    value = form
    for part in pointer.split("/")[1:]:
        token = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and token.isdigit() and int(token) < len(value):
            value = value[int(token)]
        elif isinstance(value, dict) and token in value:
            value = value[token]
        else:
            return False
    return pointer == "" or pointer.startswith("/")


#: The same examples at every run; what they take depends on the machine.
searching = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _refused_or_printed(press: tuple[Loop, TypesettingPool], form: dict[str, Any]) -> None:
    loop, pool = press
    # As the service reads it: decimals are not floats.
    form = definitions.read_json(json.dumps(form))
    before = definitions.canonical_json(form)
    problems = definitions.check(form)
    if problems:
        assert all(leads_somewhere(form, problem.pointer) and problem.code and problem.title for problem in problems)
        return
    began = time.monotonic()
    verdict = loop.run_until_complete(trials.try_out(pool, trials.Form(form), trials.Letterhead()))
    assert time.monotonic() - began < MOST_SECONDS
    assert definitions.canonical_json(form) == before
    assert verdict.problems or set(verdict.pages) == set(form["locales"])
    for found in (*verdict.problems, *verdict.warnings):
        # Every refusal has a reason of its own; this one would be the typesetter's, unexplained.
        assert found.code != "RENDER_FAILED", found
        assert leads_somewhere(form, found.pointer) or found.pointer.startswith("/translations/"), found


@searching
@given(form=definitions_mostly_valid())
def test_each_is_refused_with_pointers_or_printed_everywhere(
    press: tuple[Loop, TypesettingPool], form: dict[str, Any]
) -> None:
    _refused_or_printed(press, form)


@settings(searching, max_examples=EXAMPLES // 3)
@given(form=label_sheets())
def test_a_sheet_of_labels_is_refused_with_pointers_or_printed_everywhere(
    press: tuple[Loop, TypesettingPool], form: dict[str, Any]
) -> None:
    _refused_or_printed(press, form)
