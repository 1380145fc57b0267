"""Another passphrase, or the keyring: the old or the new way in works at every moment, and never neither."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from client_device import Device, made_device
from document_client import vault as vaults
from document_client.errors import (
    ClientError,
    KeyringLost,
    KeyringMissing,
    KeysChanged,
    PassphraseDelayed,
    PassphraseWrong,
    StorageProblem,
)
from document_client.vault import Unlocking, create_vault, open_vault, rekey
from document_client.watching import watch
from kept_keyring import keep_in_keyring

OLD, NEW = Unlocking("old"), Unlocking("new")
IN_KEYRING = Unlocking()


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[Any, str]:
    return keep_in_keyring(monkeypatch, "keyring.backends.SecretService", "Keyring")


def test_another_passphrase_opens_the_same_keys_under_another_root(tmp_path: Path) -> None:
    made = create_vault(tmp_path, "dev_1", OLD)
    key, public, before = made.key("queue/a"), made.public_key(), (tmp_path / "vault.json").read_text()
    again = rekey(tmp_path, made, "new")
    assert again.key("queue/a") == key
    with pytest.raises(PassphraseWrong):
        open_vault(tmp_path, OLD)
    opened = open_vault(tmp_path, NEW)
    assert (opened.key("queue/a"), opened.public_key()) == (key, public)
    assert opened.sign(b"x") == again.sign(b"x")
    # A copy of the old key file with the old passphrase does not open what is sealed from now on.
    opened.put("token/a", b"later")
    old = json.loads(before)
    (tmp_path / "copy").mkdir()
    now = json.loads((tmp_path / "vault.json").read_text())
    (tmp_path / "copy" / "vault.json").write_text(json.dumps({**now, "unlock": old["unlock"]}))
    with pytest.raises(ClientError):
        open_vault(tmp_path / "copy", OLD).key("token/a", create=False)


def test_many_guesses_at_once_are_counted_one_by_one(tmp_path: Path) -> None:
    create_vault(tmp_path, "dev_1", OLD)

    def guess(number: int) -> str:
        try:
            open_vault(tmp_path, Unlocking(f"wrong {number}", wall=lambda: 1000.0))
        except ClientError as failure:
            return failure.code
        return "opened"

    with ThreadPoolExecutor(8) as pool:
        said = Counter(pool.map(guess, range(12)))
    assert said == {PassphraseWrong.code: vaults.FREE_FAILURES + 1, PassphraseDelayed.code: 11 - vaults.FREE_FAILURES}
    assert vaults.read_failures(tmp_path) == vaults.FREE_FAILURES + 1


def test_a_program_that_has_it_open_neither_reads_wrong_nor_writes_over_it(tmp_path: Path) -> None:
    made = create_vault(tmp_path, "dev_1", OLD)
    made.key("queue/a")
    rekey(tmp_path, made, "new")
    for act in (
        lambda: made.key("queue/a"),
        lambda: made.key("another"),
        lambda: made.put("token/a", b"x"),
        lambda: made.replace({"token/a": b"x"}),
        lambda: made.destroy("queue/a"),
        lambda: made.rename("queue/a", "b"),
        lambda: made.sign(b"x"),
        lambda: rekey(tmp_path, made, "third"),
    ):
        with pytest.raises(KeysChanged):
            act()
    opened = open_vault(tmp_path, NEW)
    assert opened.key("queue/a", create=False) is not None
    assert opened.key("token/a", create=False) is None


def test_into_the_keyring_and_out_again(tmp_path: Path, keyring: dict[Any, str]) -> None:
    made = create_vault(tmp_path, "dev_1", OLD)
    key = made.key("queue/a")
    made = rekey(tmp_path, made, None)
    assert open_vault(tmp_path, IN_KEYRING).key("queue/a") == key
    # Anew in the keyring: another entry, and the former one is gone.
    first = dict(keyring)
    made = rekey(tmp_path, made, None)
    assert len(keyring) == 1
    assert set(keyring) != set(first)
    assert open_vault(tmp_path, IN_KEYRING).key("queue/a") == key
    rekey(tmp_path, made, "new")
    assert keyring == {}
    assert open_vault(tmp_path, NEW).key("queue/a") == key


def test_the_first_key_files_name_no_entry(tmp_path: Path, keyring: dict[Any, str]) -> None:
    made = create_vault(tmp_path, "dev_1", IN_KEYRING)
    key = made.key("queue/a")
    path = tmp_path / "vault.json"
    content = json.loads(path.read_text())
    del content["unlock"]["entry"]
    path.write_text(json.dumps(content))
    rekey(tmp_path, open_vault(tmp_path, IN_KEYRING), None)
    assert open_vault(tmp_path, IN_KEYRING).key("queue/a") == key
    assert len(keyring) == 1


def test_without_a_keyring_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = create_vault(tmp_path, "dev_1", OLD)
    before = (tmp_path / "vault.json").read_bytes()
    monkeypatch.setattr("document_client.rootkey.find_keyring", lambda: None)
    with pytest.raises(KeyringMissing):
        rekey(tmp_path, made, None)
    assert (tmp_path / "vault.json").read_bytes() == before


class Cut(Exception):
    """The power is gone."""


def cut_before(name: str) -> Callable[..., Any]:
    def end(*given: object, **named: object) -> None:
        raise Cut(name)

    return end


@pytest.mark.parametrize("target", ["passphrase", "keyring"])
@pytest.mark.parametrize("start", ["passphrase", "keyring"])
@pytest.mark.parametrize("step", ["lock", "file", "rename", "forget"])
def test_a_cut_at_every_step_leaves_one_way_in(
    tmp_path: Path, keyring: dict[Any, str], monkeypatch: pytest.MonkeyPatch, start: str, target: str, step: str
) -> None:
    before, after = (OLD if start == "passphrase" else IN_KEYRING), (NEW if target == "passphrase" else IN_KEYRING)
    made = create_vault(tmp_path, "dev_1", before)
    key = made.key("queue/a")
    where = {
        "lock": (vaults, "lock_by_passphrase" if target == "passphrase" else "lock_in_keyring"),
        "file": (vaults, "write_private"),
        "rename": (os, "replace"),
        "forget": (vaults, "forget_in_keyring"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(*where, cut_before(step))
        with pytest.raises(Cut):
            rekey(tmp_path, made, "new" if target == "passphrase" else None)
    done = step == "forget"
    assert open_vault(tmp_path, after if done else before).key("queue/a", create=False) == key
    # And it can be done again, whatever the cut left in the keyring.
    again = rekey(tmp_path, open_vault(tmp_path, after if done else before), "third")
    assert again.key("queue/a", create=False) == key
    assert keyring == {}


def test_a_full_disk_leaves_the_old_way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    made = create_vault(tmp_path, "dev_1", OLD)
    key = made.key("queue/a")

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageProblem):
            rekey(tmp_path, made, "new")
    assert open_vault(tmp_path, OLD).key("queue/a") == key


def forgive(home: Path) -> None:
    path = home / "vault.json"
    content = json.loads(path.read_text())
    content["failures"] = {"count": 0, "until": 0}
    path.write_text(json.dumps(content))


# --- What programs and people meet ----------------------------------------------------------------------------


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with made_device(tmp_path / "home") as made:
        yield made


def command(home: Path, passphrase: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "DOCUMENTS_HOME": str(home),
        "DOCUMENTS_PASSPHRASE": passphrase,
        "DOCUMENTS_REMEMBER": "0",
        **more,
    }
    return subprocess.run(
        [sys.executable, "-m", "document_client", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_and_a_queue_that_stays(device: Device) -> None:
    cmid = device.ask()
    device.client.close()
    done = command(device.home, "correct horse", "rekey", DOCUMENTS_NEW_PASSPHRASE="battery staple")
    assert (done.returncode, done.stdout) == (0, "Done: the passphrase holds the keys now.\n")
    assert command(device.home, "correct horse", "queue", "list").returncode == 77
    assert cmid in command(device.home, "battery staple", "queue", "list", "--json").stdout
    assert command(device.home, "battery staple", "rekey").returncode == 64
    assert command(device.home, "battery staple", "rekey", "--keyring").returncode == 78


def test_a_watch_unlocks_again_or_ends_with_a_clear_word(device: Device) -> None:
    told: list[str] = []
    device.ask()

    def change(seconds: float) -> None:
        if not told or told[-1] != "KEYS_CHANGED":
            rekey(device.home, device.client.account().vault, "battery staple")

    def tell(report: Any, failure: ClientError | None) -> None:
        told.append(failure.code if failure else "done")

    with pytest.raises(PassphraseWrong):
        watch(device.client, tell, sleep=change)
    assert told == ["done", "KEYS_CHANGED"]


def test_wrong_passphrases_are_counted_across_programs(device: Device) -> None:
    """Each is a process of its own: what is counted lies in the key file, and a restart does not forget it."""
    device.client.close()
    path = device.home / "vault.json"
    for count in (1, 2, 3, 4):
        assert command(device.home, "wrong", "status").returncode == 77
        assert json.loads(path.read_text())["failures"]["count"] == count
    # Two minutes of trying later, as the file would tell: the next one costs a minute, whoever asks.
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "failures": {"count": 9, "until": 0}}))
    assert command(device.home, "wrong", "status").returncode == 77
    refused = command(device.home, "correct horse", "status")
    assert refused.returncode == 77
    assert "before the next try" in refused.stderr
    with pytest.raises(PassphraseDelayed):
        open_vault(device.home, Unlocking("correct horse"))
    doctor = command(device.home, "wrong", "doctor", "--json")
    findings = [f for f in json.loads(doctor.stdout)["findings"] if f["part"] == "keys"]
    assert any("10 wrong passphrases" in finding["text"] for finding in findings)
    forgive(device.home)
    assert command(device.home, "correct horse", "status").returncode == 0


def test_a_keyring_that_is_locked_changes_nothing(
    tmp_path: Path, keyring: dict[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import keyring as library

    made = create_vault(tmp_path, "dev_1", OLD)
    key = made.key("queue/a")
    monkeypatch.setattr(library.get_keyring(), "set_password", cut_before("locked"), raising=False)
    with pytest.raises(KeyringLost):
        rekey(tmp_path, made, None)
    assert open_vault(tmp_path, OLD).key("queue/a") == key
