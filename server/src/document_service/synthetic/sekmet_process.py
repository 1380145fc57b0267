"""The child process: sekmet-fhir on a socket that the parent has bound, until the parent's end of the pipe closes.

Arguments: descriptor of the listening socket, base URL, and a bearer token or "-" for an open server.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any


def main() -> None:
    """Serve until standard input ends, which it does when the parent dies, however it dies."""
    descriptor, base_url, token = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn
    from sekmet.config import ServerAuth, Settings, SimulatorSettings
    from sekmet.main import create_app

    listening = socket.socket(fileno=int(descriptor))
    settings = Settings(
        base_url=base_url,
        host="127.0.0.1",
        port=listening.getsockname()[1],
        db_path=":memory:",
        facility_name="Karte Seh Clinic (made up)",
        server_auth=ServerAuth(types=["none"]) if token == "-" else ServerAuth(types=["bearer"], tokens=[token]),
        # The simulator answers orders by itself; here a record changes only when a test or the demo changes it.
        simulator=SimulatorSettings(enabled=False),
        log_inbound=False,
    )
    app: Any = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    server.run(sockets=[listening])


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
