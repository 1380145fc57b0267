"""A CUPS of the tests' own: its own folder, domain socket and loopback port, with cups-pdf and other queues.

``cupsd`` runs in the foreground as our child and is ended by its pid. The one thing outside the folder is the
settings file of the cups-pdf queue: that program reads ``/etc/cups`` only, so a file with a name of this process is
put there and removed at the end.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

_CUPSD_CONF = """
LogLevel warn
Listen {socket}
Listen 127.0.0.1:{port}
Browsing No
WebInterface No
DefaultAuthType Basic
ErrorPolicy abort-job
PreserveJobHistory {history}
PreserveJobFiles {files}
<Location />
  Order allow,deny
  Allow 127.0.0.1
</Location>
<Policy default>
  JobPrivateAccess default
  JobPrivateValues default
  <Limit Create-Job Print-Job Validate-Job>
    Order deny,allow
  </Limit>
  <Limit Send-Document Hold-Job Release-Job Cancel-Job>
    Require user @OWNER @SYSTEM
    Order deny,allow
  </Limit>
  <Limit All>
    Order deny,allow
  </Limit>
</Policy>
<Policy guarded>
  <Limit All>
    AuthType Default
    Require user nobody-has-this-name
    Order deny,allow
  </Limit>
</Policy>
"""

_FILES_CONF = """
ServerRoot {home}/root
RequestRoot {home}/spool
TempDir {home}/spool/tmp
CacheDir {home}/cache
StateDir {home}/state
AccessLog {home}/access.log
ErrorLog {home}/error.log
PageLog {home}/page.log
SystemGroup root lpadmin
FileDevice Yes
"""

_PPD = "/usr/share/ppd/cups-pdf/CUPS-PDF_opt.ppd"
# cupsd answers after about 0.1 s; ten seconds cover a machine that is busy with other tests.
_START_SECONDS = 10.0


class CupsServer:
    """A running spooler, for a ``with`` block.

    Queues: PDF (default), Null, Stopped, Far (nobody answers), Rejecting,
    Guarded (forbidden to all). Classes: Ward (Null), Corridor (Far).
    """

    def __init__(self, *, keep_files: bool = False, keep_history: bool = True) -> None:
        """Write the configuration; ``with`` starts the process."""
        # Not pytest's folder: the path of a domain socket must stay below 108 bytes, and filters run as `lp`.
        self._folder = tempfile.TemporaryDirectory(prefix="cups-")
        self.home = Path(self._folder.name)
        self.home.chmod(0o755)
        self.socket = self.home / "cups.sock"
        self.output = self.home / "printed"
        self.spool = self.home / "spool"
        self.configuration = self.home / "cupsd.conf"
        for name in ("root/ppd", "spool/tmp", "cache", "state/certs", "printed"):
            (self.home / name).mkdir(parents=True)
        self.port = _free_port()
        self.configuration.write_text(
            _CUPSD_CONF.format(
                socket=self.socket,
                port=self.port,
                history="Yes" if keep_history else "No",
                files="Yes" if keep_files else "No",
            )
        )
        (self.home / "cups-files.conf").write_text(_FILES_CONF.format(home=self.home))
        self._queue = f"document-service-test-{os.getpid()}"
        self._pdf_settings = Path(f"/etc/cups/cups-pdf-{self._queue}.conf")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> CupsServer:
        # Label 1 keeps two jobs with one title apart.
        self._pdf_settings.write_text(f"Out {self.output}\nLabel 1\nUserUMask 0022\n")
        self.start()
        self._lpadmin("-p", "PDF", "-E", "-v", f"cups-pdf:/{self._queue}", "-P", _PPD)
        self._lpadmin("-p", "Null", "-E", "-v", "file:///dev/null")
        self._lpadmin("-p", "Stopped", "-v", "file:///dev/null")
        self._command("cupsaccept", "Stopped")
        # Nothing listens on port 1; the backend gives the job back after five seconds, and the policy aborts it.
        abort = ("-o", "printer-error-policy=abort-job")
        self._lpadmin("-p", "Far", "-E", "-v", "socket://127.0.0.1:1/?contimeout=1", *abort)
        self._lpadmin("-p", "Rejecting", "-E", "-v", "file:///dev/null")
        self._command("cupsreject", "Rejecting")
        self._lpadmin("-p", "Guarded", "-E", "-v", "file:///dev/null", "-o", "printer-op-policy=guarded")
        for member, of_class in (("Null", "Ward"), ("Far", "Corridor")):
            self._lpadmin("-p", member, "-c", of_class)
            self._command("cupsaccept", of_class)
            self._command("cupsenable", of_class)
        self._lpadmin("-d", "PDF")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._pdf_settings.unlink(missing_ok=True)
        self._folder.cleanup()

    def start(self) -> None:
        """Start cupsd and wait until its socket takes connections."""
        self._process = subprocess.Popen(
            ["/usr/sbin/cupsd", "-f", "-c", self.configuration, "-s", self.home / "cups-files.conf"],
            stdin=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + _START_SECONDS
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.socket)) == 0:
                    return
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"cupsd did not start: {(self.home / 'error.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End our own cupsd; its filters end with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def printed(self) -> list[Path]:
        """The PDF files that the cups-pdf queue has made, oldest first."""
        return sorted(self.output.glob("**/*.pdf"), key=lambda path: path.stat().st_mtime_ns)

    def _lpadmin(self, *arguments: str) -> None:
        self._command("lpadmin", *arguments)

    def _command(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [f"/usr/sbin/{name}", "-h", str(self.socket), *arguments],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
