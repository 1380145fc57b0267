"""Who has read the words of each locale, and the name of exactly these words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def unreviewed(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The locales whose words nobody has reviewed; the first locale is the author's own language and needs none."""
    told = definition.get("translations") or {}
    return tuple(locale for locale in definition["locales"][1:] if not (told.get(locale) or {}).get("reviewedBy"))


def words_digest(definition: Mapping[str, Any], locale: str) -> str:
    """SHA-256 (hex) of a locale's labels, whatever their order: what an acceptance is about."""
    words = json.dumps(definition["labels"].get(locale, {}), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(words.encode()).hexdigest()
