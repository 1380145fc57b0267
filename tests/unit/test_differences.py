"""A fork against its form: what differs, where, and who did it."""

from __future__ import annotations

import copy
from typing import Any

from document_service.definitions import compare, read_json
from document_service.platform_forms import catalogue


def _form() -> dict[str, Any]:
    form: dict[str, Any] = read_json(catalogue()[0].definition)
    return form


def _told(fork: Any, platform: Any, base: Any) -> list[tuple[str, str, str]]:
    return [(one.pointer, one.kind, one.by) for one in compare(fork, platform, base)]


def test_an_untouched_fork_of_the_newest_version_has_no_differences() -> None:
    assert _told(_form(), _form(), _form()) == []


def test_who_changed_a_word_is_told() -> None:
    ours, theirs = _form(), _form()
    ours["labels"]["en"]["title"] = "Our requisition"
    theirs["labels"]["fa-AF"]["title"] = "عنوان دیگر"
    assert _told(ours, theirs, _form()) == [
        ("/labels/en/title", "different", "tenant"),
        ("/labels/fa-AF/title", "different", "platform"),
    ]
    theirs["labels"]["en"]["title"] = "Their requisition"
    assert ("/labels/en/title", "different", "both") in _told(ours, theirs, _form())


def test_a_section_put_in_between_is_one_difference() -> None:
    ours, theirs = _form(), _form()
    theirs["sections"].insert(1, {"type": "paragraphs", "text": ["subtitle"]})
    assert _told(ours, theirs, _form()) == [("/sections/1", "missing", "platform")]
    ours["sections"].insert(2, {"type": "paragraphs", "text": ["title"]})
    assert _told(ours, theirs, _form()) == [
        ("/sections/1", "missing", "platform"),
        ("/sections/2", "additional", "tenant"),
    ]


def test_a_section_that_one_side_took_away_is_that_side_s() -> None:
    shorter = _form()
    del shorter["sections"][2]
    assert _told(shorter, _form(), _form()) == [("/sections/2", "missing", "tenant")]
    assert _told(_form(), shorter, _form()) == [("/sections/2", "additional", "platform")]


def test_a_member_inside_a_section_is_named_and_not_the_section() -> None:
    ours = _form()
    grid = next(index for index, section in enumerate(ours["sections"]) if section["type"] == "fieldGrid")
    ours["sections"][grid]["columns"] = 1
    found = compare(ours, _form(), _form())
    assert [(one.pointer, one.fork, one.by) for one in found] == [(f"/sections/{grid}/columns", 1, "tenant")]


def test_names_with_slashes_are_escaped_and_drafts_may_be_anything() -> None:
    assert _told({"a/b~c": 1}, {"a/b~c": 2}, {"a/b~c": 2}) == [("/a~1b~0c", "different", "tenant")]
    assert _told([], {"x": [1e400]}, None) == [("", "different", "both")]
    before = copy.deepcopy(_form())
    assert compare(_form(), before, before) == ()
