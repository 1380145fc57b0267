"""Find the print spooler of this device and its printers, and see whether it keeps what was printed.

The spooler is CUPS, spoken to by IPP (``ipp``) where its own commands would look for it. Where it wants encryption
or a password, ``lpstat`` is asked instead. A virtual printer makes a file: printing to it is an export, and the
caller records it as one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from document_client import ipp, programs
from document_client.errors import PrinterUnavailable
from document_client.ipp import IppError, Spooler, SpoolerRefused

PrinterState = Literal["idle", "printing", "stopped", "rejecting", "unknown"]

# Both spellings of the same place; the second is for systems without /run.
_SOCKETS: Final = (Path("/run/cups/cups.sock"), Path("/var/run/cups/cups.sock"))
_CONFIGURATION: Final = Path("/etc/cups/cupsd.conf")
# The two of CUPS' four words (client.conf(5), `Encryption`) that allow no document in the clear.
_ENCRYPTED: Final = frozenset({"required", "always"})

# One question to a spooler on this machine takes under 10 ms; 10 s cover one that spins up a sleeping disk.
CALL_SECONDS: Final = 10.0

_PRINTER_STATES: Final[dict[object, PrinterState]] = {3: "idle", 4: "printing", 5: "stopped"}


@dataclass(frozen=True, slots=True)
class Printer:
    """One queue of the spooler. ``is_virtual``: it makes a file or nothing, so printing to it is an export."""

    name: str
    is_default: bool
    state: PrinterState
    is_virtual: bool


@dataclass(frozen=True, slots=True)
class SpoolerReport:
    """Whether a spooler answers, and whether it keeps printed files on its disk (None: cannot be seen)."""

    available: bool
    detail: str
    keeps_files: bool | None


def printers() -> list[Printer]:
    """List the spooler's printers by name.

    Raises:
        PrinterUnavailable: when no spooler answers.
    """
    try:
        return _printers_by_ipp(find_spooler())
    except SpoolerRefused:
        return _printers_by_lpstat()
    except IppError as error:
        raise PrinterUnavailable(f"No print spooler answers on this device: {error}.") from error


def choose_printer(name: str | None) -> Printer:
    """Return the printer called ``name``, or the default one, or the only one there is.

    Raises:
        PrinterUnavailable: no spooler, no such printer, or several and none of them the default.
    """
    there = printers()
    names = ", ".join(printer.name for printer in there)
    if name is not None:
        found = [printer for printer in there if printer.name == name]
    else:
        found = [printer for printer in there if printer.is_default] or (there if len(there) == 1 else [])
    if found:
        return found[0]
    if not there:
        raise PrinterUnavailable("No printer is set up on this device.")
    if name is None:
        raise PrinterUnavailable(f"No printer is the default one; name one of: {names}.")
    raise PrinterUnavailable(f"No printer has the name that was given; there are: {names}.")


def spooler_report(configuration: Path | None = None) -> SpoolerReport:
    """Say whether a spooler answers and whether it keeps the files of printed jobs.

    ``configuration`` is the path of its ``cupsd.conf``; by default the system's, where the spooler is the system's.
    """
    try:
        there = printers()
    except PrinterUnavailable as error:
        return SpoolerReport(False, error.detail or error.title, None)
    spooler = find_spooler()
    keeps = _kept_by_configuration(configuration or _configuration_of(spooler))
    if keeps is None:
        keeps = _kept_by_evidence(spooler)
    count = f"{len(there)} printer{'' if len(there) == 1 else 's'}"
    said = {
        True: "it keeps printed files on its disk; set `PreserveJobFiles No` in cupsd.conf",
        False: "it deletes a file once it is printed",
        None: "whether it keeps printed files cannot be seen; check PreserveJobFiles in cupsd.conf",
    }
    return SpoolerReport(True, f"The spooler answers with {count}; {said[keeps]}.", keeps)


# --- Where the spooler is -------------------------------------------------------------------------------------


def find_spooler() -> Spooler:
    """Find the spooler as CUPS' own commands do: CUPS_SERVER, client.conf, the domain socket, the port."""
    named = _choice_of_cups("CUPS_SERVER", "ServerName")
    must_encrypt = (_choice_of_cups("CUPS_ENCRYPTION", "Encryption") or "").lower() in _ENCRYPTED
    if named:
        return replace(parse_server(named), must_encrypt=must_encrypt)
    for path in _SOCKETS:
        if path.exists():
            return Spooler(socket_path=path)
    return Spooler(must_encrypt=must_encrypt)


def parse_server(named: str) -> Spooler:
    """Read a CUPS_SERVER value: the path of a socket, or ``host``, ``host:port``, ``[address]:port``."""
    if named.startswith("/"):
        return Spooler(socket_path=Path(named))
    # CUPS allows "/version=1.1" behind the host.
    parts = urlsplit(f"//{named.split('/', 1)[0]}")
    try:
        return Spooler(host=parts.hostname or "localhost", port=parts.port or 631)
    except ValueError as error:
        raise PrinterUnavailable("CUPS_SERVER is neither a socket's path nor host:port.") from error


def _choice_of_cups(variable: str, name: str) -> str | None:
    """What the environment chooses, or else the person's ``client.conf``, or else the system's."""
    found = os.environ.get(variable)
    for path in (Path.home() / ".cups/client.conf", Path("/etc/cups/client.conf")):
        found = found or _setting(path, name)
    return found


def _setting(path: Path, name: str) -> str | None:
    """The value of one line of a CUPS configuration file; None when it is absent or unreadable."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    found = re.findall(rf"^\s*{name}\s+(\S+)", text, flags=re.IGNORECASE | re.MULTILINE)
    return found[-1] if found else None


def _printers_by_ipp(spooler: Spooler) -> list[Printer]:
    wanted = (
        "printer-name",
        "printer-state",
        "printer-is-accepting-jobs",
        "device-uri",
        "printer-make-and-model",
        "member-names",
    )
    listing = spooler.call(
        "/",
        ipp.Request(ipp.CUPS_GET_PRINTERS, tuple((ipp.KEYWORD, "requested-attributes", name) for name in wanted)),
        timeout=CALL_SECONDS,
    )
    # "Not found" is how CUPS says that there are no printers.
    if not listing.ok and listing.status != ipp.NOT_FOUND:
        raise IppError(f"the spooler answered status 0x{listing.status:04x}")
    default = _default_name(spooler)
    there = [attributes for attributes in listing.of(ipp.PRINTER_GROUP) if attributes.get("printer-name")]
    virtual = {_first(each, "printer-name") for each in there if _is_virtual(each)}
    found = [
        Printer(
            name=name,
            is_default=name == default,
            state=_printer_state(attributes),
            # Any printer of a class may get the job.
            is_virtual=not virtual.isdisjoint(attributes.get("member-names") or [name]),
        )
        for attributes in there
        for name in [_first(attributes, "printer-name")]
    ]
    return sorted(found, key=lambda printer: printer.name)


def _default_name(spooler: Spooler) -> str | None:
    """The default printer in the order of ``lp``: environment, the person's own choice, the spooler's."""
    named = os.environ.get("LPDEST") or os.environ.get("PRINTER")
    named = named or _setting(Path.home() / ".cups/lpoptions", "Default")
    if named:
        # "queue/instance" names a set of options for a queue.
        return named.split("/", 1)[0]
    answer = spooler.call(
        "/",
        ipp.Request(ipp.CUPS_GET_DEFAULT, ((ipp.KEYWORD, "requested-attributes", "printer-name"),)),
        timeout=CALL_SECONDS,
    )
    groups = answer.of(ipp.PRINTER_GROUP)
    return _first(groups[0], "printer-name") if answer.ok and groups else None


def _first(attributes: ipp.Attributes, name: str) -> str:
    values = attributes.get(name)
    return "" if not values or values[0] is None else str(values[0])


def _printer_state(attributes: ipp.Attributes) -> PrinterState:
    if attributes.get("printer-is-accepting-jobs") == [False]:
        return "rejecting"
    return _PRINTER_STATES.get(attributes.get("printer-state", [None])[0], "unknown")


def _is_virtual(attributes: ipp.Attributes) -> bool:
    """Whether the queue, which is no class, writes a file."""
    return _makes_file(_first(attributes, "device-uri"), _first(attributes, "printer-make-and-model"))


def _makes_file(device_uri: str, make_and_model: str) -> bool:
    """Whether a device is a file or a PDF maker. A PDF queue of another machine is known by its model only."""
    scheme = device_uri.split(":", 1)[0].lower()
    if scheme == "file":
        # file:/dev/usb/lp0 is a printer; file:/dev/null and file:/home/... are not.
        return not re.match(r"file:/+dev/(?!null)", device_uri)
    return "pdf" in scheme or "cups-pdf" in make_and_model.lower()


# --- What the spooler keeps -----------------------------------------------------------------------------------


def _configuration_of(spooler: Spooler) -> Path | None:
    """The system's configuration file, where the spooler in use is the system's own."""
    is_system = spooler.socket_path in _SOCKETS or replace(spooler, must_encrypt=False) == Spooler()
    return _CONFIGURATION if is_system else None


def _kept_by_configuration(path: Path | None) -> bool | None:
    if path is None or not os.access(path, os.R_OK):
        return None
    off = ("no", "off", "false", "0")
    if (_setting(path, "PreserveJobHistory") or "yes").lower() in off:
        return False
    # Without the line CUPS keeps files for a day (cupsd.conf(5)).
    return (_setting(path, "PreserveJobFiles") or "86400").lower() not in off


def _kept_by_evidence(spooler: Spooler) -> bool | None:
    """True when the spooler still holds the file of a job that has ended; nothing is concluded otherwise."""
    request = ipp.Request(
        ipp.GET_JOBS,
        (
            (ipp.URI, "printer-uri", "ipp://localhost/"),
            (ipp.NAME, "requesting-user-name", ipp.user_name()),
            # The newest come first; a spooler that keeps files keeps the newest.
            (ipp.INTEGER, "limit", 20),
            (ipp.KEYWORD, "which-jobs", "completed"),
            (ipp.KEYWORD, "requested-attributes", "job-preserved"),
        ),
    )
    try:
        answer = spooler.call("/", request, timeout=CALL_SECONDS)
    except IppError:
        return None
    return True if any(job.get("job-preserved") == [True] for job in answer.of(ipp.JOB_GROUP)) else None


# --- lp, where the spooler wants encryption or a password -----------------------------------------------------


def run_command(
    command: list[str], timeout: float, document: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run one of CUPS' commands with untranslated words."""
    program = shutil.which(command[0])
    if program is None:
        raise PrinterUnavailable(f"The spooler wants encryption or a password, and `{command[0]}` is not installed.")
    return subprocess.run(
        [program, *command[1:]],
        input=document,
        stdin=subprocess.DEVNULL if document is None else None,
        capture_output=True,
        timeout=timeout,
        check=False,
        env={**programs.environment(), "LC_ALL": "C"},
        # Without a terminal of its own it cannot wait for a password that nobody will type.
        start_new_session=True,
    )


def _printers_by_lpstat() -> list[Printer]:
    try:
        devices = run_command(["lpstat", "-v"], CALL_SECONDS)
        default = (
            run_command(["lpstat", "-d"], CALL_SECONDS).stdout.decode(errors="replace").rpartition(": ")[2].strip()
        )
    except subprocess.TimeoutExpired as error:
        raise PrinterUnavailable("The spooler does not answer.") from error
    if devices.returncode != 0:
        raise PrinterUnavailable("The spooler refuses to list its printers.")
    found = re.findall(r"^device for (.+?): (\S+)", devices.stdout.decode(errors="replace"), flags=re.MULTILINE)
    return [Printer(name, name == default, "unknown", _makes_file(uri, "")) for name, uri in found]
