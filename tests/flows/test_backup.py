"""Backup while the service runs, restore into another data folder, and what a shred leaves of an old backup."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from document_service.errors import TenantKeyMissing
from document_service.keys import KeyStore
from document_service.store import open_store
from raw_database import connected
from running_service import Service, request_for


@dataclass
class Drill:
    """A backup with two tenants; one was shredded after it was taken. And a service restored from it."""

    folder: Path
    restored: Service
    note: dict[str, Any]
    said: dict[str, Any]
    kept: tuple[str, str]
    shredded: tuple[str, str]
    after: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own: a backup takes everything along, and other tests damage objects on purpose."""
    running = Service(tmp_path_factory.mktemp("service") / "data").start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def drill(service: Service, fhir_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    root = tmp_path_factory.mktemp("drill")
    folder = root / "backup"
    tenants = [service.create_tenant(fhir_url) for _ in range(2)]
    documents = []
    for tenant in tenants:
        with service.caller(tenant) as api:
            documents.append(api.render(request_for(api.platform_version()))["documentId"])
    service.command("backup", str(folder))
    with service.caller(tenants[0]) as api:
        last = api.render(request_for(api.platform_version()))["documentId"]
    note = json.loads(service.command("backup", str(folder), "--json"))
    with service.caller(tenants[0]) as api:
        after = request_for(api.platform_version())
        assert api.render(after)["status"] == "completed"
    service.command("tenant", "shred", tenants[1], "--confirm", tenants[1])

    restored = Service(root / "restored")
    # Keys travel apart from the backup, and as they are now: with the tombstone.
    shutil.copytree(service.data_dir / "keys", restored.data_dir / "keys")
    said = json.loads(restored.command("restore", str(folder), "--json"))
    restored.start()
    try:
        yield Drill(
            folder, restored, note, said, (tenants[0], last), (tenants[1], documents[1]), after["clientMutationId"]
        )
    finally:
        restored.stop()


def refusal(service: Service, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command that is refused."""
    done = subprocess.run(
        [sys.executable, "-m", "document_service", *arguments, "--data-dir", str(service.data_dir)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stderr


def test_a_second_backup_copies_what_is_new_and_holds_no_key(service: Service, drill: Drill) -> None:
    assert drill.note["objects"] >= 6
    assert drill.note["object_bytes"] < 400_000, "objects of the first backup are not copied again"
    assert sorted(path.name for path in drill.folder.iterdir() if path.name[0] != ".") == [
        "backup.json",
        "database",
        "incoming",
        "marks",
        "objects",
    ]
    assert drill.folder.stat().st_mode & 0o077 == 0
    kept = {path.read_bytes() for path in drill.folder.rglob("*") if path.is_file()}
    for secret in [*(service.data_dir / "keys").rglob("*.key"), service.data_dir / "postgres/password"]:
        content = secret.read_bytes().strip()
        assert not any(content in each for each in kept), secret.name


def test_what_was_there_is_served_and_what_came_later_is_unknown(drill: Drill) -> None:
    assert drill.said["set_aside"] is None
    assert drill.said["without_key"] == []
    tenant, document = drill.kept
    with drill.restored.caller(tenant) as api:
        answer = api.content(document)
        assert answer.content.startswith(b"%PDF")
        assert answer.headers["X-Sync-Epoch"] == drill.said["epoch"] != drill.note["epoch"]
        found = api.post("/v1/documents/render-jobs/lookup", json={"clientMutationIds": [drill.after]}).json()
        assert [item["known"] for item in found["items"]] == [False]
        job = api.render(request_for(api.platform_version()))
        assert job["status"] == "completed", "the restored service works on"
    assert "0 faults" in drill.restored.command("store", "verify")


async def test_a_tenant_shredded_after_the_backup_opens_nowhere(service: Service, drill: Drill) -> None:
    tenant, document = drill.shredded
    for place in (service, drill.restored):
        with place.caller(tenant) as api:
            for path in ("/v1/document-templates", f"/v1/documents/{document}"):
                answer = api.get(path)
                assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        keys = KeyStore.open(place.data_dir / "keys")
        assert not keys.has_tenant(tenant)
        with pytest.raises(TenantKeyMissing):
            keys.seal(tenant, "x", b"")
        store = open_store(place.data_dir / "objects", keys)
        names = [stat.name async for stat in store.list(tenant)]
        assert len(names) == 2
        for name in names:
            with pytest.raises(TenantKeyMissing):
                [piece async for piece in store.read(tenant, name)]
        async with connected(place, role=None) as owner:
            row = await owner.fetchrow("SELECT * FROM document.documents WHERE tenant_id = $1", tenant)
            with pytest.raises(TenantKeyMissing):
                keys.unseal(tenant, "document-title", row["title_sealed"])
            assert await owner.fetchval("SELECT shredded_at FROM document.tenants WHERE tenant_id = $1", tenant)
    assert "shredded, not read" in drill.restored.command("store", "verify")


def test_a_restore_over_a_database_is_refused_and_a_forced_one_sets_it_aside(drill: Drill, tmp_path: Path) -> None:
    code, said = refusal(drill.restored, "restore", str(drill.folder), "--force")
    assert code == 69
    assert "stop the service first" in said
    drill.restored.stop()
    try:
        code, said = refusal(drill.restored, "restore", str(drill.folder))
        assert code == 64
        assert "--force" in said
        broken = tmp_path / "broken"
        shutil.copytree(drill.folder, broken)
        file = next(path for path in (broken / "database/base").rglob("[0-9]*") if path.is_file())
        file.write_bytes(file.read_bytes() + b"x")
        code, said = refusal(drill.restored, "restore", str(broken), "--force")
        assert code == 69
        (broken / "backup.json").unlink()
        assert refusal(drill.restored, "restore", str(broken), "--force")[0] == 64
        said = json.loads(drill.restored.command("restore", str(drill.folder), "--force", "--json"))
        assert Path(said["set_aside"], "PG_VERSION").exists()
    finally:
        drill.restored.start()
    with drill.restored.caller(drill.kept[0]) as api:
        assert api.content(drill.kept[1]).content.startswith(b"%PDF")


def test_a_restore_without_keys_is_refused_and_makes_none(drill: Drill, tmp_path: Path) -> None:
    code, said = refusal(Service(tmp_path / "empty"), "restore", str(drill.folder))
    assert (code, str(tmp_path / "empty/keys") in said) == (64, True), said
    assert not (tmp_path / "empty").exists()


def test_a_folder_with_something_else_in_it_is_not_backed_up_into(service: Service, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    code, said = refusal(service, "backup", str(tmp_path))
    assert code == 64
    assert "thesis.txt" in said


def test_after_a_restore_nothing_is_purged_until_the_holds_are_back(drill: Drill) -> None:
    """A hold that was placed since the backup is not in it, and what a purge deletes is in no database set aside."""
    code, said = refusal(drill.restored, "purge")
    assert (code, "--holds-are-set" in said) == (64, True)
    assert refusal(drill.restored, "purge", "--dry-run")[0] == 0
    assert refusal(drill.restored, "purge", "--holds-are-set")[0] == 0
    assert refusal(drill.restored, "purge")[0] == 0, "it is said once"


def test_one_damaged_object_and_what_others_left_stop_no_backup(drill: Drill, tmp_path: Path) -> None:
    """The good copy stays, the rest and the database are copied, and the command says which one and ends with 1."""
    tenant, _ = drill.kept
    folder = drill.restored.data_dir / "objects/objects" / tenant
    drill.restored.command("backup", str(tmp_path / "copy"))
    [*_, damaged] = sorted(path for path in folder.rglob("*") if path.is_file())
    content = damaged.read_bytes()
    damaged.chmod(0o600)
    damaged.write_bytes(content[:-1])
    (damaged.parent / ".obj.AbC123").write_bytes(b"left by a copy that was cut off")
    with drill.restored.caller(tenant) as api:
        assert api.render(request_for(api.platform_version()))["status"] == "completed"
    code, said = refusal(drill.restored, "backup", str(tmp_path / "copy"))
    key = f"objects/{tenant}/{damaged.relative_to(folder)}"
    assert (code, key in said) == (1, True)
    note = json.loads((tmp_path / "copy/backup.json").read_text())
    copied = {path.name for path in (tmp_path / "copy/objects").rglob("*") if path.is_file()}
    there = {path.name for path in (drill.restored.data_dir / "objects/objects").rglob("obj_*") if path.is_file()}
    assert there <= copied
    assert note["damaged"] == [key]
    assert (tmp_path / "copy" / key).read_bytes() == content
    damaged.write_bytes(content)
    assert refusal(drill.restored, "backup", str(tmp_path / "copy"))[0] == 0
