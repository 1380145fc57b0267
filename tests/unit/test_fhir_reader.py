"""The reader against scripted servers: what is taken, and every way in which a server can mislead or fail."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from document_service.errors import (
    BindingFailed,
    DataIncomplete,
    FhirInvalid,
    FhirRefused,
    FhirUnavailable,
    PatientInactive,
    PatientUnknown,
    RenderTooLarge,
    ResourceUnknown,
    ServiceError,
    WrongPatient,
)
from document_service.fhir import FhirReader, FhirSnapshot, Limits
from loopback_http import Asked, LoopbackHttp, Reply, json_reply

SECRET_NAME = "Zarghuna-Secret"
TOKEN = "tenant-token-1"
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found"}]}

CONTEXT: dict[str, dict[str, Any]] = {
    "patient": {"read": "Patient"},
    "encounter": {"read": "Encounter", "optional": True},
    "orders": {"search": "ServiceRequest", "params": {"status": "active"}, "scope": "encounter"},
}


def order(number: int, **change: object) -> dict[str, Any]:
    return {
        "resourceType": "ServiceRequest",
        "id": f"s{number}",
        "meta": {"versionId": str(number)},
        "status": "active",
        "subject": {"reference": "Patient/p1"},
        "encounter": {"reference": "Encounter/e1"},
        "note": [{"text": SECRET_NAME}],
    } | change


def searchset(*resources: dict[str, Any], **more: object) -> dict[str, Any]:
    entries = [{"resource": resource, "search": {"mode": "match"}} for resource in resources]
    return {"resourceType": "Bundle", "type": "searchset", "total": len(resources), "entry": entries} | more


class Server:
    """A FHIR server of three answers, each of which a test may replace, with or without batch."""

    def __init__(self) -> None:
        self.takes_batch: int | None = None
        self.answers: dict[str, Any] = {
            "Patient": {"resourceType": "Patient", "id": "p1", "active": True, "name": [{"text": SECRET_NAME}]},
            "Encounter": {"resourceType": "Encounter", "id": "e1", "subject": {"reference": "Patient/p1"}},
            "ServiceRequest": searchset(order(1), order(2)),
        }
        self.override: dict[str, Reply] = {}
        self.http = LoopbackHttp(self.respond)

    @property
    def base(self) -> str:
        return self.http.url + "/r4"

    def respond(self, asked: Asked) -> Reply:
        if asked.method == "POST" and self.takes_batch is not None:
            return Reply(b"<h1>no</h1>", self.takes_batch, "text/html")
        if asked.method == "POST":
            if "batch" in self.override:
                return self.override["batch"]
            entries = [self.entry(one["request"]["url"]) for one in json.loads(asked.body)["entry"]]
            return json_reply({"resourceType": "Bundle", "type": "batch-response", "entry": entries})
        kind = asked.path.removeprefix("/r4/").partition("/")[0]
        if kind in self.override:
            return self.override[kind]
        found = self.answers.get(asked.target.removeprefix("/r4"), self.answers.get(kind))
        return json_reply(OUTCOME, 404) if found is None else json_reply(found)

    def entry(self, url: str) -> dict[str, Any]:
        kind = url.partition("/")[0].partition("?")[0]
        found = self.answers.get("/" + url, self.answers.get(kind))
        if kind in self.override:
            return {"response": {"status": f"{self.override[kind].status} Scripted", "outcome": OUTCOME}}
        if found is None:
            return {"response": {"status": "404 Not Found", "outcome": OUTCOME}}
        return {"response": {"status": "200 OK"}, "resource": found}

    @property
    def requests(self) -> list[str]:
        return [f"{asked.method} {asked.target}" for asked in self.http.asked]


@pytest.fixture(params=["batch", "reads"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """Each test runs against a server that takes a batch and against one that does not."""
    scripted = Server()
    scripted.takes_batch = None if request.param == "batch" else 405
    async with scripted.http:
        yield scripted


@pytest.fixture
async def single() -> AsyncIterator[Server]:
    scripted = Server()
    async with scripted.http:
        yield scripted


@pytest.fixture
async def reader() -> AsyncIterator[FhirReader]:
    made = FhirReader(limits=Limits(connect=2.0, silence=1.0, total=3.0))
    yield made
    await made.aclose()


async def read(
    reader: FhirReader,
    server: Server,
    context: dict[str, Any] = CONTEXT,
    encounter: str | None = "e1",
    **inputs: object,
) -> FhirSnapshot:
    return await reader.read(server.base, TOKEN, context, "p1", encounter)


async def failing(reader: FhirReader, server: Server, kind: type[ServiceError], **rest: Any) -> str:
    with pytest.raises(kind) as caught:
        await read(reader, server, **rest)
    assert type(caught.value) is kind
    told = f"{caught.value} {caught.value.detail} {caught.value.extra}"
    assert SECRET_NAME not in told
    assert TOKEN not in told
    return told


# --- What is taken --------------------------------------------------------------------------------------------


async def test_a_snapshot_has_what_the_form_asked_for(reader: FhirReader, server: Server) -> None:
    before = datetime.now(UTC)
    snapshot = await read(reader, server)
    assert list(snapshot.resources) == ["patient", "encounter", "orders"]
    assert [one["id"] for one in snapshot.resources["orders"]] == ["s1", "s2"]
    assert snapshot.patient["id"] == "p1"
    assert snapshot.encounter is not None
    assert before <= snapshot.as_of <= datetime.now(UTC)
    assert snapshot.provenance == [
        {"type": "Encounter", "id": "e1", "versionId": None},
        {"type": "Patient", "id": "p1", "versionId": None},
        {"type": "ServiceRequest", "id": "s1", "versionId": "1"},
        {"type": "ServiceRequest", "id": "s2", "versionId": "2"},
    ]
    assert json.loads(snapshot.resources_json())["orders"][0]["id"] == "s1"


async def test_a_batch_is_one_exchange(reader: FhirReader, single: Server) -> None:
    await read(reader, single)
    assert single.requests == ["POST /r4"]
    headers = single.http.asked[0].headers
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["prefer"] == "handling=strict"
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("refusal", [400, 403, 404, 405, 422, 501])
async def test_a_server_without_batch_is_remembered(reader: FhirReader, single: Server, refusal: int) -> None:
    single.takes_batch = refusal
    for _ in range(2):
        assert len((await read(reader, single)).resources["orders"]) == 2
    assert [line.partition(" ")[0] for line in single.requests] == ["POST"] + ["GET"] * 6


async def test_without_an_encounter_the_optional_entry_is_none(reader: FhirReader, server: Server) -> None:
    snapshot = await read(reader, server, encounter=None)
    assert snapshot.resources["encounter"] is None
    assert snapshot.encounter is None


async def test_numbers_keep_their_digits(reader: FhirReader, server: Server) -> None:
    body = json.dumps(server.answers["Patient"]).replace("{", '{"x": 1.10, "y": 12345678901234567890, ', 1)
    server.takes_batch = 405
    server.override["Patient"] = Reply(body.encode())
    snapshot = await read(reader, server)
    assert snapshot.patient["x"] == Decimal("1.10")
    assert b'"x":1.10,"y":12345678901234567890' in snapshot.resources_json()


async def test_absurd_nesting_is_invalid(reader: FhirReader, single: Server) -> None:
    single.takes_batch = 405
    nested = b'{"resourceType": "Patient", "id": "p1", "x": ' + b"[" * 500 + b"]" * 500 + b"}"
    single.override["Patient"] = Reply(nested)
    snapshot = await read(reader, single)
    with pytest.raises(FhirInvalid):
        snapshot.resources_json()


async def test_resources_entered_in_error_are_passed_on(reader: FhirReader, server: Server) -> None:
    server.answers["ServiceRequest"] = searchset(order(1, status="entered-in-error"))
    assert (await read(reader, server)).resources["orders"][0]["status"] == "entered-in-error"


async def test_an_empty_search_is_an_empty_list(reader: FhirReader, server: Server) -> None:
    server.answers["ServiceRequest"] = {"resourceType": "Bundle", "type": "searchset", "total": 0}
    assert (await read(reader, server)).resources["orders"] == []


# --- References -----------------------------------------------------------------------------------------------

FOLLOWING = CONTEXT | {
    "doctor": {"read": "Practitioner", "reference": "encounter.participant.individual"},
    "clinic": {"read": "Organization", "reference": "role.organization", "optional": True},
    "role": {"read": "PractitionerRole", "reference": "orders.requester", "optional": True},
}


async def test_references_are_followed_in_waves(reader: FhirReader, server: Server) -> None:
    server.answers["Encounter"]["participant"] = [{"individual": {"reference": "Practitioner/d1"}}]
    for one in server.answers["ServiceRequest"]["entry"]:
        one["resource"]["requester"] = {"reference": f"{server.base}/PractitionerRole/r1"}
    server.answers["Practitioner"] = {"resourceType": "Practitioner", "id": "d1"}
    server.answers["PractitionerRole"] = {
        "resourceType": "PractitionerRole",
        "id": "r1",
        "organization": {"reference": "#o"},
        "contained": [{"resourceType": "Organization", "id": "o", "name": "Clinic"}],
    }
    snapshot = await read(reader, server, context=FOLLOWING)
    assert snapshot.resources["doctor"]["id"] == "d1"
    assert snapshot.resources["clinic"]["name"] == "Clinic"
    assert list(snapshot.resources) == list(FOLLOWING)
    assert "Organization" not in {one["type"] for one in snapshot.provenance}


async def test_a_reference_that_is_not_there(reader: FhirReader, server: Server) -> None:
    assert "encounter.participant.individual" in await failing(reader, server, ResourceUnknown, context=FOLLOWING)
    server.answers["Encounter"]["participant"] = [{"individual": {"reference": "Practitioner/gone"}}]
    assert "context.doctor" in await failing(reader, server, ResourceUnknown, context=FOLLOWING)
    optional = CONTEXT | {"doctor": FOLLOWING["doctor"] | {"optional": True}}
    assert (await read(reader, server, context=optional)).resources["doctor"] is None


@pytest.mark.parametrize("literal", ["http://127.0.0.1:1/r4/Practitioner/d1", "urn:uuid:1", "Patient/p1", "../x"])
async def test_a_reference_elsewhere_is_not_followed(reader: FhirReader, server: Server, literal: str) -> None:
    server.answers["Encounter"]["participant"] = [{"individual": {"reference": literal}}]
    assert "not followed" in await failing(reader, server, ResourceUnknown, context=FOLLOWING)


async def test_two_references_are_no_choice(reader: FhirReader, server: Server) -> None:
    server.answers["Encounter"]["participant"] = [
        {"individual": {"reference": "Practitioner/d1"}},
        {"individual": {"reference": "Practitioner/d2"}},
    ]
    await failing(reader, server, DataIncomplete, context=FOLLOWING)


async def test_references_that_wait_for_each_other(reader: FhirReader, server: Server) -> None:
    circle = {
        "a": {"read": "Organization", "reference": "b.partOf"},
        "b": {"read": "Organization", "reference": "a.partOf"},
    }
    await failing(reader, server, DataIncomplete, context=circle)


# --- Another patient ------------------------------------------------------------------------------------------


async def test_the_patient_must_be_known_active_and_the_one_asked_for(reader: FhirReader, server: Server) -> None:
    good = server.answers["Patient"]
    server.answers["Patient"] = good | {"id": "p2"}
    await failing(reader, server, WrongPatient)
    server.answers["Patient"] = good | {"active": False}
    assert "not active" in await failing(reader, server, PatientInactive)
    server.answers["Patient"] = good | {"link": [{"type": "seealso"}, {"type": "replaced-by"}]}
    assert "merged" in await failing(reader, server, PatientInactive)
    server.answers["Patient"] = {"resourceType": "Person", "id": "p1"}
    await failing(reader, server, FhirInvalid)
    del server.answers["Patient"]
    await failing(reader, server, PatientUnknown)


@pytest.mark.parametrize("patient_id", ["", "a/b", "a?b", "../x", "x" * 65, "p1\n"])
async def test_ids_of_another_shape_are_not_sent(reader: FhirReader, server: Server, patient_id: str) -> None:
    with pytest.raises(PatientUnknown):
        await reader.read(server.base, TOKEN, CONTEXT, patient_id)
    with pytest.raises(ResourceUnknown):
        await reader.read(server.base, TOKEN, CONTEXT, "p1", patient_id)
    assert server.requests == []


async def test_every_resource_must_be_the_patient_s_and_the_encounter_s(reader: FhirReader, server: Server) -> None:
    server.answers["ServiceRequest"] = searchset(order(1), order(2, subject={"reference": "Patient/p2"}))
    assert "context.orders" in await failing(reader, server, WrongPatient)
    server.answers["ServiceRequest"] = searchset(order(1, encounter={"reference": "Encounter/e2"}))
    assert "encounter" in await failing(reader, server, WrongPatient)
    assert len((await read(reader, server, encounter=None)).resources["orders"]) == 1
    server.answers["Encounter"] = {"resourceType": "Encounter", "id": "e1", "subject": {"reference": "Patient/p2"}}
    await failing(reader, server, WrongPatient)
    server.answers["Encounter"] = {"resourceType": "Encounter", "id": "e2", "subject": {"reference": "Patient/p1"}}
    await failing(reader, server, WrongPatient)
    # The encounter of the request is compared even by a form that does not show it.
    await failing(reader, server, WrongPatient, context={"patient": {"read": "Patient"}})
    del server.answers["Encounter"]
    await failing(reader, server, ResourceUnknown)


async def test_types_without_an_encounter_search_are_sorted_out_here(reader: FhirReader, server: Server) -> None:
    shot: dict[str, Any] = {"resourceType": "Immunization", "id": "i1", "patient": {"reference": "Patient/p1"}}
    server.answers["Immunization"] = searchset(shot, shot | {"id": "i2", "encounter": {"reference": "Encounter/e1"}})
    context = {"shots": {"search": "Immunization", "scope": "encounter"}}
    assert [one["id"] for one in (await read(reader, server, context=context)).resources["shots"]] == ["i2"]
    assert len((await read(reader, server, context=context, encounter=None)).resources["shots"]) == 2


# --- Less than everything -------------------------------------------------------------------------------------


def pages(server: Server, *bodies: dict[str, Any], link: str = "{base}/ServiceRequest?page={n}") -> None:
    for number, body in enumerate(bodies):
        if number + 1 < len(bodies):
            url = link.format(base=server.base, n=number + 1)
            body["link"] = [{"relation": "next", "url": url}]
        server.answers["ServiceRequest" if number == 0 else f"/ServiceRequest?page={number}"] = body


@pytest.mark.parametrize("link", ["{base}/ServiceRequest?page={n}", "ServiceRequest?page={n}"])
async def test_pages_are_read_to_the_end(reader: FhirReader, server: Server, link: str) -> None:
    parts = [searchset(*(order(10 * page + one) for one in range(3)), total=12) for page in range(4)]
    pages(server, *parts, link=link)
    snapshot = await read(reader, server)
    assert len(snapshot.resources["orders"]) == 12
    assert len(snapshot.provenance) == 14


async def test_another_patient_on_the_last_page_is_seen(reader: FhirReader, server: Server) -> None:
    pages(server, searchset(order(1), total=2), searchset(order(2, subject={"reference": "Patient/p2"}), total=2))
    await failing(reader, server, WrongPatient)


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.1:1/r4/ServiceRequest?page={n}",
        "//other.example/r4/ServiceRequest?page={n}",
        "/other-tenant/ServiceRequest?page={n}",
        "{base}/../other-tenant/ServiceRequest?page={n}",
        "{base}x/ServiceRequest?page={n}",
        "https://[",
    ],
)
async def test_a_next_page_elsewhere_is_not_asked_for(reader: FhirReader, server: Server, link: str) -> None:
    pages(server, searchset(order(1)), searchset(order(2)), link=link)
    await failing(reader, server, DataIncomplete)
    assert not any("page=" in line for line in server.requests)


async def test_pages_without_an_end(reader: FhirReader, server: Server) -> None:
    endless = searchset(order(1), link=[{"relation": "next", "url": "ServiceRequest?page=1"}])
    server.answers["ServiceRequest"] = server.answers["/ServiceRequest?page=1"] = endless
    await failing(reader, server, DataIncomplete)


async def test_more_resources_than_a_form_takes(server: Server) -> None:
    reader = FhirReader(limits=Limits(resources=5))
    server.answers["ServiceRequest"] = searchset(*map(order, range(6)))
    await failing(reader, server, RenderTooLarge)
    await reader.aclose()


async def test_a_page_that_is_gone_may_pass(reader: FhirReader, server: Server) -> None:
    server.answers["ServiceRequest"] = searchset(order(1), link=[{"relation": "next", "url": "Gone?page=1"}])
    await failing(reader, server, FhirUnavailable)


@pytest.mark.parametrize(
    "answer",
    [
        searchset(order(1), total=2),
        searchset(order(1, meta={"tag": [{"code": "SUBSETTED"}]})),
        searchset(order(1), entry=[{"fullUrl": "x"}]),
        searchset(order(1), entry=["x"]),
        searchset(order(1), link=[{"relation": "self", "url": "ServiceRequest?patient=Patient/p1&_count=200"}]),
        searchset(
            {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "incomplete"}]}, total=0
        ),
        searchset({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "x"}]}, total=0),
    ],
    ids=["total", "subsetted", "no resource", "no object", "ignored parameter", "incomplete", "error outcome"],
)
async def test_an_answer_with_something_missing_is_refused(
    reader: FhirReader, server: Server, answer: dict[str, Any]
) -> None:
    server.answers["ServiceRequest"] = answer
    await failing(reader, server, DataIncomplete)


async def test_harmless_outcomes_and_self_links_are_taken(reader: FhirReader, server: Server) -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational"}]}
    answer = searchset(order(1), link=[{"relation": "self", "url": "ServiceRequest?status=active&subject=p1"}])
    answer["entry"].append({"resource": outcome, "search": {"mode": "outcome"}})
    server.answers["ServiceRequest"] = answer
    assert len((await read(reader, server)).resources["orders"]) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"resourceType": "Bundle", "type": "history"},
        order(1),
        searchset({"resourceType": "Observation", "id": "x"}),
        searchset(order(1), entry={}),
        searchset({"resourceType": "ServiceRequest"}),
    ],
)
async def test_an_answer_that_is_no_searchset(reader: FhirReader, server: Server, answer: dict[str, Any]) -> None:
    server.answers["ServiceRequest"] = answer
    await failing(reader, server, FhirInvalid)


# --- Statuses and faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FhirRefused),
        (403, FhirRefused),
        (404, ResourceUnknown),
        (410, ResourceUnknown),
        (400, FhirInvalid),
        (412, FhirInvalid),
        (302, FhirInvalid),
        (408, FhirUnavailable),
        (429, FhirUnavailable),
        (500, FhirUnavailable),
        (503, FhirUnavailable),
    ],
)
async def test_each_status_of_one_read_has_its_class(
    reader: FhirReader, server: Server, status: int, kind: type[ServiceError]
) -> None:
    server.override["ServiceRequest"] = json_reply(OUTCOME, status)
    assert "context.orders" in await failing(reader, server, kind)
    server.override = {"Patient": json_reply(OUTCOME, status)}
    expected = PatientUnknown if kind is ResourceUnknown else kind
    await failing(reader, server, expected)


async def test_retry_after_is_passed_on(reader: FhirReader, single: Server) -> None:
    single.override["batch"] = Reply(b"", 503, headers={"Retry-After": "7"})
    with pytest.raises(FhirUnavailable) as caught:
        await read(reader, single)
    assert caught.value.headers == {"Retry-After": "7"}
    assert caught.value.retryable


HTML = Reply(b"<!doctype html><h1>Sign in to the hospital network</h1>", 200, "text/html")


@pytest.mark.parametrize("status", [200, 404])
async def test_a_portal_is_not_a_fhir_server(reader: FhirReader, server: Server, status: int) -> None:
    server.http.respond = lambda asked: Reply(HTML.body, status, "text/html; charset=utf-8")
    await failing(reader, server, FhirInvalid)


async def test_another_program_s_404_is_not_an_unknown_patient(reader: FhirReader, server: Server) -> None:
    server.http.respond = lambda asked: json_reply({"detail": "Not Found"}, 404, content_type="application/json")
    await failing(reader, server, FhirInvalid)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"{", content_type="application/fhir+json"),
        Reply(b"[]", content_type="application/json"),
        Reply(b"\xff\xff"),
        Reply(b'{"a":' * 50_000),
        Reply(b'{"a": NaN}'),
        Reply(b"{}", content_type="text/plain"),
        Reply(b"{}", headers={"Content-Encoding": "gzip"}),
        Reply(b"", 200),
        json_reply({"resourceType": "Bundle", "type": "batch-response", "entry": []}),
        json_reply({"resourceType": "Bundle", "type": "batch-response", "entry": [{}, {}, {}]}),
        json_reply(
            {"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": {"status": "200 OK"}}] * 3}
        ),
        json_reply(
            {"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": {"status": "2000"}}] * 3}
        ),
        Reply(b"", 307, headers={"Location": "http://127.0.0.1:1/"}),
    ],
)
async def test_a_garbled_answer_is_invalid(reader: FhirReader, server: Server, reply: Reply) -> None:
    server.http.respond = lambda asked: reply
    await failing(reader, server, FhirInvalid)


async def test_redirects_are_not_followed_and_the_token_stays(reader: FhirReader, server: Server) -> None:
    elsewhere = LoopbackHttp(lambda asked: json_reply({}))
    async with elsewhere:
        location = {"Location": f"{elsewhere.url}/r4/Patient/p1"}
        server.http.respond = lambda asked: Reply(b"", 302, headers=location)
        await failing(reader, server, FhirInvalid)
        assert elsewhere.asked == []


async def test_cookies_are_not_kept(reader: FhirReader, single: Server) -> None:
    single.http.respond = lambda asked: Reply(b"", 500, headers={"Set-Cookie": "session=of-tenant-1; Path=/"})
    for _ in range(2):
        await failing(reader, single, FhirUnavailable)
    assert all("cookie" not in asked.headers for asked in single.http.asked)


@pytest.mark.parametrize("reply", [Reply(b"", 500), Reply(b"", 502), Reply(b"{" * 100, cut=50), Reply(b"{}", delay=5)])
async def test_a_server_that_breaks_over_a_batch_is_read_one_by_one(
    reader: FhirReader, single: Server, reply: Reply
) -> None:
    single.override["batch"] = reply
    for _ in range(2):
        assert (await read(reader, single)).patient["id"] == "p1"
    # It was asked for a batch once; a server that reads but does not batch is remembered.
    assert [asked.method for asked in single.http.asked].count("POST") == 1


async def test_a_server_that_was_down_is_asked_for_a_batch_again(reader: FhirReader, single: Server) -> None:
    answers = single.http.respond
    single.http.respond = lambda asked: Reply(b"", 500)
    await failing(reader, single, FhirUnavailable)
    single.http.respond = answers
    single.http.asked.clear()
    await read(reader, single)
    assert [asked.method for asked in single.http.asked] == ["POST"]


async def test_a_busy_server_is_left_alone(reader: FhirReader, single: Server) -> None:
    single.override["batch"] = Reply(b"", 503, headers={"Retry-After": "7"})
    await failing(reader, single, FhirUnavailable)
    assert [asked.method for asked in single.http.asked] == ["POST"]


async def test_an_answer_above_the_limit_is_cut_off(server: Server) -> None:
    reader = FhirReader(limits=Limits(answer_bytes=50_000))
    server.http.respond = lambda asked: Reply(b" " * 10_000_000)
    await failing(reader, server, RenderTooLarge)
    await reader.aclose()


async def test_all_answers_of_a_job_are_bounded(single: Server) -> None:
    single.takes_batch = 405
    single.answers["ServiceRequest"] = searchset(order(1, note="x" * 4000))
    reader = FhirReader(limits=Limits(job_bytes=3000))
    await failing(reader, single, RenderTooLarge)
    await reader.aclose()


@pytest.mark.parametrize(
    "reply",
    [Reply(b"{}", delay=5), Reply(b"{" + b" " * 1000, drip=0.05), Reply(b"{" * 100, cut=50)],
    ids=["silent", "drop by drop", "cut off"],
)
async def test_a_slow_or_broken_server_is_unavailable_in_time(reader: FhirReader, server: Server, reply: Reply) -> None:
    server.http.respond = lambda asked: reply
    started = time.monotonic()
    await failing(reader, server, FhirUnavailable)
    # The reader gives up after 3 s; the slow answers would take 5 and 50.
    assert time.monotonic() - started < 5


async def test_a_server_that_is_down_is_unavailable(reader: FhirReader) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}/r4"
        with pytest.raises(FhirUnavailable):
            await reader.read(base, TOKEN, CONTEXT, "p1")


@pytest.mark.parametrize(
    "base", ["ftp://x/r4", "fhir.example", "http://", "http://u:p@127.0.0.1/r4", "http://x/r4?y=1"]
)
async def test_an_address_that_is_none(reader: FhirReader, base: str) -> None:
    with pytest.raises(FhirInvalid):
        await reader.read(base, TOKEN, CONTEXT, "p1")


async def test_a_cancelled_read_stays_cancelled(reader: FhirReader, server: Server) -> None:
    server.http.respond = lambda asked: Reply(b"{}", delay=5)
    task = asyncio.create_task(read(reader, server))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_is_logged(reader: FhirReader, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await read(reader, server)
    assert not [record for record in caplog.records if record.name.startswith(("httpx2", "httpcore2"))]


async def test_a_context_that_cannot_be_read_asks_nothing(reader: FhirReader, server: Server) -> None:
    await failing(reader, server, BindingFailed, context={"x": {"search": "Patient"}})
    assert server.requests == []
