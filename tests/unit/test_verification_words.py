"""The public page names the issue time as the paper does."""

from __future__ import annotations

from datetime import UTC, datetime

from document_service.api.verification import _as_printed
from document_service.tenants import Profile

ISSUED = datetime(2026, 11, 28, 23, 49, 26, tzinfo=UTC)
MARKS = {**dict.fromkeys(map(ord, "\u2066\u2067\u2068\u2069")), 0xA0: " "}


def seen(profile: Profile) -> list[str]:
    return [text.translate(MARKS) for text in _as_printed(ISSUED, profile)]


def test_the_organisations_zone_decides_about_the_day() -> None:
    assert seen(Profile())[0] == "29 Nov 2026 04:19 +04:30"
    assert seen(Profile(time_zone="UTC"))[0].startswith("28 Nov 2026 23:49")


def test_forms_that_write_it_alike_are_named_once() -> None:
    assert len(seen(Profile())) == 2


def test_the_organisations_calendar_and_digits() -> None:
    english, *others = seen(Profile(digits="native", calendar="solarHijri"))
    assert english == "29 Nov 2026 04:19 +04:30"
    assert others
    assert all("۱۴۰۵" in text and "2026" not in text for text in others)
