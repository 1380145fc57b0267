"""What a command says: the warning before a document is relied on, what waits and for whom, what to do about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from client_device import FORM
from clinic_commands import PATIENT, Clinic, clinic
from document_client import DocumentClient, audit
from document_client.cli.work_commands import _read_listed
from document_client.localdb import transaction

__all__ = ["clinic"]

LOST = "does not know this document: it can be neither verified nor withdrawn"


def have_a_document(clinic: Clinic) -> str:
    """Ask for a document, receive it, and return its id."""
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    clinic.json("sync")
    return str(clinic.json("list")["items"][0]["id"])


def recorded(clinic: Clinic) -> list[str]:
    """The actions in this device's outbox, oldest first."""
    with DocumentClient(clinic.home) as client:
        return [str(event["action"]) for event in audit.read_all(client.account().audit)]


def remedies(table: str) -> list[str]:
    """The last column of a printed table, row by row; a row whose words are folded goes on with an empty first cell."""
    rows: list[str] = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if line.startswith("│") and cells[0]:
            rows.append(cells[-1])
        elif line.startswith("│"):
            rows[-1] = f"{rows[-1]} {cells[-1]}".strip()
    return rows


def test_a_document_that_a_restored_service_does_not_know_is_warned_of_wherever_it_is_used(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.run("templates")
    backup = clinic.model.snapshot()
    document = have_a_document(clinic)
    assert LOST not in clinic.run("open", document)[2]
    clinic.model.restore(backup, "epoch-2")
    clinic.json("sync")
    code, out, err = clinic.run("open", document)
    assert code == 0
    assert document in out
    assert err.count(f"Attention: The service was restored from a backup and {LOST}") == 1
    assert clinic.json("open", document)["serverLost"] is True
    assert LOST in clinic.run("save", document, str(tmp_path / "copy.pdf"))[2]
    [newer] = [d["id"] for d in clinic.json("list")["items"] if not d["serverLost"]]
    assert LOST not in clinic.run("open", newer)[2]


def test_a_draft_is_not_called_one_that_is_not_published_any_more(clinic: Clinic) -> None:
    clinic.run("templates")
    template = next(iter(clinic.model.state.templates.values()))
    for status, said in (("draft", "was never published"), ("retired", "is not published any more")):
        template["status"] = status
        clinic.run("templates", "--refresh")
        code, _, err = clinic.run("request", FORM, "--patient", PATIENT)
        assert code == 64
        assert said in err


def test_status_does_not_call_everything_sent_while_records_wait(clinic: Clinic) -> None:
    document = have_a_document(clinic)
    assert clinic.run("status")[1].startswith("Everything is sent.\n")
    clinic.run("open", document)
    told = clinic.run("status")[1]
    said = "Every request is sent. Records of opening and printing that wait for `documents sync`: 1."
    assert told.startswith(said)
    assert "Everything is sent" not in told
    facts = clinic.json("status")
    assert (facts["everythingSent"], facts["sentences"][0]) == (True, said), "the fact is about requests"
    clinic.run("request", FORM, "--patient", "p2")
    assert "Records of opening and printing that wait to be sent: 1." in clinic.run("status")[1]
    clinic.run("sync")
    assert clinic.run("status")[1].startswith("Everything is sent.\n")


def test_status_speaks_of_what_another_person_left_sealed_here(clinic: Clinic) -> None:
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    clinic.run("request", FORM, "--patient", "p2")
    assert "Requests of other people" not in clinic.run("status")[1], "one's own are told above"
    clinic.run("logout", "--keep-sealed")
    clinic.run("login", "--server", clinic.url, "--token", clinic.model.token("clinic", "dr.b"))
    said = "Requests of other people wait on this device, sealed until those sign in again (1): 2 to be sent"
    told = clinic.run("status")[1]
    assert said in told
    assert "dr.a" not in told
    assert clinic.json("status")["sealed"] == {"people": 1, "pending": 2, "needDecision": 0}
    clinic.json("sync")
    assert not clinic.model.state.jobs, "they are sent under their own person only"
    [queue] = [p for p in clinic.home.glob("accounts/*/queue.db") if not (p.parent / "cache.db").exists()]
    queue.write_bytes(os.urandom(queue.stat().st_size))
    assert clinic.json("status")["sealed"]["people"] == 0, "what cannot be opened stops nobody's status"


def test_a_sign_out_without_a_connection_speaks_of_the_records_that_stay(clinic: Clinic) -> None:
    document = have_a_document(clinic)
    clinic.run("open", document)
    clinic.cut()
    for note in clinic.home.glob("accounts/*/server.json"):
        note.write_text(note.read_text().replace(clinic.url, "http://127.0.0.1:9"))
    clinic.run("sync")
    code, out, _ = clinic.run("logout")
    assert code == 0
    assert "Records of opening and printing that are not sent yet: 1. `documents sync` sends them" in out
    code, _, err = clinic.run("sync")
    assert code == 75
    assert "1 wait, 0 were sent" in err


def test_nobody_is_asked_to_sign_in_to_send_nothing(clinic: Clinic) -> None:
    clinic.run("templates")
    clinic.model.revoked_tokens.add(clinic.model.token("clinic", "dr.a"))
    code, out, _ = clinic.run("sync")
    assert code == 77
    assert "Sign in again: `documents login`." in out
    clinic.run("request", FORM, "--patient", PATIENT)
    assert "Sign in to send 1 request: `documents login`." in clinic.run("sync")[1]
    clinic.run("request", FORM, "--patient", PATIENT)
    assert "Sign in to send 2 requests: `documents login`." in clinic.run("sync")[1]


def test_a_request_that_had_arrived_all_the_same_names_its_document(clinic: Clinic) -> None:
    clinic.run("templates")
    cmid = clinic.json("request", FORM, "--patient", PATIENT)["clientMutationId"]
    clinic.cut()
    clinic.run("sync")
    clinic.heal()
    body = clinic.json("queue", "show", cmid)["request"]
    from document_client.model import Caller

    clinic.model.submit(Caller("clinic", "dr.a", None), body, None)
    clinic.run("queue", "discard", cmid, "--confirm", cmid)
    clinic.run("sync")
    [item] = clinic.json("queue")["items"]
    assert (item["reason"]["code"], item["documentId"] is None) == ("ALREADY_SENT", False)
    [remedy] = remedies(clinic.run("queue")[1])
    assert remedy == f"have {item['documentId']} withdrawn, then queue discard; or queue retry to keep it"


def test_a_second_discard_says_that_there_was_a_first(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.run("templates")
    cmid = clinic.json("request", FORM, "--patient", PATIENT)["clientMutationId"]
    clinic.run("queue", "discard", cmid, "--confirm", cmid)

    def nobody_types(*_: object, **__: object) -> str:
        raise AssertionError("nothing is left to confirm")

    monkeypatch.setattr("click.prompt", nobody_types)
    for named in (cmid, cmid[:8]):
        code, _, err = clinic.run("queue", "discard", named)
        assert code == 64
        assert "the request was given up before; it is not sent" in err
    assert recorded(clinic) == ["request.discarded"], "nothing happened, so nothing is recorded"


def test_a_request_that_was_edited_says_by_which_it_was_replaced(clinic: Clinic) -> None:
    clinic.run("templates")
    cmid = clinic.json("request", FORM, "--patient", PATIENT)["clientMutationId"]
    newer = clinic.json("queue", "edit", cmid, "--patient", "p2")["clientMutationId"]
    told = clinic.run("queue", "list", "--all")[1]
    assert remedies(told)[1] == f"replaced by {newer}"
    by_id = {i["clientMutationId"]: i["replacedBy"] for i in clinic.json("queue", "list", "--all")["items"]}
    assert by_id == {cmid: newer, newer: None}
    code, _, err = clinic.run("queue", "discard", cmid)
    assert code == 64
    assert f"given up before and replaced by {newer}" in err


def test_a_pipe_is_told_that_nobody_was_shown_the_document(clinic: Clinic, tmp_path: Path) -> None:
    document = have_a_document(clinic)
    _, _, err = clinic.run("open", document)
    assert "checked and not shown" in err
    assert "recorded as opened" in err
    assert clinic.json("open", document)["shown"] is False
    assert recorded(clinic) == ["document.opened", "document.opened"]
    seen = tmp_path / "seen.pdf"
    viewer = f'{sys.executable} -c \'import sys; open("{seen}", "wb").write(sys.stdin.buffer.read())\''
    assert clinic.json("open", document, "--viewer", viewer, "--stdin")["shown"] is True
    assert seen.read_bytes() == clinic.model.state.contents[document]


def test_standard_input_needs_a_viewer_and_nothing_is_recorded_without_one(clinic: Clinic) -> None:
    document = have_a_document(clinic)
    code, _, err = clinic.run("open", document, "--stdin")
    assert code == 64
    assert "--viewer COMMAND" in err
    assert recorded(clinic) == []


def test_a_search_that_finds_nothing_says_so(clinic: Clinic) -> None:
    code, out, _ = clinic.run("templates", "no such words")
    assert code == 0
    assert out.startswith("No form in use fits this; --all also shows drafts")
    assert "│" not in out
    assert "│" in clinic.run("templates")[1]


def test_the_words_are_found_where_nothing_but_the_package_is(tmp_path: Path) -> None:
    script = "from document_client.words import sentence; print(sentence('sent'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "Everything is sent.\n"


def test_a_device_that_never_synced_does_not_say_that_everything_has_arrived(clinic: Clinic) -> None:
    facts = clinic.json("status")
    assert facts["lastSuccess"] is None
    assert facts["sentences"][1] == "Nothing is awaited; no sync has succeeded on this device yet."


def test_a_status_beside_a_file_that_was_set_aside_says_nothing_of_everything(clinic: Clinic) -> None:
    have_a_document(clinic)
    [queue] = clinic.home.glob("accounts/*/queue.db")
    queue.with_name("queue.db.set-aside-2026-11-28T120000000Z").write_bytes(b"sealed")
    told = clinic.run("status")[1]
    assert "Everything" not in told
    assert told.startswith("Every request in this queue is sent. What files that were set aside hold is not known")
    assert "Nothing that this queue knows of is missing" in told
    assert clinic.json("status")["everythingSent"] is True, "the fact is about this queue's requests"


def test_signed_out_status_speaks_of_what_waits_sealed(clinic: Clinic) -> None:
    clinic.run("templates")
    clinic.run("request", FORM, "--patient", PATIENT)
    code, _, err = clinic.run("logout")
    assert code == 75
    assert "1 request is not sent or in need of a decision" in err
    assert clinic.run("logout", "--keep-sealed")[0] == 0
    code, _, err = clinic.run("status")
    assert code == 77
    assert "1 to be sent, 0 in need of a decision" in err


def test_a_sign_out_names_the_only_copy_of_a_document_before_it_is_removed(clinic: Clinic) -> None:
    clinic.run("templates")
    backup = clinic.model.snapshot()
    document = have_a_document(clinic)
    clinic.model.restore(backup, "epoch-2")
    clinic.json("sync")
    code, _, err = clinic.run("logout")
    assert code == 75
    assert "the service does not know 1 document of which the copy here is removed" in err
    assert clinic.run("open", document)[0] == 0, "nothing was removed"
    assert clinic.run("logout", "--keep-sealed")[0] == 0


def test_a_form_that_is_not_in_force_yet_says_from_when(clinic: Clinic) -> None:
    clinic.run("templates")
    with DocumentClient(clinic.home) as client:
        cached = client.account().cache
        with transaction(cached):
            cached.execute("UPDATE versions SET body = json_set(body, '$.effectiveFrom', '2999-01-02T00:00:00Z')")
    assert "from 2999-01-02" in " ".join(clinic.run("templates")[1].replace("│", " ").split())
    code, _, err = clinic.run("request", FORM, "--patient", PATIENT)
    assert code == 0
    assert "This form is in force only from 2999-01-02T00:00:00Z" in err


def test_a_list_of_patients_may_have_remarks_and_a_wrong_line_is_named(clinic: Clinic, tmp_path: Path) -> None:
    listed = tmp_path / "round.txt"
    assert _read_listed(["# Ward 2\n", "\n", f"{PATIENT}\n"]) == [PATIENT]
    listed.write_text(f"{PATIENT}\nbed 4: nobody\n")
    code, _, err = clinic.run("prefetch", "--from", str(listed))
    assert code == 64
    assert "line 2 of the list" in err
    assert "nobody" not in err
    listed.write_bytes("bed 4: Zarghuna".encode("utf-16"))
    code, _, err = clinic.run("prefetch", "--from", str(listed))
    assert (code, "UTF-8" in err) == (64, True)


def test_a_device_without_a_list_of_forms_says_what_is_missing_and_not_that_there_is_none(clinic: Clinic) -> None:
    clinic.cut()
    for command in (["templates"], ["request", FORM, "--patient", PATIENT], ["generate", FORM, "--patient", PATIENT]):
        code, out, err = clinic.run(*command)
        assert (code, out) == (69, ""), command
        assert "connect" in err
    clinic.heal()
    clinic.model.revoked_tokens.add(clinic.model.token("clinic", "dr.a"))
    assert clinic.run("templates")[0] == 77


@pytest.mark.parametrize("server", ["http://[fe80::1", "https://clinic..example", "http://clinic.example:99999"])
def test_an_address_that_can_be_none_is_a_wrong_setting(clinic: Clinic, server: str) -> None:
    code, _, err = clinic.run("login", "--server", server, "--token", clinic.model.token("clinic", "dr.a"))
    assert (code, "is not an http or https URL" in err) == (78, True)


@pytest.mark.parametrize("option", ["--encounter", "--birth-date", "--identifier", "--not-after"])
def test_an_option_that_a_script_left_empty_drops_no_check(clinic: Clinic, option: str) -> None:
    clinic.run("templates")
    code, _, err = clinic.run("request", FORM, "--patient", PATIENT, option, "")
    assert (code, "it is empty" in err) == (64, True)
    assert clinic.json("queue")["items"] == []


def test_a_time_that_is_no_use_names_the_option_that_mends_it(clinic: Clinic) -> None:
    clinic.run("templates")
    wanted = ("request", FORM, "--patient", PATIENT, "--not-after")
    assert clinic.run(*wanted, "9999-12-31T23:59:59-04:00")[0] == 64
    cmid = clinic.json(*wanted, "2999-01-01T00:00:00Z")["clientMutationId"]
    with DocumentClient(clinic.home) as client:
        queued = client.account().queue
        with transaction(queued):
            body = str(queued.execute("SELECT body FROM requests").get, "utf-8").replace("2999", "2020")
            queued.execute("UPDATE requests SET body = ?", (body.encode(),))
    code, _, err = clinic.run("queue", "edit", cmid, "--patient", "p2")
    assert (code, "name one to come by --not-after" in err) == (64, True)
    assert clinic.run("queue", "edit", cmid, "--patient", "p2", "--not-after", "2998-01-01T00:00:00Z")[0] == 0
