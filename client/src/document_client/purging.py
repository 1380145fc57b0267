"""What the service's word "this device was revoked" does here: every cached document becomes unreadable.

All caches of the home folder go, whoever's they are: a lost device is lost for everybody who worked on it, and what
was wrongly purged costs a download. Queues and the audit outbox stay sealed: unsent work and evidence are never
dropped.
"""

from __future__ import annotations

from .account import Account
from .audit import Happening
from .documents import record
from .localdb import remove_files, transaction


def purge_caches(account: Account) -> int:
    """Destroy the keys and rows of all caches, the open one too; returns how many of its documents were readable."""
    held = int(account.cache.execute("SELECT count(*) FROM blobs").get)
    try:
        if held:
            # First: a crash in between records it once more, and never not at all.
            record(account, Happening("cache.purged", account.session.user))
    finally:
        # An outbox that takes no more keeps nothing readable on a device that was lost.
        _purge(account)
    return held


def _purge(account: Account) -> None:
    with transaction(account.cache):
        for table in ("blobs", "parts", "documents", "withdrawn"):
            account.cache.execute(f"DELETE FROM {table}")
    # The key is what counts: whatever the deleted rows leave on the disk can then never be read.
    own = account.session.account_id
    account.vault.destroy(f"cache/{own}")
    # Nor may whoever holds the device now go on getting tokens.
    account.vault.replace({f"refresh/{folder.name}": None for folder in (account.home / "accounts").iterdir()})
    for folder in (account.home / "accounts").iterdir():
        if folder.name != own:
            account.vault.destroy(f"cache/{folder.name}")
            remove_files(folder / "cache.db")
