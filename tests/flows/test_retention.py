"""How long documents are kept: for ever, unless said; and never shorter than a case needs them (issue 5)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from document_acts import changes_after, made
from document_service import retention, store_care, uploads
from document_service.database import open_database
from document_service.errors import ObjectNotFound
from document_service.keys import KeyStore
from document_service.store import open_store
from document_service.tokens import Caller
from raw_database import address_of, connected
from running_service import Api, Service, request_for


@pytest.fixture
def clinic(service: Service, fhir_url: str) -> str:
    return service.create_tenant(fhir_url)


@pytest.fixture
def doctor(service: Service, clinic: str) -> Iterator[Api]:
    with service.caller(clinic) as caller:
        yield caller


async def grow_old(service: Service, *documents: str, days: int = 40) -> None:
    async with connected(service, role=None) as owner:
        await owner.execute(
            "UPDATE documents SET created_at = created_at - make_interval(days => $2) WHERE id = ANY ($1)",
            list(documents),
            days,
        )


def purge(service: Service, tenant: str, *options: str) -> dict[str, dict[str, Any]]:
    told = json.loads(service.command("purge", "--tenant", tenant, "--json", *options))
    return {act["documentId"]: act for act in told}


async def objects_of(service: Service, document: str) -> list[bool]:
    """For each object of a document, whether it is still there."""
    store = open_store(service.data_dir.resolve() / "objects", KeyStore.open(service.data_dir / "keys"))
    async with connected(service, role=None) as owner:
        row = await owner.fetchrow("SELECT * FROM documents WHERE id = $1", document)
    there = []
    for name in (row["object_name"], row["snapshot_name"]):
        try:
            await store.stat(row["tenant_id"], name)
            there.append(True)
        except ObjectNotFound:
            there.append(False)
    return there


async def test_everything_is_kept_until_said_otherwise_and_then_the_purge_says_why(
    service: Service, clinic: str, doctor: Api
) -> None:
    job = doctor.render(request_for(doctor.platform_version()))
    old, young = job["documentId"], made(doctor)["id"]
    link = doctor.post(f"/v1/documents/{old}/download-url").json()["url"]
    await grow_old(service, old)
    assert purge(service, clinic) == {}
    service.command("retention", "set", clinic, "lab_requisition", "30")
    assert json.loads(service.command("retention", "show", clinic)) == {"lab_requisition": 30}
    planned = purge(service, clinic, "--dry-run")
    assert [(name, act["act"], act["why"]) for name, act in planned.items()] == [
        (old, "would purge", "lab_requisition is kept 30 days")
    ]
    assert await objects_of(service, old) == [True, True]
    cursor = changes_after(doctor, "")["cursor"]
    assert purge(service, clinic)[old]["act"] == "purged"
    assert await objects_of(service, old) == [False, False]
    shown = doctor.get(f"/v1/documents/{old}").json()
    assert shown["purgedAt"]
    assert (shown["title"], shown["status"]) == (retention.PURGED_TITLE, "current")
    for refused in (doctor.post(f"/v1/documents/{old}/download-url"), doctor.get(link)):
        assert (refused.status_code, refused.json()["code"]) == (410, "DOCUMENT_WITHDRAWN")
    assert changes_after(doctor, cursor)["revocations"] == [{"documentId": old, "reason": "purged"}]
    replayed = doctor.get(f"/v1/documents/render-jobs/{job['id']}").json()
    assert (replayed["status"], replayed["documentId"], bool(replayed["purgedAt"])) == ("completed", None, True)
    query = {"documentId": old, "action": "document.purge"}
    (event,) = doctor.get("/v1/audit-events", params=query).json()["items"]
    assert (event["actor"], event["detail"]["why"]) == ("operator", "lab_requisition is kept 30 days")
    assert doctor.content(young).status_code == 200
    assert purge(service, clinic) == {}


async def test_one_document_may_have_an_end_of_its_own(service: Service, clinic: str, doctor: Api) -> None:
    short, kept, usual = (made(doctor)["id"] for _ in range(3))
    await grow_old(service, short, kept, usual)
    service.command("retention", "set", clinic, "lab_requisition", "30", "--by", "board")
    for document, until in ((short, "2020-01-31"), (kept, "forever"), (usual, "2020-01-31"), (usual, "category")):
        told = service.command("retention", "set-document", clinic, document, until, "--reason", "court order")
        assert document in told
    assert doctor.get(f"/v1/documents/{kept}").status_code == 200
    acts = purge(service, clinic, "--dry-run")
    assert {name: act["why"] for name, act in acts.items()} == {
        short: "its own date",
        usual: "lab_requisition is kept 30 days",
    }
    assert acts[short]["overSince"] == "2020-02-01T00:00:00+00:00"
    trail = doctor.get("/v1/audit-events", params={"action": "retention.*"}).json()["items"]
    assert [(event["action"], event["actor"], event["documentId"]) for event in reversed(trail)] == [
        ("retention.class", "board", None),
        *(("retention.document", "operator", document) for document in (short, kept, usual, usual)),
    ]
    assert [event["detail"]["until"] for event in trail[:3]] == ["category", "2020-02-01T00:00:00+00:00", "forever"]
    assert trail[0]["detail"]["reason"] == "court order"
    assert service.command("audit", "verify", "--tenant", clinic)
    assert purge(service, clinic)[short]["act"] == "purged"
    refused = service.command(
        "retention", "set-document", clinic, short, "forever", "--reason", "too late", check=False
    )
    assert refused == ""


@pytest.mark.parametrize("covering", [("--document",), ("--patient", "demo-patient-noorzai")])
async def test_what_a_case_holds_is_kept_longer_and_never_shorter(
    service: Service, clinic: str, doctor: Api, covering: tuple[str, ...]
) -> None:
    document = made(doctor)["id"]
    covered = (*covering, document) if len(covering) == 1 else covering
    service.command("hold", "place", clinic, "C-3", *covered, "--reason", "inquest")

    def set_end(until: str) -> bool:
        command = ("retention", "set-document", clinic, document, until, "--reason", "tidy")
        return service.command(*command, check=False) != ""

    assert not set_end("2030-01-01")
    assert set_end("forever")
    service.command("retention", "set", clinic, "lab_requisition", "30")
    assert not set_end("category")
    service.command("hold", "release", clinic, "C-3", "--reason", "closed")
    assert [set_end(until) for until in ("2030-01-01", "31.12.2030", "2031-02-29", "never")] == [True] + 3 * [False]


async def test_what_a_case_holds_stays_whoever_deletes(service: Service, clinic: str, doctor: Api) -> None:
    held, of_patient = made(doctor)["id"], made(doctor, "demo-patient-rahimi")["id"]
    await grow_old(service, held, of_patient)
    service.command("retention", "set", clinic, "lab_requisition", "30")
    service.command("hold", "place", clinic, "2026/17", "--document", held, "--reason", "complaint of the family")
    service.command("hold", "place", clinic, "2026/18", "--patient", "demo-patient-rahimi", "--reason", "court order")
    acts = purge(service, clinic)
    assert {name: (act["act"], act["cases"]) for name, act in acts.items()} == {
        held: ("kept", ["2026/17"]),
        of_patient: ("kept", ["2026/18"]),
    }
    async with connected(service, role=None) as owner:
        for statement in (
            "UPDATE documents SET purged_at = now() WHERE id = $1",
            "DELETE FROM documents WHERE id = $1",
        ):
            for document in (held, of_patient):
                with pytest.raises(asyncpg.RestrictViolationError):
                    await owner.execute(statement, document)
        sealed = await owner.fetchval("SELECT reason_sealed FROM legal_holds WHERE case_id = '2026/17'")
    assert b"family" not in sealed
    again = service.command("hold", "place", clinic, "2026/17", "--document", held, "--reason", "twice", check=False)
    assert again == ""
    service.command("hold", "release", clinic, "2026/17", "--reason", "settled", "--by", "legal")
    assert {name: act["act"] for name, act in purge(service, clinic).items()} == {held: "purged", of_patient: "kept"}
    assert await objects_of(service, of_patient) == [True, True]
    holds = json.loads(service.command("hold", "list", clinic, "--json"))
    assert {one["caseId"]: bool(one["releasedAt"]) for one in holds} == {"2026/17": True, "2026/18": False}
    trail = doctor.get("/v1/audit-events", params={"action": "hold.*"}).json()["items"]
    assert [(event["action"], event["actor"], event["detail"]["reason"]) for event in trail] == [
        ("hold.release", "legal", "settled"),
        ("hold.place", "operator", "court order"),
        ("hold.place", "operator", "complaint of the family"),
    ]


async def test_a_hold_refuses_a_shred_and_the_sweep_leaves_what_is_held(
    service: Service, clinic: str, doctor: Api
) -> None:
    document = made(doctor)["id"]
    service.command("hold", "place", clinic, "2026/19", "--document", document, "--reason", "inquest")
    assert service.command("tenant", "shred", clinic, "--confirm", clinic, check=False) == ""
    async with connected(service, role=None) as owner:
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute("UPDATE tenants SET shredded_at = now() WHERE tenant_id = $1", clinic)
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute("DELETE FROM documents WHERE id = $1", document)
    assert doctor.content(document).status_code == 200
    keys = KeyStore.open(service.data_dir / "keys")
    store = open_store(service.data_dir.resolve() / "objects", keys)
    database = await open_database(address_of(service))
    try:
        await store_care.sweep(database, store, older_than=timedelta(0))
    finally:
        await database.close()
    assert await objects_of(service, document) == [True, True]
    service.command("hold", "release", clinic, "2026/19", "--reason", "closed")
    service.command("tenant", "shred", clinic, "--confirm", clinic)
    assert doctor.get(f"/v1/documents/{document}").status_code == 404


async def test_a_quarantined_file_of_a_held_patient_is_not_destroyed(
    service: Service, clinic: str, doctor: Api
) -> None:
    # No scanner is needed: the row is put where a verdict would have left it.
    keys = KeyStore.open(service.data_dir / "keys")
    caller = Caller(clinic, "nurse", frozenset({"CLINICIAN"}), None)
    new = uploads.NewUpload("a.pdf", "application/pdf", 1, "0" * 64, "demo-patient-noorzai", None, "other", "A")
    async with connected(service, role=None) as owner:
        upload = await uploads.create(owner, caller, new, keys)
        await owner.execute("UPDATE uploads SET status = 'quarantined' WHERE id = $1", upload.id)
    service.command("hold", "place", clinic, "C-1", "--patient", "demo-patient-noorzai", "--reason", "inquest")
    path = f"/v1/documents/uploads/{upload.id}/destroy"
    refused = doctor.post(path, json={"reason": "tidy up"})
    assert (refused.status_code, refused.json()["code"], "C-1" in refused.text) == (409, "HOLD_CONFLICT", True)
    async with connected(service, role=None) as owner:
        for statement in ("UPDATE uploads SET status = 'failed' WHERE id = $1", "DELETE FROM uploads WHERE id = $1"):
            with pytest.raises(asyncpg.RestrictViolationError):
                await owner.execute(statement, upload.id)
    service.command("hold", "release", clinic, "C-1", "--reason", "closed")
    assert doctor.post(path, json={"reason": "tidy up"}).json()["reason"]["code"] == "DESTROYED"


async def test_a_hold_placed_on_a_cut_purge_keeps_what_is_left(service: Service, clinic: str, doctor: Api) -> None:
    document = made(doctor)["id"]
    await grow_old(service, document)
    async with connected(service, role=None) as owner, owner.transaction():
        await retention.set_class(owner, clinic, "lab_requisition", 30)
        (due,) = await retention.due(owner, clinic)
        await retention.purge(owner, due, "operator", KeyStore.open(service.data_dir / "keys"))
    service.command("hold", "place", clinic, "C-2", "--document", document, "--reason", "inquest")
    assert purge(service, clinic) == {}
    assert await objects_of(service, document) == [True, True]


async def test_a_purge_that_was_cut_is_finished_by_the_next(service: Service, clinic: str, doctor: Api) -> None:
    document = made(doctor)["id"]
    await grow_old(service, document)
    keys = KeyStore.open(service.data_dir / "keys")
    async with connected(service, role=None) as owner, owner.transaction():
        await retention.set_class(owner, clinic, "lab_requisition", 30)
        (due,) = await retention.due(owner, clinic)
        await retention.purge(owner, due, "operator", keys)
    assert await objects_of(service, document) == [True, True]
    assert doctor.post(f"/v1/documents/{document}/download-url").status_code == 410
    assert purge(service, clinic) == {}
    assert await objects_of(service, document) == [False, False]
