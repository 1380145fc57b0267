"""Byte patterns by yara-x: the rules in ``rules/*.yar``, compiled once per process.

Every rule names in its metadata the code of ``verdict.REASONS`` that it gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yara_x

from document_service.scanner.verdict import REASONS

RULES_FOLDER: Final = Path(__file__).with_name("rules")
SCAN_SECONDS: Final = 10  # 25 MB take 0.1 s; a file that takes longer was made to.


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that a file broke, and the code that this gives."""

    rule: str
    code: str


class Signatures:
    """All rules, compiled; use from one thread at a time."""

    def __init__(self) -> None:
        """Compile. Raises yara_x.CompileError, and ValueError for a rule whose code is not listed."""
        compiler = yara_x.Compiler()
        compiler.define_global("kind", "")
        files = sorted(RULES_FOLDER.glob("*.yar"))
        if not files:
            raise ValueError(f"no rules are in {RULES_FOLDER}")
        for file in files:
            compiler.add_source(file.read_text(encoding="utf-8"), origin=file.name)
        rules = compiler.build()
        for rule in rules:
            if dict(rule.metadata).get("code") not in REASONS:
                raise ValueError(f"rule {rule.identifier} has no code that verdict.REASONS lists")
        self._scanner = yara_x.Scanner(rules)
        self._scanner.set_timeout(SCAN_SECONDS)

    def scan(self, data: bytes, kind: str) -> list[Match]:
        """Return every rule that ``data`` breaks. Raises yara_x.TimeoutError, yara_x.ScanError."""
        self._scanner.set_global("kind", kind)
        found = self._scanner.scan(data)
        return [Match(rule.identifier, str(dict(rule.metadata)["code"])) for rule in found.matching_rules]
