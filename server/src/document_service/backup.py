"""Backup and restore: the database and the sealed objects, apart from the keys (docs/runbooks/restore.md).

    DIR/backup.json     what this is; written last, so that a backup without it was cut off
    DIR/database/       a copy of the cluster, with what it needs to start
    DIR/objects/…       the sealed objects, as they lie in the store

The order makes it whole: objects, then the database, then the objects that came meanwhile. A row is committed after
its objects were stored, so everything that the copied database names was there at its end; what was deleted since
had been copied in the first round. Objects never change, so a second backup into the same folder copies what is new.

Restore puts objects into the store (none is replaced or deleted), the copy in the cluster's place (the old one is
set aside), and draws a new epoch.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from document_service import __version__, epoch, runtime, tenants
from document_service.database import open_database, system_transaction
from document_service.errors import BackupRefused, ObjectExists, ObjectNotFound, StoreUnavailable
from document_service.keys import KeyStore, shredded_tenants
from document_service.postgres import (
    check_base_backup,
    connection_info,
    put_back_cluster,
    stopped_cluster,
    take_base_backup,
)
from document_service.settings import Settings
from document_service.store import ObjectStore, SealedFile, SealedFiles, SealedFolder, open_store

#: The form of the folder; a later version of the service reads this one or says that it cannot.
FORMAT: Final = 1

#: Objects copied at a time: a bucket answers in parallel, and a disk syncs several files in the time of one.
AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Backup:
    """The content of ``backup.json``: sizes in bytes, the instant at which the database was whole."""

    format: int
    version: str
    taken_at: str
    database_id: str
    epoch: str
    objects: int
    object_bytes: int
    database_bytes: int
    #: Keys of objects that could not be read, or are there with another content; the backup keeps what it had of them.
    damaged: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Copied:
    """How many objects were copied, and how many were there already."""

    copied: int = 0
    present: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: objects copied, the new epoch, the old cluster's place, tenants whose key is missing."""

    backup: Backup
    objects: Copied
    epoch: str
    set_aside: Path | None
    without_key: list[str]


async def take(settings: Settings, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Backup:
    """Back up into ``folder``, a new one or an earlier backup of this service; works while ``serve`` runs.

    Raises:
        BackupRefused: the folder holds something else, or the database is not the embedded one.
        SettingError: the store is an empty folder, and the database knows documents.
        StoreUnavailable, DatabaseUnavailable: a part went away; an earlier backup in the folder is still whole.
    """
    _refuse_external(settings)
    _check_target(folder)
    async with runtime.open_address(settings, stays=False) as address:
        await runtime.prepare_database(address)
        async with runtime.owner_connection(address) as connection:
            keys = await runtime.open_keys(settings, connection)
            await runtime.refuse_absent_store(settings, connection)
        store = open_store(settings.objects, keys)
        source = store.sealed
        with _locked(folder):
            target = SealedFolder(folder)
            tell("copying objects")
            first = await copy_objects(source, target)
            tell(f"{first.copied} objects copied, {first.present} were there; copying the database")
            async with runtime.owner_connection(address) as connection:
                facts = dict(await connection.fetch("SELECT key, value FROM document.service_state"))
            database = await _copy_database(settings, folder)
            tell("copying objects that came meanwhile")
            last = await copy_objects(source, target)
            if last.damaged:
                # Whether it is these objects that cannot be read, or the store that went away.
                await store.probe()
            done = Backup(
                FORMAT,
                __version__,
                datetime.now(UTC).isoformat(timespec="seconds"),
                facts["database_id"],
                facts["sync_epoch"],
                first.copied + last.copied + first.present,
                first.bytes + last.bytes,
                database,
                sorted(last.damaged),
            )
            _commit(folder, done)
    return done


async def _copy_database(settings: Settings, folder: Path) -> int:
    """Take the copy beside the last one; its size in bytes. ``_commit`` puts it in the last one's place."""
    new = folder / "database.new"
    await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
    await asyncio.to_thread(take_base_backup, settings.data_dir, connection_info(settings.data_dir), new)
    return sum(path.stat().st_size for path in new.rglob("*") if path.is_file())


def _commit(folder: Path, done: Backup) -> None:
    """Put the new copy in place. A crash between the renames leaves both copies, and no backup.json to trust."""
    note, old = folder / "backup.json", folder / "database.old"
    note.unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)
    if (folder / "database").exists():
        (folder / "database").rename(old)
    (folder / "database.new").rename(folder / "database")
    os.sync()
    scratch = folder / "backup.json.new"
    scratch.write_text(json.dumps(asdict(done), indent=1) + "\n")
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.rename(note)
    os.sync()
    shutil.rmtree(old, ignore_errors=True)


async def put_back(
    settings: Settings, folder: Path, *, force: bool, tell: Callable[[str], None] = lambda _: None
) -> Restored:
    """Restore a backup into this data folder and store; the service must be stopped.

    Raises:
        BackupRefused: it is not a whole backup, there are no keys here, or there is a database and ``force`` was not
            given.
        DatabaseFolderHeld: the service runs.
        DatabaseStartFailed: a file of the backup differs from what was written; nothing was changed.
    """
    _refuse_external(settings)
    backup = read_note(folder)
    if not (settings.keys.is_dir() and any(settings.keys.iterdir())):
        # New keys would open nothing of this backup, and would lie where the copy of the old ones belongs.
        raise BackupRefused(f"{settings.keys} holds no keys; put the copy of the key folder there first")
    settings.make_data_dir()
    keys = KeyStore.open(settings.keys)
    store = open_store(settings.objects, keys)
    with stopped_cluster(settings.data_dir) as exists:
        if exists and not force:
            raise BackupRefused(f"{settings.data_dir} holds a database; --force sets it aside and restores over it")
        tell("checking the database's copy")
        await asyncio.to_thread(check_base_backup, settings.data_dir, folder / "database")
        differing = await _differing(SealedFolder(folder), store.sealed)
        if differing:
            named = ", ".join(differing[:10])
            raise BackupRefused(f"{len(differing)} objects are there with another content; move them away: {named}")
        tell("copying objects")
        copied = await copy_objects(SealedFolder(folder), store.sealed)
        if copied.damaged:
            raise StoreUnavailable(f"the backup's {min(copied.damaged)} cannot be read")
        tell(f"{copied.copied} objects copied, {copied.present} were there; putting the database in place")
        old = await asyncio.to_thread(put_back_cluster, settings.data_dir, folder / "database")
    now, without = await _begin_anew(settings, keys, store)
    return Restored(backup, copied, now, old, without)


async def _begin_anew(settings: Settings, keys: KeyStore, store: ObjectStore) -> tuple[str, list[str]]:
    """Draw the epoch, and say whose keys are missing. A crash before this is made good by the next start's look."""
    async with runtime.open_address(settings, stays=False) as address:
        await runtime.prepare_database(address)
        database = await open_database(address)
        try:
            watch = epoch.EpochWatch(database, store, keys)
            async with system_transaction(database) as connection:
                before = await epoch.current(connection)
            await watch.begin()
            if watch.value == before:
                # The mark was written after the copy was made, or the store is a new one: there was nothing to notice.
                async with system_transaction(database) as connection:
                    await epoch.renew(connection, "a backup was restored")
                await watch.look()
        finally:
            await database.close()
        async with runtime.owner_connection(address) as connection:
            living = [row.tenant_id for row in await tenants.list_all(connection) if row.shredded_at is None]
    shredded = shredded_tenants(settings.keys)
    return watch.value, [one for one in living if one not in shredded and not keys.has_tenant(one)]


async def _differing(source: SealedFiles, target: SealedFiles) -> list[str]:
    there = {file.key: file.size async for file in target.inventory()}
    return sorted([file.key async for file in source.inventory() if there.get(file.key, file.size) != file.size])


async def copy_objects(source: SealedFiles, target: SealedFiles) -> Copied:
    """Copy the objects that ``target`` lacks; one that is there with another size is named, never replaced.

    One that ``source`` cannot read is named too, and the others are copied all the same.
    """
    there = {file.key: file.size async for file in target.inventory()}
    result = Copied()
    batch: list[SealedFile] = []
    async for file in source.inventory():
        if file.key not in there:
            batch.append(file)
        elif there[file.key] == file.size:
            result.present += 1
        else:
            result.damaged.append(file.key)
        if len(batch) == AT_ONCE:
            await asyncio.gather(*(_copy_one(source, target, one, result) for one in batch))
            batch.clear()
    await asyncio.gather(*(_copy_one(source, target, one, result) for one in batch))
    return result


async def _copy_one(source: SealedFiles, target: SealedFiles, file: SealedFile, result: Copied) -> None:
    unread = False

    async def content() -> AsyncIterator[bytes]:
        nonlocal unread
        try:
            async for piece in source.read(file.key):
                yield piece
        except StoreUnavailable:
            unread = True
            raise

    try:
        await target.write(file.key, content())
    except ObjectNotFound:
        return  # It was deleted in order since it was listed.
    except StoreUnavailable:
        if not unread:
            raise
        result.damaged.append(file.key)
        return
    except ObjectExists:
        result.present += 1
        return
    result.copied += 1
    result.bytes += file.size


# --- the folder ---------------------------------------------------------------------------------------------------


def read_note(folder: Path) -> Backup:
    """What the backup says of itself.

    Raises:
        BackupRefused: there is none, it was cut off, or it is of a form that this version does not know.
    """
    try:
        stored: dict[str, Any] = json.loads((folder / "backup.json").read_bytes())
        if stored["format"] != FORMAT:
            raise BackupRefused(f"{folder} was written by version {stored.get('version')}; restore it with that one")
        return Backup(**stored)
    except FileNotFoundError:
        raise BackupRefused(f"{folder} holds no backup, or one that was cut off (there is no backup.json)") from None
    except (ValueError, TypeError, KeyError):
        raise BackupRefused(f"{folder}/backup.json is damaged") from None


def _check_target(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = {"backup.json", "backup.json.new", "database", "database.new", "database.old", "objects", "incoming",
             "marks", ".lock"}  # fmt: skip
    strangers = sorted(entry.name for entry in folder.iterdir() if entry.name not in known)
    if strangers:
        raise BackupRefused(f"{folder} holds something else ({strangers[0]}); choose an empty folder")
    folder.chmod(0o700)


def _refuse_external(settings: Settings) -> None:
    if settings.database_url is not None:
        raise BackupRefused(
            "DATABASE_URL is set: back that server up by its own tools, database first and objects after it;"
            " a restore of it is noticed at the next start (docs/runbooks/restore.md)"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupRefused(f"another backup into {folder} is running") from None
        yield
    finally:
        os.close(descriptor)
