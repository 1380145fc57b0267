"""Runs commands of ``documents``, each in a process of its own that is forked with everything already imported.

A process that is killed while it imports proves nothing, and importing is half of a command's life. One JSON line in
(``{"argv": [...], "out": PATH}``), two lines out: the pid, and the exit code once it has ended.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

from document_client import __main__ as entry


def run(order: dict[str, object]) -> None:
    """Be the command: output to the file, nothing on standard input."""
    out = os.open(str(order["out"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    argv = order["argv"]
    assert isinstance(argv, list)
    code = entry.main(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Fork for every line until there are no more."""
    for verb in entry.VERBS.values():
        import_module(f"document_client.cli.{verb.partition(':')[0]}")
    for name in ("document_client.driver", "document_client.http", "argon2.low_level", "httpx2"):
        import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
