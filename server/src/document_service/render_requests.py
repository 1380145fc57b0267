"""What a render request asks for: its content as it is compared between replays, and the part that is sealed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import rfc8785


@dataclass(frozen=True)
class RenderRequest:
    """The content of a request, as it was sent; numbers of ``inputs`` are Decimal or int as written."""

    template_version_id: str
    patient_id: str
    encounter_id: str | None
    inputs: dict[str, Any]
    locale: str
    not_after: datetime | None = None
    not_after_text: str | None = None
    patient_check: dict[str, Any] | None = None

    @cached_property
    def content(self) -> bytes:
        """What is compared between replays: every field but requestedAt, absent = null, canonical JSON."""
        return rfc8785.dumps(
            _plain(
                {
                    "templateVersionId": self.template_version_id,
                    "patientId": self.patient_id,
                    "encounterId": self.encounter_id,
                    "inputs": self.inputs,
                    "locale": self.locale,
                    "notAfter": self.not_after_text,
                    "patientCheck": _without_nulls(self.patient_check),
                }
            )
        )

    def sealed_part(self) -> bytes:
        """The part that may name the patient, as JSON that keeps every digit."""
        return json.dumps({"inputs": _plain(self.inputs), "patientCheck": self.patient_check}).encode()


def open_sealed_part(plain: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Inputs and patientCheck from ``RenderRequest.sealed_part``."""
    stored = json.loads(plain)
    return _untagged(stored["inputs"]), stored["patientCheck"]


def _without_nulls(check: dict[str, Any] | None) -> dict[str, Any] | None:
    kept = {key: value for key, value in (check or {}).items() if value is not None}
    return kept or None


def _plain(value: Any) -> Any:
    """Make decimals comparable as they were written: 1.10 and 1.1 are different content.

    A member whose own name begins as the mark of a number does gets one more U+0000, so that no text is taken for one.
    """
    if isinstance(value, dict):
        return {f"\0{key}" if key.startswith("\0") else key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53):
        return {"\u0000number": str(value)}
    return value


def _untagged(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"\u0000number"}:
            text = value["\u0000number"]
            return int(text) if text.lstrip("-").isdigit() else Decimal(text)
        return {key.removeprefix("\0"): _untagged(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    return value
