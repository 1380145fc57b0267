"""Made-up patients through every platform form: read from a real FHIR server, typeset by the real pool.

Each document is complete or refused with a named reason; nothing ends as a fault of the service. Forty generated
patients here; ``SYNTHETIC_COHORT=500`` for the long run.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from typing import Any

import pytest

from document_service.definitions import read_json
from document_service.errors import BindingRequired, ServiceError
from document_service.fhir import FhirReader, FhirSnapshot
from document_service.platform_forms import PlatformForm
from document_service.synthetic import SyntheticFhirServer, SyntheticPatient
from document_service.typesetting.pool import TypesettingPool
from platform_pages import FORMS, LOCALES, job

COUNT = int(os.environ.get("SYNTHETIC_COHORT", "40"))
# As many as the FHIR server and the pool serve at once on two cores.
AT_ONCE = 4

# What a nurse adds where the record cannot say it.
SAID: dict[str, dict[str, Any]] = {
    "discharge-summary": {"admittedOn": "2026-01-01", "dischargedOn": "2026-01-03", "diagnosis": "Fever"},
    "referral-letter": {"referredTo": "Central Hospital", "reason": "Second opinion"},
    "consent": {"procedure": "Endoscopy"},
    "sick-leave-certificate": {"from": "2026-09-18", "until": "2026-09-20"},
}
# Generated orders have no dose, so these two are refused for whoever has orders, and must be.
DOSES = {"orders.dose", "goOn.dose", "orders or stated"}
# Nobody generates results for the patients written by hand.
REFUSED = {**dict.fromkeys(("outpatient-prescription", "discharge-summary"), DOSES), "laboratory-report": {"results"}}


async def _read(reader: FhirReader, base: str, patient: SyntheticPatient, form: PlatformForm) -> FhirSnapshot:
    definition: dict[str, Any] = read_json(form.definition)
    inputs = SAID.get(form.key, {})
    return await reader.read(base, None, definition["context"], patient.id, patient.encounter_id, inputs)


async def _document(
    reader: FhirReader, pool: TypesettingPool, base: str, patient: SyntheticPatient, form: PlatformForm, locale: str
) -> str:
    """``complete``, or the binding that was refused."""
    try:
        snapshot = await _read(reader, base, patient, form)
        result = await pool.render(job(form, locale, snapshot.resources, SAID.get(form.key, {})))
    except BindingRequired as refused:
        if refused.status >= 500:
            raise
        return re.sub(r"\[\d+\]", "", str(refused.extra["binding"]))
    except ServiceError as refused:
        raise AssertionError(f"{form.key} in {locale}: {refused.code} {refused.detail}") from None
    assert result.warnings == ()
    return "complete"


@pytest.mark.parametrize("part", ["generated and handmade"])
async def test_every_document_is_complete_or_refused_with_a_named_reason(part: str) -> None:
    outcomes: dict[str, Counter[str]] = {key: Counter() for key in FORMS}
    gate = asyncio.Semaphore(AT_ONCE)
    with SyntheticFhirServer(generated=COUNT) as server:
        reader = FhirReader()
        async with TypesettingPool(2) as pool:

            async def one(number: int, patient: SyntheticPatient, form: PlatformForm) -> None:
                async with gate:
                    locale = LOCALES[number % len(LOCALES)]
                    outcome = await _document(reader, pool, server.base_url, patient, form, locale)
                outcomes[form.key][outcome] += 1

            await asyncio.gather(
                *(
                    one(number, patient, form)
                    for number, patient in enumerate(server.patients)
                    for form in FORMS.values()
                )
            )
        await reader.aclose()
    for key, counted in outcomes.items():
        assert sum(counted.values()) == COUNT + 3, key
        assert set(counted) <= {"complete"} | REFUSED.get(key, set()), (key, counted)
    # Each form has been seen complete for somebody, but the prescription: nobody generates doses.
    assert all(counted["complete"] for key, counted in outcomes.items() if key != "outpatient-prescription")
