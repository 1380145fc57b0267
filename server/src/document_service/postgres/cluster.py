"""One cluster on disk: its folders, its password, and how to reach its server.

    DATA_DIR/postgres/           the service's own; 0700, or 0710 with the account's group when run by root
        password                 0600, the service's: the superuser's password and the seed of the roles'
        supervisor.lock          held by flock by the process that runs PostgreSQL; says its pid
        guests.lock              held shared by short commands that use a server run by another process
        startup.log              what the postmaster said before its log collector ran
        cluster/ log/ socket/    the account's; 0700

No folder above these is opened up for the account, not even a /root of mode 0700: see `processes.HERE`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from document_service.errors import DatabaseStartFailed, DatabaseUnavailable
from document_service.postgres.account import Account
from document_service.postgres.processes import read_pid_file, works_in
from document_service.postgres.settings import PORT, SOCKET_FOLDER

SUPERUSER = "postgres"
DATABASE = "document_service"

SOCKET_PATH_LIMIT = 107
"""Bytes of a socket's path: sun_path of struct sockaddr_un has 108 and ends in a NUL."""


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """How to reach one server: by its unix socket, as one role, with one password."""

    socket_dir: Path
    user: str
    password: str = field(repr=False)
    database: str = DATABASE
    port: int = PORT

    @property
    def url(self) -> str:
        """The same as a libpq URL, for tools that take nothing else. It holds the password: never log it."""
        host = quote(str(self.socket_dir), safe="")
        return f"postgresql://{self.user}:{self.password}@/{self.database}?host={host}&port={self.port}"

    def for_role(self, role: str) -> ConnectionInfo:
        """Return the same server for ``role``, whose password is derived from the superuser's by HMAC-SHA256.

        Whoever creates the role gives it this password; no second secret needs a file. Call it on the
        superuser's connection, which is what the supervisor returns.
        """
        digest = hmac.digest(self.password.encode(), b"document-service role\n" + role.encode(), "sha256")
        return replace(self, user=role, password=base64.urlsafe_b64encode(digest).decode().rstrip("="))


class Layout:
    """The paths of the module's docstring for one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.home = data_dir.resolve() / "postgres"
        self.cluster = self.home / "cluster"
        self.socket = self.home / "socket"
        self.log = self.home / "log"
        self.password = self.home / "password"
        self.supervisor_lock = self.home / "supervisor.lock"
        self.guests_lock = self.home / "guests.lock"
        self.startup_log = self.home / "startup.log"

    def open_home(self) -> None:
        """Create the service's own folder. Raises DatabaseStartFailed when it is somebody else's."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseStartFailed(f"{self.home} cannot be made: {error.strerror}") from error
        if os.geteuid() not in (0, self.home.stat().st_uid):
            raise DatabaseStartFailed(f"{self.home} belongs to another user; choose another data folder")

    def open_for(self, account: Account) -> None:
        """Create the account's folders, and let the account, and nobody else, through to them."""
        if account.dropped and self.home.stat().st_uid != account.uid:
            os.chown(self.home, -1, account.gid)
            self.home.chmod(0o710)
        else:
            self.home.chmod(0o700)
        for folder in (self.socket, self.log):
            folder.mkdir(mode=0o700, exist_ok=True)
            if account.dropped:
                os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def open_private(path: Path) -> int:
    """Open or create ``path`` for reading and writing, 0600, never through a link; returns the descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        # Root may run the service once in an ordinary user's folder; that user must still be able to open it.
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


# --- Password -------------------------------------------------------------------------------------------------


def read_password(layout: Layout) -> str:
    """Return the superuser's password. Raises DatabaseUnavailable when it cannot be read."""
    try:
        password = layout.password.read_text("ascii").strip()
        if stat.S_IMODE(layout.password.stat().st_mode) & 0o077:
            layout.password.chmod(0o600)  # A careless restore opens it; the folder kept others out meanwhile.
    except FileNotFoundError:
        password = ""
    except PermissionError:
        raise DatabaseUnavailable(f"{layout.password} is not readable; run as the same user as the service") from None
    if not password:
        raise DatabaseUnavailable(
            f"{layout.password} is missing or empty; restore it from the backup of the data folder"
        )
    return password


def ensure_password(layout: Layout) -> str:
    """Return the superuser's password, durably made first when there is no cluster yet."""
    if not layout.cluster.exists() and not layout.password.exists():
        return make_password(layout)
    return read_password(layout)


def make_password(layout: Layout) -> str:
    """Make the superuser's password durably, for a cluster that is about to be; the password."""
    scratch = layout.password.with_name("password.new")
    scratch.unlink(missing_ok=True)
    descriptor = open_private(scratch)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")  # 256 bits: as strong as the keys beside it.
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(layout.password)
    sync_folder(layout.home)
    return read_password(layout)


# --- Running servers -------------------------------------------------------------------------------------------


def connection_info(data_dir: Path) -> ConnectionInfo:
    """Return how to reach the server that runs on ``data_dir`` already, as the superuser.

    Raises DatabaseUnavailable when none is ready there.
    """
    layout = Layout(data_dir)
    try:
        pid_file = read_pid_file(layout.cluster)
    except PermissionError:
        raise DatabaseUnavailable(f"{layout.home} is not readable; run as the same user as the service") from None
    # A process that cannot be told from a stranger is tried: the worst is a connection that fails.
    if pid_file is None or not pid_file.ready or works_in(pid_file.pid, layout.cluster) is False:
        raise DatabaseUnavailable(f"no PostgreSQL is ready in {layout.home}")
    folder = layout.socket if pid_file.socket_dir == SOCKET_FOLDER else Path(pid_file.socket_dir)
    return ConnectionInfo(folder, SUPERUSER, read_password(layout))


# --- Socket ---------------------------------------------------------------------------------------------------


def socket_folder(layout: Layout, account: Account) -> Path:
    """Return the folder of the socket: in the data folder, or a short private one when its path is too long.

    Raises DatabaseStartFailed when no short one can be made safely.
    """
    if _socket_path_fits(layout.socket):
        return layout.socket
    digest = hashlib.sha256(os.fsencode(layout.home)).hexdigest()[:12]
    runtime = None if account.dropped else os.environ.get("XDG_RUNTIME_DIR")
    for base in (runtime, "/run" if account.dropped else None, "/tmp"):  # noqa: S108 - private and checked below.
        if base is not None:
            folder = Path(base, f"docservice-{account.uid}-{digest}")
            if _socket_path_fits(folder) and _is_private(folder, account):
                return folder
    raise DatabaseStartFailed(
        f"the path of {layout.socket} is longer than a socket's may be, and neither XDG_RUNTIME_DIR, /run nor /tmp"
        f" gives a private folder named docservice-{account.uid}-{digest}; choose a shorter data folder"
    )


def _socket_path_fits(folder: Path) -> bool:
    return len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_LIMIT


def _is_private(folder: Path, account: Account) -> bool:
    """Create ``folder`` for ``account`` alone, or accept one that already is exactly that; never repair one."""
    try:
        folder.mkdir(mode=0o700)
        if account.dropped:
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:
        return False
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == account.uid and status.st_mode & 0o077 == 0


# --- Small things of the file system ---------------------------------------------------------------------------


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
