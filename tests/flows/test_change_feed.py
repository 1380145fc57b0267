"""The change feed: nothing is missed in whatever order transactions commit, and a cursor belongs to one caller."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from raw_database import Connection, as_tenant
from running_service import Api, Service, request_for

FEED = "/v1/documents/changes"


@pytest.fixture(scope="module")
def clinic(service: Service, fhir_url: str) -> str:
    """One tenant for this file."""
    return service.create_tenant(fhir_url)


@pytest.fixture
def reader(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic) as caller:
        yield caller


def _page(caller: Api, cursor: str = "") -> dict[str, Any]:
    answer = caller.get(FEED, params={"cursor": cursor})
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def _end(caller: Api, cursor: str = "") -> str:
    """The cursor after everything there is now."""
    page = _page(caller, cursor)
    while page["more"]:
        page = _page(caller, page["cursor"])
    return str(page["cursor"])


def _decoded(cursor: str) -> list[Any]:
    parts: list[Any] = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return parts


def _encoded(parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _draft(caller: Api, name: str) -> str:
    answer = caller.post("/v1/document-templates", json={"name": name, "category": "letter"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def _change(connection: Connection, tenant: str, template: str) -> None:
    await connection.execute(
        "INSERT INTO changes (tenant_id, kind, entity_id) VALUES ($1, 'template', $2)", tenant, template
    )


async def test_two_transactions_that_commit_out_of_order_are_both_seen(
    service: Service, clinic: str, reader: Api
) -> None:
    older, newer = _draft(reader, "older"), _draft(reader, "newer")
    cursor = _end(reader)
    async with as_tenant(service, clinic) as first, as_tenant(service, clinic) as second:
        await _change(first, clinic, older)
        await _change(second, clinic, newer)
        await second.execute("COMMIT")
        # The first still runs: a reader that took the second's row now would step over the first's for ever.
        between = _page(reader, cursor)
        assert between["templates"] == []
        await first.execute("COMMIT")
    after = _page(reader, between["cursor"])
    assert [template["id"] for template in after["templates"]] == [older, newer]
    assert _page(reader, after["cursor"])["templates"] == []


async def test_a_transaction_that_is_rolled_back_holds_nothing_up(service: Service, clinic: str, reader: Api) -> None:
    template = _draft(reader, "rolled back")
    cursor = _end(reader)
    async with as_tenant(service, clinic) as connection:
        await _change(connection, clinic, template)
    later = _draft(reader, "after the roll-back")
    assert [t["id"] for t in _page(reader, cursor)["templates"]] == [later]


async def test_a_revocation_is_told_on_every_page_until_it_is_passed(
    service: Service, clinic: str, reader: Api
) -> None:
    template = _draft(reader, "beside a revocation")
    cursor = _end(reader)
    document = "doc_01M825W1R75GVRPV7N8CCMDH09"
    async with as_tenant(service, clinic) as connection:
        for _ in range(150):
            await _change(connection, clinic, template)
        await connection.execute(
            "INSERT INTO changes (tenant_id, kind, entity_id, reason) VALUES ($1, 'revocation', $2, 'superseded')",
            clinic,
            document,
        )
        await connection.execute("COMMIT")
    first = _page(reader, cursor)
    assert first["more"]
    assert first["revocations"] == [{"documentId": document, "reason": "superseded"}]
    second = _page(reader, first["cursor"])
    assert not second["more"]
    assert second["revocations"] == first["revocations"]
    assert _page(reader, second["cursor"])["revocations"] == []


def test_the_walk_of_a_job_and_its_document_is_told(reader: Api) -> None:
    cursor = _end(reader)
    job = reader.render(request_for(reader.platform_version()))
    page = _page(reader, cursor)
    assert page["jobs"] == [job]
    assert [document["id"] for document in page["documents"]] == [job["documentId"]]
    assert _page(reader, cursor) | {"cachePolicy": None} == page | {"cachePolicy": None}


def test_a_job_is_told_to_whoever_asked_and_the_document_to_all(service: Service, clinic: str, reader: Api) -> None:
    with service.caller(clinic, user="colleague") as colleague:
        cursor = _end(colleague)
        job = reader.render(request_for(reader.platform_version()))
        page = _page(colleague, cursor)
        assert page["jobs"] == []
        assert [document["id"] for document in page["documents"]] == [job["documentId"]]


def test_a_new_device_is_told_everything_from_the_empty_cursor(reader: Api) -> None:
    template = _draft(reader, "from the beginning")
    seen: list[str] = []
    page = _page(reader)
    while True:
        seen += [item["id"] for item in page["templates"]]
        if not page["more"]:
            break
        page = _page(reader, page["cursor"])
    assert template in seen
    assert "general-test-requisition" in json.dumps(_page(reader)["templates"])


def test_a_cursor_of_another_caller_starts_anew(service: Service, clinic: str, reader: Api) -> None:
    cursor = _page(reader)["cursor"]
    for other in (
        {"user": "somebody-else"},
        {"roles": ("CLINICIAN",)},
        {"facilities": ("demo-clinic",)},
        {"facilities": ()},
    ):
        with service.caller(clinic, **{"user": "nurse", **other}) as caller:
            answer = caller.get(FEED, params={"cursor": cursor})
            assert (answer.status_code, answer.json()["code"]) == (410, "FEED_RESET"), other
    with service.caller(clinic) as the_same_with_a_fresh_token:
        assert _page(the_same_with_a_fresh_token, cursor)


def test_a_cursor_from_before_a_restore_starts_anew(reader: Api) -> None:
    page = reader.get(FEED)
    epoch, *rest = _decoded(page.json()["cursor"])
    assert page.headers["x-sync-epoch"] == epoch
    answer = reader.get(FEED, params={"cursor": _encoded(["0" * len(epoch), *rest])})
    assert (answer.status_code, answer.json()["code"]) == (410, "FEED_RESET")


@pytest.mark.parametrize(
    "change",
    [
        {2: 10**9},
        {3: 10**9},
        {4: "00000000"},
        {5: "0" * 16},
        {5: None},
        {2: -1},
        {3: -1},
        {2: 2**70},
        {3: 2**70},
        {2: 1.5},
        {3: True},
        {2: "1"},
        {2: None},
    ],
)
def test_a_forged_position_is_refused(reader: Api, change: dict[int, Any]) -> None:
    parts = _decoded(_page(reader)["cursor"])
    for place, value in change.items():
        parts[place] = value
    answer = reader.get(FEED, params={"cursor": _encoded(parts)})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_CURSOR")


@pytest.mark.parametrize(
    "cursor", ["!", "é", "e30", "W10", _encoded([1, 2]), _encoded("x"), _encoded([1, 2, 1e999, 1])]
)
def test_what_is_no_cursor_is_refused(reader: Api, cursor: str) -> None:
    answer = reader.get(FEED, params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_CURSOR")


def test_the_cache_policy_is_signed_for_this_tenant(service: Service, clinic: str, reader: Api) -> None:
    policy = _page(reader)["cachePolicy"]
    kid, _, signature = policy.pop("signature").partition(".")
    published = {
        key["kid"]: key["publicKey"] for key in reader.get("/.well-known/document-service").json()["policyKeys"]
    }
    key = Ed25519PublicKey.from_public_bytes(_bytes(published[kid]))

    def message(tenant: str, content: dict[str, Any]) -> bytes:
        return b"document-service cache-policy v1\n" + tenant.encode() + b"\n" + rfc8785.dumps(content)

    key.verify(_bytes(signature), message(clinic, policy))
    for forged in (message("another", policy), message(clinic, {**policy, "cacheTtlSeconds": 10**9})):
        with pytest.raises(InvalidSignature):
            key.verify(_bytes(signature), forged)
    assert set(policy) >= {"version", "cacheTtlSeconds", "leaseSeconds", "dedupWindowDays", "quotaBytes", "onExpiry"}
    service.command("tenant", "create", clinic, "--cache-ttl", "1h")
    changed = _page(reader)["cachePolicy"]
    assert (changed["cacheTtlSeconds"], changed["version"] > policy["version"]) == (3600, True)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_paging_while_others_write_misses_nothing_and_repeats_nothing(service: Service, fhir_url: str) -> None:
    """Each draft is one change: it must come exactly once, over pages that are read while the drafts are made."""
    tenant = service.create_tenant(fhir_url)
    writers, each = 4, 60
    made: list[str] = []
    done = threading.Event()

    def write(number: int) -> None:
        with service.caller(tenant, user=f"author-{number}") as caller:
            for n in range(each):
                made.append(_draft(caller, f"{number}.{n}"))

    def read() -> list[tuple[int, int, list[str]]]:
        pages, cursor = [], ""
        with service.caller(tenant) as caller:
            while True:
                last = done.is_set()
                page = _page(caller, cursor)
                cursor = page["cursor"]
                _, _, xid, seq, _, _ = _decoded(cursor)
                pages.append((xid, seq, [template["id"] for template in page["templates"]]))
                if last and not page["more"]:
                    return pages

    with ThreadPoolExecutor(writers + 2) as pool:
        readers = [pool.submit(read), pool.submit(read)]
        for written in [pool.submit(write, number) for number in range(writers)]:
            written.result()
        done.set()
        for reader in readers:
            pages = reader.result()
            positions = [(xid, seq) for xid, seq, _ in pages]
            assert positions == sorted(positions)
            told = [template for _, _, ids in pages for template in ids]
            ours = [template for template in told if template in set(made)]
            assert len(ours) == len(made) == writers * each
            assert set(ours) == set(made)
            assert sum(bool(ids) for _, _, ids in pages) > 1, "the reader must have read between the writes"
