"""Contract §4 and §5: the device by its command: nothing is lost or doubled, and nothing stale passes for current."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contract.from_outside.caller import Caller, new_id
from contract.from_outside.clinic import CLINIC, Clinic, Device
from contract.from_outside.fhir_edge import FhirGate
from contract.from_outside.forms import Form
from contract.from_outside.line import Line, answer
from contract.from_outside.shapes import DOCUMENT

FORM = "General Test Requisition"
PATIENT = "demo-patient-noorzai"


@pytest.fixture(scope="module")
def line(clinic: Clinic) -> Iterator[Line]:
    """What the tablet reaches the service by."""
    whole = Line(clinic.url)
    try:
        yield whole
    finally:
        whole.close()


@pytest.fixture(scope="module")
def tablet(clinic: Clinic, line: Line, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """A tablet on which its nurse is signed in."""
    device = Device(tmp_path_factory.mktemp("tablet"))
    refused = device.json("list", code=77)
    assert set(refused["error"]) >= {"code", "title", "detail"}
    device.json("login", "--server", line.url, "--token", clinic.token(CLINIC, "tablet-nurse"))
    device.json("templates", "--refresh")
    return device


@pytest.fixture(scope="module")
def nurse(clinic: Clinic) -> Iterator[Caller]:
    """The tablet's nurse at a desk."""
    with clinic.caller(CLINIC, "tablet-nurse") as caller:
        yield caller


def _ask(tablet: Device, template: str = FORM, patient: str = PATIENT) -> str:
    given = [] if template != FORM else ["--input", "tests=CBC"]
    return str(tablet.json("request", template, "--patient", patient, *given)["clientMutationId"])


def _items(tablet: Device, *keys: str) -> list[dict[str, Any]]:
    items = {one["clientMutationId"]: one for one in tablet.json("queue", "list")["items"]}
    return [items[key] for key in keys]


def test_a_request_made_offline_becomes_one_document_that_opens_offline(
    tablet: Device, line: Line, nurse: Caller, tmp_path: Path
) -> None:
    """Sync contract 4: "the client creates a pending DocumentRenderJob record locally with status=queued and a
    clientMutationId"; §4: five facts, two sentences; §5: exit codes, `queue --json`, `list --json`."""
    with line.cut():
        key = _ask(tablet)
        assert str(uuid.UUID(key)) == key
        (item,) = _items(tablet, key)
        assert set(item) >= {"clientMutationId", "status", "jobId", "jobStatus", "reason", "requestedAt"}
        assert item["status"] == "queued"
        status = tablet.json("status")
        assert set(status) >= {"pending", "quarantined", "failed", "lastAttempt", "lastSuccess"}
        assert (status["pending"], status["everythingSent"]) == (1, False)
        tablet.json("sync", "--once", code=69)
        failed = tablet.json("status")
        assert (failed["pending"], failed["lastSuccess"]) == (1, status["lastSuccess"])
        tablet.json("logout", code=75)
    assert nurse.known(key) == [False]
    tablet.json("sync", "--once")
    (done,) = _items(tablet, key)
    assert (done["status"], nurse.known(key)) == ("done", [True])
    status = tablet.json("status")
    assert (status["pending"], status["everythingSent"]) == (0, True)
    with line.cut():
        (listed,) = [one for one in tablet.json("list")["items"] if one["id"] == done["documentId"]]
        assert set(listed) >= DOCUMENT | {"fetchedAt", "expiresAt", "state"}
        saved = tmp_path / "copy.pdf"
        tablet.json("save", listed["id"], str(saved))
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == listed["sha256"]
        assert listed["sha256"] in tablet.run("open", listed["id"], "--stdin", "--viewer", "sha256sum").stdout


def test_what_needs_the_service_leaves_nothing_behind(
    tablet: Device, line: Line, nurse: Caller, tmp_path: Path
) -> None:
    """§5: "online only; offline they say so (exit 69) and leave nothing"; sync contract 3: upload and editing: no."""
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF-1.7\n")
    uploads, jobs = nurse.every("/v1/documents/uploads"), nurse.every("/v1/documents/render-jobs")
    with line.cut():
        tablet.json("generate", FORM, "--patient", PATIENT, "--input", "tests=CBC", code=69)
        tablet.json("upload", str(scan), "--patient", PATIENT, code=69)
    tablet.json("sync", "--once")
    assert nurse.every("/v1/documents/uploads") == uploads
    assert nurse.every("/v1/documents/render-jobs") == jobs


HTML = "<html>Please sign in to the guest network</html>"
PORTALS = {
    "HTML 200": answer("200 OK", "text/html", HTML),
    "HTML 403": answer("403 Forbidden", "text/html", HTML),
    "JSON 202, no echo": answer("202 Accepted", "application/json", '{"ok": true}'),
}


def test_a_portal_is_not_the_service(tablet: Device, line: Line, nurse: Caller) -> None:
    """§4: "any status, not ours (HTML, no `code`, no echo), a portal, a filter: stays; stop: 'this network or address
    is not the service; perhaps it wants you to sign in first'"; "redirect to another host: stays, credentials not
    sent"."""
    key = _ask(tablet)
    elsewhere = Line(line.url)
    other_host = elsewhere.url.replace("127.0.0.1", "localhost")
    moved = answer("307 Temporary Redirect", "text/html", "", f"Location: {other_host}/v1/documents/render-jobs")
    try:
        with elsewhere.portal(PORTALS["JSON 202, no echo"]):
            for name, said in {**PORTALS, "redirect": moved}.items():
                with line.portal(said):
                    told = tablet.run("sync", "--once", "--json")
                    assert (told.returncode, "not the service" in told.stdout) == (69, True), f"{name}: {told.stdout}"
                    assert line.heard, name
            assert b"Authorization" not in elsewhere.heard
            assert b"authorization" not in elsewhere.heard
    finally:
        elsewhere.close()
    status = tablet.json("status")
    assert (status["pending"], status["quarantined"], status["everythingSent"]) == (1, 0, False)
    tablet.json("sync", "--once")
    assert ([one["status"] for one in _items(tablet, key)], nurse.known(key)) == (["done"], [True])


def test_lost_answers_and_two_syncs_at_once_double_nothing(
    tablet: Device, line: Line, nurse: Caller, clinic: Clinic
) -> None:
    """Sync contract 4.3: "If the job already exists (duplicate), returns the existing job status"."""
    before = {one["id"] for one in nurse.every("/v1/documents", patientId=PATIENT)}
    keys = [_ask(tablet) for _ in range(2)]
    with line.losing_answers():
        assert tablet.run("sync", "--once").returncode == 69
    assert True in nurse.known(*keys)
    with ThreadPoolExecutor(3) as pool:
        syncs = [pool.submit(tablet.run, "sync", "--once") for _ in range(2)]
        late = pool.submit(_ask, tablet)
        assert {one.result().returncode for one in syncs} <= {0, 75}
        keys.append(late.result())
    tablet.json("sync", "--once")
    items = _items(tablet, *keys)
    assert {item["status"] for item in items} == {"done"}
    made = {one["id"] for one in nurse.every("/v1/documents", patientId=PATIENT)} - before
    assert made == {item["documentId"] for item in items}
    assert len(made) == 3


def test_a_request_that_may_have_left_is_replaced_once(tablet: Device, line: Line, nurse: Caller) -> None:
    """§4: "Quarantined and failed items can be … edited into a new request": one, and until it is given up no other and
    no retry beside it. The service had the first: it comes to attention, and the person decides."""
    before = {one["id"] for one in nurse.every("/v1/documents", patientId="demo-patient-rahimi")}
    wrong = _ask(tablet)
    with line.losing_answers():
        assert tablet.run("sync", "--once").returncode == 69
    with line.cut():
        right = tablet.json("queue", "edit", wrong, "--patient", "demo-patient-rahimi")["clientMutationId"]
        for again in (("edit", wrong, "--patient", "demo-patient-rahimi"), ("retry", wrong)):
            refused = tablet.json("queue", *again, code=64)
            assert right in refused["error"]["detail"]
    tablet.json("sync", "--once")
    items = _items(tablet, wrong, right)
    assert [(item["status"], (item["reason"] or {}).get("code")) for item in items] == [
        ("failed", "ALREADY_SENT"),
        ("done", None),
    ]
    made = {one["id"] for one in nurse.every("/v1/documents", patientId="demo-patient-rahimi")} - before
    assert made == {items[1]["documentId"]}
    tablet.json("queue", "discard", wrong, stdin=f"{wrong}\n")


def test_what_the_service_refuses_is_set_aside_with_its_reason_and_the_rest_goes_on(
    tablet: Device, author: Caller, admin: Caller
) -> None:
    """§4: "other 4xx of ours: quarantined with the server's reason; go on"; a failed job comes back as `failed` with
    its error; "discarded by a typed confirmation that writes an audit event"; a retired form is not offered."""
    name = f"Letter {new_id()}"
    form = Form(author, name=name)
    form.version()
    tablet.json("templates", "--refresh")
    refused, unknown, fine = _ask(tablet, name), _ask(tablet, patient="nobody"), _ask(tablet)
    assert admin.post(f"{form.path}/retire", json={}).status_code == 200
    told = tablet.run("sync", "--once", "--json")
    assert told.returncode in (0, 75), told.stdout
    first, second, third = _items(tablet, refused, unknown, fine)
    assert (first["status"], first["reason"]["code"]) == ("quarantined", "TEMPLATE_VERSION_RETIRED")
    assert (second["status"], second["reason"]["code"]) == ("failed", "PATIENT_UNKNOWN")
    assert third["status"] == "done"
    status = tablet.json("status")
    assert (status["quarantined"], status["failed"], status["everythingSent"]) == (1, 1, False)
    tablet.json("request", name, "--patient", PATIENT, code=64)
    tablet.json("queue", "discard", refused, "--confirm", "something else", code=64)
    for key in (refused, unknown):
        tablet.json("queue", "discard", key, "--confirm", key)
    assert tablet.json("status")["everythingSent"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("request", "No such form", "--patient", PATIENT),
        ("request", FORM, "--patient", PATIENT, "--input", "nonsense=1"),
        ("open", "doc_nonsense"),
        ("nonsense",),
    ],
)
def test_what_does_not_fit_is_a_matter_of_usage(tablet: Device, arguments: tuple[str, ...]) -> None:
    """§5: exit codes: "64 usage"."""
    assert tablet.run("--json", *arguments).returncode == 64


def test_a_print_is_recorded_before_the_spooler_hears_of_it(tablet: Device, auditor: Caller, line: Line) -> None:
    """§4: "the audit event is durable before the first byte reaches the spooler (`print.intent`, then
    `print.submitted` / `failed` / `unknown`)", "and is sent on the next sync"; §5: exit 69, the device is not there."""
    document = next(one for one in tablet.json("list")["items"] if one["state"] == "available")
    with line.cut():
        tablet.json("print", document["id"], "--printer", "no-such-printer", code=69)
    tablet.json("sync", "--once")
    found = auditor.every("/v1/audit-events", documentId=document["id"], action="device.*")
    actions = [one["detail"]["event"]["action"] for one in found]
    assert actions.count("print.intent") == 1
    assert {"print.failed", "print.unknown"} & set(actions)


def test_a_document_that_was_taken_back_is_gone_after_the_next_contact(tablet: Device, nurse: Caller) -> None:
    """§4: "`revocations` is … applied before anything is stored": the device shows no withdrawn document as current."""
    document = next(one for one in tablet.json("list")["items"] if one["state"] == "available")
    path = f"/v1/documents/{document['id']}/void"
    assert nurse.post(path, json={"reason": "wrong"}, headers={"Idempotency-Key": new_id()}).status_code == 200
    tablet.json("sync", "--once")
    assert tablet.run("open", document["id"], "--stdin", "--viewer", "cat").returncode != 0
    left = [one["state"] for one in tablet.json("list")["items"] if one["id"] == document["id"]]
    assert "available" not in left


def test_a_copy_is_readable_as_long_as_the_policy_says(clinic: Clinic, fhir: FhirGate, tmp_path: Path) -> None:
    """§4: "Expired: hidden at once", "expired, connect to refresh"; §5: exit 75; `tenant create T --cache-ttl …`."""
    clinic.command("tenant", "create", "brief", "--fhir-url", fhir.url, "--cache-ttl", "4s")
    line, device = Line(clinic.url), Device(tmp_path / "home")
    try:
        device.json("login", "--server", line.url, "--token", clinic.token("brief", "nurse"))
        device.json("templates", "--refresh")
        _ask(device)
        device.json("sync", "--once")
        with line.cut():
            (document,) = device.json("list")["items"]
            time.sleep(4.5)
            device.json("open", document["id"], "--stdin", "--viewer", "cat", code=75)
            (expired,) = device.json("list")["items"]
            assert expired["state"] == "expired"
    finally:
        line.close()


def test_a_lost_device_is_emptied_at_its_next_contact(tablet: Device, admin: Caller) -> None:
    """§2: "a lost device's cache is purged at its next contact". The last test with this tablet."""
    device = tablet.json("whoami")["deviceId"]
    assert admin.post(f"/v1/devices/{device}/revoke").status_code == 200
    assert tablet.run("sync", "--once").returncode == 77
    told = tablet.run("list", "--json")
    assert told.returncode == 77 or '"items": []' in told.stdout
