"""Run PostgreSQL on a data folder: start it, watch it, restart it, hand it over, stop it.

One process owns the server of a folder, by flock on `supervisor.lock`: the kernel releases it at any death. The
postmaster is that process's child and gets SIGINT (a fast, clean shutdown) when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from document_service.errors import DatabaseFolderHeld, DatabaseStartFailed, DatabaseUnavailable
from document_service.postgres.account import Account, account_for
from document_service.postgres.binaries import Binaries, find_binaries
from document_service.postgres.cluster import (
    SUPERUSER,
    ConnectionInfo,
    Layout,
    connection_info,
    ensure_password,
    open_private,
    socket_folder,
)
from document_service.postgres.initialisation import adopt, cluster_major, initialise, sweep
from document_service.postgres.processes import (
    HERE,
    cluster_name,
    dies_with_parent,
    environment,
    last_lines,
    read_pid_file,
    server_processes,
    works_in,
)
from document_service.postgres.settings import SOCKET_FOLDER, server_settings

log = logging.getLogger(__name__)

READY_LIMIT = 120.0
"""Seconds until a start is given up. Crash recovery replays at most 512 MB of WAL, which a slow disk does in a
minute; giving up earlier would only begin it anew."""

POLL = 0.01
"""Seconds between looks at the pid file while something is awaited; a warm start takes about three of them."""

WATCH = 0.2
"""Seconds until the death of the postmaster, or of the owner, is noticed."""

ORPHAN_PATIENCE = 30.0
"""Seconds that processes of a killed owner may take to end by themselves: as long as a fast shutdown may take."""

READY_PATIENCE = 2.0
"""Seconds that such a postmaster may still say `ready`; one of ours got its signal the moment its owner died, so
this one was started by hand."""

PASSING_PATIENCE = 10.0
"""Seconds that a service waits for a short command to leave the folder before it becomes its guest."""

GUEST_PATIENCE = 5.0
"""Seconds that a stopping owner waits for short commands in progress: half of what `docker stop` grants."""

STOP_LIMIT = 30.0
"""Seconds for a fast shutdown before an immediate one, which leaves crash recovery to the next start."""

RESTART_PAUSE = 0.5
RESTART_PAUSE_MOST = 30.0
"""Seconds between attempts to restart, doubled up to the most: a full disk is not mended by haste, and a clinic's
machine that nobody looks after must come back by itself when it is."""

OOM_SCORE = -500
"""Of the postmaster, where we may set it: the kernel takes a typesetting process first. Its children get 0."""


class PostgresSupervisor:
    """The embedded server of one data folder, as its owner or as a guest of the process that owns it.

    ``stays`` is for services: as a guest it takes over when the owner leaves. Without it, for short commands, a
    guest is waited for by an owner that stops. ``on_restart(restarts)`` is called after every restart and take-over;
    connections made before are dead then. ``account`` overrides whom root runs the server as.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        stays: bool = True,
        on_restart: Callable[[int], None] | None = None,
        account: Account | None = None,
    ) -> None:
        self.restarts = 0
        self._layout = Layout(data_dir)
        self._data_dir = data_dir
        self._stays = stays
        self._on_restart = on_restart
        self._account = account
        self._owner_lock: int | None = None
        self._guest_lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._short_socket: Path | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def owns(self) -> bool:
        """Whether this process runs the server (True) or uses one that another process runs (False)."""
        return self._owner_lock is not None

    @property
    def pid(self) -> int | None:
        """The pid of our postmaster, or None while there is none or when another process runs it."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def start(self, patience: float = 0.0) -> ConnectionInfo:
        """Start the server as its owner and return how to reach it as superuser.

        Call it in the thread that lives longest: PostgreSQL is stopped when that thread ends. Raises
        DatabaseFolderHeld when another process still holds the folder after ``patience`` seconds, naming its pid,
        and DatabaseStartFailed when PostgreSQL does not start.
        """
        self._layout.open_home()
        if not await _until(self._take_ownership, patience):
            raise DatabaseFolderHeld(f"{self._layout.home} is in use by process {self._holder()[0]}")
        return await self._begin_owning()

    async def attach_or_start(self) -> ConnectionInfo:
        """Use the server that runs on the folder, or start it when none does; return how to reach it.

        Raises DatabaseUnavailable when its owner does not get it ready in time, else as `start` does.
        """
        self._layout.open_home()
        began = time.monotonic()
        while time.monotonic() < began + READY_LIMIT:
            if self._take_ownership():
                return await self._begin_owning()
            _, holder_stays = self._holder()
            if not self._stays or holder_stays or time.monotonic() > began + PASSING_PATIENCE:
                with contextlib.suppress(DatabaseUnavailable):
                    return self._attach()
            await asyncio.sleep(POLL)
        raise DatabaseUnavailable(
            f"process {self._holder()[0]} holds {self._layout.home} but its PostgreSQL is not ready"
        )

    async def stop(self) -> None:
        """Stop the server if this process runs it, and let go of the folder. Calling it again does nothing."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None and not watcher.done():
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        if self._owner_lock is not None:
            guests = await self._wait_for_guests()
            try:
                await self._stop_postmaster()
            finally:
                os.close(guests)
                os.close(self._owner_lock)
                self._owner_lock = None
        if self._guest_lock is not None:
            os.close(self._guest_lock)
            self._guest_lock = None

    async def __aenter__(self) -> Self:
        await self.attach_or_start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- Who owns the folder ----------------------------------------------------------------------------------

    def _take_ownership(self) -> bool:
        descriptor = open_private(self._layout.supervisor_lock)
        if not _flock(descriptor, fcntl.LOCK_EX):
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {'stays' if self._stays else 'passes'}\n".encode(), 0)
        self._owner_lock = descriptor
        return True

    def _holder(self) -> tuple[str, bool]:
        """Return the owner's pid, as it wrote it, and whether it is a service that stays."""
        words = self._layout.supervisor_lock.read_text("ascii").split()
        return (words[0], words[1] == "stays") if len(words) == 2 else ("unknown", True)

    def _attach(self) -> ConnectionInfo:
        """Become a guest. Raises DatabaseUnavailable when the server is not ready or about to be stopped."""
        if not self._stays:
            guest = open_private(self._layout.guests_lock)
            try:
                if not _flock(guest, fcntl.LOCK_SH):
                    raise DatabaseUnavailable("the owner is stopping")
                info = connection_info(self._data_dir)
            except BaseException:
                os.close(guest)
                raise
            self._guest_lock = guest
            return info
        info = connection_info(self._data_dir)
        self._watcher = asyncio.create_task(self._wait_to_take_over(), name="postgres-guest")
        return info

    async def _wait_to_take_over(self) -> None:
        await _until(self._take_ownership, pause=WATCH)
        log.warning("the process that ran PostgreSQL left; this process runs it now")
        await self._bring_back()
        await self._keep_running()

    async def _wait_for_guests(self) -> int:
        guests = open_private(self._layout.guests_lock)
        await _until(lambda: _flock(guests, fcntl.LOCK_EX), GUEST_PATIENCE)
        return guests

    # --- The server -------------------------------------------------------------------------------------------

    async def _begin_owning(self) -> ConnectionInfo:
        try:
            info = await self._launch(may_begin=True)
        except BaseException:
            await self.stop()
            raise
        self._watcher = asyncio.create_task(self._keep_running(), name="postgres-owner")
        return info

    async def _keep_running(self) -> None:
        while True:
            await _until(lambda: self.pid is None, pause=WATCH)
            status = self._process.returncode if self._process is not None else None
            log.error("PostgreSQL ended unexpectedly (status %s); it is started again", status)
            await self._bring_back()

    async def _bring_back(self) -> None:
        """Launch until it works, ever more slowly; the caller's health checks tell of the outage meanwhile."""
        pause = RESTART_PAUSE
        while True:
            try:
                await self._launch()
                break
            except (DatabaseUnavailable, OSError) as error:
                log.error("PostgreSQL could not be started, next attempt in %.1f s: %s", pause, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, RESTART_PAUSE_MOST)
        self.restarts += 1
        if self._on_restart is not None:
            try:
                self._on_restart(self.restarts)
            except Exception:  # A listener's fault must not end the watch over the database.
                log.exception("the listener to restarts of PostgreSQL failed")

    async def _launch(self, *, may_begin: bool = False) -> ConnectionInfo:
        layout = self._layout
        account = self._account or account_for(layout.cluster)
        layout.open_for(account)
        major = cluster_major(layout)
        binaries = await asyncio.to_thread(find_binaries, major, account, layout.home)
        password = ensure_password(layout)
        if major is None and not may_begin:
            raise DatabaseStartFailed(f"{layout.cluster} is gone; an empty one in its place would look like a loss")
        if major is None:
            await asyncio.to_thread(initialise, layout, binaries, account, password)
        else:
            adopt(layout, account)
        sweep(layout)
        cut_off = await self._settle_leftovers()
        folder = socket_folder(layout, account)
        self._short_socket = folder if folder != layout.socket else None
        # Not in a pool thread: the server gets its death signal when the thread that forked it ends.
        self._process = self._spawn(binaries, account, folder, cut_off)
        await self._wait_until_ready(self._process)
        return ConnectionInfo(folder, SUPERUSER, password)

    async def _settle_leftovers(self) -> int | None:
        """Wait until no process of a dead owner works in the cluster; return the pid of a server that was cut off.

        None when the last one ended as it was told to: that is what happens where only its owner was killed.

        PostgreSQL refuses a pid file whose pid is alive, unless it is its own, its parent's or
        PG_GRANDPARENT_PID. Once we know that the pid is a stranger's, naming it there is the one way to start
        that does not delete the file, and PostgreSQL still checks the shared memory that the file names.
        Raises DatabaseFolderHeld when a postmaster that we do not own keeps running.
        """
        cluster = self._layout.cluster
        began = time.monotonic()
        while (pid_file := read_pid_file(cluster)) is not None:
            # A doubtful process counts as a live postmaster: waiting and refusing is the harmless mistake.
            holds = works_in(pid_file.pid, cluster) is not False
            workers = server_processes(cluster)
            if not holds and not workers:
                return pid_file.pid
            waited = time.monotonic() - began
            if holds and waited > (READY_PATIENCE if pid_file.ready else ORPHAN_PATIENCE):
                raise DatabaseFolderHeld(f"PostgreSQL process {pid_file.pid} runs on {cluster}; stop it")
            for pid in workers if not holds and waited > ORPHAN_PATIENCE else []:
                # Its postmaster is gone, so it commits nothing any more; it only keeps the memory in use.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(POLL)
        return None

    def _spawn(
        self, binaries: Binaries, account: Account, folder: Path, cut_off: int | None
    ) -> subprocess.Popen[bytes]:
        settings = server_settings(binaries.major, was_cut_off=cut_off is not None)
        settings["unix_socket_directories"] = SOCKET_FOLDER if self._short_socket is None else str(folder)
        settings["cluster_name"] = cluster_name(self._layout.cluster)
        command = [str(binaries.folder / "postgres"), "-D", HERE]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        environ = environment() | {"PG_GRANDPARENT_PID": str(cut_off or os.getppid())}
        environ |= {"PG_OOM_ADJUST_FILE": "/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE": "0"}
        startup_log = open_private(self._layout.startup_log)
        try:
            os.ftruncate(startup_log, 0)
            process = subprocess.Popen(
                command,
                cwd=self._layout.cluster,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=startup_log,
                stderr=startup_log,
                user=account.user,
                group=account.group,
                extra_groups=account.extra_groups,
                start_new_session=True,  # Ctrl-C is for the service, which stops the server when it is done.
                preexec_fn=dies_with_parent(signal.SIGINT),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise DatabaseStartFailed(f"PostgreSQL cannot run as user id {account.uid}: {error}") from error
        finally:
            os.close(startup_log)
        with contextlib.suppress(OSError):  # Lowering it needs CAP_SYS_RESOURCE; without, it stays as ours.
            Path(f"/proc/{process.pid}/oom_score_adj").write_text(str(OOM_SCORE))
        return process

    async def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for line 8 of a pid file that names our child; an older file may say `ready` too."""
        deadline = time.monotonic() + READY_LIMIT
        while time.monotonic() < deadline:
            pid_file = read_pid_file(self._layout.cluster)
            if pid_file is not None and pid_file.pid == process.pid and pid_file.ready:
                return
            if process.poll() is not None:
                said = last_lines(self._layout.startup_log.read_text("utf-8", errors="replace"))
                raise DatabaseStartFailed(
                    f"PostgreSQL ended with status {process.returncode}: {said} (see also {self._layout.log})"
                )
            await asyncio.sleep(POLL)
        await self._stop_postmaster()
        raise DatabaseStartFailed(f"PostgreSQL was not ready within {READY_LIMIT:.0f} s; see {self._layout.log}")

    async def _stop_postmaster(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for kill_signal, limit in (
                (signal.SIGINT, STOP_LIMIT),  # fast: roll back, checkpoint
                (signal.SIGQUIT, 5.0),  # immediate: PostgreSQL itself kills what is left after 5 s
                (signal.SIGKILL, 5.0),
            ):
                if process.poll() is None:
                    process.send_signal(kill_signal)
                if await _until(lambda: process.poll() is not None, limit):
                    break
        if self._short_socket is not None:
            with contextlib.suppress(OSError):  # Not empty after a kill; the next start uses it again.
                self._short_socket.rmdir()
            self._short_socket = None


async def _until(condition: Callable[[], bool], limit: float = math.inf, pause: float = POLL) -> bool:
    """Ask until ``condition`` holds (True) or ``limit`` seconds have passed (False); asks at least once."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(pause)
    return True


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
