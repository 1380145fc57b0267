"""What the client says, in Dari and Pashto beside English (``words.json``); no native speaker has reviewed it yet.

The language is ``DOCUMENTS_LANGUAGE``, else that of the system's locale. The English line always stands first: it is
what manuals and support speak of, and the translation explains it. Codes and JSON never change with the language.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

LANGUAGES = ("fa-AF", "ps-AF")
# What stands in Latin letters inside right-to-left text (a command, an option, a name) keeps its own direction.
_LATIN = re.compile(r"`[^`]*`|--?[A-Za-z][\w-]*|[A-Za-z][A-Za-z0-9_./:-]*")
_ISOLATE, _END = "\u2066", "\u2069"


def choose_language(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return ``fa-AF``, ``ps-AF`` or None for English alone."""
    named = environment.get("DOCUMENTS_LANGUAGE")
    if named is None:
        named = environment.get("LC_ALL") or environment.get("LC_MESSAGES") or environment.get("LANG") or ""
    short = named.replace("_", "-").split(".")[0].casefold()
    for language in LANGUAGES:
        # Dari and Persian share a script and most words; a person with a Persian system is better served than not.
        if short in (language.casefold(), language[:2]) or short.startswith(language[:2] + "-"):
            return language
    return None


def error_title(code: str, language: str | None) -> str | None:
    """Return the title of an error in ``language``, or None in English."""
    if language is None:
        return None
    found = _words()["errors"].get(code, {}).get(language)
    return None if found is None else _isolated(found)


def sentence(name: str, language: str | None = None, **values: object) -> str:
    """Return a sentence in English (``language`` None) or in a translation, with its values filled in."""
    text = str(_words()["sentences"][name][language or "en"]).format(**values)
    return text if language is None else _isolated(text)


def _isolated(text: str) -> str:
    return _LATIN.sub(lambda found: f"{_ISOLATE}{found[0]}{_END}", text)


@lru_cache(maxsize=1)
def _words() -> Any:
    # Not by importlib.resources, whose import takes as long as the whole look of `status`, which must answer at once.
    return json.loads(Path(__file__).with_name("words.json").read_bytes())
