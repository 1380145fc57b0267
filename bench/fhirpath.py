"""How many of the official FHIRPath tests for R4 pass, and how long they take, by the runner of the test suite.

    .venv/bin/python bench/fhirpath.py

Needs the suite, as tests/unit/test_fhirpath_suite.py does; says so where it is absent.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from stand import figure, now
from unit.test_fhirpath_suite import SUITE, cases, passes


def main() -> None:
    """Count and time."""
    if not SUITE.is_dir():
        print(f"not run: the official FHIRPath suite is not at {SUITE} (FHIRPATH_SUITE names another place)")
        return
    # What an expression that runs away may take; the service's child processes are bounded alike.
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    runnable = list(cases())
    began = now()
    passed = sum(passes(case) for case in runnable)
    figure(
        "FHIRPath, official R4 suite ([fhirpath.md](fhirpath.md))",
        "777 of 935 as published",
        f"{passed} of {len(runnable)} in {now() - began:.1f} s",
    )


if __name__ == "__main__":
    main()
