"""Make a cluster: all of it, durably, or nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from document_service.errors import DatabaseStartFailed
from document_service.postgres.account import Account, initdb_account
from document_service.postgres.binaries import Binaries
from document_service.postgres.cluster import DATABASE, SUPERUSER, Layout, sync_folder
from document_service.postgres.processes import HERE, cluster_name, dies_with_parent, environment, last_lines
from document_service.postgres.settings import server_settings


def cluster_major(layout: Layout) -> int | None:
    """Return the major version that made the cluster, or None when there is none.

    Raises DatabaseStartFailed when the folder holds something else.
    """
    try:
        return int((layout.cluster / "PG_VERSION").read_text("ascii"))
    except FileNotFoundError:
        if not layout.cluster.exists() or not any(layout.cluster.iterdir()):
            return None
        raise DatabaseStartFailed(f"{layout.cluster} holds files but no PostgreSQL cluster") from None
    except ValueError:
        raise DatabaseStartFailed(f"{layout.cluster}/PG_VERSION is damaged; restore from a backup") from None


def initialise(layout: Layout, binaries: Binaries, account: Account, password: str) -> None:
    """Make the cluster in a scratch folder, make it durable, then rename it into place: all of it or nothing."""
    scratch = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=layout.home))
    worker = initdb_account(account)
    if worker.dropped:
        os.chown(scratch, worker.uid, worker.gid)
    try:
        _run_initdb(scratch, layout.cluster, binaries, worker, password)
        _create_database(scratch, binaries, worker)
        if worker != account:
            give(scratch, account)
        sync_folder(scratch)
        scratch.rename(layout.cluster)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync_folder(layout.home)


def sweep(layout: Layout) -> None:
    """Remove what killed initialisations left. One whose initdb is still dying may survive until the next start."""
    for leftover in layout.home.glob("cluster.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _run_initdb(scratch: Path, cluster: Path, binaries: Binaries, worker: Account, password: str) -> None:
    # PostgreSQL's own C.UTF-8 sorts alike on every machine; libc's may change under the indexes with an upgrade.
    locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if binaries.major < 17:
        locale = ["--locale=C.UTF-8"]
    settings = []
    if binaries.major >= 16:
        named = {"cluster_name": cluster_name(cluster)}
        for name, value in (server_settings(binaries.major) | named).items():
            settings += ["--set", f"{name}={value}"]
    # The password travels in memory, so that no second copy of it is ever on the disk.
    secret = os.memfd_create("password", os.MFD_CLOEXEC)
    try:
        os.write(secret, password.encode() + b"\n")
        os.fchmod(secret, 0o600)
        if worker.dropped:
            os.fchown(secret, worker.uid, worker.gid)
        access = ["--username", SUPERUSER, "--auth=scram-sha-256", f"--pwfile=/proc/self/fd/{secret}"]
        form = ["--encoding=UTF8", "--data-checksums", "--no-instructions", *locale]
        run_program(
            [str(binaries.folder / "initdb"), "-D", HERE, *access, *form, *settings],
            scratch,
            worker,
            pass_fds=(secret,),
        )
    finally:
        os.close(secret)


def _create_database(scratch: Path, binaries: Binaries, worker: Account) -> None:
    """Create our database in single-user mode, so that a cluster in place always has it."""
    program = [str(binaries.folder / "postgres"), "--single", "-D", HERE]
    run_program(
        [*program, "-c", "logging_collector=off", "postgres"], scratch, worker, f"CREATE DATABASE {DATABASE};\n"
    )


def run_program(
    command: list[str],
    folder: Path,
    worker: Account,
    text: str = "",
    *,
    pass_fds: tuple[int, ...] = (),
    environ: dict[str, str] | None = None,
) -> str:
    """Run one of PostgreSQL's programs to its end, in ``folder``, as ``worker``; what it said on standard error.

    Raises:
        DatabaseStartFailed: it failed; the detail is the end of what it said.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        user=worker.user,
        group=worker.group,
        extra_groups=worker.extra_groups,
        env=environment() | (environ or {}),
        input=text,
        capture_output=True,
        text=True,
        pass_fds=pass_fds,
        preexec_fn=dies_with_parent(signal.SIGKILL),
        check=False,
    )
    if done.returncode != 0:
        raise DatabaseStartFailed(f"{Path(command[0]).name} failed: {last_lines(done.stderr)}")
    return done.stderr


def adopt(layout: Layout, account: Account) -> None:
    """Give a cluster that root restored from a copy back to the account; PostgreSQL refuses it otherwise."""
    if account.dropped and layout.cluster.stat().st_uid == 0:
        give(layout.cluster, account)
        layout.cluster.chmod(0o700)


def give(folder: Path, account: Account) -> None:
    """Make ``account`` the owner of a folder and everything in it, never through a link."""
    for _, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, account.uid, account.gid)
