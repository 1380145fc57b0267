"""Show a document's bytes in a viewer without writing a file: a loopback URL that works once, or standard input."""

from __future__ import annotations

import http.server
import secrets
import shlex
import subprocess
import threading

from . import programs
from .errors import ViewerSilent, ViewerUnavailable

# A browser that is not running yet takes some seconds to ask.
WAIT_SECONDS = 30.0


def feed_viewer(pdf: bytes, command: str) -> None:
    """Run a viewer that reads the document on standard input; raises ViewerUnavailable."""
    try:
        subprocess.run(shlex.split(command), input=pdf, check=True, env=programs.environment())
    except (OSError, ValueError, subprocess.CalledProcessError) as failure:
        raise ViewerUnavailable(f"the viewer could not be run: {type(failure).__name__}") from failure


def show_once(pdf: bytes, name: str, command: str | None, *, wait_seconds: float = WAIT_SECONDS) -> None:
    """Serve the document at a one-shot loopback URL and start the viewer on it; raises ViewerUnavailable.

    The URL holds 256 random bits, answers one GET, and is gone. ``command`` None means the system's own choice.
    """
    left, finished = threading.Semaphore(1), threading.Event()
    path = f"/{secrets.token_urlsafe(32)}/{name}.pdf"

    class OneShot(http.server.BaseHTTPRequestHandler):
        # Browsers open connections ahead of need and send nothing on them; such a one must hold nothing up.
        timeout = wait_seconds

        def do_GET(self) -> None:
            if self.path != path or not left.acquire(blocking=False):
                self.send_error(404)
                return
            started.set()
            try:
                self._give()
            finally:
                finished.set()

        def _give(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/pdf")
            self.send_header("Content-Length", str(len(pdf)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(pdf)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the URL is a secret."""

    started = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneShot)
    # Neither the end of the command nor that of the server waits for a connection on which nothing is asked.
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        _start_viewer(f"http://127.0.0.1:{server.server_port}{path}", command)
        if not started.wait(wait_seconds):
            raise ViewerSilent(f"the viewer did not ask for the document within {wait_seconds:.0f} s")
        # The whole document, unless the viewer stops reading: the socket's own time-out then ends it.
        finished.wait()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _start_viewer(url: str, command: str | None) -> None:
    if command is None:
        import webbrowser

        with programs.passphrase_withheld():
            opened = webbrowser.open(url)
        if not opened:
            raise ViewerUnavailable()
        return
    try:
        subprocess.Popen([*shlex.split(command), url], stdin=subprocess.DEVNULL, env=programs.environment())
    except (OSError, ValueError) as failure:
        raise ViewerUnavailable(f"the viewer could not be run: {type(failure).__name__}") from failure
