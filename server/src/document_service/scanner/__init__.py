"""May a file that somebody sends become a document? Type, structure, rules and clamd; images become PDF/A.

The way of a file: ``scanning`` sends it to a process of its own (``isolation`` → ``child`` → ``inspection``:
``filetype``, ``signatures``, ``structure``, ``images``) and to ``clamd``, and joins their words to a
``verdict``.
"""

from __future__ import annotations

from document_service.scanner.logos import MAX_LOGO_BYTES, Logo, read_logo
from document_service.scanner.scanning import MAX_BYTES, Scanner, ScannerState
from document_service.scanner.verdict import REASONS, Kind, Reason, State, Verdict

__all__ = [
    "MAX_BYTES",
    "MAX_LOGO_BYTES",
    "REASONS",
    "Kind",
    "Logo",
    "Reason",
    "Scanner",
    "ScannerState",
    "State",
    "Verdict",
    "read_logo",
]
