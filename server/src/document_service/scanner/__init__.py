"""May a file that somebody sends become a document? Type, structure, rules and clamd; images become PDF/A.

The way of a file: ``scanning`` sends it to a process of its own (``isolation`` → ``child`` → ``inspection``:
``filetype``, ``signatures``, ``structure``, ``images``) and to ``clamd``, and joins their words to a
``verdict``.
"""

from __future__ import annotations

from document_service.scanner.scanning import MAX_BYTES, Scanner, ScannerState
from document_service.scanner.verdict import REASONS, Kind, Reason, State, Verdict

__all__ = ["MAX_BYTES", "REASONS", "Kind", "Reason", "Scanner", "ScannerState", "State", "Verdict"]
