"""The user that the embedded PostgreSQL runs as.

PostgreSQL refuses to run as root, rightly. An ordinary user runs it as itself. Root runs it as the owner of an
existing cluster; else as the system user ``docservice-pg``, made with useradd (no login, no home, no password);
else, where useradd is missing or /etc is read-only, as a bare user id that nothing on the machine uses.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from document_service.errors import DatabaseStartFailed

ACCOUNT_NAME = "docservice-pg"

BARE_UIDS = range(60706, 61184)
"""systemd's UIDS-GIDS.md lists this range as unused, and so does Debian's policy; no allocator hands it out."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom PostgreSQL runs as. ``dropped`` says that we are root and have to become this user first."""

    uid: int
    gid: int
    dropped: bool

    @property
    def user(self) -> int | None:
        """The ``user`` argument of a subprocess: None changes nothing."""
        return self.uid if self.dropped else None

    @property
    def group(self) -> int | None:
        """The ``group`` argument of a subprocess: None changes nothing."""
        return self.gid if self.dropped else None

    @property
    def extra_groups(self) -> list[int] | None:
        """The ``extra_groups`` argument of a subprocess: root's own groups are not handed on."""
        return [] if self.dropped else None

    @property
    def named(self) -> bool:
        """Whether the user database knows this user; initdb insists on that, the server does not."""
        try:
            pwd.getpwuid(self.uid)
        except KeyError:
            return False
        return True


def account_for(cluster: Path) -> Account:
    """Return the account for ``cluster``, which need not exist; as root this may create the system user.

    Raises DatabaseStartFailed when an existing cluster belongs to somebody else.
    """
    owner = cluster.stat() if cluster.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise DatabaseStartFailed(
                f"{cluster} belongs to user id {owner.st_uid} and this is user id {os.geteuid()};"
                " run the service as the same user as before, or as root"
            )
        return Account(os.geteuid(), os.getegid(), dropped=False)
    if owner is not None and owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, dropped=True)
    return unprivileged_account(ACCOUNT_NAME, _program("useradd"))


def unprivileged_account(name: str, useradd: str | None) -> Account:
    """Return the system user ``name``, made with the program ``useradd`` when missing, else a bare user id."""
    account = _named_account(name)
    if account is None and useradd is not None:
        shell = _program("nologin") or "/bin/false"
        options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        # Two services that start at once both come here; the loser's failure is settled by looking again.
        subprocess.run(
            [useradd, *options, "--shell", shell, "--comment", "document-service PostgreSQL", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        account = _named_account(name)
    return account or _bare_account()


def initdb_account(account: Account) -> Account:
    """Return whom initdb runs as: ``account``, or `nobody` for a bare user id, whose files are then given over.

    Raises DatabaseStartFailed when there is no `nobody` either.
    """
    if not account.dropped or account.named:
        return account
    nobody = _named_account("nobody")
    if nobody is None:
        raise DatabaseStartFailed(
            f"initdb needs a user known to the system; create a user named {ACCOUNT_NAME}, or set DATABASE_URL"
        )
    return nobody


def _named_account(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    if entry.pw_uid == 0:
        raise DatabaseStartFailed(f"the user {name} has user id 0; PostgreSQL does not run as root")
    return Account(entry.pw_uid, entry.pw_gid, dropped=True)


def _bare_account() -> Account:
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
    taken |= _uids_of_processes()
    for uid in BARE_UIDS:
        if uid not in taken:
            return Account(uid, uid, dropped=True)
    raise DatabaseStartFailed(f"no free user id for PostgreSQL; create a user named {ACCOUNT_NAME}")


def _uids_of_processes() -> set[int]:
    uids = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                uids.add(entry.stat().st_uid)
            except OSError:  # The process ended while we looked.
                continue
    return uids


def _program(name: str) -> str | None:
    """Find an administrator's program; root's PATH in a container often lacks the sbin folders."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
