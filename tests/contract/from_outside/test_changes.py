"""Contract §4, the change feed: what changed for this caller, in order, once or ten times with the same end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from contract.from_outside.caller import Caller, Request, code_of, new_id
from contract.from_outside.clinic import CLINIC, Clinic
from contract.from_outside.shapes import CACHE_POLICY, CHANGES

FEED = "/v1/documents/changes"


@pytest.fixture(scope="module")
def reader(clinic: Clinic) -> Iterator[Caller]:
    """Somebody whose feed only this file adds to, beside what everybody in the clinic sees."""
    with clinic.caller(CLINIC, "reader", "CLINICIAN") as caller:
        yield caller


def _read(reader: Caller, cursor: str | None = None) -> tuple[list[dict[str, Any]], str]:
    """Every page after a cursor, and the cursor at the end."""
    pages = []
    while True:
        answer = reader.get(FEED, params={"cursor": cursor} if cursor else {})
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        assert set(page) >= CHANGES
        pages.append(page)
        cursor = page["cursor"]
        if not page["more"]:
            return pages, page["cursor"]


def test_what_is_new_comes_once_and_the_rest_does_not_come_again(reader: Caller, request_for: Request) -> None:
    """§4: "`{cursor, more, revocations, templates, jobs, documents, cachePolicy}` in commit order"."""
    first, cursor = _read(reader)
    assert set(first[0]["cachePolicy"]) >= CACHE_POLICY
    job = reader.render(request_for())
    pages, after = _read(reader, cursor)
    assert [one["id"] for page in pages for one in page["documents"]] == [job["documentId"]]
    # The job changed three times; whatever stands in the feed last is its end.
    assert [one for page in pages for one in page["jobs"]][-1] == job
    (nothing,), _ = _read(reader, after)
    assert not nothing["jobs"] + nothing["documents"] + nothing["templates"]
    again, _ = _read(reader, cursor)
    assert [page["documents"] for page in again] == [page["documents"] for page in pages]


def test_a_whole_reading_ends_in_what_is_there(reader: Caller, request_for: Request) -> None:
    """§4: "410 → start again from an empty cursor: what is not listed is removed": so everything must be listed."""
    job = reader.render(request_for(patientId="demo-patient-rahimi"))
    pages, _ = _read(reader)
    documents = {one["id"]: one for page in pages for one in page["documents"]}
    for patient in ("demo-patient-noorzai", "demo-patient-rahimi", "demo-patient-ahmadzai"):
        for one in reader.every("/v1/documents", patientId=patient):
            if one["status"] == "current":
                assert documents[one["id"]] == one
    assert job["documentId"] in documents
    templates = {one["id"] for page in pages for one in page["templates"]}
    assert templates >= {one["id"] for one in reader.every("/v1/document-templates", status="published")}


def test_revocations_are_complete_on_every_page(reader: Caller, request_for: Request) -> None:
    """§4: "`revocations` is complete up to now on every page and is applied before anything is stored"."""
    job = reader.render(request_for())
    _, cursor = _read(reader)
    answer = reader.post(
        f"/v1/documents/{job['documentId']}/void",
        json={"reason": "wrong patient"},
        headers={"Idempotency-Key": new_id()},
    )
    assert answer.status_code == 200
    pages, _ = _read(reader)
    later, _ = _read(reader, cursor)
    for page in (*pages, *later):
        assert job["documentId"] in [one["documentId"] for one in page["revocations"]]
        assert all(set(one) >= {"documentId", "reason"} for one in page["revocations"])
        # What is taken back is nowhere told to be current.
        assert [one["status"] for one in page["documents"] if one["id"] == job["documentId"]] in (
            [],
            ["entered-in-error"],
        )


def test_a_cursor_is_its_callers(reader: Caller, stranger: Caller, south: Caller) -> None:
    """§4: the cursor of another user or tenant is 410; from an empty one everything of their own comes."""
    _, cursor = _read(reader)
    for other in (stranger, south):
        assert code_of(other.get(FEED, params={"cursor": cursor})) == (410, "FEED_RESET")
    assert reader.get(FEED, params={"cursor": "nonsense"}).status_code in (400, 410)
    mine = {one["id"] for page in _read(reader)[0] for one in page["documents"]}
    theirs = {one["id"] for page in _read(stranger)[0] for one in page["documents"]}
    assert not mine & theirs


def test_the_policy_is_signed_and_has_the_promised_defaults(reader: Caller) -> None:
    """§4: "defaults TTL 7 days, lease 14 days"; §3: "dedup window (default 400 days, in the cache policy)"."""
    policy = _read(reader)[0][0]["cachePolicy"]
    days = 24 * 60 * 60
    assert (policy["cacheTtlSeconds"], policy["leaseSeconds"], policy["dedupWindowDays"]) == (7 * days, 14 * days, 400)
    assert policy["signature"]


def test_the_policy_of_the_tenant_stands_over_the_deployments(clinic: Clinic, reader: Caller) -> None:
    """§4: "per tenant over per deployment"; §5: `tenant create T --cache-ttl …`."""
    clinic.command("tenant", "create", CLINIC, "--cache-ttl", "2d")
    try:
        assert _read(reader)[0][0]["cachePolicy"]["cacheTtlSeconds"] == 2 * 24 * 60 * 60
    finally:
        clinic.command("tenant", "create", CLINIC, "--cache-ttl", "7d")


def test_a_first_reading_is_compressed_for_who_takes_it(reader: Caller) -> None:
    """docs/http-api.md: devices are at the end of a slow line."""
    url = f"{str(reader.base_url).rstrip('/')}{FEED}"
    with httpx2.Client(trust_env=False, headers={"Authorization": reader.headers["Authorization"]}) as raw:
        plain = raw.get(url, headers={"Accept-Encoding": "identity"})
        with raw.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as answer:
            packed = b"".join(answer.iter_raw())
    assert "content-encoding" not in plain.headers
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed))["documents"] == plain.json()["documents"]
    assert len(packed) < len(plain.content) / 3


def test_the_epoch_is_the_same_for_everybody(reader: Caller, stranger: Caller) -> None:
    """§3: "Every reply carries `X-Sync-Epoch`, a random id kept in the database": one, whatever is asked."""
    with reader.without_token() as nobody:
        answers = [reader.get(FEED), stranger.get(FEED), nobody.get("/health/live"), nobody.get(FEED)]
    assert len({answer.headers["x-sync-epoch"] for answer in answers}) == 1
