"""Contract §5 and §6: the commands of ``document-service`` and its settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.from_outside.caller import Caller, Request
from contract.from_outside.clinic import CLINIC, Clinic, run

#: §6: wrong values, one for each kind of fault; `tests/unit/test_settings.py` has every variable. None of them may
#: start anything or end in words for programmers.
WRONG = {
    "DOCUMENT_SERVICE_DATABASE_URL": "postgresql://u:p@127.0.0.1:notaport/db",
    "DOCUMENT_SERVICE_CLAMD": "tcp:127.0.0.1:99999",
    "DOCUMENT_SERVICE_NO_SUCH_SETTING": "1",
}

SETTINGS = [
    "DATA_DIR",
    "DATABASE_URL",
    "OBJECT_STORE_URL",
    "KEY_DIR",
    "OIDC_ISSUER",
    "OIDC_AUDIENCE",
    "CLAMD",
    "PUBLIC_URL",
    "SIGNED_URL_TTL",
    "DEDUP_WINDOW",
    "CACHE_TTL",
    "LOG_LEVEL",
]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_stops_the_start_by_its_name(name: str, tmp_path: Path) -> None:
    """§6: "a wrong value stops the start with its name, what was wrong and what is allowed"; §5: exit 78."""
    environment = {"DOCUMENT_SERVICE_DATA_DIR": str(tmp_path / "data"), name: WRONG[name]}
    done = run("document-service", "serve", "--port", "0", **environment)
    assert done.returncode == 78, done.stderr
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "postgres").exists()


def test_every_setting_is_listed_with_value_source_and_meaning(clinic: Clinic) -> None:
    """§5: `settings`: "every setting with value, source and meaning"; options work before and after the verb."""
    listed = json.loads(clinic.command("settings", "--json"))
    names = {one["name"] for one in listed}
    assert names >= {f"DOCUMENT_SERVICE_{name}" for name in SETTINGS}
    assert all(set(one) >= {"name", "value", "source", "meaning"} for one in listed)
    assert json.loads(clinic.command("--json", "settings")) == listed


def test_commands_work_while_the_service_runs(clinic: Clinic, nurse: Caller, request_for: Request) -> None:
    """§5: "every command works while `serve` runs": the store and the chain are whole, a document is proved."""
    job = nurse.render(request_for())
    clinic.command("store", "verify")
    clinic.command("audit", "verify")
    clinic.command("prove", job["documentId"])
    assert CLINIC in clinic.command("tenant", "list")
    shown = json.loads(clinic.command("tenant", "show", CLINIC))
    assert "fhirUrl" in shown or "fhir_url" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant", "create", "Not An Id!", "--fhir-url", "http://127.0.0.1:9/fhir"),
        ("token", "--tenant", CLINIC, "--user", "u", "--role", "WIZARD"),
        ("token", "--tenant", CLINIC, "--user", ""),
    ],
)
def test_what_does_not_fit_is_a_matter_of_usage(clinic: Clinic, arguments: tuple[str, ...]) -> None:
    """§5, exit codes: 64 usage; nothing is made."""
    clinic.command(*arguments, code=64)


def test_a_folder_that_cannot_be_written_is_named_in_one_line(clinic: Clinic) -> None:
    """§5: `backup DIR`: a disk that is full or away is a matter for the operator, and no trace of a program."""
    done = run("document-service", "backup", "/proc/nowhere", DOCUMENT_SERVICE_DATA_DIR=str(clinic.data_dir))
    assert (done.returncode, done.stdout) == (69, "")
    assert "/proc/nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_shred_must_be_confirmed(clinic: Clinic) -> None:
    """§5: `tenant shred T --confirm T`."""
    clinic.command("tenant", "create", "passing", "--fhir-url", "http://127.0.0.1:9/fhir")
    with clinic.caller("passing", "nurse", "CLINICIAN") as nurse:
        clinic.command("tenant", "shred", "passing", "--confirm", CLINIC, code=64)
        assert nurse.get("/v1/document-templates").status_code == 200
        clinic.command("tenant", "shred", "passing", "--confirm", "passing")
        assert nurse.get("/v1/document-templates").status_code >= 400
