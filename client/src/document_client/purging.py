"""What the service's word "this device was revoked" does here: every cached document becomes unreadable.

All caches of the home folder go, whoever's they are: a lost device is lost for everybody who worked on it, and what
was wrongly purged costs a download. Queues and the audit outbox stay sealed: unsent work and evidence are never
dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .account import Account, open_cache
from .audit import Happening
from .cycle import Report
from .documents import record
from .errors import DeviceRevoked, StorageProblem
from .localdb import has_moved, remove_files, transaction


def purge_caches(account: Account) -> int:
    """Destroy the keys and rows of all caches, the open one too; returns how many of its documents were readable."""
    recorded, held = False, 0
    try:
        if _count_copies(account) or _have_others_keys(account):
            # First: a crash in between records it once more, and never not at all.
            _record(account)
            recorded = True
    finally:
        # An outbox that takes no more keeps nothing readable on a device that was lost.
        held = _purge(account)
    if held and not recorded:
        # Another program stored a copy in between.
        _record(account)
    return held


def purge_if_stopped(account: Account, report: Report) -> Report:
    """Purge where a run that does not do so itself was stopped by that word; returns its report."""
    if report.stopped == DeviceRevoked.code:
        purge_caches(account)
    return report


@contextmanager
def purging_if_revoked(account: Account) -> Iterator[None]:
    """Purge where the block hears that this device was revoked; the error goes on."""
    try:
        yield
    except DeviceRevoked:
        purge_caches(account)
        raise


def _record(account: Account) -> None:
    record(account, Happening("cache.purged", account.session.user))


def _count_copies(account: Account) -> int:
    return int(account.cache.execute("SELECT count(*) FROM blobs").get)


def _have_others_keys(account: Account) -> bool:
    """Return whether somebody else's cache on this device may be readable: a sign-out destroys its key."""
    own = account.session.account_id
    others = (folder.name for folder in (account.home / "accounts").iterdir() if folder.name != own)
    return any(account.vault.key(f"cache/{name}", create=False) is not None for name in others)


def _purge(account: Account) -> int:
    """Remove everything; returns how many documents of the open cache were readable."""
    folders, own, held = list((account.home / "accounts").iterdir()), account.session.account_id, 0
    try:
        with transaction(account.cache):
            held = _count_copies(account)
            for table in ("blobs", "parts", "documents", "withdrawn"):
                account.cache.execute(f"DELETE FROM {table}")
        # The key is what counts: whatever the deleted rows leave on the disk can then never be read.
        _destroy_keys(account, folders)
        # Where another program had replaced the cache, the rows of the one in use are elsewhere.
        replaced = has_moved(account.cache)
        for folder in folders:
            if folder.name != own or replaced:
                remove_files(folder / "cache.db")
    except StorageProblem:
        # A disk that is full keeps nothing readable either: a file that nobody has open makes room when it goes.
        account.cache.close()
        for folder in folders:
            remove_files(folder / "cache.db")
        _destroy_keys(account, folders)
        account.cache = open_cache(account.folder / "cache.db", account.vault, f"cache/{own}", account.notices)
    return held


def _destroy_keys(account: Account, folders: list[Path]) -> None:
    for folder in folders:
        account.vault.destroy(f"cache/{folder.name}")
    # Nor may whoever holds the device now go on getting tokens.
    account.vault.replace({f"refresh/{folder.name}": None for folder in folders})
