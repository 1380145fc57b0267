"""What the device's sealing costs: opening a cached document, queueing a request, and `documents status`.

    .venv/bin/python bench/device.py [--rounds N] [--folder D]

Opening is what `Documents.read` does without its audit event (which is durable and measured as the enqueue is), and
with it. Beside it: the same blob in an unencrypted SQLite file, in SQLCipher's format (the `sqlcipher` scheme of the
same library: AES-256-CBC with an HMAC for each page of 4096 bytes, as SQLCipher 4 writes them), and a plain file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from document_client import DocumentClient, cache, documents
from document_client.localdb import PAGE_SIZE
from document_client.model import Model, ModelTransport
from stand import figure

SIZE = 500_000
FORM = "General Test Requisition"


def middle_and_high(times: list[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    return statistics.median(times), sorted(times)[int(len(times) * 0.95)]


def measure(rounds: int, use: Callable[[], object]) -> tuple[float, float]:
    """Median and 95th percentile of ``use`` in milliseconds, after a tenth of the rounds unmeasured."""
    times = []
    for _ in range(rounds + rounds // 10):
        start = time.perf_counter()
        use()
        times.append((time.perf_counter() - start) * 1000)
    return middle_and_high(times[rounds // 10 :])


def signed_in(home: Path) -> DocumentClient:
    """A client with a document of 500 KB in its cache."""
    model = Model(time.time)
    model.publish(FORM, {"language": 1, "locales": ["en"], "inputs": {"type": "object"}})
    client = DocumentClient(home, passphrase="bench", transport=ModelTransport(model))
    client.login("https://documents.test", model.token("clinic", "bench"))
    client.templates()
    client.request(FORM, "p1")
    make = model._document

    def enlarged(job: dict[str, object]) -> dict[str, object]:
        document = make(job)
        content = os.urandom(SIZE)
        model.state.contents[document["id"]] = content
        document.update(size=SIZE, sha256=hashlib.sha256(content).hexdigest())
        return document

    model._document = enlarged  # type: ignore[method-assign]
    assert client.sync().downloaded == 1
    return client


def blob_file(path: Path, content: bytes, *pragmas: tuple[str, object]) -> apsw.Connection:
    """A database with the same table of blobs as the cache, opened with ``pragmas``."""
    conn = apsw.Connection(str(path))
    for name, value in pragmas:
        conn.pragma(name, value)
    conn.pragma("journal_mode", "wal")
    conn.execute("CREATE TABLE blobs (document_id TEXT PRIMARY KEY, content BLOB NOT NULL)")
    conn.execute("INSERT INTO blobs VALUES ('d', ?)", (content,))
    conn.pragma("wal_checkpoint", "truncate")
    return conn


def read_blob(conn: apsw.Connection) -> bytes:
    """Read the blob as the cache reads its own."""
    return bytes(conn.execute("SELECT content FROM blobs WHERE document_id = 'd'").get)


def opening(client: DocumentClient, folder: Path, rounds: int) -> tuple[float, float]:
    """Print how long opening takes beside its yardsticks; the ratios to plain SQLite and to a plain file."""
    [document] = client.documents.list()
    account = client.account()
    content = cache.read_bytes(account.cache, document["id"])
    assert content is not None
    plain = folder / "plain.pdf"
    plain.write_bytes(content)
    sqlite = blob_file(folder / "plain.db", content, ("page_size", PAGE_SIZE))
    sealed = (("cipher", "sqlcipher"), ("legacy", 4), ("key", "raw:" + "ab" * 32))
    sqlcipher = blob_file(folder / "sqlcipher.db", content, *sealed)
    account.cache.pragma("wal_checkpoint", "truncate")

    def as_documents_read() -> None:
        reading, policy = account.terms()
        assert len(documents._read_copy(account, document["id"], reading, policy)[1]) == SIZE

    ways: dict[str, tuple[Callable[[], object], apsw.Connection]] = {
        "plain file": (plain.read_bytes, sqlite),
        "SQLite, unencrypted": (lambda: read_blob(sqlite), sqlite),
        "SQLCipher's format": (lambda: read_blob(sqlcipher), sqlcipher),
        "the cache: the bytes": (lambda: cache.read_bytes(account.cache, document["id"]), account.cache),
        "the cache: may it be shown, and the bytes": (as_documents_read, account.cache),
        "Documents.read, with its durable audit event": (lambda: client.documents.read(document["id"]), account.cache),
    }
    print(f"{'open 500 KB':48}{'p50 ms':>9}{'p95 ms':>9}{'x SQLite':>10}{'x file':>9}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + rounds // 10):
        # In turn, so that a busy machine is busy for all of them alike.
        for name, (use, conn) in ways.items():
            # SQLite keeps pages in memory, opened already; a command that has just begun has none.
            conn.pragma("shrink_memory")
            start = time.perf_counter()
            use()
            times[name].append((time.perf_counter() - start) * 1000)
    found = {name: middle_and_high(measured[rounds // 10 :]) for name, measured in times.items()}
    file_ms, sqlite_ms = found["plain file"][0], found["SQLite, unencrypted"][0]
    for name, (middle, high) in found.items():
        print(f"{name:48}{middle:>9.3f}{high:>9.3f}{middle / sqlite_ms:>10.1f}{middle / file_ms:>9.1f}")
    sqlite.close()
    sqlcipher.close()
    mine = found["the cache: may it be shown, and the bytes"][0]
    return mine / sqlite_ms, mine / file_ms


def enqueueing(client: DocumentClient, rounds: int) -> float:
    """Print how long it takes until a request is durable; the 95th percentile in ms."""
    middle, high = measure(rounds, lambda: client.request(FORM, "p1"))
    print(f"{'durable enqueue':48}{middle:>9.3f}{high:>9.3f}")
    return high


def commands(home: Path, rounds: int) -> float:
    """Print how long `documents status` takes from the start of its process; the median in ms."""
    environment = {**os.environ, "DOCUMENTS_PASSPHRASE": "bench", "DOCUMENTS_HOME": str(home)}

    def run(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "document_client", *arguments], env=environment, check=True, capture_output=True
        )

    bare = measure(rounds, lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    run("status", "--json")
    used = processor_seconds()
    middle, high = measure(rounds, lambda: run("status", "--json"))
    used = (processor_seconds() - used) / (rounds + rounds // 10)
    print(f"{'python itself, from process start':48}{bare[0]:>9.1f}{bare[1]:>9.1f}")
    print(f"{'documents status, from process start':48}{middle:>9.1f}{high:>9.1f}")
    print(f"{'  of it on a processor':48}{used * 1000:>9.1f}")
    return middle


def processor_seconds() -> float:
    """What ended child processes have used of the processors; a busy machine does not change it much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Measure, and print the rows of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure; default: the system's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        with signed_in(Path(folder) / "home") as client:
            times_sqlite, times_file = opening(client, Path(folder), options.rounds)
            enqueue_ms = enqueueing(client, options.rounds)
        status_ms = commands(Path(folder) / "home", max(5, options.rounds // 15))
    figure("open a cached document of 500 KB, p50, beside unencrypted SQLite", "≤ 2 times", f"{times_sqlite:.1f} times")
    figure("open a cached document of 500 KB, p50, beside a plain file", "≤ 6 times", f"{times_file:.1f} times")
    figure("durable enqueue of a request, p95", "< 5 ms", f"{enqueue_ms:.1f} ms")
    figure("`documents status` from process start, p50", "< 150 ms", f"{status_ms:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
