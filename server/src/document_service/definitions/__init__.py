"""The template language, version 1: what a definition may say, and everything that is wrong with one, at once."""

from __future__ import annotations

from document_service.definitions.canonical import JsonInvalid, canonical_checksum, canonical_json, read_json
from document_service.definitions.checks import check, definition_schema, parse
from document_service.definitions.differences import Difference, compare
from document_service.definitions.inputs import check_inputs
from document_service.definitions.model import Binding, ContextEntry, Definition, Page
from document_service.definitions.page_model import PAGE_MODEL_SCHEMA, PageModel
from document_service.definitions.reviews import unreviewed, words_digest

__all__ = [
    "PAGE_MODEL_SCHEMA",
    "Binding",
    "ContextEntry",
    "Definition",
    "Difference",
    "JsonInvalid",
    "Page",
    "PageModel",
    "canonical_checksum",
    "canonical_json",
    "check",
    "check_inputs",
    "compare",
    "definition_schema",
    "parse",
    "read_json",
    "unreviewed",
    "words_digest",
]
