"""The command ``documents`` in a process of its own, as a person runs it, on a home folder of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PASSPHRASE = "only for this test"


def environment(home: Path) -> dict[str, str]:
    """What such a process is given: the home folder and its passphrase."""
    return {**os.environ, "DOCUMENTS_HOME": str(home), "DOCUMENTS_PASSPHRASE": PASSPHRASE}


def documents(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and return what it said."""
    command = [sys.executable, "-m", "document_client", *arguments]
    return subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=120, check=False)
