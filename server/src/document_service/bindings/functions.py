"""The user invocation table for fhirpathpy 2.2: what it lacks, gets wrong or leaves unbounded (docs/fhirpath.md).

The official suite (tests/unit/test_fhirpath_suite.py) is the yardstick. The parts are
``filters`` (where, select, iif … evaluate a criterion once and keep ``$this``), ``logic``, ``comparisons``
(quantities of the record, dates with zones), ``boundaries``, ``moments`` (days of the tenant's zone) and ``texts``
(RE2, bounded results).
"""

from __future__ import annotations

from typing import Any

from document_service.bindings.boundaries import BOUNDARY_FUNCTIONS
from document_service.bindings.comparisons import COMPARISON_FUNCTIONS
from document_service.bindings.filters import FILTER_FUNCTIONS
from document_service.bindings.moments import MOMENT_FUNCTIONS
from document_service.bindings.texts import TEXT_FUNCTIONS

FUNCTIONS: dict[str, dict[str, Any]] = {
    **FILTER_FUNCTIONS,
    **COMPARISON_FUNCTIONS,
    **BOUNDARY_FUNCTIONS,
    **MOMENT_FUNCTIONS,
    **TEXT_FUNCTIONS,
}
