"""A new command is said to be a first one, or to work on what is there; the flows then try that it refuses."""

from __future__ import annotations

from data_folder_commands import FIRST, LATER, names
from document_service.__main__ import all_commands


def test_every_command_is_in_one_of_the_lists() -> None:
    assert {*names(all_commands())} == FIRST | LATER.keys()
