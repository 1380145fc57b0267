"""FHIRPath functions and operators that fhirpathpy 2.2 lacks, gets wrong or leaves unbounded.

They are handed to the engine as its user invocation table. Each takes the engine's context first, then the focus and
the parameters, and returns a collection.
"""

from __future__ import annotations

from typing import Any

FUNCTIONS: dict[str, dict[str, Any]] = {}
