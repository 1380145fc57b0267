"""The outside engines that some tests need: found, installed by root, or reported as not run.

The rule, in one place for all of them: root (and CI) must run every test, so a missing engine is installed by
``scripts/install-engines`` and it is a failure when that does not help. An ordinary user on a desk cannot install
Debian packages, so the test is skipped with a reason that starts with "not run".

Nothing here starts an engine: each test starts its own process, on its own folder and free port.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

_INSTALLER: Final = Path(__file__).resolve().parent.parent / "scripts/install-engines"
# Chromium is about 100 MB; a slow mirror gives it in a few minutes.
_INSTALL_SECONDS: Final = 900
# Preflight, PDFBox's checker of PDF/A-1b, and all that it needs on its class path.
PREFLIGHT_JARS: Final = tuple(
    f"/usr/share/java/{name}.jar"
    for name in (
        *("preflight", "pdfbox2", "xmpbox", "fontbox2", "commons-logging", "commons-io"),
        *("javax.activation", "jaxb-api"),
    )
)
# Where ``scripts/install-engines`` puts the OpenID provider and what it needs, beside the Python packages.
OPENID_PROVIDER: Final = _INSTALLER.parent.parent / ".venv/openid-provider-9.13.3"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine by the name that ``scripts/install-engines`` knows, the files that prove it, and who may run it."""

    name: str
    files: tuple[Path, ...]
    needs_root: bool = False

    def is_present(self) -> bool:
        """Whether every file of the engine is there."""
        return all(path.exists() for path in self.files)


ENGINES: Final = {
    engine.name: engine
    for engine in (
        Engine("clamd", (Path("/usr/sbin/clamd"),)),
        # cups-pdf insists on root, and cupsd gives up root for its filters itself.
        Engine(
            "cups",
            (Path("/usr/sbin/cupsd"), Path("/usr/bin/lp"), Path("/usr/share/ppd/cups-pdf/CUPS-PDF_opt.ppd")),
            needs_root=True,
        ),
        Engine("chromium", (Path("/usr/bin/chromium"),)),
        Engine("qpdf", (Path("/usr/bin/qpdf"),)),
        Engine("openid-provider", (OPENID_PROVIDER / "node_modules/oidc-provider/package.json",)),
        Engine("pdfbox", tuple(map(Path, ("/usr/bin/java", *PREFLIGHT_JARS)))),
    )
}

EngineRequirement = Callable[[str], Engine]


def install(name: str) -> str:
    """Run ``scripts/install-engines NAME`` and return what it printed, for the failure's text."""
    done = subprocess.run(
        [_INSTALLER, name],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    return (done.stdout + done.stderr).strip()


def demand(name: str, *, is_root: bool, is_ci: bool, install: Callable[[str], str] = install) -> Engine:
    """Return the engine ``name``, installed first if it must be; fail or skip the running test without it."""
    engine = ENGINES[name]
    if engine.needs_root and not is_root:
        pytest.skip(f"not run: {name} needs root")
    if engine.is_present():
        return engine
    said = install(name) if is_root or is_ci else ""
    if engine.is_present():
        return engine
    if is_root or is_ci:
        pytest.fail(f"the engine {name} is missing and could not be installed: {said}", pytrace=False)
    pytest.skip(f"not run: {name} is not installed (as root: scripts/install-engines {name})")


@pytest.fixture(scope="session")
def require_engine() -> EngineRequirement:
    """Give a function that returns an engine by name, or fails or skips by the rule above."""
    return lambda name: demand(name, is_root=os.geteuid() == 0, is_ci=os.environ.get("CI", "").lower() in ("1", "true"))
