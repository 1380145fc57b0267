"""A command in the wrong folder says so and makes nothing; `doctor` says whether `serve` runs, and where."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_folder_commands import LATER
from document_service.__main__ import EXIT_CONFIGURATION
from document_service.running import processes
from running_service import Service, request_for


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a new terminal whose working folder is ``folder``."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DOCUMENT_SERVICE_")}
    return subprocess.run(
        [sys.executable, "-m", "document_service", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**clean, **environment},
    )


@pytest.mark.parametrize("command", sorted(LATER))
def test_a_command_that_works_on_what_is_there_refuses_an_empty_folder(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, *command.split(), *LATER[command])
    assert (done.returncode, done.stdout) == (EXIT_CONFIGURATION, "")
    for told in (str(tmp_path / "document-service-data"), "the default", "--data-dir", "DOCUMENT_SERVICE_DATA_DIR"):
        assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_slip_in_its_name_is_not_begun_either(tmp_path: Path) -> None:
    for done in (
        run(tmp_path, "tenant", "list", "--data-dir", "slip"),
        run(tmp_path, "tenant", "list", DOCUMENT_SERVICE_DATA_DIR=str(tmp_path / "slip")),
    ):
        assert (done.returncode, str(tmp_path / "slip") in done.stderr) == (EXIT_CONFIGURATION, True)
        assert "the default" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_first_command_may_make_a_tenant_or_a_token_and_says_what_it_begins(tmp_path: Path) -> None:
    refused = run(tmp_path, "token", "--tenant", "clinic", "--user", "nurse")
    assert (refused.returncode, refused.stdout) == (EXIT_CONFIGURATION, "")
    assert list(tmp_path.iterdir()) == []
    token = run(tmp_path, "token", "--tenant", "clinic", "--user", "nurse", "--data-dir", "named")
    assert (token.returncode, token.stdout.count("."), "beginning" in token.stderr) == (0, 2, True)
    create = ("tenant", "create", "clinic", "--fhir-url", "http://127.0.0.1:9/fhir")
    for named in ((), ("--data-dir", "named")):
        made = run(tmp_path, *create, *named)
        assert (made.returncode, "beginning a new data folder" in made.stderr) == (0, True), made.stderr
        again = run(tmp_path, *create, *named)
        assert (again.returncode, "beginning" in again.stderr) == (0, False), again.stderr
    listed = json.loads(run(tmp_path, "tenant", "list", "--json").stdout)
    assert [tenant["tenant"] for tenant in listed] == ["clinic"]
    assert run(tmp_path, "token", "--tenant", "clinic", "--user", "nurse").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_nobody_works_on_another_users_keys(tmp_path: Path) -> None:
    """Root least of all: the service could not read what root writes."""
    assert run(tmp_path, "tenant", "create", "clinic").returncode == 0
    for path in (tmp_path / "document-service-data/keys").rglob("*"):
        os.chown(path, 12345, -1)
    for command in (
        ["tenant", "create", "second"],
        ["tenant", "list"],
        ["doctor"],
        ["serve", "--port", "0"],
        ["migrate"],
    ):
        done = run(tmp_path, *command)
        assert (done.returncode, "sudo -u #12345" in done.stderr) == (EXIT_CONFIGURATION, True), done.stderr
    assert run(tmp_path, "settings").returncode == 0
    assert [path.name for path in (tmp_path / "document-service-data/keys/tenants").glob("*.key")] == ["clinic.key"]


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {finding["part"]: finding for finding in json.loads(done.stdout)}


def test_the_doctor_begins_nothing_and_says_whether_a_start_would_succeed(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--json")
    found = findings(done)
    assert (done.returncode, found["data folder"]["state"], found["serve"]["state"]) == (0, "note", "note")
    assert (found["database"]["state"], found["store"]["state"]) == ("ok", "ok")
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_where_serve_runs_and_whether_it_is_ready(tmp_path: Path) -> None:
    data = tmp_path / "data"
    service = Service(data).start("--workers", "1")
    try:
        (one,) = processes(data)
        assert (one.kind, one.pid, one.url) == ("serve", service.pid, service.url)
        found = findings(run(tmp_path, "doctor", "--json", "--data-dir", "data"))
        assert found["serve"] == {
            "part": "serve",
            "state": "ok",
            "detail": f"process {service.pid} on {service.url}, ready",
            "remedy": None,
        }
        service.kill()
        assert processes(data) == []
        service.start("--workers", "1")
        assert [path.name for path in (data / "running").iterdir()] == [f"serve-{service.pid}"]
    finally:
        service.stop()
    assert list((data / "running").iterdir()) == []
    done = run(tmp_path, "doctor", "--json", "--data-dir", "data")
    found = findings(done)
    assert (done.returncode, found["serve"]["state"]) == (0, "note")
    assert f"serve --data-dir {data}" in found["serve"]["remedy"]


def test_the_doctor_names_tenants_without_a_key_and_fhir_servers_that_do_not_answer(
    tmp_path: Path, fhir_url: str
) -> None:
    for tenant, url in (("whole", fhir_url), ("silent", "http://127.0.0.1:9/fhir")):
        run(tmp_path, "tenant", "create", tenant, "--fhir-url", url)
    run(tmp_path, "tenant", "create", "unset")
    done = run(tmp_path, "doctor", "--json")
    told = [(one["part"], one["state"], one["detail"]) for one in json.loads(done.stdout)]
    assert done.returncode == 0
    assert ("tenants", "ok", "3, each with its key") in told
    assert ("FHIR server", "note", "does not answer for silent") in told
    assert ("FHIR server", "note", "is not named for unset") in told
    for tenant in ("whole", "silent"):
        next((tmp_path / "document-service-data/keys/tenants").glob(f"{tenant}*.key")).unlink()
    done = run(tmp_path, "doctor", "--json")
    found = findings(done)
    assert (done.returncode, found["tenants"]["state"]) == (69, "missing")
    assert all(tenant in found["tenants"]["detail"] for tenant in ("whole", "silent"))
    assert "unset" not in found["tenants"]["detail"]


def test_a_database_that_was_lost_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """Devices would be told, in good order, that nothing was ever there."""
    for folder in ("lost", "with-password"):
        assert run(tmp_path, "tenant", "create", "clinic", "--data-dir", folder).returncode == 0
    shutil.rmtree(tmp_path / "lost/postgres")
    shutil.rmtree(tmp_path / "with-password/postgres/cluster")
    elsewhere = {"DOCUMENT_SERVICE_KEY_DIR": str(tmp_path / "lost/keys")}
    for folder, environment in (("lost", {}), ("with-password", {}), ("slip", elsewhere)):
        for command in (["serve", "--port", "0"], ["tenant", "create", "clinic"]):
            done = run(tmp_path, *command, "--data-dir", folder, **environment)
            assert done.returncode == EXIT_CONFIGURATION, done.stderr
            for told in ("tenants' keys", "no database in", str(tmp_path / folder), "--data-dir", "restore"):
                assert told in done.stderr
        assert not (tmp_path / folder / "postgres/cluster").exists()
        done = run(tmp_path, "doctor", "--json", "--data-dir", folder, **environment)
        assert (done.returncode, findings(done)["database"]["state"]) == (69, "missing")
    shutil.rmtree(tmp_path / "lost/keys")
    (tmp_path / "lost/objects/objects/clinic").mkdir(parents=True)
    (tmp_path / "lost/objects/objects/clinic/one").touch()
    done = run(tmp_path, "migrate", "--data-dir", "lost")
    assert (done.returncode, "objects in" in done.stderr) == (EXIT_CONFIGURATION, True)
    (tmp_path / "lost/objects").rename(tmp_path / "moved-away")
    assert run(tmp_path, "migrate", "--data-dir", "lost").returncode == 0


def test_a_store_whose_volume_is_not_mounted_is_not_replaced_by_an_empty_one(tmp_path: Path, fhir_url: str) -> None:
    """The new documents would lie below the volume, and all older ones would be said to be gone."""
    service = Service(tmp_path / "data").start()
    try:
        tenant = service.create_tenant(fhir_url)
        with service.caller(tenant) as api:
            document = api.render(request_for(api.platform_version()))["documentId"]
            service.stop()
            (tmp_path / "data/objects").rename(tmp_path / "unmounted")
            (tmp_path / "data/objects").mkdir()
            for command in (["serve", "--port", "0"], ["backup", str(tmp_path / "copy")]):
                done = run(tmp_path, *command, "--data-dir", "data")
                assert done.returncode == EXIT_CONFIGURATION, done.stderr
                assert "mount the volume" in done.stderr
            assert list((tmp_path / "data/objects").iterdir()) == []
            told = findings(run(tmp_path, "doctor", "--json", "--data-dir", "data"))["database"]
            assert (told["state"], "no objects in" in told["detail"]) == ("missing", True)
            shutil.rmtree(tmp_path / "data/objects")
            (tmp_path / "unmounted").rename(tmp_path / "data/objects")
            service.start()
        with service.caller(tenant) as again:
            assert again.content(document).status_code == 200
        service.stop()
        # Who has lost them for good says so.
        shutil.rmtree(tmp_path / "data/objects")
        (tmp_path / "data/objects").mkdir()
        (tmp_path / "data/objects/begun-anew").touch()
        service.start()
        assert run(tmp_path, "backup", str(tmp_path / "copy"), "--data-dir", "data").returncode == 0
    finally:
        service.stop()


def test_keys_whose_volume_is_not_mounted_are_not_begun_anew(tmp_path: Path) -> None:
    """New ones would open nothing, fail every request for good, and lie where the others belong."""
    keys = {"DOCUMENT_SERVICE_KEY_DIR": str(tmp_path / "keys")}
    for tenant in ("clinic", "ward"):
        assert run(tmp_path, "tenant", "create", tenant, "--data-dir", "data", **keys).returncode == 0
    (tmp_path / "keys").rename(tmp_path / "unmounted")
    (tmp_path / "keys").mkdir()
    commands = (["serve", "--port", "0"], ["tenant", "create", "clinic"], ["tenant", "create", "new"], ["purge"])
    for command in (*commands, ["keys", "rotate"], ["audit", "verify"], ["backup", str(tmp_path / "copy")]):
        done = run(tmp_path, *command, "--data-dir", "data", **keys)
        assert done.returncode == EXIT_CONFIGURATION, (command, done.stderr)
        assert "there are no keys in" in done.stderr
    told = findings(run(tmp_path, "doctor", "--json", "--data-dir", "data", **keys))["keys"]
    assert (told["state"], "there are no keys in" in told["detail"]) == ("missing", True)
    assert list((tmp_path / "keys").iterdir()) == []
    (tmp_path / "keys").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "keys")

    # One tenant's key alone is missing, or cannot be opened: the others are looked after, and no second key is made.
    lost = next((tmp_path / "keys/tenants").glob("clinic*.key"))
    content = lost.read_bytes()
    lost.unlink()
    done = run(tmp_path, "tenant", "create", "clinic", "--data-dir", "data", **keys)
    assert (done.returncode != 0, "put its key back" in done.stderr) == (True, True)
    assert not lost.exists()
    for damaged in (False, True):
        if damaged:
            lost.write_bytes(content[: len(content) // 2])
            lost.chmod(0o600)
            master = (tmp_path / "keys/master.key").read_bytes()
            assert run(tmp_path, "keys", "rotate", "--data-dir", "data", **keys).returncode != 0
            assert (tmp_path / "keys/master.key").read_bytes() == master
        checked = run(tmp_path, "audit", "verify", "--json", "--data-dir", "data", **keys)
        assert (checked.returncode, [f["kind"] for f in json.loads(checked.stdout)["findings"]]) == (65, ["key"])
    lost.write_bytes(content)
    assert run(tmp_path, "audit", "verify", "--data-dir", "data", **keys).returncode == 0
    # Who has lost them for good says so, and begins with other tenants.
    (tmp_path / "keys").rename(tmp_path / "lost")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/begun-anew").touch()
    assert run(tmp_path, "tenant", "create", "anew", "--data-dir", "data", **keys).returncode == 0


def test_a_copy_that_was_put_back_is_purged_by_no_timer_before_its_first_start(tmp_path: Path) -> None:
    for command in (["tenant", "create", "clinic"], ["purge"], ["purge"]):
        done = run(tmp_path, *command, "--data-dir", "data")
        assert done.returncode == 0, done.stderr
    # With its owners: as root the database belongs to a user of its own.
    subprocess.run(["cp", "-a", tmp_path / "data", tmp_path / "copy"], check=True)
    done = run(tmp_path, "purge", "--data-dir", "copy")
    assert (done.returncode, "--holds-are-set" in done.stderr) == (64, True), done.stderr
    assert run(tmp_path, "purge", "--data-dir", "data").returncode == 0
