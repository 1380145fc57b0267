"""Connections to PostgreSQL: who may see what, decided before the first statement.

``tenant_transaction`` is the only way to tenant data: it names the tenant for row-level security, for this
transaction only. ``system_transaction`` is the other login role, for claiming and housekeeping over named tables.
Nothing else in the service opens a connection (design §2).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import asyncpg

from document_service.errors import DatabaseUnavailable

#: What record functions take: a connection inside a transaction of the edge that called them.
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"

APP_ROLE = "document_service_app"
SYSTEM_ROLE = "document_service_system"

#: The shape of a tenant id (`tenants`); it is checked again here because it becomes part of a statement.
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

#: A record operation takes milliseconds; one that has not ended after this long is stuck behind a lock.
STATEMENT_TIMEOUT_SECONDS = 20

#: Enough for the API's concurrent short transactions on a small machine, below the server's 100.
POOL_SIZE = 16

#: Whoever waits longer than this for a connection is told that the database is not there; one that cannot be given back
#: within it is thrown away.
POOL_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Address:
    """Where PostgreSQL is and who its owner role is; ``host`` may be the folder of a Unix socket."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @classmethod
    def from_url(cls, url: str) -> Address:
        """Read ``postgresql://owner:password@host:port/database``, whose parts the settings have checked."""
        parts = urlsplit(url)
        return cls(
            unquote(parts.hostname or "127.0.0.1"),
            parts.port or 5432,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            parts.path.strip("/"),
        )

    def role_password(self, role: str) -> str:
        """The password of one of our login roles.

        It follows from the owner's, so that every process that may migrate may also serve, and no second secret
        has to be carried to each machine.
        """
        return hmac.new(self.password.encode(), role.encode(), hashlib.sha256).hexdigest()

    def connect_arguments(self, role: str | None = None) -> dict[str, Any]:
        """Keyword arguments for asyncpg, as the owner or as one of our roles."""
        return {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": role or self.user,
            "password": self.role_password(role) if role else self.password,
            "timeout": 10,
        }


@dataclass(slots=True)
class Database:
    """The pools of a running process, ``engine`` that of the queue. Made by ``open_database``, closed by ``close``."""

    address: Address
    app: asyncpg.Pool
    system: asyncpg.Pool
    engine: asyncpg.Pool

    async def close(self) -> None:
        """Return every connection; waits for running transactions up to five seconds, then ends them."""
        for pool in (self.app, self.system, self.engine):
            try:
                await asyncio.wait_for(pool.close(), 5)
            except TimeoutError:
                pool.terminate()


async def open_database(address: Address) -> Database:
    """Open the pools.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer or refuses our roles (run ``document-service migrate``).
    """
    settings = {
        "application_name": "document-service",
        "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
        "idle_in_transaction_session_timeout": "60s",
        "search_path": "document",
        "timezone": "UTC",
    }
    try:
        app = await asyncpg.create_pool(
            **address.connect_arguments(APP_ROLE),
            min_size=2,
            max_size=POOL_SIZE,
            reset=_check_ended,
            server_settings=settings,
        )
        system = await asyncpg.create_pool(
            **address.connect_arguments(SYSTEM_ROLE),
            min_size=1,
            max_size=4,
            reset=_check_ended,
            server_settings={**settings, "search_path": "document,queue"},
        )
        engine = await asyncpg.create_pool(
            **address.connect_arguments(SYSTEM_ROLE),
            # None before it is used: a process without a worker has no engine. One listens, the others are used for
            # moments.
            min_size=0,
            max_size=4,
            reset=_check_ended,
            # PostgreSQL would plan the engine's claim anew for each job, which costs three times what the claim does
            # (docs/decisions/0068-the-claim-is-planned-once.md); its statements need no plan for certain values.
            server_settings={**settings, "search_path": "document,queue", "plan_cache_mode": "force_generic_plan"},
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as reason:
        raise DatabaseUnavailable("PostgreSQL does not answer; see `document-service doctor`.") from reason
    return Database(address, app, system, engine)


async def _check_ended(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """What a connection needs before its next transaction: that the last one is over.

    Everything that our transactions set is local to them, so the pool's own reset would be a wasted round trip. A
    task that was cancelled in its rollback leaves a transaction open; such a connection is thrown away. (The queue
    engine ends its listening itself.)
    """
    if connection.is_in_transaction():
        connection.terminate()


@asynccontextmanager
async def tenant_transaction(pool: asyncpg.Pool, tenant_id: str) -> AsyncIterator[Connection]:
    """One transaction that sees the rows of one tenant (and, read-only, the platform's forms).

    Raises:
        DatabaseUnavailable: the connection was lost or none could be had. A commit whose answer was lost may or
            may not have happened; callers answer so that a repeat is safe.
    """
    if not tenant_id:
        raise ValueError("a tenant transaction needs a tenant")
    if not _TENANT.fullmatch(tenant_id):
        raise ValueError("a tenant id has a shape that needs no quoting")
    # The tenant is named in the same round trip that begins the transaction; no statement can come before it.
    async with _transaction(pool, f"BEGIN; SET LOCAL app.tenant_id = '{tenant_id}'") as connection:
        yield connection


@asynccontextmanager
async def system_transaction(database: Database) -> AsyncIterator[Connection]:
    """One transaction of the housekeeping role, over the tables that its policies name.

    Raises:
        DatabaseUnavailable: as for ``tenant_transaction``.
    """
    async with _transaction(database.system) as connection:
        yield connection


#: The connection is gone or could not be had, or the server could not do now what it does at other times: a full disk,
#: a lock that took too long, a standby. FileNotFoundError: the server's socket, while it is started anew.
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What asyncpg raises when the connection ends while an answer is being read: its protocol state is lost with it.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    ConnectionError,
    FileNotFoundError,
    TimeoutError,
)


#: What a statement raises that would break a unique index: somebody else was quicker.
NotUnique = asyncpg.UniqueViolationError

#: What open transactions do last, by connection: calls of functions, ready to be sent with the commit.
_at_commit: dict[int, list[str]] = {}

#: What stands in such a call: ids and words of ours, which need no quoting.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def began_before_a_cut(column: str) -> str:
    """SQL that says whether what was begun at ``column`` was begun before PostgreSQL was cut off (decision 56).

    An embedded PostgreSQL stops in order when only its service dies, and says at its next start how the one before
    ended (`postgres/settings.py`); where it is a server of its own, its restart is nothing that a job brings about.
    """
    return (
        f"({column} < pg_postmaster_start_time()"
        " AND coalesce(current_setting('document.earlier_end', true), 'cut') = 'cut')"
    )


async def at_commit(connection: Connection, function: str, *arguments: str | int) -> None:
    """Have the connection's transaction call one of our SQL functions last, in the round trip that commits it.

    For functions that lock what others wait for, and whose answer nobody reads: the lock is held for as long as the
    commit takes. A call that fails undoes the transaction. Arguments are ids, words or numbers of ours. A transaction
    that was not begun here, as an operator's command has them, calls at once.
    """
    if not all(isinstance(value, int) or _PLAIN.fullmatch(value) for value in arguments):
        raise ValueError("what is called at the commit takes ids and numbers")
    written = ", ".join(str(value) if isinstance(value, int) else f"'{value}'" for value in arguments)
    call = f"SELECT {function}({written})"
    last = _at_commit.get(id(connection))
    if last is None:
        await connection.execute(call)
    else:
        last.append(call)


@asynccontextmanager
async def _transaction(pool: asyncpg.Pool, begin: str = "BEGIN") -> AsyncIterator[Connection]:
    try:
        # A timer is set only where somebody may have to wait: it costs as much as taking an idle connection does.
        connection = await pool.acquire(timeout=None if pool.get_idle_size() else POOL_SECONDS)
        try:
            await connection.execute(begin)
            last = _at_commit[id(connection)] = []
            try:
                yield connection
                await connection.execute("; ".join([*last, "COMMIT"]))
            except BaseException:
                if not connection.is_closed() and connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
                raise
            finally:
                del _at_commit[id(connection)]
        finally:
            await pool.release(connection, timeout=POOL_SECONDS)
    except _LOST as reason:
        # asyncpg's own DataError is an InterfaceError too: a value that no column takes, which no waiting mends.
        if isinstance(reason, ValueError):
            raise
        raise DatabaseUnavailable() from reason
