"""A link of the audit chain is the HMAC that docs/audit.md promises, over the RFC 8785 form of the row."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime
from typing import Any

import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from document_service.audit_chain import FIRST_HASH, link

INSTANT = datetime(2026, 11, 28, 12, 0, 0, 250_000, tzinfo=UTC)

#: What PostgreSQL can hold: any text but U+0000 and halves of surrogate pairs.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NAMES = (
    "device_id",
    "document_id",
    "job_id",
    "template_id",
    "upload_id",
    "patient_id",
    "request_id",
    "device_event_id",
)


@given(TEXT, st.fixed_dictionaries(dict.fromkeys(NAMES, st.none() | TEXT)), st.dictionaries(TEXT, TEXT))
@example('\x01\b\t\n\f\r\x1f"\\/\x7f\u2028\ufeff', dict.fromkeys(NAMES, "احمد 😀"), {"é": "\x85"})
def test_a_link_is_the_keyed_hash_of_the_rfc_8785_form(
    actor: str, named: dict[str, str | None], detail: dict[str, str]
) -> None:
    row: dict[str, Any] = {
        "id": "aud_1",
        "tenant_id": "clinic",
        "recorded_at": INSTANT,
        "occurred_at": INSTANT,
        "action": "document.generate",
        "outcome": "success",
        "actor": actor,
        "xid": 7,
        "seq": 12,
        "detail": json.dumps(detail),
        **named,
    }
    written = row | {
        "recorded_at": INSTANT.isoformat(),
        "occurred_at": INSTANT.isoformat(),
        "xid": "7",
        "seq": "12",
    }
    expected = hmac.digest(b"key", FIRST_HASH + rfc8785.dumps(written), "sha256")
    assert link(b"key", FIRST_HASH, row) == expected
