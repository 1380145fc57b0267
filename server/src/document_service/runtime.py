"""Everything that a running process holds open, opened once and closed in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from document_service import epoch, platform_forms, render_jobs, templates, tenants
from document_service.database import SYSTEM_ROLE, Address, Connection, Database, open_database, system_transaction
from document_service.documents import Document
from document_service.errors import (
    DatabaseUnavailable,
    KeyStoreUnusable,
    ServiceError,
    StoreUnavailable,
    TenantShredded,
    TypesettingBusy,
)
from document_service.fhir import FhirReader
from document_service.keys import MASTER_FILE, KeyStore, shredded_tenants
from document_service.postgres import PostgresSupervisor, is_copy, remember
from document_service.render_jobs import FINISHED_CHANNEL
from document_service.scanner import Scanner
from document_service.settings import PREFIX, SettingError, Settings
from document_service.signing import UrlSigner
from document_service.store import BEGUN_ANEW, ObjectStore, holds_objects, lacks_objects, open_store
from document_service.throttle import Throttle
from document_service.tokens import LocalIssuer, Verifier, parse_issuers
from document_service.typesetting.pool import TypesettingPool

#: A trial that runs away ends after 12 s; an author who waits longer than two of them is told to try again.
PREVIEW_WAIT_SECONDS = 25.0

#: A lost listener connection is opened again this much later; meanwhile waiters look by themselves.
LISTEN_AGAIN_SECONDS = 0.5


@dataclass(slots=True)
class Runtime:
    """The open parts of one process. Who waits here for a job to end is in ``waiting``, see ``finish``."""

    settings: Settings
    keys: KeyStore
    database: Database
    store: ObjectStore
    signer: UrlSigner
    verifier: Verifier
    local_issuer: LocalIssuer | None
    fhir: FhirReader
    epochs: epoch.EpochWatch
    typesetting: TypesettingPool | None
    # Where previews and trial renders are printed: the pool above where there is one, else one of a single child.
    press: TypesettingPool
    scanner: Scanner | None
    waiting: dict[str, asyncio.Future[Document | None]] = field(default_factory=dict)
    #: Jobs whose end this process is recording: it tells who waits here, with the document, once that is committed.
    recording: set[str] = field(default_factory=set)
    #: Set when the process was asked to stop: whoever waits for something answers now.
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    user_throttle: Throttle = field(init=False)
    tenant_throttle: Throttle = field(init=False)
    public_throttle: Throttle = field(init=False)
    # One preview at a time: a form that runs away holds one child, never all of the clinic's.
    previews: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    def __post_init__(self) -> None:
        """Make the buckets of the rates that the settings name."""
        self.user_throttle = Throttle(self.settings.user_rate)
        self.tenant_throttle = Throttle(self.settings.tenant_rate)
        self.public_throttle = Throttle(self.settings.public_rate)

    @asynccontextmanager
    async def preview_turn(self) -> AsyncIterator[None]:
        """Hold the one place of previews and trials in this process.

        Raises:
            TypesettingBusy: others held it all the time that an author would wait.
        """
        try:
            async with asyncio.timeout(PREVIEW_WAIT_SECONDS):
                await self.previews.acquire()
        except TimeoutError:
            raise TypesettingBusy(headers={"Retry-After": "5"}) from None
        try:
            yield
        finally:
            self.previews.release()

    @property
    def epoch(self) -> str:
        """The sync epoch that every answer carries."""
        return self.epochs.value

    def finish(self, job_id: str, document: Document | None = None) -> None:
        """Tell who waits here that a job has ended; ``document``, when this process has just recorded it."""
        future = self.waiting.pop(job_id, None)
        if future is not None:
            future.set_result(document)

    async def listen(self) -> None:
        """Hear what other processes announce, until cancelled: finished jobs that somebody waits for, a new epoch."""

        def wake(*told: object) -> None:
            # The announcement of our own commit comes before the commit's answer has been read; heard then, it would
            # send who waits to the database for a document that is in this process.
            if told[-1] not in self.recording:
                self.finish(str(told[-1]))

        def renewed(*told: object) -> None:
            self.epochs.heard(str(told[-1]))

        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ServiceError):
                connection = await asyncpg.connect(**self.database.address.connect_arguments(SYSTEM_ROLE))
                lost = asyncio.Event()
                connection.add_termination_listener(lambda _, lost=lost: lost.set())
                await connection.add_listener(FINISHED_CHANNEL, wake)
                await connection.add_listener(epoch.CHANNEL, renewed)
                try:
                    # A connection that was lost may have been lost because the database was exchanged.
                    await self.epochs.look()
                    await lost.wait()
                finally:
                    await connection.close()
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)


def hidden_loss(settings: Settings) -> tuple[str, str] | None:
    """What a new, empty database in this data folder would hide, and what to do instead; None when it hides nothing.

    Tenants' keys are made after their database, and objects after both. So where they are and it is not, its folder
    was lost, or the data folder is the wrong one; an empty database would answer devices that nothing was ever there.
    """
    if settings.database_url is not None or (settings.data_dir / "postgres" / "cluster").exists():
        return None
    found = []
    if any((settings.keys / "tenants").glob("*.key")):
        found.append(f"tenants' keys in {settings.keys.absolute()}")
    if holds_objects(settings.objects):
        found.append(f"objects in {settings.objects}")
    if not found:
        return None
    return (
        f"there are {' and '.join(found)}, but no database in {settings.data_dir.absolute()}",
        "name the right folder with --data-dir or DOCUMENT_SERVICE_DATA_DIR, or put the database back with"
        " `document-service restore DIR`; to begin an empty one all the same, move the others away first",
    )


async def open_keys(settings: Settings, connection: Connection) -> KeyStore:
    """The keys, begun only where the database knows no tenant yet. System or owner role.

    The folder of a volume that is not mounted is empty. New keys in it would open nothing, and lie where the others
    belong.

    Raises:
        SettingError: tenants are known, and there are no keys.
        KeyStoreUnusable: as ``KeyStore.open``.
    """
    if lacks_keys(settings.keys) and await connection.fetchval(_KNOWS_TENANTS):
        raise SettingError(
            f"the database knows tenants, but there are no keys in {settings.keys.absolute()}: mount the volume, name"
            f" the right folder by {PREFIX}KEY_DIR, or put the copy of the key folder there; if they are lost for good,"
            f" so is what they sealed: put an empty file `{BEGUN_ANEW}` there, and begin with new tenants."
        )
    return KeyStore.open(settings.keys)


def lacks_keys(folder: Path) -> bool:
    """Whether opening would begin a new key folder, and nobody has said that it may (``BEGUN_ANEW``).

    Raises:
        KeyStoreUnusable: the folder cannot be looked at.
    """
    try:
        named = any((folder / name).exists() for name in (MASTER_FILE, "signing.key", BEGUN_ANEW))
        return not named and not any((folder / "tenants").glob("*.key"))
    except OSError as error:
        raise KeyStoreUnusable(f"{folder}: {error.strerror or error}") from error


_KNOWS_TENANTS = "SELECT EXISTS (SELECT FROM document.tenants WHERE tenant_id <> 'platform' AND shredded_at IS NULL)"


async def refuse_absent_store(settings: Settings, connection: Connection) -> None:
    """Begin no empty store where the database knows documents. System or owner role.

    The folder of a volume that is not mounted is there, and empty: what is made meanwhile would lie below the volume.

    Raises:
        SettingError: the store is a folder without an object.
    """
    if lacks_objects(settings.objects) and await connection.fetchval(_KNOWS_DOCUMENTS):
        raise SettingError(
            f"the database knows documents, but there are no objects in {settings.objects}: mount the volume, name the"
            f" right folder by {PREFIX}OBJECT_STORE_URL, or put the store back; to go on without any of them all the"
            f" same, put an empty file `{BEGUN_ANEW}` into it."
        )


_KNOWS_DOCUMENTS = """SELECT EXISTS (SELECT FROM document.documents d JOIN document.tenants t USING (tenant_id)
    WHERE d.purged_at IS NULL AND t.shredded_at IS NULL)"""


async def notice_loss(settings: Settings, address: Address, store: ObjectStore, keys: KeyStore) -> None:
    """Look whether commits were lost, as every start does, for a command that deletes what the database names.

    Raises:
        StoreUnavailable: the mark cannot be read, so nobody knows.
    """
    database = await open_database(address)
    try:
        embedded = settings.database_url is None
        watch = epoch.EpochWatch(database, store, keys)
        if not await watch.begin(copied=embedded and is_copy(settings.data_dir)):
            raise StoreUnavailable
        if embedded:
            remember(settings.data_dir)
    finally:
        await database.close()


@asynccontextmanager
async def open_address(settings: Settings, *, stays: bool) -> AsyncIterator[Address]:
    """Where PostgreSQL is; the embedded one runs (ours or another process's) while the context is open.

    Raises:
        SettingError: a new database would be begun where keys or objects of another one are.
    """
    loss = hidden_loss(settings)
    if loss is not None:
        raise SettingError("{}: {}.".format(*loss))
    if settings.database_url is not None:
        yield Address.from_url(settings.database_url)
        return
    supervisor = PostgresSupervisor(settings.data_dir, stays=stays)
    info = await supervisor.attach_or_start()
    try:
        yield Address(str(info.socket_dir), info.port, info.user, info.password, info.database)
    finally:
        await supervisor.stop()


@asynccontextmanager
async def owner_connection(address: Address) -> AsyncIterator[asyncpg.Connection[Any]]:
    """One connection of the owner role, for migrations and tenant commands.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer, or not to this role.
    """
    try:
        connection = await asyncpg.connect(**address.connect_arguments(), server_settings={"search_path": "document"})
    except asyncpg.InvalidAuthorizationSpecificationError:
        raise DatabaseUnavailable("PostgreSQL refuses the owner role of DOCUMENT_SERVICE_DATABASE_URL.") from None
    except asyncpg.InvalidCatalogNameError:
        raise DatabaseUnavailable("PostgreSQL has no database of that name; create it for the owner role.") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as reason:
        raise DatabaseUnavailable("PostgreSQL does not answer; see `document-service doctor`.") from reason
    try:
        yield connection
    finally:
        await connection.close()


async def prepare_database(address: Address) -> None:
    """Migrate, and bring the platform's forms to this version of the product."""
    async with owner_connection(address):
        pass  # Whether PostgreSQL is there at all, before Alembic asks in words of its own.
    if not await _is_current(address):
        from document_service.schema import migrate  # Loads Alembic and SQLAlchemy, which nothing else needs.

        await migrate(address)
    async with owner_connection(address) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(3020002)")
        await tenants.ensure_platform(connection)
        # Lists show the newest first, so a new installation's begins with the form that clinics use most.
        for form in reversed(platform_forms.catalogue()):
            await templates.install_platform_form(
                connection,
                key=form.key,
                name=form.name,
                category=form.category,
                semver=form.semver,
                definition=form.definition,
            )


async def _is_current(address: Address) -> bool:
    """Whether the schema is this version's and our role can sign in; then there is nothing to migrate."""
    newest = max(path.name for path in (Path(__file__).parent / "migrations/versions").glob("[0-9]*.py"))
    try:
        connection = await asyncpg.connect(**address.connect_arguments(SYSTEM_ROLE))
    except asyncpg.PostgresError:
        return False
    try:
        found = await connection.fetchval("SELECT version_num FROM public.schema_version")
    except asyncpg.PostgresError:
        return False
    finally:
        await connection.close()
    return bool(newest.startswith(f"{found}_"))


async def _remember_shreds(settings: Settings, address: Address) -> None:
    """A database from before a shred takes the tenant for one whose key is lost; the key folder knows better."""
    gone = shredded_tenants(settings.keys)
    if gone:
        async with owner_connection(address) as connection, connection.transaction():
            for tenant_id in sorted(gone):
                if await tenants.mark_shredded(connection, tenant_id, key_is_gone=True):
                    await render_jobs.fail_all(connection, tenant_id, TenantShredded())


@contextlib.contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Say which setting a part refused; the settings themselves know only the general form of a value."""
    try:
        yield
    except ValueError as reason:
        raise SettingError(f"{PREFIX}{setting} cannot be used: {reason}.") from None


@asynccontextmanager
async def open_runtime(settings: Settings, *, typesetting: bool, stays: bool = True) -> AsyncIterator[Runtime]:
    """Open keys, database, store and, when asked, the typesetting processes.

    Raises what the parts raise: SettingError, DatabaseUnavailable, StoreUnavailable.
    """
    settings.make_data_dir()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(open_address(settings, stays=stays))
        await prepare_database(address)
        database = await open_database(address)
        stack.push_async_callback(database.close)
        async with system_transaction(database) as connection:
            keys = await open_keys(settings, connection)
            await refuse_absent_store(settings, connection)
        await _remember_shreds(settings, address)
        with _naming("OBJECT_STORE_URL"):
            store = open_store(settings.objects, keys)
        local = None if settings.oidc_issuer else LocalIssuer(settings.data_dir)
        with _naming("OIDC_ISSUER"):
            issuers = parse_issuers(settings.oidc_issuer, settings.oidc_audience) if settings.oidc_issuer else ()
        verifier = Verifier(issuers, local=local)
        stack.push_async_callback(verifier.aclose)
        fhir = FhirReader()
        stack.push_async_callback(fhir.aclose)
        press = TypesettingPool(settings.workers) if typesetting else TypesettingPool(1, spares=0)
        await press.start()
        stack.push_async_callback(press.stop)
        pool = press if typesetting else None
        scanner = None
        if settings.clamd is not None:
            scanner = Scanner(settings.clamd)
            if typesetting:
                # Where jobs are worked on, an inspecting process waits ahead; an API alone only asks clamd's state.
                scanner.start()
            stack.push_async_callback(scanner.stop)
        epochs = epoch.EpochWatch(database, store, keys)
        embedded = settings.database_url is None
        if await epochs.begin(copied=embedded and is_copy(settings.data_dir)) and embedded:
            remember(settings.data_dir)
        stack.push_async_callback(epochs.finish)
        yield Runtime(
            settings, keys, database, store, UrlSigner(keys), verifier, local, fhir, epochs, pool, press, scanner
        )
