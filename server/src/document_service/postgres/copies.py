"""Copies of a cluster: taken from a running server, checked, and put in the place of a stopped one.

A copy of the files and not a dump: the order of the change feed and of the audit chain is that of transaction ids,
which a dump loses with the cluster that drew them. `pg_basebackup` streams the write-ahead log along, so the copy
starts by itself, at the moment when the copying ended. The superuser's password is not in it in the clear; whoever
puts a copy back gives it the password that the data folder has.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from document_service.errors import DatabaseFolderHeld, DatabaseStartFailed
from document_service.postgres.account import Account, account_for
from document_service.postgres.binaries import find_binaries
from document_service.postgres.cluster import (
    DATABASE,
    SUPERUSER,
    ConnectionInfo,
    Layout,
    make_password,
    open_private,
    read_password,
    sync_folder,
)
from document_service.postgres.initialisation import give, run_program
from document_service.postgres.processes import HERE, server_processes


def take_base_backup(data_dir: Path, info: ConnectionInfo, target: Path) -> None:
    """Copy the cluster that runs on ``data_dir`` into ``target``, which must not exist, and check the copy.

    Blocks until it is durable. Raises DatabaseStartFailed when PostgreSQL's programs refuse.
    """
    layout = Layout(data_dir)
    folder = _programs(layout, _major(layout.cluster))
    run_program(
        [
            str(folder / "pg_basebackup"),
            f"--pgdata={target}",
            f"--host={info.socket_dir}",
            f"--port={info.port}",
            f"--username={info.user}",
            "--no-password",
            "--wal-method=stream",
            "--checkpoint=fast",  # A spread one would make a backup of 50 MB last minutes.
            "--manifest-checksums=SHA256",
        ],
        target.parent,
        _ourselves(),
        environ={"PGPASSWORD": info.password},
    )
    check_base_backup(data_dir, target)


def check_base_backup(data_dir: Path, copy: Path) -> None:
    """Compare every file of a copy with its manifest. Raises DatabaseStartFailed when one differs."""
    folder = _programs(Layout(data_dir), _major(copy))
    run_program([str(folder / "pg_verifybackup"), "--exit-on-error", str(copy)], copy, _ourselves())


@contextlib.contextmanager
def stopped_cluster(data_dir: Path) -> Iterator[bool]:
    """Hold the data folder while no server runs on it; whether there is a cluster. Raises DatabaseFolderHeld."""
    layout = Layout(data_dir)
    layout.open_home()
    descriptor = open_private(layout.supervisor_lock)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseFolderHeld(f"{layout.home} is in use; stop the service first") from None
        if layout.cluster.exists() and server_processes(layout.cluster):
            raise DatabaseFolderHeld(f"PostgreSQL still runs on {layout.cluster}; wait for its end")
        yield layout.cluster.exists()
    finally:
        os.close(descriptor)


def put_back_cluster(data_dir: Path, copy: Path) -> Path | None:
    """Put a checked copy in the cluster's place, within ``stopped_cluster``; where the old one now is.

    Nothing is deleted, and a crash at any moment leaves the old cluster or the new one, both whole. Raises
    DatabaseStartFailed when the copy does not recover.
    """
    layout = Layout(data_dir)
    account = account_for(layout.cluster)
    layout.open_for(account)
    password = read_password(layout) if layout.password.exists() else make_password(layout)
    # The next start removes what a crash leaves under this name.
    scratch = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=layout.home))
    try:
        shutil.copytree(copy, scratch, dirs_exist_ok=True)
        if account.dropped:
            give(scratch, account)
        scratch.chmod(0o700)
        _recover(layout, scratch, account, password)
        os.sync()
        old = _aside(layout)
        scratch.rename(layout.cluster)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync_folder(layout.home)
    return old


def _recover(layout: Layout, scratch: Path, account: Account, password: str) -> None:
    """Replay the copy's log in single-user mode, and give its superuser this folder's password."""
    binaries = find_binaries(_major(scratch), account, layout.home)
    program = [str(binaries.folder / "postgres"), "--single", "-D", HERE]
    # The password has no quotes: it is made by token_urlsafe.
    statement = f"ALTER ROLE {SUPERUSER} PASSWORD '{password}';\n"
    said = run_program([*program, "-c", "logging_collector=off", DATABASE], scratch, account, statement)
    if "ERROR:" in said:
        raise DatabaseStartFailed("the copy recovered, but its superuser's password could not be set")


def _aside(layout: Layout) -> Path | None:
    if not layout.cluster.exists():
        return None
    old = layout.home / f"cluster.before-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    layout.cluster.rename(old)
    return old


def _programs(layout: Layout, major: int) -> Path:
    folder = find_binaries(major, _ourselves(), layout.home).folder
    for name in ("pg_basebackup", "pg_verifybackup"):
        if not (folder / name).exists():
            raise DatabaseStartFailed(f"{folder} has no {name}; install PostgreSQL's client programs beside it")
    return folder


def _ourselves() -> Account:
    return Account(os.geteuid(), os.getegid(), dropped=False)


def _major(cluster: Path) -> int:
    try:
        return int((cluster / "PG_VERSION").read_text("ascii"))
    except (FileNotFoundError, ValueError):
        raise DatabaseStartFailed(f"{cluster} is not a copy of a PostgreSQL cluster") from None
