"""A verdict on a file that somebody sends: our own inspection and clamd, both always, and the gravest word
counts.

clamd is mandatory (design §7): without its word there is no verdict, not even for a file that our own
inspection refuses, because what cannot be examined must not be told apart by whether the scanner happens to
run.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from document_service.errors import ConversionFailed, ScannerUnavailable
from document_service.scanner.clamd import Clamd
from document_service.scanner.isolation import Inspectors, ProcessStopped
from document_service.scanner.verdict import Verdict, verdict_of

# 25 MB in the sense of the contract; below clamd's StreamMaxLength of 25 MiB, above which it would not look.
MAX_BYTES: Final = 25_000_000


@dataclass(frozen=True, slots=True)
class ScannerState:
    """What health, metrics and doctor tell: whether scans are possible, why not, and how old the signatures
    are.
    """

    available: bool
    problem: str | None
    engine: str | None
    signatures: int | None
    signatures_at: datetime | None


class Scanner:
    """Gives verdicts; ``start`` and ``stop`` it with the service."""

    def __init__(self, clamd: str, max_bytes: int = MAX_BYTES, inspectors: Inspectors | None = None) -> None:
        """``clamd``: unix:/path or tcp:host:port. Raises ValueError for another form."""
        self._clamd = Clamd(clamd)
        self._max_bytes = max_bytes
        self._inspectors = inspectors or Inspectors()

    def start(self) -> None:
        """Start an inspecting process ahead of the first scan."""
        self._inspectors.start()

    async def stop(self) -> None:
        """End the waiting process."""
        await self._inspectors.stop()

    async def scan(self, source: bytes | Path, content_type: str, file_name: str) -> Verdict:
        """Return the verdict on a whole file. Raises ScannerUnavailable: then nothing is known about it."""
        data = await asyncio.to_thread(_read, source, self._max_bytes) if isinstance(source, Path) else source
        if len(data) > self._max_bytes:
            return verdict_of({"FILE_TOO_LARGE"}, None, None)
        inspecting = asyncio.ensure_future(self._inspect(data, content_type, file_name))
        try:
            # Should clamd fail, the inspection is given up and its process killed.
            signature = await self._clamd.scan(data)
            verdict = await inspecting
        finally:
            inspecting.cancel()
            await asyncio.gather(inspecting, return_exceptions=True)
        codes = {verdict.code} if verdict.code else set()
        findings = verdict.findings
        if signature is not None:
            codes.add(_code_of(signature))
            findings = (*findings, f"clamd:{signature}")
        return verdict_of(codes, verdict.kind, verdict.pages, findings)

    async def image_to_pdf(self, data: bytes) -> tuple[bytes, int]:
        """Return the PDF/A of an accepted image, and its pages. Raises ConversionFailed, ScannerUnavailable."""
        try:
            answer, pdf = await self._ask({"verb": "convert"}, data)
        except ProcessStopped as error:
            raise ConversionFailed(f"the conversion was stopped ({error.reason})") from error
        if "error" in answer:
            raise ConversionFailed
        return pdf, int(answer["pages"])

    async def state(self) -> ScannerState:
        """Ask clamd how it is; never raises."""
        try:
            await self._clamd.ping()
            version = await self._clamd.version()
        except ScannerUnavailable as error:
            return ScannerState(False, error.detail or error.title, None, None, None)
        return ScannerState(True, None, version.engine, version.signatures, version.signatures_at)

    async def tells_of_limits(self) -> bool:
        """Whether clamd is set to report what it could not look into. Raises ScannerUnavailable."""
        return await self._clamd.tells_of_limits()

    async def _inspect(self, data: bytes, content_type: str, file_name: str) -> Verdict:
        request = {"verb": "inspect", "contentType": content_type, "fileName": file_name}
        try:
            answer, _ = await self._ask(request, data)
        except ProcessStopped as error:
            return verdict_of({"FILE_TOO_COMPLEX"}, None, None, (f"inspection:{error.reason}",))
        if "error" in answer:
            return verdict_of({"FILE_TOO_COMPLEX"}, None, None, ("inspection:memory",))
        codes = {answer["code"]} if answer["code"] else set()
        return verdict_of(codes, answer["kind"], answer["pages"], tuple(answer["findings"]))

    async def _ask(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            return await self._inspectors.ask(request, data)
        except ProcessStopped as error:
            if error.reason == "time":
                raise
            # A process may be ended by the system, short of memory; a file that ends a second one did it itself.
            return await self._inspectors.ask(request, data)


def _code_of(signature: str) -> str:
    """clamd reports some files as found that it could not examine; these are not malware."""
    if signature.startswith("Heuristics.Limits.Exceeded"):
        return "FILE_TOO_COMPLEX"
    if signature.startswith("Heuristics.Encrypted"):
        return "FILE_ENCRYPTED"
    return "MALWARE_FOUND"


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)
