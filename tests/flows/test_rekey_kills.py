"""`documents rekey` killed at any moment, as real processes on a real key file: one way in is left, and only one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from document_client.errors import ClientError
from document_client.vault import Unlocking, Vault, create_vault, open_vault

OLD, NEW = Unlocking("old"), Unlocking("new")


def ways_in(home: Path, *ways: Unlocking) -> list[Vault | None]:
    """The vault by each way in, or None where it is refused."""
    opened: list[Vault | None] = []
    for way in ways:
        try:
            opened.append(open_vault(home, way))
        except ClientError:
            opened.append(None)
    return opened


_LOOP = """
import sys
from pathlib import Path
from document_client.vault import Unlocking, open_vault, rekey
home = Path(sys.argv[1])
names = sys.argv[2:]
print("ready", flush=True)
while True:
    names.reverse()
    vault = open_vault(home, Unlocking(names[1]))
    rekey(home, vault, names[0])
    print("changed", flush=True)
"""


def test_killed_at_any_moment_exactly_one_way_in_is_left(tmp_path: Path) -> None:
    """Argon2id takes most of a change, and the write a moment: fifteen kills meet both sides of it."""
    made = create_vault(tmp_path, "dev_1", OLD)
    key = made.key("queue/a")
    seen = set()
    for _ in range(15):
        [now] = [way for way, found in zip((OLD, NEW), ways_in(tmp_path, OLD, NEW), strict=True) if found]
        # The counter of wrong passphrases would make the loop wait.
        forgive(tmp_path)
        other = NEW if now is OLD else OLD
        program = subprocess.Popen(
            [sys.executable, "-c", _LOOP, str(tmp_path), str(now.passphrase), str(other.passphrase)],
            stdout=subprocess.PIPE,
            env={**os.environ, "DOCUMENTS_REMEMBER": "0"},
        )
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        began = time.monotonic()
        assert program.stdout.readline() == b"changed\n"
        # Anywhere in the next change, however slow the machine is just now.
        time.sleep(random.uniform(0.0, 1.5 * (time.monotonic() - began)))
        program.kill()
        program.wait()
        program.stdout.close()
        forgive(tmp_path)
        opened = ways_in(tmp_path, OLD, NEW)
        assert sum(found is not None for found in opened) == 1
        [vault] = [found for found in opened if found is not None]
        assert vault.key("queue/a", create=False) == key
        seen.add(opened.index(vault))
        forgive(tmp_path)
    assert seen == {0, 1}, "the kills met no moment after a change"


def forgive(home: Path) -> None:
    path = home / "vault.json"
    content = json.loads(path.read_text())
    content["failures"] = {"count": 0, "until": 0}
    path.write_text(json.dumps(content))
