"""Few bytes, few round trips: what a device spends on a link of 64 kbit/s and 600 ms, counted by the proxy.

The machine that runs the tests may be busy, so a time is worked out from what was counted: a round trip for each
exchange and for the connection, and every byte at the link's rate. What the service itself needs is measured apart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from document_client import DocumentClient
from document_client.cycle import Report
from document_client.driver import Progress
from document_client.errors import ClientError
from document_client.http import Connection
from document_client.watching import watch
from document_service.fault_proxy import Counts, FaultProxy, Faults
from running_service import Api, Service, request_for

FORM = "General Test Requisition"
PATIENT = "demo-patient-noorzai"
RATE = 8000.0
ROUND_TRIP = 0.6
LINK = Faults(round_trip_seconds=ROUND_TRIP, bytes_per_second_up=RATE, bytes_per_second_down=RATE)


@pytest.fixture
def proxy(service: Service) -> Iterator[FaultProxy]:
    with FaultProxy(service.url) as made:
        yield made


@pytest.fixture
def client(proxy: FaultProxy, service: Service, tenant: str, tmp_path: Path) -> Iterator[DocumentClient]:
    with DocumentClient(tmp_path / "home", passphrase="correct horse") as made:
        made.login(proxy.url, service.token(tenant, "nurse", ("CLINICIAN",)))
        made.templates()
        assert made.sync().success
        yield made


def seconds_on_the_link(counts: Counts) -> float:
    """What the link alone takes for these exchanges, one after the other."""
    waits = (counts.requests + counts.connections) * ROUND_TRIP
    return waits + (counts.bytes_up + counts.bytes_down) / RATE


def spent(counts: Counts) -> int:
    return counts.bytes_up + counts.bytes_down


def test_nothing_new_costs_one_exchange_and_less_than_a_kilobyte(proxy: FaultProxy, client: DocumentClient) -> None:
    client.sync()
    proxy.reset_counts()
    report = client.sync()
    counts = proxy.counts()
    assert report.success
    assert (counts.requests, counts.connections) == (1, 1)
    assert spent(counts) < 1024, counts
    assert client.templates().freshness == "fresh"
    assert client.status().clock["confidence"] == "verified"
    print(f"nothing new: {counts.bytes_up} bytes up, {counts.bytes_down} down")


def test_fifty_queued_requests_are_acknowledged_in_under_six_seconds(proxy: FaultProxy, client: DocumentClient) -> None:
    for _ in range(50):
        client.request(FORM, PATIENT, encounter="demo-encounter-noorzai", locale="en")
    seen: list[Counts] = []
    began = time.monotonic()
    times: list[float] = []

    def observe(step: Progress) -> None:
        # The first thing that happens behind the batch.
        if step.stage == "changes" and not seen:
            seen.append(proxy.counts())
            times.append(time.monotonic() - began)

    proxy.reset_counts()
    proxy.apply(LINK)
    report = client.sync(budget=0, observe=observe)
    proxy.heal()
    assert (report.acknowledged, report.quarantined) == (50, 0)
    assert proxy.requests()[0][1] == "/v1/documents/render-jobs/batch"
    # The page of changes behind it is not part of being acknowledged; its exchange is.
    batch = _batch_alone(proxy, client)
    assert seconds_on_the_link(batch) < 5.0, batch
    print(f"50 requests: {batch}, {seconds_on_the_link(batch):.1f} s on the link; with all: {times[0]:.1f} s here")


def _batch_alone(proxy: FaultProxy, client: DocumentClient) -> Counts:
    """What the same batch costs as one exchange on a connection of its own."""
    bodies = [bytes(row[0]) for row in client.account().queue.execute("SELECT body FROM requests ORDER BY sequence")]
    proxy.reset_counts()
    account = client.account()
    connection = Connection(proxy.url, account.token(), device_id=account.vault.device_id)
    answer = connection.send(
        "POST", "/v1/documents/render-jobs/batch", content=b'{"items":[' + b",".join(bodies) + b"]}"
    )
    connection.close()
    assert [item["status"] for item in answer.body["items"]] == [200] * 50
    return proxy.counts()


def test_three_cuts_cost_a_document_less_than_eight_kilobytes(proxy: FaultProxy, client: DocumentClient) -> None:
    client.request(FORM, PATIENT, encounter="demo-encounter-noorzai", locale="en")
    while not client.sync(budget=0).bytes_received and client.status().cache["waiting"] == 0:
        time.sleep(0.2)
    [document] = client.documents.list()
    proxy.reset_counts()
    proxy.apply(Faults(cut_body_after=9_000, path="/content", times=3))
    report = client.sync()
    counts = proxy.counts()
    assert (report.downloaded, report.bytes_received) == (1, document["size"])
    assert len([target for _, target in proxy.requests() if "/content?" in target]) == 4
    # The signed URL was asked for once: it is good for the minutes that a resumption takes.
    assert len([target for _, target in proxy.requests() if target.endswith("/download-url")]) == 1
    # Resuming costs the same whatever the size: a document of 200 KB stays under 210 KB.
    assert spent(counts) - document["size"] < 8_000, counts
    print(f"three cuts: {spent(counts) - document['size']} bytes beside the {document['size']} of the document")


class Enough(Exception):
    """The watch has done what the test wanted."""


def test_a_watch_hears_of_a_document_while_it_waits(
    proxy: FaultProxy, client: DocumentClient, service: Service, tenant: str
) -> None:
    reports: list[Report] = []

    def tell(report: Report | None, failure: ClientError | None) -> None:
        assert failure is None
        assert report is not None
        reports.append(report)
        if report.downloaded:
            raise Enough

    # A request of the same person from another device: this one hears of its document.
    with service.caller(tenant, "nurse", roles=("CLINICIAN",)) as other:

        def ask() -> None:
            time.sleep(1.5)
            other.post("/v1/documents/render-jobs", json=request_for(other.platform_version()))

        asking = threading.Thread(target=ask)
        asking.start()
        began = time.monotonic()
        proxy.reset_counts()
        with pytest.raises(Enough):
            watch(client, tell)
        asking.join()
    assert [target for _, target in proxy.requests() if "wait=30" in target]
    # A watch that only polls would have heard of it after a minute.
    assert time.monotonic() - began < 40
    pages = [target for _, target in proxy.requests() if "/changes?" in target and "wait=" not in target]
    # What the service said while the device waited was not asked for again.
    assert len(pages) < len(reports)


def test_answers_are_compressed_for_those_who_take_it(api: Api) -> None:
    url = str(api.base_url).rstrip("/") + "/v1/documents/changes"
    headers = {"Authorization": api.headers["Authorization"]}
    with httpx2.Client(trust_env=False) as plain:
        small = plain.get(url, headers={**headers, "Accept-Encoding": "gzip"})
        assert small.headers["content-encoding"] == "gzip"
        assert small.headers["vary"] == "Accept-Encoding"
        large = plain.get(url, headers={**headers, "Accept-Encoding": "identity"})
        assert "content-encoding" not in large.headers
        refused = plain.get(url, headers={**headers, "Accept-Encoding": "br, gzip;q=0"})
        assert "content-encoding" not in refused.headers
        assert small.json()["templates"] == large.json()["templates"]
        assert int(small.headers["content-length"]) < int(large.headers["content-length"]) / 2
        # A strong validator names one sequence of bytes, so what carries one is left alone.
        listed = plain.get(url.replace("documents/changes", "document-templates"), headers=headers)
        assert "etag" in listed.headers
        assert "content-encoding" not in listed.headers
