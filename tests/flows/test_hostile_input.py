"""Hostile templates and records on the real road: JSON in, the pool's own children, bindings, layout (design §4, §5).

`test_typesetting_pool.py` proves the same of children that misbehave and of page models made by hand. Here each
misdeed is written as a tenant's author or a FHIR server would write it. Each ends within its limit with its own code,
and the next document is served; how soon is recorded, and asserted with room for a busy machine.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pdfplumber
import pytest
import pytest_asyncio

from document_service import errors
from document_service.typesetting.jobs import TypesetJob, TypesetResult
from document_service.typesetting.pool import SMALL_LIMITS, TypesettingPool
from pages import ISSUED_AT, job, paragraphs, small_page
from requisition import PATIENT, RAW, order, request, resources

HOSTILE_CHILD = (sys.executable, "-I", "-B", str(Path(__file__).parents[1] / "hostile_typesetting_child.py"))

#: Issue 4 says 100 ms; 20 to 60 were measured, and a machine that runs other tests beside this one gets more.
NEXT_SECONDS = 0.5

#: What a limit of the processor's time becomes on a machine that has other work.
BUSY = 10.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[TypesettingPool]:
    async with TypesettingPool(1) as running:
        yield running


def form(path: str, kind: str = "text") -> bytes:
    """A form of one field, with the patient's orders at hand."""
    definition = {
        "language": 1,
        "locales": ["en"],
        "labels": {"en": {"title": "T", "value": "Value"}},
        "context": {
            "patient": {"read": "Patient"},
            "orders": {"search": "ServiceRequest", "params": {"status": "active"}, "optional": True},
        },
        "bindings": {"value": {"path": path, "type": kind}},
        "sections": [{"type": "header"}, {"type": "fieldGrid", "fields": [{"label": "value", "value": "value"}]}],
    }
    return json.dumps(definition).encode()


def asked(definition: bytes, data: bytes | dict[str, Any], rows: int = 0, **more: Any) -> TypesetJob:
    return TypesetJob(
        issued_at=ISSUED_AT,
        definition_json=definition,
        resources_json=data if isinstance(data, bytes) else json.dumps(data).encode(),
        request_json=json.dumps(request(**({} if definition is RAW else {"inputs": {}}), **more)).encode(),
        rows=rows,
    )


def orders(count: int) -> dict[str, Any]:
    return {"patient": PATIENT, "orders": [order(number) for number in range(count)]}


async def serves_the_next(pool: TypesettingPool, record: Callable[[str, object], None]) -> None:
    started = time.monotonic()
    assert (await pool.render(job(small_page(paragraphs("next"))))).pages == 1
    seconds = time.monotonic() - started
    record("next_after_ms", round(seconds * 1000))
    assert seconds < NEXT_SECONDS


async def ends(
    pool: TypesettingPool, hostile: TypesetJob, codes: set[str], record: Callable[[str, object], None], within: float
) -> errors.ServiceError:
    async with asyncio.timeout(60):
        while len(pool._small.idle) < 2:  # noqa: ASYNC110  # The spare of an earlier test starts in a process.
            await asyncio.sleep(0.02)
    started = time.monotonic()
    with pytest.raises(errors.ServiceError) as caught:
        await pool.render(hostile)
    assert caught.value.code in codes, caught.value
    assert time.monotonic() - started < within
    said = f"{caught.value.detail}{caught.value.errors}{caught.value.extra}"
    assert "Karte" not in said
    assert "احمدزی" not in said
    await serves_the_next(pool, record)
    return caught.value


# --- Templates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "codes"),
    [
        ("%orders.select(%orders.select(%orders.select(code.text & 'x'))).count()", {"BINDING_FAILED"}),
        ("%orders.where(%orders.where(%orders.where(code.exists()).exists()).exists()).count()", {"BINDING_FAILED"}),
        # Twice as many items at each step: memory or time, whichever the machine has less of.
        ("%orders" + ".select($this | $this.code)" * 3 + ".combine(%orders)" * 4, {"BINDING_FAILED"}),
        (
            "%orders.code.coding" + ".select($this.combine($this))" * 26 + ".count().toString()",
            {"BINDING_FAILED", "RENDER_MEMORY"},
        ),
        ("%patient.birthDate" + ".select($this & $this)" * 40, {"BINDING_FAILED", "RENDER_MEMORY"}),
        ("%patient.birthDate" + ".replace('1', '1111111111111111111')" * 12, {"BINDING_FAILED", "RENDER_MEMORY"}),
        ("%patient.select(10.power(99999999)).toString()", {"BINDING_FAILED"}),
        ("%orders.first().note.first().text.matches('(a+)+(a+)+(a+)+$').toString()", set()),
    ],
    ids=["cross select", "nested where", "union", "doubling", "doubling text", "replace", "power", "regex"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_hostile_expressions(
    pool: TypesettingPool, record_property: Callable[[str, object], None], path: str, codes: set[str]
) -> None:
    data = orders(300)
    data["orders"][0]["note"] = [{"text": "a" * 50_000 + "!"}]
    hostile = asked(form(path), data)
    if codes:
        await ends(pool, hostile, codes, record_property, SMALL_LIMITS.wall_seconds + BUSY)
    else:
        # RE2 is linear: what hangs other engines is an answer here.
        assert (await pool.render(hostile)).pages == 1
        await serves_the_next(pool, record_property)


@pytest.mark.parametrize(
    "path", ["%patient.name.repeat(given)", "%patient.descendants()", "%patient.trace('x')", "%patient.select(now())"]
)
@pytest.mark.asyncio(loop_scope="module")
async def test_functions_without_an_end_are_not_called(
    pool: TypesettingPool, record_property: Callable[[str, object], None], path: str
) -> None:
    await ends(pool, asked(form(path), orders(1)), {"DEFINITION_INVALID"}, record_property, BUSY)


# --- Records ----------------------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    text = '{"extension":[' * levels + "{}" + "]}" * levels
    return f'{{"patient":{{"resourceType":"Patient","id":"maryam","x":{text}}},"orders":[]}}'.encode()


def with_name(text: str) -> bytes:
    """A record with this family name, escapes as they are written here."""
    return b'{"patient":{"resourceType":"Patient","id":"m","name":[{"family":"%s"}]},"orders":[]}' % text.encode()


def printed(result: TypesetResult) -> str:
    with pdfplumber.open(io.BytesIO(result.pdf)) as pdf:
        return "\n".join(page.extract_text() for page in pdf.pages)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (nested(150), "RENDER_TOO_LARGE"),
        (nested(100_000), "RENDER_FAILED"),
        (with_name("Ahmadi \\ud83d\\ude42"), "GLYPH_MISSING"),
        (with_name("Ahmadi \\ud800"), "BINDING_FAILED"),
        (with_name("Ahmadi\\u0000"), "BINDING_FAILED"),
        (with_name("Ahmadi\\u001b[2J"), "BINDING_FAILED"),
        (b'{"patient": {"resourceType": "Patient", "id": "m"}', "RENDER_FAILED"),
        (b'{"patient": {"resourceType": "Patient", "id": "m", "x": NaN}, "orders": []}', "RENDER_FAILED"),
        (
            b'{"patient": {"resourceType": "Patient", "id": "m", "x": %s}, "orders": []}' % (b"9" * 5000),
            "RENDER_FAILED",
        ),
        (b"\xff\xfe{}", "RENDER_FAILED"),
    ],
    ids=["deep", "deeper", "emoji", "surrogate", "U+0000", "escape", "cut off", "NaN", "long number", "not UTF-8"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_hostile_records(
    pool: TypesettingPool, record_property: Callable[[str, object], None], data: bytes, code: str
) -> None:
    hostile = asked(form("%patient.name.family", "text"), data)
    error = await ends(pool, hostile, {code}, record_property, BUSY)
    assert not error.retryable


@pytest.mark.asyncio(loop_scope="module")
async def test_bidi_overrides_turn_nothing_around(
    pool: TypesettingPool, record_property: Callable[[str, object], None]
) -> None:
    """A dose that prints as another one is the worst that a record can do to a page."""
    hostile = with_name("Dose \\u202e0.5\\u202c mg \\u2066\\u2067\\u200f")
    result = await pool.render(asked(form("%patient.name.family"), hostile))
    assert "Dose 0.5 mg" in printed(result)
    await serves_the_next(pool, record_property)


@pytest.mark.asyncio(loop_scope="module")
async def test_as_many_orders_as_a_reader_takes_do_not_hold_up_a_page(
    pool: TypesettingPool, record_property: Callable[[str, object], None]
) -> None:
    count = 2_000
    data = resources(orders=[order(number) for number in range(count)])
    began = time.monotonic()
    large = asyncio.ensure_future(pool.render(asked(RAW, json.dumps(data, default=str).encode(), rows=count)))
    await asyncio.sleep(0.5)
    await serves_the_next(pool, record_property)
    result = await large
    record_property("orders_large", f"{result.pages} pages in {time.monotonic() - began:.1f} s")
    assert result.pages > 20


# --- The network ------------------------------------------------------------------------------------------------


async def test_a_package_import_does_not_wait_for_a_silent_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine itself imports a package; the proxy of the service's environment takes connections and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        async with TypesettingPool(1, command=HOSTILE_CHILD) as pool:
            with pytest.raises(errors.RenderFailed) as caught:
                await pool.render(job({"hostile": "package"}, logo=False))
    assert caught.value.detail == "package: TypstError at once"
