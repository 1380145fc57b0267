"""The command line: options on either side of the verb, exit codes by class, JSON everywhere, a whole walk."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from ulid import ULID

from client_device import FORM
from clinic_commands import PATIENT, Clinic, clinic
from document_client.__main__ import build
from document_client.cli.argv import options_behind_verb
from document_client.errors import ClientError, join_detail

__all__ = ["clinic"]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_has_home_and_json_and_a_help_text() -> None:
    for path, command in commands(build()):
        names = {name for parameter in command.params for name in parameter.opts}
        assert {"--home", "--json"} <= names, path
        assert command.help, path


def test_no_option_is_a_flag_in_one_command_and_takes_a_value_in_another() -> None:
    flags: set[str] = set()
    values: set[str] = set()
    for _, command in commands(build()):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                (flags if parameter.is_flag else values).update(parameter.opts)
    assert not flags & values


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["--json", "status"], ["status", "--json"]),
        (["--home", "h", "status", "--json"], ["status", "--home", "h", "--json"]),
        (["--home=h", "--json", "queue"], ["queue", "list", "--home=h", "--json"]),
        (["queue", "--json"], ["queue", "list", "--json"]),
        (["queue", "--json", "show", "x"], ["queue", "show", "--json", "x"]),
        (["--confirm", "x", "queue", "discard", "x"], ["queue", "discard", "--confirm", "x", "x"]),
        (["--patient", "p", "request", "T", "--input", "a=b"], ["request", "--patient", "p", "T", "--input", "a=b"]),
        (["--input", "a=b", "--input", "c=d", "request", "T"], ["request", "--input", "a=b", "--input", "c=d", "T"]),
        (["queue", "list", "list"], ["queue", "list", "list"]),
        (["--help"], ["--help"]),
        (["queue", "--help"], ["queue", "--help"]),
        (["--home", "h", "--help"], ["--help"]),
        (["--help", "status"], ["status", "--help"]),
        ([], []),
    ],
)
def test_options_work_on_either_side_of_the_verb(typed: list[str], read: list[str]) -> None:
    assert options_behind_verb(build(), typed) == read


def test_a_whole_day(clinic: Clinic, tmp_path: Path) -> None:
    assert [t["name"] for t in clinic.json("templates")["items"]] == [FORM]
    queued = clinic.json("request", FORM.lower(), "--patient", PATIENT, "--input", "reason=fever", "--locale", "fa-AF")
    cmid = queued["clientMutationId"]
    assert queued["status"] == "queued"
    assert clinic.json("status")["pending"] == 1
    code, out, _ = clinic.run("request", "general-test-requisition", "--patient", PATIENT)
    assert code == 0
    assert len(out.strip()) == 36, "the id alone on standard output"
    report = clinic.json("sync")
    assert report["success"]
    assert report["downloaded"] == 2
    status = clinic.json("status")
    assert status["sentences"] == ["Everything is sent.", "Everything has arrived."]
    items = {item["clientMutationId"]: item for item in clinic.json("queue", "list")["items"]}
    assert items[cmid]["status"] == "done"
    documents = clinic.json("list")["items"]
    assert {"fetchedAt", "expiresAt", "state", "sha256", "number"} <= set(documents[0])
    document = items[cmid]["documentId"]
    assert clinic.json("open", document)["state"] == "available"
    saved = clinic.json("save", document, str(tmp_path / "x.pdf"))
    assert (tmp_path / "x.pdf").stat().st_size == saved["size"]
    assert clinic.run("queue", "retry", cmid)[0] == 64, "what is done is not asked for again"
    assert clinic.json("sync")["offered"] == 0
    assert clinic.json("queue", "show", cmid[:8])["status"] == "done"
    assert len(clinic.model.state.jobs) == 2
    assert clinic.json("whoami")["user"] == "dr.a"
    assert clinic.json("doctor")["ready"]


def test_exit_codes_by_class(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    clinic.run("sync")
    document = clinic.json("list")["items"][0]["id"]
    assert clinic.run("nonsense")[0] == 64
    assert clinic.run("request", FORM)[0] == 64
    assert clinic.run("request", "No Such Form", "--patient", PATIENT)[0] == 64
    assert clinic.run("open", "doc_none")[0] == 64
    assert clinic.run("sync", "--once", "--watch")[0] == 64
    assert clinic.run("print", document)[0] == 69
    clinic.model.policy["cacheTtlSeconds"] = 0
    clinic.run("sync")
    assert clinic.run("open", document)[0] == 75
    clinic.run("request", FORM, "--patient", "p9")
    assert clinic.run("logout")[0] == 75
    clinic.model.revoked_tokens.add(clinic.model.token("clinic", "dr.a"))
    assert clinic.run("sync")[0] == 77
    monkeypatch.setenv("DOCUMENTS_PASSPHRASE", "wrong")
    assert clinic.run("status")[0] == 77
    monkeypatch.delenv("DOCUMENTS_PASSPHRASE")
    assert clinic.run("status")[0] == 77
    monkeypatch.setenv("DOCUMENTS_PASSPHRASE", "correct horse")
    (clinic.home / "vault.json").rename(clinic.home / "elsewhere")
    assert clinic.run("status")[0] == 78
    (clinic.home / "elsewhere").rename(clinic.home / "vault.json")
    assert clinic.run("logout", "--keep-sealed")[0] == 0
    assert clinic.run("status")[0] == 77
    assert clinic.run("login", "--server", "ftp://x", "--token", "t")[0] == 78
    assert clinic.run("login", "--server", clinic.url, "--token", "no.token")[0] == 77
    assert clinic.run("login", "--server", clinic.url)[0] == 64
    assert clinic.run("--help")[0] == 0


def test_errors_are_json_when_asked(clinic: Clinic) -> None:
    code, out, err = clinic.run("request", FORM, "--patient", PATIENT, "--input", "priority=now", "--json")
    assert (code, err) == (64, "")
    told = json.loads(out)["error"]
    assert told["code"] == "INPUTS_INVALID"
    assert told["errors"] == [{"pointer": "/priority", "title": "must be one of routine, urgent"}]
    code, out, err = clinic.run("request", FORM, "--json")
    assert (code, err, json.loads(out)["error"]["code"]) == (64, "", "USAGE")


def test_offline_commands_say_so_and_leave_nothing(clinic: Clinic, tmp_path: Path) -> None:
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    session = json.loads((clinic.home / "session.json").read_text())
    session["server"] = "http://127.0.0.1:9"
    (clinic.home / "session.json").write_text(json.dumps(session))
    (tmp_path / "scan.pdf").write_bytes(b"%PDF")
    (tmp_path / "draft.json").write_text("{}")
    for command in (
        ["upload", str(tmp_path / "scan.pdf"), "--patient", PATIENT],
        ["generate", FORM, "--patient", PATIENT],
        ["edit-template", "tmpl_1", str(tmp_path / "draft.json")],
    ):
        code, _, err = clinic.run(*command)
        assert code == 69
        assert "connected" in err
    code, out, _ = clinic.run("sync")
    assert code == 69
    assert "stays queued" in out
    assert clinic.json("status")["pending"] == 1
    assert clinic.run("templates", "--refresh")[0] == 69
    assert clinic.json("templates")["items"], "a failed refresh empties nothing"


def test_a_failed_request_says_what_is_missing_and_what_to_do(clinic: Clinic) -> None:
    clinic.run("templates")
    detail = "The binding admittedOn found nothing."
    causes = {
        "p1": {"code": "BINDING_REQUIRED", "title": "The patient's record lacks a value.", "detail": detail},
        "p2": {"code": "PATIENT_UNKNOWN", "title": "Nobody knows this patient."},
    }
    for patient in causes:
        clinic.run("request", FORM, "--patient", patient)
    clinic.model.failing = lambda job: causes[job["patientId"]]
    clinic.run("sync")
    items = {item["patientId"]: item for item in clinic.json("queue")["items"]}
    assert detail in items["p1"]["reason"]["title"]
    assert detail in clinic.json("queue", "show", items["p1"]["clientMutationId"])["reason"]["title"]
    told = " ".join(clinic.run("queue")[1].split())
    assert "admittedOn" in told
    assert "queue edit (another patient)" in told
    clinic.model.failing = lambda job: None
    assert clinic.run("queue", "retry")[0] == 64
    again = clinic.json("queue", "retry", "--all")
    assert (len(again["items"]), again["left"]) == (2, [])
    assert clinic.json("sync", "--wait", "0")["acknowledged"] == 2
    assert {item["status"] for item in clinic.json("queue")["items"]} == {"done"}


def test_nothing_is_called_sent_before_the_service_took_it(clinic: Clinic) -> None:
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    session = (clinic.home / "session.json").read_text()
    (clinic.home / "session.json").write_text(session.replace(clinic.url, "http://127.0.0.1:9"))
    _, out, err = clinic.run("sync")
    assert "sent 0 requests" in out
    assert FORM not in err
    (clinic.home / "session.json").write_text(session)
    _, out, err = clinic.run("sync")
    assert "sent 1 request, received 1 document " in out
    assert f"sent {FORM}" in err


def test_a_server_that_is_not_there_is_named_at_sign_in(clinic: Clinic) -> None:
    code, _, err = clinic.run("login", "--server", "http://127.0.0.1:9", "--token", clinic.model.token("clinic", "x"))
    assert code == 69
    assert "http://127.0.0.1:9" in err
    assert "queue" not in err


def test_status_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Each of these costs as much as the whole look into the files; `status` must answer at once."""
    heavy = "email.utils importlib.resources httpx2 ssl rich rfc8785 webbrowser document_client.reactions"
    script = (
        "import sys\nfrom document_client.__main__ import main\n"
        f"main(['status', '--home', {str(tmp_path)!r}])\n"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_first_catalogue_says_how_much_and_how_long(clinic: Clinic) -> None:
    assert "1 form to receive: about 3 s on a link of 64 kbit/s" in clinic.run("templates")[2]
    assert "to receive" not in clinic.run("templates", "--refresh")[2]


def test_a_verb_that_is_not_there_gets_a_hint(clinic: Clinic) -> None:
    code, _, err = clinic.run("docter")
    assert code == 64
    assert "Did you mean doctor?" in err


def test_a_discard_needs_the_id_typed_and_is_recorded(clinic: Clinic) -> None:
    clinic.run("templates")
    cmid = clinic.json("request", FORM, "--patient", PATIENT)["clientMutationId"]
    clinic.model.retire(next(iter(clinic.model.state.templates)))
    clinic.run("sync")
    [item] = clinic.json("queue")["items"]
    assert (item["status"], item["reason"]["code"]) == ("quarantined", "TEMPLATE_VERSION_RETIRED")
    assert clinic.run("queue", "discard", cmid, "--confirm", "yes")[0] == 64
    assert clinic.json("queue", "discard", cmid, "--confirm", cmid)["status"] == "discarded"
    assert clinic.json("queue")["items"] == []
    clinic.run("sync")
    [event] = clinic.model.state.events.values()
    assert (event["action"], event["clientMutationId"]) == ("request.discarded", cmid)


def test_what_waits_is_taken_back_with_the_words_that_fit(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.run("templates")
    cmid = clinic.json("request", FORM, "--patient", PATIENT)["clientMutationId"]
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, err = clinic.run("queue", "discard", cmid)
    assert code == 64, "nobody is there to type the id"
    assert "Nothing was discarded" in err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{cmid}\n"))
    code, out, _ = clinic.run("queue", "discard", cmid)
    assert (code, out) == (0, f"{cmid} was given up; it is not sent\n")
    assert clinic.json("queue")["items"] == []
    [given_up] = clinic.json("queue", "list", "--all")["items"]
    assert (given_up["status"], given_up["reason"]["code"]) == ("discarded", "WITHDRAWN")


def test_what_may_have_left_is_told_apart_from_what_was_refused(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.run("templates")
    cmid = clinic.json("request", FORM, "--patient", PATIENT)["clientMutationId"]
    session = (clinic.home / "session.json").read_text()
    (clinic.home / "session.json").write_text(session.replace(clinic.url, "http://127.0.0.1:9"))
    # Another address is another service, which has yet to take this device; the request would not be tried.
    monkeypatch.setattr("document_client.enrolment.is_enrolled", lambda account: True)
    assert clinic.run("sync")[0] == 69
    _, out, _ = clinic.run("queue", "discard", cmid, "--confirm", cmid)
    assert "may have left this device before" in out
    facts = clinic.json("status")
    assert (facts["quarantined"], facts["takenBack"], facts["everythingSent"]) == (1, 1, False)
    told = "1 taken back, the service to be asked (run `documents sync`)"
    assert facts["sentences"][0] == f"Not everything is sent: {told}."
    assert "need a decision" not in clinic.run("sync")[1]
    assert "documents sync (asks whether it had arrived)" in clinic.run("queue")[1]
    assert clinic.json("queue", "retry", "--all") == {"items": [], "left": [cmid]}
    assert "left: 1 request taken back" in clinic.run("queue", "retry", "--all")[1]
    (clinic.home / "session.json").write_text(session)
    assert "taken back in time, the service does not have it: 1 request" in clinic.run("sync")[1]
    assert clinic.json("status")["takenBack"] == 0
    assert not clinic.model.state.jobs


def test_a_pinned_document_says_so_and_a_replaced_one_by_what(clinic: Clinic, tmp_path: Path) -> None:
    clinic.run("templates")
    for _ in range(2):
        clinic.run("request", FORM, "--patient", PATIENT)
    report = clinic.json("sync")
    assert (report["downloaded"], report["needDecision"]) == (2, 0)
    newer, older = clinic.json("list")["items"]
    assert clinic.run("pin", older["number"])[1] == f"{older['number']} is pinned\n"
    assert [d["pinned"] for d in clinic.json("list")["items"]] == [False, True]
    assert clinic.json("pin", older["id"], "--off")["pinned"] is False
    clinic.model.revoke(older["id"], "superseded", replaced_by=newer["id"])
    _, out, _ = clinic.run("sync")
    assert f"{older['number']} was replaced by {newer['number']}; its copy was removed here" in out
    assert f"replaced by {newer['number']}" in clinic.run("list")[1]
    code, _, err = clinic.run("save", older["number"], str(tmp_path / "copy.pdf"))
    assert code == 69
    assert f"It was replaced by {newer['number']}." in err


def test_a_refused_request_is_edited_into_a_new_one(clinic: Clinic, tmp_path: Path) -> None:
    clinic.run("templates")
    cmid = clinic.json("request", FORM, "--patient", PATIENT, "--input", "dose=1.10")["clientMutationId"]
    unknown = {"code": "PATIENT_UNKNOWN", "title": "?"}
    clinic.model.failing = lambda job: unknown if job["patientId"] == PATIENT else None
    clinic.run("sync")
    assert clinic.json("queue", "export", cmid, str(tmp_path / "request.json"))["status"] == "failed"
    assert b'"dose":1.10' in (tmp_path / "request.json").read_bytes()
    edited = clinic.json("queue", "edit", cmid, "--patient", "p2", "--input", "reason=corrected")
    assert edited["clientMutationId"] != cmid
    assert edited["request"]["inputs"] == {"dose": 1.1, "reason": "corrected"}
    clinic.run("sync")
    [item] = clinic.json("queue")["items"]
    assert (item["clientMutationId"], item["status"]) == (edited["clientMutationId"], "done")


def test_logout_with_pending_requests(clinic: Clinic) -> None:
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    assert clinic.run("logout", "--keep-sealed", "--discard-pending")[0] == 64
    assert clinic.json("logout", "--keep-sealed")["requests"] == 1
    assert not list(clinic.home.glob("accounts/*/cache.db*"))
    clinic.run("login", "--server", clinic.url, "--token", clinic.model.token("clinic", "dr.a"))
    assert clinic.json("status")["pending"] == 1
    assert clinic.json("logout", "--discard-pending")["fate"] == "discarded"
    clinic.run("login", "--server", clinic.url, "--token", clinic.model.token("clinic", "dr.a"))
    assert clinic.json("status")["pending"] == 0
    clinic.run("sync")
    assert [e["action"] for e in clinic.model.state.events.values()] == ["request.discarded"]


def test_the_same_person_signs_in_again_without_a_connection(clinic: Clinic) -> None:
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    clinic.run("logout", "--keep-sealed")
    known = next(clinic.home.glob("accounts/*/server.json"))
    known.write_text(known.read_text().replace(clinic.url, "http://127.0.0.1:9"))
    token = clinic.model.token("clinic", "dr.a")
    who = clinic.json("login", "--server", "http://127.0.0.1:9", "--token", token)
    assert "on this device only" in who["notices"][0]
    assert clinic.json("status")["pending"] == 1
    stranger = clinic.model.token("clinic", "dr.b")
    assert clinic.run("login", "--server", "http://127.0.0.1:9", "--token", stranger)[0] == 69
    assert clinic.json("whoami")["user"] == "dr.a"


def test_a_service_with_other_signing_keys_is_not_trusted_silently(clinic: Clinic) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    clinic.model.key = Ed25519PrivateKey.generate()
    arguments = ("login", "--server", clinic.url, "--token", clinic.model.token("clinic", "dr.a"))
    code, _, err = clinic.run(*arguments)
    assert code == 78
    assert "--trust-new-keys" in err
    assert clinic.run(*arguments, "--trust-new-keys")[0] == 0


def test_a_damaged_queue_is_told_and_the_next_command_works(clinic: Clinic) -> None:
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    [path] = clinic.home.glob("accounts/*/queue.db")
    path.write_bytes(os.urandom(50_000))
    code, out, _ = clinic.run("status")
    assert code == 0
    assert "could not be read was kept as" in out
    assert clinic.json("status")["setAside"]


def test_the_token_can_come_from_standard_input(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(clinic.model.token("clinic", "dr.a") + "\n"))
    assert clinic.run("login", "--server", clinic.url, "--token", "-")[0] == 0


def test_a_home_that_can_be_no_folder_is_a_wrong_setting(clinic: Clinic, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        clinic.home = home
        code, _, told = clinic.run("status")
        assert code == 78
        assert "is a file" in told
    assert (tmp_path / "file").read_text() == "x"


def test_every_error_has_a_code_a_sentence_and_an_exit_code_of_the_contract() -> None:
    def tree(kind: type[ClientError]) -> Iterator[type[ClientError]]:
        yield kind
        for inner in kind.__subclasses__():
            yield from tree(inner)

    kinds = list(tree(ClientError))
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.exit_code in (64, 69, 73, 75, 77, 78)
        assert kind.title.endswith("."), kind


def test_help_loads_neither_network_nor_cryptography() -> None:
    script = (
        "import sys; from document_client.__main__ import main; main(['--help']);"
        "heavy = {'httpx2', 'rich', 'jsonschema', 'keyring', 'cryptography', 'argon2'} & set(sys.modules);"
        "raise SystemExit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_asking_again_for_what_is_not_settled_is_said_and_queued_all_the_same(clinic: Clinic) -> None:
    code, first, err = clinic.run("request", FORM, "--patient", PATIENT)
    assert (code, "Careful" in err) == (0, False)
    assert "Careful" not in clinic.run("request", FORM, "--patient", "p9")[2]
    code, second, err = clinic.run("request", FORM, "--patient", PATIENT)
    assert (code, f"Careful: {first[:8]} (queued)" in err, f"queue discard {second[:8]}`" in err) == (0, True, True)
    clinic.run("sync", "--wait", "0")
    assert {item["status"] for item in clinic.json("queue")["items"]} == {"done"}
    assert "Careful" not in clinic.run("request", FORM, "--patient", PATIENT)[2]


def test_a_refusal_whose_detail_begins_with_its_title_says_it_once() -> None:
    assert join_detail("Uploads are PDF.", "Uploads are PDF. /contentType: Send PDF.") == (
        "Uploads are PDF. /contentType: Send PDF."
    )
    assert join_detail("Refused.", "Wrong birth date.") == "Refused. Wrong birth date."
    assert join_detail("Refused. Wrong.", "Wrong.") == "Refused. Wrong."
    assert join_detail("Refused.", None) == "Refused."
    assert join_detail(None, "Wrong.") == "Wrong."


def test_what_takes_the_place_of_a_request_is_said_to_wait(clinic: Clinic) -> None:
    first = clinic.json("request", FORM, "--patient", PATIENT)["clientMutationId"]
    code, out, err = clinic.run("queue", "edit", first[:8], "--patient", "p2")
    assert (code, out.strip()) == (0, clinic.json("queue")["items"][0]["clientMutationId"])
    assert f"Queued in place of {first[:8]}: {FORM}. `documents sync` sends it" in err


def test_a_scan_stands_where_it_was_taken_in_and_says_when(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    clinic.run("request", FORM, "--patient", "p1")
    clinic.run("sync", "--wait", "0")
    make, state = clinic.model._document, clinic.model.state

    def take_in(job: dict[str, Any]) -> dict[str, Any]:
        # The service has no time of issue for a file that somebody sent.
        document = make(job)
        content = state.contents.pop(document["id"])
        del state.documents[document["id"]]
        document.update(id=f"doc_{ULID()}", kind="uploaded", renderedAt=None)
        state.documents[document["id"]], state.contents[document["id"]] = document, content
        return document

    monkeypatch.setattr(clinic.model, "_document", take_in)
    clinic.run("request", FORM, "--patient", "p2")
    clinic.run("sync", "--wait", "0")
    listed = clinic.json("list")["items"]
    assert [(one["patientId"], one["renderedAt"] is None) for one in listed] == [("p2", True), ("p1", False)]
    assert clinic.run("list")[1].count(f"scan taken in {datetime.now(UTC):%Y-%m-%d}T") == 1
