"""The settings of the embedded server. Every one differs from PostgreSQL's default for a reason given here.

They are written by initdb and repeated on the command line, so that a new release of the service changes them
on a cluster made by an old one.
"""

from __future__ import annotations

PORT = 5432
"""Only a part of the socket's file name: nothing listens on TCP."""

MINIMUM_MAJOR = 15
"""The oldest PostgreSQL that the tests have met (Debian 12); older ones are not offered as a fallback."""

SOCKET_FOLDER = "../socket"
"""Relative to the cluster, so that the server's side never meets the 107 byte limit of socket paths."""

_ACCESS = {
    "listen_addresses": "",  # These builds have no TLS, and one machine needs no TCP.
    "port": str(PORT),
    "unix_socket_directories": SOCKET_FOLDER,
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
}

_DURABILITY = {
    "fsync": "on",  # 202 is sent only after a durable commit (contract §3); said aloud against copied tunings.
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # After a kill -9 everything is synced before recovery begins: file by file that took 4.7 s on ext4, so 0.5 s.
    # Linux reports write errors to it since 5.8 (2020).
    "recovery_init_sync_method": "syncfs",
    "wal_level": "replica",  # `backup` may copy a running cluster.
    "max_wal_senders": "2",
    "max_wal_size": "512MB",  # Bounds both the disk and the crash recovery of a small machine.
    "min_wal_size": "64MB",
    "wal_compression": "on",
}

_SMALL_MACHINE = {
    "max_connections": "100",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "32MB",
    "effective_cache_size": "512MB",
    "huge_pages": "off",  # `try` ends in SIGBUS under a container's huge page limit.
    "max_worker_processes": "4",
    # Parallel queries need dynamic shared memory and gain nothing on our short statements.
    "max_parallel_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    # Files in the cluster instead of /dev/shm: that is 64 MB in a container, emptied by systemd's RemoveIPC at
    # log-out, and keeps orphans after a kill -9.
    "dynamic_shared_memory_type": "mmap",
    "autovacuum_max_workers": "2",
    "jit": "off",
    "timezone": "UTC",
    "cluster_name": "document-service",
}

_LOGS_WITHOUT_DATA = {
    "logging_collector": "on",
    "log_directory": "../log",
    "log_filename": "postgresql-%u.log",  # One file per weekday, overwritten after a week.
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_file_mode": "0600",
    "log_timezone": "UTC",
    # An error's own message may quote a value (`invalid input syntax for type date: "…"`), and its DETAIL the
    # whole key. So ERROR stays with the client that caused it; LOG, FATAL and PANIC reach the file, tersely.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_duration": "off",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_lock_waits": "off",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_connections": "off",
    "log_disconnections": "off",
}


def server_settings(major: int, *, was_cut_off: bool = False) -> dict[str, str]:
    """Return the settings, name to value, for PostgreSQL ``major``.

    ``was_cut_off``: the server before this one was killed and did not stop. `render_jobs.start` asks for it.
    """
    settings = _ACCESS | _DURABILITY | _SMALL_MACHINE | _LOGS_WITHOUT_DATA
    settings["document.earlier_end"] = "cut" if was_cut_off else "stopped"
    if major >= 18:
        settings["io_method"] = "sync"  # The default starts three more processes for reads we hardly make.
    return settings
